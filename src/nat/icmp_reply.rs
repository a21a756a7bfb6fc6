//! The rewrite of an ICMP error about a packet that was translated (`nf_nat_icmp_reply_translation`).
//!
//! ```text
//! IP header      | ICMP | quote: the packet as weir sent it
//! to the other     sum    back to what weir had received: addresses, ports, IP header checksum,
//! side                    and the transport checksum if the quote reaches that far
//! ```

use super::manip_pkt::{Manip, put16};
use crate::conntrack::Tuple;
use crate::conntrack::l4proto::{self, Packet};
use crate::packet::{Headers, Ip, be16, checksum, icmp};

/// Turns the ICMP error in `bytes` into the one that the other side shall get: as a packet with the addresses of `to`, one hop further
/// on, about the packet that came in with the inverse of `to`. Its TTL must be above 0.
///
/// The source becomes that of `to`, too: a router behind weir has an address that the other side need not have a route to, or may
/// not learn (RFC 5508, section 4.2).
///
/// # Panics
/// When `headers` and `quoted` are not those of the error and of the packet in it.
pub fn icmp_reply_translation<F: Manip>(bytes: &mut [u8], headers: &Headers, quoted: &Headers, to: &Tuple<F>) {
    let (l4, end) = (headers.l4(), usize::from(headers.end));
    let before = checksum::sum(&bytes[l4..end]);
    let received = to.inverted();
    let delta = F::rewrite_quoted(bytes, quoted, F::read(bytes, quoted), received.addresses);
    let sent = l4proto::pkt_to_tuple(Packet { bytes, headers: quoted });
    let transport = &mut bytes[quoted.l4()..usize::from(quoted.end)];
    l4proto::manip_quoted(quoted.protocol, transport, headers.ip, sent, received.ports, delta);

    let addresses = F::write(bytes, headers, F::read(bytes, headers), to.addresses);
    // ICMPv6 covers a pseudo header (RFC 4443, section 2.3).
    let pseudo_header = if headers.ip == Ip::V6 { addresses } else { 0 };
    let after = checksum::sum(&bytes[l4..end]);
    let sum = be16(bytes, l4 + icmp::CHECKSUM);
    put16(bytes, l4 + icmp::CHECKSUM, checksum::update(sum, u64::from(!checksum::fold(before)) + after + pseudo_header));
}
