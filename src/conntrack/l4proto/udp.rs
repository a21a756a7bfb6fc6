//! UDP (RFC 768): a connection is as long as packets come; how long depends on whether the client still went on two seconds after
//! its first datagram, and was answered.

use super::{Connection, Invalid, L4Proto, Packet, Settings, Step, Wish, note_birth, note_stream, put16};
use crate::conntrack::{Direction, Entry, Family, State, TcpState, Timeouts};
use crate::packet::{Ip, be16, checksum, udp};

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Udp;

/// Whether a packet of this direction changes nothing.
#[inline(always)]
pub fn is_steady(state: State, direction: Direction) -> bool {
    match direction {
        // Not yet answered, or a stream already.
        Direction::Original => !state.has(State::SEEN_REPLY) || state.has(State::ASSURED),
        Direction::Reply => state.has(State::SEEN_REPLY),
    }
}

impl L4Proto for Udp {
    const NUMBER: u8 = 17;

    fn error(packet: Packet<'_>) -> Result<(), Invalid> {
        let datagram = packet.transport();
        let sent_none = be16(datagram, udp::CHECKSUM) == 0 && packet.headers.ip == Ip::V4;
        // What the datagram's own length says is covered, not what the IP packet has behind it.
        let length = usize::from(be16(datagram, udp::LENGTH));
        if sent_none || packet.sum(length, length) == 0xffff { Ok(()) } else { Err(Invalid::UdpChecksum) }
    }

    fn new(_: Packet<'_>, _: &Settings) -> Result<State, Invalid> {
        Ok(State::new(Self::NUMBER, TcpState::None))
    }

    fn begin<F: Family>(entry: &Entry<F>, _: Packet<'_>) {
        note_birth(entry);
    }

    fn packet<F: Family>(connection: &Connection<'_, F>, _: Packet<'_>) -> Result<Step, Invalid> {
        note_stream(connection.found.entry, connection.found.direction, connection.now.millis);
        Ok(Step::Accept)
    }

    #[inline(always)]
    fn manip_pkt(transport: &mut [u8], ip: Ip, from: u32, to: u32, addresses: u64) {
        transport[..4].copy_from_slice(&to.to_be_bytes());
        let old = be16(transport, udp::CHECKSUM);
        // RFC 768: 0 means that the sender computed none. Over IPv6 there is no such thing (RFC 8200, section 8.1): it stays wrong.
        if old != 0 || ip == Ip::V6 {
            let sum = checksum::update(old, addresses + checksum::replace32(from, to));
            put16(transport, udp::CHECKSUM, never_zero(sum));
        }
    }

    fn unique_tuple(wish: &Wish, number: u32) -> Option<u32> {
        wish.port(number)
    }

    fn timeouts<F: Family>(_: &Entry<F>, state: State, timeouts: &Timeouts) -> u32 {
        if state.has(State::ASSURED) { timeouts.udp_stream } else { timeouts.udp }
    }
}

/// RFC 768: a computed checksum of 0 is sent as all ones.
#[inline(always)]
pub fn never_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}
