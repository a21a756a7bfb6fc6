//! Listings, changes and events.

use super::super::{Event, LinkError, Monitor, NeighbourState, Netlink, Owner, attached_program, usable_link};
use super::{Namespace, address, index, pair, set, wait_for};
use std::net::UdpSocket;

#[test]
fn links_are_listed_and_judged() {
    let Some((here, _peer)) = pair() else { return };
    here.ip("link add idle type veth peer name other");
    here.run(|| {
        let wire = usable_link("wire").unwrap();
        assert_eq!((wire.mtu, wire.up, wire.vlan, wire.program), (1500, true, None, None));
        assert_ne!(wire.mac, [0; 6]);
        let error = usable_link("idle").unwrap_err();
        assert_eq!(error.to_string(), "interface idle: it is down: ip link set idle up");
        here.ip("link set idle up");
        assert!(!usable_link("idle").unwrap().up, "its other end is down");
        let error = usable_link("eth7").unwrap_err();
        assert!(matches!(error, LinkError::Missing { .. }));
        assert!(error.to_string().starts_with("interface eth7: there is none of this name; there are: lo, "), "{error}");
        assert_eq!(attached_program("wire").unwrap(), None);
    });
}

#[test]
fn weir_s_addresses_are_told_from_others() {
    let Some((here, _peer)) = pair() else { return };
    here.ip("address add 10.0.0.50/32 dev wire");
    here.run(|| {
        let (index, mut netlink) = (index(), Netlink::open().unwrap());
        for vip in [address("10.0.0.100"), address("fd00::100")] {
            let owner = |netlink: &mut Netlink| {
                let found = netlink.addresses().unwrap().into_iter().find(|item| item.address == vip);
                found.map(|item| (item.index, item.prefix_length, item.owner))
            };
            assert_eq!(netlink.add_address(index, vip).unwrap(), Owner::Weir);
            assert_eq!(owner(&mut netlink), Some((index, if vip.is_ipv4() { 32 } else { 128 }, Owner::Weir)));
            // Usable at once, without waiting for duplicate address detection; and again after a kill.
            UdpSocket::bind((vip, 0)).unwrap();
            assert_eq!(netlink.add_address(index, vip).unwrap(), Owner::Weir);
            netlink.remove_address(index, vip).unwrap();
            assert_eq!(owner(&mut netlink), None);
            netlink.remove_address(index, vip).unwrap();
        }
        assert_eq!(netlink.add_address(index, address("10.0.0.50")).unwrap(), Owner::Other);
        let error = netlink.add_address(9999, address("10.0.0.100")).unwrap_err();
        assert_eq!(error.to_string(), "netlink: cannot add 10.0.0.100 to interface 9999: No such device (os error 19)");
        netlink.remove_address(9999, address("10.0.0.100")).unwrap();
    });
}

#[test]
fn the_kernel_does_not_take_weir_s_addresses_as_its_source() {
    let Some((here, _peer)) = pair() else { return };
    here.run(|| {
        let (index, mut netlink) = (index(), Netlink::open().unwrap());
        // fd00::3 shares more bits with the peer's fd00::2 than fd00::1 does: preferred, were it not deprecated.
        for (vip, peer, own) in [("10.0.0.3", "10.0.0.2", "10.0.0.1"), ("fd00::3", "fd00::2", "fd00::1")] {
            assert_eq!(netlink.add_address(index, address(vip)).unwrap(), Owner::Weir);
            let socket = UdpSocket::bind((if vip.contains(':') { "::" } else { "0.0.0.0" }, 0)).unwrap();
            socket.connect((peer, 9)).unwrap();
            assert_eq!(socket.local_addr().unwrap().ip(), address(own));
        }
    });
}

#[test]
fn routes_are_listed_with_the_hop_that_is_taken() {
    let Some((here, _peer)) = pair() else { return };
    for route in [
        "add default via 10.0.0.2",
        "add 10.5.0.0/16 metric 7 nexthop via 10.0.0.8 dev wire nexthop via 10.0.0.9 dev wire",
        "add 10.6.0.0/16 via inet6 fd00::9 dev wire",
        "add blackhole 10.7.0.0/16",
        "add 10.8.0.0/16 via 10.0.0.2 table 100",
        "add fd05::/16 via fd00::2 metric 9",
        "add unreachable fd07::/16",
    ] {
        here.ip(&format!("{} route {route}", if route.contains("fd0") && !route.contains("inet6") { "-6" } else { "" }));
    }
    here.run(|| {
        let wire = Some(index());
        let routes = Netlink::open().unwrap().routes().unwrap();
        let find = |prefix: &str| {
            let prefix = prefix.parse().unwrap();
            let found = routes.iter().find(|route| route.prefix == prefix);
            found.map(|route| (route.gateway, route.output, route.metric))
        };
        assert_eq!(find("0.0.0.0/0"), Some((Some(address("10.0.0.2")), wire, 0)));
        assert_eq!(find("10.0.0.0/24"), Some((None, wire, 0)));
        assert_eq!(find("10.5.0.0/16"), Some((Some(address("10.0.0.8")), wire, 7)));
        assert_eq!(find("10.6.0.0/16"), Some((Some(address("fd00::9")), wire, 0)));
        assert_eq!(find("10.7.0.0/16"), Some((None, None, 0)));
        assert_eq!(find("10.8.0.0/16"), None, "it is in another table");
        assert_eq!(find("10.0.0.1/32"), Some((None, None, 0)), "the host's own address");
        assert_eq!(find("10.0.0.255/32"), Some((None, None, 0)), "broadcast");
        assert_eq!(find("fd00::/64"), Some((None, wire, 256)));
        assert_eq!(find("fd05::/16"), Some((Some(address("fd00::2")), wire, 9)));
        assert_eq!(find("fd07::/16").map(|(gateway, output, _)| (gateway, output)), Some((None, None)));
        assert_eq!(find("fd00::1/128").map(|(gateway, output, _)| (gateway, output)), Some((None, None)));
    });
}

