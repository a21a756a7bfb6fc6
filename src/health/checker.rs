//! All probes of the daemon, over the control thread's event loop.

use super::connection::Way;
use super::exec::{self, Script};
use super::running::{Means, Outcome, Running};
use super::sessions::Sessions;
use super::state::{Due, State};
use super::tls::Clients;
use super::{Failure, Probe, Target};
use crate::service::BackendId;
use mio::event::Event;
use mio::{Registry, Token};
use rustls::{ClientConfig, HandshakeKind};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// First probes of new targets start this far apart: thousands of them at once would be a flood.
const APART: Duration = Duration::from_millis(1);
/// Who is due waits this long for others that are soon: with thousands of them, waking up for each costs more than the probes.
const TOGETHER: Duration = Duration::from_millis(4);

/// Probes backends without ever waiting. Moments are given by the caller, on a clock that does not go back.
///
/// The caller tells it every event under its tokens ([`Checker::ready`]) and wakes it at [`Checker::next_deadline`] ([`Checker::tick`]).
#[derive(Debug)]
pub struct Checker {
    registry: Registry,
    tokens: Range<usize>,
    /// The place of a target is its token's, so a target keeps it.
    checks: Vec<Option<Check>>,
    places: HashMap<BackendId, usize>,
    free: Vec<usize>,
    /// When to look at which place.
    deadlines: BTreeSet<(Duration, usize)>,
    own: HashSet<IpAddr>,
    clients: Clients,
    /// Scripts that run, and places whose script is due and waits for one of them to end.
    scripts: usize,
    waiting: VecDeque<usize>,
    /// Scripts that were killed and have not ended yet.
    dying: Vec<Script>,
    random: RandomState,
    drawn: u64,
    handshakes: TlsHandshakes,
}

/// TLS handshakes of probes that are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TlsHandshakes {
    /// The server showed its certificate, good or bad.
    pub whole: u64,
    /// The server took up a session of an earlier probe.
    pub resumed: u64,
}

/// What a backend is from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthEvent {
    /// Who.
    pub backend: BackendId,
    /// Whether it takes connections.
    pub up: bool,
    /// Percent of its weight that its agent asks for; 100 where there is none.
    pub share: u32,
    /// For the log: the last failure for one that went down.
    pub why: String,
}

#[derive(Debug)]
struct Check {
    target: Target,
    state: State,
    share: u32,
    running: Option<Running>,
    /// Kept from probe to probe, where it is spoken to over TLS.
    sessions: Option<Sessions>,
    /// A script that waits for its turn.
    is_waiting: bool,
    last: Option<Result<(), Failure>>,
}

impl Check {
    fn new(target: Target, first: Duration) -> Self {
        let state = State::new(target.settings.start, first);
        Self { target, state, share: 100, running: None, sessions: None, is_waiting: false, last: None }
    }

    fn is_exec(&self) -> bool {
        matches!(self.target.settings.probe, Probe::Exec { .. })
    }

    /// How to speak to it over TLS, if that is asked for. Whenever something speaks against it, its certificate is looked at again.
    fn tls_client(&mut self, clients: &Clients, now: Duration, random: u64) -> Result<Option<Arc<ClientConfig>>, Failure> {
        let Some(tls) = self.target.settings.tls() else { return Ok(None) };
        let sessions = match &mut self.sessions {
            Some(sessions) => sessions,
            none => none.insert(Sessions::new(clients.get(&tls.trust)?.as_ref(), tls.full_handshake, random)),
        };
        Ok(Some(sessions.begin(now, self.state.is_steady())))
    }

    /// Takes the result of a probe.
    fn conclude(&mut self, outcome: Outcome) -> Option<HealthEvent> {
        let change = match &outcome {
            Err(failure) if !failure.counts() => {
                self.state.abandon();
                None
            }
            _ => self.state.finish(outcome.is_ok(), &self.target.settings),
        };
        let share = outcome.as_ref().ok().copied().flatten().unwrap_or(self.share);
        let why = match &outcome {
            Ok(_) if share != self.share => format!("the agent asks for {share} %"),
            Ok(_) => "probes pass".to_owned(),
            Err(failure) => failure.to_string(),
        };
        let changed = change.is_some() || share != self.share;
        self.share = share;
        self.last = Some(outcome.map(drop));
        changed.then(|| HealthEvent { backend: self.target.backend, up: self.state.is_up(), share, why })
    }

    /// Known as long as probes pass.
    fn way(&self) -> Way {
        if let Some(Ok(())) = self.last { Way::Known } else { Way::Unknown }
    }

