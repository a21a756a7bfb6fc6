//! Aim: a drain is a contract: nobody notices who is drained in time; at the deadline both ends know, and nothing outlives it, however much is sent.

use crate::support::{Background, Config, Family, Lab, Layout, Load, answers, failures, run, wait_until};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How late what happens at a deadline may be seen to have happened: this machine does other things.
const LATE: Duration = Duration::from_secs(2);
const TEN_SECONDS: Duration = Duration::from_secs(10);

fn pool_of(family: Family) -> String {
    format!("web-{}", family.name())
}

fn vip(family: Family) -> SocketAddr {
    SocketAddr::new(family.vip(), 80)
}

fn backend(family: Family, number: usize) -> SocketAddr {
    SocketAddr::new(family.backend(number), 80)
}

#[track_caller]
fn command(lab: &mut Lab, arguments: &str) -> String {
    let finished = lab.weir().command(arguments);
    assert!(finished.success(), "weir {arguments}: {finished}");
    finished.stdout
}

/// The lines of `weir status` about backends that drain.
fn draining(lab: &mut Lab) -> Vec<serde_json::Value> {
    lab.weir().status()["draining"].as_array().expect("backends that drain").clone()
}

fn reload(lab: &mut Lab, config: &Config) {
    lab.weir().write_config(config);
    command(lab, "reload");
}

/// A client that has connected and then only waits for what comes.
struct Held {
    thread: JoinHandle<(ErrorKind, Instant)>,
}

impl Held {
    /// Connects, and asks for the first half of a request, so that the server waits for the rest of it.
    fn open(lab: &Lab, target: SocketAddr) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let thread = lab.client.spawn(move || {
            let mut stream = TcpStream::connect_timeout(&target, TEN_SECONDS).expect("connect");
            stream.write_all(b"GET /name HTTP/1.0\r\n").expect("half a request");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
            tell.send(()).expect("the test waits");
            let end = stream.read(&mut [0; 100]).map_or_else(|error| error.kind(), |_| ErrorKind::UnexpectedEof);
            (end, Instant::now())
        });
        told.recv_timeout(TEN_SECONDS).expect("the client is connected");
        Self { thread }
    }

    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// How it ended, and when.
    #[track_caller]
    fn end(self) -> (ErrorKind, Instant) {
        self.thread.join().expect("the client")
    }
}

/// Sockets of TCP connections that a backend has with weir, in any state but TIME_WAIT.
fn sockets(lab: &Lab, number: usize) -> usize {
    let listed = lab.backends[number - 1].namespace.run("ss -Htn state connected exclude time-wait sport = :80");
    listed.lines().filter(|line| Family::BOTH.iter().any(|family| line.contains(&family.snat().to_string()))).count()
}

/// Who serves new connections, one after the other.
fn served_by(lab: &Lab, family: Family) -> Vec<String> {
    let load = Load::start(&lab.client, &[vip(family)], 1);
    load.wait_for(30);
    let outcomes = load.stop();
    assert_eq!(failures(&outcomes), [""; 0]);
    answers(&outcomes).into_keys().map(str::to_owned).collect()
}

