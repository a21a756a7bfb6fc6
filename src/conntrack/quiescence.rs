//! When may an entry be used again? When nobody can still be looking at it.
//!
//! Whoever walks the table says so by entering, and leaves at a point where it holds nothing (a worker: the end of a burst). What
//! the control thread takes out of the table is marked with the present time of a counter and freed once everyone inside has entered
//! after that. The control thread frees, so no worker pays for it unless it evicted a connection from a full table and needs the entry
//! itself: that is why this is not crossbeam-epoch, where whoever pins may be made to run what others deferred.

use super::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crossbeam_utils::CachePadded;
use std::sync::Arc;

/// Threads that may walk tables at the same time.
const READERS: usize = if cfg!(feature = "loom") { 4 } else { 128 };
const OUTSIDE: u64 = u64::MAX;

/// The clock of retirement and the places of those who read.
#[derive(Debug)]
pub(super) struct Quiescence {
    epoch: CachePadded<AtomicU64>,
    places: Box<[CachePadded<Place>]>,
    /// Places from this one on were never taken.
    high_water: AtomicUsize,
}

#[derive(Debug)]
struct Place {
    taken: AtomicBool,
    entered: AtomicU64,
}

/// The right of one thread to enter.
#[derive(Debug)]
pub(super) struct Reader {
    quiescence: Arc<Quiescence>,
    place: usize,
}

/// Inside: nothing that was in the table on entering is used for something else before this is dropped.
#[derive(Debug)]
pub(super) struct Inside<'a>(&'a AtomicU64);

impl Quiescence {
    pub(super) fn new() -> Arc<Self> {
        let place = || CachePadded::new(Place { taken: AtomicBool::new(false), entered: AtomicU64::new(OUTSIDE) });
        let places = (0..READERS).map(|_| place()).collect();
        Arc::new(Self { epoch: CachePadded::new(AtomicU64::new(0)), places, high_water: AtomicUsize::new(0) })
    }

    /// A place for one thread; `None` when all are taken.
    pub(super) fn reader(self: &Arc<Self>) -> Option<Reader> {
        // AcqRel: pairs with the Release of `Reader::drop`, so that the former owner has left.
        let place = self.places.iter().position(|place| !place.taken.swap(true, Ordering::AcqRel))?;
        // Relaxed: before the fence in `enter`, as the time of entering is.
        self.high_water.fetch_max(place + 1, Ordering::Relaxed);
        Some(Reader { quiescence: Arc::clone(self), place })
    }

    /// What was taken out of the table before this call may be freed once [`Quiescence::oldest`] is above the number returned.
    pub(super) fn retire(&self) -> u64 {
        // SeqCst: the removals before it and the fence in `enter` are in one order: either the reader sees the removal,
        // or `oldest` sees the reader.
        self.epoch.fetch_add(1, Ordering::SeqCst)
    }

    /// The earliest time at which someone who is still inside entered.
    pub(super) fn oldest(&self) -> u64 {
        fence(Ordering::SeqCst);
        // Relaxed: who took a place after the fence above enters after it, and finds nothing that was retired before.
        let places = &self.places[..self.high_water.load(Ordering::Relaxed)];
        // Acquire: pairs with the Release on leaving; what the reader did inside happens before the freeing.
        let inside = places.iter().map(|place| place.entered.load(Ordering::Acquire)).min().unwrap_or(OUTSIDE);
        inside.min(self.epoch.load(Ordering::SeqCst))
    }
}

impl Reader {
    /// The clock that it goes by.
    pub(super) fn quiescence(&self) -> &Quiescence {
        &self.quiescence
    }

    /// Enters. One thread is inside at most once at a time.
    #[inline]
    pub(super) fn enter(&self) -> Inside<'_> {
        let entered = &self.quiescence.places[self.place].entered;
        // Relaxed: an older time only keeps things longer.
        entered.store(self.quiescence.epoch.load(Ordering::Relaxed), Ordering::Relaxed);
        // Pairs with the SeqCst operations in `retire` and `oldest`.
        fence(Ordering::SeqCst);
        Inside(entered)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `oldest`.
        self.0.store(OUTSIDE, Ordering::Release);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Release: pairs with the AcqRel in `reader`.
        self.quiescence.places[self.place].taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_freed_under_a_reader() {
        let quiescence = Quiescence::new();
        let reader = quiescence.reader().unwrap();
        let inside = reader.enter();
        let retired = quiescence.retire();
        assert!(quiescence.oldest() <= retired);
        drop(inside);
        assert!(quiescence.oldest() > retired);
        let later = reader.enter();
        assert!(quiescence.oldest() > retired, "who entered later does not matter");
        drop(later);
    }

    #[test]
    fn places_are_given_back() {
        let quiescence = Quiescence::new();
        let readers: Vec<_> = std::iter::from_fn(|| quiescence.reader()).collect();
        assert_eq!(readers.len(), READERS);
        drop(readers);
        assert!(quiescence.reader().is_some());
    }
}