    /// When it is to be looked at; `None`: somebody else says when.
    fn deadline(&self) -> Option<Duration> {
        (!self.is_waiting).then(|| self.state.deadline())
    }
}

impl Checker {
    /// A checker of nothing yet. It registers its sockets at `registry` under these tokens; there can be as many targets as tokens.
    pub fn new(registry: Registry, tokens: Range<usize>) -> Self {
        Self {
            registry,
            tokens,
            checks: Vec::new(),
            places: HashMap::new(),
            free: Vec::new(),
            deadlines: BTreeSet::new(),
            own: HashSet::new(),
            clients: Clients::default(),
            scripts: 0,
            waiting: VecDeque::new(),
            dying: Vec::new(),
            random: RandomState::new(),
            drawn: 0,
            handshakes: TlsHandshakes::default(),
        }
    }

    /// From now on exactly these targets are probed. `own` are weir's addresses: no probe may come from one of them.
    ///
    /// A target that stays, by backend and address, stays as it is. There is an event for every one that is new: what its settings say of
    /// a backend that was never probed. Targets beyond the number of tokens are not probed and count as up.
    pub fn update(&mut self, targets: Vec<Target>, own: HashSet<IpAddr>, now: Duration) -> Vec<HealthEvent> {
        self.own = own;
        self.prepare_clients(&targets);
        let wanted: HashMap<BackendId, &Target> = targets.iter().map(|target| (target.backend, target)).collect();
        for place in 0..self.checks.len() {
            let gone = self.checks[place]
                .as_ref()
                .filter(|check| wanted.get(&check.target.backend).is_none_or(|target| target.address != check.target.address));
            if let Some(backend) = gone.map(|check| check.target.backend) {
                self.remove(place, backend);
            }
        }
        let mut events = Vec::new();
        for target in targets {
            match self.places.get(&target.backend) {
                Some(place) => self.adopt(*place, target, now),
                None => events.push(self.add(target, now + APART * events.len() as u32)),
            }
        }
        events
    }

    /// The tokens whose events are for [`Checker::ready`].
    pub fn tokens(&self) -> Range<usize> {
        self.tokens.clone()
    }

