//! Which SNAT ports are whose: how the cards spread packets is read, made into [`Homes`] for the workers, and looked at again while the
//! daemon runs, for `ethtool -X` and some resets of a card change it without a word.

use super::daemon::Daemon;
use super::interface::Interface;
use crate::datapath::PortId;
use crate::kernel;
use crate::nat::{Homes, MAPS, Served, Spread};
use crate::packet::rss::Rss;
use crate::packet::toeplitz::Hashed;
use crate::service::{Backend, BackendId, Protocol, Snapshot};
use crate::worker::Monotonic;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::{info, warn};

/// Nanoseconds between two looks.
const LOOK_EVERY: u64 = 5_000_000_000;

/// What the cards say.
#[derive(Debug)]
pub(super) struct Cards {
    workers: usize,
    /// In the order of the config.
    cards: Vec<Card>,
    next: Monotonic,
    /// Combinations without a bitmap, as far as they were told of.
    unmapped: usize,
}

/// One interface.
#[derive(Debug)]
struct Card {
    name: String,
    /// Queues that are served, from 0 on, and by how many workers.
    queues: u32,
    workers: usize,
    /// Why not, otherwise.
    rss: Result<Rss, String>,
    spread: Option<Arc<Spread>>,
}

impl Cards {
    /// Reads and tells what every interface says. One worker has all replies, and nothing is read for it.
    pub(super) fn read(interfaces: &[Interface], workers: usize, now: Monotonic) -> Self {
        let named = interfaces.iter().map(|interface| (interface.name.clone(), interface.queues));
        let cards = named.map(|(name, queues)| Card { name, queues, workers, rss: Err(String::new()), spread: None }).collect();
        let mut cards = Self { workers, cards, next: Monotonic(u64::MAX), unmapped: 0 };
        if workers > 1 {
            cards.look(ask, now);
        }
        cards
    }

    /// When to look again.
    pub(super) fn next(&self) -> Monotonic {
        self.next
    }

    /// Asks every interface. Whether an answer is another one than before.
    fn look(&mut self, ask: impl Fn(&str) -> Result<Rss, String>, now: Monotonic) -> bool {
        self.next = Monotonic(now.0 + LOOK_EVERY);
        let mut changed = false;
        for card in &mut self.cards {
            let told = ask(&card.name);
            if told != card.rss {
                changed = true;
                card.learn(told);
            }
        }
        changed
    }

    /// For the services of a snapshot; `None`: no interface says how it spreads packets.
    fn homes(&mut self, snapshot: &Snapshot, before: Option<&Homes>) -> Option<Homes> {
        // Once there were some, what is taken is noted on: a card that does not answer now may do so again.
        if self.cards.iter().all(|card| card.spread.is_none()) && before.is_none() {
            return None;
        }
        let spreads = self.cards.iter().map(|card| card.spread.clone()).collect();
        let homes = Homes::new(self.workers, spreads, &snapshot.snat, &served(snapshot), before);
        let unmapped = homes.unmapped();
        if unmapped > self.unmapped {
            warn!(
                "{unmapped} combinations of backend, SNAT address and protocol are more than the {MAPS} of which weir notes the ports that are taken: there ports are tried one by one"
            );
        }
        self.unmapped = unmapped;
        Some(homes)
    }

    /// How replies come in at an interface, in words; `None`: there is one worker.
    pub(super) fn describe(&self, port: PortId) -> Option<String> {
        let card = self.cards.get(usize::from(port.0)).filter(|_| self.workers > 1)?;
        Some(card.describe())
    }
}

impl Card {
    fn learn(&mut self, told: Result<Rss, String>) {
        let first = self.rss.as_ref().is_err_and(String::is_empty);
        self.spread = told.as_ref().ok().map(|rss| Arc::new(Spread::new(rss, self.workers, |queue| self.worker_of(queue))));
        self.rss = told;
        let again = if first { "" } else { "from now on " };
        info!("interface {}: {again}{}", self.name, self.describe());
    }

    fn describe(&self) -> String {
        match &self.rss {
            Ok(rss) => format!("{}{}", describe(rss), self.describe_homeless(rss)),
            Err(why) => format!("replies come in at any worker: {why}"),
        }
    }
}

impl Card {
    /// Workers that no entry of the table leads to.
    fn describe_homeless(&self, rss: &Rss) -> String {
        let is_led_to = |worker: usize| rss.table.iter().any(|queue| self.worker_of(*queue) == Some(worker));
        let homeless: Vec<String> =
            (0..self.workers).filter(|worker| !is_led_to(*worker)).map(|worker| worker.to_string()).collect();
        if homeless.is_empty() {
            String::new()
        } else {
            format!("; no entry of its table leads to worker {}", homeless.join(", "))
        }
    }

    fn worker_of(&self, queue: u32) -> Option<usize> {
        (queue < self.queues).then_some(queue as usize % self.workers)
    }
}

