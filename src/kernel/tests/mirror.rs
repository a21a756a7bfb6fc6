//! The mirror: from events alone, and together with the kernel.

use super::super::{Event, Link, Mirror, Monitor, Neighbour, NeighbourState, Netlink, Route, usable_link};
use super::{address, index, pair, set, wait_for, wait_for_route};
use crate::datapath::{NextHops, PortId, Unreachable};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn link(index: u32, name: &str, vlan: Option<(u32, u16)>) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: [2, 0, 0, 0, 0, index as u8],
        mtu: 1500,
        enabled: true,
        up: true,
        loopback: false,
        vlan,
        rx_queues: 1,
        program: None,
    }
}

fn neighbour(index: u32, text: &str, state: NeighbourState) -> Neighbour {
    Neighbour { index, address: address(text), mac: Some(MAC), state }
}

fn route(prefix: &str, gateway: Option<&str>, output: Option<u32>) -> Route {
    Route { prefix: prefix.parse().unwrap(), gateway: gateway.map(address), output, metric: 0 }
}

/// eth0 (2) is port 0, with VLAN 100 (4) on it; eth1 (3) is port 1; eth2 (5) is not weir's.
fn mirror(hops: &NextHops) -> Mirror {
    let mut mirror = Mirror::new([("eth0".to_owned(), PortId(0)), ("eth1".to_owned(), PortId(1))]);
    for link in [link(2, "eth0", None), link(3, "eth1", None), link(4, "eth0.100", Some((2, 100))), link(5, "eth2", None)] {
        mirror.apply(&Event::Link(link), hops);
    }
    let routes = [
        route("0.0.0.0/0", Some("10.0.0.254"), Some(2)),
        route("10.0.0.0/24", None, Some(2)),
        route("10.1.0.0/24", None, Some(3)),
        route("10.2.0.0/24", None, Some(4)),
        route("10.3.0.0/24", None, Some(5)),
        route("10.0.0.1/32", None, None),
        route("::/0", Some("fe80::1"), Some(2)),
        route("2001:db8::/32", Some("fe80::1"), Some(4)),
    ];
    mirror.set_routes(routes.into(), hops);
    mirror
}

#[test]
fn routes_lead_out_of_ports_and_vlans_or_elsewhere() {
    let hops = NextHops::default();
    let _mirror = mirror(&hops);
    let find = |text| hops.find(address(text));
    let missing = |port, text| Err(Unreachable::Unresolved(PortId(port), address(text)));
    assert_eq!(find("192.0.2.1"), missing(0, "10.0.0.254"));
    assert_eq!(find("10.0.0.7"), missing(0, "10.0.0.7"));
    assert_eq!(find("10.1.0.7"), missing(1, "10.1.0.7"));
    assert_eq!(find("10.2.0.7"), missing(0, "10.2.0.7"));
    assert_eq!(hops.route(address("10.2.0.7")).map(|route| (route.port, route.vlan)), Some((Some(PortId(0)), 100)));
    assert_eq!(find("10.3.0.7"), Err(Unreachable::NoRoute), "not the default route");
    assert_eq!(find("10.0.0.1"), Err(Unreachable::NoRoute), "the host itself");
}

#[test]
fn neighbours_count_while_they_are_resolved() {
    use NeighbourState::{Delay, Failed, Incomplete, Noarp, None, Permanent, Probe, Reachable, Stale};
    let hops = NextHops::default();
    let mut mirror = mirror(&hops);
    let found = |text| hops.find(address(text)).ok().and_then(|id| hops.get(id)).map(|hop| (hop.mac, hop.port.0, hop.vlan));
    for (state, resolved) in [
        (Reachable, true),
        (Incomplete, false),
        (Stale, true),
        (Failed, false),
        (Delay, true),
        (None, false),
        (Probe, true),
        (Noarp, true),
        (Permanent, true),
    ] {
        mirror.apply(&Event::Neighbour(neighbour(3, "10.1.0.7", state)), &hops);
        assert_eq!(found("10.1.0.7"), resolved.then_some((MAC, 1, 0)), "{state:?}");
    }
    mirror.apply(&Event::NeighbourGone(neighbour(3, "10.1.0.7", Stale)), &hops);
    assert_eq!(found("10.1.0.7"), Option::None);

    // The same gateway address on a port and on a VLAN of it are two neighbours.
    mirror.apply(&Event::Neighbour(neighbour(4, "fe80::1", Reachable)), &hops);
    assert_eq!(found("2001:db8::1"), Some((MAC, 0, 100)));
    assert_eq!(found("2001:db9::1"), Option::None);

    for (index, other) in [(2, "224.0.0.1"), (2, "255.255.255.255"), (2, "ff02::1"), (5, "10.3.0.7")] {
        mirror.apply(&Event::Neighbour(neighbour(index, other, Reachable)), &hops);
    }
    assert_eq!(hops.neighbours().len(), 2, "no slots for multicast, broadcast, and interfaces that are not weir's");
}

