//! ICMPv6 (RFC 4443): as [`super::icmp`], with other numbers and a checksum over a pseudo header.

use super::icmp::{IDENTIFIERS, answers, identifier, opens, word, write_identifier};
use super::{Connection, Invalid, L4Proto, Packet, Settings, Step, Wish};
use crate::conntrack::{Entry, Family, State, Timeouts};
use crate::packet::Ip;
use crate::packet::icmp::v6;

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Icmpv6;

/// Type 128, code 0: the half of who answers.
pub(super) const REQUEST: u16 = (v6::ECHO as u16) << 8;

impl L4Proto for Icmpv6 {
    const NUMBER: u8 = 58;

    fn pkt_to_tuple(packet: Packet<'_>) -> u32 {
        word(packet.transport(), v6::ECHO_REPLY, REQUEST)
    }

    fn error(packet: Packet<'_>) -> Result<(), Invalid> {
        let length = packet.transport().len();
        if packet.sum(length, length) == 0xffff { Ok(()) } else { Err(Invalid::IcmpChecksum) }
    }

    fn new(packet: Packet<'_>, _: &Settings) -> Result<State, Invalid> {
        opens(packet, v6::ECHO, Self::NUMBER)
    }

    fn packet<F: Family>(connection: &Connection<'_, F>, packet: Packet<'_>) -> Result<Step, Invalid> {
        answers(connection.found.entry, connection.found.direction, packet, v6::ECHO)
    }

    fn manip_pkt(transport: &mut [u8], _: Ip, from: u32, to: u32, addresses: u64) {
        write_identifier(transport, from, to, addresses, REQUEST);
    }

    fn choices(_: &Wish) -> u32 {
        IDENTIFIERS
    }

    fn unique_tuple(_: &Wish, number: u32) -> Option<u32> {
        identifier(number, REQUEST)
    }

    fn timeouts<F: Family>(_: &Entry<F>, _: State, timeouts: &Timeouts) -> u32 {
        timeouts.icmpv6
    }
}
