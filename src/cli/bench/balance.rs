//! `weir bench balance`: whether expiry keeps up for minutes with a worker that opens connections.
//!
//! One core is a worker's and opens connections at a given rate, each of which ends after a second; another one is the control thread's, and
//! takes them out. What comes in must go out: the table's population stays what it is, and no first packet is refused.

use super::flows::{datapath, snapshot};
use super::shape::Shape;
use super::subject::Subject;
use super::sweeper::{Spent, control};
use crate::conntrack::Timeouts;
use crate::datapath::{BURST, Datapath};
use crate::kernel::{allowed_cpus, pin_thread};
use crate::packet::tcp::flag;
use crate::worker::Monotonic;
use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Whether expiry keeps up for minutes with a worker that opens connections; exit code 1 if not
///
/// Passes over the table begin once a second, so rows differ by the phase in which they begin: six of ten seconds or more give a verdict
/// that holds.
#[derive(Debug, Args)]
pub(super) struct Balance {
    /// Connections opened a second.
    #[arg(long, default_value = "2M", value_parser = super::parse_count)]
    rate: usize,
    /// Seconds, after a first row in which the table fills.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u32).range(2..=86_400))]
    seconds: u32,
    /// Seconds of a row.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    every: u32,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// How long a connection lasts, in milliseconds.
const SHORT: u32 = 1000;
/// Connections opened a second, at the least: a tenth of a second, what is made up for, has two bursts.
const LEAST: usize = 20 * BURST;
/// Seconds of the rate that the table has room for.
const ROOM: usize = 3;
/// How far a figure may be from what it should be, of that, in a machine that others use too.
const TOLERANCE: f64 = 0.05;

/// One row.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Row {
    /// From the start.
    seconds: f64,
    created_per_second: f64,
    expired_per_second: f64,
    /// Connections in the table at the end of it.
    population: usize,
    /// First packets that were not forwarded.
    refused: u64,
    /// Of the worker's core, in the datapath; of the control thread's.
    worker_percent: f64,
    control_percent: f64,
}

impl Row {
    const HEADING: &str = "seconds  created/s  expired/s  population  refused  worker  control";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, created_per_second, expired_per_second, population, refused, worker_percent, control_percent } = self;
        write!(
            f,
            "{seconds:>7.0} {created_per_second:>10.0} {expired_per_second:>10.0} {population:>11} {refused:>8} {worker_percent:>6.1}% {control_percent:>7.1}%"
        )
    }
}

/// What all rows but the first say.
#[derive(Debug, Serialize)]
struct Verdict {
    created_per_second: f64,
    expired_per_second: f64,
    least_population: usize,
    most_population: usize,
    refused: u64,
    balanced: bool,
}

impl Verdict {
    fn of(rows: &[Row], rate: usize) -> Self {
        let mean = |value: fn(&Row) -> f64| rows.iter().map(value).sum::<f64>() / rows.len().max(1) as f64;
        let (created, expired) = (mean(|row| row.created_per_second), mean(|row| row.expired_per_second));
        let (least, most) = (rows.iter().map(|row| row.population).min(), rows.iter().map(|row| row.population).max());
        let refused = rows.iter().map(|row| row.refused).sum();
        let rate_kept = created >= (1.0 - TOLERANCE) * rate as f64;
        // A population that only grows is no balance, however slowly: what is opened and does not end would be seen here.
        let as_many = (created - expired).abs() <= TOLERANCE * created / 5.0;
        let room_left = most.unwrap_or(0) < rate * ROOM;
        Self {
            created_per_second: created,
            expired_per_second: expired,
            least_population: least.unwrap_or(0),
            most_population: most.unwrap_or(0),
            refused,
            balanced: rate_kept && as_many && room_left && refused == 0,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { created_per_second, expired_per_second, least_population, most_population, refused, balanced } = self;
        let word = if *balanced { "balanced" } else { "NOT balanced" };
        write!(
            f,
            "{word}: {created_per_second:.0} created and {expired_per_second:.0} expired a second, \
             {least_population} to {most_population} connections in the table, {refused} refused"
        )
    }
}

impl Balance {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let Self { rate, seconds, every, .. } = self;
        ensure!(*rate >= LEAST, "--rate {rate}: at least {LEAST} connections a second, for they are opened {BURST} at a time");
        ensure!(seconds >= every, "--seconds {seconds}: at least one row of --every {every}");
        if !self.json {
            writeln!(out, "{}", Row::HEADING)?;
        }
        let (rows, verdict) = self.measure(&mut |row| match self.json {
            true => Ok(()),
            false => writeln!(out, "{row}").and_then(|()| out.flush()),
        })?;
        match self.json {
            true => writeln!(out, "{}", json!({ "rate": self.rate, "rows": rows, "verdict": verdict }))?,
            false => writeln!(out, "{verdict}")?,
        }
        out.flush()?;
        ensure!(verdict.balanced, "what came in did not go out");
        Ok(())
    }

