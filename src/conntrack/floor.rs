//! The floor under any table of this size: two random cache lines a packet, asked for ahead, touched, and nothing else. `weir bench`
//! measures the datapath against it.

#![allow(unsafe_code)] // one promise about a type, see there

use super::prefetch::prefetch;
use super::region::{Plain, Region};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Memory as large as a table's, of bare cache lines.
#[derive(Debug)]
pub struct Floor {
    index: Region<Line>,
    entries: Region<Line>,
}

#[repr(C, align(64))]
#[derive(Debug, Default)]
struct Line([AtomicU64; 8]);

// SAFETY: atomics only, valid when zero.
unsafe impl Plain for Line {}

impl Floor {
    /// Memory of these many bytes each, every page of it in use.
    pub fn new(index_bytes: usize, entry_bytes: usize) -> io::Result<Self> {
        let lines = |bytes: usize| Region::<Line>::new(bytes / size_of::<Line>());
        let floor = Self { index: lines(index_bytes)?, entries: lines(entry_bytes)? };
        for line in floor.index.items().iter().chain(floor.entries.items()) {
            line.0[0].store(1, Relaxed);
        }
        Ok(floor)
    }

    /// The lines that two random numbers name, scaled as the index scales hashes.
    pub fn lines(&self, first: u64, second: u64) -> (u32, u32) {
        let scale = |random: u64, region: &Region<Line>| ((u128::from(random) * region.items().len() as u128) >> 64) as u32;
        (scale(first, &self.index), scale(second, &self.entries))
    }

    /// For each pair of lines reads that of the index, then reads and writes that of the entries; both are asked for a pass ahead, as the
    /// datapath does. Returns a sum that depends on all of it.
    #[inline(never)]
    pub fn touch(&self, lines: &[(u32, u32)]) -> u64 {
        let (index, entries) = (self.index.items(), self.entries.items());
        let mut sum = 0u64;
        for (first, _) in lines {
            prefetch(&index[*first as usize]);
        }
        for (first, second) in lines {
            sum = sum.wrapping_add(index[*first as usize].0[0].load(Relaxed));
            prefetch(&entries[*second as usize]);
        }
        for (_, second) in lines {
            let line = &entries[*second as usize];
            sum = sum.wrapping_add(line.0[0].load(Relaxed));
            line.0[7].store(sum, Relaxed);
        }
        sum
    }
}
