//! `weir bench flood`: a full table under a flood of SYNs from random sources, as fast as the datapath takes them.
//!
//! Bursts of first packets that nobody means, packets of established connections, and handshakes of honest clients are mixed. Backends answer
//! every SYN that reaches them, also those of the flood, so that the flood's connections cannot be told from honest ones that are
//! being opened. Time is virtual: the flood's rate and the round trip of honest clients are given, whatever this machine's speed.

use super::flows::datapath;
use super::shape::Shape;
use super::subject::{Random, Subject};
use super::traffic::{DATA, ReplySide, is_forwarded};
use crate::conntrack::{Conntrack, Millis};
use crate::datapath::BURST;
use crate::packet::tcp::flag;
use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// A flood of SYNs from random sources against a full table
#[derive(Debug, Args)]
pub(super) struct Flood {
    /// Room in the table.
    #[arg(long, default_value = "1M", value_parser = super::parse_count)]
    table: usize,
    /// Established connections.
    #[arg(long, default_value = "100k", value_parser = super::parse_count)]
    established: usize,
    /// SYNs of the flood.
    #[arg(long, default_value = "10M", value_parser = super::parse_count)]
    syns: usize,
    /// SYNs a second of virtual time.
    #[arg(long, default_value = "1M", value_parser = super::parse_count)]
    rate: usize,
    /// Milliseconds of virtual time from an honest client to weir and back.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rtt: u32,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// What came out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    pub table: usize,
    pub established: usize,
    /// SYNs of the flood, and those that were sent on to a backend.
    pub syns: u64,
    pub syns_forwarded: u64,
    /// Thousands of flood SYNs a second of real time, all other packets included in the time.
    pub syn_kpps: f64,
    /// Packets of established connections during the flood and after it, and those that were forwarded.
    pub established_packets: u64,
    pub established_forwarded: u64,
    /// Handshakes that honest clients began during the flood once the table was full, and those that had succeeded without any packet
    /// having to be sent again.
    pub handshakes: u64,
    pub handshakes_completed: u64,
    /// Milliseconds of virtual time in which the flood brings as many connections as the table has room for beside the established ones.
    pub turnover_ms: u64,
    /// Connections that gave way.
    pub early_drops: u64,
    pub expired: u64,
    /// Kibibytes of memory of the process, with the table full for the first time, and at the end.
    pub resident_before: u64,
    pub resident_after: u64,
}

/// The first slots of a burst are honest clients', those up to this one of established connections, the rest the flood's.
const HONEST: usize = 4;
const ESTABLISHED: usize = 16;

impl Flood {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let Self { table, established, .. } = self;
        ensure!(
            established + BURST < *table,
            "--established {established} leaves no room for the flood in --table {table}: at least {} there",
            established + BURST + 1
        );
        let figures = flood(self)?;
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(&figures)?)?);
        }
        let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let Figures { table, established, syns, syns_forwarded, syn_kpps, turnover_ms, early_drops, expired, .. } = figures;
        writeln!(out, "table {table}, {established} established, flood of {syns} SYNs, turned over in {turnover_ms} ms")?;
        writeln!(out, "flood         {syn_kpps:.0} k SYNs a second, {:.3} % had a place", share(syns_forwarded, syns))?;
        let (sent, forwarded) = (figures.established_packets, figures.established_forwarded);
        writeln!(out, "established   {forwarded} of {sent} packets forwarded: {:.4} %", share(forwarded, sent))?;
        let (begun, completed) = (figures.handshakes, figures.handshakes_completed);
        writeln!(
            out,
            "handshakes    {completed} of {begun} of honest clients at the first try: {:.3} %",
            share(completed, begun)
        )?;
        writeln!(out, "gave way      {early_drops} to newcomers, {expired} expired")?;
        Ok(writeln!(out, "memory        {} KiB, at the end {} KiB", figures.resident_before, figures.resident_after)?)
    }
}

/// A handshake of an honest client: what it sends next, and when.
struct Handshake {
    client: (u32, u16),
    side: ReplySide,
    at: Millis,
    step: Step,
    /// Whether it was begun while the table was full, early enough to come to its end.
    counted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The backend answers.
    SynAck,
    /// The client's next packet: it has heard the answer.
    Ack,
    /// The backend's answer to the first request.
    Data,
}

/// What a slot of the burst holds.
enum Slot {
    Flood,
    Established,
    Syn((u32, u16)),
    Step(Handshake),
}

