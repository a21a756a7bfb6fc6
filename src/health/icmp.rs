//! The probe `type = "icmp"`: an echo (RFC 792, RFC 4443, section 4), over a raw socket: weir has CAP_NET_RAW anyway, and the ping sockets of
//! the kernel are only for the groups of `net.ipv4.ping_group_range`.

use super::Failure;
use super::datagram::Question;
use crate::packet::checksum;
use std::net::IpAddr;

/// What tells this echo from all others on this host: identifier, sequence number and payload.
pub(super) type Mark = [u8; 12];

/// The request. The kernel fills in the checksum of ICMPv6, which covers addresses that it chooses.
pub(super) fn request(address: IpAddr, mark: Mark) -> Vec<u8> {
    let kind = if address.is_ipv4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(mark);
    if address.is_ipv4() {
        let sum = (!checksum::fold(checksum::sum(&message))).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
    }
    message
}

/// After an event: `Some` when the reply has come.
pub(super) fn advance(question: &Question, address: IpAddr, mark: Mark) -> Option<Result<(), Failure>> {
    question.answers(|packet| is_reply(packet, address, mark).then_some(Ok(())))
}

/// A raw socket gets every message from the backend to this host; with IPv4, behind its IP header.
fn is_reply(packet: &[u8], address: IpAddr, mark: Mark) -> bool {
    let (message, kind) = match address {
        IpAddr::V4(_) => {
            let header = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
            (packet.get(header..).unwrap_or_default(), 0)
        }
        IpAddr::V6(_) => (packet, 129),
    };
    message.get(..2) == Some(&[kind, 0]) && message.get(4..) == Some(&mark[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = *b"abcdefghijkl";

    #[test]
    fn only_the_reply_to_this_request_passes() {
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let reply = |kind: u8, mark: &[u8], header: &[u8]| [header, &[kind, 0, 1, 2], mark].concat();
        let header = [0x45; 20];
        let whole = reply(0, &MARK, &header);
        assert!(is_reply(&whole, v4, MARK) && is_reply(&reply(129, &MARK, &[]), v6, MARK));
        assert!(!is_reply(&reply(8, &MARK, &header), v4, MARK), "its own request, to a backend on this host");
        assert!(!is_reply(&reply(0, b"abcdefghijkL", &header), v4, MARK));
        for length in 0..whole.len() {
            assert!(!is_reply(&whole[..length], v4, MARK), "{length} bytes");
        }
    }

    #[test]
    fn the_request_has_a_checksum_where_the_kernel_makes_none() {
        let request = request("10.0.0.1".parse().unwrap(), MARK);
        assert_eq!(!checksum::fold(checksum::sum(&request)), 0);
    }
}
