//! `weir bench schedulers`: what the choice of a backend costs, by scheduler and number of backends.

use super::measure::median;
use super::subject::{Random, clock_cost};
use crate::schedule::{Kind, Member, Request, Scheduler, Settings, build};
use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::hint::black_box;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the choice of a backend costs, by scheduler and number of backends
///
/// Backends of weights 1 to 10 have eight connections each, opened where the scheduler said. Then, by turns: a burst of 64 choices for random
/// clients; the connections are opened at the chosen ones, and as many random ones closed. In the same run, alternating with it: the floor,
/// which is one count of a shared counter and one look at the weight of a random backend. Figures are medians over the bursts, a connection.
#[derive(Debug, Args)]
pub(super) struct Schedulers {
    /// Numbers of backends.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000", value_parser = clap::value_parser!(u32).range(1..=32_768))]
    backends: Vec<u32>,
    /// Choices of each scheduler.
    #[arg(long, default_value = "500k", value_parser = super::parse_count)]
    picks: usize,
    /// Percentage of backends that are at their limit.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=99))]
    full: u32,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Choices between two readings of the clock.
const BURST: usize = 64;
/// Connections of a backend.
const EACH: usize = 8;

impl Schedulers {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut all = Vec::new();
        if !self.json {
            writeln!(out, "{}", Figures::HEADING)?;
        }
        for (backends, kind) in self.backends.iter().flat_map(|backends| Kind::ALL.iter().map(move |kind| (*backends, *kind))) {
            let figures = measure(kind, backends, self.full, self.picks)?;
            if !self.json {
                writeln!(out, "{figures}")?;
                out.flush()?;
            }
            all.push(figures);
        }
        if self.json {
            writeln!(out, "{}", json!({ "picks": self.picks, "full_percent": self.full, "results": all }))?;
        }
        Ok(())
    }
}

/// Nanoseconds.
#[derive(Debug, Serialize)]
struct Figures {
    scheduler: &'static str,
    backends: u32,
    pick_ns: f64,
    floor_ns: f64,
    ratio: f64,
    /// For one connection: counted when it is opened and when it is closed, and what follows from that.
    count_ns: f64,
}

impl Figures {
    const HEADING: &'static str = "scheduler                backends   pick ns  floor ns  pick / floor  open and close ns";
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheduler, backends, pick_ns, floor_ns, ratio, count_ns } = self;
        write!(f, "{scheduler:<24} {backends:>8} {pick_ns:>9.1} {floor_ns:>9.1} {ratio:>13.1} {count_ns:>18.1}")
    }
}

fn measure(kind: Kind, backends: u32, full: u32, picks: usize) -> anyhow::Result<Figures> {
    let mut subject = Subject::new(kind, backends, full);
    ensure!(
        !subject.held.is_empty(),
        "--full {full} leaves none of {backends} backends with room: name more backends, or a smaller share"
    );
    let bursts: Vec<_> = (0..picks.div_ceil(BURST)).map(|_| subject.burst()).collect();
    let of = |part: usize| median(bursts.iter().map(|burst| burst[part].as_nanos() as f64 / BURST as f64));
    let [pick_ns, floor_ns, count_ns] = [0, 1, 2].map(of);
    Ok(Figures { scheduler: kind.name(), backends, pick_ns, floor_ns, ratio: pick_ns / floor_ns, count_ns })
}

struct Subject {
    members: Vec<Arc<Member>>,
    scheduler: Arc<dyn Scheduler>,
    /// The backend of each open connection.
    held: Vec<usize>,
    ticket: AtomicUsize,
    random: Random,
    clock: Duration,
}

