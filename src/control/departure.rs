//! When a backend that takes no new connections must be empty, and what becomes of each of its connections: the rules of a drain, pure.

use crate::config::brief;
use crate::conntrack::l4proto::is_connectionless;
use crate::conntrack::{DestroyReason, Glimpse, Sentence, State, TcpState, natural_end};
use crate::service::{AtDeadline, Datagrams, Drain, Protocol};
use crate::worker::Monotonic;
use std::time::Duration;

/// Milliseconds that a backend has to answer a SYN; then the client sends the next one (RFC 6298, section 2), which goes elsewhere. As long may the last
/// ACK of a connection be sent again.
const PATIENCE: u32 = 1000;
/// Nanoseconds between two looks at the connections of a backend: a part of the time since it began, within these.
const LOOK: (u64, u64) = (1_000_000_000, 30_000_000_000);
/// The first look after the deadline follows this soon: a worker that was about to open a connection has done so.
const SECOND_LOOK: u64 = 200_000_000;

/// Why a backend takes no new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The config has it no more.
    Removed,
    /// An operator said so.
    Drained,
    /// Its health checks failed.
    Failed,
}

impl Cause {
    const ALL: [Self; 3] = [Self::Removed, Self::Drained, Self::Failed];

    /// For status and log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Drained => "drained",
            Self::Failed => "failed",
        }
    }
}

/// One backend that takes no new connections.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Departure {
    /// By [`Cause`].
    since: [Option<Monotonic>; 3],
    /// What its pool says, or said.
    drain: Drain,
    /// Since when the pool says so, if that changed meanwhile: no deadline counts from before.
    ruled: Option<Monotonic>,
    /// A deadline that was set before, and that a new one does not put off.
    pub(super) promised: Option<Monotonic>,
}

impl Departure {
    /// From now on there is this cause; one that there is already began when it began.
    pub(super) fn begin(&mut self, cause: Cause, now: Monotonic) {
        self.since[cause as usize].get_or_insert(now);
    }

    /// What its pool says now. Who leaves already gets the new time whole: nobody's is over at once because a file was edited.
    pub(super) fn rule(&mut self, drain: Drain, now: Monotonic) {
        if self.drain != drain && !self.is_over() {
            self.ruled = Some(now);
        }
        self.drain = drain;
    }

    /// What its pool says, or said.
    pub(super) fn drain(&self) -> Drain {
        self.drain
    }

    /// The cause is gone.
    pub(super) fn end(&mut self, cause: Cause) {
        self.since[cause as usize] = None;
    }

    /// Whether there is no cause any more.
    pub(super) fn is_over(&self) -> bool {
        self.since == [None; 3]
    }

    /// Since when there is this cause.
    pub(super) fn since(&self, cause: Cause) -> Option<Monotonic> {
        self.since[cause as usize]
    }

    /// The first of all deadlines.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        Cause::ALL.into_iter().filter_map(|cause| self.deadline_of(cause)).chain(self.promised).min()
    }

    /// The first deadline of planned work, and of what was promised before.
    pub(super) fn planned_deadline(&self) -> Option<Monotonic> {
        [Cause::Removed, Cause::Drained].into_iter().filter_map(|cause| self.deadline_of(cause)).chain(self.promised).min()
    }

    fn deadline_of(&self, cause: Cause) -> Option<Monotonic> {
        let drain = &self.drain;
        let given = if cause == Cause::Failed { drain.failed_deadline } else { drain.deadline };
        let began = self.since(cause)?;
        Some(later(self.ruled.map_or(began, |ruled| ruled.max(began)), given?))
    }

    /// The cause that sets the deadline; without one, the first that there is.
    pub(super) fn cause(&self) -> Cause {
        let first = Cause::ALL.into_iter().filter(|cause| self.since(*cause).is_some());
        first.min_by_key(|cause| self.deadline_of(*cause).map_or(u64::MAX, |deadline| deadline.0)).unwrap_or(Cause::Removed)
    }

    /// Whether the deadline is over.
    pub(super) fn is_due(&self, now: Monotonic) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// When to look at its connections after a look at `now`.
    pub(super) fn next_look(&self, now: Monotonic) -> Monotonic {
        let began = self.since.iter().flatten().max().copied().unwrap_or(now);
        let pause = |age: u64, least: u64| Monotonic(now.0 + (age / 4).clamp(least, LOOK.1));
        match self.deadline() {
            Some(deadline) if deadline <= now => pause(now.nanos_since(deadline), SECOND_LOOK),
            deadline => pause(now.nanos_since(began), LOOK.0).min(deadline.unwrap_or(Monotonic(u64::MAX))),
        }
    }
}

