//! Limits, persistence and the backup pool: who gets a new connection, and what becomes of those that are over.

use super::packet::{ACK, Packet, RST, SYN, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::net::{IpAddr, SocketAddr};
use weir::conntrack::{Rate, SourceLimits, SourceSettings};
use weir::control::Persisting;
use weir::datapath::{DropReason, Preview, Why};
use weir::service::{Limit, Limits, OverLimit, Persistence, Protocol};
use weir::worker::Monotonic;

/// Clients of one address.
fn client(family: Family, number: u16) -> SocketAddr {
    SocketAddr::new(family.client().ip(), 1000 + number)
}

/// Clients of other addresses; of IPv6 in other /64.
fn other(family: Family, number: u8) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::from(([203, 0, 113, number], 1000)),
        Family::V6 => SocketAddr::from(([0x2001, 0xdb8, 0, u16::from(number), 0, 0, 0, 1], 1000)),
    }
}

fn limited(limits: Limits) -> Setup {
    Setup { limits, ..Default::default() }
}

fn syn(family: Family, from: SocketAddr) -> Packet {
    tcp(from, family.vip(), SYN)
}

/// A limit, and what strikes it: after two connections of one client a third is over.
fn two_each() -> [(Setup, Limit, DropReason); 5] {
    let rate = Some(Rate { per_second: 1, burst: 2 });
    let source = |connections, rate| Limits { source: SourceLimits { connections, rate }, ..Default::default() };
    [
        (limited(Limits { connections: Some(2), ..Default::default() }), Limit::Service, DropReason::ServiceLimit),
        (limited(Limits { rate, ..Default::default() }), Limit::ServiceRate, DropReason::ServiceRate),
        (limited(source(Some(2), None)), Limit::Source, DropReason::SourceLimit),
        (limited(source(None, rate)), Limit::SourceRate, DropReason::SourceRate),
        (Setup { backend_limit: Some(2), ..Default::default() }, Limit::Backends, DropReason::BackendLimit),
    ]
}

fn open_two(world: &mut World, family: Family) {
    for number in [0, 1] {
        world.opens(&syn(family, client(family, number)), family.backend());
    }
}

#[test]
fn each_limit_strikes_and_recovers() {
    for family in FAMILIES {
        for (setup, limit, reason) in two_each() {
            let mut world = World::new(setup);
            let snats = [0, 1].map(|number| world.opens(&syn(family, client(family, number)), family.backend()));
            world.drops(FRONT, &syn(family, client(family, 2)), reason);
            assert_eq!(world.setup.ledger.struck(limit), 1, "{limit:?}");
            // What is open goes on.
            world.goes_on(&syn(family, client(family, 0)), snats[0], family.backend());
            // One ends, and a second passes: each of these makes room for one.
            assert!(world.delete(client(family, 0), family.vip()));
            world.sweep();
            world.pass(1000);
            world.opens(&syn(family, client(family, 2)), family.backend());
            world.drops(FRONT, &syn(family, client(family, 3)), reason);
        }
    }
}

#[test]
fn a_source_is_limited_and_others_are_not() {
    for family in FAMILIES {
        let source = SourceLimits { connections: Some(1), rate: Some(Rate { per_second: 1, burst: 1 }) };
        let mut world = World::new(limited(Limits { source, ..Default::default() }));
        for number in 1..20 {
            world.opens(&syn(family, other(family, number)), family.backend());
            let same = SocketAddr::new(other(family, number).ip(), 7);
            world.drops(FRONT, &syn(family, same), DropReason::SourceLimit);
        }
        if family == Family::V6 {
            // Another address of the same /64.
            let neighbour = "[2001:db8:0:5:ffff::7]:1000".parse().unwrap();
            world.drops(FRONT, &syn(family, neighbour), DropReason::SourceLimit);
        }
    }
}

/// A packet that opens nothing costs nobody a place: its TTL runs out, its port is taken, its neighbour is not known.
#[test]
fn what_opens_nothing_takes_up_nothing() {
    for family in FAMILIES {
        let rate = Some(Rate { per_second: 1, burst: 1 });
        let limits =
            Limits { connections: Some(1), rate, source: SourceLimits { connections: Some(1), rate }, ..Default::default() };
        let mut world = World::new(Setup { backend_limit: Some(1), ..limited(limits) });
        for _ in 0..5 {
            world.answers(FRONT, &syn(family, client(family, 1)).with_ttl(1));
        }
        world.opens(&syn(family, client(family, 1)), family.backend());
        assert_eq!(Limit::ALL.map(|limit| world.setup.ledger.struck(limit)), [0; 5]);
    }
}

