//! The kernel: nf_conntrack and nftables' full-NAT in a namespace, between two others.
//!
//! ```text
//!   client 10.1.0.5            router                       backend 10.2.0.11:8080
//!          fd01::5                                                  [fd02::11]:8080
//!  ┌──────────┐   ┌────────────────────────────────┐   ┌──────────┐
//!  │ raw   c0 ├───┤ r0  dnat VIP → backend       r1 ├───┤ b0  raw │
//!  └──────────┘   │     snat → 10.2.0.200          │   └──────────┘
//!                 └────────────────────────────────┘
//! ```
//!
//! Packets are sent by raw sockets and seen by packet sockets; the namespaces' own stacks do not get them, so they answer nothing. What
//! is compared is told by its TTL. A datagram sent behind each packet takes the same way: when it has arrived, the packet has, too, or
//! never will.

use super::ctnetlink::Table;
use super::machine::{Machine, Shown, Step};
use super::message::Message;
use super::namespace::Namespace;
use super::segment::Side;
use super::subject::Subject;
use super::world::Family;
use super::{TTL, UNKNOWN};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Longest time that a datagram may take over two virtual links.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Kernel {
    _namespaces: [Namespace; 3],
    client: Host,
    backend: Host,
    table: Table,
    subject: Subject,
    address: SocketAddr,
    snat: Option<u16>,
}

/// An end of the wire.
struct Host {
    out: Socket,
    tap: Socket,
    markers: UdpSocket,
    address: IpAddr,
}

impl Host {
    fn new(namespace: &Namespace, address: IpAddr) -> Self {
        namespace.inside(|| {
            let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let raw = Type::from(libc::SOCK_RAW);
            let out = Socket::new(domain, raw, Some(Protocol::from(libc::IPPROTO_RAW))).expect("a raw socket");
            let all = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
            let tap = Socket::new(Domain::from(libc::AF_PACKET), Type::DGRAM, Some(all)).expect("a packet socket");
            tap.set_nonblocking(true).expect("an option");
            tap.set_recv_buffer_size(1 << 20).expect("an option");
            let markers = UdpSocket::bind((address, 9)).expect("a socket");
            markers.set_nonblocking(true).expect("an option");
            Self { out, tap, markers, address }
        })
    }

    fn send(&self, packet: &[u8], to: IpAddr) {
        self.out.send_to(packet, &SockAddr::from(SocketAddr::new(to, 0))).expect("send");
    }

    /// The one packet of the other side that has come by the router.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut arrived = None;
        loop {
            let mut packet = vec![0; 4096];
            match self.tap.read(&mut packet) {
                Ok(length) => packet.truncate(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return arrived,
                Err(error) => panic!("receive: {error}"),
            }
            let ttl = if self.address.is_ipv4() { packet.get(8) } else { packet.get(7) };
            let of_family = packet.first().is_some_and(|byte| (byte >> 4 == 4) == self.address.is_ipv4());
            if of_family && ttl == Some(&(TTL - 1)) {
                assert!(arrived.is_none(), "two packets where one was sent");
                arrived = Some(packet);
            }
        }
    }
}

