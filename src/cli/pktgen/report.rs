//! What is said about it.

use super::super::table::Table;
use super::Pktgen;
use crate::pktgen::search::Verdict;
use crate::pktgen::{Arrived, Plan, Setup, Times, Trial};
use serde_json::{Value, json};
use std::io::{self, Write};

/// What was asked for and what came of it.
#[derive(Debug)]
pub(super) struct Report {
    what: String,
    ends: String,
    source: String,
    sink: String,
    /// Packets leave at one interface and come to another; else only what comes back to the one is counted.
    two_ends: bool,
    echo: bool,
    json: bool,
    parts: bool,
    /// The rate that was asked for; of a search, of the trial that is told.
    pub(super) asked: Option<u32>,
    pub(super) mode: &'static str,
    pub(super) opened: Option<u32>,
    flows: Option<u32>,
    pub(super) trial: Option<Trial>,
    /// Of a search: the rate that it found, if one passed.
    pub(super) found: Option<Option<u32>>,
    trials: Vec<Value>,
}

/// What did not arrive, or with echo did not come back.
pub(super) fn lost(trial: &Trial, echo: bool) -> u64 {
    let come = if echo { trial.replies.frames } else { trial.arrived.frames };
    trial.sent.frames.saturating_sub(come)
}

impl Report {
    pub(super) fn new(command: &Pktgen, plan: &Plan, setup: &Setup) -> Self {
        let sizes = match command.size.unwrap_or_default() {
            crate::pktgen::Sizes::Smallest => "smallest frames".to_owned(),
            crate::pktgen::Sizes::Fixed(size) => format!("frames of {size} bytes"),
            crate::pktgen::Sizes::Imix => "IMIX".to_owned(),
        };
        let flows = (!command.syn_flood).then_some(command.flows);
        let of = flows.map_or_else(|| "sources at random".to_owned(), |flows| format!("{flows} flows"));
        let asked = (!command.search && command.ramp.is_none()).then(|| command.rate.unwrap_or_default().0);
        Self {
            what: format!("{plan} to {}, {of}, {sizes}", command.vip),
            ends: format!("{} from {} to {}", command.sender.name(), setup.source.interface, setup.sink.interface),
            source: setup.source.interface.clone(),
            sink: setup.sink.interface.clone(),
            two_ends: setup.source != setup.sink,
            echo: command.echo,
            json: command.json,
            parts: command.ramp.is_some(),
            asked: asked.filter(|rate| *rate > 0),
            mode: "",
            opened: None,
            flows,
            trial: None,
            found: None,
            trials: Vec::new(),
        }
    }

    /// One trial of a search, as soon as it is over.
    pub(super) fn tell(
        &mut self,
        rate: u32,
        verdict: Verdict,
        passed: bool,
        trial: &Trial,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let Verdict { offered, sent, lost } = verdict;
        self.trials.push(json!({ "rate": rate, "offered": offered, "passed": passed, "figures": self.figures(trial) }));
        if self.json {
            return Ok(());
        }
        if self.trials.len() == 1 {
            writeln!(out, "{:>10}  {:>10}  {:>12}  {:>10}", "tried pps", "offered", "sent", "lost")?;
        }
        writeln!(out, "{rate:>10}  {offered:>10}  {sent:>12}  {lost:>10}  {}", if passed { "passed" } else { "failed" })?;
        out.flush()
    }

