//! The kernel: nf_conntrack and nftables' full-NAT in a namespace, between two others.
//!
//! ```text
//!   client 10.1.0.5            router                       backend 10.2.0.11:8080
//!  ┌──────────┐   ┌────────────────────────────────┐   ┌──────────┐
//!  │ raw   c0 ├───┤ r0  dnat 10.9.0.1:80 → backend r1 ├───┤ b0  raw │
//!  └──────────┘   │     snat → 10.2.0.200          │   └──────────┘
//!                 └────────────────────────────────┘
//! ```
//!
//! Segments are sent and received by raw sockets; what the namespaces' own TCP would answer is told apart by its TTL and dropped. A
//! datagram sent behind each segment takes the same way: when it has arrived, the segment has, too, or never will.

use super::machine::{Machine, Shown, Step};
use super::namespace::Namespace;
use super::segment::{Segment, Side};
use super::world::Family;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Longest time that a datagram may take over two virtual links.
const PATIENCE: Duration = Duration::from_secs(10);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 11);

pub(crate) struct Kernel {
    _namespaces: [Namespace; 3],
    client: Host,
    backend: Host,
    /// /proc/net/nf_conntrack of the router.
    table: File,
    address: SocketAddr,
    snat: Option<SocketAddr>,
}

/// An end of the wire.
struct Host {
    out: Socket,
    into: Socket,
    markers: UdpSocket,
    address: Ipv4Addr,
}

impl Host {
    fn new(namespace: &Namespace, address: Ipv4Addr) -> Self {
        namespace.inside(|| {
            let raw = |protocol: i32| {
                Socket::new(Domain::IPV4, Type::from(libc::SOCK_RAW), Some(Protocol::from(protocol))).expect("a raw socket")
            };
            let (out, into) = (raw(libc::IPPROTO_RAW), raw(libc::IPPROTO_TCP));
            into.set_nonblocking(true).expect("an option");
            into.set_recv_buffer_size(1 << 20).expect("an option");
            let markers = UdpSocket::bind((address, 9)).expect("a socket");
            markers.set_nonblocking(true).expect("an option");
            Self { out, into, markers, address }
        })
    }

    fn send(&self, packet: &[u8], to: SocketAddr) {
        self.out.send_to(packet, &SockAddr::from(to)).expect("send");
    }

    /// A packet that has arrived, and whose source has `port`.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 4096];
        match self.into.read(&mut packet) {
            Ok(length) => {
                packet.truncate(length);
                Some(packet)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("receive: {error}"),
        }
    }
}

impl Kernel {
    /// `sysctls` of the router's `net.netfilter`, such as `nf_conntrack_tcp_loose=0`.
    pub(crate) fn new(sysctls: &[&str]) -> Self {
        let [client, router, backend] = ["client", "router", "backend"].map(Namespace::new);
        client.ip(&format!("link add c0 type veth peer name r0 netns {}", router.path()));
        backend.ip(&format!("link add b0 type veth peer name r1 netns {}", router.path()));
        client.ip("addr add 10.1.0.5/24 dev c0\nlink set c0 up");
        router.ip("addr add 10.1.0.1/24 dev r0\nlink set r0 up\naddr add 10.2.0.200/24 dev r1\nlink set r1 up");
        backend.ip("addr add 10.2.0.11/24 dev b0\nlink set b0 up\nroute add default via 10.2.0.200");
        client.ip("route add default via 10.1.0.1");
        for host in [&client, &backend] {
            let ttl = super::TTL;
            rules(host, &format!("chain out {{ type filter hook output priority 0; ip ttl != {ttl} meta l4proto tcp drop; }}"));
        }
        rules(
            &router,
            "chain invalid { type filter hook prerouting priority -150; ct state invalid drop; }
             chain service { type nat hook prerouting priority -100; ip daddr 10.9.0.1 tcp dport 80 dnat to 10.2.0.11:8080; }
             chain source { type nat hook postrouting priority 100; ip daddr 10.2.0.11 tcp dport 8080 snat to 10.2.0.200:20000-29999; }
             chain own { type filter hook input priority 0; meta l4proto tcp drop; }",
        );
        router.sysctl(&["net/ipv4/ip_forward=1"]);
        let sysctls: Vec<_> = sysctls.iter().map(|sysctl| format!("net/netfilter/{sysctl}")).collect();
        router.sysctl(&sysctls.iter().map(String::as_str).collect::<Vec<_>>());
        let table = router.inside(|| File::open("/proc/thread-self/net/nf_conntrack").expect("the kernel's table"));
        let mut kernel = Self {
            client: Host::new(&client, CLIENT),
            backend: Host::new(&backend, BACKEND),
            _namespaces: [client, router, backend],
            table,
            address: Family::V4.client(),
            snat: None,
        };
        // Link addresses are resolved.
        kernel.mark(Side::Client);
        kernel.mark(Side::Backend);
        kernel
    }

