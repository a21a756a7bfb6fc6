//! ICMP errors that weir itself sends: a received frame is turned, in place, into the error about it.
//!
//! ```text
//! before  | Ethernet, tag | IP packet ...
//! after   | Ethernet, tag | IP header | ICMP header | quote: the IP packet as it came, cut
//!          MACs swapped     20 or 40    8
//! ```
//!
//! The error comes from the address that the packet was sent to (the VIP, or the SNAT address): the only one that its sender knows.
//! It goes back on the link that the packet came from, to the station that sent it, so it needs neither route nor neighbour.

use crate::packet::{Headers, Ip, Payload, be16, be32, checksum, icmp, ipv4, ipv6};

/// Longest IPv4 packet with an error in it: what every host can take (RFC 1812, section 4.3.2.3).
const LONGEST_V4: usize = 576;
/// Longest IPv6 packet with an error in it: the minimum MTU (RFC 4443, section 2.4 (c)).
const LONGEST_V6: usize = 1280;
/// What is put in front of the quote, by family.
const IN_FRONT_V4: usize = ipv4::HEADER + icmp::HEADER;
const IN_FRONT_V6: usize = ipv6::HEADER + icmp::HEADER;
/// TTL and hop limit of an error.
const TTL: u8 = 64;
/// RFC 1812, section 4.3.2.5: precedence 6, internetwork control; the other bits are 0. IPv6 has no rule, and is given the same.
const TRAFFIC_CLASS: u8 = 0xc0;
/// Bytes of an IPv6 address.
const ADDRESS_V6: usize = 16;

/// What went wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// It is larger than the outgoing interface takes: fragmentation needed and DF set (RFC 1191, section 4), packet too big (RFC 4443,
    /// section 3.2).
    TooBig {
        /// Largest IP packet, in bytes, that would have gone on.
        mtu: u32,
    },
    /// Its TTL or hop limit ran out in transit (RFC 792; RFC 4443, section 3.3).
    TimeExceeded,
    /// It may not go on though there is a way: communication administratively prohibited (RFC 1812, section 5.2.7.1; RFC 4443, section 3.1).
    Prohibited,
}

/// Why no error may be sent about a packet. The frame is untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is an ICMP error, or part of an ICMP message of which that cannot be known.
    AboutIcmp,
    /// It is not the first fragment of its packet.
    LaterFragment,
    /// Its source is not one host, or it was sent to many: a broadcast, multicast, unspecified, loopback or reserved address, on either layer.
    NotOneHost,
    /// The buffer is too short for the answer.
    NoRoom,
    /// A RST is not answered with a RST.
    AboutReset,
    /// Only a whole TCP segment is answered with a RST.
    NotTcp,
}

/// Turns the frame in the first `length` bytes of `buffer`, of which `headers` are the parsed headers, into `error` to its sender.
/// The rest of `buffer` is room that may be written. Returns the length of the answer.
///
/// To be called before anything of the packet is rewritten: the quote is what its sender sent.
///
/// # Panics
/// When `headers` are not those of the frame.
pub fn answer(buffer: &mut [u8], length: usize, headers: &Headers, error: IcmpError) -> Result<usize, Refused> {
    may_answer(&buffer[..length], headers)?;
    let (in_front, longest) = match headers.ip {
        Ip::V4 => (IN_FRONT_V4, LONGEST_V4),
        Ip::V6 => (IN_FRONT_V6, LONGEST_V6),
    };
    let packet = headers.l3();
    let quote = headers.ip_length().min(longest - in_front);
    let end = packet + in_front + quote;
    if end > buffer.len() {
        return Err(Refused::NoRoom);
    }
    buffer.copy_within(packet..packet + quote, packet + in_front);
    swap_stations(buffer);
    match headers.ip {
        Ip::V4 => write_v4(&mut buffer[packet..end], error),
        Ip::V6 => write_v6(&mut buffer[packet..end], error),
    }
    Ok(end)
}

/// RFC 1122, section 3.2.2, and RFC 4443, section 2.4 (e): what an error is never sent about.
fn may_answer(frame: &[u8], headers: &Headers) -> Result<(), Refused> {
    is_between_hosts(frame, headers)?;
    match headers.ip {
        Ip::V4 => may_answer_v4(frame, headers),
        Ip::V6 => may_answer_v6(headers),
    }
}

/// Whether it was sent by one host to one host, on both layers.
pub(super) fn is_between_hosts(frame: &[u8], headers: &Headers) -> Result<(), Refused> {
    // The lowest bit of the first byte marks a group of stations (IEEE 802.3, section 3.2.3).
    let stations = (frame[0] | frame[6]) & 1 == 0;
    let addresses = match headers.ip {
        Ip::V4 => {
            let addresses = headers.addresses_v4(frame);
            is_one_host_v4((addresses >> 32) as u32) && is_one_host_v4(addresses as u32)
        }
        Ip::V6 => {
            let [source_upper, source_lower, destination_upper, _] = headers.addresses_v6(frame);
            let multicast = |upper: u64| upper >> 56 == 0xff;
            !multicast(source_upper) && !multicast(destination_upper) && (source_upper != 0 || source_lower > 1)
        }
    };
    if stations && addresses { Ok(()) } else { Err(Refused::NotOneHost) }
}

