//! What becomes of a segment of a known connection, and what the connection is afterwards: a function of what is known, without a
//! connection (`nf_conntrack_tcp_packet` of the kernel).

use super::options::Offer;
use super::states::{Cell, Kind, cell};
use super::window::{Judged, Seen, Sides, before, tcp_in_window};
use super::{IGNORED, LIBERAL, SIMULTANEOUS_OPEN, TcpState};
use crate::conntrack::l4proto::Settings;
use crate::conntrack::{Direction, State};
use crate::packet::tcp::{Segment, flag};

/// A SYN of the client in the middle of a connection that was forwarded without being believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::conntrack) struct IgnoredSyn {
    /// The sequence number behind it.
    pub end: u32,
    /// Its window.
    pub window: u16,
    /// Its window scale option.
    pub scale: Option<u8>,
    /// It takes SACK.
    pub sack: bool,
}

/// All that is known of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub state: State,
    pub sides: Sides,
    /// The SYN that [`IGNORED`] stands for.
    pub syn: Option<IgnoredSyn>,
}

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Forward,
    /// It goes on, and the connection does not live longer for it.
    Ignore,
    /// It goes on, and the connection ends with it.
    End,
    /// The state does not allow it.
    BadState,
    /// It is beyond the window.
    OutOfWindow,
    /// A RST below what the other side has acknowledged.
    BadReset,
    /// It begins a new connection.
    Reopen,
}

/// Judges a segment; `known` is what is known afterwards. Unchanged if the segment is dropped.
pub(super) fn judge(known: &mut Known, direction: Direction, segment: &Segment<'_>, settings: &Settings) -> Verdict {
    let before = *known;
    let verdict = look(known, direction, segment, settings);
    if !matches!(verdict, Verdict::Forward | Verdict::Ignore | Verdict::End) {
        *known = before;
    } else if direction == Direction::Reply {
        known.state = known.state.with(State::SEEN_REPLY);
    }
    verdict
}

fn look(known: &mut Known, direction: Direction, segment: &Segment<'_>, settings: &Settings) -> Verdict {
    let (old, kind) = (known.state.tcp(), Kind::of(segment.flags));
    match cell(direction, kind, old) {
        Cell::Invalid => Verdict::BadState,
        Cell::Reopen => Verdict::Reopen,
        Cell::Ignore => ignore(known, direction, kind, segment),
        Cell::To(_) if is_challenge(known, direction, kind) => {
            known.state = known.state.without(IGNORED);
            Verdict::Ignore
        }
        Cell::To(TcpState::Close) if kind == Kind::Rst => reset(known, direction, segment, settings),
        Cell::To(TcpState::SynRecv)
            if direction == Direction::Reply && kind == Kind::Ack && known.state.has(SIMULTANEOUS_OPEN) =>
        {
            // Its SYN was answered by the client's SYN/ACK before.
            enter_if_inside(known, direction, segment, settings, TcpState::Established)
        }
        Cell::To(to) => enter_if_inside(known, direction, segment, settings, to),
    }
}

/// Whether this is the backend's answer to a SYN that was ignored: it does not acknowledge the FIN (RFC 5961, section 4.2).
fn is_challenge(known: &Known, direction: Direction, kind: Kind) -> bool {
    known.state.tcp() == TcpState::LastAck && kind == Kind::Ack && direction == Direction::Reply && known.state.has(IGNORED)
}

/// A segment that weir does not believe and the receiver may.
fn ignore(known: &mut Known, direction: Direction, kind: Kind, segment: &Segment<'_>) -> Verdict {
    match (direction, kind) {
        (Direction::Reply, Kind::SynAck) => {
            let answered = known.syn.filter(|syn| known.state.has(IGNORED) && syn.end == segment.acknowledgment);
            match answered {
                Some(syn) => return follow(known, segment, &syn),
                None => known.state = known.state.without(IGNORED),
            }
        }
        (Direction::Original, Kind::Syn) => {
            let Offer { scale, sack } = Offer::read(segment.options);
            known.syn = Some(IgnoredSyn { end: segment.end, window: segment.window, scale, sack });
            known.state = known.state.with(IGNORED);
        }
        // An ACK in the place of the SYN/ACK: the client's RST will have its number. Of this side nothing else is known yet.
        _ if known.state.tcp() == TcpState::SynSent && known.sides[Direction::Reply as usize].maxwin == 0 => {
            known.sides[Direction::Reply as usize].end = segment.acknowledgment;
            known.state = known.state.with(IGNORED);
        }
        _ => {}
    }
    Verdict::Ignore
}

/// Client and backend agree on a connection that weir took for an older one: it begins here for weir, too.
fn follow(known: &mut Known, segment: &Segment<'_>, syn: &IgnoredSyn) -> Verdict {
    let offer = Offer { scale: syn.scale, sack: syn.sack };
    known.sides = [Seen::ignored(syn.end, syn.window, offer), Seen::default()];
    // What was known of the old one's beginning says nothing about this one's.
    known.state = known.state.with_tcp(TcpState::SynSent).without(LIBERAL | SIMULTANEOUS_OPEN);
    match tcp_in_window(&mut known.sides, TcpState::SynSent, Direction::Reply, segment) {
        Judged::Inside => enter(known, Kind::SynAck, TcpState::SynRecv),
        _ => Verdict::OutOfWindow,
    }
}

