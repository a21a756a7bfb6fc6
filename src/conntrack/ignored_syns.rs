//! SYNs of clients in the middle of connections, remembered until the backend's answer shows what they mean.
//!
//! Rare, so the entries have no room for them: a fixed array, a word for each, found by the entry's number. Two connections whose numbers
//! are the same in their lower bits share a word, and the later SYN stays: the earlier one's client is not believed at the SYN/ACK, and
//! sends its SYN again. A word is read and written whole, so it is never half of one SYN and half of another.

use super::atomic::{AtomicU64, Ordering::Relaxed};
use super::family::Family;
use super::l4proto::tcp::IgnoredSyn;
use super::region::Region;
use super::table::{Found, Table};
use std::io;

/// SYNs remembered at once: 512 KiB, touched only as they come.
const WORDS: usize = if cfg!(feature = "loom") { 4 } else { 1 << 16 };

/// The array of one table.
///
/// A word, from the highest bit: sequence number behind the SYN (32) | window (16) | scale, 15 none (4) | SACK (1) | the upper part of
/// the entry's number (11): all of it for tables of less than 2^27 connections. Of a larger one, a wrong guess is as good as a forged SYN.
#[derive(Debug)]
pub(super) struct IgnoredSyns(Region<AtomicU64>);

impl IgnoredSyns {
    pub(super) fn new() -> io::Result<Self> {
        Region::new(WORDS).map(Self)
    }

    /// Remembers a SYN of the connection with this number.
    pub(super) fn put(&self, number: u32, syn: IgnoredSyn) {
        let scale = u64::from(syn.scale.unwrap_or(15));
        let word = u64::from(syn.end) << 32 | u64::from(syn.window) << 16 | scale << 12 | u64::from(syn.sack) << 11 | tag(number);
        // Relaxed: who needs it reads it because of a packet that was caused by the SYN, which left after this.
        self.0.items()[number as usize % WORDS].store(word, Relaxed);
    }

    /// The SYN of the connection with this number, unless another one took its place. Only to be asked where there was one.
    pub(super) fn get(&self, number: u32) -> Option<IgnoredSyn> {
        let word = self.0.items()[number as usize % WORDS].load(Relaxed);
        let scale = Some((word >> 12) as u8 & 0xf).filter(|scale| *scale < 15);
        let syn = IgnoredSyn { end: (word >> 32) as u32, window: (word >> 16) as u16, scale, sack: word >> 11 & 1 != 0 };
        (word & 0x7ff == tag(number)).then_some(syn)
    }
}

fn tag(number: u32) -> u64 {
    (u64::from(number) / WORDS as u64) & 0x7ff
}

impl<F: Family> Table<F> {
    /// The SYN of the client that this connection's packets contradicted, if it is still remembered.
    pub(super) fn ignored_syn(&self, found: &Found<'_, F>) -> Option<IgnoredSyn> {
        self.ignored_syns.get(found.number())
    }

    /// Remembers such a SYN.
    pub(super) fn ignore_syn(&self, found: &Found<'_, F>, syn: IgnoredSyn) {
        self.ignored_syns.put(found.number(), syn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_in_a_place_is_remembered() {
        let syns = IgnoredSyns::new().unwrap();
        let first = IgnoredSyn { end: 0xdead_beef, window: 65_535, scale: None, sack: true };
        let second = IgnoredSyn { end: 1, window: 0, scale: Some(14), sack: false };
        syns.put(7, first);
        assert_eq!(syns.get(7), Some(first));
        assert_eq!(syns.get(7 + WORDS as u32), None, "it has the place of another one");
        syns.put(7 + WORDS as u32, second);
        assert_eq!((syns.get(7), syns.get(7 + WORDS as u32)), (None, Some(second)));
    }
}
