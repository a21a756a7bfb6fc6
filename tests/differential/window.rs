//! What two sides of a TCP connection have shown of their windows, exactly: what weir keeps rounded, and the measure of what rounding may
//! do.

use super::segment::{ACK, RST, SYN, Segment, Side};

/// An ACK may be this much below what was sent, whatever the windows.
const LEAST_LAG: u32 = 66_000;

fn after(one: u32, other: u32) -> bool {
    other.wrapping_sub(one).cast_signed() < 0
}

/// One side.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Behind what it has sent.
    pub(crate) end: u32,
    /// The highest ACK that it has sent.
    pub(crate) acked: Option<u32>,
    /// It has sent what was not acknowledged, but far below something that it had sent before.
    pub(crate) was_wanted: bool,
    /// How far it may send.
    pub(crate) edge: u32,
    /// The largest window that it has offered; 0: it has sent nothing.
    pub(crate) largest: u32,
    /// The shift of its windows, and the one that its SYN offered.
    pub(crate) scale: u8,
    offered: Option<u8>,
    /// What weir takes for its largest window: a power of two, in units of the scale, and at least four of those.
    pub(crate) kept: u32,
    sack: bool,
    /// What its SYNs have offered: SACK, window scale.
    once: [bool; 2],
}

impl Seen {
    fn begin(segment: &Segment) -> Self {
        let option = |kind: u8| segment.options.iter().position(|byte| *byte == kind);
        let window = u32::from(segment.window.max(1));
        let offered = option(3).map(|at| segment.options[at + 2].min(14));
        let scale = offered.unwrap_or(0);
        let (end, edge, sack) = (segment.end(), segment.end(), option(4).is_some());
        let once = [sack, offered.is_some()];
        let mut seen =
            Self { end, acked: None, was_wanted: false, edge, largest: window, scale, offered, kept: window, sack, once };
        seen.round();
        seen
    }

    /// Its last SYN does not offer what one before did.
    pub(crate) fn took_back(&self) -> bool {
        self.once != [self.sack, self.offered.is_some()]
    }

    fn round(&mut self) {
        if self.kept > 0 {
            let units = self.kept.div_ceil(1 << self.scale).next_power_of_two();
            self.kept = units.clamp(4, 0x1_0000) << self.scale;
        }
    }
}

/// Both sides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Windows {
    client: Seen,
    backend: Seen,
}

impl Windows {
    pub(crate) fn of(&self, side: Side) -> &Seen {
        if side == Side::Client { &self.client } else { &self.backend }
    }

    /// A SYN that was ignored turns out to be the one that counts.
    pub(crate) fn begin_anew(&mut self, syn: &Segment) {
        *self = Self { client: Seen::begin(syn), backend: Seen::default() };
    }

    /// Notes a segment that is looked at in this state, if it is inside.
    pub(crate) fn note(&mut self, segment: &Segment, state: &str) -> bool {
        let (mut sender, mut receiver) = (*self.of(segment.from), *self.of(segment.from.other()));
        let is = |flag: u8| segment.flags & flag != 0;
        let begins =
            is(SYN) && (sender.largest == 0 || after(segment.end(), sender.end) && ["SYN_SENT", "SYN_RECV"].contains(&state));
        if begins {
            let [sack, scaling] = sender.once;
            sender = Seen::begin(segment);
            sender.once = [sender.once[0] || sack, sender.once[1] || scaling];
            if segment.from == Side::Backend && (sender.offered.is_none() || receiver.offered.is_none()) {
                (sender.scale, receiver.scale) = (0, 0);
            }
        } else if sender.largest == 0 {
            let window = (u32::from(segment.window) << sender.scale).max(1);
            (sender.end, sender.largest, sender.edge) = (segment.end(), window, segment.end().wrapping_add(window));
            sender.kept = window;
            sender.sack |= state.is_empty();
            if receiver.largest == 0 {
                (receiver.end, receiver.edge) = (segment.acknowledgment, segment.acknowledgment);
                receiver.sack = true;
            }
        }
        let is_inside = begins && !is(ACK) || look(segment, &mut sender, &mut receiver);
        sender.round();
        receiver.round();
        let both = if segment.from == Side::Client { (sender, receiver) } else { (receiver, sender) };
        (self.client, self.backend) = both;
        is_inside
    }
}

fn look(segment: &Segment, sender: &mut Seen, receiver: &mut Seen) -> bool {
    let (ack, sack) = numbers(segment, receiver);
    let end = segment.end();
    let is_wanted = receiver.acked.is_some_and(|acked| !after(acked, end));
    let is_recent = after(end, sender.end.wrapping_sub(receiver.largest).wrapping_sub(1)) || receiver.largest == 0;
    sender.was_wanted |= is_wanted && !is_recent;
    let is_recent = is_recent || is_wanted;
    let ack_is_recent = after(sack, receiver.end.wrapping_sub(sender.largest.max(LEAST_LAG)).wrapping_sub(1));
    if !is_recent || !ack_is_recent || after(sack, receiver.end) {
        return false;
    }
    if after(segment.sequence, sender.edge) {
        if end.wrapping_sub(sender.edge) < receiver.kept {
            sender.end = end;
        }
        return false;
    }
    let window = u32::from(segment.window) << if segment.flags & SYN != 0 { 0 } else { sender.scale };
    let offered = window.wrapping_add(sack.wrapping_sub(ack));
    (sender.largest, sender.kept) = (sender.largest.max(offered), sender.kept.max(offered));
    if after(end, sender.end) {
        sender.end = end;
    }
    if segment.flags & ACK != 0 && sender.acked.is_none_or(|acked| after(ack, acked)) {
        sender.acked = Some(ack);
    }
    if receiver.largest != 0 && after(end, sender.edge) {
        receiver.largest += end.wrapping_sub(sender.edge);
        receiver.kept += end.wrapping_sub(sender.edge);
    }
    let edge = sack.wrapping_add(window);
    if !after(receiver.edge, edge) {
        receiver.edge = edge.wrapping_add(u32::from(window == 0));
    }
    true
}

/// The ACK of a segment, and with SACK the highest number that it says was received.
pub(crate) fn numbers(segment: &Segment, receiver: &Seen) -> (u32, u32) {
    if segment.flags & ACK == 0 || segment.flags & RST != 0 && segment.acknowledgment == 0 {
        return (receiver.end, receiver.end);
    }
    let ack = segment.acknowledgment;
    let sack = segment.sack.filter(|edge| receiver.sack && after(*edge, ack)).unwrap_or(ack);
    (ack, sack)
}

/// States in which only an exact RST closes.
pub(crate) const STRICT: [&str; 5] = ["SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK"];

/// Whether the windows are asked about such a segment: not if it is ignored whatever it says, nor a RST of what closes.
pub(crate) fn is_looked_at(segment: &Segment, state: &str) -> bool {
    let handshake = ["", "SYN_SENT", "SYN_SENT2"].contains(&state);
    match segment.flags {
        flags if flags & RST != 0 => handshake || ["SYN_RECV", "ESTABLISHED"].contains(&state),
        SYN => handshake,
        flags if flags & SYN != 0 => handshake || segment.from == Side::Client,
        flags if flags == ACK && segment.from == Side::Backend => !["SYN_SENT", "SYN_SENT2"].contains(&state),
        _ => true,
    }
}