/// A RST: which ones are believed is told in the head of [`super`].
fn reset(known: &mut Known, direction: Direction, segment: &Segment<'_>, settings: &Settings) -> Verdict {
    use TcpState::{Close, CloseWait, FinWait, LastAck, TimeWait};
    let (old, sequence) = (known.state.tcp(), segment.sequence);
    if old == TcpState::SynSent && direction == Direction::Reply && !answers_syn(known, segment) {
        return Verdict::Ignore;
    }
    // It is over: there is nothing left to protect.
    if matches!(old, TimeWait | Close) || answers_what_was_ignored(known, direction, segment) {
        return enter(known, Kind::Rst, Close);
    }
    let maxack = known.sides[direction.turned() as usize].maxack;
    if maxack.is_some_and(|maxack| before(sequence, maxack)) {
        return Verdict::BadReset;
    }
    // RFC 5961, section 3.2: exactly what the receiver expects. What its sender sent last may be on its way there still.
    let is_exact = maxack == Some(sequence) || sequence == known.sides[direction as usize].end;
    // As the kernel: while it closes, the ACK is not looked at.
    if is_exact && matches!(old, FinWait | CloseWait | LastAck) {
        return enter(known, Kind::Rst, Close);
    }
    if is_exact || maxack.is_none() {
        return enter_if_inside(known, direction, segment, settings, Close);
    }
    // Not believed: nothing that it says is noted either, or it would make the next one an exact one. It makes the connection live neither
    // longer nor, as in the kernel, shorter: two of them within the time in which a receiver sends one challenge would end it.
    let sides = known.sides;
    let verdict = enter_if_inside(known, direction, segment, settings, old);
    known.sides = sides;
    if verdict == Verdict::Forward { Verdict::Ignore } else { verdict }
}

/// RFC 9293, section 3.10.7.3: who has sent a SYN believes a RST only if that acknowledges it.
fn answers_syn(known: &Known, segment: &Segment<'_>) -> bool {
    segment.flags & flag::ACK != 0 && segment.acknowledgment == known.sides[Direction::Original as usize].end
}

/// Whether a RST is the answer to a SYN or an ACK that was forwarded without being believed: its sender has no connection.
fn answers_what_was_ignored(known: &Known, direction: Direction, segment: &Segment<'_>) -> bool {
    let state = known.state;
    let syn = known.syn.filter(|_| direction == Direction::Reply && state.has(IGNORED) && state.has(State::SEEN_REPLY));
    let answers_syn = state.tcp() != TcpState::SynSent && syn.is_some_and(|syn| segment.acknowledgment == syn.end);
    answers_syn || has_ignored_ack(known) && segment.sequence == known.sides[Direction::Reply as usize].end
}

/// Whether an ACK of the backend was ignored in the place of its SYN/ACK; its number stands where the end of what it sent will be.
fn has_ignored_ack(known: &Known) -> bool {
    known.state.tcp() == TcpState::SynSent && known.state.has(IGNORED) && known.sides[Direction::Reply as usize].maxwin == 0
}

/// The next state, if the segment is in the window.
fn enter_if_inside(known: &mut Known, direction: Direction, segment: &Segment<'_>, settings: &Settings, to: TcpState) -> Verdict {
    if has_ignored_ack(known) {
        // Where its number was noted, nothing has been sent yet.
        known.sides[Direction::Reply as usize].end = 0;
    }
    let liberal = settings.tcp_be_liberal || known.state.has(LIBERAL);
    match tcp_in_window(&mut known.sides, known.state.tcp(), direction, segment) {
        Judged::Inside => {}
        _ if liberal => {}
        Judged::Ignored => return Verdict::Ignore,
        // What it notes may make the timeout a shorter one, which must not be over at once.
        Judged::Overshot => return Verdict::Forward,
        Judged::Beyond => return Verdict::OutOfWindow,
    }
    enter(known, Kind::of(segment.flags), to)
}

/// The state, and the bits that go with a segment that is believed.
fn enter(known: &mut Known, kind: Kind, to: TcpState) -> Verdict {
    let (old, seen_reply) = (known.state.tcp(), known.state.has(State::SEEN_REPLY));
    let mut state = known.state.with_tcp(to).without(IGNORED);
    if to == TcpState::SynSent2 {
        state = state.with(SIMULTANEOUS_OPEN);
    }
    if seen_reply && matches!(old, TcpState::SynRecv | TcpState::Established) && to == TcpState::Established {
        state = state.with(State::ASSURED);
    }
    known.state = state;
    // Refused at once: there never was a connection.
    match kind {
        Kind::Rst if to == TcpState::Close && !seen_reply => Verdict::End,
        // A SYN sent again: a client that always uses the same port must not keep a connection that nobody answers.
        Kind::Syn if to == TcpState::SynSent && !seen_reply => Verdict::Ignore,
        _ => Verdict::Forward,
    }
}
