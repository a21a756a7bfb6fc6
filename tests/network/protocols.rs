//! Aim: protocols other than TCP and UDP through weir: ping by the backends, SCTP between two real stacks, tunnels and DCCP byte by byte.
//!
//! The kernel that these tests were written on has neither SCTP, DCCP nor GRE interfaces. SCTP is usrsctp's stack, in user space over raw
//! sockets (Debian's libusrsctp-examples); the ends of DCCP and GRE are raw sockets that this file answers.

use crate::support::{Backend, Background, Family, Lab, Layout, Namespace, ping, run, wait_until};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const GRE: i32 = 47;
const DCCP: i32 = 33;
const SOON: Duration = Duration::from_secs(10);

/// A service of each family, over all three backends.
fn serve(lab: &mut Lab, protocol: &'static str, port: u16) {
    for family in Family::BOTH {
        let backends = (1..=3).map(|number| (SocketAddr::new(family.backend(number), port), 1)).collect();
        lab.config.add(&format!("{protocol}-{}", family.name()), SocketAddr::new(family.vip(), port), protocol, backends);
    }
}

/// Echoes that this host has received, by its own count.
fn echoes(at: &Namespace, family: Family) -> u64 {
    let file = if family == Family::V4 { "/proc/net/snmp" } else { "/proc/net/snmp6" };
    let text = at.run(&format!("cat {file}"));
    if family == Family::V6 {
        let line = text.lines().find(|line| line.starts_with("Icmp6InEchos")).expect("Icmp6InEchos");
        return line.split_whitespace().last().and_then(|count| count.parse().ok()).expect("a number");
    }
    let mut lines = text.lines().filter(|line| line.starts_with("Icmp:")).map(|line| line.split_whitespace());
    let (mut names, mut values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.position(|name| name == "InEchos").expect("InEchos");
    values.nth(at).and_then(|count| count.parse().ok()).expect("a number")
}

#[test]
fn ping_is_answered_by_the_backends() {
    run("ping", Layout::two_arm(), |lab| {
        serve(lab, "icmp", 0);
        lab.start_weir();
        for family in Family::BOTH {
            // A backend each: then all neighbours are known, and no echo waits for one longer than weir does.
            for _ in 0..3 {
                wait_until("an answer to a ping", SOON, || ping(&lab.client, family.vip()).then_some(()));
            }
            let before = echoes(&lab.node, family);
            let earlier: Vec<u64> = lab.backends.iter().map(|backend| echoes(&backend.namespace, family)).collect();
            // Each run of ping is an identifier of its own: a connection, and the next backend.
            for _ in 0..6 {
                let output = lab.client.run(&format!("ping -n -c 10 -i 0.02 -W 5 -s 1000 {}", family.vip()));
                assert!(output.contains(" 0% packet loss"), "{output}");
            }
            let since = |(backend, earlier): (&Backend, &u64)| echoes(&backend.namespace, family) - earlier;
            let answered: Vec<u64> = lab.backends.iter().zip(&earlier).map(since).collect();
            assert_eq!(answered, [20, 20, 20], "{family:?}");
            assert_eq!(echoes(&lab.node, family), before, "weir's host heard nothing of it");
            // Its own addresses stay the host's.
            lab.client.run(&format!("ping -n -c 1 -W 5 {}", family.weir()));
            assert_eq!(echoes(&lab.node, family), before + 1);
            let protocol = if family == Family::V4 { "icmp" } else { "icmpv6" };
            let count = lab.weir().command(&format!("conn count --proto {protocol}")).stdout;
            assert!(count.trim().parse::<u32>().is_ok_and(|count| count >= 6), "{count}");
        }
    });
}

const SCTP_CLIENT: &str = "/usr/lib/usrsctp/client";
const SCTP_SERVER: &str = "/usr/lib/usrsctp/echo_server";

#[test]
fn sctp_between_real_stacks() {
    if !Path::new(SCTP_CLIENT).exists() {
        println!("SKIP sctp_between_real_stacks: {SCTP_CLIENT} is missing (apt-get install libusrsctp-examples)");
        return;
    }
    run("sctp", Layout::two_arm(), |lab| {
        serve(lab, "sctp", 7);
        lab.start_weir();
        let log = lab.directory.join("sctp.log");
        let start = |namespace: &Namespace| Background::start(namespace.command(SCTP_SERVER), &log);
        let servers: Vec<_> = lab.backends.iter().map(|backend| start(&backend.namespace)).collect();
        // A raw socket of SCTP is there: the server listens.
        for backend in &lab.backends {
            wait_until("a server of SCTP", SOON, || backend.namespace.run("cat /proc/net/raw").contains(":0084").then_some(()));
        }
        for family in Family::BOTH {
            for session in 0..6 {
                let lines: Vec<String> = (0..20).map(|line| format!("line {line} of session {session}")).collect();
                let output = converse(&lab.client, family.vip(), 5000 + session, &lines);
                for line in &lines {
                    assert!(output.lines().any(|said| said == line), "{line:?} did not come back:\n{output}");
                }
                assert!(output.contains("SCTP_COMM_UP") && output.contains("SCTP_SHUTDOWN_COMP"), "{output}");
            }
        }
        let listed = lab.weir().command("conn list --proto sctp --json").stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("a list");
        let listed = listed.as_array().expect("a list");
        let backends: BTreeSet<&str> = listed.iter().filter_map(|connection| connection["backend"].as_str()).collect();
        let states: BTreeSet<&str> = listed.iter().filter_map(|connection| connection["state"].as_str()).collect();
        assert!(backends.len() == 6 || listed.len() < 12, "three of each family: {backends:?}");
        assert!(states.iter().all(|state| *state == "CLOSED"), "all are shut down: {states:?}");
        drop(servers);
        // The ends know of each other's further addresses, and try them in vain; nothing else was refused.
        let drops = lab.weir().drops();
        assert!(drops.keys().all(|reason| reason == "sctp_not_init"), "{drops:?}");
    });
}

/// Says each line, waits for the answers, and shuts the association down.
fn converse(from: &Namespace, vip: IpAddr, port: u16, lines: &[String]) -> String {
    let mut command = from.command(SCTP_CLIENT);
    command.args([&vip.to_string(), "7", &port.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the SCTP client");
    let mut input = child.stdin.take().expect("piped");
    let said: Vec<String> = lines.to_vec();
    let output = child.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        use std::io::{BufRead, BufReader};
        let mut text = String::new();
        let mut echoed = 0;
        // One line, one answer: the end of the input ends the association, and what is under way then is lost.
        let mut output = BufReader::new(output);
        for line in said {
            writeln!(input, "{line}").expect("say");
            loop {
                let mut heard = String::new();
                if output.read_line(&mut heard).unwrap_or(0) == 0 {
                    return text;
                }
                text += &heard;
                if heard.trim_end() == line {
                    echoed += 1;
                    break;
                }
            }
        }
        drop(input);
        while output.read_line(&mut text).unwrap_or(0) > 0 {}
        assert!(echoed > 0);
        text
    });
    // What it says about the association goes to stderr.
    let mut stderr = child.stderr.take().expect("piped");
    let complaints = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut text).map(|_| text).unwrap_or_default()
    });
    let ended = wait_until_ended(&mut child);
    let output = reader.join().expect("reader");
    let complaints = complaints.join().expect("reader");
    assert!(ended, "the SCTP client hangs:\n{output}{complaints}");
    output + &complaints
}

