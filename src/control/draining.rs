//! Backends that take no new connections, and the walks over the table that end theirs in time.
//!
//! A walk is made when a backend begins to drain, at its deadline, and now and then in between and afterwards, for a worker with an older snapshot
//! may still have opened a connection. It is done in slices as expiry is, and only as fast as workers take the RSTs off.

use super::daemon::Daemon;
use super::departure::{Cause, Departure, judge};
use super::expiry::{PAUSE, SLICE};
use super::registry;
use super::throng::{Throng, log};
use crate::config::Config;
use crate::conntrack::{Culled, Cursor, DestroyReason, Glimpse, Sentence, TimeoutPolicy};
use crate::datapath::{Datapath, connection_closed};
use crate::nat::tcp_reset::TcpReset;
use crate::service::{Backend, BackendId, Drain, Shown, Snapshot};
use crate::worker::{Monotonic, Orders};
use crate::xdp::Targets;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use tracing::{Level, info};

/// Entries of one step: at most twice as many RSTs.
const STEP: u32 = 512;
/// From the first look for connections that nobody serves any more to the second one: every worker has the new snapshot by then.
const LOOK_AGAIN_AFTER: u64 = 1_000_000_000;
const NEVER: Monotonic = Monotonic(u64::MAX);

/// All of them.
#[derive(Debug)]
pub struct Draining {
    leaving: BTreeMap<BackendId, Leaving>,
    /// Deadlines whose reason a reload took back: they hold for whoever is removed before they are over.
    promised: BTreeMap<BackendId, (Weak<Backend>, Monotonic)>,
    walk: Option<Walk>,
    next: Monotonic,
    /// What is served since a reload that took services away: connections of others are cut, at the second look as well, for a worker with
    /// the older snapshot may have opened some after the first one.
    served: Option<(Arc<Targets>, Looks)>,
    /// Timeouts, with all of them among the removed ones: their UDP lives only as long as replies come.
    policy: Option<(u64, Arc<TimeoutPolicy>)>,
    /// Lines about backends that are empty.
    empty: Throng,
}

/// Where RSTs leave: one a worker.
#[derive(Clone, Copy)]
pub struct Outlet<'a> {
    /// What the worker is to send.
    pub orders: &'a Orders,
    /// Ends the worker's sleep.
    pub wake: &'a dyn Fn(),
}

/// Which look for connections that nobody serves comes next, and when.
#[derive(Debug, Clone, Copy)]
enum Looks {
    First(Monotonic),
    Second(Monotonic),
}

impl Looks {
    fn at(self) -> Monotonic {
        match self {
            Self::First(at) | Self::Second(at) => at,
        }
    }
}

#[derive(Debug)]
struct Leaving {
    /// Weakly: it must not be kept from going.
    backend: Weak<Backend>,
    departure: Departure,
    look_at: Monotonic,
    /// The last one of its connections was told of.
    was_empty: bool,
}

/// A walk under way.
#[derive(Debug)]
struct Walk {
    cursor: Cursor,
    /// By [`BackendId`], of those that leave: what their pool says, and whether their deadline was over when the walk began.
    rules: Vec<Option<(Drain, bool)>>,
    /// Only what it serves goes on; `None`: not looked at.
    served: Option<Arc<Targets>>,
}

/// A line of `weir status`.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) backend: Arc<Backend>,
    pub(super) departure: Departure,
}

/// Nobody leaves.
impl Default for Draining {
    fn default() -> Self {
        let (leaving, promised) = (BTreeMap::new(), BTreeMap::new());
        Self { leaving, promised, walk: None, next: NEVER, served: None, policy: None, empty: Throng::default() }
    }
}

impl Draining {
    /// When there is something to do.
    pub fn next(&self) -> Monotonic {
        self.next
    }

