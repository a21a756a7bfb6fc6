//! The choice of a SNAT port whose replies come in at the worker that chooses: the way of [`super::unique_tuple`] where homes are known.
//!
//! Ports are looked at in a circle, as there, but 64 at a time: those at home, less those that are known to be taken.

use super::homes::{Home, Source};
use super::taken_ports::TakenPorts;
use super::unique_tuple::{Allocation, PAUSE, Sources};
use crate::conntrack::{Family, Millis, Reserved, Table, Tuple, Unconfirmed};
use crate::service::Backend;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Ports that are tried toward a port of a backend of which nobody notes what is taken.
const TRIES: usize = 64;

/// A search for one connection.
pub(super) struct Search<'a, F: Family> {
    pub(super) table: &'a Table<F>,
    pub(super) connection: &'a Unconfirmed<'a, F>,
    /// Where the connection goes.
    pub(super) target: SocketAddr,
    pub(super) snat: Sources<'a>,
    pub(super) home: &'a Home<'a>,
}

impl<F: Family> Search<'_, F> {
    /// Gives the connection a reply tuple that comes home. `None`: no port at home is free.
    pub(super) fn at_home(&self, backend: &Backend, now: Millis) -> Option<Allocation> {
        let sources = &self.home.toward.sources;
        // Consecutive connections spread over the addresses.
        let first = if sources.len() > 1 { backend.next_port_candidate() as usize % sources.len() } else { 0 };
        let (before, from_there) = sources.split_at(first);
        from_there.iter().chain(before).find_map(|source| {
            // An address that the config has lost meanwhile is not given out any more.
            let reply = self.reply_to_port_0(source).filter(|_| self.snat.has(source.address))?;
            match self.home.taken(source) {
                Some(taken) => self.by_map((source, reply), taken, now),
                None => self.by_trial((source, reply), backend.next_port_candidate()),
            }
        })
    }

    fn by_map(&self, (source, reply): (&Source, Tuple<F>), taken: &TakenPorts, now: Millis) -> Option<Allocation> {
        let worker = self.home.worker;
        if taken.is_exhausted(worker, now, PAUSE) {
            return None;
        }
        let mut free = self.candidates(source, taken.next(worker), |word| taken.word(word));
        while let Some(port) = free.next() {
            if !taken.claim(port) {
                continue;
            }
            match self.table.reserve(self.connection, &to_port(reply, port)) {
                Reserved::Taken => {
                    let next = free.next().unwrap_or(port);
                    self.table.prefetch_tuple(&to_port(reply, next));
                    taken.go_on_at(worker, next);
                    return Some(Allocation::Taken);
                }
                // Who has it has it from a time when nobody noted that.
                Reserved::InUse => taken.release(port),
                Reserved::Full => {
                    taken.release(port);
                    return Some(Allocation::TableFull);
                }
            }
        }
        taken.set_exhausted(worker, now);
        None
    }

    /// `number` is another one for each connection.
    fn by_trial(&self, (source, reply): (&Source, Tuple<F>), number: u32) -> Option<Allocation> {
        let ports = self.snat.ports;
        let first = *ports.start() + (number as usize % ports.len()) as u16;
        let mut some = self.candidates(source, first, |_| 0).take(TRIES);
        some.find_map(|port| match self.table.reserve(self.connection, &to_port(reply, port)) {
            Reserved::Taken => Some(Allocation::Taken),
            Reserved::Full => Some(Allocation::TableFull),
            Reserved::InUse => None,
        })
    }

    /// The ports at home that are not known to be taken, in a circle from `first` on.
    #[inline(always)]
    fn candidates(&self, source: &Source, first: u16, taken: impl Fn(usize) -> u64) -> impl Iterator<Item = u16> {
        let (pattern, worker) = (self.home.pattern, self.home.worker);
        let hash = self.home.hash_to_port_0(source, self.target);
        Circle::new(first, self.snat.ports, move |word| pattern.at_home(worker, hash, word) & !taken(word))
    }

    /// The reply tuple but for its destination port; `None`: of two families, as which no backend is served.
    fn reply_to_port_0(&self, source: &Source) -> Option<Tuple<F>> {
        Tuple::new(self.connection.entry.state().protocol(), self.target, SocketAddr::new(source.address, 0))
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
