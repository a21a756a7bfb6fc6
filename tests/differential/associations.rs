//! SCTP: an association of one path, most of the time as RFC 9260 has it.

use super::message::{Message, What};
use super::sctp_differences;
use super::segment::Side;
use super::transports::{chunk, init};
use super::walk::{Both, Difference, Seen, Walk};
use proptest::prelude::*;

pub(crate) const DATA: u8 = 0;
pub(crate) const INIT: u8 = 1;
pub(crate) const INIT_ACK: u8 = 2;
pub(crate) const HEARTBEAT: u8 = 4;
pub(crate) const ABORT: u8 = 6;
pub(crate) const SHUTDOWN: u8 = 7;
pub(crate) const SHUTDOWN_ACK: u8 = 8;
pub(crate) const ERROR: u8 = 9;
pub(crate) const COOKIE_ECHO: u8 = 10;
pub(crate) const COOKIE_ACK: u8 = 11;
pub(crate) const SHUTDOWN_COMPLETE: u8 = 14;

/// What the ends ask to be sent.
pub(crate) const TAGS: [u32; 2] = [0x0c11_e177, 0xbac4_e4d0];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// As the kind of chunk has it.
    Right,
    /// That of the other direction, as in a packet that is sent back (T bit).
    Reflected,
    Zero,
    Wrong,
}

#[derive(Debug, Clone)]
pub(crate) struct Move {
    from: Side,
    /// `None`: what comes next in the life of an association.
    kind: Option<u8>,
    tag: Tag,
    silence: u32,
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let kinds =
        [DATA, INIT, INIT_ACK, HEARTBEAT, ABORT, SHUTDOWN, SHUTDOWN_ACK, ERROR, COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE];
    let kind = prop_oneof![3 => Just(None), 4 => prop::sample::select(kinds.to_vec()).prop_map(Some), 1 => Just(Some(DATA))];
    let tag = prop_oneof![14 => Just(Tag::Right), 1 => Just(Tag::Reflected), 1 => Just(Tag::Zero), 1 => Just(Tag::Wrong)];
    let side = prop_oneof![Just(Side::Client), Just(Side::Backend)];
    let silence = prop_oneof![20 => Just(0u32), 3 => 3u32..20, 1 => 20u32..400];
    let step = (side, kind, tag, silence).prop_map(|(from, kind, tag, silence)| Move { from, kind, tag, silence });
    (prop::collection::vec(step, 1..20), 0usize..8).prop_map(|(steps, skip)| {
        let skip = if skip < 4 { skip } else { 0 };
        SctpWalk::opening().into_iter().skip(skip).chain(steps).collect()
    })
}

/// The chunks with which an association begins and ends, and who sends each.
const LIFE: [(Side, u8); 9] = [
    (Side::Client, INIT),
    (Side::Backend, INIT_ACK),
    (Side::Client, COOKIE_ECHO),
    (Side::Backend, COOKIE_ACK),
    (Side::Client, DATA),
    (Side::Backend, DATA),
    (Side::Client, SHUTDOWN),
    (Side::Backend, SHUTDOWN_ACK),
    (Side::Client, SHUTDOWN_COMPLETE),
];

#[derive(Debug, Clone, Default)]
pub(crate) struct SctpWalk {
    /// Where in its life it is.
    at: usize,
}

impl Walk for SctpWalk {
    type Move = Move;

    fn opening() -> Vec<Move> {
        let right = |(from, kind): &(Side, u8)| Move { from: *from, kind: Some(*kind), tag: Tag::Right, silence: 0 };
        LIFE[..4].iter().map(right).collect()
    }

    fn silence(step: &Move) -> u32 {
        step.silence
    }

    fn next(&self, step: &Move) -> Message {
        let (from, kind) = step.kind.map_or(LIFE[self.at], |kind| (step.from, kind));
        let (own, other) = if from == Side::Client { (TAGS[0], TAGS[1]) } else { (TAGS[1], TAGS[0]) };
        let (tag, flags) = match step.tag {
            Tag::Right if kind == INIT => (0, 0),
            Tag::Right => (other, 0),
            Tag::Reflected => (own, 1),
            Tag::Zero => (0, 0),
            Tag::Wrong => (0x0bad_0bad, 0),
        };
        let chunk = match kind {
            INIT | INIT_ACK => init(kind, own),
            DATA => chunk(kind, 3, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
            SHUTDOWN => chunk(kind, 0, &[0, 0, 0, 1]),
            HEARTBEAT => chunk(kind, 0, &[0, 1, 0, 8, 1, 2, 3, 4]),
            ERROR => chunk(kind, 0, &[0, 3, 0, 8, 0, 0, 0, 1]),
            COOKIE_ECHO => chunk(kind, 0, &[7; 8]),
            _ => chunk(kind, flags, &[]),
        };
        Message { from, what: What::Sctp { tag, chunks: vec![chunk] } }
    }

    fn explain(&self, seen: &Seen<'_>) -> Option<Difference> {
        sctp_differences::explain(seen)
    }

    fn note(&mut self, message: &Message, both: &Both) {
        let What::Sctp { chunks, .. } = &message.what else { panic!("not SCTP") };
        let sent = (message.from, chunks[0][0]);
        if both.weir.forwarded
            && both.kernel.forwarded
            && let Some(at) = LIFE.iter().position(|step| *step == sent)
        {
            self.at = (at + 1) % LIFE.len();
        }
    }

    fn expire(&mut self) {
        self.at = 0;
    }
}
