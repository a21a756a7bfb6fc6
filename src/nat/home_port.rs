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
const TRIES: u32 = 64;

/// A search for one connection.
pub(super) struct Search<'a, F: Family> {
    pub(super) table: &'a Table<F>,
    pub(super) connection: &'a Unconfirmed<'a, F>,
    /// Where the connection goes.
    pub(super) target: SocketAddr,
    pub(super) snat: Sources<'a>,
    pub(super) home: &'a Home<'a>,
}

/// What a port that was looked at means for the search.
enum Looked {
    /// It goes on.
    Next,
    /// It is over: `None`, enough were tried.
    End(Option<Allocation>),
}

impl<F: Family> Search<'_, F> {
    /// Gives the connection a reply tuple that comes home. `None`: no port at home is free.
    pub(super) fn at_home(&self, backend: &Backend, now: Millis) -> Option<Allocation> {
        let sources = &self.home.toward.sources;
        // Consecutive connections spread over the addresses.
        let first = if sources.len() > 1 { backend.next_port_candidate() as usize % sources.len() } else { 0 };
        let (before, from_there) = sources.split_at(first);
        from_there.iter().chain(before).find_map(|source| match self.home.taken(source, self.target) {
            // An address that the config has lost meanwhile is not given out any more.
            _ if !self.snat.has(source.address) => None,
            Some(taken) => self.by_map(source, taken, now),
            None => self.by_trial(source, backend.next_port_candidate()),
        })
    }

    fn by_map(&self, source: &Source, taken: &TakenPorts, now: Millis) -> Option<Allocation> {
        let worker = self.home.worker;
        if taken.is_exhausted(worker, now, PAUSE) {
            return None;
        }
        let found = self.walk(
            source,
            taken.next(worker),
            |word| taken.word(word),
            |port| {
                if !taken.claim(port) {
                    return Looked::Next;
                }
                let reserved = self.reserve(source, port);
                match reserved {
                    Reserved::Taken => {
                        taken.go_on_behind(worker, port);
                        return Looked::End(Some(Allocation::Taken));
                    }
                    // Who has it has it from a time when nobody noted that.
                    Reserved::InUse | Reserved::Full => taken.release(port),
                }
                if reserved == Reserved::Full { Looked::End(Some(Allocation::TableFull)) } else { Looked::Next }
            },
        );
        if found.is_none() {
            taken.set_exhausted(worker, now);
        }
        found
    }

    /// `number` is another one for each connection.
    fn by_trial(&self, source: &Source, number: u32) -> Option<Allocation> {
        let ports = self.snat.ports;
        let first = *ports.start() + (number as usize % ports.len()) as u16;
        let mut tried = 0;
        self.walk(
            source,
            first,
            |_| 0,
            |port| {
                tried += 1;
                match self.reserve(source, port) {
                    Reserved::Taken => Looked::End(Some(Allocation::Taken)),
                    Reserved::Full => Looked::End(Some(Allocation::TableFull)),
                    Reserved::InUse if tried == TRIES => Looked::End(None),
                    Reserved::InUse => Looked::Next,
                }
            },
        )
    }

    /// Looks at the ports at home that are not known to be taken, from `first` on.
    #[inline(always)]
    fn walk(
        &self,
        source: &Source,
        first: u16,
        taken: impl Fn(usize) -> u64,
        mut look: impl FnMut(u16) -> Looked,
    ) -> Option<Allocation> {
        let to_port_0 = self.home.hash_to_port_0(source, self.target);
        for (word, counted) in words(first, self.snat.ports) {
            let mut left = self.home.pattern.at_home(self.home.worker, to_port_0, word) & counted & !taken(word);
            while left != 0 {
                if let Looked::End(found) = look((word * 64) as u16 + left.trailing_zeros() as u16) {
                    return found;
                }
                left &= left - 1;
            }
        }
        None
    }

    fn reserve(&self, source: &Source, port: u16) -> Reserved {
        let protocol = self.connection.entry.state().protocol();
        let reply = Tuple::new(protocol, self.target, SocketAddr::new(source.address, port));
        // Of two families no backend is served.
        reply.map_or(Reserved::InUse, |reply| self.table.reserve(self.connection, &reply))
    }
}

/// The words that hold `ports`, in a circle from the one of `first` on, and which of their ports count. That word comes twice: with those
/// from `first` on, and with those before. A `first` outside is the lowest one.
fn words(first: u16, ports: &RangeInclusive<u16>) -> impl Iterator<Item = (usize, u64)> {
    let (low, high) = (*ports.start(), *ports.end());
    let first = if ports.contains(&first) { first } else { low };
    let [low_word, high_word, first_word] = [low, high, first].map(|port| usize::from(port / 64));
    let (from_low, to_high, from_first) = (u64::MAX << (low % 64), u64::MAX >> (63 - high % 64), u64::MAX << (first % 64));
    let all = move |word: usize| {
        let upper = if word == low_word { from_low } else { u64::MAX };
        upper & if word == high_word { to_high } else { u64::MAX }
    };
    let begin = std::iter::once((first_word, all(first_word) & from_first));
    let middle = (first_word + 1..=high_word).chain(low_word..first_word).map(move |word| (word, all(word)));
    begin.chain(middle).chain(std::iter::once((first_word, all(first_word) & !from_first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circle_has_every_port_once_and_begins_where_it_shall() {
        for (low, high) in [(1, u16::MAX), (1024, 65535), (1000, 1300), (70, 75), (64, 127), (63, 64), (5, 5)] {
            for first in [low, high, low + (high - low) / 2, low + (high - low) / 3, 0] {
                let ports: Vec<u16> = words(first, &(low..=high))
                    .flat_map(|(word, counted)| {
                        (0..64).filter(move |bit| counted >> bit & 1 == 1).map(move |bit| (word * 64) as u16 + bit)
                    })
                    .collect();
                let begin = if first == 0 { low } else { first };
                let circle: Vec<u16> = (begin..=high).chain(low..begin).collect();
                assert!(ports == circle, "{low} to {high} from {first}");
            }
        }
    }
}
