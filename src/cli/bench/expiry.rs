//! `weir bench expiry`: what expiry costs the control thread, and what it costs the workers.
//!
//! 1. Idle: many established connections of which none ends. How much of its core does the control thread need?
//! 2. Sustained: a worker opens connections at a given rate, each of which ends after a second, beside packets of established ones. Rounds
//!    in which the control thread sweeps alternate with rounds in which it does not and the table only fills. How many expire a second, and
//!    how long do bursts take in either kind of round? Quantiles are of each round, and the figures are medians of the rounds: what else the
//!    machine does falls upon some of them.

use super::flows::{datapath, snapshot};
use super::measure::median;
use super::shape::Shape;
use super::subject::{Random, Subject};
use super::sweeper::{Spent, control};
use super::traffic::{DATA, ReplySide};
use crate::conntrack::{Conntrack, Timeouts};
use crate::datapath::{BURST, Datapath};
use crate::packet::tcp::flag;
use crate::worker::Monotonic;
use anyhow::Context;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// What expiry costs the control thread and the workers
#[derive(Debug, Args)]
pub(super) struct ExpiryBench {
    /// Idle connections of the first part.
    #[arg(long, default_value = "10M", value_parser = super::parse_count)]
    idle: usize,
    /// Established connections with traffic in the second part.
    #[arg(long, default_value = "1M", value_parser = super::parse_count)]
    established: usize,
    /// Connections opened, and so expired, a second in the second part.
    #[arg(long, default_value = "1200k", value_parser = super::parse_count)]
    rate: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=60))]
    seconds: u32,
    /// Rounds with expiry, and as many without.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub idle: usize,
    /// Share of its core that the control thread needs for idle connections, in percent: the first pass over all of them, and the whole time.
    pub idle_first_pass_percent: f64,
    pub idle_percent: f64,
    /// Expired a second in rounds with expiry, and the control thread's share of its core.
    pub expired_per_second: f64,
    pub expiring_percent: f64,
    /// Most connections in the table beside the established ones, in seconds of the rate; the timeout is one.
    pub most_seconds_behind: f64,
    /// Nanoseconds of a burst of 64 without and with expiry, and the one over the other: of a round with expiry and the round before it.
    pub without: Quantiles,
    pub with: Quantiles,
    pub ratio_p99_9: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Quantiles {
    pub p50: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub max: u64,
}

/// How long a connection of the second part lasts.
const SHORT: u32 = 1000;
/// Slots of a burst that may hold first packets: the others are established traffic.
const NEW: usize = 16;

impl ExpiryBench {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let figures = measure(self)?;
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(&figures)?)?);
        }
        let Figures { idle, idle_first_pass_percent, idle_percent, expired_per_second, expiring_percent, .. } = figures;
        writeln!(out, "idle        {idle} connections: {idle_percent:.2} % of the control thread's core")?;
        writeln!(out, "            {idle_first_pass_percent:.2} % in the second in which all are looked at")?;
        writeln!(out, "expiring    {expired_per_second:.0} a second: {expiring_percent:.1} % of that core")?;
        writeln!(
            out,
            "            at most {:.2} s of arrivals in the table, {SHORT} ms of them by right",
            figures.most_seconds_behind
        )?;
        for (name, quantiles) in [("without", &figures.without), ("with", &figures.with)] {
            let Quantiles { p50, p99, p99_9, max } = quantiles;
            writeln!(out, "bursts      {name:<7} expiry: p50 {p50} ns, p99 {p99} ns, p99.9 {p99_9} ns, max {max} ns")?;
        }
        Ok(writeln!(out, "            p99.9 with / without: {:.3}", figures.ratio_p99_9)?)
    }
}

fn measure(settings: &ExpiryBench) -> anyhow::Result<Figures> {
    let (first, all) = idle(settings)?;
    let rounds = sustained(settings)?;
    let quantiles = |times: fn(&Round) -> &Histogram<u64>| {
        let quantile = |at: f64| median(rounds.iter().map(|round| times(round).value_at_quantile(at) as f64)) as u64;
        let max = rounds.iter().map(|round| times(round).max()).max().unwrap_or(0);
        Quantiles { p50: quantile(0.5), p99: quantile(0.99), p99_9: quantile(0.999), max }
    };
    Ok(Figures {
        idle: settings.idle,
        idle_first_pass_percent: 100.0 * first,
        idle_percent: 100.0 * all,
        expired_per_second: median(rounds.iter().map(|round| round.expired as f64 / round.wall.as_secs_f64())),
        expiring_percent: 100.0 * median(rounds.iter().map(|round| round.cpu.as_secs_f64() / round.wall.as_secs_f64())),
        most_seconds_behind: rounds.iter().map(|round| round.most).max().unwrap_or(0) as f64 / settings.rate as f64,
        ratio_p99_9: median(rounds.iter().map(Round::ratio_p99_9)),
        without: quantiles(|round| &round.without),
        with: quantiles(|round| &round.with),
    })
}

/// The control thread's share of its core with idle connections: in the most expensive second, and over the time in which every connection
/// is looked at once or twice.
fn idle(settings: &ExpiryBench) -> anyhow::Result<(f64, f64)> {
    let mut subject = Subject::new(Shape::default(), datapath(Shape::default(), settings.idle)?)?;
    subject.now = Monotonic::now().millis();
    let (sides, _) = subject.open(settings.idle)?;
    subject.establish(&sides)?;
    let datapath = subject.datapath();
    let stop = AtomicBool::new(false);
    let seconds = 2 * u64::from(datapath.snapshot.load().timeouts.shortest()) / 1000;
    let spent = Spent::default();
    std::thread::scope(|scope| {
        let control = scope.spawn(|| control(&datapath, &stop, &spent));
        let mut most = Duration::ZERO;
        for _ in 0..seconds {
            let before = spent.cpu();
            std::thread::sleep(Duration::from_secs(1));
            most = most.max(spent.cpu() - before);
        }
        stop.store(true, Relaxed);
        control.join().ok().context("the control thread panicked")?;
        Ok((most.as_secs_f64(), spent.cpu().as_secs_f64() / seconds as f64))
    })
}

