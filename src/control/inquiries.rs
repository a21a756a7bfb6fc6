//! Which neighbours the kernel is still to be asked for, and how fast it is asked.
//!
//! Each question is a system call that often sends a packet, so thousands of them are asked in slices as walks over the table are. And the
//! kernel keeps every neighbour that does not answer for three seconds in a table of 1024 (net.ipv4.neigh.default.gc_thresh3, for all
//! namespaces together): whoever fills it keeps the ones that would answer out, the host's own included, and from there on each question costs a
//! search for an entry to give up. So no more than a part of it is asked for ahead of packets; what packets wait for does not wait.

use super::daemon::Daemon;
use super::expiry::{PAUSE, SLICE};
use crate::datapath::PortId;
use crate::worker::Monotonic;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use tracing::warn;

/// Unanswered questions with which no more are asked ahead of packets: half of gc_thresh2, from which on the kernel gives entries up.
const MOST_OPEN: usize = 256;
/// Nanoseconds until the kernel has given up: mcast_solicit times retrans_time, and what its timers are late. It does not tell that it has
/// begun to ask, and of a neighbour that had failed before not that it failed again.
const GIVEN_UP_AFTER: u64 = 3_500_000_000;
/// Nanoseconds between two looks for answers while so many are missing.
const WAIT: u64 = 20_000_000;
const NEVER: Monotonic = Monotonic(u64::MAX);

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inquiry {
    /// For a neighbour out of a port.
    Resolve(PortId, IpAddr),
    /// Whether what the kernel knows of a neighbour on an interface is still so.
    Confirm(u32, IpAddr),
}

/// Questions in order, each once.
#[derive(Debug)]
struct Lane<T> {
    order: VecDeque<T>,
    members: HashSet<T>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), members: HashSet::new() }
    }
}

impl<T: Copy + Eq + Hash> Lane<T> {
    fn extend(&mut self, more: impl IntoIterator<Item = T>) {
        self.order.extend(more.into_iter().filter(|item| self.members.insert(*item)));
    }

    fn pop(&mut self) -> Option<T> {
        let item = self.order.pop_front()?;
        self.members.remove(&item);
        Some(item)
    }
}

/// All questions that are to be asked.
#[derive(Debug)]
pub(super) struct Inquiries {
    /// Packets wait for these.
    urgent: Lane<(PortId, IpAddr)>,
    /// The kernel has these already: asking for them fills nothing.
    stale: Lane<(u32, IpAddr)>,
    /// Nobody waits for these yet.
    ahead: Lane<(PortId, IpAddr)>,
    /// Of these, those that were asked and not answered yet, and when.
    open: VecDeque<(Monotonic, (PortId, IpAddr))>,
    /// When there may be another slice.
    rested: Monotonic,
    next: Monotonic,
}

impl Default for Inquiries {
    fn default() -> Self {
        let (urgent, stale, ahead) = (Lane::default(), Lane::default(), Lane::default());
        Self { urgent, stale, ahead, open: VecDeque::new(), rested: Monotonic(0), next: NEVER }
    }
}

impl Inquiries {
    /// When there is something to do.
    pub(super) fn next(&self) -> Monotonic {
        self.next
    }

    fn need(&mut self, port: PortId, neighbour: IpAddr) {
        self.urgent.extend([(port, neighbour)]);
        self.next = self.rested;
    }

    fn confirm(&mut self, neighbours: impl IntoIterator<Item = (u32, IpAddr)>) {
        self.stale.extend(neighbours);
        self.next = self.rested;
    }

    /// Those that no route leads to any more need not be asked for.
    fn replace_ahead(&mut self, neighbours: impl IntoIterator<Item = (PortId, IpAddr)>) {
        self.ahead = Lane::default();
        self.ahead.extend(neighbours);
        self.next = self.rested;
    }

    /// Asks a slice of the questions if it is due.
    fn run(&mut self, clock: impl Fn() -> Monotonic, is_resolved: impl Fn(PortId, IpAddr) -> bool, mut ask: impl FnMut(Inquiry)) {
        let began = clock();
        if began < self.next {
            return;
        }
        self.open.retain(|(asked, (port, address))| began.nanos_since(*asked) < GIVEN_UP_AFTER && !is_resolved(*port, *address));
        let mut now = began;
        while now.nanos_since(began) < SLICE
            && let Some(inquiry) = self.pop(now)
        {
            ask(inquiry);
            now = clock();
        }
        self.rested = Monotonic(now.0 + PAUSE);
        self.next = match (self.urgent.order.is_empty() && self.stale.order.is_empty(), self.ahead.order.is_empty()) {
            (true, true) => NEVER,
            (true, false) if self.open.len() >= MOST_OPEN => Monotonic(now.0 + WAIT),
            _ => self.rested,
        };
    }

    fn pop(&mut self, now: Monotonic) -> Option<Inquiry> {
        let urgent = self.urgent.pop().map(|(port, neighbour)| Inquiry::Resolve(port, neighbour));
        let other = || self.stale.pop().map(|(index, neighbour)| Inquiry::Confirm(index, neighbour));
        if let Some(inquiry) = urgent.or_else(other) {
            return Some(inquiry);
        }
        let (port, neighbour) = if self.open.len() < MOST_OPEN { self.ahead.pop() } else { None }?;
        self.open.push_back((now, (port, neighbour)));
        Some(Inquiry::Resolve(port, neighbour))
    }
}

