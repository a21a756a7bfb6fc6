//! Who fills the connection table: a walk over all of it that counts, in bounded memory.
//!
//! Services and backends are few and counted exactly. Clients may be as many as there are connections, so they are counted by the
//! algorithm of Misra and Gries ("Finding repeated elements", 1982): whoever has more than one connection in [`ROOM`] is found, and no
//! count is more than that share of the total below the truth.

use super::desk::Names;
use crate::admin::{Answer, ConnectionFilter, Share, Top};
use crate::conntrack::ConnectionView;
use crate::datapath::Datapath;
use crate::service::{BackendId, Shown};
use ipnet::IpNet;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// Clients that are kept when there are too many; twice as many are counted at once, about 2 MB.
const ROOM: usize = 8192;

/// Counts all connections that match.
pub(super) fn survey(datapath: &Datapath, filter: &ConnectionFilter, limit: usize, (v4, v6): (u8, u8)) -> Answer {
    if v4 > 32 || v6 > 128 {
        return Answer::Error {
            message: format!("prefixes of {v4} and {v6} bits: allowed are 0 to 32 (IPv4) and 0 to 128 (IPv6)"),
        };
    }
    let snapshot = datapath.snapshot.load_full();
    let names = Names::new(&snapshot);
    let (mut connections, mut unreplied) = (0, 0);
    let (mut clients, mut services, mut backends) = (Tally::new(ROOM), Tally::new(usize::MAX), Tally::new(usize::MAX));
    datapath.conntrack.for_each(&snapshot.timeouts, &mut |view| {
        if names.matches(filter, view) {
            connections += 1;
            unreplied += u64::from(!view.seen_reply);
            clients.count(client(view, v4, v6), !view.seen_reply);
            services.count(view.service, !view.seen_reply);
            backends.count(view.backend, !view.seen_reply);
        }
    });
    let backend_name = |id: u16| {
        let backend = snapshot.backend(BackendId(id));
        backend.map_or_else(|| "-".to_owned(), |backend| format!("{} {}", backend.pool, Shown(backend.address())))
    };
    Answer::Top(Box::new(Top {
        connections,
        unreplied,
        capacity: datapath.conntrack.capacity() as u64,
        clients: clients.largest(limit, connections, |prefix| write_prefix(*prefix)),
        services: services.largest(limit, connections, |id| names.service(*id).to_owned()),
        backends: backends.largest(limit, connections, |id| backend_name(*id)),
    }))
}

fn client(view: &ConnectionView, v4: u8, v6: u8) -> IpNet {
    let address = view.outside().source.ip();
    let length = if address.is_ipv4() { v4 } else { v6 };
    // The lengths were checked.
    IpNet::new(address, length).map_or_else(|_| address.into(), |prefix| prefix.trunc())
}

/// A prefix that is one address is written as the address.
fn write_prefix(prefix: IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() { IpAddr::to_string(&prefix.addr()) } else { prefix.to_string() }
}

/// Counts of many keys in room for few.
#[derive(Debug)]
struct Tally<K> {
    counts: HashMap<K, Counted>,
    room: usize,
    /// What a key that is not kept may have had.
    missed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    connections: u64,
    unreplied: u64,
    /// `connections` less what was taken off of everyone.
    credit: u64,
    /// What it may have had before it was kept.
    may_be_more: u64,
}

impl<K: Hash + Eq> Tally<K> {
    fn new(room: usize) -> Self {
        Self { counts: HashMap::new(), room, missed: 0 }
    }

    fn count(&mut self, key: K, is_unreplied: bool) {
        if self.counts.len() >= self.room.saturating_mul(2) && !self.counts.contains_key(&key) {
            self.make_room();
        }
        let fresh = Counted { connections: 0, unreplied: 0, credit: 0, may_be_more: self.missed };
        let counted = self.counts.entry(key).or_insert(fresh);
        counted.connections += 1;
        counted.unreplied += u64::from(is_unreplied);
        counted.credit += 1;
    }

    /// Takes the median off of everyone, which leaves at most half of them. At least half of them lose all of it, so what is taken off over
    /// time is at most the number of connections over [`Tally::room`].
    #[cold]
    fn make_room(&mut self) {
        let mut credits: Vec<u64> = self.counts.values().map(|counted| counted.credit).collect();
        let middle = credits.len() / 2;
        let (_, median, _) = credits.select_nth_unstable(middle);
        let median = *median;
        self.missed += median;
        self.counts.retain(|_, counted| {
            counted.credit = counted.credit.saturating_sub(median);
            counted.credit > 0
        });
    }

    /// The largest, largest first; of equal ones the first by name.
    fn largest(self, limit: usize, total: u64, name: impl Fn(&K) -> String) -> Vec<Share> {
        let share = |(key, counted): (&K, &Counted)| Share {
            name: name(key),
            connections: counted.connections,
            percent: (10_000.0 * counted.connections as f64 / total as f64).round() / 100.0,
            unreplied: counted.unreplied,
            may_be_more: counted.may_be_more,
        };
        let mut largest: Vec<Share> = self.counts.iter().map(share).collect();
        largest.sort_by(|one, other| other.connections.cmp(&one.connections).then_with(|| one.name.cmp(&other.name)));
        largest.truncate(limit);
        largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_counted_exactly() {
        let mut tally = Tally::new(4);
        (0..100u32).for_each(|n| tally.count(n % 7, n % 2 == 0));
        let largest = tally.largest(3, 100, u32::to_string);
        let share = |name: &str, connections, percent, unreplied| Share {
            name: name.into(),
            connections,
            percent,
            unreplied,
            may_be_more: 0,
        };
        assert_eq!(largest, [share("0", 15, 15.0, 8), share("1", 15, 15.0, 7), share("2", 14, 14.0, 7)]);
    }

    /// Three large ones among a flood of such that come once, in an order that is worst for them: first, last, and in the middle.
    #[test]
    fn large_ones_are_found_among_very_many() {
        const FLOOD: u32 = 1_000_000;
        const ROOM: usize = 1000;
        let mut tally = Tally::new(ROOM);
        let large = [(1, 4000), (2, 3000), (3, 9000)];
        let mut total = 0;
        let mut count = |key: u32, times: u64| {
            total += times;
            (0..times).for_each(|n| tally.count(key, n % 4 == 0));
        };
        count(1, 4000);
        for flood in 0..FLOOD {
            count(1000 + flood, 1);
            if flood % 1000 == 0 && flood < 900_000 {
                count(3, 10);
            }
        }
        count(2, 3000);
        assert!(tally.counts.len() <= 2 * ROOM);
        let bound = total / ROOM as u64;
        let largest = tally.largest(3, total, u32::to_string);
        assert_eq!(largest.iter().map(|share| share.name.as_str()).collect::<Vec<_>>(), ["3", "1", "2"]);
        for share in &largest {
            let (_, truth) = large.iter().find(|(key, _)| key.to_string() == share.name).unwrap();
            assert!(share.connections <= *truth && share.connections + share.may_be_more >= *truth, "{share:?}");
            assert!(share.may_be_more <= bound, "{share:?}, at most {bound}");
        }
    }

    #[test]
    fn clients_of_one_prefix_are_one() {
        assert_eq!(write_prefix("10.1.2.3/32".parse().unwrap()), "10.1.2.3");
        assert_eq!(write_prefix("2001:db8::/64".parse().unwrap()), "2001:db8::/64");
    }
}
