//! The way of a burst.

use super::{Counters, Frame, NextHops};
use crate::conntrack::{Conntrack, Millis};
use crate::service::Snapshot;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// What all workers share.
#[derive(Debug)]
pub struct Datapath {
    /// Tracked connections.
    pub conntrack: Conntrack,
    /// Routes, neighbours, interfaces.
    pub next_hops: NextHops,
    /// The config; swapped whole by the control thread.
    pub snapshot: ArcSwap<Snapshot>,
}

/// What one worker keeps from burst to burst. Not shared.
#[derive(Debug)]
pub struct Lane {
    /// What this worker counts.
    pub counters: Arc<Counters>,
}

impl Lane {
    /// A lane that counts in `counters`.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { counters }
    }
}

impl Datapath {
    /// Decides the fate of each frame of a burst and rewrites those that go on. At most [`super::BURST`] frames.
    ///
    /// Counts established, new_connections and answered; `rx`, `tx`, `waiting` and the drops are counted by whoever carries the fates out
    /// ([`crate::io::Ports`] and the worker).
    pub fn process(&self, _lane: &mut Lane, _frames: &mut [Frame<'_>], _now: Millis) {}
}
