//! DCCP (RFC 4340). States and moves are those of the kernel's `nf_conntrack_proto_dccp.c`.
//!
//! The roles are those of the directions: the client is who sends packets of the original one. The kernel turns them round where a server
//! reopens a connection in TIMEWAIT; a backend does not open connections to clients, so that cell is invalid here.
//!
//! Of each side the greatest sequence number is remembered, 48 bits in the first word and the half. What closes or resets a connection must
//! be just ahead of it (RFC 4340, section 7.5.3), which nobody can guess who does not see the packets. All others are not judged by numbers.

use super::{Connection, DccpState, Invalid, L4Proto, Packet, Settings, Step, Wish, put16};
use crate::conntrack::{Direction, Entry, Family, Side, State, Timeouts};
use crate::packet::dccp::{self, CHECKSUM, kind};
use crate::packet::{Ip, Payload, be16, checksum};
use DccpState::{CloseReq, Closing, Open, PartOpen, Request, Respond, TimeWait};
use std::sync::atomic::Ordering::Relaxed;

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Dccp;

/// What a packet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The connection is in this state now.
    To(DccpState),
    /// It goes on; what it means only the ends know.
    Ignore,
    /// It may not come.
    Invalid,
    /// A new connection over the tuple of one that has ended.
    Reopen,
}

impl L4Proto for Dccp {
    const NUMBER: u8 = 33;

    fn error(packet: Packet<'_>) -> Result<(), Invalid> {
        let transport = packet.transport();
        // Section 9: what the coverage leaves out may be damaged.
        if packet.sum(transport.len(), dccp::covered(transport)) == 0xffff { Ok(()) } else { Err(Invalid::DccpChecksum) }
    }

    fn new(packet: Packet<'_>, _: &Settings) -> Result<State, Invalid> {
        match kind_of(packet) {
            kind::REQUEST => Ok(State::of(Self::NUMBER, Request as u8)),
            _ => Err(Invalid::DccpNotRequest),
        }
    }

    fn begin<F: Family>(entry: &Entry<F>, packet: Packet<'_>) {
        set_greatest(entry.side(Direction::Original), dccp::sequence(packet.transport()));
    }

    fn packet<F: Family>(connection: &Connection<'_, F>, packet: Packet<'_>) -> Result<Step, Invalid> {
        let (entry, direction) = (connection.found.entry, connection.found.direction);
        let (kind, transport) = (kind_of(packet), packet.transport());
        let mut seen = entry.state();
        loop {
            let state = DccpState::of(seen);
            let to = match step(state, direction, kind) {
                Move::To(_) if !is_believed(entry, (state, direction), (kind, transport)) => return Ok(Step::Ignore),
                Move::To(to) => to,
                Move::Reopen => return Ok(Step::Reopen),
                Move::Invalid => return Err(Invalid::DccpState),
                // The table may be behind: the server's answer to a Request that was let pass is believed.
                Move::Ignore if kind == kind::RESPONSE && note_ignored(entry.side(Direction::Original), false) => {
                    // The Request that it answers is where the client is now: the beginning of a connection.
                    set_greatest(entry.side(Direction::Original), dccp::acknowledgment(transport).unwrap_or(0));
                    Respond
                }
                Move::Ignore => {
                    note_ignored(entry.side(direction), kind == kind::REQUEST);
                    return Ok(Step::Ignore);
                }
            };
            let mut next = seen.with_phase(to as u8);
            if direction == Direction::Reply {
                next = next.with(State::SEEN_REPLY);
            }
            if acknowledges_response(entry, (state, to), packet) {
                next = next.with(State::ASSURED);
            }
            match entry.change_state(seen, next) {
                // Just this number the client must acknowledge.
                Ok(()) if kind == kind::RESPONSE => set_greatest(entry.side(Direction::Reply), dccp::sequence(transport)),
                Ok(()) => note_sequence(entry.side(direction), transport),
                Err(now) => {
                    seen = now;
                    continue;
                }
            }
            return Ok(Step::Accept);
        }
    }

