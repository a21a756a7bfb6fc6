//! What is sent: two sides that behave most of the time, and at times do not.

use super::Both;
use super::segment::{ACK, FIN, RST, SYN, Segment, Side};
use proptest::prelude::*;

/// Options of a SYN, or none.
const OFFERS: [&[u8]; 4] = [&[], &[3, 3, 0, 0], &[4, 2, 3, 3, 2, 0, 0, 0], &[2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 0, 0]];
/// Options of other segments: none, timestamps, a SACK block.
const OTHERS: [&[u8]; 2] = [&[], &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]];

/// Where a number is, seen from where it should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Right,
    Off(i32),
    Anywhere(u32),
}

/// One segment to be.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    from: Side,
    flags: Kind,
    sequence: Place,
    acknowledgment: Place,
    window: u16,
    length: u16,
    options: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// What the side would send next: SYN, SYN/ACK, ACK.
    Expected,
    Flags(u8),
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let place = || {
        prop_oneof![
            20 => Just(Place::Right),
            3 => (-3i32..=3).prop_map(Place::Off),
            3 => (-3000i32..=3000).prop_map(Place::Off),
            2 => (-200_000i32..=200_000).prop_map(Place::Off),
            1 => any::<u32>().prop_map(Place::Anywhere),
            1 => Just(Place::Anywhere(0)),
        ]
    };
    let kind = prop_oneof![
        16 => Just(Kind::Expected),
        3 => Just(Kind::Flags(FIN | ACK)),
        2 => Just(Kind::Flags(RST)),
        1 => Just(Kind::Flags(RST | ACK)),
        2 => Just(Kind::Flags(SYN)),
        1 => Just(Kind::Flags(SYN | ACK)),
        3 => Just(Kind::Flags(ACK)),
    ];
    // Powers of two, which weir keeps as they are; `differences` has a case of others.
    let power = (8u32..15).prop_map(|power| 1u16 << power);
    let window = prop_oneof![6 => Just(2048u16), 4 => power, 1 => Just(0u16)];
    let length = prop_oneof![3 => Just(0u16), 1 => Just(1u16), 4 => 1u16..1400];
    let side = prop_oneof![Just(Side::Client), Just(Side::Backend)];
    let step = (side, kind, place(), place(), window, length, 0usize..4).prop_map(
        |(from, flags, sequence, acknowledgment, window, length, options)| Move {
            from,
            flags,
            sequence,
            acknowledgment,
            window,
            length,
            options,
        },
    );
    (0usize..4, 0usize..4, prop::collection::vec(step, 1..40)).prop_map(|(client, backend, steps)| {
        let right = |from, options| Move {
            from,
            flags: Kind::Expected,
            sequence: Place::Right,
            acknowledgment: Place::Right,
            window: 2048,
            length: 0,
            options,
        };
        // Most walks begin with a handshake, some in the middle of one or with something else.
        let opening = [right(Side::Client, client), right(Side::Backend, backend), right(Side::Client, 0)];
        let skip = if client == 3 { backend } else { 0 };
        opening.into_iter().skip(skip).chain(steps).collect()
    })
}

/// What one side has sent, so far as it went on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    pub(crate) next: u32,
    pub(crate) begun: bool,
    /// Its SYN went on.
    pub(crate) syn: bool,
    /// The numbers behind its segments.
    pub(crate) ends: Vec<u32>,
    /// The edges of the windows that it offered.
    pub(crate) edges: Vec<u32>,
    /// The largest window that it offered.
    pub(crate) largest: u32,
    /// The window scale option of its SYN.
    pub(crate) scale: Option<u8>,
}

/// Both sides, as they would see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) client: Sent,
    pub(crate) backend: Sent,
    /// State of the connection before the segment.
    pub(crate) state: Option<String>,
    /// A segment was dropped that the kernel takes something from: a SYN, a FIN, a RST, or anything of a side whose SYN it
    /// has not seen.
    pub(crate) dropped: bool,
    /// A RST went on before the handshake was over.
    pub(crate) reset_early: bool,
    /// The seconds that the kernel gave it then.
    pub(crate) timeout: Option<u32>,
}

impl Known {
    pub(crate) fn of(&self, side: Side) -> &Sent {
        if side == Side::Client { &self.client } else { &self.backend }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Walk {
    known: Known,
}

const CLIENT_ISN: u32 = u32::MAX - 1000;
const BACKEND_ISN: u32 = 77_000;

impl Walk {
    pub(crate) fn known(&self) -> Known {
        self.known.clone()
    }

    pub(crate) fn next(&self, step: &Move) -> Segment {
        let (own, other) = (self.known.of(step.from), self.known.of(step.from.other()));
        let isn = |side| if side == Side::Client { CLIENT_ISN } else { BACKEND_ISN };
        let flags = match step.flags {
            Kind::Flags(flags) => flags,
            Kind::Expected if own.begun => ACK,
            Kind::Expected if step.from == Side::Client => SYN,
            Kind::Expected => SYN | ACK,
        };
        let expected = |sent: &Sent, side| if sent.begun { sent.next } else { isn(side) };
        let at = |place, right: u32| match place {
            Place::Right => right,
            Place::Off(by) => right.wrapping_add_signed(by),
            Place::Anywhere(number) => number,
        };
        let options = if flags & SYN != 0 { OFFERS[step.options] } else { OTHERS[step.options % 2] };
        Segment {
            from: step.from,
            flags,
            sequence: at(step.sequence, expected(own, step.from)),
            acknowledgment: at(step.acknowledgment, expected(other, step.from.other())),
            window: step.window,
            length: if flags & (SYN | RST) != 0 { 0 } else { step.length },
            options,
        }
    }

    /// A side goes on from what it sent, if that went on and is not far from what it sent before.
    pub(crate) fn note(&mut self, segment: &Segment, both: &Both) {
        let both_scale = self.known.client.scale.is_some() && self.known.backend.scale.is_some();
        let scale = self.known.of(segment.from).scale.filter(|_| both_scale).unwrap_or(0);
        let sent = match segment.from {
            Side::Client => &mut self.known.client,
            Side::Backend => &mut self.known.backend,
        };
        let dropped = !both.kernel.forwarded && (segment.flags & (SYN | FIN | RST) != 0 || !sent.syn);
        if both.weir.forwarded && both.kernel.forwarded {
            sent.ends.push(segment.end());
            let window = u32::from(segment.window);
            let window = if segment.flags & SYN != 0 { window } else { window << scale };
            if segment.flags & ACK != 0 {
                sent.edges.push(segment.acknowledgment.wrapping_add(window));
            }
            sent.largest = sent.largest.max(window);
            if segment.flags & SYN != 0 && !sent.syn {
                sent.syn = true;
                sent.scale = segment.options.iter().position(|byte| *byte == 3).map(|at| segment.options[at + 2]);
            }
            let ahead = segment.end().wrapping_sub(sent.next);
            if !sent.begun || ahead < 10_000 {
                (sent.begun, sent.next) = (true, segment.end());
            }
        }
        let established = self.known.state.as_deref() == Some("ESTABLISHED");
        self.known.reset_early |= both.weir.forwarded && segment.flags & RST != 0 && !established;
        self.known.dropped |= dropped;
        self.known.timeout = both.kernel.shown.as_ref().map(|shown| shown.timeout);
        self.known.state = both.kernel.shown.as_ref().map(|shown| shown.state.clone());
    }
}
