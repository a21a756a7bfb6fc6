//! Which backend a client's next connection goes to (IPVS keeps such templates among its connections: `ip_vs_conn_fill_param_persist`).
//!
//! Looked up by first packets only, and under the lock of the client's part of the map: two that come to two workers at the same moment, as a
//! browser sends them, go to one backend. There is room for so many clients; others are scheduled as if nobody persisted.

use super::conncount::{ConnCount, SourceSettings, prefix_of};
use super::{Conntrack, Millis};
use dashmap::DashMap;
use dashmap::mapref::entry::{Entry, OccupiedEntry};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Maps that share the clients among them: whoever looks at all clients looks at one after the other, and does something else in between.
const PARTS: usize = 64;
/// Parts of each map with a lock of their own.
const SHARDS: usize = 4;

/// Who persists: the services of a group, for clients of one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Persistent {
    group: u32,
    prefix: IpAddr,
}

impl Persistent {
    /// `bits` of the client's address count.
    pub fn new(group: u32, client: IpAddr, bits: u8) -> Self {
        Self { group, prefix: prefix_of(client, bits) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Template {
    backend: SocketAddr,
    until: Millis,
}

impl Template {
    fn is_over(&self, now: Millis) -> bool {
        now.since(self.until) < u32::MAX / 2
    }
}

/// What is to be done with a backend that a client persists to.
#[derive(Debug)]
pub enum Remembered<T> {
    /// It gets the connection.
    Takes(T),
    /// It has no room at the moment: this connection goes elsewhere, the next one perhaps not.
    IsFull,
    /// It takes none: the client gets another one from now on.
    IsOut,
}

type Part = DashMap<Persistent, Template, RandomState>;

/// All templates. Atomics are Relaxed: numbers that publish nothing.
#[derive(Debug)]
pub struct Templates {
    parts: Vec<Part>,
    hasher: RandomState,
    most: usize,
    known: AtomicUsize,
    missed: AtomicU64,
}

impl Templates {
    /// Room for so many; no memory is taken later on, it is touched as clients come.
    pub fn new(most: usize) -> Self {
        let room = most.div_ceil(PARTS);
        let part =
            || DashMap::with_capacity_and_hasher_and_shard_amount(room + room / 2 + SHARDS * 16, RandomState::new(), SHARDS);
        Self {
            parts: std::iter::repeat_with(part).take(PARTS).collect(),
            hasher: RandomState::new(),
            most,
            known: AtomicUsize::new(0),
            missed: AtomicU64::new(0),
        }
    }

    fn part(&self, client: &Persistent) -> &Part {
        &self.parts[self.hasher.hash_one(client) as usize % PARTS]
    }

    /// What a client's connection gets: of the backend that is remembered (`true`), or what `choose` gives, which is remembered for
    /// `timeout` milliseconds then.
    pub fn follow<T>(
        &self,
        client: Persistent,
        (timeout, now): (u32, Millis),
        remembered: impl FnOnce(SocketAddr) -> Remembered<T>,
        choose: impl FnOnce() -> Option<(T, SocketAddr)>,
    ) -> Option<(T, bool)> {
        let place = match self.part(&client).entry(client) {
            Entry::Occupied(mut known) if !known.get().is_over(now) => match remembered(known.get().backend) {
                Remembered::Takes(taken) => {
                    known.get_mut().until = now.after(timeout);
                    return Some((taken, true));
                }
                Remembered::IsFull => return choose().map(|(chosen, _)| (chosen, false)),
                Remembered::IsOut => Ok(known),
            },
            Entry::Occupied(over) => Ok(over),
            Entry::Vacant(free) => Err(free),
        };
        let (chosen, backend) = choose()?;
        let template = Template { backend, until: now.after(timeout) };
        match place {
            Ok(known) => drop(OccupiedEntry::replace_entry(known, template)),
            Err(_) if self.known.load(Relaxed) >= self.most => drop(self.missed.fetch_add(1, Relaxed)),
            Err(free) => {
                self.known.fetch_add(1, Relaxed);
                free.insert(template);
            }
        }
        Some((chosen, false))
    }

    /// The backend that a client persists to, and for how many milliseconds still.
    pub fn look(&self, client: &Persistent, now: Millis) -> Option<(SocketAddr, u32)> {
        let template = *self.part(client).get(client)?;
        (!template.is_over(now)).then(|| (template.backend, template.until.since(now)))
    }

    /// How many parts [`Templates::gather`] is to be asked for.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Those of one part whose time is over within `soon` milliseconds, and the host that they persist to.
    pub fn gather(&self, part: usize, (now, soon): (Millis, u32), ending: &mut HashMap<Persistent, IpAddr>) {
        let is_ending = |template: &Template| !template.is_over(now) && template.until.since(now) <= soon;
        let found = self.parts[part].iter().filter(|client| is_ending(client.value()));
        ending.extend(found.map(|client| (*client.key(), client.value().backend.ip())));
    }

    /// A client that is known persists until then.
    pub fn prolong(&self, client: &Persistent, until: Millis) {
        if let Some(mut template) = self.part(client).get_mut(client) {
            template.until = until;
        }
    }

    /// Forgets those whose time is over.
    pub(super) fn sweep(&self, now: Millis) {
        if self.known.load(Relaxed) == 0 {
            return;
        }
        let mut forgotten = 0;
        for part in &self.parts {
            part.retain(|_, template| {
                forgotten += usize::from(template.is_over(now));
                !template.is_over(now)
            });
        }
        self.known.fetch_sub(forgotten, Relaxed);
    }

    /// Clients that are remembered, and how many connections were not because there was no room.
    pub fn load(&self) -> (usize, u64) {
        (self.known.load(Relaxed), self.missed.load(Relaxed))
    }
}

impl Conntrack {
    /// With other rules for sources than [`SourceSettings::default`].
    pub fn with_sources(mut self, settings: SourceSettings) -> Self {
        (self.conncount, self.templates) = (ConnCount::new(settings), Templates::new(settings.templates));
        self
    }

    /// How many connections services and sources have.
    pub fn conncount(&self) -> &ConnCount {
        &self.conncount
    }

    /// Who persists to which backend.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "10.2.0.11:80";
    const B: &str = "10.2.0.12:80";

    fn backend(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn client(last: u8) -> Persistent {
        Persistent::new(7, [192, 0, 2, last].into(), 32)
    }

    /// Where a connection goes if the scheduler would say `next`, and whether that was remembered.
    fn goes(templates: &Templates, client: Persistent, now: u32, next: &str) -> (SocketAddr, bool) {
        let chosen = templates.follow(client, (1000, Millis(now)), Remembered::Takes, || Some((backend(next), backend(next))));
        chosen.unwrap()
    }

    #[test]
    fn a_client_stays_until_its_time_is_over() {
        let templates = Templates::new(10);
        let begin = u32::MAX - 500;
        let at = |after: u32| begin.wrapping_add(after);
        assert_eq!(goes(&templates, client(1), at(0), A), (backend(A), false));
        assert_eq!(goes(&templates, client(2), at(0), B), (backend(B), false), "another client");
        assert_eq!(goes(&templates, client(1), at(999), B), (backend(A), true));
        assert_eq!(goes(&templates, client(1), at(1998), B), (backend(A), true), "from the last connection on");
        assert_eq!(templates.look(&client(1), Millis(at(2000))), Some((backend(A), 998)));
        assert_eq!(goes(&templates, client(1), at(2998), B), (backend(B), false));
        templates.sweep(Millis(at(2000)));
        assert_eq!(templates.load(), (1, 0));
        templates.sweep(Millis(at(3998)));
        assert_eq!((templates.load(), templates.look(&client(1), Millis(at(3998)))), ((0, 0), None));
    }

    #[test]
    fn one_that_is_out_is_replaced_and_one_that_is_full_only_passed_over() {
        let templates = Templates::new(10);
        goes(&templates, client(1), 0, A);
        let choose = || Some(((), backend(B)));
        assert_eq!(templates.follow(client(1), (1000, Millis(1)), |_| Remembered::IsFull, choose), Some(((), false)));
        assert_eq!(templates.look(&client(1), Millis(1)).unwrap().0, backend(A));
        assert_eq!(templates.follow(client(1), (1000, Millis(1)), |_| Remembered::IsOut, choose), Some(((), false)));
        assert_eq!(templates.look(&client(1), Millis(1)).unwrap().0, backend(B));
        assert_eq!(templates.follow::<()>(client(1), (1000, Millis(1)), |_| Remembered::IsOut, || None), None);
    }

    #[test]
    fn those_that_end_soon_can_be_prolonged() {
        let templates = Templates::new(10);
        goes(&templates, client(1), 0, A);
        goes(&templates, client(2), 500, B);
        let ending = |now| {
            let mut ending = HashMap::new();
            (0..templates.parts()).for_each(|part| templates.gather(part, (Millis(now), 300), &mut ending));
            ending
        };
        assert_eq!(ending(800), [(client(1), backend(A).ip())].into());
        assert_eq!(ending(1200), [(client(2), backend(B).ip())].into(), "the first one has ended");
        templates.prolong(&client(2), Millis(2500));
        templates.prolong(&client(9), Millis(2500));
        assert_eq!(templates.look(&client(2), Millis(2400)), Some((backend(B), 100)));
        assert_eq!(templates.load().0, 2);
    }

    #[test]
    fn clients_are_bounded() {
        let templates = Templates::new(5);
        let capacity = || templates.parts.iter().map(|part| part.capacity()).sum::<usize>();
        let room = capacity();
        (0..100).for_each(|last| assert_eq!(goes(&templates, client(last), 0, A).0, backend(A)));
        assert_eq!((templates.load(), capacity()), ((5, 95), room));
        assert_eq!(goes(&templates, client(3), 1, B), (backend(A), true), "who is known stays");
    }

    #[test]
    fn prefixes_and_groups_are_told_apart() {
        let of = |group, text: &str, bits| Persistent::new(group, text.parse().unwrap(), bits);
        assert_eq!(of(1, "192.0.2.1", 24), of(1, "192.0.2.99", 24));
        assert_ne!(of(1, "192.0.2.1", 24), of(2, "192.0.2.1", 24));
        assert_ne!(of(1, "192.0.2.1", 32), of(1, "192.0.2.2", 32));
    }
}
