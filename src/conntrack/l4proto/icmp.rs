//! ICMP (RFC 792): an echo and its replies are a connection, told apart by the identifier.
//!
//! The word of the tuple has the identifier in the half of who asks, and type and code of the request in the half of who answers: a
//! reply is turned into the request that it answers (the kernel's `invmap`), so that both directions are each other's inverse. Other
//! requests (timestamp, information, address mask) are not tracked: the XDP program leaves them to the kernel.

use super::{Connection, Invalid, L4Proto, Packet, Settings, Step, Wish, note_reply, put16};
use crate::conntrack::{Direction, Entry, Family, State, TcpState, Timeouts};
use crate::packet::icmp::{CHECKSUM, IDENTIFIER, v4};
use crate::packet::{Ip, be16, checksum};

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Icmp;

/// Identifiers that may be given out: all but the one that looks like a request.
pub(super) const IDENTIFIERS: u32 = 0xffff;

/// Type 8, code 0: the half of who answers.
pub(super) const REQUEST: u16 = (v4::ECHO as u16) << 8;

impl L4Proto for Icmp {
    const NUMBER: u8 = 1;

    fn pkt_to_tuple(packet: Packet<'_>) -> u32 {
        word(packet.transport(), v4::ECHO_REPLY, REQUEST)
    }

    fn error(packet: Packet<'_>) -> Result<(), Invalid> {
        if checksum::fold(checksum::sum(packet.transport())) == 0xffff { Ok(()) } else { Err(Invalid::IcmpChecksum) }
    }

    fn new(packet: Packet<'_>, _: &Settings) -> Result<State, Invalid> {
        opens(packet, v4::ECHO, Self::NUMBER)
    }

    fn packet<F: Family>(connection: &Connection<'_, F>, packet: Packet<'_>) -> Result<Step, Invalid> {
        answers(connection.found.entry, connection.found.direction, packet, v4::ECHO)
    }

    fn manip_pkt(transport: &mut [u8], _: Ip, from: u32, to: u32, _: u64) {
        // RFC 792: the checksum has no pseudo header.
        write_identifier(transport, from, to, 0, REQUEST);
    }

    fn choices(_: &Wish) -> u32 {
        IDENTIFIERS
    }

    fn unique_tuple(_: &Wish, number: u32) -> Option<u32> {
        identifier(number, REQUEST)
    }

    fn timeouts<F: Family>(_: &Entry<F>, _: State, timeouts: &Timeouts) -> u32 {
        timeouts.icmp
    }
}

/// The word of an echo or a reply; 0, which no connection has, of another message.
pub(super) fn word(message: &[u8], reply: u8, request: u16) -> u32 {
    let identifier = u32::from(be16(message, IDENTIFIER));
    match message[0] {
        kind if kind == reply => u32::from(request) << 16 | identifier,
        kind if u16::from(kind) << 8 == request => identifier << 16 | u32::from(request),
        _ => 0,
    }
}

/// The word of an echo from identifier `source`, or of a reply to identifier `destination` where there is one.
pub(super) fn word_between(source: u16, destination: u16, request: u16) -> u32 {
    if destination == 0 {
        u32::from(source) << 16 | u32::from(request)
    } else {
        u32::from(request) << 16 | u32::from(destination)
    }
}

/// An echo opens a connection; a reply does not.
pub(super) fn opens(packet: Packet<'_>, echo: u8, protocol: u8) -> Result<State, Invalid> {
    if packet.transport()[0] == echo { Ok(State::new(protocol, TcpState::None)) } else { Err(Invalid::IcmpUnrequested) }
}

/// Echoes go one way, replies the other. The words of the two are the same where an identifier looks like a request, so the type is asked.
pub(super) fn answers<F: Family>(entry: &Entry<F>, direction: Direction, packet: Packet<'_>, echo: u8) -> Result<Step, Invalid> {
    if (packet.transport()[0] == echo) != (direction == Direction::Original) {
        return Err(Invalid::IcmpUnrequested);
    }
    note_reply(entry, direction);
    Ok(Step::Accept)
}

/// The identifier in a word: in the half that is not the request's.
pub(super) fn identifier_of(word: u32, request: u16) -> u16 {
    if word as u16 == request { (word >> 16) as u16 } else { word as u16 }
}

pub(super) fn write_identifier(message: &mut [u8], from: u32, to: u32, addresses: u64, request: u16) {
    let (old, new) = (identifier_of(from, request), identifier_of(to, request));
    let delta = addresses + checksum::replace32(u32::from(old), u32::from(new));
    let sum = checksum::update(be16(message, CHECKSUM), delta);
    put16(message, CHECKSUM, sum);
    put16(message, IDENTIFIER, new);
}

/// Choice `number` of the identifiers.
pub(super) fn identifier(number: u32, request: u16) -> Option<u32> {
    let number = u16::try_from(number).ok()?;
    let identifier = if number < request { number } else { number.checked_add(1)? };
    Some(u32::from(request) << 16 | u32::from(identifier))
}
