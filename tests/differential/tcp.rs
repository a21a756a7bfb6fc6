//! TCP: two sides that behave most of the time, and at times do not.

use super::message::{Message, What};
use super::segment::{ACK, FIN, RST, SYN, Segment, Side};
use super::tcp_differences;
use super::walk::{Both, Difference, Seen, Walk};
use super::window::{STRICT, Windows, is_looked_at};
use proptest::prelude::*;

/// Options of a SYN, or none: window scale (also more than the largest), SACK permitted, MSS.
const OFFERS: [&[u8]; 6] = [
    &[],
    &[3, 3, 0, 0],
    &[4, 2, 3, 3, 2, 0, 0, 0],
    &[2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 0, 0],
    &[4, 2, 1, 1],
    &[1, 4, 2, 3, 3, 15, 0, 0],
];
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

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
    /// Seconds before it.
    silence: u32,
    from: Side,
    flags: Kind,
    sequence: Place,
    acknowledgment: Place,
    window: u16,
    length: u16,
    options: usize,
    /// The right edge of a SACK block, seen from the end of what the other side has sent.
    sack: Option<i32>,
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
    // Mostly powers of two, which weir keeps as they are.
    let power = (8u32..16).prop_map(|power| 1u16 << power);
    let window = prop_oneof![12 => Just(2048u16), 8 => power, 2 => Just(0u16), 1 => any::<u16>()];
    let length = prop_oneof![3 => Just(0u16), 1 => Just(1u16), 4 => 1u16..1400];
    let side = prop_oneof![Just(Side::Client), Just(Side::Backend)];
    let sack = prop_oneof![12 => Just(None), 2 => Just(Some(0)), 1 => (-3000i32..=3000).prop_map(Some)];
    let silence = prop_oneof![30 => Just(0u32), 4 => 3u32..40, 1 => 40u32..1000];
    let step = (side, kind, (place(), place()), window, length, 0..OFFERS.len(), sack, silence).prop_map(
        |(from, flags, (sequence, acknowledgment), window, length, options, sack, silence)| Move {
            silence,
            from,
            flags,
            sequence,
            acknowledgment,
            window,
            length,
            options,
            sack,
        },
    );
    (0..OFFERS.len(), 0..OFFERS.len(), prop::collection::vec(step, 1..40), 0usize..12).prop_map(
        |(client, backend, steps, skip)| {
            // Most walks begin with a handshake, some in the middle of one or with something else.
            let skip = if skip < 4 { skip } else { 0 };
            handshake(client, backend).into_iter().skip(skip).chain(steps).collect()
        },
    )
}

/// With these options of both sides' SYNs.
fn handshake(client: usize, backend: usize) -> [Move; 3] {
    let right = |from, options| Move {
        silence: 0,
        from,
        flags: Kind::Expected,
        sequence: Place::Right,
        acknowledgment: Place::Right,
        window: 2048,
        length: 0,
        options,
        sack: None,
    };
    [right(Side::Client, client), right(Side::Backend, backend), right(Side::Client, 0)]
}

/// What one side has sent, so far as it went on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    next: u32,
    begun: bool,
    /// Its SYN went on.
    syn: bool,
    /// The numbers behind its segments.
    pub(crate) ends: Vec<u32>,
}

/// Both sides, as they would see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    client: Sent,
    backend: Sent,
    pub(crate) windows: Windows,
    /// Segments that were dropped since they last agreed about everything, and from which the kernel takes something all the same: a SYN,
    /// a FIN, a RST, or anything of a side whose SYN it has not seen.
    pub(crate) dropped: bool,
    /// Its beginning was not seen, or something outside of the window went on and moved its state.
    pub(crate) unsure: bool,
    /// It was so when a SYN/ACK began it anew.
    pub(crate) was_unsure: bool,
    /// A RST went on before any ACK that was believed.
    pub(crate) reset_early: bool,
    /// A RST went on that was not exact.
    pub(crate) unbelieved: bool,
    /// Its state before.
    state: &'static str,
    /// The last SYN of the client that was ignored.
    pub(crate) ignored: Option<Segment>,
    /// The last ACKs that were believed, one behind the other.
    pub(crate) acks: Vec<Segment>,
}

impl Known {
    pub(crate) fn of(&self, side: Side) -> &Sent {
        if side == Side::Client { &self.client } else { &self.backend }
    }