fn may_answer_v4(frame: &[u8], headers: &Headers) -> Result<(), Refused> {
    if be16(frame, headers.l3() + ipv4::FRAGMENT) & ipv4::FRAGMENT_OFFSET != 0 {
        return Err(Refused::LaterFragment);
    }
    match headers.payload {
        Payload::Icmp(kind) if icmp::v4::is_error(kind) => Err(Refused::AboutIcmp),
        Payload::Fragment if headers.protocol == icmp::ICMP => Err(Refused::AboutIcmp),
        _ => Ok(()),
    }
}

/// Neither zero, loopback, multicast, reserved nor broadcast. A subnet's own broadcast address is not known here; the link layer tells.
fn is_one_host_v4(address: u32) -> bool {
    let first = address >> 24;
    first != 0 && first != 127 && first < 224
}

/// RFC 4443 has no rule about later fragments: their sender, too, must learn the MTU.
fn may_answer_v6(headers: &Headers) -> Result<(), Refused> {
    match headers.payload {
        Payload::Icmp(kind) if icmp::v6::is_error(kind) => Err(Refused::AboutIcmp),
        Payload::Fragment if headers.protocol == icmp::ICMPV6 => Err(Refused::AboutIcmp),
        _ => Ok(()),
    }
}

/// The answer goes to the station that sent the frame, from the one that it was sent to. A tag stays.
pub(super) fn swap_stations(frame: &mut [u8]) {
    let (destination, rest) = frame.split_at_mut(6);
    destination.swap_with_slice(&mut rest[..6]);
}

/// Writes both headers in front of the quote, which stands already where it belongs.
fn write_v4(packet: &mut [u8], error: IcmpError) {
    let (header, message) = packet.split_at_mut(ipv4::HEADER);
    let addresses = icmp::HEADER + ipv4::ADDRESSES;
    let (source, destination) = (be32(message, addresses), be32(message, addresses + 4));
    let total = (ipv4::HEADER + message.len()) as u16;

    header[0] = 0x45;
    header[ipv4::TOS] = TRAFFIC_CLASS;
    put16(header, ipv4::TOTAL_LENGTH, total);
    // RFC 6864, section 4.1: a packet with DF that is not a fragment needs no identification.
    put16(header, ipv4::IDENTIFICATION, 0);
    put16(header, ipv4::FRAGMENT, ipv4::DONT_FRAGMENT);
    header[ipv4::TTL] = TTL;
    header[ipv4::PROTOCOL] = icmp::ICMP;
    put16(header, ipv4::CHECKSUM, 0);
    put32(header, ipv4::ADDRESSES, destination);
    put32(header, ipv4::ADDRESSES + 4, source);
    let sum = !checksum::fold(checksum::sum(header));
    put16(header, ipv4::CHECKSUM, sum);

    let (kind, code, rest) = match error {
        // The MTU stands in the lower half (RFC 1191, section 4).
        IcmpError::TooBig { mtu } => (icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED, mtu.min(0xffff)),
        IcmpError::TimeExceeded => (icmp::v4::TIME_EXCEEDED, 0, 0),
        IcmpError::Prohibited => (icmp::v4::UNREACHABLE, icmp::v4::PROHIBITED, 0),
    };
    write_message(message, kind, code, rest, 0);
}

/// As [`write_v4`].
fn write_v6(packet: &mut [u8], error: IcmpError) {
    let (header, message) = packet.split_at_mut(ipv6::HEADER);
    let source = icmp::HEADER + ipv6::ADDRESSES;
    let destination = source + ADDRESS_V6;

    put32(header, 0, 6 << 28 | u32::from(TRAFFIC_CLASS) << 20);
    put16(header, ipv6::PAYLOAD_LENGTH, message.len() as u16);
    header[ipv6::NEXT_HEADER] = icmp::ICMPV6;
    header[ipv6::HOP_LIMIT] = TTL;
    let addresses = &mut header[ipv6::ADDRESSES..];
    addresses[..ADDRESS_V6].copy_from_slice(&message[destination..destination + ADDRESS_V6]);
    addresses[ADDRESS_V6..].copy_from_slice(&message[source..source + ADDRESS_V6]);
    let pseudo_header = checksum::sum(addresses) + checksum::pseudo_header(icmp::ICMPV6, message.len());

    let (kind, code, rest) = match error {
        IcmpError::TooBig { mtu } => (icmp::v6::PACKET_TOO_BIG, 0, mtu),
        IcmpError::TimeExceeded => (icmp::v6::TIME_EXCEEDED, 0, 0),
        IcmpError::Prohibited => (icmp::v6::UNREACHABLE, icmp::v6::PROHIBITED, 0),
    };
    write_message(message, kind, code, rest, pseudo_header);
}

/// Type, code, checksum, and the word whose meaning depends on the type.
fn write_message(message: &mut [u8], kind: u8, code: u8, rest: u32, pseudo_header: u64) {
    put16(message, 0, u16::from_be_bytes([kind, code]));
    put16(message, icmp::CHECKSUM, 0);
    put32(message, icmp::REST, rest);
    let sum = !checksum::fold(checksum::sum(message) + pseudo_header);
    put16(message, icmp::CHECKSUM, sum);
}

fn put16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

fn put32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
