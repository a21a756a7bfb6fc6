//! The choice of a SNAT port whose replies come in at the worker that chooses: the way of [`super::unique_tuple`] where homes are known.
//!
//! Ports are looked at in a circle, as there, but 64 at a time: those at home, less those that are known to be taken.

use super::homes::{Home, Source};
use super::taken_ports::TakenPorts;
use super::unique_tuple::{Allocation, PAUSE, Sources};
use crate::conntrack::{Family, Millis, Reserved, Table, Tuple, Unconfirmed};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Ports at home that are tried for one connection toward a port of a backend of which nobody notes what is taken.
const TRIES: u32 = 64;
/// SNAT addresses that are looked at for one connection; the next one begins with another.
const ADDRESSES: usize = 16;

/// A search for one connection.
pub(super) struct Search<'a, F: Family> {
    pub(super) table: &'a Table<F>,
    pub(super) connection: &'a Unconfirmed<'a, F>,
    /// Where the connection goes.
    pub(super) target: SocketAddr,
    pub(super) snat: Sources<'a>,
    pub(super) home: &'a Home<'a>,
    /// Another one for each connection.
    pub(super) number: usize,
    pub(super) now: Millis,
}

/// Connections from one SNAT address, and their reply tuple but for its destination port.
type From<'a, F> = (&'a Source, Tuple<F>);

impl<F: Family> Search<'_, F> {
    /// Gives the connection a reply tuple that comes home. `None`: no port at home is free.
    pub(super) fn at_home(&self) -> Option<Allocation> {
        let mut tries = TRIES;
        let found = self.in_turn().find_map(|from| {
            let hash = self.home.hash_to_port_0(from.0, self.target);
            match self.home.taken(from.0) {
                _ if !self.home.pattern.has_home(self.home.worker, hash) => None,
                Some(taken) => self.by_map(from, hash, taken),
                None => self.by_trial(from, hash, &mut tries),
            }
        });
        if found.is_none() && tries < TRIES {
            self.home.turn().set_exhausted(self.target.port(), self.now);
        }
        found
    }

    /// Gives the connection one that comes in elsewhere, of those that are not known to be taken.
    pub(super) fn away(&self) -> Option<Allocation> {
        self.in_turn().find_map(|from| {
            let (taken, worker) = (self.home.taken(from.0)?, self.home.worker);
            let free = Circle::new(taken.next_away(worker), self.snat.ports, |word| !taken.word(word));
            let (found, next) = self.take(from, taken, free)?;
            taken.go_on_away_at(worker, next);
            Some(found)
        })
    }

    /// Some of the SNAT addresses, the first one another for each connection.
    fn in_turn(&self) -> impl Iterator<Item = From<'_, F>> {
        let sources = &self.home.toward.sources;
        let all = (0..sources.len().min(ADDRESSES)).map(|at| (self.number + at) % sources.len());
        all.filter_map(|at| {
            // Addresses that the config has got or lost meanwhile wait for the next burst.
            let source = sources.get(at).filter(|source| self.snat.is_at(at, source.address))?;
            let protocol = self.connection.entry.state().protocol();
            Some((source, Tuple::new(protocol, self.target, SocketAddr::new(source.address, 0))?))
        })
    }

    #[inline]
    fn by_map(&self, from: From<'_, F>, hash: u32, taken: &TakenPorts) -> Option<Allocation> {
        let (pattern, worker) = (self.home.pattern, self.home.worker);
        if taken.is_exhausted(worker, self.now, PAUSE) {
            return None;
        }
        let wanted = |word| pattern.at_home(worker, hash, word) & !taken.word(word);
        let found = self.take(from, taken, Circle::new(taken.next(worker), self.snat.ports, wanted));
        let Some((found, next)) = found else {
            taken.set_exhausted(worker, self.now);
            return None;
        };
        taken.go_on_at(worker, next);
        Some(found)
    }

    /// Takes the first of some ports that is free, and says which one is to be tried next.
    #[inline(always)]
    fn take(
        &self,
        (_, reply): From<'_, F>,
        taken: &TakenPorts,
        mut free: impl Iterator<Item = u16>,
    ) -> Option<(Allocation, u16)> {
        while let Some(port) = free.next() {
            if !taken.claim(port) {
                continue;
            }
            match self.table.reserve(self.connection, &to_port(reply, port)) {
                Reserved::Taken => {
                    let next = free.next().unwrap_or(port);
                    self.table.prefetch_tuple(&to_port(reply, next));
                    return Some((Allocation::Taken, next));
                }
                Reserved::InUse => self.learn(to_port(reply, port), taken, port),
                Reserved::Full => {
                    taken.release(port);
                    return Some((Allocation::TableFull, port));
                }
            }
        }
        None
    }

    /// Somebody has a port since a time when nobody noted that. The bit stays if he is alive: it is taken back after his tuple is gone, which it is not
    /// yet. Who is on his way out was told already, perhaps.
    #[cold]
    #[inline(never)]
    fn learn(&self, reply: Tuple<F>, taken: &TakenPorts, port: u16) {
        if self.table.look_up(self.table.hash(&reply), &reply).is_none() {
            taken.release(port);
        }
    }

    fn by_trial(&self, (_, reply): From<'_, F>, hash: u32, tries: &mut u32) -> Option<Allocation> {
        let (pattern, worker, turn) = (self.home.pattern, self.home.worker, self.home.turn());
        if turn.is_exhausted(self.target.port(), self.now, PAUSE) {
            return None;
        }
        let mut candidates = Circle::new(turn.port(), self.snat.ports, |word| pattern.at_home(worker, hash, word));
        while *tries > 0 {
            let port = candidates.next()?;
            *tries -= 1;
            turn.tried(port);
            match self.table.reserve(self.connection, &to_port(reply, port)) {
                Reserved::Taken => return Some(Allocation::Taken),
                Reserved::Full => return Some(Allocation::TableFull),
                Reserved::InUse => {}
            }
        }
        None
    }
}

