//! Where weir differs from the kernel on purpose: each by name, and with no more room than it needs. docs/conntrack.md says why.

use super::message::What;
use super::segment::{ACK, FIN, RST, SYN, Segment, Side};
use super::tcp::Known;
use super::walk::{Difference, Seen, Then};
use super::window::{STRICT, is_looked_at, numbers};

/// Whether the segment is one that is inside for one of them alone.
pub(crate) fn is_rounded(before: &Known, seen: &Seen<'_>) -> bool {
    let What::Tcp(segment) = &seen.message.what else { panic!("not TCP") };
    let tcp = Tcp { before, seen, segment };
    is_looked_at(segment, seen.before.map_or("", |before| before.state))
        && (tcp.is_just_beyond() || tcp.is_just_too_old() || tcp.is_inside_rounded_edge())
}

/// The difference that explains what was seen, if one does.
pub(crate) fn explain(before: &Known, seen: &Seen<'_>) -> Option<Difference> {
    let What::Tcp(segment) = &seen.message.what else { panic!("not TCP") };
    let tcp = Tcp { before, seen, segment };
    let known = [
        ("the largest window is rounded up: data beyond the edge", tcp.is_just_beyond(), Then::Leave),
        ("the largest window is rounded up: old data and ACKs", tcp.is_just_too_old(), Then::Leave),
        ("the largest window is what a window can be", tcp.is_larger_than_any(), Then::Leave),
        ("an edge is rounded up", tcp.is_inside_rounded_edge(), Then::Leave),
        ("a SYN over an ended connection is a new connection", tcp.is_reopened(), Then::Alone),
        ("a backend opens no connection", tcp.is_syn_of_backend(), Then::Forwarded),
        ("a RST is judged by what was noted", tcp.is_reset_of_unsure(), Then::Leave),
        ("what begins anew was not picked up", tcp.is_begun_anew(), Then::Leave),
        ("the last SYN says what its sender can do", tcp.is_taken_back(), Then::Leave),
        ("a simultaneous open stays one", tcp.is_simultaneous_still(), Then::Leave),
        ("data beyond the edge that goes on is heard", tcp.is_overshot(), Then::SetTimeout),
        ("a RST behind what its sender sent is exact", tcp.is_reset_behind_data(), Then::Leave),
        ("a RST must be exact, whatever came before it", tcp.is_reset_not_exact(), Then::Leave),
        ("a RST that is not believed is not noted", before.unbelieved, Then::Leave),
        ("what is not acknowledged is never old", tcp.is_wanted(), Then::Leave),
        ("in SYN_SENT a RST acknowledges the SYN", tcp.is_reset_of_no_syn(), Then::Leave),
        ("a RST without ACK is looked at like any segment", tcp.is_reset_without_ack(), Then::Leave),
        ("a RST answers an ignored ACK by its number, not by its ACK", tcp.is_reset_by_ack(), Then::Leave),
        ("a challenge ACK shows that a SYN was not meant", tcp.is_late_answer(), Then::Leave),
        ("a RST that is not believed shortens no timeout", tcp.is_shortened_by_reset(), Then::SetTimeout),
        ("SYN_SENT2 lasts as long as SYN_SENT", tcp.is_simultaneous(), Then::SetTimeout),
        ("what is dropped shortens no timeout", tcp.is_shortened(), Then::SetTimeout),
        ("what is unacknowledged follows from the numbers", tcp.is_unacknowledged_to_one(), Then::SetTimeout),
        ("what is dropped changes nothing", before.dropped, Then::Forwarded),
    ];
    known.into_iter().find(|(_, explains, _)| *explains).map(|(name, _, then)| (name, then))
}

struct Tcp<'a> {
    before: &'a Known,
    seen: &'a Seen<'a>,
    segment: &'a Segment,
}