/// Drain, wait until it is empty, restart, take back: one backend after the other, and no request fails, and no transfer: neither one of the
/// backend that is drained, which ends before the deadline, nor those of the others.
#[test]
fn a_rolling_restart_by_drain_fails_no_request() {
    run("rolling_restart", Layout::two_arm().bulk(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        let servers = (1..=3).map(|number| (SocketAddr::new(Family::V4.backend(number), 5201), 1)).collect();
        lab.config.add("iperf-v4", SocketAddr::new(Family::V4.vip(), 5201), "tcp", servers);
        // The connections of one transfer have to meet.
        lab.config.set_scheduler("iperf-v4", "source_hash");
        lab.config.set_drain("iperf-v4", r#"{ deadline = "60s", tcp = "rst" }"#);
        lab.start_weir();
        let mut sinks: Vec<Sink> = (1..=3).map(|number| Sink::start(lab, number)).collect();
        let load = Load::start(&lab.client, &Family::BOTH.map(vip), 2);
        let curls: Vec<Background> = Family::BOTH.map(|family| curl_forever(lab, family)).into();
        load.wait_for(200);
        let mut were_at = Vec::new();
        for number in 1..=3 {
            for family in Family::BOTH {
                let target = format!("{} {}", pool_of(family), backend(family, number));
                command(lab, &format!("drain --wait {target}"));
            }
            assert_eq!(sockets(lab, number), 0, "b{number} is empty");
            let mut transfer = Transfer::start(lab, 8);
            let home = wait_until("somebody to have the transfer", TEN_SECONDS, || sinks.iter().position(Sink::is_busy)) + 1;
            were_at.push(home == number);
            command(lab, &format!("drain --wait iperf-v4 {}", Family::V4.backend(number)));
            assert_eq!(home == number, transfer.has_ended(), "it waits for the transfers of b{number}, and no others");
            lab.backends[number - 1].stop();
            sinks[number - 1].stop();
            let before = load.outcomes().len();
            load.wait_for(100);
            let meanwhile = load.outcomes();
            assert!(!answers(&meanwhile[before..]).contains_key(format!("b{number}").as_str()), "b{number} was drained");
            transfer.succeed();
            wait_until("everybody to be free", TEN_SECONDS, || (!sinks.iter().any(Sink::is_busy)).then_some(()));
            Transfer::start(lab, 1).succeed();
            lab.backends[number - 1].start();
            sinks[number - 1] = Sink::start(lab, number);
            for family in Family::BOTH {
                command(lab, &format!("undrain {}/{}", pool_of(family), backend(family, number)));
            }
            command(lab, &format!("undrain iperf-v4 {}", Family::V4.backend(number)));
            wait_until("everybody to be free", TEN_SECONDS, || (!sinks.iter().any(Sink::is_busy)).then_some(()));
            let name = format!("b{number}");
            let after = load.outcomes().len();
            wait_until("the restarted one to serve", TEN_SECONDS, || {
                answers(&load.outcomes()[after..]).get(name.as_str()).map(drop)
            });
        }
        assert!(were_at.contains(&true), "no transfer was at the one that was drained");
        let outcomes = load.stop();
        assert_eq!(failures(&outcomes), [""; 0], "of {} requests", outcomes.len());
        assert_eq!(answers(&outcomes).len(), 3);
        for curl in curls {
            let said = curl.output();
            let failed: Vec<&str> = said.lines().filter(|line| line.starts_with('!') && line.trim_end() != "!200").collect();
            assert_eq!(failed, [""; 0], "curl");
            assert!(said.lines().filter(|line| line.trim_end() == "!200").count() > 200, "{said}");
        }
    });
}

/// iperf3 as a server on a backend, for one transfer after the other.
struct Sink {
    running: Option<Background>,
}

impl Sink {
    fn start(lab: &Lab, number: usize) -> Self {
        let log = lab.directory.join(format!("iperf3-b{number}.log"));
        let _ = std::fs::remove_file(&log);
        let mut server = lab.backends[number - 1].namespace.command("iperf3");
        server.args(["--server", "--forceflush"]);
        let running = Background::start(server, &log);
        wait_until("iperf3 to listen", TEN_SECONDS, || running.output().contains("Server listening").then_some(()));
        Self { running: Some(running) }
    }

    /// Whether data of a transfer comes in: it listens again after each.
    fn is_busy(&self) -> bool {
        let said = self.running.as_ref().map(Background::output).unwrap_or_default();
        said.rfind("bits/sec").is_some_and(|data| said.rfind("Server listening").is_none_or(|listens| listens < data))
    }

    fn stop(&mut self) {
        self.running = None;
    }
}

/// iperf3 for some seconds through the VIP, at a rate that leaves the machine some air.
struct Transfer {
    client: Background,
}

impl Transfer {
    fn start(lab: &Lab, seconds: u32) -> Self {
        let mut client = lab.client.command("iperf3");
        client.args([
            "--client",
            &Family::V4.vip().to_string(),
            "--time",
            &seconds.to_string(),
            "--bitrate",
            "100M",
            "--forceflush",
        ]);
        let log = lab.directory.join("iperf3-client.log");
        let _ = std::fs::remove_file(&log);
        Self { client: Background::start(client, &log) }
    }

    fn has_ended(&mut self) -> bool {
        self.client.ended().is_some()
    }

    #[track_caller]
    fn succeed(&mut self) {
        let end = self.client.wait(Duration::from_secs(30));
        assert!(end.is_some_and(|end| end.success()), "iperf3:\n{}", self.client.output());
    }
}

/// curl, one request after the other, each over a new connection.
fn curl_forever(lab: &Lab, family: Family) -> Background {
    let mut command = lab.client.command("curl");
    let host = family.url("name").replace('[', "\\[").replace(']', "\\]");
    command.args([
        "--no-progress-meter",
        "--rate",
        "100/s",
        "--connect-timeout",
        "5",
        "--max-time",
        "100",
        "--output",
        "/dev/null",
    ]);
    command.args(["--write-out", "%{stderr}!%{http_code} %{errormsg}\\n", &format!("{host}?[1-100000]")]);
    Background::start(command, &lab.directory.join(format!("curl-{}.log", family.name())))
}

/// A connection that stays as it is until it is dropped.
fn idle(lab: &Lab, target: SocketAddr) -> TcpStream {
    lab.client.inside(|| TcpStream::connect_timeout(&target, TEN_SECONDS).expect("connect"))
}

/// `weir drain --wait` ends well when the backend is empty, whatever it was called, and not before; when it may get connections again, it fails.
#[test]
fn a_wait_ends_when_the_backend_is_empty_or_drained_no_more() {
    run("drain_wait", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 0, 0]);
        lab.start_weir();
        let IpAddr::V6(address) = Family::V6.backend(1) else { unreachable!("a family has its addresses") };
        let written_out = address.segments().map(|segment| format!("{segment:04X}")).join(":");
        let wait = |lab: &mut Lab, backend: &str| {
            let client = lab.weir().background(&format!("drain --wait web-v6 {backend}"), Stdio::null());
            wait_until("the drain", TEN_SECONDS, || (!draining(lab).is_empty()).then_some(()));
            client
        };
        let code =
            |mut client: Child| wait_until("the end of the wait", TEN_SECONDS, || client.try_wait().expect("a child")).code();

        let first = idle(lab, vip(Family::V6));
        let mut waiting = wait(lab, &format!("[{written_out}]"));
        assert_eq!(waiting.try_wait().expect("a child"), None, "there is a connection");
        command(lab, &format!("undrain web-v6 {written_out}"));
        assert_eq!(code(waiting), Some(1), "it may get connections again");

        let waiting = wait(lab, &format!("[{written_out}]:80"));
        drop(first);
        assert_eq!(code(waiting), Some(0), "it is empty");
        command(lab, "undrain web-v6 fd00:2::11");

        let second = idle(lab, vip(Family::V6));
        let mut waiting = wait(lab, "fd00:2::11");
        let mut without = lab.config.clone();
        without.backends("web-v6").remove(0);
        reload(lab, &without);
        assert_eq!(waiting.try_wait().expect("a child"), None, "removed, and not empty");
        let with = lab.config.clone();
        reload(lab, &with);
        assert_eq!(code(waiting), Some(1), "it is put back");

        let waiting = wait(lab, "fd00:2::11");
        reload(lab, &without);
        drop(second);
        assert_eq!(code(waiting), Some(0), "it is empty");
    });
}

