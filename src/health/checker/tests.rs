//! Probes against real listeners on the loopback interface. Nothing here waits for a fixed time: each test waits until something has
//! happened, and fails if that takes half a minute.

use super::*;
use crate::health::{Dns, Http, Name, Rcode, Record, Settings, Start, StatusSet};
use mio::{Events, Poll};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

const TOKENS: Range<usize> = 100..110;

/// The control thread in small: a poll, a clock and a checker.
struct Loop {
    poll: Poll,
    checker: Checker,
    began: Instant,
    events: Vec<HealthEvent>,
}

impl Loop {
    fn new(targets: Vec<Target>) -> Self {
        let poll = Poll::new().unwrap();
        let checker = Checker::new(poll.registry().try_clone().unwrap(), TOKENS);
        let mut this = Self { poll, checker, began: Instant::now(), events: Vec::new() };
        this.update(targets);
        this
    }

    fn update(&mut self, targets: Vec<Target>) {
        self.events.extend(self.checker.update(targets, HashSet::new(), self.began.elapsed()));
    }

    fn turn(&mut self) {
        self.events.extend(self.checker.tick(self.began.elapsed(), 100));
        let timeout = self.checker.next_deadline().map(|deadline| deadline.saturating_sub(self.began.elapsed()));
        let mut events = Events::with_capacity(16);
        let longest = Duration::from_millis(100);
        match self.poll.poll(&mut events, Some(timeout.unwrap_or(longest).min(longest))) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => other.unwrap(),
        }
        for event in &events {
            assert!(self.checker.tokens().contains(&event.token().0));
            self.events.extend(self.checker.ready(event));
        }
    }

    fn until(&mut self, what: &str, mut happened: impl FnMut(&Self) -> bool) {
        while !happened(self) {
            assert!(self.began.elapsed() < Duration::from_secs(30), "never: {what}; events: {:?}", self.events);
            self.turn();
        }
    }

    /// Waits for the first event after those that tell the start, and gives what it says.
    fn first_change(&mut self) -> (bool, String) {
        let starts = self.checker.places.len();
        self.until("a change", |this| this.events.len() > starts);
        (self.events[starts].up, self.events[starts].why.clone())
    }
}

fn settings(probe: Probe, start: Start) -> Settings {
    let (interval, timeout) = (Duration::from_millis(20), Duration::from_millis(200));
    Settings { probe, interval, jitter: Duration::ZERO, timeout, rise: 2, fall: 2, start, port: None }
}

fn tcp(address: SocketAddr, start: Start) -> Target {
    Target { backend: BackendId(7), address, settings: Arc::new(settings(Probe::Tcp, start)) }
}

fn http(address: SocketAddr, start: Start) -> Target {
    of(Probe::Http(Box::new(get("/healthz?x=1"))), address, start)
}

fn get(path: &str) -> Http {
    Http { path: path.into(), host: None, status: StatusSet::default(), header: None, body: None, tls: None }
}

fn of(probe: Probe, address: SocketAddr, start: Start) -> Target {
    Target { backend: BackendId(7), address, settings: Arc::new(settings(probe, start)) }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A server that reads a request and then does what `answer` says with the connection; the thread ends with the process.
fn serve(answer: impl Fn(&str, TcpStream) + Send + 'static) -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap_or(0);
            answer(&String::from_utf8_lossy(&request[..length]), stream);
        }
    });
    address
}

/// A server that always answers the same.
fn answering(answer: &'static str) -> SocketAddr {
    // A checker that has seen enough resets the connection: then writing fails.
    serve(move |_, mut stream| drop(stream.write_all(answer.as_bytes())))
}

#[test]
fn a_backend_that_accepts_goes_up() {
    let (listener, address) = listen();
    let mut this = Loop::new(vec![tcp(address, Start::Down)]);
    assert_eq!(this.events, [HealthEvent { backend: BackendId(7), up: false, share: 100, why: "not probed yet".into() }]);
    assert_eq!(this.first_change(), (true, "probes pass".into()));
    assert!(matches!(this.checker.look(BackendId(7)), Some((true, Some(Ok(()))))));
    drop(listener);
}

