//! `weir bench`: what the datapath costs, from memory, beside the floor that memory itself sets, in one run.

mod access;
mod balance;
mod baselines;
mod cores;
mod drain;
mod expiry;
mod flood;
mod flows;
mod health;
mod latency;
mod measure;
mod memory;
mod ports;
mod schedulers;
mod shape;
mod subject;
mod sweeper;
mod tables;
mod traffic;
mod width;

use super::Outcome;
use clap::Args;
use flows::Extras;
use measure::{Figures, Load, measure};
use serde_json::json;
use shape::{Family, Shape, Size, Transport};
use std::io::Write;
use width::Width;

/// Measure the datapath from memory: no NIC, no privilege.
///
/// Connections are opened by their first packets, then established ones get packets, uniformly at random, through the whole datapath
/// on one core. In the same run, alternating with it: the floor, which is touching two prefetched random cache lines of equally large
/// tables. Figures are medians over the rounds. Each family, protocol, size, number of connections and width that is named is measured with each other.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    /// Numbers of connections, such as 10k,1M,10M.
    #[arg(long, value_delimiter = ',', default_value = "10k,1M,10M", value_parser = parse_count)]
    flows: Vec<usize>,
    /// Families.
    #[arg(long, value_delimiter = ',', default_value = "ipv4")]
    family: Vec<Family>,
    /// Protocols.
    #[arg(long, value_delimiter = ',', default_value = "tcp")]
    protocol: Vec<Transport>,
    /// Sizes: 64 bytes on the wire (IPv6 headers need up to 78), IP packets of 1500 bytes.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    size: Vec<Size>,
    /// The widest instructions that may be used, as far as this CPU has them: more than one to compare them.
    #[arg(long, value_delimiter = ',', default_value = "widest")]
    width: Vec<Width>,
    /// Rounds that the median is taken over.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Packets a round.
    #[arg(long, default_value = "2M", value_parser = parse_count)]
    packets: usize,
    /// Percentage of packets that go from backend to client.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    replies: u32,
    /// Count packets and bytes of each connection, as with `accounting = true`
    #[arg(long)]
    accounting: bool,
    /// Call a handler at each of the five hooks, which lets every packet through; weir itself registers none
    #[arg(long)]
    hooks: bool,
    /// Choose SNAT ports whose replies come to the worker's own queue, of cards with so many queues that tell their RSS key: what new
    /// connections then take
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=128))]
    queues: Option<u32>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measurements of their own.
#[derive(Debug, clap::Subcommand)]
enum Part {
    Flood(flood::Flood),
    Expiry(expiry::ExpiryBench),
    Balance(balance::Balance),
    Latency(latency::Latency),
    Schedulers(schedulers::Schedulers),
    Access(access::AccessLists),
    Health(health::HealthBench),
    Drain(drain::DrainBench),
    Tables(tables::TableBench),
    Cores(cores::Cores),
    Ports(ports::Ports),
}

impl Bench {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Outcome> {
        match &self.part {
            None => self.measure(out)?,
            Some(Part::Flood(flood)) => flood.run(out)?,
            Some(Part::Expiry(expiry)) => expiry.run(out)?,
            Some(Part::Balance(balance)) => balance.run(out)?,
            Some(Part::Latency(latency)) => latency.run(out)?,
            Some(Part::Schedulers(schedulers)) => schedulers.run(out)?,
            Some(Part::Access(lists)) => lists.run(out)?,
            Some(Part::Health(health)) => health.run(out)?,
            Some(Part::Drain(drain)) => drain.run(out)?,
            Some(Part::Tables(tables)) => tables.run(out)?,
            Some(Part::Cores(cores)) => cores.run(out)?,
            Some(Part::Ports(ports)) => ports.run(out)?,
        }
        Ok(Outcome::Fine)
    }