/// Connections that are held open are reset on both sides, and both kernels believe it.
#[test]
fn both_ends_are_reset_at_the_deadline() {
    for (name, layout) in [("deadline", Layout::two_arm()), ("deadline_one_arm", Layout::one_arm().queues(2))] {
        run(name, layout, |lab| {
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            for family in Family::BOTH {
                lab.config.set_drain(&pool_of(family), r#"{ deadline = "2s" }"#);
            }
            lab.start_weir();
            for family in Family::BOTH {
                let held: Vec<Held> = (0..9).map(|_| Held::open(lab, vip(family))).collect();
                wait_until("three at each backend", TEN_SECONDS, || (1..=3).all(|at| sockets(lab, at) == 3).then_some(()));
                let began = Instant::now();
                let said = command(lab, &format!("drain {} {}", pool_of(family), backend(family, 2)));
                assert!(
                    said.contains("3 connections left: its connections have 2s to end, then TCP is reset and UDP moves"),
                    "{said}"
                );
                wait_until("the deadline", TEN_SECONDS, || {
                    (held.iter().filter(|held| held.has_ended()).count() == 3).then_some(())
                });
                wait_until("b2 to be empty", LATE, || (sockets(lab, 2) == 0).then_some(()));
                let (ended, others): (Vec<Held>, Vec<Held>) = held.into_iter().partition(Held::has_ended);
                for (end, at) in ended.into_iter().map(Held::end) {
                    let took = at - began;
                    assert_eq!(end, ErrorKind::ConnectionReset);
                    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(2) + LATE, "{took:?}");
                }
                assert_eq!(
                    (sockets(lab, 1), sockets(lab, 3), others.iter().any(Held::has_ended)),
                    (3, 3, false),
                    "the others stay"
                );
                let [line] = &draining(lab)[..] else { panic!("one backend drains") };
                assert_eq!((&line["connections"], &line["seconds_left"]), (&0.into(), &0.into()), "{line}");
                // The others too, all at once.
                for number in [1, 3] {
                    command(lab, &format!("drain {} {}", pool_of(family), backend(family, number)));
                }
                assert!(others.into_iter().all(|held| held.end().0 == ErrorKind::ConnectionReset));
                wait_until("all to be empty", LATE, || (1..=3).all(|at| sockets(lab, at) == 0).then_some(()));
                for number in 1..=3 {
                    command(lab, &format!("undrain {} {}", pool_of(family), backend(family, number)));
                }
                assert_eq!(served_by(lab, family).len(), 3);
            }
        });
    }
}

