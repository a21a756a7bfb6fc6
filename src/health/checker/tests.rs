//! Probes against real listeners on the loopback interface. Nothing here waits for a fixed time: each test waits until something has
//! happened, and fails if that takes half a minute.

use super::*;
use crate::health::{Settings, Start, StatusSet};
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
        self.events.extend(self.checker.tick(self.began.elapsed()));
        let timeout = self.checker.next_deadline().map(|deadline| deadline.saturating_sub(self.began.elapsed()));
        let mut events = Events::with_capacity(16);
        self.poll.poll(&mut events, timeout.map(|timeout| timeout.min(Duration::from_millis(100)))).unwrap();
        for event in &events {
            assert!(self.checker.tokens().contains(&event.token().0));
            self.events.extend(self.checker.ready(event.token()));
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
    Settings { probe, interval, timeout, rise: 2, fall: 2, start, port: None }
}

fn tcp(address: SocketAddr, start: Start) -> Target {
    Target { backend: BackendId(7), address, settings: Arc::new(settings(Probe::Tcp, start)) }
}

fn http(address: SocketAddr, start: Start) -> Target {
    let probe = Probe::Http { path: "/healthz?x=1".into(), host: None, status: StatusSet::default() };
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
    assert_eq!(this.events, [HealthEvent { backend: BackendId(7), up: false, why: "not probed yet".into() }]);
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
    let probe = Probe::Http { path: "/".into(), host: Some("a.example".into()), status: StatusSet::parse("404").unwrap() };
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
