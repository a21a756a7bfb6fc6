//! GRE (RFC 2784, RFC 2890): a tunnel through one address is a connection, told apart from others by its key where it has one.
//!
//! Both ends of a tunnel are told the same key, so it is neither chosen nor written here: a client whose key another one uses already
//! toward the same backend by every SNAT address cannot be told from that one, and is refused. So are two clients without a key.
//!
//! The call ids of PPTP (RFC 2637) are chosen by each side for itself and told over its TCP connection, which is not read here: its
//! packets are tracked by their addresses alone, as those without a key.

use super::{Connection, Invalid, L4Proto, Packet, Settings, Step, Wish, note_birth, note_stream};
use crate::conntrack::{Entry, Family, State, TcpState, Timeouts};
use crate::packet::{Ip, gre};

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Gre;

impl L4Proto for Gre {
    const NUMBER: u8 = 47;

    fn pkt_to_tuple(packet: Packet<'_>) -> u32 {
        gre::key(packet.transport()).unwrap_or(0)
    }

    fn invert_tuple(word: u32) -> u32 {
        word
    }

    fn error(packet: Packet<'_>) -> Result<(), Invalid> {
        if gre::checksum_holds(packet.transport()) { Ok(()) } else { Err(Invalid::GreChecksum) }
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

    /// Nothing in it depends on the addresses.
    fn manip_pkt(_: &mut [u8], _: Ip, _: u32, _: u32, _: u64) {}

    fn choices(_: &Wish) -> u32 {
        1
    }

    fn unique_tuple(wish: &Wish, number: u32) -> Option<u32> {
        (number == 0).then_some(wish.original)
    }

    fn timeouts<F: Family>(_: &Entry<F>, state: State, timeouts: &Timeouts) -> u32 {
        if state.has(State::ASSURED) { timeouts.gre_stream } else { timeouts.gre }
    }
}
