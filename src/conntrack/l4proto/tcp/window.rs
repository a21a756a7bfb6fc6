//! Window tracking: may this segment have been sent by this side, now? (`tcp_in_window` of the kernel.)
//!
//! Judged by what was seen of both sides. With `end` the sequence number behind a segment, for its sender S and its receiver R:
//!
//! 1. Upper bound of data: its first number is at most `S.maxend`, the edge of the window that R has offered.
//! 2. Upper bound of the ACK: at most `R.end`, what R has sent.
//! 3. Lower bound of data: `end` is above `S.end - R.maxwin - 1`: not older than a window; or it is not below the highest ACK of R.
//! 4. Lower bound of the ACK: at least `R.end` less the largest window of S, or less 66000 if that is more.
//!
//! Where the lower bounds are not met, the segment is old, a duplicate: it is forwarded and changes nothing. A segment that is beyond an
//! upper bound is dropped, but for data that exceeds the window by at most a window: some senders do, and their receivers answer it.
//!
//! **How it is kept.** In the entry's [`Side`]s, so that a segment writes what belongs to its sender: the end of what it sent, the
//! highest ACK it sent, the window beyond that ACK (in units of the scale), and one byte: the scale and the largest window as a
//! power of two. The edge that a side offers is its highest ACK plus that window, so it is the other side's `maxend`. What does not fit
//! is rounded up, never down: an offered edge that is no multiple of the unit away from the ACK by less than a unit (only the
//! unscaled window of a SYN/ACK, and windows that shrink), the largest window by less than a factor of two. Before a side has sent an
//! ACK, the first packet of the other one keeps the edge there in its place.

use super::options::{Offer, highest_sack};
use super::{MAXACK_SET, SACK_PERM, TcpState, WINDOW_SCALE};
use crate::conntrack::entry::Side;
use crate::conntrack::{Direction, Entry, Extension, Family, State};
use crate::packet::tcp::{Segment, flag};
use std::sync::atomic::Ordering::Relaxed;

/// An ACK may be this much below what was sent, whatever the windows: the kernel's constant.
pub(super) const MAXACKWINCONST: u32 = 66_000;

/// Whether `one` is before `other` on the circle of sequence numbers. Of two that are opposite each other, each is before the other one.
pub(super) fn before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

/// Whether `one` is behind `other`.
pub(super) fn after(one: u32, other: u32) -> bool {
    before(other, one)
}

/// What was seen of one side (`struct ip_ct_tcp_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Behind the last byte that it sent.
    pub end: u32,
    /// How far it may send: the edge that the other side offered.
    pub maxend: u32,
    /// The largest window it offered, in bytes; 0: it has sent nothing.
    pub maxwin: u32,
    /// The highest ACK that it sent, if it sent one.
    pub maxack: Option<u32>,
    /// The shift of its windows.
    pub scale: u8,
    /// Its SYN had the window scale option.
    pub scaling: bool,
    /// It takes SACK.
    pub sack: bool,
}

/// Notes that a side has sent up to `end` in this direction: for a segment in pieces, of which only the first one has a header.
pub fn note_end<F: Family>(entry: &Entry<F>, direction: Direction, end: u32) {
    let sent = &entry.side(direction).words[0];
    if after(end, sent.load(Relaxed)) {
        sent.store(end, Relaxed);
    }
}

/// The numbers of a RST to the receiver of each direction, original first: sequence, and acknowledgment if the receiver has sent anything. As the
/// receiver knows them, whatever text was replaced (`edited`).
pub(in crate::conntrack) fn last_numbers<F: Family>(entry: &Entry<F>, edited: Option<&Extension>) -> [(u32, Option<u32>); 2] {
    [Direction::Original, Direction::Reply].map(|direction| {
        let sent = |direction| entry.side(direction).words[0].load(Relaxed);
        let sequence = edited.map_or(sent(direction), |record| record.stream(direction).edits.forth(sent(direction)));
        let has_sent = direction == Direction::Reply || entry.state().has(State::SEEN_REPLY);
        (sequence, has_sent.then(|| sent(direction.turned())))
    })
}