#[test]
fn a_backend_that_refuses_goes_down_and_comes_back() {
    let (listener, address) = listen();
    drop(listener);
    let mut this = Loop::new(vec![tcp(address, Start::Up)]);
    let (up, why) = this.first_change();
    assert!(!up && why.contains("refused"), "{why}");
    let listener = TcpListener::bind(address).unwrap();
    this.until("up again", |this| this.events.last().is_some_and(|event| event.up));
    drop(listener);
}

#[test]
fn a_backend_that_drops_every_syn_goes_down() {
    // A backlog of 0 takes one connection; while nobody accepts it, the kernel drops further SYNs.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let mut this = Loop::new(vec![tcp(address, Start::Up)]);
    assert_eq!(this.first_change(), (false, "no connection in time".into()));
}

#[test]
fn a_backend_that_says_nothing_goes_down() {
    let (listener, address) = listen();
    let mut this = Loop::new(vec![http(address, Start::Up)]);
    assert_eq!(this.first_change(), (false, "no answer in time".into()));
    drop(listener);
}

#[test]
fn a_backend_that_answers_well_goes_up_and_is_asked_properly() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let address = serve(move |request, mut stream| {
        let lines: Vec<&str> = request.split("\r\n").collect();
        let local = stream.local_addr().map(|address| format!("Host: {address}")).unwrap_or_default();
        let proper = lines[0] == "GET /healthz?x=1 HTTP/1.1" && lines.contains(&local.as_str()) && request.ends_with("\r\n\r\n");
        counter.fetch_add(usize::from(proper), SeqCst);
        drop(stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n"));
    });
    let mut this = Loop::new(vec![http(address, Start::Down)]);
    assert_eq!(this.first_change(), (true, "probes pass".into()));
    assert!(asked.load(SeqCst) >= 2);
}

#[test]
fn a_slow_answer_byte_by_byte_passes_if_it_ends_in_time() {
    // Each byte is a packet of its own: the checker has to go on where it stopped.
    let address = serve(|_, mut stream| {
        let _ = stream.set_nodelay(true);
        for byte in b"HTTP/1.1 200 OK\r\n" {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            thread::yield_now();
        }
    });
    let mut this = Loop::new(vec![http(address, Start::Down)]);
    assert_eq!(this.first_change(), (true, "probes pass".into()));
}

#[test]
fn an_answer_that_never_ends_is_given_up() {
    let address = serve(|_, mut stream| {
        thread::spawn(move || {
            // Interim answers without end, until the checker resets the connection.
            while stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        });
    });
    let mut this = Loop::new(vec![http(address, Start::Up)]);
    assert_eq!(this.first_change(), (false, "no answer in time".into()));
}

#[test]
fn bad_answers_bring_a_backend_down() {
    let answers = [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "answered with status 503"),
        ("SSH-2.0-OpenSSH_9.2p1\r\n", "the answer is not HTTP: it does not begin with HTTP/1"),
        ("HTTP/1.1 2xx Fine\r\n\r\n", "the answer is not HTTP: its status is not one"),
        ("", "closed the connection without an answer"),
        ("HTTP/1.1", "closed the connection without an answer"),
    ];
    for (answer, why) in answers {
        let mut this = Loop::new(vec![http(answering(answer), Start::Up)]);
        assert_eq!(this.first_change(), (false, why.to_owned()), "{answer:?}");
    }
}

#[test]
fn a_good_status_is_what_the_settings_say() {
    let address = answering("HTTP/1.1 404 Not Found\r\n\r\n");
    let http = Http { host: Some("a.example".into()), status: StatusSet::parse("404").unwrap(), ..get("/") };
    let probe = Probe::Http(Box::new(http));
    let target = Target { backend: BackendId(1), address, settings: Arc::new(settings(probe, Start::Down)) };
    assert_eq!(Loop::new(vec![target]).first_change(), (true, "probes pass".into()));
}