    fn manip_pkt(transport: &mut [u8], _: Ip, from: u32, to: u32, addresses: u64) {
        // Addresses and ports are always covered, whatever the coverage.
        let sum = checksum::update(be16(transport, CHECKSUM), addresses + checksum::replace32(from, to));
        transport[..4].copy_from_slice(&to.to_be_bytes());
        put16(transport, CHECKSUM, sum);
    }

    fn unique_tuple(wish: &Wish, number: u32) -> Option<u32> {
        wish.port(number)
    }

    fn can_early_drop(state: State) -> bool {
        matches!(DccpState::of(state), CloseReq | Closing | TimeWait)
    }

    fn timeouts<F: Family>(_: &Entry<F>, state: State, timeouts: &Timeouts) -> u32 {
        match DccpState::of(state) {
            DccpState::None | Request => timeouts.dccp_request,
            Respond => timeouts.dccp_respond,
            PartOpen => timeouts.dccp_partopen,
            Open => timeouts.dccp_open,
            CloseReq => timeouts.dccp_closereq,
            Closing => timeouts.dccp_closing,
            TimeWait => timeouts.dccp_timewait,
        }
    }
}

/// What a packet of this type does in this direction.
pub fn step(state: DccpState, direction: Direction, kind: u8) -> Move {
    match direction {
        Direction::Original => step_client(state, kind),
        Direction::Reply => step_server(state, kind),
    }
}

fn step_client(state: DccpState, kind: u8) -> Move {
    use Move::{Ignore, Invalid, To};
    match (kind, state) {
        // The first one, or a retransmission of it (section 8.1.1).
        (kind::REQUEST, DccpState::None | Request) => To(Request),
        // Reincarnation (section 8.1.2): a new choice of backend.
        (kind::REQUEST, TimeWait) => Move::Reopen,
        // A late one, or a client that has forgotten: the server's answer will tell.
        (kind::REQUEST, _) => Ignore,
        // Only a server sends these.
        (kind::RESPONSE | kind::CLOSE_REQ, _) => Invalid,
        // Nothing is there yet, or not any more.
        (_, DccpState::None) => Invalid,
        // A Reset ends every state (section 8.3); in REQUEST it is the answer to a Response that does not fit, or a timeout.
        (kind::RESET, _) => To(TimeWait),
        // Where the other side is, only the ends can tell.
        (kind::SYNC | kind::SYNC_ACK, _) => Ignore,
        // No Response yet.
        (_, Request) => Invalid,
        // Late; everything was said.
        (_, TimeWait) => Invalid,
        // The Response is acknowledged (section 8.1.5).
        (kind::ACK | kind::DATA_ACK, Respond | PartOpen) => To(PartOpen),
        // Data alone may not come before OPEN (section 8.1.5: DataAck in PARTOPEN).
        (kind::DATA, Respond | PartOpen) => Invalid,
        // The client's Response is not acknowledged, so there is nothing to close.
        (kind::CLOSE, Respond) => Invalid,
        // By itself, in answer to CloseReq, or again.
        (kind::CLOSE, _) => To(Closing),
        // Data and acknowledgments of an open connection, also while it closes.
        (_, other) => To(other),
    }
}