/// The highest number that the sender of this direction has acknowledged; only once it has sent an ACK.
pub fn highest_ack<F: Family>(entry: &Entry<F>, direction: Direction) -> u32 {
    entry.side(direction).words[1].load(Relaxed)
}

/// Both sides, the original direction's sender first.
pub(super) type Sides = [Seen; 2];

/// What the windows say of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// In the window; what was seen is noted.
    Inside,
    /// Not in it, but nothing that must be dropped.
    Ignored,
    /// More than the receiver asked for: how far its sender is now is noted, nothing else.
    Overshot,
    /// Beyond it.
    Beyond,
}

impl Seen {
    /// The sender of the first SYN.
    pub(super) fn first(segment: &Segment<'_>) -> Self {
        let mut seen =
            Self { end: segment.end, maxend: segment.end, maxwin: u32::from(segment.window.max(1)), ..Self::default() };
        seen.take(Offer::read(segment.options));
        seen
    }

    /// The sender of a segment in the middle of a connection whose beginning was not seen.
    pub(super) fn picked_up(segment: &Segment<'_>) -> Sides {
        let window = u32::from(segment.window.max(1));
        let sender =
            Self { end: segment.end, maxend: segment.end.wrapping_add(window), maxwin: window, sack: true, ..Self::default() };
        [sender, Self { end: segment.acknowledgment, maxend: segment.acknowledgment, sack: true, ..Self::default() }]
    }

    /// A SYN that was ignored at first turns out to be the one that counts.
    pub(super) fn ignored(end: u32, window: u16, offer: Offer) -> Self {
        let mut seen = Self { end, maxend: end, maxwin: u32::from(window.max(1)), ..Self::default() };
        seen.take(offer);
        seen
    }

    fn take(&mut self, offer: Offer) {
        (self.scale, self.scaling, self.sack) = (offer.scale.unwrap_or(0), offer.scale.is_some(), offer.sack);
    }
}

/// Judges a segment and notes what it shows.
pub(super) fn tcp_in_window(sides: &mut Sides, state: TcpState, direction: Direction, segment: &Segment<'_>) -> Judged {
    let (mut sender, mut receiver) = (sides[direction as usize], sides[direction.turned() as usize]);
    let judged = judge(&mut sender, &mut receiver, state, direction, segment);
    sides[direction as usize] = sender;
    sides[direction.turned() as usize] = receiver;
    judged
}

