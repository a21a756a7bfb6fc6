//! Aim: datagrams that are larger than the links reach their backend, and the answers their client, byte by byte, in whatever order and on
//! whatever queue their fragments come.

use crate::support::{Backend, Behind, Family, Lab, Layout, Mapping, NARROW, Namespace, iperf3, map_queues, put_behind, run};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, UdpHeader};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const PORT: u16 = 5353;
/// Bytes of a datagram: fits one packet, takes two, six, and as many as there can be.
const SIZES: [usize; 5] = [1400, 1473, 8000, 20_000, 65_000];

#[test]
fn large_datagrams_both_ways() {
    run("fragments", Layout::two_arm(), |lab| {
        serve_all(lab);
        for family in Family::BOTH {
            echo(lab, family, 60);
        }
        assert_eq!(lab.weir().drops(), BTreeMap::new());
    });
}

/// The first fragment comes to one worker, others to the other one; the answers' likewise.
#[test]
fn fragments_on_two_queues() {
    run("fragments_queues", Layout::two_arm().queues(2), |lab| {
        serve_all(lab);
        // Where a port would stand, a later fragment has payload, which differs.
        map_queues(&lab.client, "eth0", Mapping::DestinationPort, &lab.directory);
        map_queues(&lab.switch, "uplink", Mapping::DestinationPort, &lab.directory);
        for family in Family::BOTH {
            echo(lab, family, 60);
        }
        let received = lab.weir().of_workers("rx");
        assert!(received.iter().all(|frames| *frames > 500), "frames received by each worker: {received:?}");
        assert_eq!(lab.weir().drops(), BTreeMap::new());
    });
}

/// Fragments that leave the client in another order than they were made: the last first, the first last, and any other.
#[test]
fn fragments_out_of_order() {
    run("fragments_shuffled", Layout::two_arm().queues(2), |lab| {
        serve_all(lab);
        map_queues(&lab.client, "eth0", Mapping::DestinationPort, &lab.directory);
        for family in Family::BOTH {
            let servers = start_servers(lab, family);
            lab.client.inside(|| {
                let vip = SocketAddr::new(family.vip(), PORT);
                let socket = connected(vip);
                let own = socket.local_addr().expect("its own address");
                let raw = Raw::new(family);
                for seed in 0..200usize {
                    let question: Vec<u8> = (0..8000).map(|n| (n * 31 + n / 256 * 7 + seed * 13) as u8).collect();
                    let mut fragments = raw.fragments(own, vip, &question, seed as u16 + 1);
                    // Another order each time; each one of them is at each place.
                    let count = fragments.len();
                    fragments.rotate_left(seed % count);
                    if seed / count % 2 == 1 {
                        fragments.reverse();
                    }
                    fragments.swap(seed / 7 % count, seed / 3 % count);
                    fragments.iter().for_each(|fragment| raw.send(fragment, vip));
                    let mut answer = vec![0; 70_000];
                    let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{family:?} {seed}: {error}"));
                    assert!(answer[1..length] == question, "datagram {seed} came back otherwise");
                }
            });
            drop(servers);
        }
        assert_eq!(lab.weir().drops(), BTreeMap::new());
    });
}

/// A socket for IP packets with their headers.
struct Raw {
    family: Family,
    socket: Socket,
}

impl Raw {
    fn new(family: Family) -> Self {
        let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
        // IPPROTO_RAW: what is sent has its IP header, see raw(7).
        let socket = Socket::new(domain, Type::from(libc::SOCK_RAW), Some(Protocol::from(255))).expect("a raw socket");
        Self { family, socket }
    }

    fn send(&self, packet: &[u8], to: SocketAddr) {
        self.socket.send_to(packet, &SocketAddr::new(to.ip(), 0).into()).expect("send");
    }