/// A round without expiry, and the one with expiry behind it.
struct Round {
    without: Histogram<u64>,
    with: Histogram<u64>,
    /// Of the round with expiry, as what follows: how many connections ended, and how long it lasted.
    expired: u64,
    wall: Duration,
    /// Of the control thread.
    cpu: Duration,
    /// Most connections in the table beside the established ones.
    most: usize,
}

impl Round {
    fn ratio_p99_9(&self) -> f64 {
        self.with.value_at_quantile(0.999) as f64 / self.without.value_at_quantile(0.999).max(1) as f64
    }
}

fn sustained(settings: &ExpiryBench) -> anyhow::Result<Vec<Round>> {
    // Room for a round in which nothing expires.
    let room = settings.established + settings.rate * (settings.seconds as usize + 2);
    let mut subject = Subject::new(Shape::default(), datapath(Shape::default(), room)?)?;
    let datapath = subject.datapath();
    let mut snapshot = snapshot(Shape::default(), room);
    snapshot.timeouts = Timeouts { tcp_syn_sent: SHORT, ..Timeouts::default() }.into();
    datapath.snapshot.store(std::sync::Arc::new(snapshot));
    subject.now = Monotonic::now().millis();
    let (sides, _) = subject.open(settings.established)?;
    subject.establish(&sides)?;
    let mut load = Load { subject, sides, random: Random::new(0x9e37_79b9_7f4a_7c15), clients: 0 };
    (0..settings.rounds).map(|_| round(settings, &datapath, &mut load)).collect()
}

fn round(settings: &ExpiryBench, datapath: &Datapath, load: &mut Load) -> anyhow::Result<Round> {
    let (mut without, mut warming, mut with) = (histogram()?, histogram()?, histogram()?);
    drain(datapath, settings.established);
    load.run(settings, &mut without);
    drain(datapath, settings.established);
    let (stop, spent) = (AtomicBool::new(false), Spent::default());
    std::thread::scope(|scope| {
        let control = scope.spawn(|| control(datapath, &stop, &spent));
        // Steady only once the first ones have ended.
        load.run(settings, &mut warming);
        let (expired, cpu, began) = (spent.expired.load(Relaxed), spent.cpu(), Monotonic::now());
        let most = load.run(settings, &mut with).saturating_sub(settings.established);
        let wall = Duration::from_nanos(Monotonic::now().nanos_since(began));
        let (expired, cpu) = (spent.expired.load(Relaxed) - expired, spent.cpu() - cpu);
        stop.store(true, Relaxed);
        control.join().ok().context("the control thread panicked")?;
        Ok(Round { without, with, expired, wall, cpu, most })
    })
}

/// Of burst times up to ten seconds.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 10_000_000_000, 3)?)
}

/// Removes everything short-lived.
fn drain(datapath: &Datapath, established: usize) {
    let conntrack: &Conntrack = &datapath.conntrack;
    while conntrack.count() > established {
        let snapshot = datapath.snapshot.load();
        conntrack.sweep(Monotonic::now().millis(), &snapshot.timeouts, 1 << 16, &mut |connection| {
            snapshot.connection_closed(connection)
        });
    }
}

struct Load {
    subject: Subject,
    sides: Vec<ReplySide>,
    random: Random,
    clients: u32,
}

impl Load {
    /// Bursts for as long as a round lasts. Most connections that were in the table.
    fn run(&mut self, settings: &ExpiryBench, times: &mut Histogram<u64>) -> usize {
        let began = Monotonic::now();
        let lasts = u64::from(settings.seconds) * 1_000_000_000;
        let (mut opened, mut most) = (0u64, 0);
        loop {
            let now = Monotonic::now();
            let elapsed = now.nanos_since(began);
            if elapsed >= lasts {
                return most;
            }
            self.subject.now = now.millis();
            let due = (u128::from(elapsed) * settings.rate as u128 / 1_000_000_000) as u64;
            let new = due.saturating_sub(opened).min(NEW as u64) as usize;
            opened += new as u64;
            self.write(new);
            let (time, _) = self.subject.process(BURST);
            times.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            most = most.max(self.subject.datapath().conntrack.count());
        }
    }

    fn write(&mut self, new: usize) {
        for at in 0..BURST {
            if at < new {
                self.clients = self.clients.wrapping_add(1);
                let client = (0x1000_0000 + (self.clients & 0x0fff_ffff), 1024 + (self.clients >> 28) as u16);
                self.subject.burst.write_from_client(at, client, flag::SYN);
            } else {
                let flow = self.random.below(self.sides.len());
                self.subject.burst.write_original(at, flow, DATA);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_expires_what_it_opens() {
        let settings = ExpiryBench { idle: 20_000, established: 2_000, rate: 20_000, seconds: 2, rounds: 1, json: false };
        let rounds = sustained(&settings).unwrap();
        let [round] = rounds.as_slice() else { panic!("{} rounds", rounds.len()) };
        assert!(round.expired > 20_000, "{}", round.expired);
        assert!(round.with.len() > 100 && round.without.len() > 100);
        assert!(round.with.value_at_quantile(0.5) > 64, "64 packets take longer than that many nanoseconds");
    }
}
