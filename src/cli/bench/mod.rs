//! `weir bench`: what the datapath costs, from memory, beside the floor that memory itself sets, in one run.

mod access;
mod drain;
mod expiry;
mod flood;
mod flows;
mod health;
mod measure;
mod schedulers;
mod subject;
mod traffic;

use super::Outcome;
use clap::Args;
use measure::{Figures, Load, measure};
use serde_json::json;
use std::io::Write;

/// Measure the datapath from memory: no NIC, no privilege.
///
/// Connections are opened by SYN packets, then established ones get 64-byte TCP packets, uniformly at random, through the whole datapath
/// on one core. In the same run, alternating with it: the floor, which is touching two prefetched random cache lines of equally large
/// tables. Figures are medians over the rounds.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    /// Numbers of connections, such as 10k,1M,10M.
    #[arg(long, value_delimiter = ',', default_value = "10k,1M,10M", value_parser = parse_count)]
    flows: Vec<usize>,
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
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measurements of their own.
#[derive(Debug, clap::Subcommand)]
enum Part {
    Flood(flood::Flood),
    Expiry(expiry::ExpiryBench),
    Schedulers(schedulers::Schedulers),
    Access(access::AccessLists),
    Health(health::HealthBench),
    Drain(drain::DrainBench),
}

impl Bench {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Outcome> {
        match &self.part {
            None => self.measure(out)?,
            Some(Part::Flood(flood)) => flood.run(out)?,
            Some(Part::Expiry(expiry)) => expiry.run(out)?,
            Some(Part::Schedulers(schedulers)) => schedulers.run(out)?,
            Some(Part::Access(lists)) => lists.run(out)?,
            Some(Part::Health(health)) => health.run(out)?,
            Some(Part::Drain(drain)) => drain.run(out)?,
        }
        Ok(Outcome::Fine)
    }

    fn measure(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut all = Vec::new();
        if !self.json {
            writeln!(out, "{}", Figures::HEADING)?;
        }
        for flows in &self.flows {
            let load = Load {
                flows: *flows,
                rounds: self.rounds as usize,
                packets: self.packets,
                replies: self.replies,
                accounting: self.accounting,
            };
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
                json!({ "replies_percent": self.replies, "rounds": self.rounds, "accounting": self.accounting, "results": all })
            )?;
        }
        Ok(())
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
        for accounting in [false, true] {
            let figures = measure(&Load { flows: 2_000, rounds: 1, packets: 10_000, replies: 50, accounting }).unwrap();
            assert_eq!(figures.forwarded, figures.packets);
        }
    }
}
