//! Other text in the payload of a TCP segment, shorter or longer (`nf_nat_mangle_tcp_packet`). Lengths follow, and checksums by what changed:
//! a segment that came in damaged leaves damaged.

use super::manip_pkt::put16;
use crate::packet::{Headers, Ip, be16, checksum, ipv4, ipv6, tcp};

/// Puts `text` in the place of `length` bytes at offset `at` of the payload. `buffer` is the frame with its room, which must be enough; what
/// followed the IP packet in it is gone. The headers are those of the frame as it is now.
pub fn mangle_tcp(buffer: &mut [u8], headers: &Headers, (at, length): (usize, usize), text: &[u8]) -> Headers {
    let (l4, end) = (headers.l4(), usize::from(headers.end));
    let payload = l4 + usize::from(buffer[l4 + tcp::DATA_OFFSET] >> 4) * 4;
    let place = payload + at;
    let before = summed(&buffer[payload..end]) + (end - l4) as u64;
    buffer.copy_within(place + length..end, place + text.len());
    buffer[place..place + text.len()].copy_from_slice(text);
    let new_end = end - length + text.len();
    let after = summed(&buffer[payload..new_end]) + (new_end - l4) as u64;

    let sum = checksum::update(be16(buffer, l4 + tcp::CHECKSUM), difference(before, after));
    put16(buffer, l4 + tcp::CHECKSUM, sum);
    write_length(&mut buffer[headers.l3()..], headers.ip, new_end - headers.l3());
    // It fits: the caller has made sure that it is no longer than the MTU.
    Headers { end: new_end as u16, ..*headers }
}

/// The payload begins at an even offset of what is summed up.
fn summed(payload: &[u8]) -> u64 {
    u64::from(checksum::fold(checksum::sum(payload)))
}

fn difference(before: u64, after: u64) -> u64 {
    u64::from(!checksum::fold(before)) + after
}

fn write_length(header: &mut [u8], ip: Ip, length: usize) {
    match ip {
        Ip::V4 => {
            let old = be16(header, ipv4::TOTAL_LENGTH);
            let sum = checksum::update(be16(header, ipv4::CHECKSUM), u64::from(!old) + length as u64);
            put16(header, ipv4::CHECKSUM, sum);
            put16(header, ipv4::TOTAL_LENGTH, length as u16);
        }
        Ip::V6 => put16(header, ipv6::PAYLOAD_LENGTH, (length - ipv6::HEADER) as u16),
    }
}