    /// A backend takes no new connections from now on; one that did not before either has another reason now.
    pub fn begin(&mut self, backend: &Arc<Backend>, cause: Cause, drain: Drain, now: Monotonic) {
        let fresh = || Leaving { backend: Weak::new(), departure: Departure::default(), look_at: now, was_empty: false };
        let leaving = self.leaving.entry(backend.id).or_insert_with(fresh);
        if !std::ptr::eq(leaving.backend.as_ptr(), Arc::as_ptr(backend)) {
            // The id was another backend's, which has gone.
            *leaving = Leaving { backend: Arc::downgrade(backend), ..fresh() };
        }
        if leaving.departure.drain() != drain {
            leaving.departure.rule(drain, now);
            leaving.look_at = now;
        }
        if leaving.departure.since(cause).is_none() {
            if cause == Cause::Removed {
                let before =
                    self.promised.remove(&backend.id).filter(|(whose, _)| std::ptr::eq(whose.as_ptr(), Arc::as_ptr(backend)));
                leaving.departure.promised = before.map(|(_, deadline)| deadline);
            }
            leaving.departure.begin(cause, now);
            leaving.look_at = now;
            leaving.was_empty = false;
        }
        self.policy = None;
        self.plan();
    }

    /// A reload begins: deadlines that were over while nobody left do not hold any more.
    pub(super) fn forget_over(&mut self, now: Monotonic) {
        self.promised.retain(|_, (backend, deadline)| *deadline > now && backend.strong_count() > 0);
    }

    /// A reload takes a reason back; if it, or the next one, removes the backend, that does not put off its deadline.
    pub(super) fn take_back(&mut self, backend: BackendId, cause: Cause) {
        if let Some(leaving) = self.leaving.get_mut(&backend).filter(|leaving| leaving.departure.since(cause).is_some()) {
            if let Some(deadline) = leaving.departure.planned_deadline() {
                self.promised.insert(backend, (leaving.backend.clone(), deadline));
            }
            leaving.departure.promised = None;
            self.end(backend, cause);
        }
    }

    /// The reason is gone.
    pub(super) fn end(&mut self, backend: BackendId, cause: Cause) {
        if let Some(leaving) = self.leaving.get_mut(&backend) {
            leaving.departure.end(cause);
            if leaving.departure.is_over() {
                self.leaving.remove(&backend);
            }
            self.policy = None;
            // A walk that began before must not end what stays.
            self.walk = None;
            self.plan();
        }
    }