/// A tuple to port 0, to another one.
#[inline(always)]
fn to_port<F: Family>(tuple: Tuple<F>, port: u16) -> Tuple<F> {
    Tuple { ports: tuple.ports | u32::from(port), ..tuple }
}

/// The set bits of words of 64 ports, in a circle.
struct Circle<W> {
    bits: W,
    word: usize,
    /// What is left of this word.
    left: u64,
    /// Words to come; the last one is the first once more, with the ports before the first one.
    words: usize,
    first_word: usize,
    before_first: u64,
    /// The words at both ends, and which of their ports count.
    low: (usize, u64),
    high: (usize, u64),
}

impl<W: Fn(usize) -> u64> Circle<W> {
    /// All of `ports`, from `first` on; if that is outside, from the lowest one on.
    #[inline(always)]
    fn new(first: u16, ports: &RangeInclusive<u16>, bits: W) -> Self {
        let first = if ports.contains(&first) { first } else { *ports.start() };
        let (low, high) = (usize::from(ports.start() / 64), usize::from(ports.end() / 64));
        let from_first = u64::MAX << (first % 64);
        let mut circle = Self {
            bits,
            word: usize::from(first / 64),
            left: 0,
            words: high - low + 1,
            first_word: usize::from(first / 64),
            before_first: !from_first,
            low: (low, u64::MAX << (ports.start() % 64)),
            high: (high, u64::MAX >> (63 - ports.end() % 64)),
        };
        circle.left = circle.counted(circle.word) & from_first;
        circle
    }

    /// Of a word, those that are wanted and in range.
    #[inline(always)]
    fn counted(&self, word: usize) -> u64 {
        let mut counted = (self.bits)(word);
        for (end, mask) in [self.low, self.high] {
            counted &= if word == end { mask } else { u64::MAX };
        }
        counted
    }
}

impl<W: Fn(usize) -> u64> Iterator for Circle<W> {
    type Item = u16;

    #[inline(always)]
    fn next(&mut self) -> Option<u16> {
        while self.left == 0 {
            self.words = self.words.checked_sub(1)?;
            self.word = if self.word == self.high.0 { self.low.0 } else { self.word + 1 };
            self.left = self.counted(self.word);
            if self.word == self.first_word {
                self.left &= self.before_first;
            }
        }
        let port = (self.word * 64) as u16 + self.left.trailing_zeros() as u16;
        self.left &= self.left - 1;
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circle_has_every_port_once_and_begins_where_it_shall() {
        for (low, high) in [(1, u16::MAX), (1024, 65535), (1000, 1300), (70, 75), (64, 127), (63, 64), (5, 5)] {
            for first in [low, high, low + (high - low) / 2, low + (high - low) / 3, 0] {
                let begin = if first == 0 { low } else { first };
                let circle: Vec<u16> = (begin..=high).chain(low..begin).collect();
                assert!(Circle::new(first, &(low..=high), |_| u64::MAX).eq(circle), "{low} to {high} from {first}");
            }
        }
    }

    #[test]
    fn what_is_not_wanted_is_passed_over() {
        let wanted = |word: usize| [0, 1 << 3, 1 << 63 | 1][word % 3];
        assert!(Circle::new(70, &(60..=330), wanted).eq([128, 191, 259, 320, 67]));
        assert_eq!(Circle::new(70, &(60..=330), |_| 0).next(), None);
    }
}
