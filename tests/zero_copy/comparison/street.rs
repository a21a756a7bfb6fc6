//! Where the comparison takes place, and its two ends:
//!
//! ```text
//!   client 10.1.0.66 ─┐                                                       ┌─ backends 10.2.0.66, 10.2.0.67
//!   its router  .77 ──┴─ card ═ outside 10.1.0.1, VIP .100 │ inside 10.2.0.1 ═ card ┴─ their router .77; nobody is 10.2.0.99
//! ```
//!
//! The same with fd00:1:: and fd00:2::. The addresses of both ends belong to no kernel: this program plays them. `inside` has an MTU
//! of 1400 bytes, all else 1500.

use super::packet::{ACK, PSH_ACK, Packet, SYN, SYN_ACK, segment};
use super::seen::Seen;
use super::wire::Wire;
use crate::support::{Family, Namespace, plug};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The MTU of `inside`.
pub(super) const MTU: u32 = 1400;
/// Longest until the first frame of an answer, in an emulator on a busy machine.
const PATIENCE: Duration = Duration::from_millis(900);
/// Quiet for so long: nothing more comes.
const QUIET: Duration = Duration::from_millis(120);

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Backend,
}

/// What the two ends heard after something was sent.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) client: Vec<Seen>,
    pub(super) backend: Vec<Seen>,
}

/// The ends of a TCP connection: as the client has it, and as the backend has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    pub(super) client: SocketAddr,
    pub(super) vip: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) backend: SocketAddr,
}

pub(super) struct Street {
    pub(super) node: Namespace,
    client: (Namespace, Wire),
    backend: (Namespace, Wire),
    next_port: u16,
}

/// Sequence numbers with which client and backend begin.
pub(super) const CLIENT_ISN: u32 = 1_000_000;
pub(super) const BACKEND_ISN: u32 = 2_000_000;

impl Street {
    pub(super) fn new() -> Self {
        let [node, client, backend] = ["node", "client", "backends"].map(Namespace::new);
        plug((0, &node, "outside"), (&client, "eth0"), 1);
        plug((1, &node, "inside"), (&backend, "eth0"), 1);
        node.ip(&format!("link set inside mtu {MTU}"));
        for (interface, address, neighbours, card) in [
            ("outside", "10.1.0.1/24", ["10.1.0.66", "10.1.0.77", "10.1.0.77"], "02:00:00:00:00:02"),
            ("outside", "fd00:1::1/64 nodad", ["fd00:1::66", "fd00:1::77", "fd00:1::77"], "02:00:00:00:00:02"),
            ("inside", "10.2.0.1/24", ["10.2.0.66", "10.2.0.67", "10.2.0.77"], "02:00:00:00:01:02"),
            ("inside", "fd00:2::1/64 nodad", ["fd00:2::66", "fd00:2::67", "fd00:2::77"], "02:00:00:00:01:02"),
        ] {
            node.ip(&format!("address add {address} dev {interface}"));
            for neighbour in neighbours {
                node.ip(&format!("neigh replace {neighbour} lladdr {card} dev {interface} nud permanent"));
            }
        }
        let wires = (Wire::open(&client, "eth0", own(0)), Wire::open(&backend, "eth0", own(1)));
        Self { node, client: (client, wires.0), backend: (backend, wires.1), next_port: 20_000 }
    }

    /// A client's address that nobody had before.
    pub(super) fn client(&mut self, family: Family) -> SocketAddr {
        self.next_port += 1;
        SocketAddr::new(address(family, "10.1.0.66", "fd00:1::66"), self.next_port)
    }

    /// Sends packets from one side and listens on both until it is quiet.
    pub(super) fn say(&mut self, side: Side, packets: &[Packet]) -> Heard {
        let frames: Vec<Vec<u8>> = packets.iter().map(|packet| framed(side, packet)).collect();
        self.say_frames(side, &frames)
    }

    /// The same with whole frames.
    pub(super) fn say_frames(&mut self, side: Side, frames: &[Vec<u8>]) -> Heard {
        let wire = if side == Side::Client { &self.client.1 } else { &self.backend.1 };
        frames.iter().for_each(|frame| wire.send(frame));
        self.listen(PATIENCE)
    }

    /// Listens on both sides until something came and then nothing more, or until it took too long.
    pub(super) fn listen(&mut self, patience: Duration) -> Heard {
        let mut heard = Heard::default();
        let (start, mut last) = (Instant::now(), None::<Instant>);
        while last.map_or(start.elapsed() < patience, |last| last.elapsed() < QUIET) {
            for (wire, list) in [(&self.client.1, &mut heard.client), (&self.backend.1, &mut heard.backend)] {
                while let Some(frame) = wire.next(Duration::from_millis(2)) {
                    list.push(Seen::new(&frame));
                    last = Some(Instant::now());
                }
            }
        }
        heard
    }

    /// A SYN to this port of the VIP; what came of it.
    pub(super) fn knock(&mut self, family: Family, port: u16) -> (SocketAddr, SocketAddr, Heard) {
        let (client, vip) = (self.client(family), SocketAddr::new(family.vip(), port));
        let heard = self.say(Side::Client, &[segment(client, vip, SYN, CLIENT_ISN, 0)]);
        (client, vip, heard)
    }

    /// A connection to port 80, established from end to end.
    pub(super) fn connect(&mut self, family: Family) -> Option<Connection> {
        let (client, vip, heard) = self.knock(family, 80);
        self.accept(client, vip, &heard)
    }

    /// The backend accepts what it heard.
    pub(super) fn accept(&mut self, client: SocketAddr, vip: SocketAddr, heard: &Heard) -> Option<Connection> {
        let syn = heard.backend.iter().find(|seen| seen.is_tcp(SYN))?;
        let (peer, backend) = (syn.from, syn.to);
        let back = self.say(Side::Backend, &[segment(backend, peer, SYN_ACK, BACKEND_ISN, CLIENT_ISN + 1)]);
        back.client.iter().find(|seen| seen.is_tcp(SYN_ACK) && seen.from == vip && seen.to == client)?;
        self.say(Side::Client, &[segment(client, vip, ACK, CLIENT_ISN + 1, BACKEND_ISN + 1)]);
        Some(Connection { client, vip, peer, backend })
    }

    /// Data by the client, in order; whether the backend heard it.
    pub(super) fn data_passes(&mut self, connection: &Connection) -> bool {
        let data = connection.by_client(PSH_ACK).carrying(b"request");
        self.say(Side::Client, &[data]).backend.iter().any(|seen| seen.has_data())
    }
}

impl Connection {
    /// A segment of the client, in order.
    pub(super) fn by_client(&self, flags: u8) -> Packet {
        segment(self.client, self.vip, flags, CLIENT_ISN + 1, BACKEND_ISN + 1)
    }

    /// A segment of the backend, in order.
    pub(super) fn by_backend(&self, flags: u8) -> Packet {
        segment(self.backend, self.peer, flags, BACKEND_ISN + 1, CLIENT_ISN + 1)
    }
}

/// The frame by which one side sends a packet.
pub(super) fn framed(side: Side, packet: &Packet) -> Vec<u8> {
    let pair = u8::from(side == Side::Backend);
    Packet { from_mac: own(pair), to_mac: [2, 0, 0, 0, pair, 1], ..packet.clone() }.frame()
}

/// The card of an end; weir's has 1 at the end.
fn own(pair: u8) -> [u8; 6] {
    [2, 0, 0, 0, pair, 2]
}

pub(super) fn address(family: Family, v4: &str, v6: &str) -> IpAddr {
    let text = if family == Family::V4 { v4 } else { v6 };
    text.parse().expect("an address")
}