fn wait_until_ended(child: &mut std::process::Child) -> bool {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while std::time::Instant::now() < deadline {
        if child.try_wait().expect("wait for a child").is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// A raw socket of a protocol, bound to an address.
fn raw(address: IpAddr, protocol: i32) -> UdpSocket {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::from(libc::SOCK_RAW), Some(Protocol::from(protocol))).expect("a raw socket");
    socket.bind(&SockAddr::from(SocketAddr::new(address, 0))).expect("bind");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    // For its calls alone: they are the same.
    socket.into()
}

/// What arrived and from whom, without the IP header (which raw sockets of IPv4 hand over).
fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, IpAddr)> {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    let header = if from.is_ipv4() { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
    Some((buffer[header..length].to_vec(), from.ip()))
}

fn send(socket: &UdpSocket, packet: &[u8], to: IpAddr) {
    let sent = socket.send_to(packet, SocketAddr::new(to, 0)).expect("send");
    assert_eq!(sent, packet.len());
}

/// Answers what arrives at an address until it is dropped.
struct Answerer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Answerer {
    fn start(
        at: &Namespace,
        address: IpAddr,
        protocol: i32,
        answer: impl Fn(&[u8], IpAddr, IpAddr) -> Option<Vec<u8>> + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = at.inside(|| raw(address, protocol));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // Relaxed: the flag is the whole message.
            while !stopped.load(Relaxed) {
                let Some((packet, from)) = receive(&socket) else { continue };
                if let Some(answer) = answer(&packet, address, from) {
                    send(&socket, &answer, from);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it panicked about, its client has missed.
            let _ = thread.join();
        }
    }
}

/// Sends until an answer comes that fits: the first packets may wait for a neighbour longer than a read does, and what is sent twice is
/// answered twice.
fn ask(socket: &UdpSocket, packet: &[u8], to: IpAddr, fits: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    wait_until("an answer", SOON, || {
        send(socket, packet, to);
        while let Some((answer, from)) = receive(socket) {
            assert_eq!(from, to, "an answer of somebody else");
            if fits(&answer) {
                return Some(answer);
            }
        }
        None
    })
}

#[test]
fn tunnels_by_key() {
    run("gre", Layout::two_arm(), |lab| {
        serve(lab, "gre", 0);
        lab.start_weir();
        for family in Family::BOTH {
            let mirror = |packet: &[u8], own: IpAddr, _: IpAddr| Some([packet, own.to_string().as_bytes()].concat());
            let _backends: Vec<Answerer> = (lab.backends.iter().zip(1..))
                .map(|(backend, number)| Answerer::start(&backend.namespace, family.backend(number), GRE, mirror))
                .collect();
            lab.client.inside(|| {
                let socket = raw(family.client(), GRE);
                let mut backends = Vec::new();
                for key in 1..=6u32 {
                    // RFC 2890: a key, and a protocol type that nobody looks into.
                    let packet = [&[0x20, 0, 0x88, 0xb5], &key.to_be_bytes()[..], b"payload "].concat();
                    let is_its = |answer: &[u8]| answer.starts_with(&packet);
                    let first = ask(&socket, &packet, family.vip(), is_its);
                    let again = ask(&socket, &packet, family.vip(), is_its);
                    assert_eq!(first, again, "a tunnel keeps its backend");
                    backends.push(first[packet.len()..].to_vec());
                }
                assert_eq!(backends[..3], backends[3..], "in turn");
                assert_eq!(backends.iter().collect::<BTreeSet<_>>().len(), 3);
            });
        }
        // Another client with a key that is in use toward every backend: one more for each, then none is left.
        lab.client.ip("address add 10.1.0.3/24 dev eth0");
        lab.client.inside(|| {
            let socket = raw("10.1.0.3".parse().expect("an address"), GRE);
            let packet = [&[0x20, 0, 0x88, 0xb5], &1u32.to_be_bytes()[..]].concat();
            // Backend 1 has a client with key 1; the round goes on at 1.
            for _ in 0..3 {
                send(&socket, &packet, Family::V4.vip());
            }
        });
        let clash = || lab.weir().drops().contains_key("gre_clash").then_some(());
        wait_until("a clash", SOON, clash);
        let shown = lab.weir().command("conn show 10.1.0.2 10.1.0.100 gre --key 1 --json").stdout;
        assert!(shown.contains("\"key\": 1") || shown.contains("\"key\":1"), "{shown}");
        what_commands_say_of_tunnels(lab);
    });
}

/// No ports where there are none, keys where there are some, and no silence about what there is not.
fn what_commands_say_of_tunnels(lab: &mut Lab) {
    for command in ["conn list --proto gre", "conn show 10.1.0.2 10.1.0.100 gre --key 1", "conn top", "status"] {
        let said = lab.weir().command(command).stdout;
        assert!(said.contains("10.2.0.1") && !said.contains(":0 ") && !said.contains(":0\n"), "{command}: {said}");
    }
    let said = lab.weir().command("explain 10.1.0.2 10.1.0.100 gre --key 1").stdout;
    assert!(said.contains("steering: gre to 10.1.0.100 with key 1 is a service"), "{said}");
    assert!(said.contains("known gre connection with key 1, 10.1.0.2 -> 10.1.0.100\n"), "{said}");
    let said = lab.weir().command("explain 10.1.0.2 10.1.0.100 gre --key 77").stdout;
    assert!(said.contains("no other client has a tunnel with key 77 by it to 10.2.0.1"), "{said}");
    let refused = lab.weir().command("conn show 10.1.0.2 10.1.0.100 gre --key 77");
    assert!(refused.stderr.contains("no connection has this packet: gre 10.1.0.2 -> 10.1.0.100, key 77"), "{refused}");
    for (command, why) in [
        ("conn list --service nope", "there is no service `nope`: allowed are `"),
        ("conn count --service nope", "there is no service `nope`: allowed are `"),
        ("conn delete --service nope", "there is no service `nope`: allowed are `"),
        ("conn top --proto tcp --state COOKIE_WAIT", "tcp has no state `COOKIE_WAIT`: allowed are `NONE`"),
        ("conn events --proto gre --state CLOSE", "gre has no state `CLOSE`: allowed are `STREAM`"),
    ] {
        let refused = lab.weir().command(command);
        assert_eq!((refused.code(), refused.stderr.contains(why)), (Some(1), true), "{command}: {refused}");
    }
    assert!(lab.weir().command("conn count").stdout.trim().parse::<u32>().is_ok_and(|count| count > 0), "nothing was deleted");
}

/// RFC 1071 over the pseudo header and the packet.
fn checksum(packet: &[u8], from: IpAddr, to: IpAddr) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let pseudo = [octets(from), octets(to), vec![0, 33], (packet.len() as u16).to_be_bytes().to_vec()].concat();
    let whole = [pseudo, packet.to_vec()].concat();
    let words = whole.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum = words.fold(0, |sum, word| (sum + word) % 0xffff);
    !(sum as u16)
}

/// The types of DCCP's packets in the order in which they are sent here: Request, Response, Ack, DataAck, Close, Reset.
const CONVERSATION: [u8; 6] = [0, 1, 3, 4, 6, 7];

/// A DCCP packet of that conversation: ports, type, data, its number, which is that of its type and 9, and an acknowledgment of the packet
/// before it.
fn dccp(ports: (u16, u16), kind: u8, data: &[u8], addresses: (IpAddr, IpAddr)) -> Vec<u8> {
    let mut packet = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    packet.extend([0, 0, 0, 0, kind << 1 | 1, 0, 0, 0, 0, 0, 0, 9 + kind]);
    if let Some(answered) = CONVERSATION.iter().rev().find(|other| **other < kind) {
        packet.extend([0, 0, 0, 0, 0, 0, 0, 9 + answered]);
    }
    if matches!(kind, 0 | 1 | 7) {
        packet.extend(*b"serv");
    }
    packet[4] = (packet.len() / 4) as u8;
    packet.extend(data);
    let sum = checksum(&packet, addresses.0, addresses.1);
    packet[6..8].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn is_whole(packet: &[u8], from: IpAddr, to: IpAddr) -> bool {
    matches!(checksum(packet, from, to), 0 | 0xffff)
}

/// Response to a Request, DataAck to an Ack, Reset to a Close; nothing to what came damaged.
fn answer_dccp(packet: &[u8], own: IpAddr, from: IpAddr) -> Option<Vec<u8>> {
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let kind = match packet[8] >> 1 & 0xf {
        0 => 1,
        3 => 4,
        6 => 7,
        _ => return None,
    };
    let name = own.to_string();
    is_whole(packet, from, own).then(|| dccp((port(2), port(0)), kind, name.as_bytes(), (own, from)))
}

#[test]
fn dccp_connections() {
    run("dccp", Layout::two_arm(), |lab| {
        serve(lab, "dccp", 5001);
        lab.start_weir();
        for family in Family::BOTH {
            let _backends: Vec<Answerer> = (lab.backends.iter().zip(1..))
                .map(|(backend, number)| Answerer::start(&backend.namespace, family.backend(number), DCCP, answer_dccp))
                .collect();
            let (client, vip) = (family.client(), family.vip());
            lab.client.inside(|| {
                let socket = raw(client, DCCP);
                let mut backends = BTreeSet::new();
                for port in 6000u16..6006 {
                    let mut said = Vec::new();
                    for (kind, expected) in [(0, 1), (3, 4), (6, 7)] {
                        // From the VIP's port to the client's.
                        let ports = [5001u16.to_be_bytes(), port.to_be_bytes()].concat();
                        let is_its = |answer: &[u8]| answer.starts_with(&ports) && answer[8] >> 1 & 0xf == expected;
                        let answer = ask(&socket, &dccp((port, 5001), kind, b"", (client, vip)), vip, is_its);
                        assert!(is_whole(&answer, vip, client), "the checksum holds");
                        said.push(answer[usize::from(answer[4]) * 4..].to_vec());
                    }
                    assert!(said.windows(2).all(|two| two[0] == two[1]), "one backend: {said:?}");
                    backends.extend(said);
                }
                assert_eq!(backends.len(), 3);
            });
        }
        let states = lab.weir().command("conn list --proto dccp --json").stdout;
        assert_eq!(states.matches("TIMEWAIT").count(), 12, "{states}");
    });
}