impl Kernel {
    /// `sysctls` of the router's `net.netfilter`, such as `nf_conntrack_tcp_loose=0`.
    pub(crate) fn new(subject: Subject, sysctls: &[String]) -> Self {
        let [client, router, backend] = ["client", "router", "backend"].map(Namespace::new);
        client.ip(&format!("link add c0 type veth peer name r0 netns {}", router.path()));
        backend.ip(&format!("link add b0 type veth peer name r1 netns {}", router.path()));
        client.ip("addr add 10.1.0.5/24 dev c0\naddr add fd01::5/64 dev c0 nodad\nlink set c0 up");
        router.ip("addr add 10.1.0.1/24 dev r0\naddr add fd01::1/64 dev r0 nodad\nlink set r0 up");
        router.ip("addr add 10.2.0.200/24 dev r1\naddr add fd02::200/64 dev r1 nodad\nlink set r1 up");
        backend.ip("addr add 10.2.0.11/24 dev b0\naddr add fd02::11/64 dev b0 nodad\nlink set b0 up");
        backend.ip("route add default via 10.2.0.200\nroute add default via fd02::200");
        client.ip("route add default via 10.1.0.1\nroute add default via fd01::1");
        for host in [&client, &backend] {
            let arrived = TTL - 1;
            rules(
                host,
                &format!(
                    "chain in {{ type filter hook prerouting priority -300; ip ttl {arrived} drop; ip6 hoplimit {arrived} drop; }}"
                ),
            );
        }
        rules(&router, &full_nat());
        router.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]);
        let sysctls: Vec<_> = sysctls.iter().map(|sysctl| format!("net/netfilter/{sysctl}")).collect();
        router.sysctl(&sysctls.iter().map(String::as_str).collect::<Vec<_>>());
        let table = Table::new(&router, subject);
        let mut kernel = Self {
            client: Host::new(&client, subject.family.client().ip()),
            backend: Host::new(&backend, subject.backend().ip()),
            _namespaces: [client, router, backend],
            table,
            subject,
            address: subject.family.client(),
            snat: None,
        };
        // Link addresses are resolved.
        kernel.mark(Side::Client);
        kernel.mark(Side::Backend);
        kernel
    }

    /// Seconds that the connection has from now on, if nothing comes.
    pub(crate) fn set_left(&mut self, seconds: u32) {
        self.table.set_left(self.address, seconds);
    }

    /// The connection ends.
    pub(crate) fn delete(&mut self) {
        self.table.delete(self.address);
    }

    /// Sends a datagram the way of a packet from this side, and waits for it.
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
            assert!(began.elapsed() < PATIENCE, "the datagram behind a packet has not arrived");
            std::thread::yield_now();
        }
    }
}

/// The service of each protocol. Echoes have a VIP of their own, as they have in weir's world.
fn full_nat() -> String {
    let mut chains = "chain invalid { type filter hook prerouting priority -150; ct state invalid drop; }\n".to_owned();
    let (mut service, mut source) = (String::new(), String::new());
    for (family, ip) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        let (vip, echo_vip) = (family.vip(), family.any_port_vip(0).ip());
        let (backend, snat) = (family.backend(), family.snat());
        let echo = if family == Family::V4 { "icmp" } else { "icmpv6" };
        let to = |ports: &str| if family == Family::V4 { format!("{snat}{ports}") } else { format!("[{snat}]{ports}") };
        for protocol in ["tcp", "udp", "sctp"] {
            service += &format!("{ip} daddr {} {protocol} dport {} dnat {ip} to {backend}; ", vip.ip(), vip.port());
            let dport = backend.port();
            let range = to(":20000-29999");
            source += &format!("{ip} daddr {} {protocol} dport {dport} snat {ip} to {range}; ", backend.ip());
        }
        service += &format!("{ip} daddr {echo_vip} {echo} type echo-request dnat {ip} to {}; ", backend.ip());
        source += &format!("{ip} daddr {} {echo} type echo-request snat {ip} to {snat}; ", backend.ip());
    }
    chains += &format!("chain service {{ type nat hook prerouting priority -100; {service} }}\n");
    chains += &format!("chain source {{ type nat hook postrouting priority 100; {source} }}\n");
    chains + &format!("chain own {{ type filter hook input priority 0; ip ttl {TTL} drop; ip6 hoplimit {TTL} drop; }}")
}

fn rules(namespace: &Namespace, chains: &str) {
    let mut nft = namespace.command("nft");
    nft.args(["-f", "-"]).stdin(std::process::Stdio::piped());
    let mut child = nft.spawn().expect("nft");
    let text = format!("table inet differential {{\n{}\n}}\n", chains.replace("; ", ";\n"));
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("nft reads");
    assert!(child.wait().expect("nft").success(), "nft -f: {text}");
}

impl Machine for Kernel {
    fn begin(&mut self, port: u16) {
        self.address.set_port(port);
        self.snat = None;
    }

    fn step(&mut self, message: &Message) -> Step {
        let subject = self.subject;
        let arrived = match message.from {
            Side::Client => {
                let to = subject.vip();
                self.client.send(&message.packet(self.address, to), to.ip());
                self.mark(Side::Client);
                self.backend.receive()
            }
            Side::Backend => {
                let to = subject.snat(self.snat.unwrap_or(UNKNOWN));
                self.backend.send(&message.packet(subject.backend(), to), to.ip());
                self.mark(Side::Backend);
                self.client.receive()
            }
        };
        if let (Side::Client, Some(packet)) = (message.from, &arrived) {
            self.snat = Some(subject.source_port(packet));
        }
        Step { forwarded: arrived.is_some(), shown: self.shown() }
    }

    fn shown(&mut self) -> Option<Shown> {
        self.table.get(self.address)
    }
}
