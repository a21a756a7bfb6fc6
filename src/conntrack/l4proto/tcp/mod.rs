//! TCP: what a segment does to its connection. As the kernel's `nf_conntrack_proto_tcp.c`; what differs is told here, at the cells of
//! the table (`states`), and in docs/conntrack.md.
//!
//! A segment goes through the table of states, then it must be in the window (`window`), then the connection is in its new state.
//!
//! **RST** (RFC 5961, section 3.2). From the SYN/ACK on until both sides have closed, only a RST with exactly the number that its receiver
//! expects closes the connection: the highest ACK that the receiver has sent, or the end of what the RST's own sender has sent (data before
//! it may be on the way). Any other one that is in the window is forwarded, and the receiver answers a false one by an ACK: the connection
//! stays as it was, its timeout too. A RST below the highest ACK is dropped. In SYN_SENT one of the backend must acknowledge the SYN; any
//! other one is forwarded, and the client does not believe it.
//!
//! **What was ignored.** A SYN of the client in the middle of a connection is forwarded, not believed, and remembered. If the backend
//! answers it by a SYN/ACK, both have forgotten the old connection, and weir follows them; if by an ACK, they have not.
//!
//! Nearly every segment is data or an ACK in an established connection, in order and in the window: [`advance_steady`], inlined, a
//! handful of comparisons. Everything else goes through `judge`.

mod judge;
mod options;
mod state;
mod states;
mod window;

pub use state::TcpState;
pub use window::{highest_ack, note_end};

pub(in crate::conntrack) use window::last_numbers;

pub(in crate::conntrack) use judge::IgnoredSyn;

use super::{Connection, Invalid, L4Proto, Packet, Settings, Step, Wish, put16};
use crate::conntrack::seqadj::sack_adjust;
use crate::conntrack::{Direction, Entry, Family, Found, Now, State, Table, Timeouts};
use crate::packet::tcp::{ACKNOWLEDGMENT, CHECKSUM, DATA_OFFSET, HEADER, SEQUENCE, Segment, WINDOW, flag};
use crate::packet::{Ip, be16, be32, checksum};
use arrayvec::ArrayVec;
use judge::{Known, Verdict, judge};
use states::Kind;
use std::sync::atomic::Ordering::Relaxed;
use window::{Seen, Sides};

// TCP's own bits of the state word; those of each side in the order of [`Direction`].

/// The SYN had the window scale option.
const WINDOW_SCALE: [u32; 2] = [1 << 22, 1 << 23];
/// The side takes SACK.
const SACK_PERM: [u32; 2] = [1 << 24, 1 << 25];
/// The side has sent an ACK.
const MAXACK_SET: [u32; 2] = [1 << 26, 1 << 27];
/// Picked up in the middle: windows are not judged.
const LIBERAL: u32 = 1 << 28;
/// Both sides have sent a SYN.
const SIMULTANEOUS_OPEN: u32 = 1 << 29;
/// The last segment was ignored: a SYN of the client that the table remembers, or in SYN_SENT an ACK of the backend.
const IGNORED: u32 = 1 << 30;
/// Those that follow from what was seen of the sides.
const OF_SIDES: u32 = WINDOW_SCALE[0] | WINDOW_SCALE[1] | SACK_PERM[0] | SACK_PERM[1] | MAXACK_SET[0] | MAXACK_SET[1];

/// Bits of the state word in which a live connection that data flows in differs from all others, and what they are.
const STEADY: (u32, u32) = (
    State::PROTOCOL_STATE | State::ASSURED | State::CONFIRMED | State::DYING | State::HELPER | IGNORED,
    (TcpState::Established as u32) << 8 | State::ASSURED | State::CONFIRMED,
);

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Tcp;

impl L4Proto for Tcp {
    const NUMBER: u8 = 6;

    fn error(packet: Packet<'_>) -> Result<(), Invalid> {
        let length = packet.transport().len();
        if packet.sum(length, length) == 0xffff { Ok(()) } else { Err(Invalid::TcpChecksum) }
    }

