//! Aim: what routers and hosts behind weir say about a connection's packets reaches whoever sent them.

use crate::support::{Behind, Family, Lab, Layout, Namespace, put_behind, run, run_within};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const CLOSED: u16 = 5353;

/// UDP to this port of the VIP goes to the first backend, or to the one hidden behind it, where nobody listens.
fn closed_port(lab: &mut Lab, backend: impl Fn(Family) -> std::net::IpAddr) {
    for family in Family::BOTH {
        let backends = vec![(SocketAddr::new(backend(family), CLOSED), 1)];
        lab.config.add(&format!("closed-{}", family.name()), SocketAddr::new(family.vip(), CLOSED), "udp", backends);
    }
}

#[test]
fn a_udp_client_is_refused_when_its_backend_is_closed() {
    run("refused", Layout::two_arm(), |lab| {
        closed_port(lab, |family| family.backend(1));
        lab.start_weir();
        for family in Family::BOTH {
            let vip = SocketAddr::new(family.vip(), CLOSED);
            let error = lab.client.inside(|| ask(vip));
            assert_eq!(error, Some(ErrorKind::ConnectionRefused), "{vip}");
        }
        assert_eq!(lab.weir().sum_of_workers("related"), 2);
        assert_eq!(lab.weir().drops(), Default::default());
    });
}

fn ask(vip: SocketAddr) -> Option<ErrorKind> {
    let own = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(own).expect("a socket");
    socket.connect(vip).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    socket.send(b"is anybody there?").expect("send");
    socket.recv(&mut [0; 10]).err().map(|error| error.kind())
}

/// Four hops: the client's router, weir, the backends' router, the backend. All but the first speak as the VIP.
#[test]
fn traceroute_sees_what_is_behind_weir() {
    run("traceroute", Layout::two_arm(), |lab| {
        let (far, mut hidden) = (Namespace::new("far"), crate::support::Backend::new("hidden", &lab.directory));
        put_behind(Behind::Client, &far, &lab.client, &lab.node);
        put_behind(Behind::Backend, &hidden.namespace, &lab.backends[0].namespace, &lab.node);
        hidden.start();
        closed_port(lab, |family| Behind::Backend.address(family));
        for family in Family::BOTH {
            let backends = vec![(SocketAddr::new(Behind::Backend.address(family), 80), 1)];
            lab.config.add(&format!("web-{}", family.name()), SocketAddr::new(family.vip(), 80), "tcp", backends);
        }
        lab.start_weir();
        for family in Family::BOTH {
            let router = if family == Family::V4 { "203.0.113.1" } else { "2001:db8:9::1" };
            let vip = family.vip().to_string();
            let expected = [router, &vip, &vip, &vip];
            for way in [["-T", "80"], ["-U", "5353"]] {
                assert_eq!(hops(&far, way, &vip), expected, "traceroute {way:?}");
            }
        }
        assert!(lab.weir().sum_of_workers("related") >= 4, "errors that weir sent on");
    });
}

/// Who answered, hop by hop.
fn hops(from: &Namespace, [method, port]: [&str; 2], to: &str) -> Vec<String> {
    let mut command = from.command("traceroute");
    command.args(["-n", "-q", "1", "-N", "1", "-w", "3", "-m", "8", method, "-p", port, to]);
    let finished = run_within(command, Duration::from_secs(40));
    assert!(finished.success(), "traceroute: {finished}");
    // The first line tells what is asked; then the number of the hop, its address, the time.
    let hop = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    finished.stdout.lines().skip(1).map(hop).collect()
}
