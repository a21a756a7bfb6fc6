//! The rewrite of a packet: addresses, ports, TTL and checksums, all of them or none (`nf_nat_manip_pkt`).
//!
//! Checksums are updated by what changed (RFC 1624), never computed anew: a packet that came in with a wrong one leaves with a wrong
//! one, and its receiver sees it. Only for interfaces that deliver partial checksums is there [`recompute_checksum`].

use crate::conntrack::l4proto::{self, L4Proto, Packet, dccp::Dccp, sctp, sctp::Sctp, tcp::Tcp, udp::Udp, udp::never_zero};
use crate::conntrack::{Family, Tuple, V4, V6};
use crate::packet::{Headers, Ip, be16, checksum, dccp, fragment, ipv4, ipv6, tcp, udp};

/// A family whose packets can be read and rewritten.
pub trait Manip: Family {
    /// Source and destination address of a packet.
    fn read(bytes: &[u8], headers: &Headers) -> Self::Addresses;

    /// Writes source and destination, takes one off the TTL or hop limit (which must be above 0), and updates what covers them in the
    /// IP header. Returns the change of the addresses' sum.
    fn write(bytes: &mut [u8], headers: &Headers, old: Self::Addresses, new: Self::Addresses) -> u64;

    /// As [`Manip::write`], but leaves the TTL: for a packet that is quoted, not forwarded.
    fn rewrite_quoted(bytes: &mut [u8], headers: &Headers, old: Self::Addresses, new: Self::Addresses) -> u64;
}

impl Manip for V4 {
    #[inline(always)]
    fn read(bytes: &[u8], headers: &Headers) -> u64 {
        headers.addresses_v4(bytes)
    }

    #[inline(always)]
    fn write(bytes: &mut [u8], headers: &Headers, old: u64, new: u64) -> u64 {
        let header = &mut bytes[headers.l3()..headers.l3() + ipv4::HEADER];
        let delta = checksum::replace64([old], [new]);
        // TTL is the upper byte of its word: one less takes 0x0100 off the sum.
        let sum = checksum::update(be16(header, ipv4::CHECKSUM), delta + u64::from(!0x0100u16));
        put16(header, ipv4::CHECKSUM, sum);
        header[ipv4::TTL] -= 1;
        header[ipv4::ADDRESSES..].copy_from_slice(&new.to_be_bytes());
        delta
    }

    fn rewrite_quoted(bytes: &mut [u8], headers: &Headers, old: u64, new: u64) -> u64 {
        let header = &mut bytes[headers.l3()..headers.l3() + ipv4::HEADER];
        let delta = checksum::replace64([old], [new]);
        let sum = checksum::update(be16(header, ipv4::CHECKSUM), delta);
        put16(header, ipv4::CHECKSUM, sum);
        header[ipv4::ADDRESSES..].copy_from_slice(&new.to_be_bytes());
        delta
    }
}

impl Manip for V6 {
    #[inline(always)]
    fn read(bytes: &[u8], headers: &Headers) -> [u64; 4] {
        headers.addresses_v6(bytes)
    }

    #[inline(always)]
    fn write(bytes: &mut [u8], headers: &Headers, old: [u64; 4], new: [u64; 4]) -> u64 {
        let header = &mut bytes[headers.l3()..headers.l3() + ipv6::HEADER];
        header[ipv6::HOP_LIMIT] -= 1;
        write_addresses_v6(header, old, new)
    }

    fn rewrite_quoted(bytes: &mut [u8], headers: &Headers, old: [u64; 4], new: [u64; 4]) -> u64 {
        write_addresses_v6(&mut bytes[headers.l3()..headers.l3() + ipv6::HEADER], old, new)
    }
}

#[inline(always)]
fn write_addresses_v6(header: &mut [u8], old: [u64; 4], new: [u64; 4]) -> u64 {
    let addresses = &mut header[ipv6::ADDRESSES..];
    for (word, new) in new.into_iter().enumerate() {
        addresses[word * 8..word * 8 + 8].copy_from_slice(&new.to_be_bytes());
    }
    checksum::replace64(old, new)
}

/// Turns a packet with the tuple `from` into one with the inverse of the tuple `other`, one hop further on: what packets of a direction
/// become is told by the tuple of the other one. Its TTL must be above 0.
#[inline(always)]
pub fn manip_pkt<F: Manip>(bytes: &mut [u8], headers: &Headers, from: &Tuple<F>, other: &Tuple<F>) {
    let delta = F::write(bytes, headers, from.addresses, F::turned(other.addresses));
    let transport = &mut bytes[headers.l4()..usize::from(headers.end)];
    match from.protocol {
        Tcp::NUMBER => Tcp::manip_pkt(transport, headers.ip, from.ports, Tcp::invert_tuple(other.ports), delta),
        Udp::NUMBER => Udp::manip_pkt(transport, headers.ip, from.ports, Udp::invert_tuple(other.ports), delta),
        _ => manip_other(transport, headers.ip, from, other, delta),
    }
}

#[inline(never)]
fn manip_other<F: Manip>(transport: &mut [u8], ip: Ip, from: &Tuple<F>, other: &Tuple<F>, delta: u64) {
    l4proto::manip_pkt(from.protocol, transport, ip, from.ports, other.inverted().ports, delta);
}

/// Computes the checksum of a whole packet anew: for frames that were received with a partial one. Those of ICMP and GRE never are; and
/// who sends fragments has computed it, for no hardware could.
pub fn recompute_checksum(bytes: &mut [u8], headers: &Headers) {
    if fragment::read(bytes, headers).is_some() {
        return;
    }
    let (l4, end) = (headers.l4(), usize::from(headers.end));
    let (at, length, covered) = match headers.protocol {
        Tcp::NUMBER => (l4 + tcp::CHECKSUM, end - l4, end - l4),
        Udp::NUMBER if headers.ip == Ip::V4 && be16(bytes, l4 + udp::CHECKSUM) == 0 => return,
        Udp::NUMBER => {
            let length = usize::from(be16(bytes, l4 + udp::LENGTH)).min(end - l4);
            (l4 + udp::CHECKSUM, length, length)
        }
        Dccp::NUMBER => (l4 + dccp::CHECKSUM, end - l4, dccp::covered(&bytes[l4..end])),
        Sctp::NUMBER => return sctp::write_checksum(&mut bytes[l4..end]),
        _ => return,
    };
    put16(bytes, at, 0);
    let sum = !Packet { bytes, headers }.sum(length, covered);
    put16(bytes, at, if headers.protocol == Udp::NUMBER { never_zero(sum) } else { sum });
}

#[inline(always)]
pub(super) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
