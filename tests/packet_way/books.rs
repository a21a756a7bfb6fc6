//! The books of limits: after whatever has happened to connections, the counts of services, sources and backends are those of a walk over the table.

use super::packet::{ACK, RST, SYN, SYN_ACK, tcp, udp};
use super::world::{BACK, FRONT, Family, Setup, World};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use weir::conntrack::{DestroyReason, Rate, SourceLimits, SourceSettings, State};
use weir::packet::{be16, parse};
use weir::service::{Limits, OverLimit};

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Twelve addresses with five ports each, to two services.
fn tuple(random: &mut Random, family: Family) -> (SocketAddr, SocketAddr) {
    let (host, port) = (random.below(12) as u16 + 1, random.below(5) as u16 + 1);
    let client = match family {
        Family::V4 => IpAddr::from([203, 0, 113, host as u8]),
        // Four of them share a /64.
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, host / 4, 0, 0, 0, host]),
    };
    let vip = if random.below(2) == 0 { family.vip() } else { family.any_port_vip(443) };
    (SocketAddr::new(client, port), vip)
}

fn any_limits(random: &mut Random) -> Limits {
    let mut some = |most: u64| (random.below(2) == 0).then(|| random.below(most) as u32 + 1);
    let (connections, source) = (some(30), some(4));
    let (rate, source_rate) = (some(50), some(8));
    let rate_of = |rate: Option<u32>| rate.map(|per_second| Rate { per_second, burst: per_second + 1 });
    let over = [OverLimit::Drop, OverLimit::Reject, OverLimit::Backup][random.below(3) as usize];
    let source = SourceLimits { connections: source, rate: rate_of(source_rate) };
    Limits { connections, rate: rate_of(rate), source, over }
}

fn send(world: &mut World, port: weir::datapath::PortId, packet: &super::packet::Packet) -> Option<Vec<u8>> {
    let frame = world.arriving(port, packet).frame();
    world.burst(port, &[frame]);
    world.take_sent(FRONT);
    world.take_sent(BACK).pop()
}

fn one_thing_happens(world: &mut World, random: &mut Random, family: Family) {
    let (client, vip) = tuple(random, family);
    match random.below(20) {
        0..8 => {
            let sent = send(world, FRONT, &tcp(client, vip, SYN));
            // Sometimes the backend answers, so that it is not only those that never speak that are evicted.
            if let Some(sent) = sent.filter(|_| random.below(2) == 0) {
                let headers = parse(&sent).unwrap();
                let snat = SocketAddr::new(headers.source(&sent), be16(&sent, headers.l4()));
                let backend = SocketAddr::new(headers.destination(&sent), be16(&sent, headers.l4() + 2));
                send(world, BACK, &tcp(backend, snat, SYN_ACK));
                send(world, FRONT, &tcp(client, vip, ACK));
            }
        }
        8..11 => drop(send(world, FRONT, &udp(client, vip))),
        11 | 12 => drop(send(world, FRONT, &tcp(client, vip, RST))),
        13 => drop(send(world, FRONT, &tcp(client, vip, SYN).with_ttl(1))),
        14 => drop(world.delete(client, vip)),
        15 => {
            let (now, timeouts) = (world.now, world.policy());
            let mut doomed = |view: &weir::conntrack::ConnectionView| view.original.source.port() == client.port();
            world.datapath.conntrack.end_where(DestroyReason::Deleted, now, &timeouts, &mut doomed);
        }
        16 => world.pass(random.below(20_000) as u32),
        17 => drop(world.sweep()),
        18 => {
            let setup = Setup {
                limits: any_limits(random),
                backend_limit: (random.below(3) > 0).then(|| random.below(15) as u32 + 1),
                has_backup: true,
                ..world.setup.clone()
            };
            world.change(setup);
        }
        _ => {
            let up = random.below(4) > 0;
            world.set_backends(|member| member.set_eligible(up));
        }
    }
}

fn check(world: &mut World, step: usize) {
    // What was killed is still counted until it leaves the table.
    world.sweep();
    let (mut services, mut sources, mut backends) = (HashMap::new(), HashMap::new(), HashMap::new());
    let counts = world.datapath.conntrack.conncount();
    world.datapath.conntrack.for_each(&world.policy(), &mut |view| {
        *services.entry(view.service).or_insert(0) += u32::from(!view.bits.has(State::AT_BACKUP));
        let source = counts.source(view.service, view.original.source.ip());
        *sources.entry(source).or_insert(0) += u32::from(view.bits.is_source_counted());
        *backends.entry(view.backend).or_insert(0) += 1;
    });
    for service in 0..16 {
        assert_eq!(counts.of_service(service), services.get(&service).copied().unwrap_or(0), "service {service} at step {step}");
    }
    for (source, count) in &sources {
        assert_eq!(counts.of_source(source), *count, "{source:?} at step {step}");
    }
    for backend in &world.backends {
        let expected = backends.get(&backend.id.0).copied().unwrap_or(0);
        assert_eq!(backend.member.connections(), expected, "{:?} at step {step}", backend.address());
    }
    assert!(counts.load().0 <= world.setup.sources.entries);
}

#[test]
fn counts_are_those_of_the_table_whatever_happens() {
    for (seed, family) in (1..=12).zip([Family::V4, Family::V6].into_iter().cycle()) {
        let mut random = Random(seed);
        // Few of everything, so that all of it runs out.
        let sources = SourceSettings { entries: 20, ..SourceSettings::default() };
        let setup = Setup { connections: 64, backends: 2, has_backup: true, sources, ..Default::default() };
        let mut world = World::new(Setup { ledger: Arc::default(), ..setup });
        for step in 0..4000 {
            one_thing_happens(&mut world, &mut random, family);
            if step % 25 == 0 {
                check(&mut world, step);
            }
        }
        // When all of it is over, nothing is left.
        world.pass(10_000_000);
        check(&mut world, usize::MAX);
        assert_eq!((world.datapath.conntrack.count(), world.datapath.conntrack.conncount().load().0), (0, 0), "seed {seed}");
        let struck: u64 = weir::service::Limit::ALL.iter().map(|limit| world.setup.ledger.struck(*limit)).sum();
        assert!(struck > 100 && world.setup.ledger.backup() > 10, "seed {seed}: {struck} struck");
    }
}