#[test]
fn neighbours_are_resolved_on_request() {
    let Some((here, peer)) = pair() else { return };
    let mac = peer.run(|| usable_link("wire").unwrap().mac);
    here.run(|| {
        let (index, mut netlink, mut monitor) = (index(), Netlink::open().unwrap(), Monitor::open().unwrap());
        assert_eq!(monitor.events().unwrap(), []);
        for neighbour in [address("10.0.0.2"), address("fd00::2")] {
            netlink.resolve(index, neighbour).unwrap();
            let is_it = |event: &Event| matches!(event, Event::Neighbour(item) if item.address == neighbour && item.resolved() == Some(mac));
            wait_for(&mut monitor, |_| {}, is_it);
            let listed = netlink.neighbours().unwrap().into_iter().find(|item| item.address == neighbour).unwrap();
            assert_eq!((listed.index, listed.resolved()), (index, Some(mac)));
        }
        for (family, nobody) in [("ipv4", address("10.0.0.77")), ("ipv6", address("fd00::77"))] {
            set(family, "retrans_time_ms", "10");
            netlink.resolve(index, nobody).unwrap();
            let failed = |event: &Event| matches!(event, Event::Neighbour(item) if item.address == nobody && item.state == NeighbourState::Failed);
            let event = wait_for(&mut monitor, |_| {}, failed);
            assert!(matches!(event, Event::Neighbour(item) if item.resolved().is_none()));
        }
    });
    here.ip("neighbour delete 10.0.0.2 dev wire");
    assert!(
        here.run(|| Netlink::open().unwrap().neighbours().unwrap())
            .iter()
            .all(|item| item.address != address("10.0.0.2") || item.resolved().is_none())
    );
}

#[test]
fn changes_are_heard_in_order() {
    let Some((here, _peer)) = pair() else { return };
    let mut monitor = here.run(|| Monitor::open().unwrap());
    let vip = address("10.0.0.100");
    here.run(|| {
        let (index, mut netlink) = (index(), Netlink::open().unwrap());
        netlink.add_address(index, vip).unwrap();
        netlink.remove_address(index, vip).unwrap();
    });
    let added = |event: &Event| matches!(event, Event::Address(item) if item.address == vip && item.owner == Owner::Weir);
    let mut seen = Vec::new();
    wait_for(
        &mut monitor,
        |event| seen.push(event.clone()),
        |event| matches!(event, Event::AddressGone(item) if item.address == vip),
    );
    let position = |wanted: &dyn Fn(&Event) -> bool| seen.iter().position(wanted).unwrap();
    assert!(position(&added) < position(&|event| matches!(event, Event::AddressGone(item) if item.address == vip)));
    assert!(seen.contains(&Event::Routes), "the local route came and went");

    here.ip("link set wire mtu 1400");
    wait_for(&mut monitor, |_| {}, |event| matches!(event, Event::Link(link) if link.name == "wire" && link.mtu == 1400));
    here.ip("link delete wire");
    wait_for(&mut monitor, |_| {}, |event| matches!(event, Event::LinkGone(link) if link.name == "wire"));
}

#[test]
fn a_flood_of_changes_is_an_overrun() {
    let Some(here) = Namespace::new() else { return };
    let mut monitor = here.run(|| Monitor::open().unwrap());
    here.run(|| {
        let mut netlink = Netlink::open().unwrap();
        for round in 0..5000 {
            let vip = address(&format!("10.9.{}.{}", round >> 8, round & 255));
            netlink.add_address(1, vip).unwrap();
        }
    });
    let events = monitor.events().unwrap();
    assert!(events.contains(&Event::Overrun), "{} events", events.len());
    assert_eq!(monitor.events().unwrap(), []);
}