/// Data in flight is no obstacle: iperf3 at full rate, either way, ends with a reset.
#[test]
fn a_transfer_at_full_rate_is_reset_at_the_deadline() {
    run("deadline_iperf3", Layout::two_arm().bulk(), |lab| {
        for family in Family::BOTH {
            let backend = SocketAddr::new(family.backend(1), 5201);
            lab.config.add(&format!("iperf-{}", family.name()), SocketAddr::new(family.vip(), 5201), "tcp", vec![(backend, 1)]);
            lab.config.set_drain(&format!("iperf-{}", family.name()), r#"{ deadline = "1s" }"#);
        }
        lab.start_weir();
        for (family, reverse) in Family::BOTH.into_iter().flat_map(|family| [(family, ""), (family, "--reverse")]) {
            let log = lab.directory.join("iperf3-server.log");
            let _ = std::fs::remove_file(&log);
            let mut server = lab.backends[0].namespace.command("iperf3");
            server.args(["--server", "--one-off", "--forceflush"]);
            let mut server = Background::start(server, &log);
            wait_until("iperf3 to listen", TEN_SECONDS, || server.output().contains("Server listening").then_some(()));
            let mut client = lab.client.command("iperf3");
            client.args(["--client", &family.vip().to_string(), "--time", "60", "--interval", "1", "--forceflush"]);
            client.args(reverse.split_whitespace());
            let log = lab.directory.join(format!("iperf3-client-{}{reverse}.log", family.name()));
            let mut client = Background::start(client, &log);
            wait_until("data to flow", TEN_SECONDS, || (client.output().matches("bits/sec").count() >= 2).then_some(()));

            let began = Instant::now();
            let target = format!("iperf-{} {}", family.name(), family.backend(1));
            command(lab, &format!("drain {target}"));
            let end = client.wait(Duration::from_secs(1) + LATE);
            assert!(end.is_some_and(|end| !end.success()), "iperf3 {family:?} {reverse} goes on:\n{}", client.output());
            assert!(began.elapsed() >= Duration::from_secs(1), "before the deadline");
            // Its control connection is the first to be read or written: one that was reset is told either way.
            let said = client.output();
            assert!(said.contains("reset by peer") || said.contains("Broken pipe"), "{said}");
            assert!(server.wait(LATE).is_some(), "the server's end is open still:\n{}", server.output());
            wait_until("nothing to be left", LATE, || (lab.weir().status()["draining"][0]["connections"] == 0).then_some(()));
            command(lab, &format!("undrain {target}"));
        }
    });
}

/// A sender that needs no answer, and does not stop.
struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// By backend.
    received: [Arc<AtomicU64>; 2],
}

