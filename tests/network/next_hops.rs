//! Aim: weir follows the kernel's view of the link: link addresses that change, routes that move, neighbours not resolved yet.

use crate::support::{Family, Lab, Layout, Load, answers, failures, run, spread_of_requests, wait_until};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_backend_changes_its_link_address() {
    run("mac_changes", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 0, 0]);
        lab.start_weir();
        // The backend announces its new address, as one that takes over from another does.
        lab.backends[0].namespace.sysctl(&["net/ipv4/conf/eth0/arp_notify=1", "net/ipv6/conf/eth0/ndisc_notify=1"]);
        for family in Family::BOTH {
            spread_of_requests(&lab.client, &family.url("name"), 30);
        }
        for last in ["01", "02"] {
            lab.backends[0].namespace.ip(&format!("link set eth0 address 02:00:00:00:11:{last}"));
            for family in Family::BOTH {
                answered_again(lab, family, "b1");
            }
        }
    });
}

#[test]
fn a_route_moves_to_another_gateway() {
    run("route_moves", Layout::two_arm(), |lab| {
        // The same address behind two gateways: who answers shows which way the packets went.
        for backend in &lab.backends[..2] {
            backend.namespace.ip("address add 10.5.0.5/32 dev lo\naddress add fd00:5::5/128 dev lo nodad");
            backend.namespace.sysctl(&["net/ipv4/conf/eth0/rp_filter=0", "net/ipv4/conf/all/rp_filter=0"]);
        }
        for (family, address) in [(Family::V4, "10.5.0.5:80"), (Family::V6, "[fd00:5::5]:80")] {
            let backend = vec![(address.parse().expect("an address"), 1)];
            lab.config.add(&format!("web-{}", family.name()), SocketAddr::new(family.vip(), 80), "tcp", backend);
        }
        route_over(lab, 1);
        lab.start_weir();
        for gateway in [1, 2, 1] {
            route_over(lab, gateway);
            for family in Family::BOTH {
                answered_again(lab, family, &format!("b{gateway}"));
            }
        }
    });
}

#[test]
fn the_first_packets_wait_for_an_unresolved_neighbour() {
    run("unresolved", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        for round in 0..3 {
            lab.node.run("ip neigh flush dev inside");
            for family in Family::BOTH {
                // Three requests at once, each to a backend that nobody knows: they wait, and none is lost.
                let spread = spread_of_requests(&lab.client, &family.url("name"), 3);
                assert_eq!(spread.len(), 3, "round {round}: {spread:?}");
            }
        }
    });
}

#[test]
fn a_backend_that_appears_later_is_served() {
    run("appears_later", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 0, 0]);
        lab.backends[0].namespace.ip("link set eth0 down");
        lab.start_weir();
        let targets = Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80));
        let load = Load::start(&lab.client, &targets, 1);
        wait_until("drops of what waited for too long", PATIENCE, || {
            let drops = lab.weir().drops();
            drops.contains_key("neighbour_unresolved").then_some(())
        });
        lab.backends[0].namespace.ip("link set eth0 up\naddress replace fd00:2::11/64 dev eth0 nodad");
        wait_until("answers of b1", PATIENCE, || answers(&load.outcomes()).get("b1").map(|_| ()));
        drop(load);
        for family in Family::BOTH {
            answered_again(lab, family, "b1");
            spread_of_requests(&lab.client, &family.url("name"), 30);
        }
    });
}

/// A reload that brings thousands of backends of which none answers ARP: deadlines, commands and neighbours that answer go on as before.
#[test]
fn thousands_of_silent_next_hops_delay_nobody() {
    run("silent_reload", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.set_drain("web-v4", r#"{ deadline = "2s" }"#);
        lab.start_weir();
        let mut open = [(); 3].map(|()| lab.open_connection(Family::V4));
        open.iter_mut().for_each(|stream| stream.set_nonblocking(true).expect("a non-blocking socket"));
        lab.config.backends("web-v4").remove(0);
        add_silent(lab);
        let config = lab.config.clone();
        lab.weir().write_config(&config);
        let began = Instant::now();
        let done = lab.weir().command("reload");
        assert!(done.success(), "{done}");
        let mut rounds = 0;
        let mut is_reset = false;
        while !is_reset || began.elapsed() < Duration::from_secs(5) {
            lab.node.run("ip neigh flush to 10.2.0.0/24 dev inside");
            within("requests to neighbours that answer", || {
                spread_of_requests(&lab.client, &Family::V4.url("name"), 4);
            });
            within("weir status", || drop(lab.weir().status()));
            let asked = lab.node.run("ip neigh show dev inside nud incomplete").lines().count();
            assert!(asked < 512, "the kernel is asked for {asked} at once");
            let told = open.iter_mut().filter_map(|stream| stream.read(&mut [0]).err());
            is_reset |= told.filter(|error| error.kind() == std::io::ErrorKind::ConnectionReset).count() > 0;
            assert!(is_reset || began.elapsed() < Duration::from_secs(4), "the deadline of b1 was at 2 s");
            rounds += 1;
        }
        println!("{rounds} rounds in {:?}", began.elapsed());
        assert!(!lab.weir().log().contains("cannot resolve a neighbour"));
    });
}

#[test]
fn a_start_with_thousands_of_silent_next_hops_serves_at_once() {
    run("silent_start", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        add_silent(lab);
        lab.start_weir();
        within("the first requests", || {
            spread_of_requests(&lab.client, &Family::V4.url("name"), 3);
        });
    });
}

/// A service with four thousand backends on weir's link, none of which is there. They come before all others in the order of addresses.
fn add_silent(lab: &mut Lab) {
    lab.node.ip("address add 10.0.0.1/16 dev inside");
    let backend = |number: u32| (SocketAddr::new(Ipv4Addr::from_bits(0x0a00_1000 + number).into(), 80), 1);
    lab.config.add("silent", SocketAddr::new(Family::V4.vip(), 81), "tcp", (0..4000).map(backend).collect());
}

/// Far less than the three seconds for which the kernel waits for a neighbour, far more than it needs.
fn within(what: &str, act: impl FnOnce()) {
    let began = Instant::now();
    act();
    assert!(began.elapsed() < Duration::from_secs(2), "{what}: {:?}", began.elapsed());
}

/// Waits until this backend answers, and then expects it to go on doing so.
fn answered_again(lab: &Lab, family: Family, name: &str) {
    let load = Load::start(&lab.client, &[SocketAddr::new(family.vip(), 80)], 1);
    wait_until(&format!("answers of {name} over {family:?}"), PATIENCE, || {
        load.outcomes().iter().rev().take(5).filter(|outcome| outcome.result.as_deref() == Ok(name)).nth(4).map(|_| ())
    });
    load.wait_for(20);
    let outcomes = load.stop();
    assert_eq!(failures(&outcomes[outcomes.len() - 20..]), [""; 0]);
}

fn route_over(lab: &Lab, gateway: usize) {
    let (v4, v6) = (Family::V4.backend(gateway), Family::V6.backend(gateway));
    lab.node.ip(&format!("route replace 10.5.0.5/32 via {v4}\nroute replace fd00:5::5/128 via {v6}"));
}
