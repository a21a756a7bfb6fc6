//! `weir bench latency`: what the worker's histogram of burst times costs.
//!
//! A round needs the time, and begins with the end of the one before while bursts follow each other: so to time a burst is one count in a bucket,
//! and where several ports have frames one more reading of the clock for each but the first. The worker's own rounds run over ports in memory;
//! every second one is followed by one more recording of the same kind, so that the difference between the two kinds of rounds is
//! what a recording costs there, with the caches and the pipeline as a burst leaves them. Ports in memory make no system calls: a burst
//! costs no less with any other.

use super::flows::{OUTSIDE, datapath};
use super::measure::median;
use super::shape::Shape;
use super::subject::Subject;
use super::traffic::{DATA, ReplySide};
use crate::datapath::BURST;
use crate::io::memory::{MemoryPorts, MemorySizes};
use crate::worker::{Balancer, BurstTimes, Monotonic, Resolver, Rounds, Shared};
use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;

/// What timing every burst costs the worker
#[derive(Debug, Args)]
pub(super) struct Latency {
    /// Packets of a burst.
    #[arg(long, value_delimiter = ',', default_value = "64,8,1", value_parser = clap::value_parser!(u16).range(1..=BURST as i64))]
    bursts: Vec<u16>,
    /// Established connections.
    #[arg(long, default_value = "1M", value_parser = super::parse_count)]
    flows: usize,
    /// Rounds that the median is taken over.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Bursts a round, half of them with one more recording.
    #[arg(long, default_value = "40k", value_parser = super::parse_count)]
    count: usize,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Nanoseconds, of medians.
#[derive(Debug, Serialize)]
struct Figures {
    packets: usize,
    /// A burst through the worker, its own recording in it.
    burst_ns: f64,
    /// What one more recording adds.
    recording_ns: f64,
    /// Of the burst, in percent: where one port has frames, and where two have.
    share_percent: f64,
    share_of_two_percent: f64,
    /// A reading of the clock, many one after the other.
    clock_ns: f64,
}

impl Figures {
    const HEADING: &str = "burst    burst ns  recording ns   share  two ports  clock ns";
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets, burst_ns, recording_ns, share_percent, share_of_two_percent, clock_ns } = self;
        write!(
            f,
            "{packets:>5} {burst_ns:>11.0} {recording_ns:>13.1} {share_percent:>6.2}% {share_of_two_percent:>9.2}% {clock_ns:>9.1}"
        )
    }
}

impl Latency {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut worker = Worker::new(self.flows)?;
        let mut all = Vec::new();
        if !self.json {
            writeln!(out, "{}", Figures::HEADING)?;
        }
        for packets in &self.bursts {
            let figures = self.measure(&mut worker, usize::from(*packets))?;
            if !self.json {
                writeln!(out, "{figures}")?;
                out.flush()?;
            }
            all.push(figures);
        }
        if self.json {
            writeln!(out, "{}", json!({ "flows": self.flows, "rounds": self.rounds, "results": all }))?;
        }
        Ok(())
    }

    fn measure(&self, worker: &mut Worker, packets: usize) -> anyhow::Result<Figures> {
        let (mut bursts, mut recordings, mut clocks) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let (as_it_is, with_one_more) = worker.round(packets, self.count)?;
            bursts.push(as_it_is);
            recordings.push(with_one_more - as_it_is);
            clocks.push(clock_in_a_row());
        }
        let (burst_ns, recording_ns, clock_ns) = (median(bursts), median(recordings), median(clocks));
        let [share_percent, share_of_two_percent] = [0.0, clock_ns / 2.0].map(|clock| 100.0 * (recording_ns + clock) / burst_ns);
        Ok(Figures { packets, burst_ns, recording_ns, share_percent, share_of_two_percent, clock_ns })
    }
}

/// A worker's rounds, and what comes in there.
struct Worker {
    subject: Subject,
    sides: Vec<ReplySide>,
    rounds: Rounds<MemoryPorts, Balancer>,
    shared: Arc<Shared>,
    /// Where the second recording of a burst goes.
    times: BurstTimes,
}

impl Worker {
    fn new(flows: usize) -> anyhow::Result<Self> {
        let shape = Shape::default();
        let mut subject = Subject::new(shape, datapath(shape, flows)?)?;
        subject.now = Monotonic::now().millis();
        let (sides, _) = subject.open(flows)?;
        subject.establish(&sides)?;
        let shared = Arc::new(Shared::default());
        let sizes = MemorySizes { room: shape.room(), ..MemorySizes::default() };
        let ports = MemoryPorts::counting(sizes, Arc::clone(&shared.counters));
        let lane = subject.datapath().lane(Arc::clone(&shared.counters)).context("no place for one more worker")?;
        let pipeline = Balancer::new(subject.datapath(), lane);
        let rounds = Rounds::new(ports, pipeline, Arc::new(Resolver::new(|| ())), Arc::clone(&shared));
        Ok(Self { subject, sides, rounds, shared, times: BurstTimes::default() })
    }

    /// The medians of bursts as they are, and of those with one more recording, in nanoseconds.
    fn round(&mut self, packets: usize, count: usize) -> anyhow::Result<(f64, f64)> {
        let sent = self.shared.counters.tx.get();
        let (mut as_it_is, mut with_one_more) = (Vec::with_capacity(count / 2), Vec::with_capacity(count / 2));
        for _ in 0..count / 2 {
            self.arrive(packets);
            as_it_is.push(self.burst(|_, _| ()));
            self.arrive(packets);
            with_one_more.push(self.burst(|times, nanos| times.record(1, nanos)));
        }
        let (sent, all) = (self.shared.counters.tx.get() - sent, 2 * (count / 2 * packets) as u64);
        ensure!(sent == all, "{sent} of {all} packets were forwarded");
        Ok((median(as_it_is), median(with_one_more)))
    }

    fn arrive(&mut self, packets: usize) {
        for at in 0..packets {
            let flow = self.subject.random.below(self.sides.len());
            self.subject.burst.write_original(at, flow, DATA);
        }
        for frame in self.subject.burst.frames(packets) {
            self.rounds.ports().push(OUTSIDE, frame.bytes());
        }
    }

    /// One round of the worker and what follows it.
    fn burst(&mut self, then: impl FnOnce(&BurstTimes, u64)) -> f64 {
        let began = Monotonic::now();
        let round = self.rounds.round_from(began, &Monotonic::now);
        then(&self.times, round.ended.unwrap_or(began).nanos_since(began));
        let nanos = Monotonic::now().nanos_since(began);
        nanos.saturating_sub(self.subject.clock.as_nanos() as u64) as f64
    }
}

/// Nanoseconds of a reading of the clock, many in a row.
fn clock_in_a_row() -> f64 {
    const MANY: u32 = 100_000;
    let began = Monotonic::now();
    let last = (0..MANY).fold(began, |_, _| black_box(Monotonic::now()));
    last.nanos_since(began) as f64 / f64::from(MANY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_burst_is_forwarded_and_recorded_once_and_every_second_one_once_more() {
        let mut worker = Worker::new(1_000).unwrap();
        for packets in [BURST, 8, 1] {
            let before = (worker.shared.burst_times.histogram().len(), worker.times.histogram().len());
            let (as_it_is, _) = worker.round(packets, 100).unwrap();
            assert!(as_it_is > 0.0);
            let after = (worker.shared.burst_times.histogram().len(), worker.times.histogram().len());
            assert_eq!((after.0 - before.0, after.1 - before.1), (100, 50), "{packets}");
        }
    }
}
