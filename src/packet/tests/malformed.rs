//! One frame for each reason to refuse one, and the nearest frame that is not refused.

use super::generate::repair_v4;
use super::tcp_frame;
use crate::packet::*;
use etherparse::PacketBuilder;

/// The frame of [`tcp_frame`] after `change`, its header checksum repaired.
fn v4(change: impl FnOnce(&mut Vec<u8>)) -> Result<Headers, Malformed> {
    let mut frame = tcp_frame();
    change(&mut frame);
    repair_v4(&mut frame);
    parse(&frame)
}

fn udp_v6() -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([0xfd; 16], [0xfe; 16], 64).udp(7, 8).write(&mut frame, b"hello").unwrap();
    frame
}

/// An IPv6 packet of these bytes behind the fixed header.
fn v6(next: u8, payload: &[u8]) -> Result<Headers, Malformed> {
    let mut frame = udp_v6();
    frame.truncate(54);
    frame[14 + ipv6::NEXT_HEADER] = next;
    frame[18..20].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    frame.extend(payload);
    parse(&frame)
}

const UDP: [u8; 8] = [0, 7, 0, 8, 0, 8, 0, 0];

/// An IPv4 frame with these options.
fn options(options: &[u8]) -> Result<Headers, Malformed> {
    v4(|frame| {
        frame.splice(34..34, options.iter().copied());
        frame[14] = 0x45 + (options.len() / 4) as u8;
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
    })
}

#[test]
fn link_layer() {
    for ether_type in [0x0806u16, 0x88a8, 0x8847, 0x0042, 0xffff] {
        let [high, low] = ether_type.to_be_bytes();
        assert_eq!(v4(|frame| frame[12..14].copy_from_slice(&[high, low])), Err(Malformed::NotIp), "{ether_type:#x}");
    }
    let tagged = |tags: &[u8]| v4(|frame| drop(frame.splice(12..12, tags.iter().copied())));
    assert_eq!(tagged(&[0x81, 0, 0xef, 0xff]).unwrap().vlan, 0xfff, "priority bits are no part of the id");
    assert_eq!(tagged(&[0x81, 0, 0xe0, 0]).unwrap().vlan, 0, "a priority tag");
    assert_eq!(tagged(&[0x81, 0, 0, 1, 0x81, 0, 0, 2]), Err(Malformed::NotIp));
    assert_eq!(parse(&[]), Err(Malformed::FrameTooShort));
    assert_eq!(parse(&tcp_frame()[..33]), Err(Malformed::FrameTooShort));
    assert_eq!(parse(&udp_v6()[..53]), Err(Malformed::FrameTooShort));
}

#[test]
fn ip_version() {
    assert_eq!(v4(|frame| frame[14] = 0x65), Err(Malformed::IpVersion));
    assert_eq!(v6(17, &UDP).map(|headers| headers.ip), Ok(Ip::V6));
    let mut frame = udp_v6();
    frame[14] = 0x45;
    assert_eq!(parse(&frame), Err(Malformed::IpVersion));
}

#[test]
fn ipv4_lengths() {
    for short in 0..5 {
        assert_eq!(v4(|frame| frame[14] = 0x40 | short), Err(Malformed::IpHeaderLength));
    }
    assert_eq!(v4(|frame| frame[14] = 0x4f), Err(Malformed::IpHeaderLength), "past the packet");
    for total in [0u16, 19, 46, u16::MAX] {
        assert_eq!(v4(|frame| frame[16..18].copy_from_slice(&total.to_be_bytes())), Err(Malformed::IpTotalLength), "{total}");
    }
    assert!(v4(|frame| frame[17] = 40).is_ok(), "a total length below the frame is padding");
}

#[test]
fn ipv4_checksum() {
    let mut frame = tcp_frame();
    for change in 1..=255u8 {
        frame[25] ^= change;
        assert_eq!(parse(&frame), Err(Malformed::IpHeaderChecksum));
        frame[25] ^= change;
    }
    frame[22] -= 1;
    assert_eq!(parse(&frame), Err(Malformed::IpHeaderChecksum), "a TTL lowered without the checksum");
}

#[test]
fn ipv4_options() {
    assert!(options(&[1, 1, 1, 0]).is_ok());
    assert!(options(&[148, 4, 0, 0]).is_ok(), "router alert");
    assert!(options(&[7, 7, 4, 0, 0, 0, 0, 0]).is_ok(), "record route");
    assert!(options(&[0, 131, 3, 4]).is_ok(), "nothing is read behind the end of the list");
    assert_eq!(options(&[131, 3, 4, 0]), Err(Malformed::IpSourceRoute));
    assert_eq!(options(&[1, 137, 3, 4]), Err(Malformed::IpSourceRoute));
    assert_eq!(options(&[148, 4, 0, 0, 131, 3, 4, 0]), Err(Malformed::IpSourceRoute));
    for bad in [[148, 0, 0, 0], [148, 1, 0, 0], [148, 5, 0, 0], [1, 1, 1, 148]] {
        assert_eq!(options(&bad), Err(Malformed::IpOptions), "{bad:?}");
    }
}

