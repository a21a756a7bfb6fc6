//! What is said about it.

use super::super::table::Table;
use super::Pktgen;
use crate::pktgen::search::Verdict;
use crate::pktgen::{Arrived, Plan, Setup, Trial};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::io::{self, Write};

/// What was asked for and what came of it.
#[derive(Debug)]
pub(super) struct Report {
    what: String,
    ends: String,
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
            let bits = per_second((bytes + 4 * frames) * 8, nanos) / 1e6;
            table.row([name.to_owned(), frames.to_string(), format!("{:.0}", per_second(frames, nanos)), format!("{bits:.1}")]);
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
        let offered = per_second(trial.sent.frames, nanos);
        match self.asked {
            Some(asked) if offered < f64::from(asked) * 0.98 => {
                writeln!(out, "the sender was too slow: {offered:.0} of {asked} packets a second")
            }
            _ => Ok(()),
        }
    }

    fn print_latency(&self, trial: &Trial, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["latency, µs", "p50", "p99", "p99.9", "max"]);
        let mut row = |name: &str, arrived: &Arrived| {
            let times = arrived.latency();
            let quantile = |part| micros(times.value_at_quantile(part));
            table.row([name.to_owned(), quantile(0.5), quantile(0.99), quantile(0.999), micros(arrived.slowest)]);
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
            let times = come.latency();
            let seconds = |nanos: u64| format!("{:.2}", nanos as f64 / 1e9);
            table.row([
                seconds(part.begin),
                seconds(part.begin + part.nanos),
                format!("{:.0}", per_second(part.sent, part.nanos)),
                format!("{:.0}", per_second(come.frames, part.nanos)),
                micros(times.value_at_quantile(0.5)),
                micros(times.value_at_quantile(0.99)),
                micros(times.value_at_quantile(0.999)),
            ]);
        }
        table.print(out)
    }

    fn as_json(&self) -> Value {
        let parts = |trial: &Trial| -> Vec<Value> {
            let part = |row: &crate::pktgen::Row| {
                json!({ "begin_ns": row.begin, "nanos": row.nanos, "sent": row.sent, "received": row.arrived.frames,
                        "came_back": row.replies.frames, "latency_ns": quantiles(&row.arrived.latency()) })
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
            "received": arrived(&trial.arrived),
            "came_back": arrived(&trial.replies),
            "lost": lost(trial, self.echo),
            "interrupted": trial.interrupted,
        })
    }
}

fn arrived(arrived: &Arrived) -> Value {
    let Arrived { frames, bytes, duplicates, late, .. } = arrived;
    json!({ "frames": frames, "bytes": bytes, "duplicates": duplicates, "out_of_order": late,
            "latency_ns": quantiles(&arrived.latency()), "min_ns": arrived.fastest, "max_ns": arrived.slowest })
}

fn quantiles(times: &Histogram<u64>) -> Value {
    let at = |part| times.value_at_quantile(part);
    json!({ "count": times.len(), "p50": at(0.5), "p99": at(0.99), "p99_9": at(0.999), "max": times.max() })
}

fn per_second(number: u64, nanos: u64) -> f64 {
    number as f64 * 1e9 / nanos.max(1) as f64
}

fn micros(nanos: u64) -> String {
    format!("{:.1}", nanos as f64 / 1e3)
}
