//! What a sender and who watches it have in common.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// How far a sender is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Frames sent.
    pub(super) frames: u64,
    /// Nanoseconds since the first of them was due: the clock by which it is paced. 0 until then.
    pub(super) nanos: u64,
}

/// From the sender, how far it is; to it, when to end.
#[derive(Debug)]
pub(super) struct Watch {
    /// By signals. `Relaxed`: nothing else is published by it, nor by the other.
    stop: Arc<AtomicBool>,
    given_up: AtomicBool,
    /// Both numbers of one moment.
    progress: Mutex<Progress>,
}

impl Watch {
    pub(super) fn new(stop: Arc<AtomicBool>) -> Self {
        Self { stop, given_up: AtomicBool::new(false), progress: Mutex::default() }
    }

    /// Whether the sender is to end before its order is carried out.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Relaxed) || self.given_up.load(Relaxed)
    }

    /// Makes it end.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    /// Senders tell it every few milliseconds.
    pub(super) fn tell(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    pub(super) fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
