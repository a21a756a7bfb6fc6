//! How many connections a service has, and how many of each source (`nf_conncount`): counted before a connection is confirmed, so that a limit
//! is never passed, and taken off when it leaves the table, in the one place where it does.
//!
//! Which counts a connection is part of is written in its state: nothing that a reload changes afterwards makes them wrong. Sources are
//! looked up by first packets only. There is room for so many; in a flood of random ones the others are not counted, and let through: who
//! can forge addresses has no limit by address, and must not be able to shut out everybody else.

use super::entry::State;
use super::rate::{Bucket, Rate};
use super::{ConnectionView, Millis};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ipnet::IpNet;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Services are known by 16 bits.
const SERVICES: usize = 1 << 16;
/// Parts of the map with a lock each: a sweep holds up a worker for no longer than it takes to look at one of them.
const SHARDS: usize = 256;

/// What is one source, and how many of them are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceSettings {
    /// IPv4 addresses with so many bits in common are one source.
    pub prefix_v4: u8,
    /// The same for IPv6.
    pub prefix_v6: u8,
    /// Sources that are counted at a time.
    pub entries: usize,
    /// Clients that persist at a time.
    pub templates: usize,
}

impl Default for SourceSettings {
    /// An IPv6 client has a /64 to itself, and any of its addresses (RFC 6177, section 2; RFC 7421; RFC 8981).
    fn default() -> Self {
        Self { prefix_v4: 32, prefix_v6: 64, entries: 1 << 18, templates: 1 << 18 }
    }
}

/// A source of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    service: u16,
    prefix: IpAddr,
}

/// What a source may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceLimits {
    /// Connections at a time.
    pub connections: Option<u32>,
    /// New ones a second.
    pub rate: Option<Rate>,
}

impl SourceLimits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Which limit of a source was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Connections at a time.
    Connections,
    /// New ones a second.
    Rate,
}

/// What is known of a source.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    connections: u32,
    bucket: Bucket,
    /// When the bucket is full again: with no connection left nothing need be known any more.
    full_at: Millis,
}

/// The counts. All atomics Relaxed: numbers that publish nothing; what is in the map is under its locks.
#[derive(Debug)]
pub struct ConnCount {
    services: Box<[AtomicU32]>,
    sources: DashMap<Source, Counted, RandomState>,
    known: AtomicUsize,
    uncounted: AtomicU64,
    settings: SourceSettings,
}

impl ConnCount {
    /// Of nothing. No memory is taken later on but what is in here, touched as sources come.
    pub fn new(settings: SourceSettings) -> Self {
        // Each shard has room for its share and a half: sources are not spread evenly.
        let room = settings.entries + settings.entries / 2 + SHARDS * 16;
        Self {
            services: (0..SERVICES).map(|_| AtomicU32::new(0)).collect(),
            sources: DashMap::with_capacity_and_hasher_and_shard_amount(room, RandomState::new(), SHARDS),
            known: AtomicUsize::new(0),
            uncounted: AtomicU64::new(0),
            settings,
        }
    }

    /// What is one source.
    pub fn settings(&self) -> &SourceSettings {
        &self.settings
    }

    /// Connections of a service: those of its backup pool are not counted.
    pub fn of_service(&self, service: u16) -> u32 {
        self.services[usize::from(service)].load(Relaxed)
    }

    /// Counts a connection of a service. `false`: it has as many as it may, and this one is not counted.
    pub fn enter_service(&self, service: u16, most: Option<u32>) -> bool {
        let count = &self.services[usize::from(service)];
        let within = count.fetch_add(1, Relaxed) < most.unwrap_or(u32::MAX);
        if !within {
            count.fetch_sub(1, Relaxed);
        }
        within
    }

    /// Takes a connection of a service off.
    pub fn leave_service(&self, service: u16) {
        self.services[usize::from(service)].fetch_sub(1, Relaxed);
    }

    /// The source that a client is for a service.
    pub fn source(&self, service: u16, client: IpAddr) -> Source {
        let bits = if client.is_ipv4() { self.settings.prefix_v4 } else { self.settings.prefix_v6 };
        Source { service, prefix: prefix_of(client, bits) }
    }

