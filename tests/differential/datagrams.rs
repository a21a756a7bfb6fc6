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
        let (udp, stream) = (seen.timeouts.udp / 1000, seen.timeouts.udp_stream / 1000);
        let is_young = seen.age < Duration::from_secs(3);
        let is_first_reply = seen.message.from == Side::Backend && seen.before.is_some_and(|before| !before.seen_reply);
        let longer = weir.left == stream && (udp - 2..=udp).contains(&kernel.left);
        let stream_at_once = is_forwarded
            && (is_young || is_first_reply)
            && weir.seen_reply
            && kernel.seen_reply
            && weir.assured
            && !kernel.assured
            && longer;
        stream_at_once.then_some(("a reply makes a stream", Then::SetTimeout))
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

    fn explain(&self, seen: &Seen<'_>) -> Option<Difference> {
        let (weir, kernel) = (seen.both.weir.shown.as_ref()?, seen.both.kernel.shown.as_ref()?);
        let but_for_it = super::machine::Shown { assured: false, left: kernel.left, ..weir.clone() };
        let is_assured = seen.both.weir.forwarded == seen.both.kernel.forwarded
            && weir.seen_reply
            && weir.assured
            && but_for_it == *kernel
            && weir.left.abs_diff(kernel.left) <= 1;
        is_assured.then_some(("a reply assures echoes", Then::SetTimeout))
    }

    fn note(&mut self, _: &Message, _: &Both) {}

    fn expire(&mut self) {}
}