    /// After a reload: who is in no pool any more leaves, who is again does not, and pools may say something else.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, old: &Config, new: &Config, now: Monotonic) {
        let wanted = registry::keys(new);
        let [before, said] = [old, new].map(|config| |pool: &str| config.pool(pool).map(|pool| pool.drain));
        self.leaving.retain(|id, leaving| {
            snapshot.backend(*id).is_some_and(|backend| std::ptr::eq(Arc::as_ptr(backend), leaving.backend.as_ptr()))
        });
        for backend in snapshot.backends.iter().flatten() {
            let known = self.leaving.get(&backend.id).map(|leaving| leaving.departure);
            let (before, said) = (before(&backend.pool), said(&backend.pool));
            match (wanted.contains(&registry::key(backend)), known) {
                (false, Some(known)) if known.since(Cause::Removed).is_some() => {
                    // An edit of its pool is for it, too; a pool of that name which comes anew is another one.
                    let edited = said.filter(|said| before.is_some_and(|before| before != *said));
                    self.begin(backend, Cause::Removed, edited.unwrap_or(known.drain()), now);
                }
                (false, known) => {
                    let drain = said.or(before).or(known.map(|known| known.drain())).unwrap_or_default();
                    self.begin(backend, Cause::Removed, drain, now);
                }
                (true, Some(known)) => {
                    let drain = said.unwrap_or(known.drain());
                    self.take_back(backend.id, Cause::Removed);
                    if backend.member.is_eligible() {
                        self.end(backend.id, Cause::Failed);
                    }
                    if let Some(leaving) = self.leaving.get_mut(&backend.id) {
                        leaving.departure.rule(drain, now);
                        leaving.look_at = now;
                    }
                }
                (true, None) => {}
            }
        }
        self.policy = None;
        self.plan();
    }

    /// A reload took services away: connections that `served` has not end, both sides are told.
    pub(super) fn cut_all_but(&mut self, served: Targets, now: Monotonic) {
        self.served = Some((Arc::new(served), Looks::First(now)));
        self.plan();
    }

    /// Since when there is this reason for a backend.
    pub(super) fn since(&self, backend: BackendId, cause: Cause) -> Option<Monotonic> {
        self.leaving.get(&backend)?.departure.since(cause)
    }

    /// Those that are of interest: drained by an operator, or not empty yet.
    pub(super) fn lines(&self) -> Vec<Line> {
        let line = |leaving: &Leaving| Some(Line { backend: leaving.backend.upgrade()?, departure: leaving.departure });
        let is_told = |line: &Line| line.departure.since(Cause::Drained).is_some() || line.backend.member.connections() > 0;
        self.leaving.values().filter_map(line).filter(is_told).collect()
    }

    /// The timeouts of `snapshot`, by which UDP of all of them lives only as long as replies come.
    pub(super) fn timeouts(&mut self, snapshot: &Snapshot) -> Arc<TimeoutPolicy> {
        let ids = || self.leaving.keys().map(|id| id.0);
        match &self.policy {
            Some((generation, policy)) if *generation == snapshot.generation => Arc::clone(policy),
            _ => {
                let policy = Arc::new(snapshot.timeouts.leaving(ids()));
                self.policy = Some((snapshot.generation, Arc::clone(&policy)));
                policy
            }
        }
    }

    /// Does a slice if it is due.
    pub fn run(&mut self, clock: impl Fn() -> Monotonic, datapath: &Datapath, outlets: &[Outlet<'_>]) {
        let began = clock();
        if began < self.next {
            return;
        }
        if let Some(more) = self.empty.sum(began) {
            info!("and {more} more backends that take no new connections have none left");
        }
        if self.walk.is_none() {
            self.walk = self.begin_walk(began);
        }
        let Some(mut walk) = self.walk.take() else { return self.plan() };
        let (snapshot, homes) = (datapath.snapshot.load_full(), datapath.homes.load_full());
        let mut now = began;
        while now.nanos_since(began) < SLICE {
            // The one with the most room: both RSTs of a connection leave by one worker.
            let widest = outlets.iter().max_by_key(|outlet| outlet.orders.room());
            let Some(Outlet { orders, wake }) = widest.filter(|outlet| outlet.orders.room() >= 2 * STEP as usize) else { break };
            let mut are_given = false;
            let (rules, served) = (&walk.rules, walk.served.as_deref());
            let mut judged = |glimpse: &Glimpse| match rules.get(usize::from(glimpse.owner.backend)) {
                _ if served.is_some_and(|served| !served.serve(glimpse.vip, glimpse.state.protocol())) => {
                    Sentence::Reset(DestroyReason::Unserved)
                }
                Some(Some((drain, is_due))) => judge(drain, *is_due, glimpse),
                _ => Sentence::Spare,
            };
            let mut ended = |culled: Culled| {
                connection_closed(&snapshot, homes.as_deref(), &culled.connection);
                for parting in culled.partings.into_iter().flatten() {
                    let (source, destination) = (parting.source, parting.destination);
                    let (sequence, acknowledgment) = (parting.sequence, parting.acknowledgment);
                    // There is room. If there were none: whoever goes on sending is told.
                    are_given |= orders.give(TcpReset { source, destination, sequence, acknowledgment });
                }
            };
            let court = (&mut judged as &mut dyn FnMut(&Glimpse) -> Sentence, &mut ended as &mut dyn FnMut(Culled));
            let is_over = datapath.conntrack.cull(&mut walk.cursor, STEP, now.millis(), &snapshot.timeouts, court);
            if are_given {
                wake();
            }
            now = clock();
            if is_over {
                self.tell_empty(now);
                return self.plan();
            }
        }
        self.walk = Some(walk);
        self.next = Monotonic(now.0 + PAUSE);
    }

    /// A walk for all that leave, if it is time to look at one that has connections.
    fn begin_walk(&mut self, now: Monotonic) -> Option<Walk> {
        let mut is_needed = false;
        let mut rules = Vec::new();
        for (id, leaving) in &mut self.leaving {
            if leaving.look_at <= now {
                leaving.look_at = leaving.departure.next_look(now);
                is_needed |= leaving.connections() > 0;
            }
            rules.resize(usize::from(id.0) + 1, None);
            rules[usize::from(id.0)] = Some((leaving.departure.drain(), leaving.departure.is_due(now)));
        }
        self.tell_empty(now);
        let served = self.look_for_unserved(now);
        (is_needed || served.is_some()).then(|| Walk { cursor: Cursor::default(), rules, served })
    }

    /// What is served, if it is time to look for connections of others.
    fn look_for_unserved(&mut self, now: Monotonic) -> Option<Arc<Targets>> {
        let (served, looks) = self.served.take_if(|(_, looks)| looks.at() <= now)?;
        if let Looks::First(_) = looks {
            self.served = Some((Arc::clone(&served), Looks::Second(Monotonic(now.0 + LOOK_AGAIN_AFTER))));
        }
        Some(served)
    }

    /// Says once of each that it is empty, and forgets those that the config has no more.
    fn tell_empty(&mut self, now: Monotonic) {
        for leaving in self.leaving.values_mut().filter(|leaving| leaving.connections() == 0 && !leaving.was_empty) {
            leaving.was_empty = true;
            let cause = leaving.departure.cause();
            if let (Some(backend), Some(since)) = (leaving.backend.upgrade(), leaving.departure.since(cause)) {
                let seconds = now.nanos_since(since) / 1_000_000_000;
                let (address, pool, cause) = (Shown(backend.address()), &backend.pool, cause.name());
                let level = self.empty.level(Level::INFO, now);
                log!(level, "backend {address} of pool {pool}, {cause}: no connection left after {seconds} s");
            }
        }
        // Its last connection and the registry may have let go of it.
        self.leaving.retain(|_, leaving| leaving.backend.strong_count() > 0);
    }

    fn plan(&mut self) {
        let looks = self.leaving.values().map(|leaving| leaving.look_at);
        let unserved = self.served.as_ref().map(|(_, looks)| looks.at());
        self.next = looks.chain(unserved).fold(self.empty.next(), Monotonic::min);
    }
}