    fn measure(&self, show: &mut dyn FnMut(&Row) -> std::io::Result<()>) -> anyhow::Result<(Vec<Row>, Verdict)> {
        let cpus = allowed_cpus()?;
        let (Some(first), Some(last)) = (cpus.first(), cpus.last()) else { anyhow::bail!("no CPU to run on") };
        ensure!(first != last, "needs two cores, one for the worker and one for the control thread; this process may use one");
        let mut opener = Opener::new(self.rate)?;
        let datapath = opener.subject.datapath();
        let (stop, spent) = (AtomicBool::new(false), Spent::default());
        let rows = std::thread::scope(|scope| {
            let control = scope.spawn(|| pin_thread(*last).map(|()| control(&datapath, &stop, &spent)));
            let rows = pin_thread(*first).map_err(Into::into).and_then(|()| self.rows(&mut opener, &spent, show));
            // Relaxed: the flag is the whole message.
            stop.store(true, Relaxed);
            control.join().ok().context("the control thread panicked")??;
            rows
        })?;
        let verdict = Verdict::of(&rows[1..], self.rate);
        Ok((rows, verdict))
    }

    fn rows(
        &self,
        opener: &mut Opener,
        spent: &Spent,
        show: &mut dyn FnMut(&Row) -> std::io::Result<()>,
    ) -> anyhow::Result<Vec<Row>> {
        let count = 1 + self.seconds.div_ceil(self.every);
        let lasts = Duration::from_secs(u64::from(self.every));
        let began = Monotonic::now();
        let mut rows = Vec::new();
        for _ in 0..count {
            let row = opener.row(self.rate, lasts, began, spent);
            show(&row)?;
            rows.push(row);
        }
        Ok(rows)
    }
}

/// The worker.
struct Opener {
    subject: Subject,
    datapath: Arc<Datapath>,
    clients: u32,
}

impl Opener {
    fn new(rate: usize) -> anyhow::Result<Self> {
        let (shape, room) = (Shape::default(), ROOM * rate);
        let subject = Subject::new(shape, datapath(shape, room)?)?;
        let datapath = subject.datapath();
        let mut snapshot = snapshot(shape, room);
        snapshot.timeouts = Timeouts { tcp_syn_sent: SHORT, ..Timeouts::default() }.into();
        datapath.snapshot.store(Arc::new(snapshot));
        Ok(Self { subject, datapath, clients: 0 })
    }

    /// Opens connections at this rate for so long. What a held-up worker missed is not made up for beyond a tenth of a second.
    fn row(&mut self, rate: usize, lasts: Duration, start: Monotonic, spent: &Spent) -> Row {
        let (expired, cpu, began) = (spent.expired.load(Relaxed), spent.cpu(), Monotonic::now());
        let (mut created, mut refused, mut missed, mut busy) = (0u64, 0u64, 0u64, Duration::ZERO);
        let elapsed = loop {
            let now = Monotonic::now();
            let elapsed = Duration::from_nanos(now.nanos_since(began));
            if elapsed >= lasts {
                break elapsed.as_secs_f64();
            }
            self.subject.now = now.millis();
            let due = (elapsed.as_nanos() * rate as u128 / 1_000_000_000) as u64 - (created + refused + missed);
            missed += due.saturating_sub(rate as u64 / 10);
            if due < BURST as u64 {
                std::hint::spin_loop();
                continue;
            }
            let (time, went) = self.open();
            busy += time;
            created += went as u64;
            refused += (BURST - went) as u64;
        };
        Row {
            seconds: Duration::from_nanos(Monotonic::now().nanos_since(start)).as_secs_f64(),
            created_per_second: created as f64 / elapsed,
            expired_per_second: (spent.expired.load(Relaxed) - expired) as f64 / elapsed,
            population: self.datapath.conntrack.count(),
            refused,
            worker_percent: 100.0 * busy.as_secs_f64() / elapsed,
            control_percent: 100.0 * (spent.cpu() - cpu).as_secs_f64() / elapsed,
        }
    }

    /// A burst of first packets, each of a client that was not there before.
    fn open(&mut self) -> (Duration, usize) {
        for at in 0..BURST {
            self.clients = self.clients.wrapping_add(1);
            let client = (0x1000_0000 + (self.clients & 0x0fff_ffff), 1024 + (self.clients >> 28) as u16);
            self.subject.burst.write_from_client(at, client, flag::SYN);
        }
        self.subject.process(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_ends_and_nothing_is_refused() {
        let balance = Balance { rate: 20_000, seconds: 2, every: 1, json: false };
        let mut shown = 0;
        let (rows, verdict) = balance
            .measure(&mut |_| {
                shown += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!((rows.len(), shown, verdict.refused), (3, 3, 0));
        assert!(verdict.expired_per_second > 0.0 && verdict.most_population < 20_000 * ROOM, "{verdict}");
    }

    #[test]
    fn a_verdict_needs_the_rate_as_many_that_end_room_and_nobody_refused() {
        let row = Row { created_per_second: 1e6, expired_per_second: 1e6, population: 1_000_000, ..Row::default() };
        let judge = |row: Row| Verdict::of(&[row, row], 1_000_000).balanced;
        assert!(judge(row));
        assert!(!judge(Row { created_per_second: 0.9e6, expired_per_second: 0.9e6, ..row }));
        assert!(!judge(Row { expired_per_second: 0.97e6, ..row }));
        assert!(!judge(Row { population: 3_000_000, ..row }));
        assert!(!judge(Row { refused: 1, ..row }));
    }
}
