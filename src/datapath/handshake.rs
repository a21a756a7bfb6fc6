//! Handshakes with backends, counted where they end well or badly: what passive health goes by. Only packets that change a connection, and
//! SYNs that are sent again, come here.

use super::process::Context;
use super::tracked::Tracked;
use crate::conntrack::{Direction, Found, Millis, State, TcpState};
use crate::service::BackendId;
use std::sync::atomic::Ordering::Relaxed;

/// A SYN that comes again so long after the packet before was not answered meanwhile: a second is the first retransmission timeout of TCP
/// (RFC 6298, section 2). A client that sends two at once must not speak against anybody.
const SENT_AGAIN: u32 = 900;

/// A TCP packet was accepted in SYN_SENT, as the connection was before it; `since` is when the packet before it came.
#[cold]
#[inline(never)]
pub(super) fn note<F: Tracked, const HOOKED: bool>(context: &Context<'_, HOOKED>, found: &Found<'_, F>, since: Millis) {
    let after = found.entry.state();
    // Of one that its backend opened, the client does the answering.
    if after.has(State::FROM_BACKEND) {
        return;
    }
    let Some(backend) = context.snapshot.backend(BackendId(found.entry.owner().backend)) else { return };
    // Relaxed: numbers that publish nothing.
    match (after.tcp(), found.direction) {
        (TcpState::SynRecv, Direction::Reply) => drop(backend.answered.fetch_add(1, Relaxed)),
        (TcpState::Close, Direction::Reply) => drop(backend.failed.fetch_add(1, Relaxed)),
        (TcpState::SynSent, Direction::Original) if context.now.since(since) >= SENT_AGAIN => {
            backend.failed.fetch_add(1, Relaxed);
        }
        _ => {}
    }
}
