//! UDP and echoes: questions, answers, and silence.

use super::message::{Message, What};
use super::segment::Side;
use super::walk::{Both, Difference, Seen, Then, Walk};
use proptest::prelude::*;
use std::time::Duration;

/// One packet to be.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    from: Side,
    /// An echo of the backend, or a reply of the client.
    turned: bool,
    silence: u32,
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let side = prop_oneof![Just(Side::Client), Just(Side::Backend)];
    let silence = prop_oneof![4 => Just(0u32), 3 => 3u32..40, 2 => 40u32..200];
    let step = (side, prop::bool::weighted(0.1), silence).prop_map(|(from, turned, silence)| Move { from, turned, silence });
    prop::collection::vec(step, 1..20)
}

/// Datagrams.
#[derive(Debug, Default)]
pub(crate) struct UdpWalk;

impl Walk for UdpWalk {
    type Move = Move;

    fn opening() -> Vec<Move> {
        Vec::new()
    }

    fn silence(step: &Move) -> u32 {
        step.silence
    }

    fn next(&self, step: &Move) -> Message {
        Message { from: step.from, what: What::Datagram }
    }

    fn explain(&self, seen: &Seen<'_>) -> Option<Difference> {
        let (weir, kernel) = (seen.both.weir.shown.as_ref()?, seen.both.kernel.shown.as_ref()?);
        let is_forwarded = seen.both.weir.forwarded && seen.both.kernel.forwarded;
        let both_ways = is_forwarded && weir.seen_reply && kernel.seen_reply;
        // No deliberate one: silence is only a timeout that is set, so the kernel's two seconds are those of this machine.
        let (udp, stream) = (seen.timeouts.udp / 1000, seen.timeouts.udp_stream / 1000);
        let longer = weir.left == stream && (udp - 2..=udp).contains(&kernel.left);
        if both_ways && seen.age < Duration::from_secs(3) && weir.assured && !kernel.assured && longer {
            return Some(("silence makes the kernel's connection no older", Then::SetTimeout));
        }
        let was_replied = seen.before.is_some_and(|before| before.seen_reply && !before.assured);
        let is_old = seen.age >= Duration::from_secs(2);
        let by_the_backend = seen.message.from == Side::Backend && was_replied && is_old;
        let alone = both_ways && by_the_backend && !weir.assured && kernel.assured;
        alone.then_some(("the backend alone makes no stream", Then::Forwarded))
    }

    fn note(&mut self, _: &Message, _: &Both) {}

    fn expire(&mut self) {}
}

/// Echoes and their replies.
#[derive(Debug, Default)]
pub(crate) struct EchoWalk;

impl Walk for EchoWalk {
    type Move = Move;

    fn opening() -> Vec<Move> {
        Vec::new()
    }

    fn silence(step: &Move) -> u32 {
        step.silence
    }

    fn next(&self, step: &Move) -> Message {
        let reply = (step.from == Side::Backend) != step.turned;
        Message { from: step.from, what: What::Echo { reply } }
    }

    fn explain(&self, _: &Seen<'_>) -> Option<Difference> {
        None
    }

    fn note(&mut self, _: &Message, _: &Both) {}

    fn expire(&mut self) {}
}
