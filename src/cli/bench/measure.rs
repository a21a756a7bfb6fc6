//! The measurement: rounds of the datapath and of the floor, alternating.

use super::flows::datapath;
use super::traffic::{Burst, DATA, ReplySide, forwarded};
use crate::conntrack::{Floor, Millis, Tables, V4};
use crate::datapath::{BURST, Counters, Datapath, Frame, Lane};
use crate::packet::tcp::flag;
use anyhow::{Context, ensure};
use serde::Serialize;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What came out for one number of connections.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub flows: usize,
    /// Nanoseconds a packet of an established connection.
    pub packet_ns: f64,
    /// Nanoseconds for the two cache lines alone.
    pub floor_ns: f64,
    /// The one over the other.
    pub ratio: f64,
    /// Millions of packets a second that `packet_ns` amounts to.
    pub mpps: f64,
    /// Thousands of new connections a second: SYN in, rewritten SYN out, confirmed.
    pub new_kcps: f64,
    /// Bytes of table and index a connection, the table full.
    pub bytes_a_connection: f64,
    pub packets: usize,
    pub forwarded: usize,
}

impl Figures {
    pub(super) const HEADING: &str =
        "     flows  packet ns     Mpps   floor ns  packet/floor   new conn k/s  bytes/conn  forwarded";
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, packet_ns, mpps, floor_ns, ratio, new_kcps, bytes_a_connection, packets, forwarded } = self;
        let share = 100.0 * *forwarded as f64 / *packets as f64;
        write!(
            f,
            "{flows:>10} {packet_ns:>10.1} {mpps:>8.1} {floor_ns:>10.1} {ratio:>13.2} {new_kcps:>14.0} {bytes_a_connection:>11.1} {share:>9.3}%"
        )
    }
}

/// One datapath under measurement.
struct Subject {
    datapath: Datapath,
    lane: Lane,
    burst: Burst,
    random: Random,
    /// What reading the clock twice costs; taken off each time.
    clock: Duration,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Connections.
    pub flows: usize,
    /// Rounds that the median is taken over.
    pub rounds: usize,
    /// Packets a round.
    pub packets: usize,
    /// Percentage of them that come from the backends.
    pub replies: u32,
    /// Whether each connection is counted.
    pub accounting: bool,
}

/// Opens the connections, then measures the rounds.
pub(super) fn measure(load: &Load) -> anyhow::Result<Figures> {
    let Load { flows, rounds, packets, replies, accounting } = *load;
    let datapath = datapath(flows, accounting)?;
    let lane = datapath.lane(Arc::new(Counters::default())).context("no place for a worker in a new table")?;
    let mut subject = Subject { datapath, lane, burst: Burst::new(), random: Random(0x9e37_79b9_7f4a_7c15), clock: clock_cost() };
    let (sides, opening) = subject.open(flows)?;
    subject.establish(&sides)?;
    let bytes = Tables::<V4>::table(&subject.datapath.conntrack).bytes();
    let floor = Floor::new(bytes.index, bytes.entries)?;

    let packets = packets.next_multiple_of(BURST);
    let (mut packet_times, mut floor_times, mut sent) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let (time, went) = subject.round(&sides, packets, replies);
        packet_times.push(time.as_nanos() as f64 / packets as f64);
        floor_times.push(subject.floor_round(&floor, packets).as_nanos() as f64 / packets as f64);
        sent += went;
    }
    let (packet_ns, floor_ns) = (median(packet_times), median(floor_times));
    Ok(Figures {
        flows,
        packet_ns,
        floor_ns,
        ratio: packet_ns / floor_ns,
        mpps: 1000.0 / packet_ns,
        new_kcps: flows as f64 / opening.as_secs_f64() / 1000.0,
        bytes_a_connection: bytes.total() as f64 / flows as f64,
        packets: packets * rounds,
        forwarded: sent,
    })
}

impl Subject {
    /// SYNs of all connections, in an order that the table cannot foresee; where each went.
    fn open(&mut self, flows: usize) -> anyhow::Result<(Vec<ReplySide>, Duration)> {
        let mut sides = vec![ReplySide::default(); flows];
        let mut order: Vec<u32> = (0..flows as u32).collect();
        for at in (1..flows).rev() {
            order.swap(at, self.random.below(at + 1));
        }
        let mut spent = Duration::ZERO;
        for chunk in order.chunks(BURST) {
            for (at, flow) in chunk.iter().enumerate() {
                self.burst.write_original(at, *flow as usize, flag::SYN);
            }
            let (time, went) = self.process(chunk.len());
            ensure!(went == chunk.len(), "{} of {} SYNs were not forwarded", chunk.len() - went, chunk.len());
            spent += time;
            for (at, flow) in chunk.iter().enumerate() {
                sides[*flow as usize] = self.burst.reply_side(at);
            }
        }
        Ok((sides, spent))
    }

    /// SYN/ACK and ACK of all connections.
    fn establish(&mut self, sides: &[ReplySide]) -> anyhow::Result<()> {
        for (chunk, first) in sides.chunks(BURST).zip((0..).step_by(BURST)) {
            for (at, side) in chunk.iter().enumerate() {
                self.burst.write_reply(at, *side, flag::SYN | flag::ACK);
            }
            ensure!(self.process(chunk.len()).1 == chunk.len(), "a SYN/ACK was not forwarded");
            for at in 0..chunk.len() {
                self.burst.write_original(at, first + at, flag::ACK);
            }
            ensure!(self.process(chunk.len()).1 == chunk.len(), "an ACK was not forwarded");
        }
        Ok(())
    }

    /// Packets of random established connections: time in the datapath alone, and how many were forwarded.
    fn round(&mut self, sides: &[ReplySide], packets: usize, replies: u32) -> (Duration, usize) {
        let (mut spent, mut sent) = (Duration::ZERO, 0);
        for _ in 0..packets / BURST {
            for at in 0..BURST {
                let flow = self.random.below(sides.len());
                if self.random.below(100) < replies as usize {
                    self.burst.write_reply(at, sides[flow], DATA);
                } else {
                    self.burst.write_original(at, flow, DATA);
                }
            }
            let (time, went) = self.process(BURST);
            spent += time;
            sent += went;
        }
        (spent, sent)
    }

    fn floor_round(&mut self, floor: &Floor, packets: usize) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..packets / BURST {
            let lines: [_; BURST] = std::array::from_fn(|_| floor.lines(self.random.next(), self.random.next()));
            let start = Instant::now();
            black_box(floor.touch(&lines));
            spent += start.elapsed().saturating_sub(self.clock);
        }
        spent
    }

    fn process(&mut self, count: usize) -> (Duration, usize) {
        let mut frames: Vec<Frame<'_>> = self.burst.frames(count);
        let start = Instant::now();
        self.datapath.process(&mut self.lane, &mut frames, Millis(1));
        let time = start.elapsed().saturating_sub(self.clock);
        (time, forwarded(&frames))
    }
}

/// The least time that two readings of the clock are apart.
fn clock_cost() -> Duration {
    let pairs = (0..10_000).map(|_| Instant::now().elapsed());
    pairs.min().unwrap_or_default()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// xorshift64: the order of packets need not be better than that, and it must cost nothing.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}
