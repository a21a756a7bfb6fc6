//! weir: the datapath over memory.

use super::machine::{Machine, Shown, Step};
use super::segment::{Segment, Side};
use super::world::{BACK, FRONT, Family, Setup, World, peer_mac, weir_mac};
use std::net::SocketAddr;
use weir::conntrack::l4proto::Settings;
use weir::datapath::PortId;
use weir::service::Protocol;

pub(crate) struct Weir {
    world: World,
    client: SocketAddr,
    /// Of the present connection, once it was opened.
    snat: Option<SocketAddr>,
}

impl Weir {
    pub(crate) fn new(tracking: Settings) -> Self {
        let world = World::new(Setup { connections: 60_000, tracking, ..Setup::default() });
        Self { world, client: Family::V4.client(), snat: None }
    }

    fn shown(&self) -> Option<Shown> {
        let (view, _) = self.world.find(Protocol::Tcp, self.client, Family::V4.vip())?;
        Some(Shown {
            state: view.tcp_state.expect("TCP").name().to_owned(),
            seen_reply: view.seen_reply,
            assured: view.assured,
            timeout: view.timeout / 1000,
        })
    }
}

impl Machine for Weir {
    fn begin(&mut self, port: u16) {
        self.client.set_port(port);
        self.snat = None;
    }

    fn step(&mut self, segment: &Segment) -> Step {
        let (port, from, to) = match segment.from {
            Side::Client => (FRONT, self.client, Family::V4.vip()),
            Side::Backend => (BACK, Family::V4.backend(), self.snat.unwrap_or(SocketAddr::new(Family::V4.snat(), 19_999))),
        };
        let outcome = self.world.send(port, &frame(port, &segment.packet(from, to)));
        if let Some((BACK, sent)) = &outcome.sent {
            let port = u16::from_be_bytes([sent[34], sent[35]]);
            self.snat = Some(SocketAddr::new(Family::V4.snat(), port));
        }
        Step { forwarded: outcome.sent.is_some(), shown: self.shown() }
    }
}

fn frame(port: PortId, packet: &[u8]) -> Vec<u8> {
    [&weir_mac(port)[..], &peer_mac(port), &[8, 0], packet].concat()
}