    /// All of it.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", self.as_json());
        }
        writeln!(out, "{}; {}, {} XDP at the sink", self.what, self.ends, self.mode)?;
        if let (Some(opened), Some(flows)) = (self.opened, self.flows) {
            writeln!(out, "{opened} of {flows} flows open at the sink")?;
        }
        match self.found {
            Some(Some(rate)) => writeln!(out, "throughput: {rate} packets a second; its trial:")?,
            Some(None) => writeln!(out, "throughput: no rate that was tried passed")?,
            None => {}
        }
        let Some(trial) = &self.trial else { return Ok(()) };
        self.print_counts(trial, out)?;
        self.print_latency(trial, out)?;
        if self.parts { self.print_parts(trial, out) } else { Ok(()) }
    }

    fn print_counts(&self, trial: &Trial, out: &mut dyn Write) -> io::Result<()> {
        let nanos = trial.sent.nanos;
        let mut table = Table::new(&["", "packets", "packets/s", "Mbit/s"]);
        let mut row = |name: &str, frames: u64, bytes: u64| {
            let bits = per_second((bytes + 4 * frames) * 8, nanos).map_or_else(nothing, |bits| format!("{:.1}", bits / 1e6));
            table.row([name.to_owned(), frames.to_string(), format_rate(frames, nanos), bits]);
        };
        row("sent", trial.sent.frames, trial.sent.bytes);
        row("received", trial.arrived.frames, trial.arrived.bytes);
        if self.echo {
            row("came back", trial.replies.frames, trial.replies.bytes);
        }
        table.print(out)?;
        let lost = lost(trial, self.echo);
        let Arrived { late, duplicates, .. } = trial.arrived;
        let share = lost as f64 * 100.0 / trial.sent.frames.max(1) as f64;
        writeln!(out, "lost {lost} ({share:.4} %), out of order {late}, duplicates {duplicates}")?;
        if trial.kept_up() == Some(false) {
            let due = trial.profile.due(nanos).unwrap_or(0.0) * 1e9 / nanos as f64;
            writeln!(out, "the sender was too slow: {} of {due:.0} packets a second", format_rate(trial.sent.frames, nanos))?;
        }
        if !self.two_ends && trial.arrived.frames == 0 {
            writeln!(out, "nothing came back to {}: without --sink nothing else is counted", self.sink)?;
        }
        Ok(())
    }

    /// Why it is none, though it was made to the end.
    pub(super) fn failure(&self) -> Option<String> {
        let (source, sink) = (&self.source, &self.sink);
        let Some(trial) = &self.trial else {
            return Some("no rate that was tried passed; --resolution says how low it looks, --loss what it bears".into());
        };
        let nothing_came = [(&trial.arrived, format!("arrived at {sink}")), (&trial.replies, format!("came back to {source}"))];
        let sides = if !self.two_ends { 0 } else { 1 + usize::from(self.echo) };
        let missing = nothing_came.into_iter().take(sides).find(|(arrived, _)| arrived.frames == 0);
        let hint = match self.mode {
            "generic" => format!("; XDP at {sink} is generic, where a veth drops live frames: --sender af-xdp does without"),
            _ => String::new(),
        };
        match missing {
            _ if trial.sent.frames == 0 => Some(format!("nothing was sent out of {source}")),
            Some((_, what)) => Some(format!("nothing {what}: all {} packets were lost{hint}", trial.sent.frames)),
            None => None,
        }
    }

    fn print_latency(&self, trial: &Trial, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["latency, µs", "p50", "p99", "p99.9", "max"]);
        let mut row = |name: &str, arrived: &Arrived| {
            let times = arrived.times();
            let time = |part: fn(Times) -> u64| times.map(part).map_or_else(nothing, micros);
            let [p50, p99] = [time(|times| times.p50), time(|times| times.p99)];
            table.row([name.to_owned(), p50, p99, time(|times| times.p99_9), time(|times| times.most)]);
        };
        row("one way", &trial.arrived);
        if self.echo {
            row("and back", &trial.replies);
        }
        table.print(out)
    }

    fn print_parts(&self, trial: &Trial, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["from s", "to s", "offered pps", "received pps", "p50 µs", "p99 µs", "p99.9 µs"]);
        for part in &trial.rows {
            let come = if self.echo { &part.replies } else { &part.arrived };
            let times = come.times();
            let time = |part: fn(Times) -> u64| times.map(part).map_or_else(nothing, micros);
            let seconds = |nanos: u64| format!("{:.2}", nanos as f64 / 1e9);
            table.row([
                seconds(part.begin),
                seconds(part.begin + part.nanos),
                format_rate(part.sent, part.nanos),
                format_rate(come.frames, part.nanos),
                time(|times| times.p50),
                time(|times| times.p99),
                time(|times| times.p99_9),
            ]);
        }
        table.print(out)
    }

    fn as_json(&self) -> Value {
        let parts = |trial: &Trial| -> Vec<Value> {
            let part = |row: &crate::pktgen::Row| {
                json!({ "begin_ns": row.begin, "nanos": row.nanos, "sent": row.sent, "received": row.arrived.frames,
                        "came_back": row.replies.frames, "latency_ns": quantiles(&row.arrived) })
            };
            if self.parts { trial.rows.iter().map(part).collect() } else { Vec::new() }
        };
        json!({
            "what": self.what,
            "ends": self.ends,
            "sink_mode": self.mode,
            "flows": self.flows,
            "flows_open": self.opened,
            "asked_pps": self.asked,
            "figures": self.trial.as_ref().map(|trial| self.figures(trial)),
            "parts": self.trial.as_ref().map(parts),
            "search": self.found.map(|found| json!({ "throughput_pps": found, "trials": self.trials })),
        })
    }

    fn figures(&self, trial: &Trial) -> Value {
        json!({
            "sent": trial.sent.frames,
            "sent_bytes": trial.sent.bytes,
            "nanos": trial.sent.nanos,
            "offered_pps": per_second(trial.sent.frames, trial.sent.nanos),
            "kept_up": trial.kept_up(),
            "received": arrived(&trial.arrived),
            "came_back": arrived(&trial.replies),
            "lost": lost(trial, self.echo),
            "interrupted": trial.interrupted,
        })
    }
}

fn arrived(arrived: &Arrived) -> Value {
    let Arrived { frames, bytes, duplicates, late, .. } = arrived;
    let times = arrived.times();
    json!({ "frames": frames, "bytes": bytes, "duplicates": duplicates, "out_of_order": late, "latency_ns": quantiles(arrived),
            "min_ns": times.map(|times| times.least), "max_ns": times.map(|times| times.most) })
}

fn quantiles(arrived: &Arrived) -> Value {
    let times = arrived.times();
    let at = |part: fn(Times) -> u64| times.map(part);
    json!({ "count": at(|times| times.count).unwrap_or(0), "p50": at(|times| times.p50), "p99": at(|times| times.p99),
            "p99_9": at(|times| times.p99_9), "max": at(|times| times.most) })
}

/// `None` where no time went by: nothing was measured.
pub(super) fn per_second(number: u64, nanos: u64) -> Option<f64> {
    (nanos > 0).then(|| number as f64 * 1e9 / nanos as f64)
}

fn format_rate(number: u64, nanos: u64) -> String {
    per_second(number, nanos).map_or_else(nothing, |rate| format!("{rate:.0}"))
}

fn micros(nanos: u64) -> String {
    format!("{:.1}", nanos as f64 / 1e3)
}

/// In place of a number that nobody measured.
fn nothing() -> String {
    "-".to_owned()
}