#[test]
fn no_probe_comes_from_an_address_of_weir() {
    let (listener, address) = listen();
    let mut this = Loop::new(Vec::new());
    let own = HashSet::from([IpAddr::from(Ipv4Addr::LOCALHOST)]);
    this.events = this.checker.update(vec![tcp(address, Start::Up)], own, Duration::ZERO);
    let (up, why) = this.first_change();
    assert!(!up && why.contains("only 127.0.0.1, which is weir's"), "{why}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[test]
fn an_update_keeps_what_stays_and_forgets_what_goes() {
    let (listener, address) = listen();
    let (other_listener, other) = listen();
    let stays = tcp(address, Start::Down);
    let goes = Target { backend: BackendId(8), ..tcp(other, Start::Down) };
    let mut this = Loop::new(vec![stays.clone(), goes.clone()]);
    this.until("both up", |this| this.events.iter().filter(|event| event.up).count() == 2);

    this.events.clear();
    let slower = Settings { interval: Duration::from_millis(30), ..(*stays.settings).clone() };
    this.update(vec![Target { settings: Arc::new(slower), ..stays.clone() }]);
    assert_eq!(this.events, [], "other settings are no news");
    assert_eq!(this.checker.look(BackendId(7)).map(|(up, _)| up), Some(true));
    assert!(this.checker.look(BackendId(8)).is_none());
    assert_eq!(this.checker.deadlines.len(), 1);

    // The same id with another address is another backend.
    this.update(vec![Target { address: other, ..stays }, goes]);
    assert_eq!(this.events.iter().map(|event| (event.backend.0, event.up)).collect::<Vec<_>>(), [(7, false), (8, false)]);
    this.until("both up", |this| this.events.iter().filter(|event| event.up).count() == 2);
    this.update(Vec::new());
    assert_eq!(this.checker.next_deadline(), None);
    drop((listener, other_listener));
}

#[test]
fn targets_beyond_the_tokens_count_as_up() {
    let (listener, address) = listen();
    let targets = (0..TOKENS.len() as u16 + 2).map(|id| Target { backend: BackendId(id), ..tcp(address, Start::Down) });
    let this = Loop::new(targets.collect());
    assert_eq!(this.events.iter().filter(|event| event.up).map(|event| event.backend.0).collect::<Vec<_>>(), [10, 11]);
    drop(listener);
}

#[test]
fn probes_leave_no_socket_behind() {
    let (listener, address) = listen();
    let mut this = Loop::new(vec![tcp(address, Start::Down)]);
    let accepted = AtomicUsize::new(0);
    listener.set_nonblocking(true).unwrap();
    this.until("five probes", |_| {
        while listener.accept().is_ok() {
            accepted.fetch_add(1, SeqCst);
        }
        accepted.load(SeqCst) >= 5
    });
    this.update(Vec::new());
    // Sockets in TIME_WAIT (06) toward the listener's port would show up here.
    let port = format!(":{:04X} 06", address.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    assert!(!sockets.contains(&port), "{sockets}");
}

#[test]
fn a_udp_server_passes_by_its_answer_or_by_its_silence() {
    let server = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    let probe = |expect: Option<&str>| Probe::Udp { send: b"ping".to_vec(), expect: expect.map(|text| text.as_bytes().to_vec()) };
    assert_eq!(Loop::new(vec![of(probe(None), address, Start::Down)]).first_change(), (true, "probes pass".into()));
    let silent = Loop::new(vec![of(probe(Some("pong")), address, Start::Up)]).first_change();
    assert_eq!(silent, (false, "no answer in time".into()));
    let wrong = Loop::new(vec![of(probe(Some("PONG")), answering_datagrams(b"a pong!".to_vec()), Start::Up)]).first_change();
    assert_eq!(wrong, (false, "the answer is not what is expected".into()));
    let right = answering_datagrams(b"a pong!".to_vec());
    assert_eq!(Loop::new(vec![of(probe(Some("pong")), right, Start::Down)]).first_change(), (true, "probes pass".into()));
    drop(server);
    let (up, why) = Loop::new(vec![of(probe(None), address, Start::Up)]).first_change();
    assert!(!up && why.starts_with("unreachable: Connection refused"), "{why}");
}

/// A server that answers every datagram with this; the thread ends with the process.
fn answering_datagrams(answer: Vec<u8>) -> SocketAddr {
    let server = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((_, client)) = server.recv_from(&mut question) {
            let _ = server.send_to(&answer, client);
        }
    });
    address
}

#[test]
fn datagrams_that_are_no_answer_to_the_query_do_not_count() {
    let name = Name::parse("example.org").unwrap();
    let probe = Probe::Dns(Dns { name, record: Record::A, rcode: Rcode::default(), answer: None });
    let stranger = answering_datagrams(vec![0; 64]);
    assert_eq!(Loop::new(vec![of(probe, stranger, Start::Up)]).first_change(), (false, "no answer in time".into()));
}

#[test]
fn scripts_are_judged_by_their_end() {
    let script = |text: &str| Probe::Exec { command: vec!["/bin/sh".into(), "-c".into(), text.into()] };
    let address = "192.0.2.7:80".parse().unwrap();
    let good = script("test \"$WEIR_ADDRESS $WEIR_PORT $PWD\" = '192.0.2.7 80 /' && test -z \"$HOME\"");
    assert_eq!(Loop::new(vec![of(good, address, Start::Down)]).first_change(), (true, "probes pass".into()));
    for (text, why) in [("exit 3", "the script exited with 3"), ("kill -9 $$", "signal 9 ended the script")] {
        assert_eq!(Loop::new(vec![of(script(text), address, Start::Up)]).first_change(), (false, why.into()));
    }
    let missing = Probe::Exec { command: vec!["/no/such/program".into()] };
    let mut this = Loop::new(vec![of(missing, address, Start::Up)]);
    this.until("it was tried", |this| this.checker.look(BackendId(7)).is_some_and(|(_, last)| last.is_some()));
    assert!(this.checker.look(BackendId(7)).unwrap().0, "what cannot be started says nothing of the backend");
}

#[test]
fn a_script_that_takes_too_long_is_killed_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let text = format!("sleep 1000 & echo $! >> {}; wait", file.display());
    let probe = Probe::Exec { command: vec!["/bin/sh".into(), "-c".into(), text] };
    let mut this = Loop::new(vec![of(probe, "192.0.2.7:80".parse().unwrap(), Start::Up)]);
    assert_eq!(this.first_change(), (false, "no end of the script in time".into()));
    this.update(Vec::new());
    let children = std::fs::read_to_string(&file).unwrap();
    assert!(children.lines().count() >= 2);
    // A zombie's status has no name of a program that runs.
    let runs = |pid: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(sleep)") && !stat.contains(") Z"))
    };
    this.until("their end", |_| !children.lines().any(runs));
    this.until("they are reaped", |this| this.checker.dying.is_empty());
}