impl Tcp<'_> {
    fn was(&self, states: &[&str]) -> bool {
        self.seen.was(states)
    }

    fn flags(&self) -> u8 {
        self.segment.flags
    }

    fn states(&self) -> (&str, &str) {
        self.seen.states()
    }

    fn forwarded(&self) -> (bool, bool) {
        (self.seen.both.weir.forwarded, self.seen.both.kernel.forwarded)
    }

    fn is_simultaneous(&self) -> bool {
        let (weir, kernel) = self.seen.left();
        // A SYN of the backend begins no new time where it is the first answer.
        let goes_on =
            self.segment.flags == SYN && self.seen.before.is_some_and(|before| (kernel..=kernel + 2).contains(&before.left));
        self.seen.only_timeouts_differ()
            && self.states().0 == "SYN_SENT2"
            && weir <= 30
            && ((118..=120).contains(&kernel) || goes_on)
    }

    /// The kernel cuts the time of FINs and RSTs that it drops to that of unacknowledged data.
    fn is_shortened(&self) -> bool {
        let (weir, kernel) = self.seen.left();
        self.seen.only_timeouts_differ()
            && self.forwarded() == (false, false)
            && self.flags() & (FIN | RST) != 0
            && weir > kernel
            && (298..=300).contains(&kernel)
    }

    /// ESTABLISHED: the kernel decides at a segment, by a flag that is set when more is sent than ever before and cleared by an ACK of all of
    /// it; weir when it looks, by the end of what was sent and the highest ACK. They differ about SYNs, segments without ACK, and what the
    /// window refused.
    fn is_unacknowledged_to_one(&self) -> bool {
        let timeouts = self.seen.timeouts;
        let apart = (timeouts.tcp_established - timeouts.tcp_unacknowledged) / 1000;
        let (weir, kernel) = self.seen.left();
        self.seen.only_timeouts_differ()
            && self.states().0 == "ESTABLISHED"
            && (apart - 2..=apart + 2).contains(&weir.abs_diff(kernel))
    }

    /// TIME_WAIT and CLOSE: the kernel keeps the connection, and so the backend, unless a side has closed first by a FIN or the client by
    /// a RST.
    fn is_reopened(&self) -> bool {
        self.segment.from == Side::Client
            && self.flags() == SYN
            && self.was(&["TIME_WAIT", "CLOSE"])
            && self.forwarded() == (true, true)
            && self.states().0 == "SYN_SENT"
    }

    /// TIME_WAIT: the kernel lets either side open again. Where the backend has closed first, the connection ends, and the SYN is one to
    /// the router.
    fn is_syn_of_backend(&self) -> bool {
        self.segment.from == Side::Backend
            && self.flags() == SYN
            && self.was(&["TIME_WAIT"])
            && !self.forwarded().0
            && self.states().1 == if self.forwarded().1 { "SYN_SENT" } else { "" }
    }

    /// Before the handshake is over: RFC 9293, section 3.10.7.3 makes that RST without ACK.
    fn is_reset_by_ack(&self) -> bool {
        self.flags() == RST | ACK
            && self.was(&["SYN_SENT", "SYN_SENT2"])
            && self.states().1 == "CLOSE"
            && self.seen.both.weir.shown.as_ref() == self.seen.before
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

impl Tcp<'_> {
    /// The kernel gives a connection the time of CLOSE until its next segment.
    fn is_shortened_by_reset(&self) -> bool {
        let (_, kernel) = self.seen.left();
        let close = self.seen.timeouts.tcp_close / 1000;
        self.seen.only_timeouts_differ()
            && self.forwarded() == (true, true)
            && self.flags() & RST != 0
            && self.was(&STRICT)
            && (close - 2..=close).contains(&kernel)
    }

    /// SYN_RECV, while it closes, and behind a SYN that was ignored: the kernel believes every RST, or all that are not below what was
    /// acknowledged.
    fn is_reset_not_exact(&self) -> bool {
        let from = self.before.windows.of(self.segment.from);
        let expected = self.before.windows.of(self.segment.from.other()).acked;
        self.flags() & !ACK == RST
            && self.was(&STRICT)
            && (self.before.ignored.is_some() || !self.was(&["ESTABLISHED"]))
            && (self.states().1 == "CLOSE" || self.forwarded() == (false, true))
            && ![Some(from.end), expected].contains(&Some(self.segment.sequence))
    }

    /// After something far ahead went on the kernel takes what follows in order for old: it makes the connection live no longer, and is not
    /// noted.
    fn is_wanted(&self) -> bool {
        let (sender, receiver) = (self.before.windows.of(self.segment.from), self.before.windows.of(self.segment.from.other()));
        let behind = sender.end.wrapping_sub(self.segment.end());
        let is_wanted = receiver.acked.is_some_and(|acked| self.segment.end().wrapping_sub(acked).cast_signed() >= 0);
        sender.was_wanted || receiver.was_wanted || is_wanted && behind > receiver.largest && behind.cast_signed() > 0
    }

    /// The kernel takes a connection without beginning as liberal and notes nothing of a side before the other one has sent; what is not
    /// noted is beyond the window from then on, goes on, and is not noted either. So it does not know which RST is exact.
    fn is_reset_of_unsure(&self) -> bool {
        self.before.unsure && self.flags() & RST != 0 && self.was(&STRICT)
    }

    /// SYN_SENT: it does not answer the SYN, and weir lets it pass without being told anything by it.
    fn is_reset_of_no_syn(&self) -> bool {
        let syn = self.before.windows.of(Side::Client).end;
        self.segment.from == Side::Backend
            && self.flags() & !ACK == RST
            && self.was(&["SYN_SENT"])
            && (self.flags() == RST || self.segment.acknowledgment != syn)
            && self.states().0 == "SYN_SENT"
            && self.forwarded().0
    }

    /// Before any ACK: the kernel believes it at once, for it takes the ACK that is not there for one of the number 0, which no segment has
    /// ended at yet; and notes nothing of it.
    fn is_reset_without_ack(&self) -> bool {
        let is_one = self.flags() & (RST | ACK) == RST;
        let is_one = is_one && (self.before.acks.is_empty() || self.was(&["SYN_SENT", "SYN_SENT2"]));
        let believed = is_one && self.states().1 == "CLOSE" && self.was(&[self.states().0]);
        let not_noted = self.before.reset_early && self.was(&["CLOSE"]) && self.states() == ("CLOSE", "CLOSE");
        believed || not_noted
    }

    /// The kernel goes on to let everything through that the backend sends.
    fn is_begun_anew(&self) -> bool {
        self.before.was_unsure && self.segment.from == Side::Backend && self.forwarded().1
    }

    /// The kernel goes on to read SACK blocks and to scale windows.
    fn is_taken_back(&self) -> bool {
        [Side::Client, Side::Backend].into_iter().any(|side| self.before.windows.of(side).took_back())
    }

    /// The kernel forgets that both sides have sent a SYN when it ignores one.
    fn is_simultaneous_still(&self) -> bool {
        self.segment.from == Side::Backend
            && self.flags() == ACK
            && self.before.ignored.is_some()
            && self.states() == ("ESTABLISHED", "SYN_RECV")
    }

    /// The kernel lets it pass, notes its end, and does not refresh the connection.
    fn is_overshot(&self) -> bool {
        let (weir, kernel) = self.seen.left();
        self.seen.only_timeouts_differ()
            && self.forwarded() == (true, true)
            && self.beyond(self.segment.sequence).is_some()
            && self.seen.before.is_some_and(|before| (kernel..=kernel + 2).contains(&before.left))
            && weir != kernel
    }

    /// By how much a number is behind the edge that the other side has offered, if it is.
    fn beyond(&self, number: u32) -> Option<u32> {
        let ahead = number.wrapping_sub(self.before.windows.of(self.segment.from).edge);
        Some(ahead).filter(|ahead| ahead.cast_signed() > 0)
    }

    /// Data beyond the edge is forwarded if that is by no more than the largest window, which weir knows to a factor of two.
    fn is_just_beyond(&self) -> bool {
        let receiver = self.before.windows.of(self.segment.from.other());
        let overshot = self.beyond(self.segment.end()).unwrap_or(0) + 1;
        self.forwarded() != (false, false)
            && self.beyond(self.segment.sequence).is_some()
            && overshot > receiver.largest
            && overshot < receiver.kept + (1 << receiver.scale)
    }

    /// A SACK block far above its ACK makes the kernel's largest window larger than any, and whatever comes then is inside or nearly.
    fn is_larger_than_any(&self) -> bool {
        [Side::Client, Side::Backend]
            .into_iter()
            .map(|side| self.before.windows.of(side))
            .any(|seen| seen.largest > 0x1_0000 << seen.scale || seen.kept >= 1 << 30)
            && self.was(&[self.states().0])
    }

    /// What is beyond the edge by less than a unit of the window scale is inside for weir.
    fn is_inside_rounded_edge(&self) -> bool {
        let unit = 1 << self.before.windows.of(self.segment.from.other()).scale;
        self.forwarded().0 && self.beyond(self.segment.sequence).is_some_and(|ahead| ahead < unit)
    }

    /// What is older than the largest window is ignored: forwarded, but the state stays.
    fn is_just_too_old(&self) -> bool {
        let (from, to) = (self.segment.from, self.segment.from.other());
        let (sender, receiver) = (self.before.windows.of(from), self.before.windows.of(to));
        let (_, sack) = numbers(self.segment, receiver);
        let data = sender.end.wrapping_sub(self.segment.end());
        let is_old = (receiver.largest + 1..=receiver.kept).contains(&data);
        let lag = receiver.end.wrapping_sub(sack);
        let is_late = (sender.largest.max(66_000) + 1..=sender.kept.max(66_000)).contains(&lag);
        self.forwarded() == (true, true) && (is_old || is_late)
    }
}