fn judge(sender: &mut Seen, receiver: &mut Seen, state: TcpState, direction: Direction, segment: &Segment<'_>) -> Judged {
    let is = |flags| segment.has(flags);
    let (mut sequence, mut end) = (segment.sequence, segment.end);
    let mut ack = segment.acknowledgment;
    let mut sack = if receiver.sack { highest_sack(segment.options, ack) } else { ack };

    if sender.maxwin == 0 {
        if is(flag::SYN) {
            begin(sender, receiver, direction, segment);
            if !is(flag::ACK) {
                // A simultaneous open.
                return Judged::Inside;
            }
        } else {
            // In the middle of a connection: what this segment says is all that is known.
            let window = (u32::from(segment.window) << sender.scale).max(1);
            (sender.end, sender.maxwin, sender.maxend) = (end, window, end.wrapping_add(window));
            if receiver.maxwin == 0 {
                (receiver.end, receiver.maxend) = (sack, sack);
            } else if sack == receiver.end.wrapping_add(1) {
                // Probably the answer to a keepalive.
                receiver.end = sack;
            }
        }
    } else if is(flag::SYN) && after(end, sender.end) && matches!(state, TcpState::SynSent | TcpState::SynRecv) {
        // RFC 9293, section 3.4.3: who begins anew uses numbers above those it used lately; options may differ, too.
        begin(sender, receiver, direction, segment);
        if direction == Direction::Reply && !is(flag::ACK) {
            return Judged::Inside;
        }
    }

    // Some stacks set ACK in a RST without a number.
    if !is(flag::ACK) || is(flag::RST) && ack == 0 {
        (ack, sack) = (receiver.end, receiver.end);
    }
    if is(flag::RST) && sequence == 0 && state == TcpState::SynSent {
        // The answer to a SYN (RFC 9293, section 3.10.7.1).
        (sequence, end) = (sender.end, sender.end);
    }

    let oldest = receiver.end.wrapping_sub(sender.maxwin.max(MAXACKWINCONST)).wrapping_sub(1);
    let ack_is_recent = after(sack, oldest);
    let ack_is_seen = before(sack, receiver.end.wrapping_add(1));
    // What the receiver has not acknowledged is never old, however far something beyond it went.
    let is_wanted = receiver.maxack.is_some_and(|maxack| !before(end, maxack));
    let data_is_recent = is_wanted || after(end, sender.end.wrapping_sub(receiver.maxwin).wrapping_sub(1));
    if !before(sequence, sender.maxend.wrapping_add(1)) {
        let overshot = end.wrapping_sub(sender.maxend).wrapping_add(1);
        if receiver.maxwin != 0 && data_is_recent && ack_is_recent && ack_is_seen && overshot <= receiver.maxwin {
            // More than the receiver asked for. If it takes it all the same, its ACK must not be beyond what was seen.
            sender.end = end;
            return Judged::Overshot;
        }
        return Judged::Beyond;
    }
    if !ack_is_seen {
        return Judged::Beyond;
    }
    if receiver.maxwin != 0 && !data_is_recent || !ack_is_recent {
        return Judged::Ignored;
    }

    // The window of a SYN is never scaled (RFC 7323, section 2.2).
    let window = u32::from(segment.window) << if is(flag::SYN) { 0 } else { sender.scale };
    sender.maxwin = sender.maxwin.max(window.wrapping_add(sack.wrapping_sub(ack)));
    if after(end, sender.end) {
        sender.end = end;
    }
    if is(flag::ACK) && sender.maxack.is_none_or(|highest| after(ack, highest)) {
        sender.maxack = Some(ack);
    }
    if receiver.maxwin != 0 && after(end, sender.maxend) {
        receiver.maxwin = receiver.maxwin.saturating_add(end.wrapping_sub(sender.maxend));
    }
    let edge = sack.wrapping_add(window);
    if after(edge, receiver.maxend.wrapping_sub(1)) {
        // A closed window may be probed with one byte.
        receiver.maxend = edge.wrapping_add(u32::from(window == 0));
    }
    Judged::Inside
}

/// A SYN or SYN/ACK begins its side (`tcp_init_sender`).
fn begin(sender: &mut Seen, receiver: &mut Seen, direction: Direction, segment: &Segment<'_>) {
    (sender.end, sender.maxend, sender.maxwin) = (segment.end, segment.end, u32::from(segment.window.max(1)));
    sender.take(Offer::read(segment.options));
    // RFC 7323, section 2.2: windows are scaled only if both sides say so.
    if direction == Direction::Reply && !(sender.scaling && receiver.scaling) {
        (sender.scale, receiver.scale) = (0, 0);
    }
}

// How it stands in the entry.

/// Reads both sides.
pub(super) fn load<F: Family>(entry: &Entry<F>, state: State) -> Sides {
    let kept = [Kept::load(entry.side(Direction::Original)), Kept::load(entry.side(Direction::Reply))];
    [0, 1].map(|at: usize| {
        let (own, other) = (kept[at], kept[1 - at]);
        Seen {
            end: own.end,
            maxend: other.edge(state.has(MAXACK_SET[1 - at])),
            maxwin: own.maxwin(),
            maxack: state.has(MAXACK_SET[at]).then_some(own.ack),
            scale: own.scale,
            scaling: state.has(WINDOW_SCALE[at]),
            sack: state.has(SACK_PERM[at]),
        }
    })
}

/// Writes what has become different. The caller has the state word changed first where it does ([`bits`]).
pub(super) fn store<F: Family>(entry: &Entry<F>, old: &Sides, new: &Sides) {
    for (at, direction) in [Direction::Original, Direction::Reply].into_iter().enumerate() {
        let kept = |sides: &Sides| Kept::of(&sides[at], &sides[1 - at]);
        let (old, new) = (kept(old), kept(new));
        let Side { words: [end, ack], half, byte } = entry.side(direction);
        if old.end != new.end {
            end.store(new.end, Relaxed);
        }
        if (old.ack, old.window) != (new.ack, new.window) {
            ack.store(new.ack, Relaxed);
            half.store(new.window, Relaxed);
        }
        if (old.scale, old.largest) != (new.scale, new.largest) {
            byte.store(new.scale | new.largest << 4, Relaxed);
        }
    }
}

