//! Handlers that a user of the library registers: when they run, what they see, and what their verdicts do.

use super::packet::{ACK, SYN, SYN_ACK, icmp, tcp, udp};
use super::world::{FAMILIES, FRONT, World};
use std::sync::{Arc, Mutex};
use weir::conntrack::Direction;
use weir::datapath::{DropReason, Handler, Hook, Packet, Verdict, priority};

/// Who was asked, and the direction of the connection that they saw.
type Notes = Arc<Mutex<Vec<(&'static str, Option<Direction>)>>>;

/// Notes that it was asked, and says what it was told to say.
#[derive(Debug)]
struct Witness {
    name: &'static str,
    says: Verdict,
    notes: Notes,
}

impl Handler for Witness {
    fn handle(&self, packet: &mut Packet<'_>) -> Verdict {
        self.notes.lock().unwrap().push((self.name, packet.connection.map(|(direction, _)| direction)));
        self.says
    }
}

const PLACES: [(&str, Hook, i32); 7] = [
    ("before tracking", Hook::Prerouting, priority::CONNTRACK - 1),
    ("after tracking", Hook::Prerouting, priority::CONNTRACK),
    ("filter", Hook::Forward, priority::FILTER),
    ("before snat", Hook::Postrouting, priority::NAT_SRC - 1),
    ("after snat", Hook::Postrouting, priority::NAT_SRC),
    ("in", Hook::LocalIn, 0),
    ("out", Hook::LocalOut, 0),
];

/// A world with a witness at each place; the one of this name says `verdict`, all others ACCEPT.
fn watched(name: &str, verdict: Verdict) -> (World, Notes) {
    let mut world = World::default();
    let notes = Notes::default();
    for (place, hook, priority) in PLACES {
        let says = if place == name { verdict } else { Verdict::Accept };
        let witness = Witness { name: place, says, notes: Arc::clone(&notes) };
        world.datapath.hooks.register(hook, priority, Box::new(witness));
    }
    (world, notes)
}

/// The names noted since the last call, and the direction that the last of them saw.
fn noted(notes: &Notes) -> (Vec<&'static str>, Option<Direction>) {
    let notes = std::mem::take(&mut *notes.lock().unwrap());
    (notes.iter().map(|(name, _)| *name).collect(), notes.last().and_then(|(_, direction)| *direction))
}

const WAY: [&str; 5] = ["before tracking", "after tracking", "filter", "before snat", "after snat"];

#[test]
fn handlers_that_accept_change_nothing() {
    for family in FAMILIES {
        let (mut world, notes) = watched("", Verdict::Accept);
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.opens(&tcp(client, vip, SYN), backend);
        assert_eq!(noted(&notes), (WAY.to_vec(), Some(Direction::Original)));
        world.comes_back(&tcp(backend, snat, SYN_ACK), vip, client);
        assert_eq!(noted(&notes), (WAY.to_vec(), Some(Direction::Reply)));
        world.goes_on(&tcp(client, vip, ACK), snat, backend);
        assert_eq!(noted(&notes), (WAY.to_vec(), Some(Direction::Original)));
    }
}

#[test]
fn what_ends_here_and_what_starts_here() {
    for family in FAMILIES {
        let (mut world, notes) = watched("", Verdict::Accept);
        let (client, mut vip) = (family.client(), family.vip());
        world.answers(FRONT, &tcp(client, vip, SYN).with_ttl(1));
        assert_eq!(noted(&notes).0, ["before tracking", "after tracking", "out"]);
        world.drops(FRONT, &icmp(client, vip, 13), DropReason::IcmpUnrelated);
        assert_eq!(noted(&notes).0, ["in"], "not tracked, so not at PREROUTING");
        vip.set_port(81);
        world.drops(FRONT, &udp(client, vip), DropReason::NoService);
        assert_eq!(noted(&notes).0, ["before tracking", "after tracking", "in"]);
    }
}

#[test]
fn a_handler_drops() {
    for family in FAMILIES {
        for (at, name) in WAY.iter().enumerate() {
            let (mut world, notes) = watched(name, Verdict::Drop(DropReason::Hook));
            world.drops(FRONT, &tcp(family.client(), family.vip(), SYN), DropReason::Hook);
            assert_eq!(noted(&notes).0, WAY[..=at], "nobody behind it is asked");
            assert_eq!(world.datapath.conntrack.count(), 0, "{name}: nothing was opened");
        }
        let (mut world, _) = watched("out", Verdict::Drop(DropReason::Hook));
        world.drops(FRONT, &tcp(family.client(), family.vip(), SYN).with_ttl(1), DropReason::Hook);
    }
}

#[test]
fn a_handler_answers_what_ends_here() {
    for family in FAMILIES {
        let (mut world, _) = watched("in", Verdict::Stolen);
        let echo = icmp(family.client(), family.vip(), 13);
        let sent = world.answers(FRONT, &echo);
        assert_eq!(sent, world.arriving(FRONT, &echo).frame(), "it goes out as the handler left it");
    }
}

#[test]
fn a_handler_that_always_repeats_is_stopped() {
    for family in FAMILIES {
        for name in WAY {
            let (mut world, _) = watched(name, Verdict::Repeat);
            let outcome = world.send(FRONT, &world.arriving(FRONT, &tcp(family.client(), family.vip(), SYN)).frame());
            assert_eq!(outcome.fate, weir::datapath::Fate::Drop(DropReason::RepeatLimit), "{name}");
        }
    }
}
