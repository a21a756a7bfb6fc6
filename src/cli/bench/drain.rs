//! `weir bench drain`: the deadline of backends that have many connections: how long until every RST has left, and what that costs.
//!
//! A thread does what the control thread does: it walks the table in slices and hands RSTs to a worker. The worker is a thread with the rounds of
//! the daemon over ports in memory: between two bursts of established connections of other backends it sends RSTs. First it has only the bursts.

use super::flows::{OUTSIDE, datapath};
use super::shape::Shape;
use super::subject::{Random, Subject};
use super::traffic::DATA;
use crate::control::{Cause, Draining, Outlet};
use crate::datapath::{BURST, Counters};
use crate::io::memory::{MemoryPorts, MemorySizes};
use crate::service::Drain;
use crate::worker::{Balancer, Monotonic, Resolver, Rounds, Shared};
use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What it costs to reset the connections of drained backends at their deadline
#[derive(Debug, Args)]
pub(super) struct DrainBench {
    /// Established connections, evenly over 32 backends.
    #[arg(long, default_value = "1M", value_parser = super::parse_count)]
    connections: usize,
    /// Backends whose deadline is now.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=31))]
    backends: u16,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub connections: usize,
    /// Of the drained backends.
    pub reset: usize,
    /// Milliseconds until the walk was over, and until the last RST had left.
    pub walk_ms: f64,
    pub sent_ms: f64,
    /// CPU time of the control thread, in milliseconds.
    pub control_ms: f64,
    /// Packets a second of other connections that the worker forwarded before and meanwhile.
    pub before_mpps: f64,
    pub meanwhile_mpps: f64,
    /// Nanoseconds of a round, with a burst of 64 and at most 32 RSTs.
    pub before: [u64; 3],
    pub meanwhile: [u64; 3],
}

/// What the worker does.
const BEFORE: usize = 0;
const MEANWHILE: usize = 1;
const OVER: usize = 2;
/// How long the worker is looked at before.
const A_WHILE: Duration = Duration::from_secs(1);

impl DrainBench {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let figures = measure(self)?;
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(&figures)?)?);
        }
        let Figures { connections, reset, walk_ms, sent_ms, control_ms, before_mpps, meanwhile_mpps, before, meanwhile } =
            figures;
        writeln!(out, "{reset} of {connections} connections are reset, both ends of each")?;
        writeln!(out, "control   {walk_ms:.0} ms until the walk was over, {control_ms:.0} ms of CPU time")?;
        writeln!(out, "worker    {sent_ms:.0} ms until the last RST had left")?;
        for (name, mpps, [p50, p99, max]) in [("before", before_mpps, before), ("meanwhile", meanwhile_mpps, meanwhile)] {
            writeln!(out, "{name:<9} {mpps:.2} Mpps of others; a round: p50 {p50} ns, p99 {p99} ns, max {max} ns")?;
        }
        Ok(())
    }
}

