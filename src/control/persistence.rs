//! Clients persist for as long as connections of theirs live, as with IPVS, where a template outlasts the connections that it controls.
//!
//! Nothing is counted for it: first packets alone ask who persists, and a count that is taken off where connections end would have to be right
//! under every prefix and group that reloads have set since. Instead, when the time of some clients is nearly over, the table is asked once whether
//! they have connections still, in slices as expiry is.

use super::expiry::{PAUSE, SLICE};
use crate::conntrack::{Court, Cursor, Glimpse, Persistent, Sentence, State};
use crate::datapath::Datapath;
use crate::service::{BackendId, Persistence, Snapshot};
use crate::worker::Monotonic;
use std::collections::HashMap;
use std::net::IpAddr;

/// From the beginning of one walk to the next, in nanoseconds; half of the shortest timeout if that is less.
const EVERY: u64 = 5_000_000_000;
/// Entries of one step.
const STEP: u32 = 2048;

/// When to look, and how far a look has come.
#[derive(Debug)]
pub struct Persisting {
    walk: Option<Walk>,
    next: Monotonic,
}

#[derive(Debug)]
struct Walk {
    /// The part of the clients to be asked next whose time is nearly over; after the last one, the table is walked.
    part: usize,
    soon: u32,
    cursor: Cursor,
    /// Whose time is nearly over, and where they persist.
    ending: HashMap<Persistent, IpAddr>,
    again: Monotonic,
}

impl Persisting {
    /// The first look is due now.
    pub fn new(now: Monotonic) -> Self {
        Self { walk: None, next: now }
    }

    /// When there is something to do.
    pub fn next(&self) -> Monotonic {
        self.next
    }

    /// Does a slice if it is due.
    pub fn run(&mut self, clock: impl Fn() -> Monotonic, datapath: &Datapath) {
        let began = clock();
        if began < self.next {
            return;
        }
        let snapshot = datapath.snapshot.load_full();
        let rules = rules(&snapshot);
        let mut walk = self.walk.take().unwrap_or_else(|| Walk::begin(&rules, datapath, began));
        let mut now = began;
        while now.nanos_since(began) < SLICE {
            let is_over = !walk.gather(datapath, now) && (walk.ending.is_empty() || walk.step(&rules, &snapshot, datapath, now));
            now = clock();
            if is_over {
                self.next = walk.again.max(now);
                return;
            }
        }
        self.walk = Some(walk);
        self.next = Monotonic(now.0 + PAUSE);
    }
}

impl Walk {
    fn begin(rules: &[Option<Persistence>], datapath: &Datapath, now: Monotonic) -> Self {
        let shortest = rules.iter().flatten().map(|persistence| u64::from(persistence.timeout) * 1_000_000).min();
        let every = EVERY.min(shortest.unwrap_or(u64::MAX) / 2);
        // The walk after this one may come too late for them.
        let soon = (2 * every / 1_000_000) as u32;
        let templates = datapath.conntrack.templates();
        let (part, most) = if shortest.is_some() { (0, templates.load().0) } else { (templates.parts(), 0) };
        // With room for all from the start: a map that grows moves all that it has at once.
        let ending = HashMap::with_capacity(most);
        Self { part, soon, cursor: Cursor::default(), ending, again: Monotonic(now.0 + every) }
    }

    /// Asks one part of the clients. `false`: all have been asked.
    fn gather(&mut self, datapath: &Datapath, now: Monotonic) -> bool {
        let templates = datapath.conntrack.templates();
        if self.part == templates.parts() {
            return false;
        }
        templates.gather(self.part, (now.millis(), self.soon), &mut self.ending);
        self.part += 1;
        true
    }

    /// Prolongs those that have a connection among the next entries. Whether these were the last.
    fn step(&mut self, rules: &[Option<Persistence>], snapshot: &Snapshot, datapath: &Datapath, now: Monotonic) -> bool {
        let (ending, templates) = (&mut self.ending, datapath.conntrack.templates());
        let mut look = |glimpse: &Glimpse| {
            let rule = rules.get(usize::from(glimpse.owner.service)).copied().flatten();
            if let Some(persistence) = rule.filter(|_| !glimpse.state.has(State::AT_BACKUP)) {
                let client = persistence.of(glimpse.client.ip());
                let at = snapshot.backend(BackendId(glimpse.owner.backend)).map(|backend| backend.address().ip());
                if at.is_some() && ending.get(&client).copied() == at {
                    ending.remove(&client);
                    templates.prolong(&client, now.millis().after(persistence.timeout));
                }
            }
            Sentence::Spare
        };
        // Nobody is ended, so nobody is told of.
        let court: Court<'_> = (&mut look, &mut |_| {});
        datapath.conntrack.cull(&mut self.cursor, STEP, now.millis(), &snapshot.timeouts, court)
    }
}

/// By service.
fn rules(snapshot: &Snapshot) -> Vec<Option<Persistence>> {
    let mut rules = Vec::new();
    for service in snapshot.services.iter().filter(|service| service.persistence.is_some()) {
        let at = usize::from(service.id.0);
        rules.resize(rules.len().max(at + 1), None);
        rules[at] = service.persistence;
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::{Conntrack, Remembered, SourceSettings};
    use std::net::SocketAddr;

    const CLIENTS: usize = 1 << 16;

    /// What a walk asks between two looks at the clock is bounded by the largest part, whatever the number of clients.
    #[test]
    fn clients_are_asked_in_small_parts_and_none_is_left_out() {
        let sources = SourceSettings { templates: CLIENTS, ..SourceSettings::default() };
        let conntrack = Conntrack::new(1024).unwrap().with_sources(sources);
        let templates = conntrack.templates();
        let backend: SocketAddr = "10.2.0.11:80".parse().unwrap();
        for client in 0..CLIENTS as u32 {
            let client = Persistent::new(1, IpAddr::from(client.to_be_bytes()), 32);
            let now = crate::conntrack::Millis(0);
            templates.follow(client, (1000, now), Remembered::Takes, || Some((backend, backend)));
        }
        let (mut ending, mut largest) = (HashMap::with_capacity(CLIENTS), 0);
        let room = ending.capacity();
        for part in 0..templates.parts() {
            let before = ending.len();
            templates.gather(part, (crate::conntrack::Millis(900), 200), &mut ending);
            largest = largest.max(ending.len() - before);
        }
        assert_eq!((ending.len(), ending.capacity()), (CLIENTS, room));
        assert!(largest <= CLIENTS / templates.parts() * 5 / 4, "{largest} at once");
    }
}