    fn new(packet: Packet<'_>, settings: &Settings) -> Result<State, Invalid> {
        match states::first(Kind::of(Segment::read(packet.transport()).flags)) {
            Some(TcpState::SynSent) => Ok(State::new(Self::NUMBER, TcpState::SynSent)),
            Some(picked_up) if settings.tcp_loose => Ok(State::new(Self::NUMBER, picked_up).with(LIBERAL)),
            _ => Err(Invalid::TcpNotSyn),
        }
    }

    fn begin<F: Family>(entry: &Entry<F>, packet: Packet<'_>) {
        let (segment, state) = (Segment::read(packet.transport()), entry.state());
        let sides = if state.has(LIBERAL) { Seen::picked_up(&segment) } else { [Seen::first(&segment), Seen::default()] };
        entry.set_state(state.with(window::bits(&sides)));
        window::store(entry, &Sides::default(), &sides);
    }

    fn packet<F: Family>(connection: &Connection<'_, F>, packet: Packet<'_>) -> Result<Step, Invalid> {
        let segment = Segment::read(packet.transport());
        if connection.found.entry.state().has(State::HELPER) {
            return track_adjusted(connection, &segment);
        }
        track(connection, &segment)
    }

    #[inline(always)]
    fn manip_pkt(transport: &mut [u8], _: Ip, from: u32, to: u32, addresses: u64) {
        transport[..4].copy_from_slice(&to.to_be_bytes());
        let sum = checksum::update(be16(transport, CHECKSUM), addresses + checksum::replace32(from, to));
        put16(transport, CHECKSUM, sum);
    }

    fn unique_tuple(wish: &Wish, number: u32) -> Option<u32> {
        wish.port(number)
    }

    fn can_early_drop(state: State) -> bool {
        use TcpState::{Close, CloseWait, FinWait, LastAck, TimeWait};
        matches!(state.tcp(), FinWait | CloseWait | LastAck | TimeWait | Close)
    }

    fn timeouts<F: Family>(entry: &Entry<F>, state: State, timeouts: &Timeouts) -> u32 {
        timeout(entry, state, timeouts)
    }
}

/// Whether `segment` is plain data or an ACK in a live established connection, in order and in the window. If so, it is noted, and there is
/// nothing else to do; if not, nothing has been changed, and [`L4Proto::packet`] decides. The segment is `length` bytes of `header` and of what
/// is behind it.
///
/// Sufficient conditions of what [`window`] says, each by one comparison: `end` is not below what the sender has sent (3); it is not
/// above the edge that the receiver offers (1); the ACK is at most what the receiver has sent (2) and not too far below it (4); and the
/// sender's own edge and largest window do not shrink or grow beyond what is kept of them.
#[inline(always)]
pub fn advance_steady<F: Family>(
    entry: &Entry<F>,
    direction: Direction,
    state: State,
    flags: u8,
    (header, behind): (&[u8; HEADER], &[u8]),
    length: usize,
) -> bool {
    if state.0 & STEADY.0 != STEADY.1 || flags & (flag::SYN | flag::FIN | flag::RST | flag::ACK) != flag::ACK {
        return false;
    }
    let words = header[DATA_OFFSET] >> 4;
    if words != 5 && !(words == 8 && behind.starts_with(&options::TIMESTAMPS)) {
        return false;
    }
    let ack = be32(header, ACKNOWLEDGMENT);
    let window = be16(header, WINDOW);
    let end = be32(header, SEQUENCE).wrapping_add((length - usize::from(words) * 4) as u32);
    let (sender, receiver) = (entry.side(direction), entry.side(direction.turned()));
    let beyond_sent = end.wrapping_sub(sender.words[0].load(Relaxed)).cast_signed();
    let offered = receiver.words[1]
        .load(Relaxed)
        .wrapping_add(u32::from(receiver.half.load(Relaxed)) << (receiver.byte.load(Relaxed) & 0xf));
    let room = offered.wrapping_sub(end).cast_signed();
    let unacknowledged = receiver.words[0].load(Relaxed).wrapping_sub(ack);
    if (beyond_sent | room) < 0 || unacknowledged > window::MAXACKWINCONST && !window::may_lag(sender, unacknowledged) {
        return false;
    }
    if (ack != sender.words[1].load(Relaxed) || window != sender.half.load(Relaxed)) && !window::advance_edge(sender, ack, window)
    {
        return false;
    }
    sender.words[0].store(end, Relaxed);
    true
}

