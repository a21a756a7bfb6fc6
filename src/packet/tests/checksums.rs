//! Sums and updates against etherparse and against a computation of everything anew.

use crate::packet::checksum::*;
use etherparse::checksum::Sum16BitWords;
use etherparse::{TcpHeader, UdpHeader};
use proptest::prelude::*;

/// RFC 1071 word by word, nothing clever.
fn plainly(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn an_example_of_the_rfc() {
    // RFC 1071, section 3.
    assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    assert_eq!(sum(&[]), 0);
    assert_eq!(fold(sum(&[0xff])), 0xff00);
}

#[test]
fn fold_keeps_the_two_zeros_apart() {
    assert_eq!(fold(0), 0);
    for multiple in [0xffff, 0xffff_ffff, 0xffff_ffff_ffff_ffff, 0x1_fffe, 0xffff_0000, 0xffff_0000_0000_0000, 0xfffe_0001] {
        assert_eq!(fold(multiple), 0xffff, "{multiple:#x}");
    }
    assert_eq!(fold(0x1_0000), 1);
    assert_eq!(fold(0x1_0000_0000_0000), 1);
}

#[test]
fn the_examples_of_rfc_1624() {
    // Section 4: HC = 0xdd2f, m = 0x5555, m' = 0x3285; equation 3 gives 0x0000, equation 2 would give 0xffff.
    assert_eq!(update(0xdd2f, replace32(0x5555, 0x3285)), 0x0000);
    assert_eq!(update(0x0000, replace32(0x3285, 0x5555)), 0xdd2f);
    // A change of nothing changes nothing.
    for checksum in [0x0000, 0x0001, 0x1234, 0xfffe] {
        assert_eq!(update(checksum, replace32(0xdead_beef, 0xdead_beef)), checksum);
        assert_eq!(update(checksum, replace64([0], [0])), checksum);
    }
    // Minus zero as it comes in: the same to a receiver, and never sent again.
    assert_eq!(update(0xffff, replace32(7, 7)), 0x0000);
}

#[test]
fn the_longest_packet_does_not_overflow() {
    let bytes = vec![0xff; 65535];
    assert_eq!(fold(sum(&bytes)), plainly(&bytes));
}

/// Bytes that are not all zero, as the bytes under a checksum never are: an IP version or a protocol number is among them.
fn covered() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![any::<u8>(), Just(0u8), Just(0xffu8)], 18..100).prop_map(|mut bytes| {
        bytes[0] = 0x45;
        bytes
    })
}

proptest! {
    #[test]
    fn a_sum_is_the_sum(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(fold(sum(&bytes)), plainly(&bytes));
        prop_assert_eq!(!fold(sum(&bytes)), Sum16BitWords::new().add_slice(&bytes).ones_complement().to_be());
    }

    #[test]
    fn sums_of_even_parts_add_up(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..150) {
        let at = (at * 2).min(bytes.len() & !1);
        prop_assert_eq!(fold(sum(&bytes[..at]) + sum(&bytes[at..])), plainly(&bytes));
    }

    #[test]
    fn fold_is_the_remainder(value: u64) {
        prop_assert_eq!(u64::from(fold(value)) % 0xffff, value % 0xffff);
        prop_assert_eq!(fold(value) == 0, value == 0);
    }

    #[test]
    fn an_update_is_a_computation_anew(mut bytes in covered(), at in 0usize..20, words in prop::collection::vec(prop_oneof![any::<u32>(), Just(0), Just(u32::MAX)], 1..5)) {
        let mut checksum = !plainly(&bytes);
        for (index, new) in words.iter().enumerate() {
            // Even offsets: a word of the checksum is never split.
            let at = (((2 + at * 2 + index * 4) % (bytes.len() - 4)) & !1).max(2);
            let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
            checksum = update(checksum, replace32(old, *new));
            prop_assert_eq!(checksum, !plainly(&bytes), "one update after the other");
        }
    }

    #[test]
    fn many_changes_are_one_update(mut bytes in covered(), addresses: (u64, u64), ports: u32) {
        let checksum = !plainly(&bytes);
        let old = (u64::from_be_bytes(bytes[2..10].try_into().unwrap()), u32::from_be_bytes(bytes[10..14].try_into().unwrap()));
        bytes[2..10].copy_from_slice(&addresses.0.to_be_bytes());
        bytes[10..14].copy_from_slice(&ports.to_be_bytes());
        prop_assert_eq!(update(checksum, replace64([old.0], [addresses.0]) + replace32(old.1, ports)), !plainly(&bytes));
        let back = replace64([addresses.0], [addresses.1]) + replace64([addresses.1], [addresses.0]);
        prop_assert_eq!(update(checksum, back), checksum, "there and back again");
    }

    #[test]
    fn words_together_are_replaced_as_one_by_one(old: [u64; 4], new: [u64; 4], checksum: u16) {
        let one_by_one: u64 = old.iter().zip(&new).map(|(old, new)| replace64([*old], [*new])).sum();
        prop_assert_eq!(update(checksum, replace64(old, new)), update(checksum, one_by_one));
        let halves = |word: u64| [(word >> 32) as u32, word as u32];
        let halved: u64 =
            old.iter().zip(&new).flat_map(|(old, new)| halves(*old).into_iter().zip(halves(*new))).map(|(old, new)| replace32(old, new)).sum();
        prop_assert_eq!(update(checksum, replace64(old, new)), update(checksum, halved));
    }

    #[test]
    fn transport_checksums_are_those_of_etherparse(v4: ([u8; 4], [u8; 4]), v6: ([u8; 16], [u8; 16]), ports: (u16, u16), payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let tcp = TcpHeader::new(ports.0, ports.1, 1, 2);
        let segment = [&tcp.to_bytes(), payload.as_slice()].concat();
        let over = |source: &[u8], destination: &[u8], protocol, bytes: &[u8]| {
            !fold(sum(source) + sum(destination) + pseudo_header(protocol, bytes.len()) + sum(bytes))
        };
        prop_assert_eq!(over(&v4.0, &v4.1, 6, &segment), tcp.calc_checksum_ipv4_raw(v4.0, v4.1, &payload).unwrap());
        prop_assert_eq!(over(&v6.0, &v6.1, 6, &segment), tcp.calc_checksum_ipv6_raw(v6.0, v6.1, &payload).unwrap());

        let udp = UdpHeader { source_port: ports.0, destination_port: ports.1, length: 8 + payload.len() as u16, checksum: 0 };
        let datagram = [udp.to_bytes().as_slice(), &payload].concat();
        // RFC 768: a sum that comes out as 0 is sent as all ones.
        let no_zero = |checksum: u16| if checksum == 0 { 0xffff } else { checksum };
        prop_assert_eq!(no_zero(over(&v4.0, &v4.1, 17, &datagram)), udp.calc_checksum_ipv4_raw(v4.0, v4.1, &payload).unwrap());
        prop_assert_eq!(no_zero(over(&v6.0, &v6.1, 17, &datagram)), udp.calc_checksum_ipv6_raw(v6.0, v6.1, &payload).unwrap());
    }
}
