//! Aim: a flood of SYNs from random sources fills the table and nobody who is connected notices; who comes anew is served; and the commands
//! tell what happens and who it is.

use crate::support::{Family, Lab, Layout, run, wait_until};
use etherparse::PacketBuilder;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Room in the table: the least that the config allows.
const ROOM: u64 = 1000;
/// SYNs without a pause, then a millisecond of rest: the machine has other things to do, too.
const VOLLEY: usize = 32;

#[test]
fn a_flood_of_syns_disturbs_nobody_who_is_connected() {
    run("syn_flood", Layout::two_arm().bulk(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.more = format!("[conntrack]\nmax_connections = {ROOM}\n");
        lab.start_weir();
        let mut connected: Vec<TcpStream> = (0..100).map(|_| begin_request(lab)).collect();
        let flood = Flood::start(lab);
        wait_until("the table to be full and turned over", Duration::from_secs(30), || {
            (early_drops(lab) > 3 * ROOM).then_some(())
        });
        let memory = resident(lab);

        for round in 0..20 {
            for stream in &mut connected {
                write!(stream, "X-Round: {round}\r\n").expect("an established connection takes data");
            }
            wait_until(&format!("an answer to a newcomer in round {round}"), Duration::from_secs(30), || is_answered(lab));
            let status = lab.weir().status();
            assert!(status["connections"]["count"].as_u64() <= Some(ROOM), "{}", status["connections"]);
        }
        for stream in connected {
            assert_eq!(finish_request(stream).expect("an answer"), "HTTP/1.1 200 OK");
        }
        let top = json(lab, "conn top --prefix 15 --limit 3 --json");
        let first = &top["clients"][0];
        assert_eq!(first["name"], "198.18.0.0/15", "{top:#}");
        assert!(first["connections"].as_u64() > Some(ROOM / 2) && first["percent"].as_f64() > Some(50.0), "{top:#}");
        assert_eq!(top["services"][0]["name"], "web-v4", "{top:#}");
        assert_eq!(top["backends"].as_array().expect("a list").len(), 3, "{top:#}");

        let sent = flood.stop();
        let grown = resident(lab).saturating_sub(memory);
        assert!(grown < 4096, "{sent} SYNs made weir {grown} KiB larger");
    });
}

#[test]
fn what_happens_to_connections_is_told_as_it_happens() {
    run("events", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.more = "[conntrack]\naccounting = true\n[timeouts]\ntcp_time_wait = \"1s\"\ntcp_close = \"1s\"\n".into();
        lab.start_weir();
        let mut events = Events::start(lab, "--service web-v4");
        let mut destroyed = Events::start(lab, "--event destroy --src 10.1.0.2");
        wait_until("somebody to listen", Duration::from_secs(10), || events.are_listened_to(lab).then_some(()));

        let stream = begin_request(lab);
        let client = stream.local_addr().expect("an address").to_string();
        assert_eq!(finish_request(stream).expect("an answer"), "HTTP/1.1 200 OK");
        let story = events.of(&client, "destroy");
        let kinds: Vec<&str> = story.iter().filter_map(|event| event["type"].as_str()).collect();
        assert_eq!((kinds[0], kinds.contains(&"assured"), kinds.contains(&"update")), ("new", true, true), "{kinds:?}");
        let last = story.last().expect("the end");
        assert!(["closed", "reset"].contains(&last["reason"].as_str().expect("a reason")), "{last}");
        let account = &last["account"];
        assert!(account["packets"].as_u64() >= Some(4) && account["reply_bytes"].as_u64() > Some(200), "{last}");
        assert!(account["duration"].as_u64() >= Some(1000), "{last}");
        assert_eq!(destroyed.of(&client, "destroy").len(), 1, "only what was asked for");

        let one = begin_request(lab);
        let client = one.local_addr().expect("an address");
        let deleted = lab.weir().command(&format!("conn delete {client} {}:80 tcp", Family::V4.vip()));
        assert_eq!(deleted.stdout, "1 deleted\n", "{deleted}");
        let streams: Vec<TcpStream> = (0..3).map(|_| begin_request(lab)).collect();
        let refused = lab.weir().command("conn delete");
        assert_eq!(refused.code(), Some(2), "{refused}");
        assert_eq!(lab.weir().command("conn delete --service web-v6").stdout, "0 deleted\n");
        assert_eq!(lab.weir().command("conn delete --service web-v4 --state established").stdout, "3 deleted\n");
        assert_eq!(json(lab, "conn count --state established --json")["count"], 0);
        for stream in &streams {
            let story = destroyed.of(&stream.local_addr().expect("an address").to_string(), "destroy");
            assert_eq!(story[0]["reason"], "deleted");
        }
    });
}