#[test]
fn sources_that_no_other_machine_has() {
    for source in
        [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [239, 9, 9, 9], [240, 0, 0, 1], [255, 255, 255, 255]]
    {
        assert_eq!(v4(|frame| frame[26..30].copy_from_slice(&source)), Err(Malformed::MartianSource), "{source:?}");
    }
    for source in [[1, 0, 0, 0], [126, 255, 255, 255], [128, 0, 0, 0], [223, 255, 255, 255]] {
        assert!(v4(|frame| frame[26..30].copy_from_slice(&source)).is_ok(), "{source:?}");
    }
    assert_eq!(v4(|frame| frame.copy_within(26..30, 30)), Err(Malformed::SourceIsDestination));
    let source_v6 = |source: [u8; 16]| {
        let mut frame = udp_v6();
        frame[22..38].copy_from_slice(&source);
        parse(&frame)
    };
    let last = |byte| std::array::from_fn(|at| if at == 15 { byte } else { 0 });
    assert_eq!(source_v6(last(0)), Err(Malformed::MartianSource));
    assert_eq!(source_v6(last(1)), Err(Malformed::MartianSource));
    assert!(source_v6(last(2)).is_ok());
    assert_eq!(source_v6([0xff; 16]), Err(Malformed::MartianSource));
    assert_eq!(source_v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]), Err(Malformed::MartianSource));
    assert_eq!(source_v6([0xfe; 16]), Err(Malformed::SourceIsDestination));
}

#[test]
fn ipv6_extension_headers() {
    let chain = |headers: usize| {
        let mut bytes: Vec<u8> =
            (0..headers).flat_map(|n| [if n + 1 == headers { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]).collect();
        bytes.extend(UDP);
        v6(60, &bytes)
    };
    for headers in 1..=8 {
        assert_eq!(chain(headers).unwrap().l4(), 54 + 8 * headers, "{headers}");
    }
    assert_eq!(chain(9), Err(Malformed::ExtensionHeaders));
    let with = |first: u8, header: [u8; 8]| v6(first, &[header, UDP].concat());
    assert!(with(0, [17, 0, 1, 4, 0, 0, 0, 0]).is_ok());
    assert_eq!(with(0, [0, 0, 1, 4, 0, 0, 0, 0]), Err(Malformed::ExtensionHeaders), "hop-by-hop options behind another header");
    assert_eq!(with(60, [17, 2, 1, 4, 0, 0, 0, 0]), Err(Malformed::ExtensionHeaders), "past the packet");
    assert!(with(43, [17, 0, 0, 0, 0, 0, 0, 0]).is_ok());
    assert_eq!(with(43, [17, 0, 0, 1, 0, 0, 0, 0]), Err(Malformed::IpSourceRoute));
    assert_eq!(with(44, [17, 0, 0, 0, 0, 0, 0, 0]).unwrap().payload, Payload::Udp, "an atomic fragment (RFC 6946)");
    assert_eq!(with(44, [17, 0, 0, 1, 0, 0, 0, 0]).unwrap().payload, Payload::Fragment);
    assert_eq!(with(44, [17, 0, 0, 8, 0, 0, 0, 0]).unwrap().payload, Payload::Fragment);
    for cut in 0..8 {
        assert_eq!(v6(44, &[17, 0, 0, 0, 0, 0, 0][..cut.min(7)]), Err(Malformed::ExtensionHeaders));
        assert_eq!(v6(60, &[17, 0, 0, 0, 0, 0, 0][..cut.min(7)]), Err(Malformed::ExtensionHeaders));
    }
}

#[test]
fn protocols() {
    for protocol in [0u8, 2, 41, 58, 131, 255] {
        assert_eq!(v4(|frame| frame[23] = protocol), Err(Malformed::UnknownProtocol), "{protocol}");
    }
    for protocol in [1u8, 50, 51, 59, 131] {
        assert_eq!(v6(protocol, &UDP), Err(Malformed::UnknownProtocol), "{protocol}");
    }
    assert_eq!(v4(|frame| frame[23] = 1).unwrap().payload, Payload::Icmp(40000u16.to_be_bytes()[0]));
    assert_eq!(v6(58, &[128, 0, 0, 0, 0, 0, 0]), Err(Malformed::FrameTooShort));
    assert_eq!(v6(58, &[128, 0, 0, 0, 0, 0, 0, 0]).unwrap().payload, Payload::Icmp(128));
}

#[test]
fn tcp_header() {
    for offset in (0..5).chain(7..16) {
        assert_eq!(v4(|frame| frame[46] = offset << 4), Err(Malformed::TcpHeaderLength), "{offset}");
    }
    assert!(v4(|frame| frame[46] = 6 << 4).is_ok(), "what was data is now an option");
    let good = [0x02, 0x12, 0x04, 0x14, 0x11, 0x10];
    for flags in 0..=255u8 {
        let expected = if good.contains(&(flags & 0x17)) { Ok(Payload::Tcp(flags)) } else { Err(Malformed::TcpFlags) };
        assert_eq!(v4(|frame| frame[47] = flags).map(|headers| headers.payload), expected, "{flags:#04x}");
    }
}

#[test]
fn udp_length() {
    let with = |length: u16| {
        let [high, low] = length.to_be_bytes();
        v6(17, &[0, 7, 0, 8, high, low, 0, 0, 1, 2, 3, 4])
    };
    for length in [0, 7, 13, u16::MAX] {
        assert_eq!(with(length), Err(Malformed::UdpLength), "{length}");
    }
    for length in 8..=12 {
        assert!(with(length).is_ok(), "{length}");
    }
}

#[test]
fn port_zero() {
    for port in [34..36, 36..38] {
        assert_eq!(v4(|frame| frame[port.clone()].fill(0)), Err(Malformed::PortZero));
        let mut frame = udp_v6();
        frame[port.start + 20..port.end + 20].fill(0);
        assert_eq!(parse(&frame), Err(Malformed::PortZero));
    }
}

#[test]
fn a_frame_longer_than_64_kib_is_read_by_its_first_64_kib() {
    let mut frame = tcp_frame();
    frame.resize(200_000, 0);
    assert_eq!(usize::from(parse(&frame).unwrap().end), tcp_frame().len());
}
