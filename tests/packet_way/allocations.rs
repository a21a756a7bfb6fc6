//! The datapath takes no memory from the allocator: not for packets of connections, not for those that open one, not for those that end here.
//! Allocations are counted in the thread that calls it, so that tests beside it do not matter.

use super::fragments::{large, split};
use super::packet::{ACK, FIN_ACK, PSH_ACK, Packet, SYN, SYN_ACK, icmp, tcp, udp};
use super::storm::Bystander;
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World};
use super::{ftp, related};
use std::net::SocketAddr;
use weir::conntrack::l4proto::{Settings, Verify};
use weir::conntrack::{Rate, SourceLimits, SourceSettings, Spared};
use weir::datapath::{BURST, DropReason, Fate, Hook, PortId, priority};
use weir::service::{Limits, Persistence};

/// These, as they come in at `port`, all have such a fate, and nothing is allocated meanwhile.
#[track_caller]
fn nothing_for(world: &mut World, port: PortId, packets: &[Packet], is_right: impl Fn(Fate) -> bool) {
    let frames: Vec<_> = packets.iter().map(|packet| world.arriving(port, packet).frame()).collect();
    let (fates, allocations) = world.allocations(port, &frames);
    assert!(fates.iter().all(|fate| is_right(*fate)), "{:?}: {fates:?}", packets[0]);
    assert_eq!(allocations, 0, "{} like {:?}", packets.len(), packets[0]);
}

fn goes_on(fate: Fate) -> bool {
    matches!(fate, Fate::Transmit(_))
}

fn ends_as(reason: DropReason) -> impl Fn(Fate) -> bool {
    move |fate| fate == Fate::Drop(reason)
}

/// Clients enough for a few bursts.
fn clients(family: Family) -> impl Iterator<Item = SocketAddr> {
    (0..3 * BURST as u16).map(move |number| SocketAddr::new(family.client().ip(), 50_000 + number))
}

/// A thread's first burst takes what arc-swap keeps for each thread; a daemon's worker has it after its first one.
fn warm(setup: Setup) -> World {
    let mut world = World::new(setup);
    for family in FAMILIES {
        world.established(SocketAddr::new(family.client().ip(), 9), family.vip(), family.backend());
    }
    world
}

#[test]
fn allocations_are_counted() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1);
}

#[test]
fn established() {
    let all = Settings { checksum: Verify::All, ..Settings::default() };
    let setups = [
        Setup::default(),
        Setup { recompute: true, ..Setup::default() },
        Setup { tracking: all, ..Setup::default() },
        Setup { vlans: (100, 200), ..Setup::default() },
    ];
    for setup in setups {
        for family in FAMILIES {
            let mut world = warm(setup.clone());
            let (client, vip, backend) = (family.client(), family.vip(), family.backend());
            let snat = world.established(client, vip, backend);
            let datagrams_snat = world.opens(&world.tagged_front(udp(client, vip)), backend);
            for (port, packet) in [
                (FRONT, world.tagged_front(tcp(client, vip, PSH_ACK).carrying(b"data"))),
                (BACK, world.tagged_back(tcp(backend, snat, PSH_ACK).carrying(b"data"))),
                (FRONT, world.tagged_front(udp(client, vip))),
                (BACK, world.tagged_back(udp(backend, datagrams_snat))),
                (FRONT, world.tagged_front(tcp(client, vip, FIN_ACK))),
            ] {
                nothing_for(&mut world, port, &vec![packet; BURST], goes_on);
            }
        }
    }
}

#[test]
fn with_a_handler_and_a_listener() {
    let mut world = warm(Setup::default());
    world.datapath.hooks.register(Hook::Forward, priority::FILTER, Box::new(Bystander));
    let listener = world.datapath.conntrack.listen().unwrap();
    for family in FAMILIES {
        let opened: Vec<_> = clients(family).map(|client| tcp(client, family.vip(), SYN)).collect();
        nothing_for(&mut world, FRONT, &opened, goes_on);
    }
    drop(listener);
}

#[test]
fn new_connections() {
    let rate = Some(Rate { per_second: 1_000_000, burst: 1_000_000 });
    let source = SourceLimits { connections: Some(1000), rate };
    let setups = [
        Setup::default(),
        Setup { limits: Limits { connections: Some(1000), rate, source, ..Limits::default() }, ..Setup::default() },
        Setup { backend_limit: Some(1000), backends: 2, ..Setup::default() },
        Setup { persistence: Some(Persistence { group: 1, timeout: 60_000, prefix_v4: 32, prefix_v6: 128 }), ..Setup::default() },
    ];
    for setup in setups {
        for family in FAMILIES {
            let mut world = warm(setup.clone());
            for make in [|client, vip| tcp(client, vip, SYN), udp] {
                let opened: Vec<_> = clients(family).map(|client| make(client, family.vip())).collect();
                nothing_for(&mut world, FRONT, &opened, goes_on);
            }
        }
    }
}

