//! Where weir differs from the kernel on purpose: each by name, and with no more room than it needs. docs/conntrack.md says why.

use super::Both;
use super::machine::{Shown, Step};
use super::script::Known;
use super::segment::{ACK, RST, SYN, Segment, Side};
use weir::conntrack::Timeouts;

/// The difference that explains what was seen, if one does.
pub(crate) fn name(before: &Known, segment: &Segment, both: &Both) -> Option<&'static str> {
    let seen = Seen { before, segment, both };
    let known = [
        ("a SYN over an ended connection is a new connection", seen.is_reopened()),
        ("a backend opens no connection", seen.is_syn_of_backend()),
        ("a RST behind what its sender sent is exact", seen.is_reset_behind_data()),
        ("SYN_SENT2 lasts as long as SYN_SENT", seen.only_timeouts_differ() && seen.states().0 == "SYN_SENT2"),
        ("what is dropped shortens no timeout", seen.only_timeouts_differ() && !both.weir.forwarded),
        ("what is unacknowledged follows from the numbers", seen.is_unacknowledged_to_one()),
        ("a RST answers an ignored ACK by its number, not by its ACK", seen.is_reset_by_ack()),
        ("a challenge ACK shows that a SYN was not meant", seen.is_late_answer()),
        ("what is dropped changes nothing", before.dropped),
        ("a RST in the handshake is looked at like any segment", before.reset_early),
        ("the largest window is rounded up: data beyond the edge", seen.is_just_beyond()),
        ("the largest window is rounded up: old data and ACKs", seen.is_just_too_old()),
    ];
    known.into_iter().find(|(_, explains)| *explains).map(|(name, _)| name)
}

struct Seen<'a> {
    before: &'a Known,
    segment: &'a Segment,
    both: &'a Both,
}

impl Seen<'_> {
    fn was(&self, states: &[&str]) -> bool {
        self.before.state.as_deref().is_some_and(|state| states.contains(&state))
    }

    fn flags(&self) -> u8 {
        self.segment.flags
    }

    /// State after it, in weir and in the kernel.
    fn states(&self) -> (&str, &str) {
        (name_of(&self.both.weir), name_of(&self.both.kernel))
    }

    fn only_timeouts_differ(&self) -> bool {
        let (Some(weir), Some(kernel)) = (&self.both.weir.shown, &self.both.kernel.shown) else { return false };
        let but_for_it = Shown { timeout: weir.timeout, ..kernel.clone() };
        self.both.weir.forwarded == self.both.kernel.forwarded && *weir == but_for_it
    }

    /// ESTABLISHED: the kernel has a flag, which is set when more is sent than ever before and cleared by an ACK of all of it; weir compares
    /// the end of what was sent with the highest ACK. They differ about SYNs, segments without ACK, and what the window refused.
    fn is_unacknowledged_to_one(&self) -> bool {
        let (Some(weir), Some(kernel)) = (&self.both.weir.shown, &self.both.kernel.shown) else { return false };
        let timeouts = Timeouts::default();
        let either = [timeouts.tcp_unacknowledged / 1000, timeouts.tcp_established / 1000];
        let is_one_of = |timeout: u32| either.iter().any(|one| (timeout..=timeout + 2).contains(one));
        self.only_timeouts_differ() && weir.state == "ESTABLISHED" && is_one_of(weir.timeout) && is_one_of(kernel.timeout)
    }

    /// TIME_WAIT and CLOSE: the kernel keeps the connection, and so the backend, unless a side has closed first by a FIN or the client by
    /// a RST.
    fn is_reopened(&self) -> bool {
        self.segment.from == Side::Client
            && self.flags() == SYN
            && self.was(&["TIME_WAIT", "CLOSE"])
            && self.both.weir.forwarded
            && self.both.kernel.forwarded
            && self.states().0 == "SYN_SENT"
    }

    /// TIME_WAIT: the kernel lets either side open again.
    fn is_syn_of_backend(&self) -> bool {
        self.segment.from == Side::Backend && self.flags() == SYN && self.was(&["TIME_WAIT"]) && !self.both.weir.forwarded
    }

    /// Before the handshake is over: RFC 9293, section 3.10.7.3 makes that RST without ACK.
    fn is_reset_by_ack(&self) -> bool {
        self.flags() == RST | ACK
            && self.was(&["SYN_SENT", "SYN_SENT2"])
            && self.states().1 == "CLOSE"
            && !self.both.weir.forwarded
    }

    /// LAST_ACK: the kernel follows a SYN/ACK also behind an ACK that denied the SYN.
    fn is_late_answer(&self) -> bool {
        self.segment.from == Side::Backend && self.flags() == SYN | ACK && self.states() == ("LAST_ACK", "SYN_RECV")
    }

    /// ESTABLISHED: the kernel believes such a RST if the last segment was of the same side and ended there, whatever became of it.
    fn is_reset_behind_data(&self) -> bool {
        self.flags() & !ACK == RST
            && self.was(&["ESTABLISHED"])
            && matches!(self.states(), ("CLOSE", "ESTABLISHED") | ("ESTABLISHED", "CLOSE"))
            && self.before.of(self.segment.from).ends.contains(&self.segment.sequence)
    }
}

impl Seen<'_> {
    /// Data beyond the edge is forwarded if that is by no more than the largest window, which weir knows to a factor of two.
    fn is_just_beyond(&self) -> bool {
        let receiver = self.before.of(self.segment.from.other());
        // Before the first ACK, the first segment is as far as its side may go.
        let edges = if receiver.edges.is_empty() { &self.before.of(self.segment.from).ends } else { &receiver.edges };
        let largest = receiver.largest.max(4);
        let just = |edge: &u32| (largest..=4 * largest).contains(&self.segment.end().wrapping_sub(*edge));
        self.both.weir.forwarded && !self.both.kernel.forwarded && edges.iter().any(just)
    }

    /// What is older than the largest window is ignored: forwarded, but the state stays.
    fn is_just_too_old(&self) -> bool {
        let (sender, receiver) = (self.before.of(self.segment.from), self.before.of(self.segment.from.other()));
        let behind = |ends: &[u32], number: u32| {
            ends.iter().map(|end| end.wrapping_sub(number)).filter(|behind| *behind < 1 << 31).max().unwrap_or(0)
        };
        let data = behind(&sender.ends, self.segment.end()) >= receiver.largest;
        let ack = behind(&receiver.ends, self.segment.acknowledgment) >= sender.largest.max(66_000);
        self.both.weir.forwarded && self.both.kernel.forwarded && (data || ack)
    }
}

fn name_of(step: &Step) -> &str {
    step.shown.as_ref().map_or("", |shown| &shown.state)
}