fn later(moment: Monotonic, by: Duration) -> Monotonic {
    Monotonic(moment.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

/// What becomes of a connection of a backend that takes no new ones, before its deadline or after.
pub(super) fn judge(drain: &Drain, is_due: bool, glimpse: &Glimpse) -> Sentence {
    let (state, ends) = (glimpse.state, Sentence::End(DestroyReason::Drained));
    if is_connectionless(state.protocol()) {
        return if is_due || drain.udp == Datagrams::Rehash { ends } else { Sentence::Spare };
    }
    let is_tcp = state.protocol() == Protocol::Tcp.number();
    let unanswered = is_tcp && state.tcp() == TcpState::SynSent && !state.has(State::SEEN_REPLY);
    let over = is_tcp && matches!(state.tcp(), TcpState::TimeWait | TcpState::Close);
    match drain.tcp {
        // Not reset: the client's next SYN goes to another backend, and the client never knows.
        _ if unanswered && (is_due || glimpse.silence >= PATIENCE) => ends,
        // Over for both sides: who waits for the backend to be empty need not wait for late packets. Nothing is opened with its port.
        _ if over && (is_due || glimpse.silence >= PATIENCE) => Sentence::End(natural_end(state)),
        _ if !is_due => Sentence::Spare,
        AtDeadline::Wait => Sentence::Spare,
        AtDeadline::Reset if is_tcp => Sentence::Reset(DestroyReason::Drained),
        AtDeadline::Reset => ends,
    }
}

/// What becomes of the connections of a backend that is removed or drained, for sentences that begin with whose they are.
pub(super) fn sentence(drain: &Drain) -> String {
    let moved = if drain.udp == Datagrams::Rehash { ", but for UDP, which moves at once" } else { "" };
    match (drain.deadline, drain.tcp) {
        (None, _) => format!("its connections go on until they end{moved}"),
        (Some(deadline), AtDeadline::Reset) => {
            let udp = if drain.udp == Datagrams::Rehash { moved } else { " and UDP moves" };
            format!("its connections have {} to end, then TCP is reset{udp}", brief(deadline))
        }
        (Some(deadline), AtDeadline::Wait) => {
            format!("its connections have {} to end, TCP as long as it takes{moved}", brief(deadline))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::Owner;

    const SECOND: u64 = 1_000_000_000;

    fn drain(deadline: Option<u64>, failed: Option<u64>) -> Drain {
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        Drain { deadline: seconds(deadline), failed_deadline: seconds(failed), ..Drain::default() }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * SECOND)
    }

    #[test]
    fn the_first_deadline_counts_and_a_cause_begins_once() {
        let mut departure = Departure { drain: drain(Some(30), Some(10)), ..Departure::default() };
        departure.begin(Cause::Drained, at(100));
        departure.begin(Cause::Drained, at(105));
        assert_eq!((departure.deadline(), departure.cause()), (Some(at(130)), Cause::Drained));
        departure.begin(Cause::Failed, at(110));
        assert_eq!((departure.deadline(), departure.cause()), (Some(at(120)), Cause::Failed));
        assert!(!departure.is_due(at(119)) && departure.is_due(at(120)));
        departure.end(Cause::Failed);
        assert_eq!((departure.deadline(), departure.is_over()), (Some(at(130)), false));
        departure.end(Cause::Drained);
        assert!(departure.is_over());
    }

    #[test]
    fn without_a_deadline_nothing_is_ever_due() {
        let mut departure = Departure { drain: drain(None, Some(10)), ..Departure::default() };
        departure.begin(Cause::Removed, at(1));
        assert_eq!((departure.deadline(), departure.cause(), departure.is_due(at(1_000_000))), (None, Cause::Removed, false));
        departure.begin(Cause::Failed, at(5));
        assert_eq!((departure.deadline(), departure.cause()), (Some(at(15)), Cause::Failed));
    }

    #[test]
    fn a_drain_that_is_changed_counts_from_then_on() {
        let mut departure = Departure::default();
        departure.rule(drain(Some(30), None), at(90));
        departure.begin(Cause::Drained, at(100));
        departure.rule(drain(Some(30), None), at(110));
        assert_eq!(departure.deadline(), Some(at(130)), "nothing changed");
        departure.rule(drain(Some(1), Some(2)), at(115));
        assert_eq!((departure.deadline(), departure.since(Cause::Drained)), (Some(at(116)), Some(at(100))));
        assert!(!departure.is_due(at(115)));
        departure.begin(Cause::Failed, at(120));
        assert_eq!((departure.deadline_of(Cause::Failed), departure.deadline()), (Some(at(122)), Some(at(116))));
    }

    #[test]
    fn what_was_promised_is_not_put_off() {
        let mut departure = Departure { drain: drain(Some(30), Some(10)), ..Departure::default() };
        departure.promised = Some(at(120));
        departure.begin(Cause::Removed, at(115));
        assert_eq!((departure.deadline(), departure.planned_deadline()), (Some(at(120)), Some(at(120))));
        departure.promised = Some(at(150));
        assert_eq!(departure.planned_deadline(), Some(at(145)));
    }

    #[test]
    fn looks_are_at_the_deadline_soon_after_it_and_then_seldom() {
        let mut departure = Departure { drain: drain(Some(30), None), ..Departure::default() };
        departure.begin(Cause::Drained, at(100));
        assert_eq!(departure.next_look(at(100)), at(101));
        assert_eq!(departure.next_look(at(120)), at(125));
        assert_eq!(departure.next_look(at(129)), at(130), "the deadline");
        assert_eq!(departure.next_look(at(130)), Monotonic(130 * SECOND + SECOND_LOOK));
        assert_eq!(departure.next_look(at(5000)), at(5030));
    }

    fn glimpse(state: State, silence: u32) -> Glimpse {
        Glimpse {
            state,
            owner: Owner::default(),
            vip: ([10, 0, 0, 100], 80).into(),
            client: ([10, 0, 0, 2], 1024).into(),
            silence,
        }
    }

    #[test]
    fn every_kind_of_connection_has_its_end() {
        use TcpState::{Established, SynRecv, SynSent, TimeWait};
        let ends = Sentence::End(DestroyReason::Drained);
        let resets = Sentence::Reset(DestroyReason::Drained);
        let tcp = |state| State::new(6, state).with(State::SEEN_REPLY);
        let (udp, sctp) = (State::of(17, 0), State::of(132, 3));
        let policy = |tcp, udp| Drain { tcp, udp, ..Drain::default() };
        let (wait, reset) = (AtDeadline::Wait, AtDeadline::Reset);
        let (expire, rehash) = (Datagrams::Expire, Datagrams::Rehash);
        for (drain, is_due, state, silence, sentence) in [
            (policy(reset, expire), false, udp, 0, Sentence::Spare),
            (policy(reset, expire), true, udp, 0, ends),
            (policy(reset, rehash), false, udp, 0, ends),
            (policy(reset, expire), false, tcp(Established), 9999, Sentence::Spare),
            (policy(reset, expire), true, tcp(Established), 0, resets),
            (policy(reset, expire), true, tcp(SynRecv), 0, resets),
            (policy(reset, expire), true, tcp(TimeWait), 0, Sentence::End(DestroyReason::Closed)),
            (policy(wait, expire), false, tcp(TimeWait), 999, Sentence::Spare),
            (policy(wait, expire), false, tcp(TimeWait), 1000, Sentence::End(DestroyReason::Closed)),
            (policy(wait, expire), true, tcp(Established), 0, Sentence::Spare),
            (policy(wait, expire), true, udp, 0, ends),
            (policy(reset, expire), true, sctp, 0, ends),
            (policy(wait, expire), true, sctp, 0, Sentence::Spare),
            (policy(wait, expire), false, State::new(6, SynSent), 999, Sentence::Spare),
            (policy(wait, expire), false, State::new(6, SynSent), 1000, ends),
            (policy(reset, expire), true, State::new(6, SynSent), 0, ends),
        ] {
            assert_eq!(judge(&drain, is_due, &glimpse(state, silence)), sentence, "{drain:?} {is_due} {state:?} {silence}");
        }
    }

    #[test]
    fn sentences_say_what_happens() {
        assert_eq!(sentence(&drain(None, None)), "its connections go on until they end");
        let policy = Drain { tcp: AtDeadline::Wait, udp: Datagrams::Rehash, ..drain(Some(90), None) };
        assert_eq!(
            sentence(&policy),
            "its connections have 90s to end, TCP as long as it takes, but for UDP, which moves at once"
        );
        assert_eq!(sentence(&drain(Some(30), None)), "its connections have 30s to end, then TCP is reset and UDP moves");
    }
}