impl Flood {
    fn start(lab: &Lab, family: Family, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let received: [Arc<AtomicU64>; 2] = Default::default();
        let mut threads = Vec::new();
        for (at, count) in received.iter().enumerate() {
            let socket = lab.backends[at].namespace.inside(|| UdpSocket::bind((family.backend(at + 1), port)).expect("bind"));
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
            let (stop, count) = (Arc::clone(&stop), Arc::clone(count));
            threads.push(std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    count.fetch_add(u64::from(socket.recv(&mut [0; 100]).is_ok()), Relaxed);
                }
            }));
        }
        let (vip, stopped) = (SocketAddr::new(family.vip(), port), Arc::clone(&stop));
        threads.push(lab.client.spawn(move || {
            let any: IpAddr = if vip.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
            let socket = UdpSocket::bind((any, 0)).expect("bind");
            socket.connect(vip).expect("connect");
            while !stopped.load(Relaxed) {
                // Whoever receives is slower: what its kernel has no room for is lost, as it is on a wire.
                let _ = socket.send(b"datagram");
            }
        }));
        Self { stop, threads, received }
    }

    fn received(&self, at: usize) -> u64 {
        self.received[at].load(Relaxed)
    }

    /// Waits until datagrams arrive at this one.
    #[track_caller]
    fn arrive_at(&self, at: usize, limit: Duration) {
        let before = self.received(at);
        wait_until("datagrams to arrive there", limit, || (self.received(at) > before).then_some(()));
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // What it panicked about, the test has missed.
            let _ = thread.join();
        }
    }
}