    /// Connections of a source that are counted.
    pub fn of_source(&self, source: &Source) -> u32 {
        self.sources.get(source).map_or(0, |counted| counted.connections)
    }

    /// Counts a connection of a source and takes a token of its rate. `false`: there is no room to know it.
    ///
    /// # Errors
    /// Which limit it has reached; nothing was counted or taken then.
    pub fn enter_source(&self, source: Source, limits: &SourceLimits, now: Millis) -> Result<bool, Exceeded> {
        match self.sources.entry(source) {
            Entry::Occupied(mut known) => known.get_mut().enter(limits, now).map(|()| true),
            Entry::Vacant(_) if self.known.load(Relaxed) >= self.settings.entries => {
                self.uncounted.fetch_add(1, Relaxed);
                Ok(false)
            }
            Entry::Vacant(place) => {
                let mut counted = Counted::default();
                counted.enter(limits, now)?;
                self.known.fetch_add(1, Relaxed);
                place.insert(counted);
                Ok(true)
            }
        }
    }

    /// What [`ConnCount::enter_source`] would say.
    pub fn would_exceed(&self, source: &Source, limits: &SourceLimits, now: Millis) -> Option<Exceeded> {
        let mut counted = self.sources.get(source).map_or_else(Counted::default, |known| *known);
        counted.enter(limits, now).err()
    }

    /// Takes a connection of a source off.
    pub fn leave_source(&self, source: &Source) {
        if let Some(mut known) = self.sources.get_mut(source) {
            known.connections = known.connections.saturating_sub(1);
        }
    }

    /// As [`ConnCount::leave_source`], for one that was never confirmed: its token comes back, too.
    pub fn give_back(&self, source: &Source) {
        if let Some(mut known) = self.sources.get_mut(source) {
            known.connections = known.connections.saturating_sub(1);
            known.bucket = known.bucket.give_back();
        }
    }

    /// Takes off a connection that leaves the table, of what it was counted in.
    pub fn closed(&self, connection: &ConnectionView) {
        if !connection.bits.has(State::AT_BACKUP) {
            self.leave_service(connection.service);
        }
        if connection.bits.is_source_counted() {
            self.leave_source(&self.source(connection.service, connection.original.source.ip()));
        }
    }

    /// Forgets sources of which nothing need be known: without connections, and with a full bucket.
    pub(super) fn sweep(&self, now: Millis) {
        if self.known.load(Relaxed) == 0 {
            return;
        }
        let mut forgotten = 0;
        self.sources.retain(|_, counted| {
            let is_full = now.since(counted.full_at) < u32::MAX / 2;
            let kept = counted.connections > 0 || !is_full;
            forgotten += usize::from(!kept);
            kept
        });
        self.known.fetch_sub(forgotten, Relaxed);
    }

    /// Sources that are known, and how many connections were let through uncounted because there was no room for theirs.
    pub fn load(&self) -> (usize, u64) {
        (self.known.load(Relaxed), self.uncounted.load(Relaxed))
    }
}

impl Default for ConnCount {
    fn default() -> Self {
        Self::new(SourceSettings::default())
    }
}

impl Counted {
    fn enter(&mut self, limits: &SourceLimits, now: Millis) -> Result<(), Exceeded> {
        if limits.connections.is_some_and(|most| self.connections >= most) {
            return Err(Exceeded::Connections);
        }
        if let Some(rate) = limits.rate {
            self.bucket = self.bucket.take(now, rate).ok_or(Exceeded::Rate)?;
            self.full_at = now.after(self.bucket.fills_in(rate));
        } else if self.connections == 0 {
            self.full_at = now;
        }
        self.connections += 1;
        Ok(())
    }
}