#[test]
fn a_rejected_client_is_told() {
    for family in FAMILIES {
        for (setup, _, reason) in two_each() {
            let mut setup = setup;
            setup.limits.over = OverLimit::Reject;
            let mut world = World::new(setup);
            open_two(&mut world, family);
            let refused = syn(family, client(family, 2));
            let answer = world.answers(FRONT, &refused);
            check_rst(&answer, &refused);
            // The service of UDP is another one, of which only the backend is the same.
            if reason == DropReason::BackendLimit {
                let refused = udp(client(family, 3), family.vip());
                let answer = world.answers(FRONT, &refused);
                check_prohibited(&answer, &refused);
            }
            // A RST is not answered, nor does it open anything.
            world.drops(FRONT, &tcp(client(family, 4), family.vip(), RST), DropReason::TcpNotSyn);
        }
    }
}

/// RFC 9293, section 3.10.7.1: sequence number 0, and the SYN acknowledged.
fn check_rst(answer: &[u8], refused: &Packet) {
    let sliced = SlicedPacket::from_ethernet(answer).unwrap();
    let (from, to) = addresses(&sliced);
    assert_eq!((from, to), (refused.to.ip(), refused.from.ip()));
    let Some(TransportSlice::Tcp(rst)) = sliced.transport else { panic!("no TCP") };
    assert_eq!((rst.source_port(), rst.destination_port()), (refused.to.port(), refused.from.port()));
    assert!(rst.rst() && rst.ack() && !rst.syn());
    assert_eq!((rst.sequence_number(), rst.acknowledgment_number()), (0, super::packet::CLIENT_ISN.wrapping_add(1)));
}

fn check_prohibited(answer: &[u8], refused: &Packet) {
    let sliced = SlicedPacket::from_ethernet(answer).unwrap();
    assert_eq!(addresses(&sliced), (refused.to.ip(), refused.from.ip()));
    match sliced.transport {
        Some(TransportSlice::Icmpv4(message)) => assert_eq!((message.type_u8(), message.code_u8()), (3, 13)),
        Some(TransportSlice::Icmpv6(message)) => assert_eq!((message.type_u8(), message.code_u8()), (1, 1)),
        other => panic!("{other:?}"),
    }
}