struct Attack<'a> {
    subject: Subject,
    sides: Vec<ReplySide>,
    random: Random,
    /// Of honest clients, in the order in which they go on: one queue for each step, since each step waits equally long.
    handshakes: [VecDeque<Handshake>; 3],
    /// Of backends that have got a SYN of the flood.
    answers: VecDeque<ReplySide>,
    clients: u32,
    measured: bool,
    /// So near to the end that handshakes begun now would not be over by then.
    ending: bool,
    figures: Figures,
    settings: &'a Flood,
}

fn flood(settings: &Flood) -> anyhow::Result<Figures> {
    let mut subject = Subject::new(Shape::default(), datapath(Shape::default(), settings.table)?)?;
    let (sides, _) = subject.open(settings.established)?;
    subject.establish(&sides)?;
    let free = (settings.table - settings.established) as u64;
    let figures = Figures {
        table: settings.table,
        established: settings.established,
        turnover_ms: free * 1000 / settings.rate as u64,
        ..Figures::default()
    };
    let mut attack = Attack {
        subject,
        sides,
        random: Random::new(0x2545_f491_4f6c_dd1d),
        handshakes: [const { VecDeque::new() }; 3],
        answers: VecDeque::new(),
        clients: 0,
        measured: false,
        ending: false,
        figures,
        settings,
    };
    let datapath = attack.subject.datapath();
    let (clock, stop) = (AtomicU32::new(attack.subject.now.0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let control = scope.spawn(|| sweep(&datapath.conntrack, &datapath.snapshot, &clock, &stop));
        let ran = attack.run(&clock);
        stop.store(true, Relaxed);
        attack.figures.expired = control.join().unwrap_or_default();
        ran
    })?;
    attack.figures.early_drops = attack.subject.counters().early_drops.get();
    Ok(attack.figures)
}

