//! `weir bench cores`: what more cores give, each with a worker's lane of its own over the one table.

use super::flows::datapath;
use super::measure::median;
use super::shape::{Family, Shape};
use super::subject::Subject;
use super::traffic::{DATA, ReplySide};
use crate::datapath::BURST;
use crate::kernel::{allowed_cpus, pin_thread};
use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::io::Write;
use std::sync::Barrier;

/// What more cores give, each with a worker's lane of its own
///
/// Half of the packets are replies. First one core has all flows; then each core has its share of them, with the replies; then each
/// has its share, but the replies come in at the next core, as if RSS sent them there. The three take turns. Throughput is what the time inside the datapath
/// amounts to, summed over the cores; figures are medians over the rounds.
#[derive(Debug, Args)]
pub(super) struct Cores {
    /// Cores.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=128))]
    cores: u16,
    /// Numbers of connections, such as 10k,1M.
    #[arg(long, value_delimiter = ',', default_value = "10k,1M,10M", value_parser = super::parse_count)]
    flows: Vec<usize>,
    /// The family.
    #[arg(long, default_value = "ipv4")]
    family: Family,
    /// Rounds that the median is taken over.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Packets a round and core.
    #[arg(long, default_value = "1M", value_parser = super::parse_count)]
    packets: usize,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

impl Cores {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let cpus = allowed_cpus()?;
        let cores = usize::from(self.cores);
        ensure!(cpus.len() >= cores, "--cores is {cores}, but this process may use {} CPUs", cpus.len());
        let mut all = Vec::new();
        if !self.json {
            writeln!(out, "{}", Figures::HEADING)?;
        }
        for flows in &self.flows {
            let figures = self.measure(*flows, &cpus[..cores])?;
            if !self.json {
                writeln!(out, "{figures}")?;
                out.flush()?;
            }
            all.push(figures);
        }
        if self.json {
            writeln!(out, "{}", json!({ "cores": cores, "rounds": self.rounds, "results": all }))?;
        }
        Ok(())
    }

    fn measure(&self, flows: usize, cpus: &[usize]) -> anyhow::Result<Figures> {
        let shape = Shape { family: self.family, ..Shape::default() };
        let mut first = Subject::new(shape, datapath(shape, flows)?)?;
        let (sides, _) = first.open(flows)?;
        first.establish(&sides)?;
        let mut subjects = vec![first];
        while subjects.len() < cpus.len() {
            subjects.push(subjects[0].beside(subjects.len() as u64)?);
        }
        let packets = self.packets.next_multiple_of(BURST);
        let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..self.rounds {
            let ways = [(1, 0), (cpus.len(), 0), (cpus.len(), 1)];
            for ((cores, away), times) in ways.into_iter().zip(&mut rounds) {
                times.push(round(&mut subjects[..cores], &cpus[..cores], &sides, away, packets)?);
            }
        }
        let [one, own, away] = rounds.map(median);
        Ok(Figures { flows, one_mpps: one, own_mpps: own, own_times: own / one, away_mpps: away, away_times: away / one })
    }
}

/// Millions of packets a second, of all cores together.
#[derive(Debug, Serialize)]
struct Figures {
    flows: usize,
    /// One core.
    one_mpps: f64,
    /// All of them, each with both directions of its flows; and how many times one core that is.
    own_mpps: f64,
    own_times: f64,
    /// All of them, each with the replies of the flows of another one.
    away_mpps: f64,
    away_times: f64,
}

impl Figures {
    const HEADING: &str = "     flows  one core Mpps  all cores Mpps  times one  replies elsewhere Mpps  times one";
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, one_mpps, own_mpps, own_times, away_mpps, away_times } = self;
        write!(f, "{flows:>10} {one_mpps:>14.1} {own_mpps:>15.1} {own_times:>10.2} {away_mpps:>23.1} {away_times:>10.2}")
    }
}

/// Each subject on its CPU, all at once: the sum of what their time in the datapath amounts to, in millions of packets a second. Replies
/// that a core gets are of the flows of the core `away` further on.
fn round(subjects: &mut [Subject], cpus: &[usize], sides: &[ReplySide], away: usize, packets: usize) -> anyhow::Result<f64> {
    let (cores, start) = (subjects.len(), Barrier::new(subjects.len()));
    std::thread::scope(|scope| {
        let start = &start;
        let running: Vec<_> = subjects
            .iter_mut()
            .zip(cpus)
            .enumerate()
            .map(|(core, (subject, cpu))| {
                scope.spawn(move || {
                    let pinned = pin_thread(*cpu);
                    start.wait();
                    pinned.map(|()| subject.share(sides, (core, cores), away, packets))
                })
            })
            .collect();
        running.into_iter().map(|core| core.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?).sum()
    })
}

impl Subject {
    /// Packets of the flows that one of so many cores has: millions a second.
    fn share(&mut self, sides: &[ReplySide], (core, cores): (usize, usize), away: usize, packets: usize) -> anyhow::Result<f64> {
        let (mut spent, mut sent) = (0.0, 0);
        for _ in 0..packets / BURST {
            for at in 0..BURST {
                let flow = self.random.below(sides.len() / cores) * cores;
                if self.random.below(2) == 0 {
                    let flow = flow + (core + away) % cores;
                    self.burst.write_reply(at, sides[flow], DATA);
                } else {
                    self.burst.write_original(at, flow + core, DATA);
                }
            }
            let (time, went) = self.process(BURST);
            spent += time.as_secs_f64();
            sent += went;
        }
        ensure!(sent == packets, "{sent} of {packets} packets were forwarded");
        Ok(packets as f64 / spent / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_forwards_every_packet_of_its_own_flows_and_of_those_of_others() {
        let shape = Shape::default();
        let mut first = Subject::new(shape, datapath(shape, 1_000).unwrap()).unwrap();
        let (sides, _) = first.open(1_000).unwrap();
        first.establish(&sides).unwrap();
        let second = first.beside(1).unwrap();
        let cpus = allowed_cpus().unwrap();
        let cpus = [cpus[0], cpus[cpus.len() - 1]];
        let mut subjects = [first, second];
        for away in [0, 1] {
            assert!(round(&mut subjects, &cpus, &sides, away, 6_400).unwrap() > 0.0);
        }
        let established: u64 = subjects.iter().map(|subject| subject.counters().established.get()).sum();
        // And a SYN/ACK and an ACK of each.
        assert_eq!(established, 2 * 2 * 6_400 + 2 * 1_000);
    }
}
