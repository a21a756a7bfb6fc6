//! LOCAL_OUT: RSTs to both ends of connections that were ended here, and to whoever goes on sending.

use super::hook::{Hook, Hooks, Packet};
use super::process::Context;
use super::tracked::Tracked;
use super::tuples::Lookup;
use super::{Datapath, DropReason, Fate, Frame, Unreachable, Verdict, link};
use crate::conntrack::l4proto::{L4Proto, tcp::Tcp};
use crate::nat::tcp_reset::{self, TcpReset};
use crate::packet::{Headers, parse};

impl Datapath {
    /// Makes an empty frame a RST on its way to who gets it. What becomes of it: it is sent, it cannot be, or a neighbour must be resolved before;
    /// then nothing has been made of the frame.
    pub fn originate(&self, frame: &mut Frame<'_>, reset: &TcpReset) -> Fate {
        let id = match self.next_hops.find(reset.destination.ip()) {
            Ok(id) => id,
            Err(Unreachable::NoRoute) => return Fate::Drop(DropReason::NoRoute),
            Err(Unreachable::Unresolved(port, neighbour)) => return Fate::Wait(port, neighbour),
        };
        let Some(hop) = self.next_hops.hop(id) else { return Fate::Drop(DropReason::NeighbourUnresolved) };
        let Some(length) = reset.write_frame(frame.buffer) else { return Fate::Drop(DropReason::NoFrame) };
        frame.length = length;
        if let Err(Verdict::Drop(reason)) = run_handlers(&self.hooks, frame) {
            return Fate::Drop(reason);
        }
        let headers = match parse(frame.bytes()) {
            Ok(headers) => headers,
            Err(malformed) => return Fate::Drop(malformed.into()),
        };
        if link::lacks(frame, &headers, hop) > 0 {
            return Fate::Drop(DropReason::NoFrame);
        }
        link::address(self.next_hops.port(hop.port()), frame, &headers, hop);
        Fate::Transmit(hop.port())
    }
}

/// Shows a packet that was made here to the handlers of LOCAL_OUT.
#[cold]
pub(super) fn run_handlers(hooks: &Hooks, frame: &mut Frame<'_>) -> Result<(), Verdict> {
    if hooks.is_empty() {
        return Ok(());
    }
    let headers = parse(frame.bytes()).map_err(|malformed| Verdict::Drop(malformed.into()))?;
    let mut packet = Packet { bytes: &mut frame.buffer[..frame.length], headers: &headers, port: frame.port, connection: None };
    hooks.run(Hook::LocalOut, i32::MIN..i32::MAX, &mut packet)
}

/// A packet that is refused. If it is a segment of a connection that was reset a moment ago, its sender has not heard of it, or has not believed it:
/// it is told again, by the number that it asks for itself (RFC 9293, section 3.5.2).
#[cold]
#[inline(never)]
pub(super) fn tell_again<F: Tracked, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
    refused: Verdict,
) -> Verdict {
    let table = F::table(&context.datapath.conntrack);
    if headers.protocol != Tcp::NUMBER || !table.was_drained(lookup.hash, &lookup.tuple) {
        return refused;
    }
    let Ok(length) = tcp_reset::answer(frame.buffer, frame.length, headers) else { return refused };
    frame.length = length;
    match run_handlers(&context.datapath.hooks, frame) {
        Ok(()) => Verdict::Stolen,
        Err(verdict) => verdict,
    }
}