/// What the control thread does meanwhile.
fn sweep(
    conntrack: &Conntrack,
    snapshot: &arc_swap::ArcSwap<crate::service::Snapshot>,
    clock: &AtomicU32,
    stop: &AtomicBool,
) -> u64 {
    let mut expired = 0;
    // Relaxed: a number and a flag, nothing else is read through them.
    while !stop.load(Relaxed) {
        let snapshot = snapshot.load();
        let swept = conntrack.sweep(Millis(clock.load(Relaxed)), &snapshot.timeouts, 4096, &mut |connection| {
            snapshot.connection_closed(connection)
        });
        expired += swept.ended;
        if swept.wrapped {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    expired
}

impl Attack<'_> {
    fn run(&mut self, clock: &AtomicU32) -> anyhow::Result<()> {
        let (start, rate) = (self.subject.now, self.settings.rate as u64);
        let mut spent = Duration::ZERO;
        let mut sent = 0u64;
        let fill = self.settings.table as u64;
        let total = fill + self.settings.syns as u64;
        while sent < total {
            if !self.measured && sent >= fill {
                self.measured = true;
                self.figures.resident_before = resident()?;
                spent = Duration::ZERO;
            }
            self.ending = sent + rate * u64::from(self.settings.rtt + 20) / 1000 > total;
            self.subject.now = start.after((sent * 1000 / rate) as u32);
            clock.store(self.subject.now.0, Relaxed);
            let (syns, time) = self.burst();
            sent += syns;
            spent += time + self.answer_burst();
        }
        self.figures.syn_kpps = self.figures.syns as f64 / spent.as_secs_f64() / 1000.0;
        self.check_established();
        self.figures.resident_after = resident()?;
        Ok(())
    }

    /// One burst from outside and inside. How many of its frames were the flood's.
    fn burst(&mut self) -> (u64, Duration) {
        let mut slots = Vec::with_capacity(BURST);
        for at in 0..BURST {
            let slot = match at {
                0..HONEST => self.honest(at),
                HONEST..ESTABLISHED => self.write_established(at),
                _ => self.write_flood(at),
            };
            slots.push(slot);
        }
        let (time, fates) = self.subject.process_fates(BURST);
        let mut syns = 0;
        for (at, (slot, fate)) in slots.into_iter().zip(fates).enumerate() {
            syns += u64::from(matches!(slot, Slot::Flood));
            self.heed(at, slot, is_forwarded(fate));
        }
        (syns, time)
    }

    fn write_flood(&mut self, at: usize) -> Slot {
        let random = self.random.next();
        let client = (0x1000_0000 | (random as u32 & 0x0fff_ffff), 1024 + ((random >> 32) as u16 & 0x7fff));
        self.subject.burst.write_from_client(at, client, flag::SYN);
        Slot::Flood
    }

    fn write_established(&mut self, at: usize) -> Slot {
        let flow = self.random.below(self.sides.len());
        if at.is_multiple_of(2) {
            self.subject.burst.write_original(at, flow, DATA);
        } else {
            self.subject.burst.write_reply(at, self.sides[flow], DATA);
        }
        Slot::Established
    }

    /// The next packet of a handshake that is due, else the first one of a new client.
    fn honest(&mut self, at: usize) -> Slot {
        let now = self.subject.now;
        for queue in &mut self.handshakes {
            let due = queue.pop_front_if(|handshake| now.since(handshake.at) < u32::MAX / 2);
            if let Some(handshake) = due {
                match handshake.step {
                    Step::SynAck => self.subject.burst.write_reply(at, handshake.side, flag::SYN | flag::ACK),
                    Step::Ack => self.subject.burst.write_from_client(at, handshake.client, flag::ACK),
                    Step::Data => self.subject.burst.write_reply(at, handshake.side, DATA),
                }
                return Slot::Step(handshake);
            }
        }
        self.clients += 1;
        let client = (0x2000_0000 | self.clients, 40_000);
        self.subject.burst.write_from_client(at, client, flag::SYN);
        Slot::Syn(client)
    }

    fn heed(&mut self, at: usize, slot: Slot, forwarded: bool) {
        let (now, rtt, counted) = (self.subject.now, self.settings.rtt, u64::from(self.measured));
        match slot {
            Slot::Flood => {
                self.figures.syns += counted;
                self.figures.syns_forwarded += counted * u64::from(forwarded);
                if forwarded {
                    self.answers.push_back(self.subject.burst.reply_side(at));
                }
            }
            Slot::Established => {
                self.figures.established_packets += 1;
                self.figures.established_forwarded += u64::from(forwarded);
            }
            Slot::Syn(client) => {
                let counted = self.measured && !self.ending;
                self.figures.handshakes += u64::from(counted);
                if forwarded {
                    let side = self.subject.burst.reply_side(at);
                    self.go_on(Handshake { client, side, at: now.after(1), step: Step::SynAck, counted });
                }
            }
            Slot::Step(handshake) if forwarded => match handshake.step {
                Step::SynAck => self.go_on(Handshake { at: now.after(rtt), step: Step::Ack, ..handshake }),
                Step::Ack => self.go_on(Handshake { at: now.after(1), step: Step::Data, ..handshake }),
                Step::Data => self.figures.handshakes_completed += u64::from(handshake.counted),
            },
            Slot::Step(_) => {}
        }
    }

    fn go_on(&mut self, handshake: Handshake) {
        self.handshakes[handshake.step as usize].push_back(handshake);
    }

    /// Backends answer what has reached them of the flood.
    fn answer_burst(&mut self) -> Duration {
        let count = self.answers.len().min(BURST);
        for (at, side) in self.answers.drain(..count).enumerate() {
            self.subject.burst.write_reply(at, side, flag::SYN | flag::ACK);
        }
        // Those whose connection has given way are dropped.
        self.subject.process_fates(count).0
    }

    /// Each established connection once more, in both directions.
    fn check_established(&mut self) {
        for first in (0..self.sides.len()).step_by(BURST / 2) {
            let flows = first..(first + BURST / 2).min(self.sides.len());
            let count = 2 * flows.len();
            for (at, flow) in flows.enumerate() {
                self.subject.burst.write_original(2 * at, flow, DATA);
                self.subject.burst.write_reply(2 * at + 1, self.sides[flow], DATA);
            }
            let (_, fates) = self.subject.process_fates(count);
            self.figures.established_packets += count as u64;
            self.figures.established_forwarded += fates.into_iter().filter(|fate| is_forwarded(*fate)).count() as u64;
        }
    }
}

/// Kibibytes of this process that are in memory.
fn resident() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).context("/proc/self/statm")?;
    Ok(pages * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_established_connections_alone_and_honest_clients_a_place() {
        let settings = Flood { table: 40_000, established: 4_000, syns: 300_000, rate: 100_000, rtt: 50, json: false };
        let figures = flood(&settings).unwrap();
        assert_eq!(figures.established_forwarded, figures.established_packets);
        assert!(figures.early_drops > 200_000, "{figures:?}");
        assert!(figures.syns_forwarded as f64 > 0.9 * figures.syns as f64, "{figures:?}");
        assert!(figures.handshakes > 3_000, "{figures:?}");
        assert!(figures.handshakes_completed as f64 > 0.999 * figures.handshakes as f64, "{figures:?}");
    }
}