/// The flow record of a connection says what its client's kernel says.
#[test]
fn the_record_of_a_connection_is_what_its_client_has_seen() {
    run("flow_record", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.more = "[conntrack]\naccounting = true\n[timeouts]\ntcp_time_wait = \"1s\"\ntcp_close = \"1s\"\n".into();
        lab.start_weir();
        let mut events = Events::start(lab, "--event destroy --service web-v4");
        wait_until("somebody to listen", Duration::from_secs(10), || events.are_listened_to(lab).then_some(()));

        let vip = Family::V4.vip();
        let rules = format!(
            "table ip record {{\n counter sent {{}}\n counter received {{}}\n\
             chain out {{ type filter hook output priority 0; ip daddr {vip} tcp dport 80 counter name sent; }}\n\
             chain in {{ type filter hook input priority 0; ip saddr {vip} tcp sport 80 counter name received; }}\n}}\n"
        );
        let file = lab.directory.join("record.nft");
        std::fs::write(&file, rules).expect("rules");
        // What the connections before still have to say is over.
        lab.weir().command("conn delete --service web-v4");
        lab.client.run(&format!("nft -f {}", file.display()));

        let began = Instant::now();
        let stream = begin_request(lab);
        let opened = began.elapsed();
        let client = stream.local_addr().expect("an address").to_string();
        assert_eq!(finish_request(stream).expect("an answer"), "HTTP/1.1 200 OK");
        let story = events.of(&client, "destroy");
        let lived = began.elapsed();
        let account = &story.last().expect("the end")["account"];
        let listed = lab.client.run("nft -j list counters table ip record");
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let counted = |name: &str| {
            let counters = listed["nftables"].as_array().expect("a list").iter().map(|item| &item["counter"]);
            let counter = counters.into_iter().find(|counter| counter["name"] == name).expect("the counter");
            (counter["packets"].clone(), counter["bytes"].clone())
        };
        assert_eq!((account["packets"].clone(), account["bytes"].clone()), counted("sent"), "{account}");
        assert_eq!((account["reply_packets"].clone(), account["reply_bytes"].clone()), counted("received"), "{account}");

        let number = |key: &str| account[key].as_u64().unwrap_or_else(|| panic!("{key} of {account}"));
        // tcp_time_wait or tcp_close at the end of it, in milliseconds; the round trips in microseconds.
        assert!(number("duration") >= 1000 && u128::from(number("duration")) <= lived.as_millis(), "{account}, {lived:?}");
        assert!((1..=opened.as_micros()).contains(&number("backend_rtt").into()), "{account}, {opened:?}");
        assert!((1..=lived.as_micros()).contains(&number("client_rtt").into()), "{account}");
    });
}

/// A connection whose request is not complete yet: nginx waits for the rest.
fn begin_request(lab: &Lab) -> TcpStream {
    let vip = SocketAddr::new(Family::V4.vip(), 80);
    let mut stream = lab.client.inside(|| TcpStream::connect_timeout(&vip, Duration::from_secs(20))).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(b"GET /name HTTP/1.1\r\nHost: b\r\n").expect("a request");
    stream
}