    /// A UDP datagram as fragments of 1480 bytes or less.
    fn fragments(&self, from: SocketAddr, to: SocketAddr, payload: &[u8], id: u16) -> Vec<Vec<u8>> {
        const PIECE: usize = 1440;
        let datagram = self.datagram(from, to, payload);
        let pieces: Vec<&[u8]> = datagram.chunks(PIECE).collect();
        let count = pieces.len();
        let fragment = |(at, piece): (usize, &&[u8])| {
            let offset = IpFragOffset::try_new((at * PIECE / 8) as u16).expect("an offset");
            let more = at + 1 < count;
            let mut packet = Vec::new();
            match (from.ip(), to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    let header = Ipv4Header::new(piece.len() as u16, 64, IpNumber::UDP, from.octets(), to.octets());
                    let mut header = header.expect("a header");
                    (header.identification, header.fragment_offset, header.more_fragments) = (id, offset, more);
                    header.dont_fragment = false;
                    header.header_checksum = header.calc_header_checksum();
                    header.write(&mut packet).expect("written");
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    let header = Ipv6Header {
                        payload_length: (8 + piece.len()) as u16,
                        next_header: IpNumber::IPV6_FRAGMENTATION_HEADER,
                        hop_limit: 64,
                        source: from.octets(),
                        destination: to.octets(),
                        ..Ipv6Header::default()
                    };
                    header.write(&mut packet).expect("written");
                    packet.extend(Ipv6FragmentHeader::new(IpNumber::UDP, offset, more, id.into()).to_bytes());
                }
                mixed => panic!("two families: {mixed:?}"),
            }
            packet.extend(*piece);
            packet
        };
        pieces.iter().enumerate().map(fragment).collect()
    }

    fn datagram(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let header = match (from.ip(), to.ip()) {
            (IpAddr::V4(own), IpAddr::V4(other)) if self.family == Family::V4 => {
                let (own, other) = (own.octets(), other.octets());
                UdpHeader::with_ipv4_checksum(from.port(), to.port(), &ip_v4(own, other, payload), payload)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let ip = Ipv6Header { source: own.octets(), destination: other.octets(), ..Ipv6Header::default() };
                UdpHeader::with_ipv6_checksum(from.port(), to.port(), &ip, payload)
            }
            mixed => panic!("two families: {mixed:?}"),
        };
        [header.expect("a header").to_bytes().as_slice(), payload].concat()
    }
}

fn ip_v4(own: [u8; 4], other: [u8; 4], payload: &[u8]) -> Ipv4Header {
    Ipv4Header::new(8 + payload.len() as u16, 64, IpNumber::UDP, own, other).expect("a header")
}

/// A router on the way makes the fragments: its link takes 1280 bytes. And a sender that was told of that makes smaller ones.
#[test]
fn fragments_of_a_narrow_link() {
    run("fragments_narrow", Layout::two_arm(), |lab| {
        let far = Namespace::new("far");
        put_behind(Behind::Client, &far, &lab.client, &lab.node);
        let mut hidden = Backend::new("hidden", &lab.directory);
        put_behind(Behind::Backend, &hidden.namespace, &lab.backends[0].namespace, &lab.node);
        hidden.start();
        for family in Family::BOTH {
            let backends = vec![(SocketAddr::new(Behind::Backend.address(family), PORT), 1)];
            lab.config.add(&format!("dns-{}", family.name()), SocketAddr::new(family.vip(), PORT), "udp", backends);
        }
        lab.start_weir();
        for family in Family::BOTH {
            let _server = Server::start(&hidden.namespace, Behind::Backend.address(family), 7);
            for client in [&far, &lab.client] {
                client.inside(|| {
                    let socket = connected(SocketAddr::new(family.vip(), PORT));
                    for size in SIZES {
                        // The first ones may be lost: they are how their sender learns of the link.
                        let answered = (0..5).any(|_| ask(&socket, size, 1).is_some());
                        assert!(answered, "{size} bytes over a link of {NARROW}");
                    }
                });
            }
        }
    });
}