/// Traffic that never stops keeps nothing at a backend that was removed: with `expire` until the deadline, with `rehash` not at all.
#[test]
fn datagrams_at_full_rate_leave_a_removed_backend_in_time() {
    run("drain_udp", Layout::two_arm().bulk(), |lab| {
        const DEADLINE: Duration = Duration::from_secs(2);
        for (family, udp, port) in [(Family::V4, "expire", 7001), (Family::V4, "rehash", 7002), (Family::V6, "expire", 7003)] {
            let name = format!("{udp}-{}", family.name());
            let servers = (1..=2).map(|number| (SocketAddr::new(family.backend(number), port), 1)).collect();
            lab.config.add(&name, SocketAddr::new(family.vip(), port), "udp", servers);
            lab.config.set_drain(&name, &format!(r#"{{ deadline = "2s", udp = "{udp}" }}"#));
        }
        lab.start_weir();
        let complete = lab.config.clone();
        for (family, udp, port) in [(Family::V4, "expire", 7001), (Family::V4, "rehash", 7002), (Family::V6, "expire", 7003)] {
            let flood = Flood::start(lab, family, port);
            let at = wait_until("datagrams to arrive", TEN_SECONDS, || (0..2).find(|at| flood.received(*at) > 1000));
            let mut without = complete.clone();
            without.backends(&format!("{udp}-{}", family.name())).remove(at);
            let began = Instant::now();
            reload(lab, &without);
            if udp == "expire" {
                assert_eq!(flood.received(1 - at), 0, "it stays until the deadline");
                let line = draining(lab).pop().expect("the one that was removed");
                assert_eq!((&line["cause"], &line["connections"]), (&"removed".into(), &1.into()), "{line}");
            }
            flood.arrive_at(1 - at, TEN_SECONDS);
            let took = began.elapsed();
            match udp {
                "expire" => assert!(took >= DEADLINE && took < DEADLINE + LATE, "{took:?}"),
                _ => assert!(took < DEADLINE, "{took:?}"),
            }
            // What stands in its socket still is read soon; then nothing comes any more.
            let quiet = |flood: &Flood| {
                let before = flood.received(at);
                std::thread::sleep(Duration::from_millis(200));
                (flood.received(at) == before).then_some(())
            };
            wait_until("the removed one to hear nothing any more", LATE, || quiet(&flood));
            flood.arrive_at(1 - at, LATE);
            assert_eq!(draining(lab), [serde_json::Value::Null; 0]);
            drop(flood);
            reload(lab, &complete);
        }
    });
}

/// What status says of a drain, and that who says nothing loses nothing.
#[test]
fn status_counts_down_and_nothing_is_lost_without_a_deadline() {
    run("drain_status", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.set_drain("web-v4", r#"{ deadline = "60s", tcp = "wait" }"#);
        lab.start_weir();
        let held: Vec<Held> = Family::BOTH
            .into_iter()
            .flat_map(|family| (0..3).map(move |_| family))
            .map(|family| Held::open(lab, vip(family)))
            .collect();
        for family in Family::BOTH {
            command(lab, &format!("drain {} {}", pool_of(family), family.backend(1)));
        }
        let line = |lab: &mut Lab, pool: &str| draining(lab).into_iter().find(|line| line["pool"] == pool).expect("it drains");
        let first = line(lab, "web-v4");
        assert_eq!(
            (&first["cause"], &first["connections"], &first["tcp"], &first["udp"]),
            (&"drained".into(), &1.into(), &"wait".into(), &"expire".into()),
            "{first}"
        );
        let left = first["seconds_left"].as_u64().expect("a countdown");
        assert!((50..=60).contains(&left), "{first}");
        wait_until("the countdown", TEN_SECONDS, || {
            (line(lab, "web-v4")["seconds_left"].as_u64() < Some(left - 1)).then_some(())
        });
        assert_eq!(line(lab, "web-v6")["seconds_left"], serde_json::Value::Null, "no deadline");
        let text = command(lab, "status");
        let drains = text.lines().skip_while(|line| !line.starts_with("DRAINING")).nth(1).expect("a line");
        assert!(drains.contains("web-v4") && drains.contains(" s ") && drains.contains("wait"), "{text}");
        assert!(text.contains("no deadline") && text.contains("unchecked, drained"), "{text}");
        for family in Family::BOTH {
            assert!(!served_by(lab, family).contains(&"b1".to_owned()));
            command(lab, &format!("undrain {} {}", pool_of(family), family.backend(1)));
            assert_eq!(served_by(lab, family).len(), 3);
        }
        assert_eq!(draining(lab), [serde_json::Value::Null; 0]);
        assert!(!held.iter().any(Held::has_ended), "nobody was reset");
    });
}

/// A backend whose health check fails though it serves: cut at its deadline, unless it is up again before.
#[test]
fn a_failed_backend_has_a_deadline_of_its_own() {
    run("drain_failed", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        let health = r#"{ type = "http", path = "/healthy", interval = "200ms", timeout = "150ms", rise = 1, fall = 1 }"#;
        for family in Family::BOTH {
            lab.config.set_health(&pool_of(family), health);
            lab.config.set_drain(&pool_of(family), r#"{ deadline = "60s", failed_deadline = "3s" }"#);
        }
        let healthy = |lab: &Lab, number: usize| lab.backends[number - 1].file("healthy");
        (1..=3).for_each(|number| std::fs::write(healthy(lab, number), "yes").expect("a file"));
        lab.start_weir();
        let held: Vec<Held> = (0..3).map(|_| Held::open(lab, vip(Family::V4))).collect();
        let is_down = |lab: &mut Lab| draining(lab).iter().any(|line| line["cause"] == "failed" && line["connections"] == 1);
        // Down for a moment.
        std::fs::remove_file(healthy(lab, 3)).expect("the file");
        wait_until("b3 to be down", TEN_SECONDS, || is_down(lab).then_some(()));
        std::fs::write(healthy(lab, 3), "again").expect("a file");
        wait_until("b3 to be up", TEN_SECONDS, || draining(lab).is_empty().then_some(()));
        // Down for good.
        std::fs::remove_file(healthy(lab, 2)).expect("the file");
        wait_until("b2 to be down", TEN_SECONDS, || is_down(lab).then_some(()));
        let began = Instant::now();
        wait_until("one to be reset", TEN_SECONDS, || held.iter().any(Held::has_ended).then_some(()));
        assert!(began.elapsed() < Duration::from_secs(3) + LATE, "{:?}", began.elapsed());
        wait_until("b2 to be empty", LATE, || (sockets(lab, 2) == 0).then_some(()));
        let (mut ended, others): (Vec<Held>, Vec<Held>) = held.into_iter().partition(Held::has_ended);
        assert_eq!(ended.pop().map(|held| held.end().0), Some(ErrorKind::ConnectionReset));
        assert!(ended.is_empty() && others.len() == 2 && !others.iter().any(Held::has_ended), "b3 was up again in time");
    });
}

/// A backend whose link is gone hears nothing any more; its clients do, though nobody resolves its address.
#[test]
fn clients_of_a_dead_backend_are_told_at_its_deadline() {
    run("drain_dead", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        let health = r#"{ type = "tcp", interval = "200ms", timeout = "150ms", rise = 1, fall = 2 }"#;
        for family in Family::BOTH {
            lab.config.set_health(&pool_of(family), health);
            lab.config.set_drain(&pool_of(family), r#"{ failed_deadline = "2s" }"#);
        }
        lab.start_weir();
        let open = |family| (0..60).map(move |_| family);
        let held: Vec<Held> = Family::BOTH.into_iter().flat_map(open).map(|family| Held::open(lab, vip(family))).collect();
        lab.backends[1].namespace.ip("link set eth0 down");
        let count = |held: &[Held]| held.iter().filter(|held| held.has_ended()).count();
        wait_until("its clients to be told", TEN_SECONDS, || (count(&held) == 40).then_some(()));
        wait_until("nothing to be left", TEN_SECONDS, || draining(lab).is_empty().then_some(()));
        let (ended, others): (Vec<Held>, Vec<Held>) = held.into_iter().partition(Held::has_ended);
        assert!(ended.into_iter().all(|held| held.end().0 == ErrorKind::ConnectionReset));
        assert!(others.len() == 80 && !others.iter().any(Held::has_ended));
        lab.backends[1].namespace.ip("link set eth0 up");
    });
}

/// What is set at run time is shown, outlives a reload if the config says so, and is named when it is wrong.
#[test]
fn overrides_are_shown_kept_and_dropped() {
    run("overrides", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        assert_eq!(command(lab, "diff"), "no difference\n");
        assert_eq!(
            command(lab, "weight web-v4 10.2.0.11 0"),
            "backend 10.2.0.11:80 of pool web-v4 has weight 0, before 1; the config has 1\n"
        );
        command(lab, "drain web-v4/10.2.0.12:80");
        assert_eq!(served_by(lab, Family::V4), ["b3"]);
        assert_eq!(served_by(lab, Family::V6).len(), 3, "another pool");
        let backends = lab.weir().status()["pools"][0]["backends"].clone();
        assert_eq!((&backends[0]["weight"], &backends[0]["file_weight"]), (&0.into(), &1.into()), "{backends}");
        assert_eq!((&backends[1]["drained"], &backends[2]["drained"]), (&true.into(), &false.into()), "{backends}");
        let said = command(lab, "diff");
        assert!(said.contains("set: pool web-v4: backend 10.2.0.11:80 weight 0, in the config 1, until a restart"), "{said}");
        assert!(said.contains("set: pool web-v4: backend 10.2.0.12:80 drained for "), "{said}");

        // Kept, unless the backend goes.
        let mut other = lab.config.clone();
        other.backends("web-v6").pop();
        lab.weir().write_config(&other);
        let said = command(lab, "diff");
        assert!(
            said.contains("file: pool web-v6: backend [fd00:2::13]:80 removed, its connections go on until they end"),
            "{said}"
        );
        reload(lab, &other);
        assert_eq!(served_by(lab, Family::V4), ["b3"]);

        for (arguments, code, words) in [
            ("drain nosuch 10.2.0.11", 1, "there is no pool \"nosuch\": there are web-v4, web-v6"),
            (
                "drain web-v4 10.2.0.99",
                1,
                "the pool web-v4 has no backend 10.2.0.99: it has 10.2.0.11:80, 10.2.0.12:80, 10.2.0.13:80",
            ),
            ("undrain web-v4 b1", 1, "\"b1\" is not the address of a backend"),
            ("weight web-v4 10.2.0.11 65536", 1, "the weight 65536 is out of range: allowed are 0 to 65535"),
            ("weight web-v4 10.2.0.11", 2, "expected a pool and its backends"),
            ("drain web-v4", 2, "expected a pool and its backends"),
        ] {
            let finished = lab.weir().command(arguments);
            assert!(finished.code() == Some(code) && finished.stderr.contains(words), "weir {arguments}: {finished}");
        }

        // Dropped, once the key is in force.
        let mut dropping = lab.config.clone();
        dropping.more = "[reload]\noverrides = \"drop\"\n".into();
        lab.weir().write_config(&dropping);
        let said = command(lab, "reload");
        assert!(said.contains("are dropped from the next one on") && !said.contains("10.2.0.11"), "{said}");
        assert_eq!(served_by(lab, Family::V4), ["b3"]);
        let file = format!("plan {}", lab.weir().config_path().display());
        let plan = command(lab, &file);
        let said = command(lab, "reload");
        assert!(said.lines().filter(|line| line.contains("pool ")).all(|line| plan.contains(line)), "{plan}");
        assert!(said.contains("pool web-v4: backend 10.2.0.11:80 weight 1 again, before 0"), "{said}");
        assert!(said.contains("pool web-v4: backend 10.2.0.12:80 drained no more"), "{said}");
        assert_eq!(command(lab, "diff"), "no difference\n");
        assert_eq!(served_by(lab, Family::V4).len(), 3);
    });
}
