//! One round after the other: a burst from each port, then what waits.

use super::gather::Gather;
use super::orders::{Errands, Orders};
use super::pending::Pending;
use super::{BurstTimes, Monotonic, Pipeline, Resolver};
use crate::datapath::{BURST, Counters, PortId};
use crate::io::Ports;
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// Nanoseconds between two looks at the kernel's statistics of the rings.
const STATISTICS_EVERY: u64 = 1_000_000_000;

/// Most full bursts of a port that are sent by one call of the kernel. Each way across to the kernel and back costs the caches what both
/// sides need most; who lags behind crosses less often. Four bursts take some ten microseconds.
const BURSTS_A_FLUSH: u64 = 4;

/// What others may see of a worker while it runs.
#[derive(Debug, Default)]
pub struct Shared {
    /// Counted by the worker and its ports.
    pub counters: Arc<Counters>,
    /// From the RX ring to the TX ring and the kernel told of it. Bursts that it is told of at once all count as long as the first of them.
    pub burst_times: BurstTimes,
    /// The last thing that went wrong with a port, in words.
    pub trouble: ArcSwapOption<String>,
    /// What it is to send.
    pub orders: Orders,
}

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// How many frames there were.
    pub frames: usize,
    /// When the last of them had left, if nothing was done behind that: the next round may begin with it.
    pub ended: Option<Monotonic>,
}

/// The state of the loop; [`Rounds::round_from`] is its body. It reads time only through the clock that it is given.
#[derive(Debug)]
pub struct Rounds<P, D> {
    ports: P,
    pipeline: D,
    pending: Pending,
    gather: Gather,
    errands: Errands,
    shared: Arc<Shared>,
    resolver: Arc<Resolver>,
    statistics_at: Monotonic,
}

impl<P: Ports, D: Pipeline> Rounds<P, D> {
    /// `ports` count in the counters of `shared`.
    pub fn new(ports: P, pipeline: D, resolver: Arc<Resolver>, shared: Arc<Shared>) -> Self {
        let pending = Pending::new(Arc::clone(&resolver), Arc::clone(&shared.counters));
        let gather = Gather::new(pipeline.fragment_limits(), Arc::clone(&shared.counters));
        let errands = Errands::new(Arc::clone(&resolver), Arc::clone(&shared.counters));
        Self { ports, pipeline, pending, gather, errands, shared, resolver, statistics_at: Monotonic(0) }
    }

    /// As [`Rounds::round_from`], from now on; how many frames there were.
    pub fn round(&mut self, clock: &impl Fn() -> Monotonic) -> usize {
        self.round_from(clock(), clock).frames
    }

    /// A burst from each port that has one, or a few where more wait. `start` is now, or when the round before ended. The clock is read once a port
    /// that had frames.
    pub fn round_from(&mut self, mut start: Monotonic, clock: &impl Fn() -> Monotonic) -> Round {
        let mut frames = 0;
        for port in 0..self.ports.count() {
            let (bursts, received) = self.bursts(PortId(port as u8), start);
            if received > 0 {
                self.flush();
                let end = clock();
                self.shared.burst_times.record(bursts, end.nanos_since(start));
                start = end;
            }
            frames += received;
        }
        // What is to be sent or found by the driver needs to be asked for, also when nothing came in.
        if frames == 0 && (self.ports.transmitting() || self.ports.busy_polls()) {
            self.flush();
        }
        let did_more = self.tend(start);
        Round { frames, ended: (frames > 0 && !did_more).then_some(start) }
    }

    /// What is not a burst. Whether there was any.
    fn tend(&mut self, start: Monotonic) -> bool {
        let mut did_any = false;
        if !self.pending.is_empty() {
            self.pending.revisit(&mut self.ports, &mut self.pipeline, start.both());
            self.flush();
            did_any = true;
        }
        if !self.gather.is_empty() {
            self.gather.revisit(&mut self.ports, &mut self.pipeline, &mut self.pending, start.both());
            self.flush();
            did_any = true;
        }
        if self.errands.are_due(&self.shared.orders, start.millis()) {
            self.errands.run(&self.shared.orders, &mut self.ports, &mut self.pipeline, start.millis());
            self.flush();
            did_any = true;
        }
        if start.nanos_since(self.statistics_at) >= STATISTICS_EVERY {
            self.statistics_at = start;
            self.ports.refresh_statistics();
            did_any = true;
        }
        did_any
    }

    /// Bursts of a port until one is not full: nothing waits behind that. How many there were, and how many frames in them.
    fn bursts(&mut self, port: PortId, now: Monotonic) -> (u64, usize) {
        let (mut bursts, mut frames) = (0, 0);
        while bursts < BURSTS_A_FLUSH {
            let received = self.burst(port, now);
            frames += received;
            bursts += u64::from(received > 0);
            if received < BURST {
                break;
            }
        }
        (bursts, frames)
    }

    fn burst(&mut self, port: PortId, now: Monotonic) -> usize {
        let Self { ports, pipeline, pending, gather, .. } = self;
        ports.receive(port, &mut |frames| {
            pipeline.process(frames, now.both());
            pending.hold(frames, now.millis());
            gather.hold(frames, pipeline, now.millis());
        })
    }

    fn flush(&mut self) {
        if let Err(error) = self.ports.flush() {
            self.tell(error.to_string());
        }
    }

    fn tell(&self, trouble: String) {
        self.shared.trouble.store(Some(Arc::new(trouble)));
        self.resolver.wake();
    }

    /// Whether something is under way that no arriving frame will signal: see [`super::Idle::after`].
    pub fn unfinished(&self) -> bool {
        self.ports.transmitting() || !self.pending.is_empty() || !self.gather.is_empty() || !self.errands.is_empty()
    }

    /// Sleeps until a frame arrives, at most `timeout`.
    pub fn sleep(&mut self, timeout: std::time::Duration) {
        // Who looks while nothing happens sees all that happened.
        self.ports.publish();
        if let Err(error) = self.ports.wait(timeout) {
            self.tell(error.to_string());
        }
    }

    /// The ports, for whoever runs the rounds by hand.
    pub fn ports(&mut self) -> &mut P {
        &mut self.ports
    }

    /// The pipeline, for whoever runs the rounds by hand.
    pub fn pipeline(&mut self) -> &mut D {
        &mut self.pipeline
    }
}
