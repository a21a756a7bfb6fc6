//! TCP: what a segment does to the state of its connection.
//!
//! The states and moves are those of the kernel's `nf_conntrack_proto_tcp.c`; a load balancer departs from them only where the
//! comment of a cell says so.

use super::{Invalid, L4Proto, Packet, TcpState, Wish, put16};
use crate::conntrack::{Direction, Entry, Family, State, Timeouts};
use crate::packet::tcp::flag;
use crate::packet::{Ip, Payload, be16, checksum, tcp};

use TcpState::{Close, CloseWait, Established, FinWait, LastAck, SynRecv, SynSent, SynSent2, TimeWait};

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Tcp;

impl L4Proto for Tcp {
    const NUMBER: u8 = 6;

    fn error(packet: Packet<'_>) -> Result<(), Invalid> {
        let length = packet.transport().len();
        if packet.sum(length, length) == 0xffff { Ok(()) } else { Err(Invalid::TcpChecksum) }
    }

    /// SYN alone opens a connection (mid-stream pick-up is not done).
    fn new(packet: Packet<'_>) -> Result<State, Invalid> {
        if kind(flags_of(packet)) == Kind::Syn { Ok(State::new(Self::NUMBER, SynSent)) } else { Err(Invalid::TcpNotSyn) }
    }

    fn packet<F: Family>(entry: &Entry<F>, direction: Direction, packet: Packet<'_>) -> Result<super::Step, Invalid> {
        let flags = flags_of(packet);
        let mut seen = entry.state();
        loop {
            let next = match step(seen.tcp(), direction, flags) {
                Step::To(to) => advance(seen, direction, to),
                Step::Ignore => return Ok(super::Step::Accept),
                Step::Invalid => return Err(Invalid::TcpState),
                Step::Reopen => return Ok(super::Step::Reopen),
            };
            if next == seen {
                return Ok(super::Step::Accept);
            }
            match entry.change_state(seen, next) {
                Ok(()) => return Ok(super::Step::Accept),
                Err(now) => seen = now,
            }
        }
    }

    #[inline(always)]
    fn manip_pkt(transport: &mut [u8], _: Ip, from: u32, to: u32, addresses: u64) {
        transport[..4].copy_from_slice(&to.to_be_bytes());
        let sum = checksum::update(be16(transport, tcp::CHECKSUM), addresses + checksum::replace32(from, to));
        put16(transport, tcp::CHECKSUM, sum);
    }

    fn unique_tuple(wish: &Wish, number: u32) -> Option<u32> {
        wish.port(number)
    }

    fn can_early_drop(state: State) -> bool {
        matches!(state.tcp(), FinWait | CloseWait | LastAck | TimeWait | Close)
    }

    fn timeouts(state: State, timeouts: &Timeouts) -> u32 {
        timeout(state.tcp(), timeouts)
    }
}

fn flags_of(packet: Packet<'_>) -> u8 {
    match packet.headers.payload {
        Payload::Tcp(flags) => flags,
        _ => 0,
    }
}

/// What to do with a segment of a known connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The connection is in this state now.
    To(TcpState),
    /// Forward it, the state stays (a retransmission, or one the other side will answer).
    Ignore,
    /// Drop it.
    Invalid,
    /// A new connection over the tuple of one that has ended: end the old one, begin anew.
    Reopen,
}

/// Kinds of segment, by the flags that matter for the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
}

/// The parser has refused every other combination.
fn kind(flags: u8) -> Kind {
    match flags & (flag::SYN | flag::ACK | flag::FIN | flag::RST) {
        of if of & flag::RST != 0 => Kind::Rst,
        of if of & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK => Kind::SynAck,
        of if of & flag::SYN != 0 => Kind::Syn,
        of if of & flag::FIN != 0 => Kind::Fin,
        _ => Kind::Ack,
    }
}

/// Whether a segment is data or an ACK of an established connection: [`step`] would change nothing.
#[inline(always)]
pub fn is_steady(state: State, flags: u8) -> bool {
    state.tcp() == Established && flags & (flag::SYN | flag::FIN | flag::RST | flag::ACK) == flag::ACK
}

/// What a segment with `flags` does in this direction.
pub fn step(state: TcpState, direction: Direction, flags: u8) -> Step {
    match direction {
        Direction::Original => step_original(state, kind(flags)),
        Direction::Reply => step_reply(state, kind(flags)),
    }
}

