//! A full table degrades by rule: who gives way to whom, and that nobody else does.

use super::packet::{ACK, FIN_ACK, Packet, RST, RST_ACK, SYN, SYN_ACK, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use weir::conntrack::l4proto::STREAM_AFTER;
use weir::conntrack::{DestroyReason, EventKind, Heard, Spared};
use weir::datapath::{BURST, DropReason, Fate};
use weir::service::Protocol;

const CAPACITY: u16 = 1000;

fn client(family: Family, number: u16) -> SocketAddr {
    SocketAddr::new(family.client().ip(), 1000 + number)
}

fn world(spared: Spared) -> World {
    World::new(Setup { connections: usize::from(CAPACITY), spared, ..Default::default() })
}

/// First packets of these clients, in bursts. Which of them went on.
fn knock(world: &mut World, family: Family, numbers: impl Iterator<Item = u16>) -> Vec<u16> {
    let numbers: Vec<u16> = numbers.collect();
    let mut served = Vec::new();
    for numbers in numbers.chunks(BURST / 4) {
        let frame = |number: &u16| world.arriving(FRONT, &tcp(client(family, *number), family.vip(), SYN)).frame();
        let frames: Vec<_> = numbers.iter().map(frame).collect();
        for (number, (fate, _)) in numbers.iter().zip(world.burst(FRONT, &frames)) {
            match fate {
                Fate::Transmit(_) => served.push(*number),
                Fate::Drop(DropReason::TableFull) => {}
                other => panic!("{number}: {other:?}"),
            }
        }
        world.take_sent(BACK);
    }
    served
}

fn is_known(world: &World, family: Family, number: u16) -> bool {
    world.find(Protocol::Tcp, client(family, number), family.vip()).is_some()
}

/// Opens a connection and brings it into a state by these packets of the client.
fn bring(world: &mut World, family: Family, number: u16, flags: &[u8]) -> SocketAddr {
    let (client, vip, backend) = (client(family, number), family.vip(), family.backend());
    let snat = world.established(client, vip, backend);
    for flags in flags {
        world.goes_on(&tcp(client, vip, *flags), snat, backend);
    }
    snat
}

#[test]
fn who_is_not_assured_gives_way_to_newcomers_and_nobody_else_does() {
    for family in FAMILIES {
        let mut world = world(Spared::Established);
        let kept: BTreeMap<u16, SocketAddr> = (0..300).map(|number| (number, bring(&mut world, family, number, &[]))).collect();
        for number in 300..310 {
            bring(&mut world, family, number, &[FIN_ACK]);
        }
        assert_eq!(knock(&mut world, family, 310..CAPACITY).len(), 690, "there is room");
        let served = knock(&mut world, family, 2000..2500);
        assert!(served.len() >= 450, "{} of 500 newcomers had a place", served.len());
        assert_eq!(world.counted()["early_drops"], served.len() as u64 + waiting(&world), "one gives way to one");
        assert!(world.datapath.conntrack.count() <= usize::from(CAPACITY));
        for number in 300..310 {
            assert!(is_known(&world, family, number), "closing ones go only when there is no other near");
        }
        for (number, snat) in kept {
            world.goes_on(&tcp(client(family, number), family.vip(), ACK), snat, family.backend());
            world.comes_back(&tcp(family.backend(), snat, ACK), family.vip(), client(family, number));
        }
        let backend = world.backends.iter().find(|backend| backend.address() == family.backend()).unwrap();
        assert_eq!(backend.member.connections() as usize, world.datapath.conntrack.count());
    }
}

/// Whoever forges sources has backends answer: that assures nothing.
#[test]
fn datagrams_and_echoes_of_forged_sources_give_way_also_when_they_were_answered() {
    for family in FAMILIES {
        let mut world = world(Spared::Established);
        let (vip, backend) = (family.vip(), family.backend());
        let streams: BTreeMap<u16, SocketAddr> = (0..200)
            .map(|number| {
                let client = client(family, number);
                let snat = world.opens(&udp(client, vip), backend);
                world.comes_back(&udp(backend, snat), vip, client);
                (number, snat)
            })
            .collect();
        world.pass(STREAM_AFTER);
        for (number, snat) in &streams {
            world.goes_on(&udp(client(family, *number), vip), *snat, backend);
        }
        for number in 200..CAPACITY {
            let client = client(family, number);
            let snat = world.opens(&udp(client, vip), backend);
            world.comes_back(&udp(backend, snat), vip, client);
            world.goes_on(&udp(client, vip), snat, backend);
        }
        let served = knock(&mut world, family, 2000..2300);
        assert!(served.len() >= 250, "{} of 300 newcomers had a place", served.len());
        for (number, snat) in streams {
            world.goes_on(&udp(client(family, number), vip), snat, backend);
            world.comes_back(&udp(backend, snat), vip, client(family, number));
        }
    }
}

/// Entries that were given up and not used again yet.
fn waiting(world: &World) -> u64 {
    (usize::from(CAPACITY) - world.datapath.conntrack.count()) as u64
}

#[test]
fn among_equals_the_one_that_was_silent_for_longest_goes() {
    let family = Family::V4;
    let mut world = world(Spared::Established);
    for hundred in 0..10 {
        knock(&mut world, family, hundred * 100..(hundred + 1) * 100);
        world.pass(100);
    }
    let served = knock(&mut world, family, 2000..2200);
    assert!(served.len() > 150);
    let gone = |hundred: u16| (hundred * 100..(hundred + 1) * 100).filter(|number| !is_known(&world, family, *number)).count();
    let (old, young) = ((0..4).map(gone).sum::<usize>(), (6..10).map(gone).sum::<usize>());
    assert!(old > 150 && young <= 5, "of the old {old}, of the young {young}");
    assert!(served.iter().all(|number| is_known(&world, family, *number)), "newcomers stay");
}

#[test]
fn closing_connections_give_way_when_all_others_are_established() {
    for (last, family) in [([FIN_ACK], FAMILIES[0]), ([RST], FAMILIES[1])] {
        let mut world = world(Spared::Established);
        for number in 0..CAPACITY {
            bring(&mut world, family, number, if number % 2 == 0 { &last } else { &[] });
        }
        let served = knock(&mut world, family, 2000..2100);
        assert!(served.len() >= 80, "{}", served.len());
        assert!((1..CAPACITY).step_by(2).all(|number| is_known(&world, family, number)), "no established one went");
    }
}

#[test]
fn established_connections_give_way_only_if_the_config_says_so() {
    let family = Family::V4;
    for spared in [Spared::Established, Spared::Nobody] {
        let mut world = world(spared);
        for number in 0..CAPACITY {
            bring(&mut world, family, number, &[]);
        }
        let served = knock(&mut world, family, 2000..2050);
        if spared == Spared::Established {
            assert_eq!((served.len(), world.counted()["early_drops"]), (0, 0));
            assert!((0..CAPACITY).all(|number| is_known(&world, family, number)));
        } else {
            assert!(served.len() >= 30, "{}", served.len());
        }
    }
}

/// A worker that is in the middle of a burst may look at what was given up: until it is done, newcomers find no room.
#[test]
fn what_gave_way_is_not_used_while_somebody_may_look_at_it() {
    let family = Family::V4;
    let mut world = world(Spared::Established);
    knock(&mut world, family, 0..CAPACITY);
    let mut other = world.datapath.conntrack.walker().unwrap();
    let visit = other.enter();
    assert_eq!(knock(&mut world, family, 2000..2300), [0; 0]);
    let given_up = world.counted()["early_drops"];
    assert!((1..=62).contains(&given_up), "no more than are needed at once: {given_up}");
    drop(visit);
    assert!(knock(&mut world, family, 3000..3100).len() > 50);
}

/// The SNAT address and port that a frame toward a backend came from.
fn snat_of(family: Family, sent: &[u8]) -> SocketAddr {
    let l4 = if family == Family::V4 { 34 } else { 54 };
    SocketAddr::new(family.snat(), u16::from_be_bytes([sent[l4], sent[l4 + 1]]))
}

/// SYNs of these clients, `together` a burst, that their backend refuses at once. How many of them had a place.
fn knock_in_vain(world: &mut World, family: Family, numbers: std::ops::Range<u16>, together: usize) -> usize {
    let (vip, backend) = (family.vip(), family.backend());
    let mut served = 0;
    for numbers in numbers.collect::<Vec<_>>().chunks(together) {
        let frame = |number: &u16| world.arriving(FRONT, &tcp(client(family, *number), vip, SYN)).frame();
        let frames: Vec<_> = numbers.iter().map(frame).collect();
        let fates = world.burst(FRONT, &frames);
        assert!(fates.iter().all(|(fate, _)| matches!(fate, Fate::Transmit(_) | Fate::Drop(DropReason::TableFull))), "{fates:?}");
        let sent = world.take_sent(BACK);
        served += sent.len();
        let refusal = |sent: &Vec<u8>| world.arriving(BACK, &tcp(backend, snat_of(family, sent), RST_ACK)).frame();
        let refusals: Vec<_> = sent.iter().map(refusal).collect();
        assert!(world.burst(BACK, &refusals).iter().all(|(fate, _)| matches!(fate, Fate::Transmit(_))));
        world.take_sent(FRONT);
    }
    served
}

/// A backend that refuses leaves room behind, also before the control thread comes to it: nobody gives way, and newcomers are served.
#[test]
fn a_flood_that_is_refused_takes_no_room_from_anybody() {
    for (family, spared) in [(Family::V4, Spared::Nobody), (Family::V4, Spared::Established), (Family::V6, Spared::Nobody)] {
        let mut world = world(spared);
        let kept: BTreeMap<u16, SocketAddr> = (0..700).map(|number| (number, bring(&mut world, family, number, &[]))).collect();
        let served = knock_in_vain(&mut world, family, 2000..12_000, 3);
        assert!(served >= 9900, "{served} of 10000 had a place");
        assert_eq!((world.counted()["early_drops"], world.datapath.conntrack.count()), (0, 700));
        let ending = world.datapath.conntrack.ending();
        assert!((200..=300).contains(&ending), "places that wait are told of: {ending}");
        for (number, snat) in kept {
            world.goes_on(&tcp(client(family, number), family.vip(), ACK), snat, family.backend());
        }
        world.sweep();
        world.sweep();
        let backend = world.backends.iter().find(|backend| backend.address() == family.backend()).unwrap();
        assert_eq!((world.datapath.conntrack.ending(), backend.member.connections()), (0, 700));
        assert_eq!(knock(&mut world, family, 20_000..20_200).len(), 200, "their places are free");
    }
}

/// Places of connections that have ended and that somebody may still look at: newcomers have none, and nobody is given up for them.
#[test]
fn nobody_assured_gives_way_while_places_are_about_to_be_free() {
    let family = Family::V4;
    for is_swept in [false, true] {
        let mut world = world(Spared::Nobody);
        for number in 0..900 {
            bring(&mut world, family, number, &[]);
        }
        assert_eq!(knock_in_vain(&mut world, family, 2000..2100, 20), 100);
        let mut other = world.datapath.conntrack.walker().unwrap();
        let visit = other.enter();
        if is_swept {
            world.sweep();
        }
        assert_eq!(knock(&mut world, family, 3000..3500), [0; 0]);
        assert_eq!((world.counted()["early_drops"], world.datapath.conntrack.count()), (0, 900));
        drop(visit);
        world.sweep();
        let served = knock(&mut world, family, 4000..4100);
        assert!(served.len() >= 70, "{} of 100", served.len());
        assert!((0..900).all(|number| is_known(&world, family, number)));
    }
}

/// A connection that was ended by others leaves its place to a newcomer, too: it is not told twice, and not counted twice.
#[test]
fn what_was_deleted_makes_room_at_once() {
    let family = Family::V6;
    let mut world = world(Spared::Established);
    for number in 0..CAPACITY {
        bring(&mut world, family, number, &[]);
    }
    let mut listener = world.datapath.conntrack.listen().unwrap();
    assert!((0..100).all(|number| world.delete(client(family, number), family.vip())));
    assert_eq!(told(&mut world, &mut listener).len(), 100);
    let served = knock(&mut world, family, 2000..2050);
    assert!((30..50).contains(&served.len()), "all but those of the first burst: {}", served.len());
    assert_eq!(told(&mut world, &mut listener), vec!["new"; served.len()]);
    assert_eq!(world.datapath.conntrack.count(), 900 + served.len());
    world.sweep();
    let backend = world.backends.iter().find(|backend| backend.address() == family.backend()).unwrap();
    assert_eq!(backend.member.connections() as usize, world.datapath.conntrack.count());
}

#[test]
fn early_drops_and_everything_else_are_told() {
    let family = Family::V4;
    let mut world = World::new(Setup { connections: 1, ..Default::default() });
    let mut listener = world.datapath.conntrack.listen().unwrap();
    let (vip, backend, first, second) = (family.vip(), family.backend(), client(family, 1), client(family, 2));
    let snat = world.opens(&tcp(first, vip, SYN), backend);
    world.comes_back(&tcp(backend, snat, SYN_ACK), vip, first);
    world.comes_back(&tcp(backend, snat, SYN_ACK), vip, first);
    world.goes_on(&tcp(first, vip, ACK), snat, backend);
    world.goes_on(&tcp(first, vip, ACK), snat, backend);
    world.goes_on(&tcp(first, vip, RST), snat, backend);
    assert_eq!(told(&mut world, &mut listener), ["new", "update", "assured", "update"], "nothing of packets that change nothing");

    // Over the tuple of one that has ended: the room is not free yet, so the newcomer has none, and the old one has gone all the same.
    world.drops(FRONT, &tcp(first, vip, SYN), DropReason::TableFull);
    assert_eq!(told(&mut world, &mut listener), ["destroy reset"]);
    world.sweep();
    world.sweep();
    assert_eq!(told(&mut world, &mut listener), [""; 0], "the one that was killed is not told of twice");
    world.opens(&udp(first, vip), backend);
    assert_eq!(told(&mut world, &mut listener), ["new"]);
    world.pass(world.timeouts().udp);
    world.sweep();
    world.sweep();
    assert_eq!(told(&mut world, &mut listener), ["destroy timeout"]);

    world.opens(&tcp(first, vip, SYN), backend);
    assert!(world.datapath.conntrack.delete((6, first, vip), world.now, &world.policy()));
    assert_eq!(told(&mut world, &mut listener), ["new", "destroy deleted"]);
    world.sweep();
    world.sweep();
    knock_alone(&mut world, &tcp(first, vip, SYN));
    let near = (0..500).find(|number| {
        knock_alone(&mut world, &tcp(client(family, *number), vip, SYN));
        world.counted()["early_drops"] == 1
    });
    assert!(near.is_some(), "{second} or another one is near");
    assert_eq!(told(&mut world, &mut listener), ["new", "destroy early_drop"]);
    drop(listener);
    assert!(!world.datapath.conntrack.teller().is_heard());
}

/// The packet that causes an event is in its account; so are those of the sides' that came before.
#[test]
fn what_is_told_counts_the_packet_that_it_is_told_of() {
    let family = Family::V4;
    let mut world = World::default();
    let mut listener = world.datapath.conntrack.listen().unwrap();
    let (vip, backend, first) = (family.vip(), family.backend(), client(family, 1));
    let snat = world.opens(&tcp(first, vip, SYN), backend);
    world.comes_back(&tcp(backend, snat, SYN_ACK), vip, first);
    world.goes_on(&tcp(first, vip, ACK), snat, backend);
    world.goes_on(&tcp(first, vip, RST), snat, backend);
    let counted = [("new", [1, 0]), ("update", [1, 1]), ("assured", [2, 1]), ("update", [3, 1])];
    assert_eq!(accounts(&mut listener), counted);
    // Reset by the backend before it has answered: the connection ends with that packet.
    let snat = world.opens(&tcp(client(family, 2), vip, SYN), backend);
    world.comes_back(&tcp(backend, snat, RST_ACK), vip, client(family, 2));
    let told = accounts(&mut listener);
    assert_eq!((told[0], told.last()), (("new", [1, 0]), Some(&("destroy", [1, 1]))), "{told:?}");
    // A datagram of the client behind a reply makes its connection assured.
    let snat = world.opens(&udp(first, vip), backend);
    world.comes_back(&udp(backend, snat), vip, first);
    world.comes_back(&udp(backend, snat), vip, first);
    world.pass(STREAM_AFTER);
    world.goes_on(&udp(first, vip), snat, backend);
    world.goes_on(&udp(first, vip), snat, backend);
    assert_eq!(accounts(&mut listener), [("new", [1, 0]), ("update", [1, 1]), ("assured", [2, 2])]);
}

/// A packet that changed its connection and got no further is told of, too, and is not counted: it did not leave.
#[test]
fn a_change_is_told_also_where_its_packet_ends() {
    let family = Family::V4;
    let mut world = World::default();
    let mut listener = world.datapath.conntrack.listen().unwrap();
    let (vip, backend, first) = (family.vip(), family.backend(), client(family, 1));
    let snat = world.opens(&tcp(first, vip, SYN), backend);
    let frame = world.arriving(BACK, &tcp(backend, snat, SYN_ACK).with_ttl(1)).frame();
    let outcome = world.send(BACK, &frame);
    assert_eq!(outcome.moved.get("answered"), Some(&1), "{outcome:?}");
    assert_eq!(accounts(&mut listener), [("new", [1, 0]), ("update", [1, 0])]);
}

/// Kinds of the events since the last call, and the packets of both directions in them.
fn accounts(listener: &mut weir::conntrack::Listener) -> Vec<(&'static str, [u64; 2])> {
    let mut heard = Vec::new();
    listener.take(&mut heard);
    let read = |heard: Heard| match heard {
        Heard::Event(event) => (event.kind.label(), event.connection.account.expect("accounts are kept").packets),
        Heard::Lost(lost) => panic!("{lost} were lost"),
    };
    heard.into_iter().map(read).collect()
}

fn knock_alone(world: &mut World, packet: &Packet) {
    let frame = world.arriving(FRONT, packet).frame();
    world.burst(FRONT, &[frame]);
    world.take_sent(BACK);
}

/// Kinds and reasons of the events since the last call.
fn told(world: &mut World, listener: &mut weir::conntrack::Listener) -> Vec<String> {
    let mut heard = Vec::new();
    listener.take(&mut heard);
    let label = |heard: Heard| match heard {
        Heard::Event(event) => {
            assert_eq!(event.at, world.now);
            match event.kind {
                EventKind::Destroy(reason) => {
                    assert_ne!(reason, DestroyReason::BackendRemoved);
                    format!("destroy {}", reason.label())
                }
                other => other.label().to_owned(),
            }
        }
        Heard::Lost(lost) => panic!("{lost} were lost"),
    };
    heard.into_iter().map(label).collect()
}
