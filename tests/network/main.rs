//! Network tests: weir between real clients and real servers, in network namespaces that each test makes for itself.
//!
//! They need root and the packages that scripts/test.sh installs; without them each prints `SKIP` and says why.
//! `cargo test --test network -- --test-threads 2` runs them; docs/testing.md says what each file is for.

#[path = "../support/mod.rs"]
#[allow(unreachable_pub, dead_code, unused_imports)] // `pub` means: for the tests, and some of it for those of the other program
mod support;

mod access;
mod admission;
mod balance;
mod bulk;
mod change;
mod checksum;
mod control;
mod datagrams;
mod drain;
mod end;
mod fragments;
mod ftp;
mod full_table;
mod health;
mod laboratory;
mod next_hops;
mod own_traffic;
mod path_mtu;
mod pktgen;
mod protocols;
mod queues;
mod refusal;
mod related;
mod reload;
mod vlan;