    /// Sends a datagram the way of a segment from this side, and waits for it.
    fn mark(&mut self, from: Side) {
        let (from, to) = match from {
            Side::Client => (&self.client, &self.backend),
            Side::Backend => (&self.backend, &self.client),
        };
        let began = Instant::now();
        from.markers.send_to(b"marker", (to.address, 9)).expect("send");
        let mut answer = [0; 16];
        while let Err(error) = to.markers.recv(&mut answer) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            assert!(began.elapsed() < PATIENCE, "the datagram behind a segment has not arrived");
            std::thread::yield_now();
        }
    }

    fn shown(&mut self) -> Option<Shown> {
        let mut text = String::new();
        self.table.rewind().expect("the table again");
        self.table.read_to_string(&mut text).expect("the kernel's table");
        let tuple = format!(" src={CLIENT} dst=10.9.0.1 sport={} dport=80 ", self.address.port());
        let line = text.lines().find(|line| line.contains(" tcp ") && line.contains(&tuple))?;
        // ipv4 2 tcp 6 SECONDS STATE src=...
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(Shown {
            state: words[5].to_owned(),
            seen_reply: !line.contains("[UNREPLIED]"),
            assured: line.contains("[ASSURED]"),
            timeout: words[4].parse().unwrap_or_else(|_| panic!("no seconds in {line}")),
        })
    }
}

fn rules(namespace: &Namespace, chains: &str) {
    let mut nft = namespace.command("nft");
    nft.args(["-f", "-"]).stdin(std::process::Stdio::piped());
    let mut child = nft.spawn().expect("nft");
    let text = format!("table ip differential {{\n{}\n}}\n", chains.replace("; }", ";\n}\n"));
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("nft reads");
    assert!(child.wait().expect("nft").success(), "nft -f: {text}");
}

impl Machine for Kernel {
    fn begin(&mut self, port: u16) {
        self.address.set_port(port);
        self.snat = None;
    }

    fn step(&mut self, segment: &Segment) -> Step {
        let unknown = SocketAddr::new(Family::V4.snat(), 19_999);
        let arrived = match segment.from {
            Side::Client => {
                let to = Family::V4.vip();
                self.client.send(&segment.packet(self.address, to), to);
                self.mark(Side::Client);
                self.backend.receive()
            }
            Side::Backend => {
                let to = self.snat.unwrap_or(unknown);
                self.backend.send(&segment.packet(Family::V4.backend(), to), to);
                self.mark(Side::Backend);
                self.client.receive()
            }
        };
        if let (Side::Client, Some(packet)) = (segment.from, &arrived) {
            let port = u16::from_be_bytes([packet[20], packet[21]]);
            self.snat = Some(SocketAddr::new(Family::V4.snat(), port));
        }
        Step { forwarded: arrived.is_some(), shown: self.shown() }
    }
}
