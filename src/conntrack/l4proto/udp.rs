//! UDP: a connection is as long as packets come; how long depends on whether both sides were heard.

use crate::conntrack::{Direction, State, Timeouts};

/// The state word after a packet of this direction.
#[inline(always)]
pub fn advance(state: State, direction: Direction) -> State {
    match direction {
        Direction::Original => state,
        // The kernel calls a stream assured once replies go on; the first reply already shows that the source is not forged.
        Direction::Reply => state.with(State::SEEN_REPLY | State::ASSURED),
    }
}

/// Milliseconds of silence that the connection may last.
pub fn timeout(state: State, timeouts: &Timeouts) -> u32 {
    if state.has(State::SEEN_REPLY) { timeouts.udp_stream } else { timeouts.udp }
}
