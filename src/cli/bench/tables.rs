//! `weir bench tables`: what weir's table is worth beside others.

use super::baselines::{Connections, Dash, Established, Key, Locked, Papaya, Weir, keys};
use super::measure::median;
use super::subject::{Random, clock_cost};
use crate::conntrack::{Floor, Millis};
use crate::datapath::BURST;
use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What finding the connection of a packet costs in weir's table, and in maps that others would take
///
/// Established IPv4 TCP connections under both of their tuples; bursts of 64 packets of random ones, from either side, in the same order for
/// all. For each packet the connection is found, its other tuple read, and the time written that it was last seen. The maps lead to connections
/// of one cache line as weir's index does, hash the same words as strongly, and are locked or pinned once a burst where they can be. One core;
/// rounds alternate, and the floor with them: touching two prefetched random cache lines of memory as large as weir's table.
/// Figures are medians over the rounds.
#[derive(Debug, Args)]
pub(super) struct TableBench {
    /// Numbers of connections, such as 10k,1M,10M.
    #[arg(long, value_delimiter = ',', default_value = "10k,1M", value_parser = super::parse_count)]
    flows: Vec<usize>,
    /// Rounds that the median is taken over.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Packets a round.
    #[arg(long, default_value = "1M", value_parser = super::parse_count)]
    packets: usize,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Nanoseconds a packet.
#[derive(Debug, Serialize)]
struct Figures {
    flows: usize,
    table: &'static str,
    packet_ns: f64,
    /// Over the floor of the same run.
    ratio: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, table, packet_ns, ratio } = self;
        write!(f, "{flows:>10}  {table:<16} {packet_ns:>10.1} {ratio:>13.2}")
    }
}

/// Where rounds begin; each has the same packets for all tables.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

impl TableBench {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut all = Vec::new();
        if !self.json {
            writeln!(out, "     flows  table             packet ns  packet/floor")?;
        }
        for flows in &self.flows {
            let figures = self.measure(*flows)?;
            if !self.json {
                figures.iter().try_for_each(|figures| writeln!(out, "{figures}"))?;
                out.flush()?;
            }
            all.extend(figures);
        }
        if self.json {
            writeln!(out, "{}", json!({ "rounds": self.rounds, "packets": self.packets, "results": all }))?;
        }
        Ok(())
    }

    fn measure(&self, flows: usize) -> anyhow::Result<Vec<Figures>> {
        let (weir, connections) = (Weir::new(flows)?, Arc::new(Connections::new(flows)));
        let bytes = weir.bytes();
        let floor = Floor::new(bytes.index, bytes.entries)?;
        let mut tables: [(&'static str, Box<dyn Established>); 4] = [
            ("weir", Box::new(weir)),
            ("dashmap", Box::new(Dash::new(&connections))),
            ("papaya", Box::new(Papaya::new(&connections))),
            ("Mutex<HashMap>", Box::new(Locked::new(&connections))),
        ];
        let bursts = self.packets.div_ceil(BURST);
        let (clock, mut floors, mut times) = (clock_cost(), Vec::new(), [const { Vec::new() }; 4]);
        for round in 1..=u64::from(self.rounds) {
            floors.push(floor_round(&floor, bursts, Random::new(SEED ^ round), clock));
            for ((name, table), times) in tables.iter_mut().zip(&mut times) {
                let (time, found) = table_round(&mut **table, flows, bursts, Random::new(SEED ^ round), clock);
                ensure!(found == bursts * BURST, "{name}: {found} of {} packets were found", bursts * BURST);
                times.push(time);
            }
        }
        let floor = median(floors);
        let figures = |(table, packet_ns): (&'static str, f64)| Figures { flows, table, packet_ns, ratio: packet_ns / floor };
        let measured = tables.iter().zip(times).map(|((name, _), times)| (*name, median(times)));
        Ok([("floor", floor)].into_iter().chain(measured).map(figures).collect())
    }
}

/// Nanoseconds a packet, and how many connections were found.
fn table_round(table: &mut dyn Established, flows: usize, bursts: usize, mut random: Random, clock: Duration) -> (f64, usize) {
    let (mut spent, mut count) = (Duration::ZERO, 0);
    for burst in 0..bursts {
        let burst_keys: [Key; BURST] = std::array::from_fn(|_| {
            let [original, reply] = keys(random.below(flows));
            if random.below(2) == 0 { original } else { reply }
        });
        let start = Instant::now();
        let (found, _) = black_box(table.touch(&burst_keys, Millis(burst as u32)));
        spent += start.elapsed().saturating_sub(clock);
        count += found;
    }
    (nanoseconds(spent, bursts), count)
}

fn floor_round(floor: &Floor, bursts: usize, mut random: Random, clock: Duration) -> f64 {
    let mut spent = Duration::ZERO;
    for _ in 0..bursts {
        let lines: [_; BURST] = std::array::from_fn(|_| floor.lines(random.next(), random.next()));
        let start = Instant::now();
        black_box(floor.touch(&lines));
        spent += start.elapsed().saturating_sub(clock);
    }
    nanoseconds(spent, bursts)
}

fn nanoseconds(spent: Duration, bursts: usize) -> f64 {
    spent.as_nanos() as f64 / (bursts * BURST) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_finds_what_the_others_find() {
        let flows = 3000;
        let connections = Arc::new(Connections::new(flows));
        let mut tables: [Box<dyn Established>; 4] = [
            Box::new(Weir::new(flows).unwrap()),
            Box::new(Dash::new(&connections)),
            Box::new(Papaya::new(&connections)),
            Box::new(Locked::new(&connections)),
        ];
        let mut random = Random::new(SEED);
        for _ in 0..100 {
            // Every tenth one is unknown.
            let burst = std::array::from_fn(|_| keys(random.below(flows * 11 / 10))[random.below(2)]);
            let [weir, others @ ..] = tables.each_mut().map(|table| table.touch(&burst, Millis(7)));
            assert!(weir.0 < BURST + 1 && weir.1 != 0);
            assert_eq!(others, [weir; 3]);
        }
    }

    #[test]
    fn every_table_is_measured() {
        let mut out = Vec::new();
        TableBench { flows: vec![1000, 2000], rounds: 1, packets: 1000, json: false }.run(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for name in ["floor", "weir", "dashmap", "papaya", "Mutex<HashMap>"] {
            assert_eq!(text.matches(&format!("  {name} ")).count(), 2, "{text}");
        }
    }
}