fn step_original(state: TcpState, kind: Kind) -> Step {
    match (kind, state) {
        // The first one, or a retransmission of it.
        (Kind::Syn, TcpState::None | SynSent) => Step::To(SynSent),
        // Simultaneous open went on.
        (Kind::Syn, SynSent2) => Step::To(SynSent2),
        // The client reuses its port: the old connection has ended for both sides.
        (Kind::Syn, TimeWait | Close) => Step::Reopen,
        // Either a late duplicate or a client that has forgotten: the backend answers with an ACK, the client decides (RFC 5961, 4.2).
        (Kind::Syn, _) => Step::Ignore,
        // Simultaneous open: the client answers the backend's SYN.
        (Kind::SynAck, SynSent2 | SynRecv) => Step::To(SynRecv),
        (Kind::SynAck, _) => Step::Invalid,
        (Kind::Fin, SynRecv | Established) => Step::To(FinWait),
        // The client's FIN behind the backend's: both have closed.
        (Kind::Fin, FinWait | CloseWait | LastAck) => step_fin_again(state),
        // A retransmitted FIN; the backend's last ACK was lost.
        (Kind::Fin, TimeWait) => Step::To(TimeWait),
        (Kind::Fin, Close) => Step::To(Close),
        // A FIN before the handshake's end.
        (Kind::Fin, _) => Step::Invalid,
        // The end of the handshake.
        (Kind::Ack, SynRecv | Established) => Step::To(Established),
        (Kind::Ack, FinWait | CloseWait) => Step::To(CloseWait),
        (Kind::Ack, LastAck | TimeWait) => Step::To(TimeWait),
        (Kind::Ack, Close) => Step::To(Close),
        // Nothing to acknowledge yet.
        (Kind::Ack, _) => Step::Invalid,
        (Kind::Rst, TcpState::None) => Step::Invalid,
        (Kind::Rst, _) => Step::To(Close),
    }
}

fn step_reply(state: TcpState, kind: Kind) -> Step {
    match (kind, state) {
        // Simultaneous open.
        (Kind::Syn, SynSent | SynSent2) => Step::To(SynSent2),
        // A backend does not open connections to clients; the kernel would reopen in TIME_WAIT.
        (Kind::Syn, _) => Step::Invalid,
        (Kind::SynAck, SynSent | SynSent2) => Step::To(SynRecv),
        // A retransmission, or one that belongs to an earlier connection: the client's answer will tell.
        (Kind::SynAck, _) => Step::Ignore,
        (Kind::Fin, SynRecv | Established) => Step::To(FinWait),
        (Kind::Fin, FinWait | CloseWait | LastAck) => step_fin_again(state),
        (Kind::Fin, TimeWait) => Step::To(TimeWait),
        (Kind::Fin, Close) => Step::To(Close),
        (Kind::Fin, _) => Step::Invalid,
        // The backend acknowledges the SYN of a connection it still has (a challenge ACK): the client will reset it.
        (Kind::Ack, SynSent | SynSent2) => Step::Ignore,
        (Kind::Ack, SynRecv) => Step::To(SynRecv),
        (Kind::Ack, Established) => Step::To(Established),
        (Kind::Ack, FinWait | CloseWait) => Step::To(CloseWait),
        (Kind::Ack, LastAck | TimeWait) => Step::To(TimeWait),
        (Kind::Ack, Close) => Step::To(Close),
        (Kind::Ack, TcpState::None) => Step::Invalid,
        (Kind::Rst, TcpState::None) => Step::Invalid,
        (Kind::Rst, _) => Step::To(Close),
    }
}

/// A FIN where one was already seen: the second side's, or a retransmission of either.
fn step_fin_again(state: TcpState) -> Step {
    match state {
        // As the kernel: whose FIN it is, is not told apart; LAST_ACK lasts long enough for both.
        FinWait | CloseWait | LastAck => Step::To(LastAck),
        other => Step::To(other),
    }
}

/// The state word after a step, with the bits that go with it.
pub fn advance(state: State, direction: Direction, to: TcpState) -> State {
    let from = state.tcp();
    let mut state = state.with_tcp(to);
    if direction == Direction::Reply {
        state = state.with(State::SEEN_REPLY);
    }
    // Both sides have answered: a real connection, not given up first.
    if to == Established && from == SynRecv {
        state = state.with(State::ASSURED);
    }
    state
}

/// Milliseconds of silence that a state may last.
pub fn timeout(state: TcpState, timeouts: &Timeouts) -> u32 {
    match state {
        TcpState::None | SynSent | SynSent2 => timeouts.tcp_syn_sent,
        SynRecv => timeouts.tcp_syn_recv,
        Established => timeouts.tcp_established,
        FinWait => timeouts.tcp_fin_wait,
        CloseWait => timeouts.tcp_close_wait,
        LastAck => timeouts.tcp_last_ack,
        TimeWait => timeouts.tcp_time_wait,
        Close => timeouts.tcp_close,
    }
}
