//! `weir bench ports`: what the choice of a SNAT port costs, with and without homes.

use super::flows::{self, BACKENDS, INSIDE, VIP, client, homes};
use super::measure::median;
use super::shape::{Family, Shape};
use super::subject::{Random, clock_cost};
use crate::conntrack::{
    Confirmed, Conntrack, Direction, Family as Addresses, Hoard, Millis, Owner, State, Table, Tables, TcpState, Tuple, V4, V6,
    Visit, Walker,
};
use crate::datapath::BURST;
use crate::nat::{Allocation, Home, Homes, Sources, first_free_tuple, unique_tuple};
use crate::service::{BackendId, Snapshot};
use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::io::Write;
use std::iter::once;
use std::net::SocketAddr;
use std::time::Instant;

/// What the choice of a SNAT port costs a new connection
///
/// 32 backends, one SNAT address; random ones of its ports are taken. `circle` tries one port after the other, as where nobody knows on which queue a
/// reply falls; `home` takes ports whose replies fall on the chooser's own queue, for so many queues. Both reserve the reply tuple in the
/// connection table, which is in the figure. One core; all workers in turn; medians over bursts of 64 connections.
#[derive(Debug, Args)]
pub(super) struct Ports {
    /// Percentages of ports that are taken.
    #[arg(long, value_delimiter = ',', default_value = "0,50,90", value_parser = clap::value_parser!(u32).range(0..=95))]
    taken: Vec<u32>,
    /// Numbers of queues.
    #[arg(long, value_delimiter = ',', default_value = "2,4,8,16", value_parser = clap::value_parser!(u32).range(2..=128))]
    queues: Vec<u32>,
    /// Families.
    #[arg(long, value_delimiter = ',', default_value = "ipv4")]
    family: Vec<Family>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Bursts of a figure: so few that the share that is taken hardly changes.
const BURSTS: usize = 200;
/// TCP.
const PROTOCOL: u8 = 6;

/// Nanoseconds a choice.
#[derive(Debug, Serialize)]
struct Figures {
    family: Family,
    taken_percent: u32,
    /// `None`: in a circle.
    queues: Option<u32>,
    choice_ns: f64,
    /// Of ports whose replies come home; in a circle nobody knows.
    home_percent: Option<f64>,
}

impl Ports {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut all = Vec::new();
        if !self.json {
            writeln!(out, "family  taken  queues  choice ns  at home")?;
        }
        for family in &self.family {
            for taken in &self.taken {
                let figures = match family {
                    Family::Ipv4 => self.measure::<V4>(*family, *taken, |visit| visit.hoard_v4)?,
                    Family::Ipv6 => self.measure::<V6>(*family, *taken, |visit| visit.hoard_v6)?,
                };
                if !self.json {
                    figures.iter().try_for_each(|figures| writeln!(out, "{}", figures.line()))?;
                    out.flush()?;
                }
                all.extend(figures);
            }
        }
        if self.json {
            writeln!(out, "{}", json!({ "results": all }))?;
        }
        Ok(())
    }

    fn measure<F: Addresses>(&self, family: Family, taken: u32, hoard: Hoarding) -> anyhow::Result<Vec<Figures>>
    where
        Conntrack: Tables<F>,
    {
        let shape = Shape { family, ..Shape::default() };
        let mut room = Room::<F>::new(shape, hoard)?;
        let filled = room.fill(taken)?;
        let mut figures = Vec::new();
        for queues in once(None).chain(self.queues.iter().copied().map(Some)) {
            let homes = queues.map(|queues| homes(queues, &room.snapshot));
            if let Some(homes) = &homes {
                filled.iter().for_each(|reply| homes.note_taken(PROTOCOL, &reply.view()));
            }
            let (choice_ns, at_home) = room.choose(queues.unwrap_or(1), homes.as_ref())?;
            let home_percent = queues.map(|_| 100.0 * at_home);
            figures.push(Figures { family, taken_percent: taken, queues, choice_ns, home_percent });
        }
        Ok(figures)
    }
}

impl Figures {
    fn line(&self) -> String {
        let queues = self.queues.map_or("circle".to_owned(), |queues| queues.to_string());
        let home = self.home_percent.map_or("-".to_owned(), |home| format!("{home:.1} %"));
        let family = serde_json::to_value(self.family).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        format!("{family:<6} {:>4} % {queues:>7} {:>10.1} {home:>8}", self.taken_percent, self.choice_ns)
    }
}

/// Where a family's free entries are kept.
type Hoarding = for<'a, 'b> fn(&'a mut Visit<'b>) -> &'a mut Hoard;

/// A connection table and what is chosen from.
struct Room<F: Addresses> {
    conntrack: Conntrack,
    walker: Walker,
    hoard: Hoarding,
    shape: Shape,
    snapshot: Snapshot,
    /// Clients up to now.
    clients: usize,
    family: std::marker::PhantomData<F>,
}