#[test]
fn no_more_scripts_than_allowed_run_at_once_and_each_has_its_turn() {
    let probe = Probe::Exec { command: vec!["/bin/sleep".into(), "0.05".into()] };
    let poll = Poll::new().unwrap();
    let checker = Checker::new(poll.registry().try_clone().unwrap(), 100..1000);
    let mut this = Loop { poll, checker, began: Instant::now(), events: Vec::new() };
    let targets =
        (0..100).map(|id| Target { backend: BackendId(id), ..of(probe.clone(), "192.0.2.7:80".parse().unwrap(), Start::Down) });
    this.update(targets.collect());
    let mut most = 0;
    this.until("all of them up", |this| {
        most = most.max(this.checker.scripts);
        this.events.iter().filter(|event| event.up).count() == 100
    });
    assert_eq!(most, exec::AT_ONCE);
    this.update(Vec::new());
    assert_eq!((this.checker.scripts, this.checker.waiting.len()), (0, 0));
}

#[test]
fn an_agent_says_how_much_it_takes() {
    let said = Arc::new(std::sync::Mutex::new("ready\n"));
    let says = Arc::clone(&said);
    let (listener, address) = listen();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(stream.write_all(says.lock().unwrap().as_bytes()));
        }
    });
    let mut this = Loop::new(vec![of(Probe::Agent, address, Start::Down)]);
    assert_eq!(this.first_change(), (true, "probes pass".into()));
    for (line, up, share) in
        [("50%\n", true, 50), ("drain\n", true, 0), ("up 75%\r\n", true, 75), ("down # disk\n", false, 75), ("ready", true, 100)]
    {
        *said.lock().unwrap() = line;
        this.until(line, |this| this.events.last().is_some_and(|event| (event.up, event.share) == (up, share)));
    }
}

#[test]
fn an_echo_is_answered() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP an_echo_is_answered: needs root, for raw sockets");
        return;
    }
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let target = of(Probe::Icmp, address.parse().unwrap(), Start::Down);
        assert_eq!(Loop::new(vec![target]).first_change(), (true, "probes pass".into()), "{address}");
    }
}