fn ask(interface: &str) -> Result<Rss, String> {
    kernel::rss(interface).map_err(|error| error.to_string())
}

fn describe(rss: &Rss) -> String {
    let kinds = [("TCP/IPv4", rss.tcp_v4), ("UDP/IPv4", rss.udp_v4), ("TCP/IPv6", rss.tcp_v6), ("UDP/IPv6", rss.udp_v6)];
    let those = |wanted: Option<Hashed>| {
        let names: Vec<&str> = kinds.iter().filter(|(_, hashed)| *hashed == wanted).map(|(name, _)| *name).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let told = [
        those(Some(Hashed::AddressesAndPorts))
            .map(|names| format!("SNAT ports of {names} are chosen by its RSS key and table, so that replies come in at the worker of their connection")),
        those(Some(Hashed::Addresses)).map(|names| format!("of {names} it hashes the addresses alone, so that no port decides")),
        those(None).map(|names| format!("it does not say what it hashes of {names}")),
    ];
    told.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Backends that services of TCP or UDP lead to.
fn served(snapshot: &Snapshot) -> Vec<Served> {
    let mut served: BTreeMap<BackendId, (SocketAddr, [bool; 2])> = BTreeMap::new();
    for service in snapshot.services.iter() {
        let at = match service.protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => 1,
            _ => continue,
        };
        let backends = service.pools().flat_map(|pool| &pool.backends);
        for (id, target) in backends.map(|backend: &Arc<Backend>| (backend.id, backend.address())) {
            served.entry(id).or_insert((target, [false; 2])).1[at] = true;
        }
    }
    served.into_iter().map(|(backend, (target, protocols))| Served { backend, target, protocols }).collect()
}

impl Daemon {
    /// Makes the homes of the snapshot in force.
    pub(super) fn settle_homes(&mut self) {
        let (snapshot, before) = (self.datapath.snapshot.load_full(), self.datapath.homes.load_full());
        let homes = self.cards.homes(&snapshot, before.as_deref());
        self.datapath.homes.store(homes.map(Arc::new));
    }

    /// Looks whether a card spreads packets in another way by now.
    pub(super) fn look_at_cards(&mut self, now: Monotonic) {
        if now >= self.cards.next() && self.cards.look(ask, now) {
            self.settle_homes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::toeplitz::Toeplitz;

    fn rss(queues: u32) -> Rss {
        let table = (0..128).map(|entry| entry % queues).collect();
        let both = Some(Hashed::AddressesAndPorts);
        Rss {
            toeplitz: Toeplitz::new(&[0x6d; 40]).unwrap(),
            table,
            tcp_v4: both,
            udp_v4: Some(Hashed::Addresses),
            tcp_v6: both,
            udp_v6: None,
        }
    }

    fn cards(workers: usize) -> Cards {
        let card = |name: &str| Card { name: name.to_owned(), queues: 4, workers, rss: Err(String::new()), spread: None };
        Cards { workers, cards: vec![card("a"), card("b")], next: Monotonic(0), unmapped: 0 }
    }

    #[test]
    fn a_change_is_noticed_and_so_is_its_end() {
        let mut cards = cards(4);
        let asked = |four: bool| {
            move |name: &str| if name == "a" { Ok(rss(if four { 4 } else { 2 })) } else { Err("it is b".to_owned()) }
        };
        assert!(cards.look(asked(true), Monotonic(7)));
        assert_eq!(cards.next(), Monotonic(7 + LOOK_EVERY));
        assert!(!cards.look(asked(true), Monotonic(8)));
        assert!(cards.look(asked(false), Monotonic(9)) && cards.cards[0].spread.is_some());
        assert!(cards.look(|_| Err("gone".to_owned()), Monotonic(10)) && cards.cards[0].spread.is_none());
    }

    #[test]
    fn it_is_told_what_can_be_foretold_and_what_cannot() {
        let mut cards = cards(4);
        cards.look(|name| if name == "a" { Ok(rss(4)) } else { Err("its driver does not tell".to_owned()) }, Monotonic(0));
        let told = |port| cards.describe(PortId(port)).unwrap();
        assert_eq!(
            told(0),
            "SNAT ports of TCP/IPv4, TCP/IPv6 are chosen by its RSS key and table, so that replies come in at the worker of their connection; \
             of UDP/IPv4 it hashes the addresses alone, so that no port decides; it does not say what it hashes of UDP/IPv6"
        );
        assert!(cards.look(|_| Ok(rss(3)), Monotonic(1)));
        assert!(cards.describe(PortId(1)).unwrap().ends_with("; no entry of its table leads to worker 3"));
        cards.look(|_| Err("its driver does not tell".to_owned()), Monotonic(2));
        let told = |port| cards.describe(PortId(port)).unwrap();
        assert_eq!(told(1), "replies come in at any worker: its driver does not tell");
    }
}
