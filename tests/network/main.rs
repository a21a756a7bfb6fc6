//! Network tests: weir between real clients and real servers, in network namespaces that each test makes for itself.
//!
//! They need root and the packages that scripts/test.sh installs; without them each prints `SKIP` and says why.
//! `cargo test --test network -- --test-threads 2` runs them; docs/testing.md says what each file is for.

#[path = "../support/mod.rs"]
mod support;

mod laboratory;
