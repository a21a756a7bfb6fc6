//! What a segment does to the state of its connection: the table of the kernel's `nf_conntrack_proto_tcp.c`, a comment for each cell.
//!
//! weir stands in the middle: it sees every segment, but not whether it arrives. Cells that differ from the kernel's say so.

use super::TcpState;
use crate::conntrack::Direction;
use crate::packet::tcp::flag;

/// A cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// The connection is in this state now, if the segment is in the window.
    To(TcpState),
    /// Forward it, the state stays: it may be a duplicate, or of a connection that both sides know better than weir. The receiver
    /// answers it, and the answer shows which.
    Ignore,
    /// Nobody sends this here.
    Invalid,
    /// A new connection over the tuple of one that has ended.
    Reopen,
}

/// Kinds of segment, by the flags that matter for the state. The parser has refused every other combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    /// None of these flags.
    None,
}

impl Kind {
    pub(super) fn of(flags: u8) -> Self {
        match flags & (flag::SYN | flag::ACK | flag::FIN | flag::RST) {
            of if of & flag::RST != 0 => Self::Rst,
            of if of & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK => Self::SynAck,
            of if of & flag::SYN != 0 => Self::Syn,
            of if of & flag::FIN != 0 => Self::Fin,
            of if of & flag::ACK != 0 => Self::Ack,
            _ => Self::None,
        }
    }
}

/// The cell for a segment of this kind and direction in this state.
pub(super) fn cell(direction: Direction, kind: Kind, state: TcpState) -> Cell {
    CELLS[direction as usize][kind as usize][state as usize]
}

/// The state of a connection that a segment opens, were it the first one seen; `None`: it opens none.
pub(super) fn first(kind: Kind) -> Option<TcpState> {
    match cell(Direction::Original, kind, TcpState::None) {
        Cell::To(state) => Some(state),
        _ => None,
    }
}

const SS: Cell = Cell::To(TcpState::SynSent);
const SR: Cell = Cell::To(TcpState::SynRecv);
const ES: Cell = Cell::To(TcpState::Established);
const FW: Cell = Cell::To(TcpState::FinWait);
const CW: Cell = Cell::To(TcpState::CloseWait);
const LA: Cell = Cell::To(TcpState::LastAck);
const TW: Cell = Cell::To(TcpState::TimeWait);
const CL: Cell = Cell::To(TcpState::Close);
const S2: Cell = Cell::To(TcpState::SynSent2);
const IG: Cell = Cell::Ignore;
const IV: Cell = Cell::Invalid;
const RE: Cell = Cell::Reopen;