#[test]
fn iperf3_with_large_datagrams() {
    run("fragments_iperf3", Layout::two_arm().queues(2).bulk(), |lab| {
        for family in Family::BOTH {
            for protocol in ["tcp", "udp"] {
                let backends = vec![(SocketAddr::new(family.backend(1), 5201), 1)];
                let name = format!("iperf3-{protocol}-{}", family.name());
                lab.config.add(&name, SocketAddr::new(family.vip(), 5201), protocol, backends);
            }
        }
        lab.start_weir();
        for family in Family::BOTH {
            for way in ["", "--reverse"] {
                let moved = iperf3(&lab.client, &lab.backends[0], family.vip(), &format!("-u -l 8000 -b 40M -t 2 {way}"));
                assert!(moved.bytes > 5_000_000 && moved.lost_percent < 10.0, "{family:?} {way}: {moved:?}");
            }
        }
        // As in bulk.rs: what iperf3 has no room for while the machine does something else is lost by the kernel. weir may lose nothing.
        assert_eq!(lab.weir().drops(), BTreeMap::new(), "drops of weir");
    });
}

/// UDP to the three backends, in turn.
fn serve_all(lab: &mut Lab) {
    for family in Family::BOTH {
        let backends = (1..=3).map(|number| (SocketAddr::new(family.backend(number), PORT), 1)).collect();
        lab.config.add(&format!("dns-{}", family.name()), SocketAddr::new(family.vip(), PORT), "udp", backends);
    }
    lab.start_weir();
}

fn start_servers(lab: &Lab, family: Family) -> Vec<Server> {
    let start =
        |(backend, number): (&Backend, u8)| Server::start(&backend.namespace, family.backend(usize::from(number)), number);
    lab.backends.iter().zip(1..).map(start).collect()
}

/// Clients ask with datagrams of all sizes; every one of a client reaches the same backend, and comes back as it was.
fn echo(lab: &Lab, family: Family, clients: usize) {
    let servers = start_servers(lab, family);
    let shares = lab.client.inside(|| {
        let mut shares = BTreeMap::<u8, usize>::new();
        // All of them are open at once: a port that is used again has its connection, and so its backend, already.
        let sockets: Vec<UdpSocket> = (0..clients).map(|_| connected(SocketAddr::new(family.vip(), PORT))).collect();
        for (client, socket) in sockets.iter().enumerate() {
            let mut known = None;
            for (number, size) in SIZES.into_iter().enumerate() {
                let answer = ask(socket, size, client * SIZES.len() + number);
                let server = answer.unwrap_or_else(|| panic!("{family:?}: no answer to {size} bytes of client {client}"));
                assert_eq!(*known.get_or_insert(server), server, "client {client} was sent to another backend");
            }
            *shares.entry(known.expect("an answer")).or_default() += 1;
        }
        shares
    });
    drop(servers);
    assert!(shares.len() == 3 && shares.values().all(|share| *share >= clients / 3), "{shares:?}");
}

fn connected(vip: SocketAddr) -> UdpSocket {
    let own = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(own).expect("a socket");
    socket.connect(vip).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    socket
}

/// Sends so many bytes and waits for them to come back. The number of the server; `None`: no answer.
fn ask(socket: &UdpSocket, size: usize, seed: usize) -> Option<u8> {
    let question: Vec<u8> = (0..size).map(|n| (n * 31 + n / 256 * 7 + seed * 13) as u8).collect();
    socket.send(&question).ok()?;
    let mut answer = vec![0; 70_000];
    let length = socket.recv(&mut answer).ok()?;
    let (server, echoed) = answer[..length].split_first()?;
    assert!(echoed == question, "{length} bytes that differ from the {size} that were sent");
    Some(*server)
}

/// Answers its number and the question.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(at: &Namespace, address: IpAddr, number: u8) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = at.inside(|| UdpSocket::bind((address, PORT)).expect("a server socket"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut question = vec![0; 70_000];
            // Relaxed: the flag is the whole message.
            while !stopped.load(Relaxed) {
                if let Ok((length, client)) = socket.recv_from(&mut question) {
                    // One that is too large for what the kernel knows of the way is lost, as on any network.
                    let _ = socket.send_to(&[&[number], &question[..length]].concat(), client);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it panicked about, its clients have missed.
            let _ = thread.join();
        }
    }
}