    /// When [`Checker::tick`] has something to do; `None` when there is no target.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline + TOGETHER)
    }

    /// Starts the probes that are due and gives up those that took too long; at most `most` of them, so that nothing else has to wait for
    /// all of them: what is left over is still due.
    pub fn tick(&mut self, now: Duration, most: usize) -> Vec<HealthEvent> {
        self.dying.retain_mut(|script| script.reap().is_none());
        let mut events = Vec::new();
        for _ in 0..most {
            let Some((_, place)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) else { break };
            events.extend(self.change(place, |check, checker| match check.state.due(now) {
                Due::Nothing => None,
                Due::Probe => checker.start_or_wait(check, place, now),
                Due::GiveUp => {
                    let outcome = check.running.as_ref().map(|running| running.give_up(&check.target.settings.probe));
                    checker.finish(check, outcome.unwrap_or(Err(Failure::Timeout("answer"))))
                }
            }));
        }
        events.extend(self.start_waiting(now));
        events
    }

    /// There was an event under one of the tokens.
    pub fn ready(&mut self, event: &Event) -> Option<HealthEvent> {
        let place = event.token().0.checked_sub(self.tokens.start)?;
        self.change(place, |check, checker| {
            let outcome = check.running.as_mut()?.advance(&check.target, event)?;
            checker.finish(check, outcome)
        })
    }

    /// Probes that were begun.
    pub fn probes(&self) -> u64 {
        self.drawn
    }

    /// How the TLS handshakes of probes went.
    pub fn tls_handshakes(&self) -> TlsHandshakes {
        self.handshakes
    }

    /// Whether a backend is up, and how its last probe went if one has ended; `None` for one that is not probed.
    pub fn look(&self, backend: BackendId) -> Option<(bool, Option<&Result<(), Failure>>)> {
        let check = self.checks[*self.places.get(&backend)?].as_ref()?;
        Some((check.state.is_up(), check.last.as_ref()))
    }

    /// A script waits behind those that wait already.
    fn start_or_wait(&mut self, check: &mut Check, place: usize, now: Duration) -> Option<HealthEvent> {
        if check.is_exec() && (self.scripts >= exec::AT_ONCE || !self.waiting.is_empty()) {
            check.is_waiting = true;
            self.waiting.push_back(place);
            return None;
        }
        self.start(check, place, now)
    }

    fn start(&mut self, check: &mut Check, place: usize, now: Duration) -> Option<HealthEvent> {
        self.drawn += 1;
        let random = self.random.hash_one(self.drawn);
        check.state.begin(now, &check.target.settings, random);
        let (registry, token, way) = (&self.registry, self.token(place), check.way());
        let client = check.tls_client(&self.clients, now, random);
        let means = client.map(|client| Means { registry, token, way, own: &self.own, client, random });
        match means.and_then(|means| Running::start(&check.target, &means)) {
            Ok(running) => {
                self.scripts += usize::from(check.is_exec());
                check.running = Some(running);
                None
            }
            Err(failure) => check.conclude(Err(failure)),
        }
    }

    /// Those that waited for a script to end, as many as may run now.
    fn start_waiting(&mut self, now: Duration) -> Vec<HealthEvent> {
        let mut events = Vec::new();
        while self.scripts < exec::AT_ONCE
            && let Some(place) = self.waiting.pop_front()
        {
            events.extend(self.change(place, |check, checker| {
                check.is_waiting = false;
                checker.start(check, place, now)
            }));
        }
        events
    }

    fn finish(&mut self, check: &mut Check, outcome: Outcome) -> Option<HealthEvent> {
        match check.running.as_ref().and_then(Running::handshake) {
            None => {}
            Some(HandshakeKind::Resumed) => self.handshakes.resumed += 1,
            Some(_) => {
                self.handshakes.whole += 1;
                if let Some(sessions) = check.sessions.as_mut().filter(|_| outcome.is_ok()) {
                    sessions.note_whole();
                }
            }
        }
        self.stop(check);
        check.conclude(outcome)
    }

    /// Ends the probe under way, if there is one.
    fn stop(&mut self, check: &mut Check) {
        let Some(running) = check.running.take() else { return };
        self.scripts -= usize::from(matches!(running, Running::Exec(_)));
        self.dying.extend(running.end());
    }

    fn token(&self, place: usize) -> Token {
        Token(self.tokens.start + place)
    }

    /// Does something with the check at a place; its deadline is followed.
    fn change(&mut self, place: usize, act: impl FnOnce(&mut Check, &mut Self) -> Option<HealthEvent>) -> Option<HealthEvent> {
        let mut check = self.checks.get_mut(place)?.take()?;
        if let Some(deadline) = check.deadline() {
            self.deadlines.remove(&(deadline, place));
        }
        let event = act(&mut check, self);
        if let Some(deadline) = check.deadline() {
            self.deadlines.insert((deadline, place));
        }
        self.checks[place] = Some(check);
        event
    }

    fn add(&mut self, target: Target, first: Duration) -> HealthEvent {
        let event = |up| HealthEvent { backend: target.backend, up, share: 100, why: "not probed yet".to_owned() };
        let place = self.free.pop().unwrap_or(self.checks.len());
        if place >= self.tokens.len() {
            return event(true);
        }
        if place == self.checks.len() {
            self.checks.push(None);
        }
        let event = event(target.settings.start.is_up());
        self.places.insert(target.backend, place);
        let check = Check::new(target, first);
        self.deadlines.insert((check.state.deadline(), place));
        self.checks[place] = Some(check);
        event
    }

    fn adopt(&mut self, place: usize, target: Target, now: Duration) {
        self.change(place, |check, checker| {
            if check.target != target {
                checker.stop(check);
                checker.forget_waiting(check, place);
                check.state.adopt(now, &target.settings);
                check.sessions = None;
                check.target = target;
            }
            None
        });
    }

    fn remove(&mut self, place: usize, backend: BackendId) {
        self.change(place, |check, checker| {
            checker.stop(check);
            checker.forget_waiting(check, place);
            None
        });
        if let Some(check) = self.checks[place].take() {
            self.deadlines.remove(&(check.state.deadline(), place));
        }
        self.places.remove(&backend);
        self.free.push(place);
    }

    fn forget_waiting(&mut self, check: &mut Check, place: usize) {
        if std::mem::take(&mut check.is_waiting) {
            self.waiting.retain(|waiting| *waiting != place);
        }
    }

    fn prepare_clients(&mut self, targets: &[Target]) {
        let trusts: Vec<_> = targets.iter().filter_map(|target| Some(&target.settings.tls()?.trust)).collect();
        self.clients.retain(|known| trusts.contains(&known));
        trusts.into_iter().for_each(|trust| self.clients.prepare(trust));
    }
}

#[cfg(test)]
mod tests;