#[test]
fn ports_follow_their_interfaces() {
    let hops = NextHops::default();
    let mut mirror = mirror(&hops);
    let port = |number| (hops.port(PortId(number)).mac(), hops.port(PortId(number)).mtu());
    assert_eq!((port(0), port(1)), (([2, 0, 0, 0, 0, 2], 1500), ([2, 0, 0, 0, 0, 3], 1500)));
    assert_eq!(mirror.link(PortId(1)).map(|link| link.index), Some(3));
    mirror.apply(&Event::Link(Link { mtu: 9000, mac: MAC, ..link(2, "eth0", None) }), &hops);
    assert_eq!(port(0), (MAC, 9000));
    mirror.apply(&Event::Link(Link { up: false, ..link(2, "eth0", None) }), &hops);
    assert_eq!(port(0).1, 0);
    mirror.apply(&Event::Neighbour(neighbour(3, "10.1.0.7", NeighbourState::Reachable)), &hops);
    assert!(hops.find(address("10.1.0.7")).is_ok());
    mirror.apply(&Event::LinkGone(link(3, "eth1", None)), &hops);
    assert_eq!(port(1).1, 0);
    assert!(hops.find(address("10.1.0.7")).is_err(), "its neighbours went with it");
    assert!(mirror.link(PortId(1)).is_none());
}

/// A route, a neighbour and a link of the real kernel, from nothing to a next hop and back.
#[test]
fn the_kernel_s_state_becomes_next_hops() {
    let Some((here, peer)) = pair() else { return };
    here.ip("route add 10.9.0.0/16 via 10.0.0.2");
    here.ip("route add fd09::/16 via fd00::2");
    let peer_mac = peer.run(|| usable_link("wire").unwrap().mac);
    let hops = NextHops::default();
    let mut monitor = here.run(|| Monitor::open().unwrap());
    let mut netlink = here.run(|| Netlink::open().unwrap());
    let mut mirror = Mirror::new([("wire".to_owned(), PortId(3))]);
    mirror.load(&mut netlink, &hops).unwrap();
    assert_eq!(hops.port(PortId(3)).mtu(), 1500);
    assert_eq!(hops.port(PortId(3)).mac(), here.run(|| usable_link("wire").unwrap().mac));

    for (destination, gateway) in [("10.9.1.1", address("10.0.0.2")), ("fd09::1", address("fd00::2"))] {
        assert_eq!(hops.find(address(destination)), Err(Unreachable::Unresolved(PortId(3), gateway)));
        here.run(|| mirror.resolve(&mut netlink, PortId(3), gateway).unwrap());
        let resolved =
            |event: &Event| matches!(event, Event::Neighbour(item) if item.address == gateway && item.resolved().is_some());
        wait_for(&mut monitor, |event| mirror.apply(event, &hops), resolved);
        let hop = hops.get(hops.find(address(destination)).unwrap()).unwrap();
        assert_eq!((hop.mac, hop.port, hop.vlan), (peer_mac, PortId(3), 0));
    }

    // A more specific route appears; the epoch tells connections to look again.
    let epoch = hops.epoch();
    here.ip("route add blackhole 10.9.1.0/24");
    wait_for(&mut monitor, |event| mirror.apply(event, &hops), |event| *event == Event::Routes);
    assert!(mirror.settle(&mut netlink, &hops).unwrap());
    assert!(!mirror.settle(&mut netlink, &hops).unwrap(), "nothing is left to do");
    assert_eq!(hops.find(address("10.9.1.1")), Err(Unreachable::NoRoute));
    assert_ne!(hops.epoch(), epoch);

    // The link goes down: no frame fits, and the kernel's routes over it are gone.
    here.ip("link set wire down");
    wait_for(&mut monitor, |event| mirror.apply(event, &hops), |event| matches!(event, Event::Link(link) if !link.up));
    mirror.settle(&mut netlink, &hops).unwrap();
    assert_eq!(hops.port(PortId(3)).mtu(), 0);
    assert_eq!(hops.find(address("10.9.2.1")), Err(Unreachable::NoRoute));

    here.ip("link set wire up");
    here.ip("route add 10.9.0.0/16 via 10.0.0.2");
    wait_for(&mut monitor, |event| mirror.apply(event, &hops), |event| matches!(event, Event::Link(link) if link.up));
    mirror.apply(&Event::Overrun, &hops);
    mirror.settle(&mut netlink, &hops).unwrap();
    assert_eq!(hops.port(PortId(3)).mtu(), 1500);
    let found = hops.find(address("10.9.2.1"));
    assert!(matches!(found, Ok(_) | Err(Unreachable::Unresolved(PortId(3), _))), "{found:?}");
}

