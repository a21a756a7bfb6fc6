//! All probes of the daemon, over the control thread's event loop.

use super::connection::Connection;
use super::http::Exchange;
use super::state::{Due, State};
use super::{Failure, Probe, Target, tcp};
use crate::service::BackendId;
use mio::{Registry, Token};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

/// First probes of new targets start this far apart: thousands of them at once would be a flood.
const APART: Duration = Duration::from_millis(1);

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
}

/// What a backend is from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthEvent {
    /// Who.
    pub backend: BackendId,
    /// Whether it takes connections.
    pub up: bool,
    /// For the log: the last failure for one that went down.
    pub why: String,
}

#[derive(Debug)]
struct Check {
    target: Target,
    state: State,
    running: Option<Running>,
    last: Option<Result<(), Failure>>,
}

/// A probe under way.
#[derive(Debug)]
struct Running {
    connection: Connection,
    /// `None` for a probe that says nothing.
    exchange: Option<Exchange>,
}

impl Running {
    fn start(target: &Target, registry: &Registry, token: Token, own: &HashSet<IpAddr>) -> Result<Self, Failure> {
        let connection = Connection::start(registry, token, target.address, |address| own.contains(address))?;
        let exchange = match &target.settings.probe {
            Probe::Tcp => None,
            Probe::Http { path, host, .. } => Some(Exchange::new(path, host.as_deref(), target.address)),
        };
        Ok(Self { connection, exchange })
    }

    fn advance(&mut self, probe: &Probe) -> Option<Result<(), Failure>> {
        match (probe, &mut self.exchange) {
            (Probe::Http { status, .. }, Some(exchange)) => exchange.advance(&mut self.connection, status),
            _ => tcp::advance(&mut self.connection),
        }
    }
}

impl Check {
    fn new(target: Target, first: Duration) -> Self {
        let state = State::new(target.settings.start, first);
        Self { target, state, running: None, last: None }
    }

    /// Takes the result of the probe under way.
    fn finish(&mut self, result: Result<(), Failure>) -> Option<HealthEvent> {
        if let Some(running) = self.running.take() {
            running.connection.reset();
        }
        let change = match &result {
            Err(failure) if !failure.counts() => {
                self.state.abandon();
                None
            }
            _ => self.state.finish(result.is_ok(), &self.target.settings),
        };
        let why = || match &result {
            Ok(()) => "probes pass".to_owned(),
            Err(failure) => failure.to_string(),
        };
        let event = change.map(|up| HealthEvent { backend: self.target.backend, up, why: why() });
        self.last = Some(result);
        event
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
        }
    }

    /// From now on exactly these targets are probed. `own` are weir's addresses: no probe may come from one of them.
    ///
    /// A target that stays, by backend and address, stays as it is. There is an event for every one that is new: what its settings say of
    /// a backend that was never probed. Targets beyond the number of tokens are not probed and count as up.
    pub fn update(&mut self, targets: Vec<Target>, own: HashSet<IpAddr>, now: Duration) -> Vec<HealthEvent> {
        self.own = own;
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
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Starts the probes that are due and gives up those that took too long.
    pub fn tick(&mut self, now: Duration) -> Vec<HealthEvent> {
        let mut events = Vec::new();
        while let Some((_, place)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            events.extend(self.change(place, |check, checker| match check.state.due(now) {
                Due::Nothing => None,
                Due::Probe => checker.start(check, place, now),
                Due::GiveUp => {
                    let awaited = check.running.as_ref().map_or("answer", |running| running.connection.awaited());
                    check.finish(Err(Failure::Timeout(awaited)))
                }
            }));
        }
        events
    }

    /// There was an event under this token.
    pub fn ready(&mut self, token: Token) -> Option<HealthEvent> {
        let place = token.0.checked_sub(self.tokens.start)?;
        self.change(place, |check, _| {
            let result = check.running.as_mut()?.advance(&check.target.settings.probe)?;
            check.finish(result)
        })
    }

    /// Whether a backend is up, and how its last probe went if one has ended; `None` for one that is not probed.
    pub fn look(&self, backend: BackendId) -> Option<(bool, Option<&Result<(), Failure>>)> {
        let check = self.checks[*self.places.get(&backend)?].as_ref()?;
        Some((check.state.is_up(), check.last.as_ref()))
    }

    fn start(&self, check: &mut Check, place: usize, now: Duration) -> Option<HealthEvent> {
        check.state.begin(now, &check.target.settings);
        match Running::start(&check.target, &self.registry, self.token(place), &self.own) {
            Ok(running) => {
                check.running = Some(running);
                None
            }
            Err(failure) => check.finish(Err(failure)),
        }
    }

    fn token(&self, place: usize) -> Token {
        Token(self.tokens.start + place)
    }

    /// Does something with the check at a place; its deadline is followed.
    fn change(&mut self, place: usize, act: impl FnOnce(&mut Check, &Self) -> Option<HealthEvent>) -> Option<HealthEvent> {
        let mut check = self.checks.get_mut(place)?.take()?;
        self.deadlines.remove(&(check.state.deadline(), place));
        let event = act(&mut check, self);
        self.deadlines.insert((check.state.deadline(), place));
        self.checks[place] = Some(check);
        event
    }

    fn add(&mut self, target: Target, first: Duration) -> HealthEvent {
        let event = |up| HealthEvent { backend: target.backend, up, why: "not probed yet".to_owned() };
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
        self.change(place, |check, _| {
            if check.target != target {
                check.running = None;
                check.state.adopt(now, &target.settings);
                check.target = target;
            }
            None
        });
    }

    fn remove(&mut self, place: usize, backend: BackendId) {
        if let Some(check) = self.checks[place].take() {
            self.deadlines.remove(&(check.state.deadline(), place));
        }
        self.places.remove(&backend);
        self.free.push(place);
    }
}

#[cfg(test)]
mod tests;