    fn measure(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut all = Vec::new();
        if !self.json {
            writeln!(out, "{}", Figures::HEADING)?;
        }
        for load in self.loads() {
            let figures = measure(&load)?;
            if !self.json {
                writeln!(out, "{figures}")?;
                out.flush()?;
            }
            all.push(figures);
        }
        if self.json {
            writeln!(
                out,
                "{}",
                json!({ "replies_percent": self.replies, "rounds": self.rounds, "accounting": self.accounting,
                    "hooks": self.hooks, "queues": self.queues, "results": all })
            )?;
        }
        Ok(())
    }
}

impl Bench {
    /// Every combination of what was asked for.
    fn loads(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        for family in &self.family {
            for protocol in &self.protocol {
                for size in &self.size {
                    let shape = Shape { family: *family, protocol: *protocol, size: *size };
                    for flows in &self.flows {
                        loads.extend(self.width.iter().map(|width| self.load(shape, *width, *flows)));
                    }
                }
            }
        }
        loads
    }

    fn load(&self, shape: Shape, width: Width, flows: usize) -> Load {
        let Self { rounds, packets, replies, accounting, hooks, queues, .. } = *self;
        Load { shape, width, flows, rounds: rounds as usize, packets, replies, extras: Extras { accounting, hooks, queues } }
    }
}

/// A number with an optional k or M behind it.
fn parse_count(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let allowed = "a whole number from 64 to 60M, such as 500, 10k or 1M";
    let number = digits.parse::<usize>().map_err(|_| format!("allowed: {allowed}"))?;
    number.checked_mul(factor).filter(|number| (64..=60_000_000).contains(number)).ok_or_else(|| format!("allowed: {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::collections::HashSet;

    #[test]
    fn counts_are_read() {
        assert_eq!(parse_count("10k"), Ok(10_000));
        assert_eq!(parse_count("10M"), Ok(10_000_000));
        assert_eq!(parse_count("500"), Ok(500));
        assert!(parse_count("70M").is_err());
        assert!(parse_count("x").is_err());
        assert!(parse_count("1").is_err());
    }

    #[test]
    fn a_small_bench_forwards_every_packet() {
        let plain = Extras::default();
        for extras in
            [plain, Extras { accounting: true, ..plain }, Extras { hooks: true, ..plain }, Extras { queues: Some(4), ..plain }]
        {
            let load =
                Load { shape: Shape::default(), width: Width::V2, flows: 2_000, rounds: 1, packets: 10_000, replies: 50, extras };
            let figures = measure(&load).unwrap();
            assert_eq!(figures.forwarded, figures.packets, "{extras:?}");
        }
    }

    #[test]
    fn every_shape_is_measured_and_named() {
        let command = Cli::parse_from(
            "bench --flows 1k --rounds 1 --packets 5k --replies 50 --family ipv4,ipv6 --protocol tcp,udp --size 64,1500 --json"
                .split(' '),
        );
        let mut out = Vec::new();
        command.bench.run(&mut out).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let rows = answer["results"].as_array().unwrap();
        let named: HashSet<_> = rows.iter().map(|row| format!("{} {} {}", row["family"], row["protocol"], row["size"])).collect();
        assert_eq!(named.len(), 8, "{named:?}");
        assert!(named.contains("\"ipv6\" \"udp\" 1500"), "{named:?}");
        for row in rows {
            assert_eq!(row["forwarded"], row["packets"], "{row}");
            let bytes = row["bytes_a_connection"].as_f64().unwrap();
            assert_eq!(bytes > 150.0, row["family"] == "ipv6", "{row}");
        }
    }

    #[test]
    fn a_row_says_what_it_is_of() {
        let shape = Shape { family: Family::Ipv6, protocol: Transport::Udp, size: Size::Full };
        assert_eq!(shape.to_string(), "IPv6 UDP 1500");
        assert_eq!(Shape::default().to_string(), "IPv4 TCP   64");
    }

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        bench: Bench,
    }
}