/// The kernel does not see weir's packets: it is asked to look after neighbours that have gone stale.
#[test]
fn a_changed_link_address_is_noticed() {
    let Some((here, peer)) = pair() else { return };
    let gateway = address("10.0.0.2");
    let hops = NextHops::default();
    let mut monitor = here.run(|| Monitor::open().unwrap());
    let mut netlink = here.run(|| Netlink::open().unwrap());
    here.run(|| {
        set("ipv4", "delay_first_probe_time", "0");
        set("ipv4", "retrans_time_ms", "10");
    });
    // Learned once, and since then silently wrong.
    here.ip("neighbour add 10.0.0.2 lladdr 02:00:00:00:00:99 dev wire nud stale");
    let mut mirror = Mirror::new([("wire".to_owned(), PortId(0))]);
    mirror.load(&mut netlink, &hops).unwrap();
    let mac = || hops.find(gateway).ok().and_then(|id| hops.get(id)).map(|hop| hop.mac);
    assert_eq!(mac(), Some([2, 0, 0, 0, 0, 0x99]));
    let real = peer.run(|| usable_link("wire").unwrap().mac);

    confirm_all(&mirror, &mut netlink);
    let failed = |event: &Event| matches!(event, Event::Neighbour(item) if item.address == gateway && item.resolved() != Some([2, 0, 0, 0, 0, 0x99]));
    wait_for(&mut monitor, |event| mirror.apply(event, &hops), failed);
    if mac().is_none() {
        // Nobody answered the probes to the old address: the next packet makes the datapath ask anew.
        here.run(|| mirror.resolve(&mut netlink, PortId(0), gateway).unwrap());
        let resolved =
            |event: &Event| matches!(event, Event::Neighbour(item) if item.address == gateway && item.resolved().is_some());
        wait_for(&mut monitor, |event| mirror.apply(event, &hops), resolved);
    }
    assert_eq!(mac(), Some(real));
    assert_eq!(here.run(index), mirror.link(PortId(0)).unwrap().index);
}

fn confirm_all(mirror: &Mirror, netlink: &mut Netlink) {
    for (index, address) in mirror.stale() {
        mirror.confirm(netlink, index, address).unwrap();
    }
}

/// A link address that the administrator set is not asked for, and stays although nobody would answer.
#[test]
fn a_permanent_neighbour_stays() {
    let Some((here, _peer)) = pair() else { return };
    here.ip("neighbour add 10.0.0.77 lladdr 02:00:00:00:00:77 dev wire nud permanent");
    let hops = NextHops::default();
    let mut netlink = here.run(|| Netlink::open().unwrap());
    let mut mirror = Mirror::new([("wire".to_owned(), PortId(0))]);
    mirror.load(&mut netlink, &hops).unwrap();
    mirror.resolve(&mut netlink, PortId(0), address("10.0.0.77")).unwrap();
    confirm_all(&mirror, &mut netlink);
    let listed = netlink.neighbours().unwrap();
    let states: Vec<_> = listed.iter().filter(|item| item.address == address("10.0.0.77")).map(|item| item.state).collect();
    assert_eq!(states, [NeighbourState::Permanent]);
}

/// Without a link-local address in use, as right after a link came up, the kernel asks for nobody; weir does.
#[test]
fn a_neighbour_is_found_without_a_link_local_address() {
    let Some((here, peer)) = pair() else { return };
    for change in
        ["link set wire down", "link set wire addrgenmode none", "link set wire up", "address add fd00::1/64 dev wire nodad"]
    {
        here.ip(change);
    }
    here.run(|| wait_for_route("fd00::1/128"));
    let hops = NextHops::default();
    let mut monitor = here.run(|| Monitor::open().unwrap());
    let mut netlink = here.run(|| Netlink::open().unwrap());
    let mut mirror = Mirror::new([("wire".to_owned(), PortId(0))]);
    mirror.load(&mut netlink, &hops).unwrap();
    let target = address("fd00::2");
    here.run(|| mirror.resolve(&mut netlink, PortId(0), target).unwrap());
    let resolved = |event: &Event| matches!(event, Event::Neighbour(item) if item.address == target && item.resolved().is_some());
    wait_for(&mut monitor, |event| mirror.apply(event, &hops), resolved);
    let hop = hops.get(hops.find(target).unwrap()).unwrap();
    assert_eq!(hop.mac, peer.run(|| usable_link("wire").unwrap().mac));
}