impl Daemon {
    /// Makes the kernel resolve what the way to each backend begins with, before a packet needs it.
    pub(super) fn resolve_backends(&mut self) {
        let snapshot = self.datapath.snapshot.load_full();
        let mut neighbours = BTreeSet::new();
        for backend in snapshot.services.iter().flat_map(|service| service.pools()).flat_map(|pool| &pool.backends) {
            let address = backend.address().ip();
            if let Some(route) = self.datapath.next_hops.route(address)
                && let Some(port) = route.port
            {
                neighbours.insert((port, route.gateway.unwrap_or(address)));
            }
        }
        self.inquiries.replace_ahead(neighbours);
        self.inquire();
    }

    /// Takes the questions of workers.
    pub(super) fn resolve_asked(&mut self) {
        while let Some(question) = self.resolver.next() {
            self.inquiries.need(question.port, question.neighbour);
        }
    }

    /// Neighbours that the kernel has not confirmed for a while are to be asked for again.
    pub(super) fn refresh_neighbours(&mut self) {
        self.inquiries.confirm(self.mirror.stale());
    }

    /// Asks what is due.
    pub(super) fn inquire(&mut self) {
        let Self { inquiries, mirror, netlink, unanswered, .. } = self;
        let is_resolved = |port, neighbour| mirror.is_resolved(port, neighbour);
        inquiries.run(Monotonic::now, is_resolved, |inquiry| {
            let asked = match inquiry {
                Inquiry::Resolve(port, neighbour) => mirror.resolve(netlink, port, neighbour),
                Inquiry::Confirm(index, neighbour) => mirror.confirm(netlink, index, neighbour),
            };
            // For a reason that passes: the interface is down, the kernel's table is full. Whoever has a packet asks again.
            let complaint = asked.err().and_then(|error| Some((error, unanswered.due(Monotonic::now())?)));
            match complaint {
                None => {}
                Some((error, 0)) => warn!("cannot resolve a neighbour: {error}"),
                Some((error, more)) => {
                    warn!("cannot resolve a neighbour: {error}; {more} such messages before this one were left out");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const MS: u64 = 1_000_000;

    fn neighbour(number: u32) -> (PortId, IpAddr) {
        (PortId(1), std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into())
    }

    /// A slice in which each question takes so long.
    fn slice(inquiries: &mut Inquiries, at: u64, resolved: &[u32], nanos: u64) -> Vec<Inquiry> {
        let (time, mut asked) = (Cell::new(at), Vec::new());
        inquiries.run(
            || Monotonic(time.get()),
            |port, address| resolved.iter().any(|number| neighbour(*number) == (port, address)),
            |inquiry| {
                time.set(time.get() + nanos);
                asked.push(inquiry);
            },
        );
        asked
    }

    fn resolve((port, address): (PortId, IpAddr)) -> Inquiry {
        Inquiry::Resolve(port, address)
    }

    #[test]
    fn what_packets_wait_for_comes_first_and_everything_once() {
        let mut inquiries = Inquiries::default();
        assert_eq!((inquiries.next(), slice(&mut inquiries, MS, &[], 1)), (NEVER, vec![]));
        inquiries.replace_ahead([1, 2, 2, 3].map(neighbour));
        inquiries.confirm([(7, neighbour(9).1)]);
        for _ in 0..2 {
            inquiries.need(PortId(1), neighbour(3).1);
        }
        let asked = slice(&mut inquiries, MS, &[], 1);
        let ahead = [1, 2, 3].map(|number| resolve(neighbour(number)));
        assert_eq!(asked, [resolve(neighbour(3)), Inquiry::Confirm(7, neighbour(9).1), ahead[0], ahead[1], ahead[2]]);
        assert_eq!(inquiries.next(), NEVER);
    }

    #[test]
    fn many_questions_are_asked_in_slices() {
        let mut inquiries = Inquiries::default();
        inquiries.confirm((0..100).map(|number| (7, neighbour(number).1)));
        let (mut slices, mut at) = (0, 10 * MS);
        while inquiries.next() != NEVER {
            at = at.max(inquiries.next().0);
            let asked = slice(&mut inquiries, at, &[], MS / 10).len() as u64;
            assert!(asked * MS / 10 <= SLICE);
            slices += 1;
        }
        assert_eq!(slices, 5);
        // Not even what is urgent comes in the pause between two slices.
        inquiries.need(PortId(1), neighbour(1).1);
        assert!(inquiries.next().0 >= at + PAUSE);
    }

    #[test]
    fn no_more_are_asked_ahead_than_the_kernel_has_room_for() {
        let mut inquiries = Inquiries::default();
        inquiries.replace_ahead((0..1000).map(neighbour));
        assert_eq!(slice(&mut inquiries, MS, &[], 1).len(), MOST_OPEN);
        let mut next = inquiries.next();
        assert!(next.0 >= MS + WAIT && slice(&mut inquiries, next.0, &[], 1).is_empty(), "nobody has answered");
        next = inquiries.next();
        assert_eq!(slice(&mut inquiries, next.0, &[3, 200], 1), [256, 257].map(|number| resolve(neighbour(number))));
        // What a packet waits for does not.
        inquiries.need(PortId(1), neighbour(5000).1);
        next = inquiries.next();
        assert_eq!(slice(&mut inquiries, next.0, &[], 1), [resolve(neighbour(5000))]);
        assert_eq!(slice(&mut inquiries, GIVEN_UP_AFTER + 2 * MS, &[], 1).len(), MOST_OPEN - 2);
    }
}