    /// The connection is over. The sides go on from what they have sent.
    fn end(&mut self) {
        let keep = |sent: &Sent| Sent { next: sent.next, begun: sent.begun, ..Sent::default() };
        *self = Self { client: keep(&self.client), backend: keep(&self.backend), ..Self::default() };
    }

    /// A segment went on.
    fn note(&mut self, segment: &Segment, state: &'static str) {
        if segment.flags == SYN && state == "SYN_SENT" && ["TIME_WAIT", "CLOSE"].contains(&self.state) {
            self.end();
        }
        let is_first = self.client.ends.is_empty() && self.backend.ends.is_empty();
        self.unsure |= is_first && segment.flags & SYN == 0;
        let sent = if segment.from == Side::Client { &mut self.client } else { &mut self.backend };
        sent.ends.push(segment.end());
        sent.syn |= segment.flags & SYN != 0;
        let ahead = segment.end().wrapping_sub(sent.next);
        if !sent.begun || ahead < 10_000 {
            (sent.begun, sent.next) = (true, segment.end());
        }
        if segment.flags & (SYN | FIN | RST | ACK) == ACK {
            self.acks.push(segment.clone());
        }
        let follows = (segment.from, segment.flags) == (Side::Backend, SYN | ACK) && state == "SYN_RECV";
        let follows = follows && !self.state.starts_with("SYN_SENT");
        if let Some(syn) = self.ignored.take_if(|syn| follows && syn.end() == segment.acknowledgment) {
            self.windows.begin_anew(&syn);
            (self.was_unsure, self.unsure) = (self.unsure, false);
            self.windows.note(segment, "SYN_SENT");
        } else if segment.flags & RST != 0 && STRICT.contains(&self.state) && state != "CLOSE" {
            self.unbelieved = true;
        } else if is_looked_at(segment, self.state) {
            let is_inside = self.windows.note(segment, self.state);
            self.unsure |= !is_inside && state != self.state;
        } else if segment.flags == SYN {
            self.ignored = Some(segment.clone());
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct TcpWalk {
    known: Known,
}

const CLIENT_ISN: u32 = u32::MAX - 1000;
const BACKEND_ISN: u32 = 77_000;

impl Walk for TcpWalk {
    type Move = Move;

    fn opening() -> Vec<Move> {
        handshake(3, 3).into()
    }

    fn silence(step: &Move) -> u32 {
        step.silence
    }

    fn next(&self, step: &Move) -> Message {
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
        let sack = step.sack.filter(|_| flags & (SYN | RST) == 0).map(|off| other.next.wrapping_add_signed(off));
        let options = match sack {
            _ if flags & SYN != 0 => OFFERS[step.options].to_vec(),
            Some(edge) => [&[1, 1, 5, 10][..], &edge.wrapping_sub(100).to_be_bytes(), &edge.to_be_bytes()].concat(),
            None if step.options % 2 == 1 => TIMESTAMPS.to_vec(),
            None => Vec::new(),
        };
        let segment = Segment {
            from: step.from,
            flags,
            sequence: at(step.sequence, expected(own, step.from)),
            acknowledgment: at(step.acknowledgment, expected(other, step.from.other())),
            window: step.window,
            length: if flags & (SYN | RST) != 0 { 0 } else { step.length },
            options,
            sack,
        };
        Message { from: step.from, what: What::Tcp(segment) }
    }

    fn explain(&self, seen: &Seen<'_>) -> Option<Difference> {
        tcp_differences::explain(&self.known, seen)
    }

    fn parts(&self, seen: &Seen<'_>) -> bool {
        tcp_differences::is_rounded(&self.known, seen)
    }

    /// A side goes on from what it sent, if that went on and is not far from what it sent before.
    fn note(&mut self, message: &Message, both: &Both) {
        let What::Tcp(segment) = &message.what else { panic!("not TCP") };
        let known = &mut self.known;
        let state = both.weir.shown.as_ref().map_or("", |shown| shown.state);
        let without_ack = segment.flags & (RST | ACK) == RST && known.acks.is_empty();
        let is_early = without_ack || segment.flags & RST != 0 && known.state.starts_with("SYN_SENT");
        let from_unknown = !known.of(segment.from).syn;
        known.dropped |= !both.kernel.forwarded && (segment.flags & (SYN | FIN | RST) != 0 || from_unknown);
        known.reset_early |= both.weir.forwarded && is_early && state != "ESTABLISHED";
        if both.weir.forwarded && both.kernel.forwarded {
            known.note(segment, state);
        }
        known.state = state;
    }

    fn expire(&mut self) {
        self.known.end();
    }
}