/// The part of both sides that stands in the state word.
pub(super) fn bits(sides: &Sides) -> u32 {
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    let of = |at: usize| {
        let side = &sides[at];
        bit(side.maxack.is_some(), MAXACK_SET[at]) | bit(side.scaling, WINDOW_SCALE[at]) | bit(side.sack, SACK_PERM[at])
    };
    of(0) | of(1)
}

/// Moves the edge that a side offers, unless that would shrink, or the window is larger than any before.
#[inline(always)]
pub(super) fn advance_edge(Side { words: [_, highest], half, byte }: Side<'_>, ack: u32, window: u16) -> bool {
    let (byte, old) = (byte.load(Relaxed), highest.load(Relaxed));
    let (scale, largest) = (byte & 0xf, byte >> 4);
    let edge = |ack: u32, window: u16| ack.wrapping_add(u32::from(window) << scale);
    let forward = edge(ack, window).wrapping_sub(edge(old, half.load(Relaxed))).cast_signed();
    if (ack.wrapping_sub(old).cast_signed() | forward) < 0 || u32::from(window) > 2 << largest {
        return false;
    }
    highest.store(ack, Relaxed);
    half.store(window, Relaxed);
    true
}

/// Whether an ACK of this side may be this much below what the other one has sent: its largest window.
#[inline(always)]
pub(super) fn may_lag(Side { byte, .. }: Side<'_>, unacknowledged: u32) -> bool {
    let byte = byte.load(Relaxed);
    unacknowledged <= 2 << (byte >> 4) << (byte & 0xf)
}

/// Whether something that either side has sent is not acknowledged by the other one.
pub(super) fn is_unacknowledged<F: Family>(entry: &Entry<F>, state: State) -> bool {
    let sides = load(entry, state);
    let open = |at: usize| sides[1 - at].maxack.is_some_and(|ack| after(sides[at].end, ack));
    open(0) || open(1)
}

/// One side as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    end: u32,
    /// The highest ACK; before there was one, the edge itself.
    ack: u32,
    /// From `ack` to the edge that it offers, in units of its scale.
    window: u16,
    scale: u8,
    /// The largest window is at most 2 << this, in units of its scale; 0 none.
    largest: u8,
}

impl Kept {
    fn load(Side { words: [end, ack], half, byte }: Side<'_>) -> Self {
        let byte = byte.load(Relaxed);
        Self { end: end.load(Relaxed), ack: ack.load(Relaxed), window: half.load(Relaxed), scale: byte & 0xf, largest: byte >> 4 }
    }

    /// `own`, and the edge that it offers to `other`.
    fn of(own: &Seen, other: &Seen) -> Self {
        let unit = |bytes: u32| u64::from(bytes).div_ceil(1 << own.scale) as u32;
        let (ack, window) = match own.maxack {
            None => (other.maxend, 0),
            Some(ack) => match other.maxend.wrapping_sub(ack) {
                // One byte beyond a closed window is what a closed window offers.
                ..=1 => (ack, 0),
                ahead if ahead.cast_signed() < 0 => (ack, 0),
                ahead => (ack, unit(ahead).min(u32::from(u16::MAX)) as u16),
            },
        };
        let largest = match unit(own.maxwin) {
            0 => 0,
            units => (32 - (units - 1).leading_zeros()).clamp(2, 16) as u8 - 1,
        };
        Self { end: own.end, ack, window, scale: own.scale, largest }
    }

    fn edge(&self, has_acked: bool) -> u32 {
        let probe = u32::from(has_acked && self.window == 0);
        self.ack.wrapping_add(u32::from(self.window) << self.scale).wrapping_add(probe)
    }

    fn maxwin(&self) -> u32 {
        if self.largest == 0 { 0 } else { 2 << self.largest << self.scale }
    }
}