fn addresses(sliced: &SlicedPacket<'_>) -> (IpAddr, IpAddr) {
    match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rejections_are_limited() {
    let mut world = World::new(limited(Limits { connections: Some(1), over: OverLimit::Reject, ..Default::default() }));
    let family = Family::V4;
    world.opens(&syn(family, client(family, 0)), family.backend());
    for _ in 0..weir::nat::tcp_reset::BURST {
        world.answers(FRONT, &syn(family, client(family, 1)));
    }
    world.drops(FRONT, &syn(family, client(family, 1)), DropReason::ServiceLimit);
    world.pass(1);
    world.answers(FRONT, &syn(family, client(family, 1)));
}

#[test]
fn what_is_over_goes_to_the_backup_pool_and_is_not_counted() {
    for family in FAMILIES {
        for (setup, limit, reason) in two_each() {
            let mut setup = setup;
            setup.limits.over = OverLimit::Backup;
            let mut world = World::new(Setup { has_backup: true, ..setup });
            open_two(&mut world, family);
            let over = [2, 3].map(|number| world.opens(&syn(family, client(family, number)), family.backup()));
            if limit == Limit::Backends {
                world.drops(FRONT, &syn(family, client(family, 4)), reason);
            }
            assert_eq!((world.setup.ledger.backup(), world.datapath.conntrack.conncount().of_service(service(family))), (2, 2));
            world.goes_on(&syn(family, client(family, 2)), over[0], family.backup());
            // Those at the backup end: nothing of the service becomes free.
            assert!(world.delete(client(family, 2), family.vip()) && world.delete(client(family, 3), family.vip()));
            world.sweep();
            world.opens(&syn(family, client(family, 5)), family.backup());
            world.pass(1000);
            assert!(world.delete(client(family, 0), family.vip()));
            world.sweep();
            world.opens(&syn(family, client(family, 6)), family.backend());
        }
    }
}

/// The service of TCP on port 80.
fn service(family: Family) -> u16 {
    if family == Family::V4 { 0 } else { 4 }
}

#[test]
fn the_backup_pool_serves_while_nobody_of_the_pool_can() {
    for family in FAMILIES {
        let mut world = World::new(Setup { has_backup: true, ..Default::default() });
        world.opens(&syn(family, client(family, 0)), family.backend());
        let backends: Vec<_> = [family.backend(), family.second_backend()].into();
        world.set_backends(|member| member.set_eligible(!backends.contains(&member.address)));
        assert!(
            matches!(preview(&world, family, 1), Preview::Opens { why: Why::Backup, target, .. } if target == family.backup())
        );
        world.opens(&syn(family, client(family, 1)), family.backup());
        world.set_backends(|member| member.set_eligible(true));
        assert!(
            matches!(preview(&world, family, 2), Preview::Opens { why: Why::Scheduled, target, .. } if target == family.backend())
        );
        world.opens(&syn(family, client(family, 2)), family.backend());
        assert_eq!(world.setup.ledger.backup(), 1);
        world.set_backends(|member| member.set_eligible(false));
        world.drops(FRONT, &syn(family, client(family, 3)), DropReason::NoBackend);
    }
}

fn preview(world: &World, family: Family, number: u16) -> Preview {
    world.datapath.preview(Protocol::Tcp, client(family, number), family.vip(), world.now)
}

#[test]
fn a_preview_says_which_limit_is_struck_and_takes_nothing() {
    for family in FAMILIES {
        for (setup, limit, reason) in two_each() {
            let mut world = World::new(Setup { has_backup: true, ..setup });
            (0..5).for_each(|number| drop(preview(&world, family, number)));
            open_two(&mut world, family);
            assert!(matches!(preview(&world, family, 2), Preview::Dropped(found) if found == reason), "{limit:?}");
            let mut setup = world.setup.clone();
            setup.limits.over = OverLimit::Reject;
            world.change(setup.clone());
            assert!(matches!(preview(&world, family, 2), Preview::Rejected(found) if found == reason), "{limit:?}");
            setup.limits.over = OverLimit::Backup;
            world.change(setup);
            let told = preview(&world, family, 2);
            assert!(matches!(told, Preview::Opens { why: Why::Over(found), .. } if found == limit), "{limit:?}: {told:?}");
        }
    }
}

/// A flood of sources that are never seen again: memory stays bounded, what is open goes on, and nobody is shut out.
#[test]
fn a_flood_of_sources_costs_bounded_memory_and_no_connection() {
    let source = SourceLimits { connections: Some(1), rate: Some(Rate { per_second: 1, burst: 1 }) };
    let sources = SourceSettings { entries: 100, ..SourceSettings::default() };
    let setup = Setup { sources, connections: 500, ..limited(Limits { source, ..Default::default() }) };
    let (mut world, family) = (World::new(setup), Family::V4);
    let snat = world.established(client(family, 0), family.vip(), family.backend());
    let from = |number: u32| SocketAddr::new(IpAddr::from((0xcb00_7100 + number).to_be_bytes()), 1000);
    let frames: Vec<_> = (0..2000).map(|number| world.arriving(FRONT, &syn(family, from(number))).frame()).collect();
    for frames in frames.chunks(32) {
        world.burst(FRONT, frames);
        world.take_sent(BACK);
    }
    let (known, uncounted) = world.datapath.conntrack.conncount().load();
    assert!(known == 100 && uncounted > 1000, "{known} {uncounted}");
    world.goes_on(&tcp(client(family, 0), family.vip(), ACK), snat, family.backend());
    // When it is over, sources are counted again.
    world.pass(40_000);
    world.sweep();
    assert_eq!(world.datapath.conntrack.conncount().load().0, 1);
}

fn persisting(timeout: u32) -> Setup {
    let persistence = Some(Persistence { group: 1, timeout, prefix_v4: 32, prefix_v6: 128 });
    Setup { backends: 2, persistence, ..Default::default() }
}

/// Where a connection of a client to a service goes: by turns, if nothing is remembered.
fn goes_to(world: &mut World, family: Family, from: SocketAddr, vip: SocketAddr) -> SocketAddr {
    let before: Vec<u32> = world.backends.iter().map(|backend| backend.member.connections()).collect();
    let frame = world.arriving(FRONT, &tcp(from, vip, SYN)).frame();
    world.burst(FRONT, &[frame]);
    world.take_sent(BACK);
    let after = world.backends.iter().zip(before).find(|(backend, before)| backend.member.connections() > *before);
    let address = after.unwrap_or_else(|| panic!("{family:?}: {from} opened nothing")).0.address();
    SocketAddr::new(address.ip(), 0)
}

#[test]
fn a_client_persists_over_ports_and_services_of_its_group() {
    for family in FAMILIES {
        let mut world = World::new(persisting(10_000));
        let (vip, any) = (family.vip(), family.any_port_vip(443));
        let first = goes_to(&mut world, family, client(family, 1), vip);
        for number in 2..6 {
            assert_eq!(goes_to(&mut world, family, client(family, number), vip), first);
            assert_eq!(goes_to(&mut world, family, client(family, number), any), first);
        }
        assert_eq!(world.setup.ledger.persisted(), 8);
        let another = goes_to(&mut world, family, other(family, 9), vip);
        assert_ne!(another, first, "another client has the next turn");
        let left = match preview(&world, family, 7) {
            Preview::Opens { why: Why::Persists(left), target, .. } => {
                assert_eq!(target.ip(), first.ip());
                left
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(left, 10_000);
    }
}

#[test]
fn persistence_ends_with_its_time() {
    for family in FAMILIES {
        let mut world = World::new(persisting(5000));
        let first = goes_to(&mut world, family, client(family, 1), family.vip());
        world.pass(4999);
        assert_eq!(goes_to(&mut world, family, client(family, 2), family.vip()), first);
        world.pass(4999);
        assert_eq!(goes_to(&mut world, family, client(family, 3), family.vip()), first);
        world.pass(5000);
        assert_ne!(goes_to(&mut world, family, client(family, 4), family.vip()), first);
        world.pass(5000);
        world.sweep();
        assert_eq!(world.datapath.conntrack.templates().load(), (0, 0));
    }
}

/// Three times as long as its time: a client stays while it has a connection, and is forgotten in time when it has none.
#[test]
fn a_client_persists_while_its_connections_live() {
    for family in FAMILIES {
        let mut world = World::new(persisting(20_000));
        // The clock of the world wraps, that of the control thread does not.
        let mut now = Monotonic(u64::from(world.now.0) * 1_000_000);
        let mut persisting = Persisting::new(now);
        let mut live = |world: &mut World, seconds: u32| {
            for _ in 0..seconds * 4 {
                world.pass(250);
                now = Monotonic(now.0 + 250_000_000);
                persisting.run(|| now, &world.datapath);
                world.sweep();
            }
        };
        world.established(client(family, 1), family.vip(), family.backend());
        let another = goes_to(&mut world, family, other(family, 9), family.vip());
        assert_eq!(another.ip(), family.second_backend().ip());
        assert!(world.delete(other(family, 9), family.vip()));
        live(&mut world, 19);
        assert_eq!(world.datapath.conntrack.templates().load().0, 2);
        live(&mut world, 41);
        assert_eq!(world.datapath.conntrack.templates().load().0, 1, "the other one has no connection");
        assert_eq!(goes_to(&mut world, family, client(family, 2), family.vip()).ip(), family.backend().ip());
        for number in [1, 2] {
            assert!(world.delete(client(family, number), family.vip()));
        }
        live(&mut world, 21);
        assert_eq!(world.datapath.conntrack.templates().load().0, 0);
    }
}

/// What IPVS needs `expire_quiescent_template` for: nobody persists to a backend that takes no connections.
#[test]
fn nobody_persists_to_who_takes_no_connections() {
    type Change = fn(&weir::schedule::Member, bool);
    let ways: [(&str, Change); 3] = [
        ("down", |member, out| member.set_eligible(!out)),
        ("drained", |member, out| member.set_drained(out)),
        ("of weight 0", |member, out| member.set_weight(if out { 0 } else { 1 })),
    ];
    for family in FAMILIES {
        for (name, change) in ways {
            let mut world = World::new(persisting(60_000));
            let first = goes_to(&mut world, family, client(family, 1), family.vip());
            world.set_backends(|member| change(member, member.address.ip() == first.ip()));
            let second = goes_to(&mut world, family, client(family, 2), family.vip());
            assert_ne!(second, first, "{name}");
            world.set_backends(|member| change(member, false));
            for number in 3..6 {
                assert_eq!(goes_to(&mut world, family, client(family, number), family.vip()), second, "{name}: it stays there");
            }
        }
    }
}

#[test]
fn a_client_whose_backend_is_full_goes_elsewhere_and_comes_back() {
    for family in FAMILIES {
        let mut world = World::new(Setup { backend_limit: Some(1), ..persisting(60_000) });
        let first = goes_to(&mut world, family, client(family, 1), family.vip());
        assert_ne!(goes_to(&mut world, family, client(family, 2), family.vip()), first);
        world.drops(FRONT, &syn(family, client(family, 3)), DropReason::BackendLimit);
        assert!(world.delete(client(family, 1), family.vip()) && world.delete(client(family, 2), family.vip()));
        world.sweep();
        assert_eq!(goes_to(&mut world, family, client(family, 4), family.vip()), first);
    }
}

#[test]
fn a_client_at_the_backup_pool_returns() {
    for family in FAMILIES {
        let mut world = World::new(Setup { has_backup: true, ..persisting(60_000) });
        let pool = [family.backend().ip(), family.second_backend().ip()];
        world.set_backends(|member| member.set_eligible(!pool.contains(&member.address.ip())));
        assert_eq!(goes_to(&mut world, family, client(family, 1), family.vip()).ip(), family.backup().ip());
        world.set_backends(|member| member.set_eligible(true));
        assert!(pool.contains(&goes_to(&mut world, family, client(family, 2), family.vip()).ip()));
    }
}