impl<F: Addresses> Room<F>
where
    Conntrack: Tables<F>,
{
    fn new(shape: Shape, hoard: Hoarding) -> anyhow::Result<Self> {
        let conntrack = Conntrack::new(usize::from(BACKENDS) * 65_536)?.populated()?;
        let walker = conntrack.walker().context("no place for a worker in a new table")?;
        let family = std::marker::PhantomData;
        Ok(Self { conntrack, walker, hoard, shape, snapshot: flows::snapshot(shape, 1), clients: 0, family })
    }

    /// Takes so many of a hundred ports toward each backend, at random.
    fn fill(&mut self, percent: u32) -> anyhow::Result<Vec<Tuple<F>>> {
        let (mut random, mut filled) = (Random::new(0x9e37_79b9_7f4a_7c15), Vec::new());
        let address = self.snapshot.snat.addresses().next().context("a SNAT address")?;
        for backend in self.snapshot.backends.iter().flatten() {
            for port in self.snapshot.snat.ports.clone().filter(|_| random.below(100) < percent as usize) {
                let original = original(self.shape, &mut self.clients)?;
                let mut visit = self.walker.enter();
                let table = self.conntrack.table();
                let connection = begin(table, (self.hoard)(&mut visit), &original, backend.id)?;
                let taken = first_free_tuple(table, &connection, backend.address(), address, once(port));
                ensure!(taken == Allocation::Taken, "port {port} could not be taken: {taken:?}");
                let reply = connection.entry.tuple(Direction::Reply);
                ensure!(matches!(table.confirm(connection), Confirmed::Placed(_)), "a connection could not be confirmed");
                filled.push(reply);
            }
        }
        Ok(filled)
    }

    /// Chooses for some bursts; nanoseconds a choice, and the share at home. Afterwards all is as it was.
    fn choose(&mut self, workers: u32, homes: Option<&Homes>) -> anyhow::Result<(f64, f64)> {
        let (clock, mut times, mut at_home, mut opened) = (clock_cost(), Vec::new(), 0, Vec::new());
        let backends: Vec<_> = self.snapshot.backends.iter().flatten().collect();
        let mut random = Random::new(0x2545_f491_4f6c_dd1d);
        for burst in 0..BURSTS {
            let worker = burst % workers as usize;
            let mut visit = self.walker.enter();
            let (table, sources) = (self.conntrack.table(), Sources::from(&self.snapshot.snat));
            let mut waiting = Vec::with_capacity(BURST);
            for _ in 0..BURST {
                let backend = backends[random.below(backends.len())];
                let original = original(self.shape, &mut self.clients)?;
                waiting.push((begin(table, (self.hoard)(&mut visit), &original, backend.id)?, backend));
                opened.push(original);
            }
            let mut found = [Allocation::Exhausted; BURST];
            let start = Instant::now();
            for ((connection, backend), found) in waiting.iter().zip(&mut found) {
                let home = homes.and_then(|homes| find(homes, worker, backend.id, backend.address()));
                *found = unique_tuple(table, connection, (&***backend, backend.address()), (sources, home), Millis(1));
            }
            times.push(start.elapsed().saturating_sub(clock).as_nanos() as f64 / BURST as f64);
            at_home += found.iter().filter(|found| **found == Allocation::Taken).count();
            for (connection, _) in waiting {
                ensure!(matches!(table.confirm(connection), Confirmed::Placed(_)), "a connection could not be confirmed");
            }
        }
        self.close(&opened, homes);
        Ok((median(times), at_home as f64 / (BURSTS * BURST) as f64))
    }

    fn close(&self, opened: &[Tuple<F>], homes: Option<&Homes>) {
        let timeouts = &self.snapshot.timeouts;
        for tuple in opened.iter().map(Tuple::view) {
            self.conntrack.delete((PROTOCOL, tuple.source, tuple.destination), Millis(1), timeouts);
        }
        let mut closed = |view: &crate::conntrack::ConnectionView| {
            if let Some(homes) = homes {
                homes.release(view);
            }
        };
        while !self.conntrack.sweep(Millis(1), timeouts, 1 << 20, &mut closed).wrapped {}
        self.conntrack.free_swept();
    }
}

#[inline(always)]
fn find(homes: &Homes, worker: usize, backend: BackendId, target: SocketAddr) -> Option<Home<'_>> {
    homes.find(worker, backend, target, PROTOCOL, usize::from(INSIDE.0))
}

/// The next client's packets to the VIP.
fn original<F: Addresses>(shape: Shape, clients: &mut usize) -> anyhow::Result<Tuple<F>> {
    let (address, port) = client(*clients);
    *clients += 1;
    let (source, vip) = (SocketAddr::new(shape.address(address), port), SocketAddr::new(shape.address(VIP), flows::PORT));
    Tuple::new(PROTOCOL, source, vip).context("a tuple of one family")
}

fn begin<'a, F: Addresses>(
    table: &'a Table<F>,
    hoard: &mut Hoard,
    original: &Tuple<F>,
    backend: BackendId,
) -> anyhow::Result<crate::conntrack::Unconfirmed<'a, F>> {
    let owner = Owner { service: 0, backend: backend.0 };
    let state = State::new(PROTOCOL, TcpState::SynSent);
    table.open(hoard, original, table.hash(original), owner, state, Millis(1)).context("the table is full")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_at_home() {
        let (mut out, ports) =
            (Vec::new(), Ports { taken: vec![0, 90], queues: vec![4], family: vec![Family::Ipv4, Family::Ipv6], json: true });
        ports.run(&mut out).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let rows = answer["results"].as_array().unwrap();
        assert_eq!(rows.len(), 8);
        assert!(rows.iter().all(|row| row["queues"].is_null() || row["home_percent"] == 100.0), "{rows:?}");
    }
}
