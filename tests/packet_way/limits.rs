//! When ports or entries run out.

use super::packet::{ACK, RST, SYN, SYN_ACK, tcp, udp};
use super::world::{FAMILIES, FRONT, Family, Setup, World};
use std::collections::HashSet;
use std::net::SocketAddr;
use weir::conntrack::l4proto::STREAM_AFTER;
use weir::datapath::DropReason;

fn client(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.client().ip(), port)
}

#[test]
fn every_port_is_used_before_there_is_none() {
    for family in FAMILIES {
        let mut world = World::new(Setup { snat_ports: 30000..=30049, ..Default::default() });
        let (vip, backend) = (family.vip(), family.backend());
        let taken: HashSet<_> = (1..=50).map(|port| world.opens(&tcp(client(family, port), vip, SYN), backend)).collect();
        assert_eq!(taken.len(), 50);
        for port in 51..=60 {
            world.drops(FRONT, &tcp(client(family, port), vip, SYN), DropReason::NoSnatPort);
        }
        assert_eq!(world.datapath.conntrack.count(), 50);
        // Those that have a port go on, and the other protocol has ports of its own.
        for snat in &taken {
            let owner = world.find(weir::service::Protocol::Tcp, backend, *snat).unwrap().0.original.source;
            world.comes_back(&tcp(backend, *snat, SYN_ACK), vip, owner);
        }
        world.opens(&udp(client(family, 1), vip), backend);
    }
}

#[test]
fn a_port_that_came_free_is_given_out_again() {
    for family in FAMILIES {
        let mut world = World::new(Setup { snat_ports: 30000..=30001, ..Default::default() });
        let (vip, backend) = (family.vip(), family.backend());
        let first = world.opens(&tcp(client(family, 1), vip, SYN), backend);
        world.opens(&tcp(client(family, 2), vip, SYN), backend);
        world.drops(FRONT, &tcp(client(family, 3), vip, SYN), DropReason::NoSnatPort);
        world.goes_on(&tcp(client(family, 1), vip, RST), first, backend);
        world.pass(world.timeouts().tcp_close);
        assert_eq!(world.sweep().len(), 1);
        let again = world.opens(&tcp(client(family, 3), vip, SYN), backend);
        assert_eq!(again, first);
        world.drops(FRONT, &tcp(client(family, 4), vip, SYN), DropReason::NoSnatPort);
    }
}

#[test]
fn backends_do_not_take_each_others_ports() {
    for family in FAMILIES {
        let mut world = World::new(Setup { snat_ports: 30000..=30009, backends: 2, ..Default::default() });
        let (vip, backends) = (family.vip(), [family.backend(), family.second_backend()]);
        let mut taken = HashSet::new();
        for port in 1..=20 {
            let backend = backends[usize::from(port + 1) % 2];
            assert!(taken.insert((world.opens(&tcp(client(family, port), vip, SYN), backend), backend)));
        }
        let ports: HashSet<_> = taken.iter().map(|(snat, _)| snat.port()).collect();
        assert_eq!(ports.len(), 10, "each port serves both backends");
        for (snat, backend) in taken {
            let owner = world.find(weir::service::Protocol::Tcp, backend, snat).unwrap().0.original.source;
            world.comes_back(&tcp(backend, snat, SYN_ACK), vip, owner);
        }
        // Toward the same backend address another port is another target: the service on every port.
        let mut other = family.backend();
        other.set_port(9);
        world.opens(&udp(client(family, 1), family.any_port_vip(9)), other);
    }
}

#[test]
fn a_full_table_refuses_and_recovers() {
    for family in FAMILIES {
        let mut world = World::new(Setup { connections: 40, ..Default::default() });
        let (vip, backend) = (family.vip(), family.backend());
        let open: Vec<_> = (1..=40).map(|port| world.established(client(family, port), vip, backend)).collect();
        for port in 41..=50 {
            world.drops(FRONT, &tcp(client(family, port), vip, SYN), DropReason::TableFull);
        }
        assert_eq!(world.datapath.conntrack.count(), 40);
        for (port, snat) in (1..=40).zip(&open) {
            world.comes_back(&tcp(backend, *snat, ACK), vip, client(family, port));
            world.goes_on(&tcp(client(family, port), vip, ACK), *snat, backend);
        }
        // One leaves, one may come. The first sweep ends it, the second frees what nobody sees any more.
        world.goes_on(&tcp(client(family, 7), vip, RST), open[6], backend);
        world.pass(world.timeouts().tcp_close);
        assert_eq!(world.sweep().len(), 1);
        assert_eq!(world.sweep().len(), 0);
        world.established(client(family, 41), vip, backend);
        world.drops(FRONT, &tcp(client(family, 42), vip, SYN), DropReason::TableFull);
    }
}

#[test]
fn one_family_does_not_fill_the_table_of_the_other() {
    let mut world = World::new(Setup { connections: 3, ..Default::default() });
    for family in FAMILIES {
        for port in 1..=3 {
            let snat = world.opens(&udp(client(family, port), family.vip()), family.backend());
            world.comes_back(&udp(family.backend(), snat), family.vip(), client(family, port));
            world.pass(STREAM_AFTER);
            world.goes_on(&udp(client(family, port), family.vip()), snat, family.backend());
        }
        world.drops(FRONT, &udp(client(family, 4), family.vip()), DropReason::TableFull);
    }
}
