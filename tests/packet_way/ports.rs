//! SNAT ports: each is one connection's toward one backend at a time, and comes back as late as possible.

use super::packet::udp;
use super::world::{FRONT, Family, Setup, World};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use weir::datapath::DropReason;
use weir::service::Protocol;

const PORTS: std::ops::RangeInclusive<u16> = 20000..=20009;
const COUNT: usize = 10;
/// After a search in vain, the next one toward the same backend begins this much later, in milliseconds.
const PAUSE: u32 = 20;

fn world(backends: usize) -> World {
    World::new(Setup { snat_ports: PORTS, backends, ..Setup::default() })
}

fn client(port: u16) -> SocketAddr {
    SocketAddr::new(Family::V4.client().ip(), port)
}

fn open(world: &mut World, port: u16) -> SocketAddr {
    world.opens(&udp(client(port), Family::V4.vip()), Family::V4.backend())
}

fn close(world: &mut World, port: u16) {
    assert!(world.datapath.conntrack.delete(
        (Protocol::Udp.number(), client(port), Family::V4.vip()),
        world.now,
        &world.policy()
    ));
    world.sweep();
}

#[test]
fn a_port_that_came_free_is_used_again_after_all_the_others() {
    let mut world = world(1);
    let first: Vec<_> = (1..=3).map(|port| open(&mut world, port)).collect();
    close(&mut world, 1);
    close(&mut world, 2);
    let rest: Vec<_> = (4..=10).map(|port| open(&mut world, port)).collect();
    assert!(rest.iter().all(|snat| !first.contains(snat)), "{first:?} came back before the rest was tried: {rest:?}");
    // Now there is nothing else, and the one that has been free for longest comes first.
    assert_eq!([open(&mut world, 11), open(&mut world, 12)], [first[0], first[1]]);
    world.drops(FRONT, &udp(client(13), Family::V4.vip()), DropReason::NoSnatPort);
}

#[test]
fn ports_come_back_oldest_first_through_exhaustion_and_back() {
    let mut world = world(1);
    let mut taken: VecDeque<(u16, SocketAddr)> = (1..=COUNT as u16).map(|port| (port, open(&mut world, port))).collect();
    for port in COUNT as u16 + 1..200 {
        world.pass(PAUSE);
        world.drops(FRONT, &udp(client(port), Family::V4.vip()), DropReason::NoSnatPort);
        world.pass(PAUSE);
        let (oldest, snat) = taken.pop_front().unwrap();
        close(&mut world, oldest);
        assert_eq!(open(&mut world, port), snat);
        taken.push_back((port, snat));
    }
}

/// Opens and closes at random, most of the time with every port taken; two backends have the same ports each.
#[test]
fn no_port_is_used_twice_toward_one_backend() {
    let mut world = world(2);
    let backends = [Family::V4.backend(), Family::V4.second_backend()];
    let (mut live, mut refused, mut opened): (HashMap<(SocketAddr, SocketAddr), u16>, _, _) = (HashMap::new(), 0, 0);
    let mut random = 1u32;
    for step in 0..4000u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        world.pass(PAUSE);
        let port = (random >> 16) as u16 % 60 + 1;
        let known = live.iter().find(|(_, client)| **client == port).map(|(pair, _)| *pair);
        if let Some(pair) = known {
            close(&mut world, port);
            live.remove(&pair);
            continue;
        }
        let frame = world.arriving(FRONT, &udp(client(port), Family::V4.vip())).frame();
        let outcome = world.send(FRONT, &frame);
        let Some((view, _)) = world.find(Protocol::Udp, client(port), Family::V4.vip()) else {
            assert!(outcome.moved.contains_key("drop no_snat_port"), "{outcome:?}");
            assert!(backends.iter().any(|backend| live.keys().filter(|(of, _)| of == backend).count() == COUNT));
            refused += 1;
            continue;
        };
        opened += 1;
        let pair = (view.reply.source, view.reply.destination);
        assert!(PORTS.contains(&pair.1.port()));
        assert_eq!(live.insert(pair, port), None, "step {step}: {pair:?} is another connection's");
    }
    assert!(refused > 100 && opened > 1000, "{refused} refused, {opened} opened");
}
