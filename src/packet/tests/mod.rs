//! The parser and the checksums against etherparse.

use super::*;
use etherparse::PacketBuilder;

mod checksums;
mod generate;
mod malformed;
mod oracle;

fn tcp_frame() -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 1, 0, 1], [10, 9, 9, 9], 64).tcp(40000, 80, 1, 1000).syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, b"hello").unwrap();
    frame
}

#[test]
fn a_syn_is_read() {
    let frame = tcp_frame();
    let headers = parse(&frame).unwrap();
    assert_eq!(headers.payload, Payload::Tcp(tcp::flag::SYN));
    assert_eq!((headers.l3, headers.l4, usize::from(headers.end)), (14, 34, frame.len()));
    assert_eq!(headers.ports(&frame), 40000 << 16 | 80);
    assert_eq!(headers.source(&frame).to_string(), "10.1.0.1");
    assert_eq!(headers.destination(&frame).to_string(), "10.9.9.9");
    assert_eq!(headers.ttl(&frame), 64);
}