/// Those that give way wait in a list of fixed size, which a worker makes when it first needs it.
#[test]
fn in_place_of_others() {
    for family in FAMILIES {
        let mut world = warm(Setup { connections: BURST, spared: Spared::Nobody, ..Setup::default() });
        let mut allocated = 0;
        for client in clients(family) {
            let frame = world.arriving(FRONT, &tcp(client, family.vip(), SYN)).frame();
            allocated += world.allocations(FRONT, &[frame]).1;
        }
        assert!(world.counted()["early_drops"] > BURST as u64);
        assert_eq!(allocated, 3, "its three parts");
    }
}

#[test]
fn what_ends_here() {
    for family in FAMILIES {
        let (client, vip) = (family.client(), family.vip());
        let mut world = warm(Setup::default());
        let nobody = SocketAddr::new(vip.ip(), 81);
        nothing_for(&mut world, FRONT, &[tcp(client, nobody, SYN)], ends_as(DropReason::NoService));
        nothing_for(&mut world, FRONT, &[tcp(client, vip, ACK)], ends_as(DropReason::TcpNotSyn));
        nothing_for(&mut world, FRONT, &[tcp(client, vip, 0)], ends_as(DropReason::TcpFlags));
        nothing_for(&mut world, BACK, &[tcp(family.backend(), client, SYN_ACK)], |fate| matches!(fate, Fate::Drop(_)));
        // Answered: time exceeded.
        world.established(client, vip, family.backend());
        nothing_for(&mut world, FRONT, &[tcp(client, vip, ACK).with_ttl(1)], |fate| fate == Fate::Transmit(FRONT));
        nothing_for(&mut world, FRONT, &[icmp(client, vip, 200)], |fate| matches!(fate, Fate::Drop(_)));
        let short = world.arriving(FRONT, &tcp(client, vip, ACK)).frame()[..40].to_vec();
        let (fates, allocations) = world.allocations(FRONT, &[short]);
        assert!(matches!(fates[0], Fate::Drop(_)) && allocations == 0, "{fates:?}, {allocations} allocations");
    }
}

#[test]
fn limits_that_strike() {
    let limits = Limits { source: SourceLimits { connections: Some(1), rate: None }, ..Limits::default() };
    for family in FAMILIES {
        let mut world =
            warm(Setup { limits, sources: SourceSettings { entries: 100, ..SourceSettings::default() }, ..Setup::default() });
        nothing_for(&mut world, FRONT, &[tcp(family.client(), family.vip(), SYN)], ends_as(DropReason::SourceLimit));
    }
}

#[test]
fn related_errors() {
    for family in FAMILIES {
        for from_backend in [false, true] {
            let make = |from, to| tcp(from, to, PSH_ACK).carrying(b"data");
            let (mut world, port, error) = related::unreachable(family, from_backend, make);
            nothing_for(&mut world, port, &vec![error; BURST], goes_on);
        }
    }
}

#[test]
fn fragments() {
    for family in FAMILIES {
        let mut world = warm(Setup::default());
        world.opens(&udp(family.client(), family.vip()), family.backend());
        let whole = world.arriving(FRONT, &large(udp(family.client(), family.vip()))).frame();
        for (id, order) in [(1, [0, 1, 2, 3]), (2, [3, 1, 0, 2])] {
            let pieces = split(&whole, id);
            let frames = order.map(|at: usize| pieces[at].clone());
            let (fates, allocations) = world.allocations(FRONT, &frames);
            assert!(fates.iter().all(|fate| goes_on(*fate) || *fate == Fate::Gather), "{fates:?}");
            assert_eq!(allocations, 0, "{family:?}, {order:?}");
        }
    }
}

/// A line of a control connection that makes a data connection expected. The map of what is expected grows with it.
#[test]
fn only_what_is_announced_is_allocated_for() {
    for family in FAMILIES {
        let (mut world, port, packet) = ftp::announcement(family);
        let frame = world.arriving(port, &packet).frame();
        let (fates, allocations) = world.allocations(port, std::slice::from_ref(&frame));
        assert!(goes_on(fates[0]) && world.counted()["expectations"] == 1, "{fates:?}");
        assert_eq!(allocations, 1, "{family:?}");
        // Sent again.
        let (fates, allocations) = world.allocations(port, &[frame]);
        assert!(goes_on(fates[0]) && allocations == 0, "{fates:?}, {allocations}");
    }
}
