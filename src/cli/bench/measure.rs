//! The measurement: rounds of the datapath and of the floor, alternating.

use super::flows::{Extras, with_extras};
use super::memory;
use super::shape::{Family, Shape};
use super::subject::Subject;
use super::traffic::{DATA, ReplySide};
use super::width::Width;
use crate::conntrack::{Conntrack, Floor, TableBytes, Tables, V4, V6};
use crate::datapath::BURST;
use serde::Serialize;
use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What came out for one shape of packets and number of connections.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    #[serde(flatten)]
    pub shape: Shape,
    pub width: Width,
    pub flows: usize,
    /// Nanoseconds a packet of an established connection.
    pub packet_ns: f64,
    /// Nanoseconds for the two cache lines alone.
    pub floor_ns: f64,
    /// The one over the other.
    pub ratio: f64,
    /// Millions of packets a second that `packet_ns` amounts to.
    pub mpps: f64,
    /// Thousands of new connections a second: first packet in, rewritten packet out, confirmed.
    pub new_kcps: f64,
    /// Bytes of table and index a connection, the table full.
    pub bytes_a_connection: f64,
    pub packets: usize,
    pub forwarded: usize,
}

impl Figures {
    pub(super) const HEADING: &str =
        "packets        width       flows  packet ns     Mpps   floor ns  packet/floor   new conn k/s  bytes/conn  forwarded";
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, width, flows, packet_ns, mpps, floor_ns, ratio, new_kcps, bytes_a_connection, packets, forwarded } =
            self;
        let share = 100.0 * *forwarded as f64 / *packets as f64;
        write!(
            f,
            "{shape} {width:>6} {flows:>10} {packet_ns:>10.1} {mpps:>8.1} {floor_ns:>10.1} {ratio:>13.2} {new_kcps:>14.0} {bytes_a_connection:>11.1} {share:>9.3}%"
        )
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub shape: Shape,
    pub width: Width,
    /// Connections.
    pub flows: usize,
    /// Rounds that the median is taken over.
    pub rounds: usize,
    /// Packets a round.
    pub packets: usize,
    /// Percentage of them that come from the backends.
    pub replies: u32,
    /// What the datapath does beside.
    pub extras: Extras,
}

/// Opens the connections, then measures the rounds.
pub(super) fn measure(load: &Load) -> anyhow::Result<Figures> {
    let Load { shape, width, flows, rounds, packets, replies, extras } = *load;
    let mut subject = Subject::new(shape, with_extras(width.key()?, shape, flows, extras)?)?;
    let (sides, opening) = subject.open(flows)?;
    subject.establish(&sides)?;
    let bytes = bytes(&subject.datapath().conntrack, shape.family);
    memory::check(bytes.total(), &format!("the floor under {flows} connections"))?;
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
        shape,
        width,
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

/// Of the table that the connections are in.
fn bytes(conntrack: &Conntrack, family: Family) -> TableBytes {
    match family {
        Family::Ipv4 => Tables::<V4>::table(conntrack).bytes(),
        Family::Ipv6 => Tables::<V6>::table(conntrack).bytes(),
    }
}

impl Subject {
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
}

pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
