//! Connections of protocols without an end (UDP, ICMP, GRE) whose backend was taken out of its pool: a client that goes on sending would
//! keep them for ever, and get no answer for ever. They live only as long as replies come: from time to time the sweep takes back that
//! a reply was seen, and the next one says it again. On the packet path nothing is asked about it.
//!
//! When the sweep last did so is kept in the side of the original direction, which these protocols have no use for.

use super::entry::{Direction, Entry, State};
use super::family::Family;
use super::{Millis, Timeouts, l4proto};
use std::sync::atomic::Ordering::Relaxed;

/// Milliseconds until the connection is over if no reply comes.
pub(super) fn left<F: Family>(entry: &Entry<F>, state: State, timeouts: &Timeouts, now: Millis) -> u32 {
    let unreplied = state.without(State::SEEN_REPLY | State::ASSURED);
    let patience = l4proto::timeouts(entry, unreplied, timeouts);
    let side = entry.side(Direction::Original);
    // Relaxed: the control thread's alone.
    let waited = (side.byte.load(Relaxed) != 0).then(|| now.since(Millis(side.words[0].load(Relaxed))));
    match waited {
        Some(waited) if !state.has(State::SEEN_REPLY) => patience.saturating_sub(waited),
        // Not each time: a reply that finds the bits gone takes the long way.
        Some(waited) if waited < patience / 2 => patience,
        _ => {
            // Where it fails a packet has changed the state: next time.
            if entry.change_state(state, unreplied).is_ok() {
                side.words[0].store(now.0, Relaxed);
                side.byte.store(1, Relaxed);
            }
            patience
        }
    }
}