/// Whether a segment with these flags begins a new connection over the tuple of `found`.
pub fn reopens<F: Family>(found: &Found<'_, F>, flags: u8) -> bool {
    states::cell(found.direction, Kind::of(flags), found.entry.state().tcp()) == states::Cell::Reopen
}

/// A segment of a connection in which a helper replaces text: what it acknowledges are numbers that the other side never used.
#[inline(never)]
fn track_adjusted<F: Family>(connection: &Connection<'_, F>, segment: &Segment<'_>) -> Result<Step, Invalid> {
    let Connection { found, table, .. } = *connection;
    let Some(record) = table.extension(found) else { return track(connection, segment) };
    let edits = &record.stream(found.direction.turned()).edits;
    // At most 40 bytes (RFC 9293, section 3.1).
    let mut options: ArrayVec<u8, 40> = segment.options.iter().copied().take(40).collect();
    sack_adjust(&mut options, |edge| edits.back(edge));
    track(connection, &Segment { acknowledgment: edits.back(segment.acknowledgment), options: &options, ..*segment })
}

/// A segment of a known connection, whatever it is.
fn track<F: Family>(connection: &Connection<'_, F>, segment: &Segment<'_>) -> Result<Step, Invalid> {
    let Connection { found, table, settings, now } = *connection;
    let entry = found.entry;
    let mut state = entry.state();
    loop {
        let syn = if state.has(IGNORED) { table.ignored_syn(found) } else { None };
        let before = Known { state, sides: window::load(entry, state), syn };
        let mut after = before;
        let step = match judge(&mut after, found.direction, segment, settings) {
            Verdict::Forward => Step::Accept,
            Verdict::Ignore => Step::Ignore,
            Verdict::End => Step::End,
            Verdict::Reopen => return Ok(Step::Reopen),
            Verdict::BadState => return Err(Invalid::TcpState),
            Verdict::OutOfWindow => return Err(Invalid::TcpWindow),
            Verdict::BadReset => return Err(Invalid::TcpReset),
        };
        let to = after.state.without(OF_SIDES).with(window::bits(&after.sides));
        if let Some(syn) = after.syn.filter(|_| after.syn != before.syn) {
            table.ignore_syn(found, syn);
        }
        match if to == state { Ok(()) } else { entry.change_state(state, to) } {
            Ok(()) => {
                window::store(entry, &before.sides, &after.sides);
                measure(table, found, state.tcp(), to.tcp(), now);
                return Ok(step);
            }
            Err(now) => state = now,
        }
    }
}

/// Notes the times of a handshake.
fn measure<F: Family>(table: &Table<F>, found: &Found<'_, F>, from: TcpState, to: TcpState, now: Now) {
    let Some(account) = table.account(found) else { return };
    match (found.direction, from, to) {
        (Direction::Original, TcpState::SynSent, TcpState::SynSent) => account.asked_again(now.micros),
        (Direction::Reply, TcpState::SynSent, TcpState::SynRecv) => account.answered(now.micros),
        (Direction::Original, TcpState::SynRecv, TcpState::Established) => account.established(now.micros),
        _ => {}
    }
}

/// Milliseconds of silence that a connection may last.
fn timeout<F: Family>(entry: &Entry<F>, state: State, timeouts: &Timeouts) -> u32 {
    use TcpState::{Close, CloseWait, Established, FinWait, LastAck, None, SynRecv, SynSent, SynSent2, TimeWait};
    let of_state = match state.tcp() {
        None | SynSent | SynSent2 => timeouts.tcp_syn_sent,
        SynRecv => timeouts.tcp_syn_recv,
        Established => timeouts.tcp_established,
        FinWait => timeouts.tcp_fin_wait,
        CloseWait => timeouts.tcp_close_wait,
        LastAck => timeouts.tcp_last_ack,
        TimeWait => timeouts.tcp_time_wait,
        Close => timeouts.tcp_close,
    };
    if of_state > timeouts.tcp_unacknowledged && (!state.has(State::SEEN_REPLY) || window::is_unacknowledged(entry, state)) {
        timeouts.tcp_unacknowledged
    } else {
        of_state
    }
}

#[cfg(test)]
mod tests;
