//! Aim: whoever sends packets that are too big for the way to the other side is told so, by weir or through it, and its connection goes
//! on with smaller ones.

use crate::support::{Backend, Behind, Family, Lab, Layout, NARROW, Namespace, curl, put_behind, run, run_within, wait_until};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Of weir's interface toward the client, while everyone else has 1500.
const MTU: u32 = 1400;

#[test]
fn a_backend_learns_the_smaller_mtu_over_ipv4() {
    run("path_mtu_v4", Layout::two_arm(), |lab| learn(lab, Family::V4));
}

#[test]
fn a_backend_learns_the_smaller_mtu_over_ipv6() {
    run("path_mtu_v6", Layout::two_arm(), |lab| learn(lab, Family::V6));
}

fn learn(lab: &mut Lab, family: Family) {
    lab.node.ip(&format!("link set outside mtu {MTU}"));
    lab.config = lab.config.clone().with_web([1, 0, 0]);
    lab.start_weir();
    // The client says that it takes 1500 bytes, so the backend sends 1500 and must hear of it.
    download(lab, &lab.client, family);
    knows(&lab.backends[0].namespace, family.snat(), MTU);
    assert!(lab.weir().sum_of_workers("answered") > 0, "weir counts its ICMP errors");
}

/// The narrow link is beyond weir, on the clients' side: its router tells weir's address, and weir tells the backend.
#[test]
fn a_backend_learns_of_a_narrow_link_far_away() {
    run("path_mtu_far_client", Layout::two_arm(), |lab| {
        let far = Namespace::new("far");
        put_behind(Behind::Client, &far, &lab.client, &lab.node);
        lab.config = lab.config.clone().with_web([1, 0, 0]);
        lab.start_weir();
        for family in Family::BOTH {
            download(lab, &far, family);
            knows(&lab.backends[0].namespace, family.snat(), NARROW);
        }
        only_related(lab);
    });
}

/// The narrow link is among the backends: its router tells weir's SNAT address, and weir tells the client.
#[test]
fn a_client_learns_of_a_narrow_link_among_the_backends() {
    run("path_mtu_hidden_backend", Layout::two_arm(), |lab| {
        let mut hidden = Backend::new("hidden", &lab.directory);
        put_behind(Behind::Backend, &hidden.namespace, &lab.backends[0].namespace, &lab.node);
        hidden.start();
        for family in Family::BOTH {
            let backends = vec![(SocketAddr::new(Behind::Backend.address(family), 80), 1)];
            lab.config.add(&format!("web-{}", family.name()), SocketAddr::new(family.vip(), 80), "tcp", backends);
        }
        lab.start_weir();
        let sent = content();
        std::fs::write(lab.directory.join("up"), &sent).expect("a file to send");
        for family in Family::BOTH {
            let url = family.url(family.name());
            let finished = curl(&lab.client, &format!("--fail --upload-file {} {url}", lab.directory.join("up").display()));
            assert!(finished.success(), "upload: {finished}");
            assert!(std::fs::read(hidden.file(family.name())).expect("the copy") == sent, "the copy differs");
            knows(&lab.client, family.vip(), NARROW);
        }
        only_related(lab);
    });
}

/// As `ping -M do`: single datagrams that may not be fragmented. The sender is told, and its kernel remembers.
#[test]
fn a_datagram_that_may_not_be_fragmented() {
    run("path_mtu_datagram", Layout::two_arm(), |lab| {
        let hidden = Namespace::new("hidden");
        put_behind(Behind::Backend, &hidden, &lab.backends[0].namespace, &lab.node);
        for family in Family::BOTH {
            let backends = vec![(SocketAddr::new(Behind::Backend.address(family), 5353), 1)];
            lab.config.add(&format!("dns-{}", family.name()), SocketAddr::new(family.vip(), 5353), "udp", backends);
        }
        lab.start_weir();
        for family in Family::BOTH {
            let vip = family.vip();
            let mut command = lab.client.command("traceroute");
            command.args(["--mtu", "-n", "-q", "1", "-w", "2", "-U", "-p", "5353", &vip.to_string()]);
            let finished = run_within(command, Duration::from_secs(40));
            assert!(finished.success(), "traceroute: {finished}");
            assert!(finished.stdout.contains(&format!("F={NARROW}")), "the narrow link is found: {finished}");
            // traceroute keeps what it learnt to itself; after a datagram of any other socket the kernel knows it, too.
            lab.client.inside(|| {
                let socket = UdpSocket::bind((if vip.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).expect("a socket");
                socket.send_to(&[7; 1400], (vip, 5353)).expect("send");
            });
            knows(&lab.client, vip, NARROW);
        }
        assert!(lab.weir().sum_of_workers("related") > 0, "errors that weir sent on");
    });
}

/// `ping -M do` by a service of echoes: too big a one is told so by the router among the backends, through weir; a smaller one is answered.
#[test]
fn a_ping_that_may_not_be_fragmented() {
    run("path_mtu_ping", Layout::two_arm(), |lab| {
        let hidden = Namespace::new("hidden");
        put_behind(Behind::Backend, &hidden, &lab.backends[0].namespace, &lab.node);
        for family in Family::BOTH {
            let backends = vec![(SocketAddr::new(Behind::Backend.address(family), 0), 1)];
            lab.config.add(&format!("ping-{}", family.name()), SocketAddr::new(family.vip(), 0), "icmp", backends);
        }
        lab.start_weir();
        for (family, headers) in [(Family::V4, 28), (Family::V6, 48)] {
            let vip = family.vip();
            let ping = |bytes: u32| lab.client.attempt(&format!("ping -n -c 1 -W 5 -M do -s {} {vip}", bytes - headers));
            wait_until("an answer to a ping", Duration::from_secs(20), || ping(NARROW).success().then_some(()));
            let refused = ping(NARROW + 1);
            assert!(!refused.success() && refused.to_string().contains(&NARROW.to_string()), "{refused}");
            knows(&lab.client, vip, NARROW);
            assert!(ping(NARROW).success(), "the largest that fits");
        }
        assert!(lab.weir().sum_of_workers("related") >= 2, "errors that weir sent on");
    });
}

fn content() -> Vec<u8> {
    (0..1 << 20).map(|byte: u32| (byte % 253) as u8).collect()
}

/// A file of the first backend, byte by byte.
fn download(lab: &Lab, client: &Namespace, family: Family) {
    std::fs::write(lab.backends[0].file("down"), content()).expect("a file to serve");
    let copy = lab.directory.join("copy");
    let finished = curl(client, &format!("--fail --output {} {}", copy.display(), family.url("down")));
    assert!(finished.success(), "download: {finished}");
    assert!(std::fs::read(&copy).expect("the copy") == content(), "the copy differs");
}

/// What the kernel of a machine knows of its way to an address.
fn knows(machine: &Namespace, address: IpAddr, mtu: u32) {
    let mut route = String::new();
    let told = || {
        route = machine.run(&format!("ip route get {address}"));
        route.contains(&format!("mtu {mtu}")).then_some(())
    };
    wait_until(&format!("{mtu} bytes to {address} to be known in {}", machine.name()), Duration::from_secs(5), told);
}

/// weir had nothing to say itself; it sent on what the router said, and dropped nothing.
fn only_related(lab: &mut Lab) {
    assert!(lab.weir().sum_of_workers("related") >= 2, "errors that weir sent on");
    assert_eq!(lab.weir().sum_of_workers("answered"), 0, "errors of weir's own");
    assert_eq!(lab.weir().drops(), Default::default());
}
