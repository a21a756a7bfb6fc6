//! Wrong checksums stay wrong, absent ones absent, partial ones are completed where the interface is said to deliver them.

use super::packet::{ACK, Checksum, PSH_ACK, RST_ACK, SYN, SYN_ACK, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World};
use weir::datapath::DropReason;

/// Full-NAT changes what changed and repairs nothing: the receiver must see that the packet was damaged on its way.
#[test]
fn a_wrong_transport_checksum_goes_on_as_wrong_as_it_came() {
    for family in FAMILIES {
        for error in [1, 0x8000, 0x1234, 0xfffe] {
            let wrong = Checksum::Wrong(error);
            let mut world = World::default();
            let (client, vip, backend) = (family.client(), family.vip(), family.backend());
            let snat = world.established(client, vip, backend);
            world.goes_on(&tcp(client, vip, PSH_ACK).with_checksum(wrong).carrying(b"xyz"), snat, backend);
            world.comes_back(&tcp(backend, snat, PSH_ACK).with_checksum(wrong).carrying(b"x"), vip, client);
            let snat = world.opens(&udp(client, vip), backend);
            world.goes_on(&udp(client, vip).with_checksum(wrong), snat, backend);
        }
    }
}

/// What opens or changes a connection must be whole: nobody behind weir takes back what a damaged packet did.
#[test]
fn a_wrong_checksum_changes_no_connection() {
    for family in FAMILIES {
        let wrong = Checksum::Wrong(0x1234);
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        world.drops(FRONT, &tcp(client, vip, SYN).with_checksum(wrong), DropReason::TcpChecksum);
        world.drops(FRONT, &tcp(client, vip, SYN).with_checksum(Checksum::Partial), DropReason::TcpChecksum);
        world.drops(FRONT, &udp(client, vip).with_checksum(wrong), DropReason::UdpChecksum);
        if family == Family::V6 {
            world.drops(FRONT, &udp(client, vip).with_checksum(Checksum::Zero), DropReason::UdpChecksum);
        }
        assert_eq!(world.datapath.conntrack.count(), 0);
        let snat = world.opens(&tcp(client, vip, SYN), backend);
        world.drops(BACK, &tcp(backend, snat, SYN_ACK).with_checksum(wrong), DropReason::TcpChecksum);
        world.comes_back(&tcp(backend, snat, SYN_ACK), vip, client);
        world.goes_on(&tcp(client, vip, ACK), snat, backend);
        world.drops(FRONT, &tcp(client, vip, RST_ACK).with_checksum(wrong), DropReason::TcpChecksum);
        let snat = world.opens(&udp(client, vip), backend);
        world.drops(BACK, &udp(backend, snat).with_checksum(wrong), DropReason::UdpChecksum);
        world.comes_back(&udp(backend, snat), vip, client);
    }
}

#[test]
fn udp_without_checksum_stays_without() {
    let mut world = World::default();
    let (client, vip, backend) = (Family::V4.client(), Family::V4.vip(), Family::V4.backend());
    let snat = world.opens(&udp(client, vip).with_checksum(Checksum::Zero), backend);
    world.comes_back(&udp(backend, snat).with_checksum(Checksum::Zero), vip, client);
    let mut world = World::new(Setup { recompute: true, ..Default::default() });
    // `compare` expects computed checksums of a recomputing world: this one is compared by hand.
    let frame = world.arriving(world.front(), &udp(client, vip).with_checksum(Checksum::Zero)).frame();
    let (_, sent) = world.send(world.front(), &frame).sent.unwrap();
    assert_eq!(sent[40..42], [0, 0]);
}

/// RFC 768: a checksum that comes out as 0 is sent as all ones. About every 65,536th rewrite does.
#[test]
fn a_udp_checksum_that_becomes_zero_is_sent_as_all_ones() {
    for family in FAMILIES {
        for recompute in [false, true] {
            let mut world = World::new(Setup { recompute, ..Default::default() });
            let (client, vip, backend) = (family.client(), family.vip(), family.backend());
            let snat = world.opens(&udp(client, vip), backend);
            let l4 = udp(client, vip).l4();
            let checksum = |packet: &super::packet::Packet| {
                let frame = packet.frame();
                u16::from_be_bytes([frame[l4 + 6], frame[l4 + 7]])
            };
            // Two bytes of payload under which the checksum of the translated packet is all ones.
            let probe = udp(snat, backend).carrying(&[0, 0]);
            let needed = checksum(&probe);
            let payload = needed.to_be_bytes();
            assert_eq!(checksum(&udp(snat, backend).carrying(&payload)), 0xffff);
            world.goes_on(&udp(client, vip).carrying(&payload), snat, backend);
        }
    }
}

#[test]
fn partial_checksums_are_completed_where_the_interface_delivers_them() {
    for family in FAMILIES {
        let mut world = World::new(Setup { recompute: true, ..Default::default() });
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.opens(&tcp(client, vip, SYN).with_checksum(Checksum::Partial), backend);
        world.comes_back(&tcp(backend, snat, SYN_ACK).with_checksum(Checksum::Partial), vip, client);
        for length in [0, 1, 2, 777, 1400] {
            let payload = vec![0xa7; length];
            world.goes_on(&tcp(client, vip, PSH_ACK).with_checksum(Checksum::Partial).carrying(&payload), snat, backend);
            world.comes_back(&tcp(backend, snat, PSH_ACK).carrying(&payload), vip, client);
        }
        let snat = world.opens(&udp(client, vip).with_checksum(Checksum::Partial).carrying(&[3; 333]), backend);
        world.comes_back(&udp(backend, snat).with_checksum(Checksum::Partial), vip, client);
    }
}

/// Every update of a checksum over many packets, among them those that carry into 0x0000 and 0xffff.
#[test]
fn checksums_hold_over_all_payloads() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.established(client, vip, backend);
        let over_udp = world.opens(&udp(client, vip), backend);
        for word in (0..=u16::MAX).step_by(13).chain([0xfffe, 0xffff]) {
            let payload = word.to_be_bytes();
            world.goes_on(&tcp(client, vip, PSH_ACK).carrying(&payload), snat, backend);
            world.comes_back(&udp(backend, over_udp).carrying(&payload), vip, client);
        }
    }
}

/// The checksum of UDP covers what its own length says, not what the IP packet has behind it.
#[test]
fn bytes_behind_a_datagram_are_not_summed() {
    for family in FAMILIES {
        for recompute in [false, true] {
            let mut world = World::new(Setup { recompute, ..Default::default() });
            let (client, vip, backend) = (family.client(), family.vip(), family.backend());
            let snat = world.opens(&udp(client, vip), backend);
            let frame = longer(world.arriving(world.front(), &udp(client, vip)).frame());
            let (_, sent) = world.send(world.front(), &frame).sent.unwrap();
            let expected = longer(udp(snat, backend).with_ttl(63).frame());
            assert_eq!(sent[12..], expected[12..]);
        }
    }
}

/// The frame with five bytes more in its IP packet, which its transport knows nothing of.
fn longer(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend([9, 9, 9, 9, 9]);
    if frame[14] >> 4 == 6 {
        frame[19] += 5;
        return frame;
    }
    frame[17] += 5;
    let (mut header, _) = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap();
    header.header_checksum = header.calc_header_checksum();
    frame[14..34].copy_from_slice(&header.to_bytes());
    frame
}
