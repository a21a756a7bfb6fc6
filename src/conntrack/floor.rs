//! The floor under any table of this size: two random cache lines a packet, asked for ahead, touched, and nothing else. `weir bench`
//! measures the datapath against it.

#![allow(unsafe_code)] // one promise about a type, see there

use super::BURST_LANES;
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
#[derive(Debug)]
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

    /// For each pair of random numbers, reads the line of the index that the first one names, then reads and writes the line of the
    /// entries that the second one names; both are asked for a burst ahead, as the datapath does. Returns a sum that depends on all of it.
    #[inline(never)]
    pub fn touch(&self, randoms: &[(u64, u64); BURST_LANES]) -> u64 {
        let mut sum = 0u64;
        for (first, _) in randoms {
            prefetch(pick(&self.index, *first));
        }
        for (first, second) in randoms {
            sum = sum.wrapping_add(pick(&self.index, *first).0[0].load(Relaxed));
            prefetch(pick(&self.entries, *second));
        }
        for (_, second) in randoms {
            let line = pick(&self.entries, *second);
            sum = sum.wrapping_add(line.0[0].load(Relaxed));
            line.0[7].store(sum, Relaxed);
        }
        sum
    }
}

/// The line that a random number names, scaled as the index scales hashes.
#[inline(always)]
fn pick(region: &Region<Line>, random: u64) -> &Line {
    let lines = region.items();
    &lines[((u128::from(random) * lines.len() as u128) >> 64) as usize]
}