/// The address with all behind its first `bits` set to 0; at most as many bits as it has.
pub(super) fn prefix_of(address: IpAddr, bits: u8) -> IpAddr {
    IpNet::new(address, bits).map_or(address, |net| net.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "2001:db8:0:1::5";

    fn counts(entries: usize) -> ConnCount {
        ConnCount::new(SourceSettings { entries, ..SourceSettings::default() })
    }

    fn limits(connections: u32) -> SourceLimits {
        SourceLimits { connections: Some(connections), rate: None }
    }

    #[test]
    fn a_source_is_a_prefix_of_one_service() {
        let counts = counts(10);
        let source = |service, text: &str| counts.source(service, text.parse().unwrap());
        assert_eq!(source(1, ADDRESS), source(1, "2001:db8:0:1:ffff::"));
        assert_ne!(source(1, ADDRESS), source(1, "2001:db8:0:2::5"));
        assert_ne!(source(1, ADDRESS), source(2, ADDRESS));
        assert_ne!(source(1, "192.0.2.1"), source(1, "192.0.2.2"));
    }

    #[test]
    fn no_more_than_the_limit_and_again_when_one_leaves() {
        let counts = counts(10);
        let source = counts.source(1, ADDRESS.parse().unwrap());
        let enter = || counts.enter_source(source, &limits(2), Millis(5));
        assert_eq!([enter(), enter(), enter()], [Ok(true), Ok(true), Err(Exceeded::Connections)]);
        counts.leave_source(&source);
        assert_eq!([enter(), enter()], [Ok(true), Err(Exceeded::Connections)]);
        assert_eq!(counts.of_source(&source), 2);
        assert!(counts.enter_service(3, Some(1)) && !counts.enter_service(3, Some(1)) && counts.enter_service(4, Some(1)));
        counts.leave_service(3);
        assert!(counts.enter_service(3, Some(1)));
    }

    #[test]
    fn who_is_refused_costs_no_token_and_who_gives_up_gets_it_back() {
        let counts = counts(10);
        let source = counts.source(1, ADDRESS.parse().unwrap());
        let both = SourceLimits { connections: Some(1), rate: Some(Rate { per_second: 1, burst: 2 }) };
        let enter = || counts.enter_source(source, &both, Millis(5));
        assert_eq!([enter(), enter(), enter()], [Ok(true), Err(Exceeded::Connections), Err(Exceeded::Connections)]);
        counts.leave_source(&source);
        assert_eq!(enter(), Ok(true));
        counts.leave_source(&source);
        assert_eq!(enter(), Err(Exceeded::Rate));
        assert_eq!(counts.would_exceed(&source, &both, Millis(1005)), None);
        assert_eq!(counts.enter_source(source, &both, Millis(1005)), Ok(true));
        counts.give_back(&source);
        assert_eq!(counts.enter_source(source, &both, Millis(1005)), Ok(true));
    }

    #[test]
    fn sources_are_bounded_and_forgotten() {
        let counts = counts(100);
        let rate = SourceLimits { connections: None, rate: Some(Rate { per_second: 1, burst: 3 }) };
        let source = |n: u32| counts.source(1, IpAddr::from(n.to_be_bytes()));
        let counted = (0..1000).filter(|n| counts.enter_source(source(*n), &rate, Millis(0)) == Ok(true)).count();
        assert_eq!((counted, counts.load()), (100, (100, 900)));
        (0..100).for_each(|n| counts.leave_source(&source(n)));
        counts.sweep(Millis(999));
        assert_eq!(counts.load().0, 100, "their buckets are not full");
        let _ = counts.enter_source(source(7), &rate, Millis(999));
        counts.sweep(Millis(1000));
        assert_eq!(counts.load().0, 1, "one has a connection");
        assert_eq!(counts.enter_source(source(5000), &rate, Millis(1000)), Ok(true));
    }

    #[test]
    fn nothing_is_allocated_for_a_source() {
        let counts = counts(10_000);
        let room = counts.sources.capacity();
        for n in 0..20_000_u32 {
            let _ = counts.enter_source(counts.source(1, IpAddr::from(n.to_be_bytes())), &limits(5), Millis(0));
        }
        assert_eq!((counts.load().0, counts.sources.capacity()), (10_000, room));
    }
}