impl Subject {
    fn new(kind: Kind, backends: u32, full: u32) -> Self {
        let members: Vec<_> = (0..backends).map(member).collect();
        for (number, member) in members.iter().enumerate() {
            fill(member, number, full);
        }
        let scheduler = build(kind, Settings::default(), &members);
        let random = Random::new(0x9e37_79b9_7f4a_7c15);
        let mut subject = Self { members, scheduler, held: Vec::new(), ticket: AtomicUsize::new(0), random, clock: clock_cost() };
        for _ in 0..EACH * backends as usize {
            let request = subject.request();
            if let Some(chosen) = subject.scheduler.pick(&request, &subject.members) {
                subject.members[chosen].connection_opened();
                subject.held.push(chosen);
            }
        }
        subject
    }

    fn request(&mut self) -> Request {
        let bits = self.random.next();
        Request { client: Ipv4Addr::from_bits((bits >> 32) as u32).into(), client_port: bits as u16 }
    }

    /// Times of the choices, of the floor, and of counting.
    fn burst(&mut self) -> [Duration; 3] {
        let requests: [Request; BURST] = std::array::from_fn(|_| self.request());
        let mut chosen = [0; BURST];
        let picking = self.timed(|subject| {
            for (request, chosen) in requests.iter().zip(&mut chosen) {
                *chosen = subject.scheduler.pick(request, &subject.members).unwrap_or_default();
            }
        });
        let random: [usize; BURST] = std::array::from_fn(|_| self.random.below(self.members.len()));
        let touching = self.timed(|subject| {
            for index in random {
                black_box((subject.ticket.fetch_add(1, Relaxed), subject.members[index].weight()));
            }
        });
        let closed: [usize; BURST] = std::array::from_fn(|at| {
            let index = self.random.below(self.held.len());
            std::mem::replace(&mut self.held[index], chosen[at])
        });
        let counting = self.timed(|subject| {
            for (opened, closed) in chosen.iter().zip(closed) {
                subject.members[*opened].connection_opened();
                subject.members[closed].connection_closed();
            }
        });
        [picking, touching, counting]
    }

    fn timed(&self, work: impl FnOnce(&Self)) -> Duration {
        let start = Instant::now();
        work(self);
        start.elapsed().saturating_sub(self.clock)
    }
}

/// Weights 1 to 10; every second one is in the first tier, and none is full before it has twice the average.
fn member(number: u32) -> Arc<Member> {
    let address = SocketAddr::new(Ipv4Addr::from_bits(0x0a01_0000 + number).into(), 8443);
    let member = Member::new(address, number % 10 + 1, true);
    member.set_priority(number % 2);
    member.set_overflow_at(Some(2 * EACH as u32));
    Arc::new(member)
}

/// So many of a hundred are full for ever, with connections that are not among those that come and go; the others have limits that they do
/// not reach. Without full ones, nobody has a limit.
fn fill(member: &Member, number: usize, full: u32) {
    // 61 has no factor in common with 100: the full ones are spread evenly.
    let is_full = number * 61 % 100 < full as usize;
    if is_full {
        member.set_max_connections(Some(EACH as u32));
        (0..EACH).for_each(|_| member.connection_opened());
    } else if full > 0 {
        member.set_max_connections(Some(u32::MAX - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheduler_is_measured_and_its_books_stay_right() {
        for kind in Kind::ALL {
            let mut subject = Subject::new(*kind, 20, 0);
            for _ in 0..50 {
                subject.burst();
            }
            let counted: u32 = subject.members.iter().map(|member| member.connections()).sum();
            assert_eq!((counted as usize, subject.held.len()), (20 * EACH, 20 * EACH), "{kind}");
            let figures = measure(*kind, 20, 0, 1000).unwrap();
            assert!(figures.pick_ns > 0.0 && figures.to_string().starts_with(kind.name()));
            let full = Subject::new(*kind, 20, 50);
            assert!(full.held.iter().all(|chosen| full.members[*chosen].has_room()), "{kind}: a full one was chosen");
            let error = measure(*kind, 3, 99, 1000).unwrap_err().to_string();
            assert_eq!(error, "--full 99 leaves none of 3 backends with room: name more backends, or a smaller share");
        }
    }
}