/// By direction, kind and state; the states in the order of [`TcpState`]:
/// NONE, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE, SYN_SENT2.
#[rustfmt::skip]
const CELLS: [[[Cell; 10]; 6]; 2] = [
    [ // From the client.
        // SYN
        [SS, SS, IG, IG, IG, IG, IG, RE, RE, S2],
        //  NONE         SS  a new connection
        //  SYN_SENT     SS  a SYN sent again
        //  SYN_RECV     IG  a SYN sent again that crossed the SYN/ACK
        //  ESTABLISHED  IG  a client that has forgotten, or a forged SYN: the backend answers by an ACK (RFC 5961, section 4.2)
        //  FIN_WAIT     IG  the same; if the backend has forgotten too, it answers by a SYN/ACK, and weir follows
        //  CLOSE_WAIT   IG  the same
        //  LAST_ACK     IG  the same
        //  TIME_WAIT    RE  the client uses its port again (RFC 9293, section 3.6.1). The kernel keeps the translation where nobody closed
        //                   first; a load balancer chooses anew, since the old backend may be gone or draining
        //  CLOSE        RE  the same after a RST
        //  SYN_SENT2    S2  a SYN sent again in a simultaneous open
        // SYN/ACK
        [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR],
        //  NONE         IV  nobody asked
        //  SYN_SENT     IV  the client cannot answer what the backend has not sent
        //  SYN_RECV     SR  sent again in a simultaneous open
        //  ESTABLISHED  IV  a client answers no SYN here
        //  FIN_WAIT     IV  the same
        //  CLOSE_WAIT   IV  the same
        //  LAST_ACK     IV  the same
        //  TIME_WAIT    IV  the same
        //  CLOSE        IV  the same
        //  SYN_SENT2    SR  the client's answer to the backend's SYN in a simultaneous open
        // FIN
        [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
        //  NONE         IV  too late
        //  SYN_SENT     IV  not before the backend has answered
        //  SYN_RECV     FW  the client closes at once
        //  ESTABLISHED  FW  the client closes
        //  FIN_WAIT     LA  the backend has closed before; or a FIN sent again, which is not told apart
        //  CLOSE_WAIT   LA  the second close
        //  LAST_ACK     LA  a FIN sent again
        //  TIME_WAIT    TW  a FIN sent again, the last ACK was lost
        //  CLOSE        CL  it is over anyway
        //  SYN_SENT2    IV  not before the handshake's end
        // ACK, with data or without
        [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV],
        //  NONE         ES  the middle of a connection, if it may be picked up (`tcp_loose`)
        //  SYN_SENT     IV  nothing to acknowledge yet
        //  SYN_RECV     ES  the end of the handshake
        //  ESTABLISHED  ES  data
        //  FIN_WAIT     CW  acknowledges the backend's FIN; or what came before its own
        //  CLOSE_WAIT   CW  data or an ACK of it while one side is closed
        //  LAST_ACK     TW  the last ACK
        //  TIME_WAIT    TW  the last ACK sent again
        //  CLOSE        CL  it is over anyway
        //  SYN_SENT2    IV  not before a SYN/ACK
        // RST
        [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
        //  NONE         IV  of nothing
        //  all others   CL  if it is exact where that is asked for: see the head of `tcp`
        // none of these flags
        [IV, IV, IV, IV, IV, IV, IV, IV, IV, IV],
        //  all          IV  every segment after the first SYN has ACK (RFC 9293, section 3.1)
    ],
    [ // From the backend.
        // SYN
        [IV, S2, IV, IV, IV, IV, IV, IV, IV, S2],
        //  NONE         IV  a backend opens no connection
        //  SYN_SENT     S2  a simultaneous open
        //  SYN_RECV     IV  it has already answered
        //  ESTABLISHED  IV  the same
        //  FIN_WAIT     IV  the same
        //  CLOSE_WAIT   IV  the same
        //  LAST_ACK     IV  the same
        //  TIME_WAIT    IV  the kernel lets either side open again; the SNAT port leads to one client, who asked for nothing
        //  CLOSE        IV  the same
        //  SYN_SENT2    S2  a SYN sent again in a simultaneous open
        // SYN/ACK
        [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR],
        //  NONE         IV  nobody asked
        //  SYN_SENT     SR  the backend accepts
        //  SYN_RECV     IG  sent again; if it answers a SYN that was ignored, weir follows
        //  ESTABLISHED  IG  sent again, the client's ACK was lost; or it answers a SYN that was ignored: weir follows
        //  FIN_WAIT     IG  the same
        //  CLOSE_WAIT   IG  the same
        //  LAST_ACK     IG  the same
        //  TIME_WAIT    IG  a stale one: it opens nothing
        //  CLOSE        IG  the same
        //  SYN_SENT2    SR  the backend's answer in a simultaneous open
        // FIN
        [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
        //  NONE         IV  too late
        //  SYN_SENT     IV  not before it has answered
        //  SYN_RECV     FW  the backend closes at once
        //  ESTABLISHED  FW  the backend closes
        //  FIN_WAIT     LA  the client has closed before; or a FIN sent again
        //  CLOSE_WAIT   LA  the second close
        //  LAST_ACK     LA  a FIN sent again
        //  TIME_WAIT    TW  a FIN sent again, the last ACK was lost
        //  CLOSE        CL  it is over anyway
        //  SYN_SENT2    IV  not before the handshake's end
        // ACK, with data or without
        [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG],
        //  NONE         IV  of nothing
        //  SYN_SENT     IG  the backend still has an older connection (RFC 5961, section 4.2): the client resets that one
        //  SYN_RECV     SR  answers a SYN sent again; in a simultaneous open it ends the handshake
        //  ESTABLISHED  ES  data
        //  FIN_WAIT     CW  acknowledges the client's FIN; or what came before its own
        //  CLOSE_WAIT   CW  data or an ACK of it while one side is closed
        //  LAST_ACK     TW  the last ACK
        //  TIME_WAIT    TW  the last ACK sent again
        //  CLOSE        CL  it is over anyway
        //  SYN_SENT2    IG  as in SYN_SENT
        // RST
        [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
        //  NONE         IV  of nothing
        //  all others   CL  if it is exact where that is asked for
        // none of these flags
        [IV, IV, IV, IV, IV, IV, IV, IV, IV, IV],
        //  all          IV  as above
    ],
];