fn measure(settings: &DrainBench) -> anyhow::Result<Figures> {
    let mut subject = Subject::new(Shape::default(), datapath(Shape::default(), settings.connections)?)?;
    subject.now = Monotonic::now().millis();
    let (sides, _) = subject.open(settings.connections)?;
    subject.establish(&sides)?;
    let datapath = subject.datapath();
    let drained: Vec<_> = datapath.snapshot.load().backends.iter().flatten().take(settings.backends.into()).cloned().collect();
    let leaves = |flow: usize| drained.iter().any(|backend| backend.address() == sides[flow].backend(Shape::default()));
    let (stay, leave): (Vec<usize>, Vec<usize>) = (0..settings.connections).partition(|flow| !leaves(*flow));
    let shared = Arc::new(Shared::default());
    let lane = datapath.lane(Arc::clone(&shared.counters)).context("no place for a second worker")?;
    let (phase, ended) = (AtomicUsize::new(BEFORE), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let ports = MemoryPorts::counting(MemorySizes::default(), Arc::clone(&shared.counters));
            let resolver = Arc::new(Resolver::new(|| {}));
            let rounds = Rounds::new(ports, Balancer::new(Arc::clone(&datapath), lane), resolver, Arc::clone(&shared));
            // Whoever waits for the last RST must not wait for a worker that has panicked.
            let _ended = Ended(&ended);
            work(rounds, &mut subject, &stay, &phase)
        });
        std::thread::sleep(A_WHILE);
        let mut draining = Draining::default();
        for backend in &drained {
            backend.member.set_drained(true);
            draining.begin(
                backend,
                Cause::Drained,
                Drain { deadline: Some(Duration::ZERO), ..Drain::default() },
                Monotonic::now(),
            );
        }
        let (began, cpu, originated) = (Instant::now(), cpu_time(), |counters: &Counters| counters.originated.get() as usize);
        phase.store(MEANWHILE, Relaxed);
        let outlets = [Outlet { orders: &shared.orders, wake: &|| {} }];
        let is_empty = || drained.iter().all(|backend| backend.member.connections() == 0);
        while !is_empty() && !ended.load(Relaxed) {
            draining.run(Monotonic::now, &datapath, &outlets);
            std::thread::sleep(Duration::from_nanos(draining.next().nanos_since(Monotonic::now())).min(A_WHILE));
        }
        let (walked, control) = (began.elapsed(), cpu_time() - cpu);
        while originated(&shared.counters) < 2 * leave.len() && !ended.load(Relaxed) {
            std::thread::sleep(Duration::from_micros(100));
        }
        let sent = began.elapsed();
        phase.store(OVER, Relaxed);
        let [before, meanwhile] = worker.join().map_err(|_| anyhow::anyhow!("the worker panicked"))??;
        ensure!(originated(&shared.counters) == 2 * leave.len(), "RSTs are missing");
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        Ok(Figures {
            connections: settings.connections,
            reset: leave.len(),
            walk_ms: milliseconds(walked),
            sent_ms: milliseconds(sent),
            control_ms: milliseconds(control),
            before_mpps: mpps(&before),
            meanwhile_mpps: mpps(&meanwhile),
            before: quantiles(&before),
            meanwhile: quantiles(&meanwhile),
        })
    })
}

/// Says when it is dropped.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Rounds with a burst each, by phase.
fn work(
    mut rounds: Rounds<MemoryPorts, Balancer>,
    subject: &mut Subject,
    stay: &[usize],
    phase: &AtomicUsize,
) -> anyhow::Result<[Histogram<u64>; 2]> {
    let times = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3);
    let (mut random, mut times) = (Random::new(0x9e37_79b9_7f4a_7c15), [times()?, times()?]);
    loop {
        let now = phase.load(Relaxed);
        let Some(times) = times.get_mut(now) else { return Ok(times) };
        for at in 0..BURST {
            subject.burst.write_original(at, stay[random.below(stay.len())], DATA);
        }
        for frame in subject.burst.frames(BURST) {
            ensure!(rounds.ports().push(OUTSIDE, &frame.buffer[..frame.length]), "no frame is free");
        }
        let start = Instant::now();
        let received = rounds.round(&Monotonic::now);
        times.saturating_record(start.elapsed().as_nanos() as u64);
        ensure!(received == BURST, "{received} frames came in");
    }
}

/// Of rounds alone: what makes the frames is not the worker's.
fn mpps(times: &Histogram<u64>) -> f64 {
    BURST as f64 * 1000.0 / times.mean().max(1.0)
}

fn quantiles(times: &Histogram<u64>) -> [u64; 3] {
    [times.value_at_quantile(0.5), times.value_at_quantile(0.99), times.max()]
}

/// Of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_of_who_drains_is_reset_and_no_other() {
        let figures = measure(&DrainBench { connections: 20_000, backends: 3, json: false }).unwrap();
        assert!((1000..3000).contains(&figures.reset), "{figures:?}");
        assert!(figures.walk_ms <= figures.sent_ms && figures.meanwhile[0] > 100 && figures.meanwhile_mpps > 0.0, "{figures:?}");
    }
}
