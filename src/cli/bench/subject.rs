//! One datapath under measurement, and what is sent through it.

use super::shape::Shape;
use super::traffic::{Burst, ReplySide, is_forwarded};
use crate::conntrack::Millis;
use crate::conntrack::l4proto::STREAM_AFTER;
use crate::datapath::{BURST, Counters, Datapath, Fate, Frame, Lane};
use crate::packet::tcp::flag;
use anyhow::{Context, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A datapath with one worker's lane.
pub(super) struct Subject {
    datapath: Arc<Datapath>,
    lane: Lane,
    pub(super) burst: Burst,
    pub(super) random: Random,
    /// The time that bursts are given.
    pub(super) now: Millis,
    /// What reading the clock twice costs; taken off each time.
    pub(super) clock: Duration,
}

impl Subject {
    /// `datapath` is made for packets of this shape.
    pub(super) fn new(shape: Shape, datapath: Datapath) -> anyhow::Result<Self> {
        let lane = datapath.lane(Arc::new(Counters::default())).context("no place for a worker in a new table")?;
        let random = Random::new(0x9e37_79b9_7f4a_7c15);
        Ok(Self { datapath: Arc::new(datapath), lane, burst: Burst::new(shape), random, now: Millis(1), clock: clock_cost() })
    }

    /// Another worker's lane through the same datapath; `number` is not 0 and no other one's.
    pub(super) fn beside(&self, number: u64) -> anyhow::Result<Self> {
        let lane = self.datapath.lane(Arc::new(Counters::default())).context("no place for one more worker")?;
        let random = Random::new(0x9e37_79b9_7f4a_7c15 ^ number.rotate_left(32));
        Ok(Self { datapath: self.datapath(), lane, burst: self.burst.anew(), random, now: self.now, clock: self.clock })
    }

    pub(super) fn datapath(&self) -> Arc<Datapath> {
        Arc::clone(&self.datapath)
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.lane.counters
    }

    /// SYNs of all connections, in an order that the table cannot foresee; where each went.
    pub(super) fn open(&mut self, flows: usize) -> anyhow::Result<(Vec<ReplySide>, Duration)> {
        let mut sides = vec![ReplySide::default(); flows];
        let mut order: Vec<u32> = (0..flows as u32).collect();
        for at in (1..flows).rev() {
            order.swap(at, self.random.below(at + 1));
        }
        let mut spent = Duration::ZERO;
        for chunk in order.chunks(BURST) {
            for (at, flow) in chunk.iter().enumerate() {
                self.burst.write_original(at, *flow as usize, flag::SYN);
            }
            let (time, went) = self.process(chunk.len());
            ensure!(went == chunk.len(), "{} of {} SYNs were not forwarded", chunk.len() - went, chunk.len());
            spent += time;
            for (at, flow) in chunk.iter().enumerate() {
                sides[*flow as usize] = self.burst.reply_side(at);
            }
        }
        Ok((sides, spent))
    }

    /// SYN/ACK and ACK of all connections, so much later that datagrams make streams.
    pub(super) fn establish(&mut self, sides: &[ReplySide]) -> anyhow::Result<()> {
        self.now = self.now.after(STREAM_AFTER);
        for (chunk, first) in sides.chunks(BURST).zip((0..).step_by(BURST)) {
            for (at, side) in chunk.iter().enumerate() {
                self.burst.write_reply(at, *side, flag::SYN | flag::ACK);
            }
            ensure!(self.process(chunk.len()).1 == chunk.len(), "a SYN/ACK was not forwarded");
            for at in 0..chunk.len() {
                self.burst.write_original(at, first + at, flag::ACK);
            }
            ensure!(self.process(chunk.len()).1 == chunk.len(), "an ACK was not forwarded");
        }
        Ok(())
    }

    /// Time in the datapath alone, and how many of the first `count` frames were forwarded.
    pub(super) fn process(&mut self, count: usize) -> (Duration, usize) {
        let mut frames: Vec<Frame<'_>> = self.burst.frames(count);
        let start = Instant::now();
        process_burst(&self.datapath, &mut self.lane, &mut frames, self.now);
        let time = start.elapsed().saturating_sub(self.clock);
        (time, frames.iter().filter(|frame| is_forwarded(frame.fate)).count())
    }

    /// As [`Subject::process`], with the fate of each.
    pub(super) fn process_fates(&mut self, count: usize) -> (Duration, Vec<Fate>) {
        let mut frames: Vec<Frame<'_>> = self.burst.frames(count);
        let start = Instant::now();
        process_burst(&self.datapath, &mut self.lane, &mut frames, self.now);
        let time = start.elapsed().saturating_sub(self.clock);
        (time, frames.iter().map(|frame| frame.fate).collect())
    }
}

/// What is measured, and nothing else. A function that is called, so that callgrind can be told to count in here alone (`tests/instructions.rs`).
#[inline(never)]
fn process_burst(datapath: &Datapath, lane: &mut Lane, frames: &mut [Frame<'_>], now: Millis) {
    datapath.process(lane, frames, now);
}

/// The least time that two readings of the clock are apart.
pub(super) fn clock_cost() -> Duration {
    let pairs = (0..10_000).map(|_| Instant::now().elapsed());
    pairs.min().unwrap_or_default()
}

/// xorshift64: the order of packets need not be better than that, and it must cost nothing.
pub(super) struct Random(u64);

impl Random {
    /// `seed` is not 0.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}
