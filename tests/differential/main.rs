//! The same packets through weir's datapath and through the kernel's nf_conntrack: whether each goes on, and the state, the status bits
//! and the time that is left to the connection after it, must be the same. Silence between packets is made: weir's clock is moved, and the
//! kernel's connection is told how long it still has.
//!
//! Where weir differs on purpose, `*_differences.rs` and `datagrams.rs` say exactly when, docs/conntrack.md why. After a difference both are
//! brought to agree again, which often shows that it was just that difference: the kernel's connection is made anew of what weir has
//! forwarded, and must then be as weir's. Where nothing helps the walk goes on with another connection.
//!
//! Needs root, iproute2 and nftables; without them each test prints `SKIP` and says why. DCCP is not compared: Linux tracks it no more.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod associations;
mod ctnetlink;
mod datagrams;
mod kernel;
mod machine;
mod message;
#[path = "../support/namespace.rs"]
#[allow(dead_code, unreachable_pub)] // shared with the network tests, which use more of it
mod namespace;
#[path = "../packet_way/packet.rs"]
#[allow(dead_code)] // shared with the packet-way tests, which use more of it
mod packet;
#[path = "../support/program.rs"]
#[allow(dead_code, unreachable_pub)] // shared with the network tests, which use more of it
mod program;
#[path = "../support/requirement.rs"]
#[allow(unreachable_pub)] // shared with the network tests
mod requirement;
mod sctp_differences;
mod segment;
mod subject;
mod sysctls;
mod tcp;
mod tcp_differences;
#[path = "../packet_way/transports.rs"]
#[allow(dead_code)] // shared with the packet-way tests, which use more of it
mod transports;
mod walk;
mod weir;
mod window;
#[path = "../packet_way/world.rs"]
#[allow(dead_code)] // shared with the packet-way tests, which use more of it
mod world;

use ::weir::conntrack::l4proto::Settings;
use ::weir::service::Protocol;
use associations::SctpWalk;
use datagrams::{EchoWalk, UdpWalk};
use subject::Subject;
use tcp::TcpWalk;
use walk::compare;
use world::Family;

/// Of the packets of the tests.
const TTL: u8 = 77;
/// A port or identifier that no connection has toward a backend.
const UNKNOWN: u16 = 19_999;

const TCP: Subject = Subject { family: Family::V4, protocol: Protocol::Tcp };
const TCP6: Subject = Subject { family: Family::V6, protocol: Protocol::Tcp };

#[test]
fn tcp_strict() {
    compare::<TcpWalk>(TCP, Settings::default(), 400, tcp::moves());
}

#[test]
fn tcp_strict_ipv6() {
    compare::<TcpWalk>(TCP6, Settings::default(), 200, tcp::moves());
}

#[test]
fn tcp_liberal() {
    compare::<TcpWalk>(TCP, Settings { tcp_be_liberal: true, ..Settings::default() }, 200, tcp::moves());
}

#[test]
fn tcp_loose() {
    compare::<TcpWalk>(TCP, Settings { tcp_loose: true, ..Settings::default() }, 200, tcp::moves());
}

#[test]
fn udp() {
    for family in [Family::V4, Family::V6] {
        compare::<UdpWalk>(Subject { family, protocol: Protocol::Udp }, Settings::default(), 100, datagrams::moves());
    }
}

#[test]
fn echoes() {
    for (family, protocol) in [(Family::V4, Protocol::Icmp), (Family::V6, Protocol::Icmpv6)] {
        compare::<EchoWalk>(Subject { family, protocol }, Settings::default(), 100, datagrams::moves());
    }
}

#[test]
fn sctp() {
    for family in [Family::V4, Family::V6] {
        let subject = Subject { family, protocol: Protocol::Sctp };
        compare::<SctpWalk>(subject, Settings::default(), 200, associations::moves());
    }
}
