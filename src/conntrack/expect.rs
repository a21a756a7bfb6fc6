//! Expectations (`nf_conntrack_expect`): connections that a control connection has announced, and that nobody asks a scheduler about.
//!
//! The table is shared by all workers and looked into for first packets only, and only while something is expected. A control connection
//! expects one connection at a time, a later one takes the place of an earlier one (`max_expected` of `nf_conntrack_ftp`, and what it does
//! beyond it). What is expected is forgotten after five minutes, and with its control connection.

use super::extension::Life;
use super::{Millis, Owner, TupleView};
use crossbeam_utils::CachePadded;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Milliseconds that something is expected for: the kernel's for FTP.
pub const EXPECT_TIMEOUT: u32 = 300_000;
/// Connections that are expected at once, of both families.
pub const MAX_EXPECTATIONS: usize = 16_384;

/// An announced connection. Its first packet may come from any port of `source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Who opens it: the client, or the backend.
    pub source: IpAddr,
    /// Where it comes to: the VIP, or a SNAT address.
    pub destination: SocketAddr,
    /// Where it is sent on to: the backend, or the client.
    pub target: SocketAddr,
    /// Whom it comes from there: a SNAT address, or the VIP.
    pub seen_from: IpAddr,
    /// The backend opens it.
    pub from_backend: bool,
    /// Service and backend of the control connection.
    pub owner: Owner,
    /// The control connection, client → VIP.
    pub control: TupleView,
    /// In which life.
    pub master: Life,
    /// When it was announced.
    pub since: Millis,
}

type Key = (IpAddr, SocketAddr);

impl Expectation {
    fn key(&self) -> Key {
        (self.source, self.destination)
    }

    /// Milliseconds for which it is still expected.
    pub fn left(&self, now: Millis) -> u32 {
        let age = now.since(self.since);
        // A worker's clock may be a moment ahead.
        EXPECT_TIMEOUT.saturating_sub(if age < u32::MAX / 2 { age } else { 0 })
    }
}

/// What became of announcing a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// It is expected.
    Expected,
    /// Another control connection expects one from the same source to the same place.
    Clash,
    /// So many are expected already.
    Full,
}

/// All that is expected.
#[derive(Debug, Default)]
pub struct Expectations {
    expected: DashMap<Key, Expectation>,
    count: CachePadded<AtomicUsize>,
}

impl Expectations {
    /// Whether nothing is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Relaxed: who comes because it was told where has been told after this was counted.
        self.count.load(Relaxed) == 0
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// From now on a connection is expected, unless it would be another one's.
    pub fn announce(&self, expectation: Expectation) -> Announced {
        if self.count.fetch_add(1, Relaxed) >= MAX_EXPECTATIONS {
            self.count.fetch_sub(1, Relaxed);
            return Announced::Full;
        }
        match self.expected.entry(expectation.key()) {
            Slot::Vacant(slot) => {
                slot.insert(expectation);
                Announced::Expected
            }
            Slot::Occupied(mut slot) => {
                self.count.fetch_sub(1, Relaxed);
                if slot.get().master != expectation.master {
                    return Announced::Clash;
                }
                slot.insert(expectation);
                Announced::Expected
            }
        }
    }

    /// What is expected from `source` at `destination`.
    pub fn find(&self, source: IpAddr, destination: SocketAddr, now: Millis) -> Option<Expectation> {
        self.expected.get(&(source, destination)).filter(|found| found.left(now) > 0).map(|found| found.clone())
    }

    /// It came, or it is not expected any more. `false`: someone else was first.
    pub fn take(&self, expectation: &Expectation) -> bool {
        self.forget(expectation.source, expectation.destination, expectation.master)
    }

    /// What `master` expects from `source` at `destination` is not expected any more.
    pub fn forget(&self, source: IpAddr, destination: SocketAddr, master: Life) -> bool {
        let taken = self.expected.remove_if(&(source, destination), |_, found| found.master == master).is_some();
        if taken {
            self.count.fetch_sub(1, Relaxed);
        }
        taken
    }

