//! Announcements, as the peer's kernel and a raw socket of the peer see them.

use super::super::{Announcer, Event, Monitor, Netlink, Owner, usable_link};
use super::{address, pair, set, wait_for};
use etherparse::{ArpOperation, NetSlice, SlicedPacket};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read as _;
use std::time::Duration;

/// The peer believes that another machine has the address; after the announcement it sends to this one.
#[test]
fn the_peer_s_neighbour_table_follows() {
    let Some((here, peer)) = pair() else { return };
    let link = here.run(|| usable_link("wire").unwrap());
    // The kernel ignores ARP about an entry that it updated within the last second; not here.
    peer.run(|| set("ipv4", "locktime", "0"));
    let mut monitor = peer.run(|| Monitor::open().unwrap());
    for vip in [address("10.0.0.100"), address("fd00::100")] {
        peer.ip(&format!("neighbour add {vip} lladdr 02:00:00:00:00:99 dev wire nud reachable"));
        here.run(|| {
            assert_eq!(Netlink::open().unwrap().add_address(link.index, vip).unwrap(), Owner::Weir);
            Announcer::open().unwrap().announce(&link, vip).unwrap();
        });
        let moved =
            |event: &Event| matches!(event, Event::Neighbour(item) if item.address == vip && item.resolved() == Some(link.mac));
        wait_for(&mut monitor, |_| {}, moved);
    }
}

#[test]
fn arp_comes_as_request_and_as_reply() {
    let Some((here, peer)) = pair() else { return };
    let link = here.run(|| usable_link("wire").unwrap());
    let arp = i32::from(0x0806u16.to_be());
    let mut socket =
        peer.run(|| Socket::new(Domain::from(libc::AF_PACKET), Type::from(libc::SOCK_RAW), Some(Protocol::from(arp))).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    here.run(|| Announcer::open().unwrap().announce(&link, address("10.0.0.100")).unwrap());
    let mut operations = Vec::new();
    while operations.len() < 2 {
        let mut frame = [0; 128];
        let length = socket.read(&mut frame).unwrap();
        let packet = SlicedPacket::from_ethernet(&frame[..length]).unwrap();
        let Some(NetSlice::Arp(arp)) = packet.net else { panic!("{packet:?}") };
        if arp.sender_protocol_addr() != [10, 0, 0, 100] {
            continue; // the kernels' own
        }
        assert_eq!(arp.target_protocol_addr(), [10, 0, 0, 100]);
        assert_eq!(arp.sender_hw_addr(), link.mac);
        assert_eq!(frame[..6], [0xff; 6]);
        operations.push((arp.operation(), arp.target_hw_addr().to_vec()));
    }
    assert_eq!(operations, [(ArpOperation::REQUEST, vec![0; 6]), (ArpOperation::REPLY, link.mac.to_vec())]);
}

#[test]
fn an_interface_that_is_gone_is_an_error() {
    let Some((here, _peer)) = pair() else { return };
    here.run(|| {
        let link = usable_link("wire").unwrap();
        let gone = super::super::Link { index: 9999, ..link };
        let error = Announcer::open().unwrap().announce(&gone, address("fd00::100")).unwrap_err();
        assert!(error.to_string().starts_with("interface wire: cannot announce fd00::100: No such device"), "{error}");
    });
}