fn step_server(state: DccpState, kind: u8) -> Move {
    use Move::{Ignore, Invalid, To};
    match (kind, state) {
        // A backend does not open connections to clients; the kernel turns the roles round in TIMEWAIT.
        (kind::REQUEST, _) | (_, DccpState::None) => Invalid,
        (kind::RESPONSE, Request | Respond) => To(Respond),
        (kind::RESPONSE, TimeWait) => Invalid,
        // A late one, or the answer to a Request that was let pass.
        (kind::RESPONSE, _) => Ignore,
        (kind::RESET, _) => To(TimeWait),
        (kind::SYNC | kind::SYNC_ACK, _) => Ignore,
        // The client has not acknowledged the Response.
        (_, Request | Respond | TimeWait) => Invalid,
        // What follows the Response opens the connection (section 8.1.5).
        (kind::ACK | kind::DATA | kind::DATA_ACK, PartOpen | Open) => To(Open),
        // The server has said that it is done.
        (kind::ACK | kind::DATA | kind::DATA_ACK, CloseReq) => Invalid,
        // May still be processed (section 8.3).
        (kind::ACK | kind::DATA | kind::DATA_ACK, Closing) => To(Closing),
        // From OPEN, or directly; in CLOSING both close at once, and the client sends its Close again.
        (kind::CLOSE_REQ, _) => To(CloseReq),
        // After CloseReq it is the client's to close.
        (kind::CLOSE, CloseReq) => Invalid,
        (kind::CLOSE, _) => To(Closing),
        // The parser knows no other type.
        _ => Invalid,
    }
}

fn kind_of(packet: Packet<'_>) -> u8 {
    match packet.headers.payload {
        Payload::Dccp(kind) => kind,
        _ => kind::COUNT,
    }
}

/// Notes whether the last packet of a side that was let pass was a Request; tells whether the one before was.
fn note_ignored(side: Side<'_>, is_request: bool) -> bool {
    side.byte.swap(u8::from(is_request), Relaxed) != 0
}

/// How far ahead of the greatest number a packet may be; the ends' own windows (RFC 4340, section 7.5.2) are announced in options and mostly smaller.
const WINDOW: u64 = 1 << 16;
/// Sequence numbers wrap (section 7.1).
const NUMBERS: u64 = (1 << 48) - 1;

/// By how much a number is ahead of another one.
fn ahead(number: u64, of: u64) -> u64 {
    number.wrapping_sub(of) & NUMBERS
}

/// The greatest sequence number of a side.
fn greatest(side: Side<'_>) -> u64 {
    u64::from(side.half.load(Relaxed)) << 32 | u64::from(side.words[0].load(Relaxed))
}

fn set_greatest(side: Side<'_>, sequence: u64) {
    side.words[0].store(sequence as u32, Relaxed);
    side.half.store((sequence >> 32) as u16, Relaxed);
}

/// Notes how far a side is, unless that is farther than it can be.
fn note_sequence(side: Side<'_>, transport: &[u8]) {
    let known = greatest(side);
    let ahead = match dccp::short_sequence(transport) {
        Some(short) => ahead(u64::from(short), known) & 0xff_ffff,
        None => ahead(dccp::sequence(transport), known),
    };
    if (1..=WINDOW).contains(&ahead) {
        set_greatest(side, (known + ahead) & NUMBERS);
    }
}

/// Whether a packet may do to the connection what its type says: one that closes it or ends it may be forged.
fn is_believed<F: Family>(entry: &Entry<F>, (state, direction): (DccpState, Direction), (kind, transport): (u8, &[u8])) -> bool {
    match (kind, state, direction) {
        // There is nothing left to protect.
        (_, TimeWait, _) => true,
        // Section 8.3.1: it has the number 0, if its sender knows no better, and acknowledges the Request, or one before.
        (kind::RESET, Request, Direction::Reply) => dccp::acknowledgment(transport)
            .is_some_and(|acknowledged| ahead(greatest(entry.side(Direction::Original)), acknowledged) <= WINDOW),
        (kind::RESET | kind::CLOSE | kind::CLOSE_REQ, ..) => {
            (1..=WINDOW).contains(&ahead(dccp::sequence(transport), greatest(entry.side(direction))))
        }
        _ => true,
    }
}

/// Whether the client has answered just this Response, so that its address is not forged.
fn acknowledges_response<F: Family>(entry: &Entry<F>, (from, to): (DccpState, DccpState), packet: Packet<'_>) -> bool {
    if (from, to) != (Respond, PartOpen) {
        return false;
    }
    dccp::acknowledgment(packet.transport()) == Some(greatest(entry.side(Direction::Reply)))
}