/// The first line of the answer.
fn finish_request(mut stream: TcpStream) -> std::io::Result<String> {
    stream.write_all(b"\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// One newcomer. Its SYN is sent again by its kernel if it finds no place; but a handshake that gives way before its last ACK came is
/// lost, which is rare in a table of a million and less so in one of a thousand, and then a client tries anew.
fn is_answered(lab: &Lab) -> Option<()> {
    let stream = begin_request(lab);
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    let answer = finish_request(stream).ok()?;
    assert_eq!(answer, "HTTP/1.1 200 OK");
    Some(())
}

fn json(lab: &mut Lab, command: &str) -> Value {
    let finished = lab.weir().command(command);
    assert!(finished.success(), "weir {command}: {finished}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("weir {command}: {error}\n{finished}"))
}

fn early_drops(lab: &mut Lab) -> u64 {
    let status = lab.weir().status();
    let workers = status["workers"].as_array().expect("workers");
    workers.iter().filter_map(|worker| worker["early_drops"].as_u64()).sum()
}

/// Kibibytes of weir's memory.
fn resident(lab: &mut Lab) -> u64 {
    let pid = lab.weir().status()["pid"].as_u64().expect("a pid");
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("statm");
    4 * statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("resident pages")
}

/// SYNs from random addresses of 198.18.0.0/15 (RFC 2544), to which weir's machine has no route.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Flood {
    fn start(lab: &Lab) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let IpAddr::V4(vip) = Family::V4.vip() else { unreachable!("an IPv4 address") };
        let thread = lab.client.spawn(move || {
            // IPPROTO_RAW: the packet brings its own IP header.
            let socket = Socket::new(Domain::IPV4, Type::from(libc::SOCK_RAW), Some(Protocol::from(255))).expect("a raw socket");
            let to = SocketAddr::new(vip.into(), 0).into();
            let mut random = 0x9e37_79b9_7f4a_7c15u64;
            while !stopping.load(Relaxed) {
                for _ in 0..VOLLEY {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let from = Ipv4Addr::from_bits(0xc612_0000 | (random as u32 & 0x1_ffff));
                    let port = 1024 + (random >> 40) as u16 % 60_000;
                    let syn = PacketBuilder::ipv4(from.octets(), vip.octets(), 64).tcp(port, 80, random as u32, 64_000).syn();
                    let mut packet = Vec::with_capacity(40);
                    syn.write(&mut packet, &[]).expect("a packet");
                    // A full queue loses packets of the flood, which nobody misses.
                    let _ = socket.send_to(&packet, &to);
                    count.fetch_add(1, Relaxed);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, sent, thread }
    }

    /// How many it sent.
    fn stop(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the flood");
        self.sent.load(Relaxed)
    }
}

/// `weir conn events`, and what it has said.
struct Events {
    child: Child,
    lines: std::sync::mpsc::Receiver<Value>,
    by_client: BTreeMap<String, Vec<Value>>,
}

impl Events {
    fn start(lab: &mut Lab, filter: &str) -> Self {
        let mut child = lab.weir().background(&format!("conn events {filter}"), Stdio::piped());
        let output = child.stdout.take().expect("piped");
        let (tell, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                // The test may be over.
                let _ = tell.send(event);
            }
        });
        Self { child, lines, by_client: BTreeMap::new() }
    }

    fn gather(&mut self) {
        for event in self.lines.try_iter() {
            assert_ne!(event["type"], "lost", "{event}");
            let client = event["source"].as_str().expect("a source").to_owned();
            self.by_client.entry(client).or_default().push(event);
        }
    }

    /// A connection is opened, and heard of.
    fn are_listened_to(&mut self, lab: &Lab) -> bool {
        drop(finish_request(begin_request(lab)));
        self.gather();
        !self.by_client.is_empty()
    }

    /// What happened to the connection of this client until `last` did.
    fn of(&mut self, client: &str, last: &str) -> Vec<Value> {
        wait_until(&format!("{last} of {client}"), Duration::from_secs(20), || {
            self.gather();
            let story = self.by_client.get(client)?;
            story.iter().any(|event| event["type"] == last).then(|| story.clone())
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It may have ended with weir.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
