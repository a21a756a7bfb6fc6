//! LOCAL_OUT: ICMP errors and RSTs in the place of packets that cannot go on.

use super::process::Context;
use super::{DropReason, Fate, Frame, Verdict, local_out};
use crate::nat::icmp_error::{self, IcmpError};
use crate::nat::tcp_reset;
use crate::packet::{Payload, parse};

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
    send(context, frame, length)
}

/// Tells the sender of a packet that it is refused: TCP by a RST (RFC 9293, section 3.10.7.1), others by an ICMP error that says that
/// somebody does not want it (RFC 1812, section 5.2.7.1; RFC 4443, section 3.1): the service is there, its operator has set a limit. Drops it
/// where none may be sent.
pub(super) fn reject<const HOOKED: bool>(context: &mut Context<'_, HOOKED>, frame: &mut Frame<'_>, reason: DropReason) -> Fate {
    let Ok(headers) = parse(frame.bytes()) else { return Fate::Drop(reason) };
    let (limit, is_tcp) = match headers.payload {
        Payload::Tcp(_) => (&mut *context.reset_limit, true),
        _ => (&mut *context.icmp_limit, false),
    };
    if !limit.take(context.now) {
        return Fate::Drop(reason);
    }
    let answered = match is_tcp {
        true => tcp_reset::answer(frame.buffer, frame.length, &headers),
        false => icmp_error::answer(frame.buffer, frame.length, &headers, IcmpError::Prohibited),
    };
    match answered {
        Ok(length) => send(context, frame, length),
        Err(_) => Fate::Drop(reason),
    }
}

/// The frame is an answer now.
fn send<const HOOKED: bool>(context: &mut Context<'_, HOOKED>, frame: &mut Frame<'_>, length: usize) -> Fate {
    frame.length = length;
    if HOOKED && let Err(Verdict::Drop(reason)) = local_out::run_handlers(&context.datapath.hooks, frame) {
        return Fate::Drop(reason);
    }
    context.tally.answered += 1;
    Fate::Transmit(frame.port)
}
