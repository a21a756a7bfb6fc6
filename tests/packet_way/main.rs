//! The packet-way table: packet in, fate, packet out, and the counters that moved and no others, on the datapath itself.
//!
//! ```text
//!   clients 10.1.0.0/24        port 0 ┌──────┐ port 1        backends 10.2.0.0/24
//!           fd01::/64     ────────────┤ weir ├────────────            fd02::/64
//!   clients behind a gateway          └──────┘          SNAT addresses 10.2.0.200, fd02::200
//!           203.0.113.0/24, 2001:db8::/32     VIPs 10.9.0.1, fd09::1
//! ```
//!
//! Frames come in and leave through ports over memory, so that each case also holds `rx = tx + waiting + Σ drops`. What leaves is
//! compared byte for byte with what etherparse builds: every header field, and every checksum computed anew.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod admission;
mod allocations;
mod answers;
mod books;
mod checksums;
mod drains;
mod expiry;
mod forward;
mod fragments;
mod ftp;
mod ftp_stream;
mod full_table;
mod homes;
mod hooks;
mod limits;
mod packet;
mod ports;
mod refusals;
mod related;
mod protocols;
mod storm;
mod timeouts;
mod transports;
mod tcp;
mod vlans;
mod workers;
mod world;
