//! weir: the datapath over memory.

use super::machine::{Machine, Shown, Step};
use super::message::Message;
use super::segment::Side;
use super::subject::Subject;
use super::world::{BACK, FRONT, Family, Setup, World, peer_mac, weir_mac};
use std::net::SocketAddr;
use weir::conntrack::Timeouts;
use weir::conntrack::l4proto::Settings;
use weir::datapath::PortId;

pub(crate) struct Weir {
    world: World,
    subject: Subject,
    client: SocketAddr,
    /// Port or identifier of the present connection toward the backend, once it was opened.
    snat: Option<u16>,
}

impl Weir {
    pub(crate) fn new(subject: Subject, tracking: Settings) -> Self {
        let world = World::new(Setup { connections: 60_000, tracking, all_protocols: true, ..Setup::default() });
        Self { world, subject, client: subject.family.client(), snat: None }
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.world.timeouts()
    }

    /// So many seconds of silence pass.
    pub(crate) fn pass(&mut self, seconds: u32) {
        self.world.pass(seconds * 1000);
        self.world.sweep();
    }
}

impl Machine for Weir {
    fn begin(&mut self, port: u16) {
        self.client.set_port(port);
        self.snat = None;
    }

    fn step(&mut self, message: &Message) -> Step {
        let subject = self.subject;
        let (port, from, to) = match message.from {
            Side::Client => (FRONT, self.client, subject.vip()),
            Side::Backend => (BACK, subject.backend(), subject.snat(self.snat.unwrap_or(super::UNKNOWN))),
        };
        let ether_type: [u8; 2] = if subject.family == Family::V4 { [8, 0] } else { [0x86, 0xdd] };
        let outcome = self.world.send(port, &frame(port, ether_type, &message.packet(from, to)));
        // What goes out by where it came in is an answer of weir's own.
        let forwarded = outcome.sent.as_ref().filter(|(out, _)| *out != port);
        if let Some((BACK, sent)) = forwarded {
            self.snat = Some(subject.source_port(&sent[14..]));
        }
        Step { forwarded: forwarded.is_some(), shown: self.shown() }
    }

    fn shown(&mut self) -> Option<Shown> {
        let (view, _) = self.world.find(self.subject.protocol, self.client, self.subject.vip())?;
        let silence = self.world.now.since(view.last_seen);
        Some(Shown {
            state: view.state.unwrap_or(""),
            seen_reply: view.seen_reply,
            assured: view.assured,
            left: view.timeout.saturating_sub(silence) / 1000,
        })
    }
}

fn frame(port: PortId, ether_type: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&weir_mac(port)[..], &peer_mac(port), &ether_type, packet].concat()
}