    /// Forgets what is over. The control thread's.
    pub(super) fn sweep(&self, now: Millis, is_alive: impl Fn(&Expectation) -> bool) {
        if !self.is_empty() {
            let mut over = 0;
            self.expected.retain(|_, expectation| {
                let stays = expectation.left(now) > 0 && is_alive(expectation);
                over += usize::from(!stays);
                stays
            });
            self.count.fetch_sub(over, Relaxed);
        }
    }

    /// A copy of each, in no order.
    pub fn list(&self) -> Vec<Expectation> {
        self.expected.iter().map(|found| found.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectation(port: u16, id: u32) -> Expectation {
        let (client, vip): (SocketAddr, SocketAddr) = ("10.1.0.5:40000".parse().unwrap(), "10.9.0.1:21".parse().unwrap());
        Expectation {
            source: client.ip(),
            destination: SocketAddr::new(vip.ip(), port),
            target: SocketAddr::new("10.2.0.11".parse().unwrap(), port),
            seen_from: "10.2.0.200".parse().unwrap(),
            from_backend: false,
            owner: Owner::default(),
            control: TupleView { source: client, destination: vip },
            master: Life { number: 1, id },
            since: Millis(u32::MAX - 5),
        }
    }

    #[test]
    fn one_control_connection_has_a_place_and_may_ask_again() {
        let expectations = Expectations::default();
        assert!(expectations.is_empty());
        assert_eq!(expectations.announce(expectation(5000, 1)), Announced::Expected);
        assert_eq!(expectations.announce(expectation(5000, 1)), Announced::Expected, "the same again");
        assert_eq!(expectations.announce(expectation(5000, 2)), Announced::Clash);
        assert_eq!(expectations.announce(expectation(5001, 2)), Announced::Expected);
        assert_eq!((expectations.count(), expectations.list().len()), (2, 2));
    }

    #[test]
    fn what_came_is_not_expected_any_more() {
        let expectations = Expectations::default();
        let one = expectation(5000, 1);
        expectations.announce(one.clone());
        let found = |port: u16, now: u32| expectations.find(one.source, SocketAddr::new(one.destination.ip(), port), Millis(now));
        assert_eq!(found(5000, 10), Some(one.clone()));
        assert_eq!(found(5001, 10), None);
        assert!(!expectations.take(&expectation(5000, 2)), "another one's");
        assert!(expectations.take(&one));
        assert!(!expectations.take(&one), "twice");
        assert!(found(5000, 10).is_none() && expectations.is_empty());
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let expectations = Expectations::default();
        expectations.announce(expectation(5000, 1));
        expectations.announce(expectation(5001, 2));
        let last = Millis(u32::MAX - 5).after(EXPECT_TIMEOUT - 1);
        expectations.sweep(last, |expectation| expectation.master.id == 2);
        assert_eq!(expectations.count(), 1, "that of a control connection that has ended");
        let one = expectation(5001, 2);
        assert!(expectations.find(one.source, one.destination, last).is_some());
        assert!(expectations.find(one.source, one.destination, last.after(1)).is_none());
        expectations.sweep(last.after(1), |_| true);
        assert!(expectations.is_empty() && expectations.list().is_empty());
    }

    #[test]
    fn no_more_than_there_is_room_for() {
        let expectations = Expectations::default();
        let numbered =
            |at: usize| Expectation { source: std::net::Ipv4Addr::from_bits(at as u32).into(), ..expectation(5000, 1) };
        for at in 0..MAX_EXPECTATIONS {
            assert_eq!(expectations.announce(numbered(at)), Announced::Expected);
        }
        assert_eq!(expectations.announce(numbered(MAX_EXPECTATIONS)), Announced::Full);
        assert!(expectations.take(&numbered(7)));
        assert_eq!(expectations.announce(numbered(MAX_EXPECTATIONS)), Announced::Expected);
    }
}
