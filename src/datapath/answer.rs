//! LOCAL_OUT: ICMP errors about packets that cannot go on.

use super::hook::{Hook, Packet};
use super::process::Context;
use super::{DropReason, Fate, Frame, Verdict};
use crate::nat::icmp_error::{self, IcmpError};
use crate::packet::parse;

/// Answers a packet that was refused for its TTL or its size, where an error may be sent about it; drops it otherwise.
///
/// The packet is still as it came: its sender is quoted what it sent.
pub(super) fn answer<const HOOKED: bool>(context: &mut Context<'_, HOOKED>, frame: &mut Frame<'_>, reason: DropReason) -> Fate {
    let error = match reason {
        DropReason::TooBig => IcmpError::TooBig { mtu: context.mtu },
        _ => IcmpError::TimeExceeded,
    };
    let Ok(headers) = parse(frame.bytes()) else { return Fate::Drop(reason) };
    if !context.icmp_limit.take(context.now) {
        return Fate::Drop(reason);
    }
    let Ok(length) = icmp_error::answer(frame.buffer, frame.length, &headers, error) else { return Fate::Drop(reason) };
    frame.length = length;
    if HOOKED && let Err(Verdict::Drop(reason)) = run_handlers(context, frame) {
        return Fate::Drop(reason);
    }
    context.tally.answered += 1;
    Fate::Transmit(frame.port)
}

#[cold]
fn run_handlers<const HOOKED: bool>(context: &Context<'_, HOOKED>, frame: &mut Frame<'_>) -> Result<(), Verdict> {
    let headers = parse(frame.bytes()).map_err(|malformed| Verdict::Drop(malformed.into()))?;
    let mut packet = Packet { bytes: &mut frame.buffer[..frame.length], headers: &headers, port: frame.port, connection: None };
    context.datapath.hooks.run(Hook::LocalOut, i32::MIN..i32::MAX, &mut packet)
}