impl Leaving {
    fn connections(&self) -> u32 {
        self.backend.upgrade().map_or(0, |backend| backend.member.connections())
    }
}

impl Daemon {
    /// Ends what is due of those that leave.
    pub(super) fn drain_due(&mut self) {
        if Monotonic::now() < self.draining.next() {
            return;
        }
        let bells: Vec<_> = self.workers.iter().map(|running| (running, || running.bell.ring())).collect();
        let outlets: Vec<_> =
            bells.iter().map(|(running, ring)| Outlet { orders: &running.worker.shared().orders, wake: ring }).collect();
        self.draining.run(Monotonic::now, &self.datapath, &outlets);
    }

    /// A backend went up or down.
    pub(super) fn follow_health(&mut self, backend: &Arc<Backend>, up: bool) {
        match up {
            true => self.draining.end(backend.id, Cause::Failed),
            false => self.draining.begin(backend, Cause::Failed, self.drain_of(backend), Monotonic::now()),
        }
    }

    /// What the pool of a backend says.
    pub(super) fn drain_of(&self, backend: &Backend) -> Drain {
        self.config.pool(&backend.pool).map(|pool| pool.drain).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Registry;
    use std::path::Path;

    const CONFIG: &str = r#"
        interface = [{ name = "eth0" }]
        snat = { addresses = ["10.0.0.200"] }
        service = [{ name = "a", vip = "10.0.0.1:80", protocol = "tcp", pool = "p" }]
        pool = [{ name = "p", drain = { deadline = "3s" }, backends = [{ address = "10.1.0.1:80" }, { address = "10.1.0.2:80" }] }]
    "#;

    fn at(tenths: u64) -> Monotonic {
        Monotonic(tenths * 100_000_000)
    }

    fn parse(text: &str) -> Config {
        Config::parse(Path::new("test.toml"), text).unwrap_or_else(|report| panic!("{report}"))
    }

    #[test]
    fn a_pool_that_comes_anew_has_no_say_in_what_the_one_before_has_left() {
        let with = parse(CONFIG);
        let pool_q = |pool: &str| pool.replace("pool = \"p\"", "pool = \"q\"").replace("name = \"p\"", "name = \"q\"");
        let other = parse(&pool_q(CONFIG));
        let anew = parse(&CONFIG.replace("10.1.0.2:80", "10.1.0.3:80").replace("3s", "1s"));
        let edited = parse(&CONFIG.replace("10.1.0.2:80", "10.1.0.3:80").replace("\"3s\"", "\"4s\", udp = \"rehash\""));
        let (mut registry, mut draining) = (Registry::default(), Draining::default());
        let backend = registry.snapshot(&with).unwrap().backends[1].clone().unwrap();
        backend.member.connection_opened();
        let mut reload = |draining: &mut Draining, old: &Config, new: &Config, tenths| {
            draining.follow(&registry.snapshot(new).unwrap(), old, new, at(tenths));
            let leaving = &draining.leaving[&backend.id];
            (leaving.departure.deadline(), leaving.look_at)
        };
        assert_eq!(reload(&mut draining, &with, &other, 10).0, Some(at(40)), "its pool goes");
        assert_eq!(reload(&mut draining, &other, &anew, 20).0, Some(at(40)), "a pool of that name comes");
        assert_eq!(reload(&mut draining, &anew, &anew, 21).0, Some(at(40)), "and stays");
        assert_eq!(reload(&mut draining, &anew, &edited, 22), (Some(at(62)), at(22)), "and is edited: UDP moves at once");
    }

    #[test]
    fn a_reload_puts_no_deadline_off() {
        let (with, without) = (parse(CONFIG), parse(&CONFIG.replace(", { address = \"10.1.0.2:80\" }", "")));
        let (mut registry, mut draining) = (Registry::default(), Draining::default());
        let backend = registry.snapshot(&with).unwrap().backends[1].clone().unwrap();
        backend.member.connection_opened();
        let deadline = |draining: &Draining| draining.leaving.get(&backend.id).and_then(|leaving| leaving.departure.deadline());
        draining.begin(&backend, Cause::Drained, with.pools[0].drain, at(10));
        let mut reload = |draining: &mut Draining, old: &Config, new: &Config, tenths| {
            draining.forget_over(at(tenths));
            if new == &without {
                draining.take_back(backend.id, Cause::Drained);
            }
            draining.follow(&registry.snapshot(new).unwrap(), old, new, at(tenths));
        };
        reload(&mut draining, &with, &without, 29);
        assert_eq!(deadline(&draining), Some(at(40)), "drained at 1 s, removed at 2.9 s");
        assert_eq!(draining.leaving[&backend.id].departure.cause(), Cause::Removed);
        reload(&mut draining, &without, &with, 32);
        assert_eq!(deadline(&draining), None, "it serves again");
        reload(&mut draining, &with, &without, 35);
        assert_eq!(deadline(&draining), Some(at(40)), "and is removed before the deadline");
        reload(&mut draining, &without, &with, 38);
        reload(&mut draining, &with, &without, 90);
        assert_eq!(deadline(&draining), Some(at(120)), "the old deadline was over while it served");
    }
}
