//! Aim: UDP is balanced by sender, not by datagram: each client socket keeps its backend, and gets its own answers back.

use crate::support::{Family, Lab, Layout, Namespace, run};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const PORT: u16 = 5353;
const CLIENTS: usize = 300;
const DATAGRAMS: usize = 5;

#[test]
fn datagrams_of_a_client_keep_their_backend() {
    run("udp", Layout::two_arm(), balance_datagrams);
}

#[test]
fn datagrams_of_a_client_keep_their_backend_with_one_arm_and_two_queues() {
    run("udp_one_arm", Layout::one_arm().queues(2), balance_datagrams);
}

fn balance_datagrams(lab: &mut Lab) {
    for family in Family::BOTH {
        let backends = (1..=3).map(|number| (SocketAddr::new(family.backend(number), PORT), 1)).collect();
        lab.config.add(&format!("dns-{}", family.name()), SocketAddr::new(family.vip(), PORT), "udp", backends);
    }
    lab.start_weir();
    for family in Family::BOTH {
        let servers: Vec<Server> = lab
            .backends
            .iter()
            .zip(1..)
            .map(|(backend, number)| Server::start(&backend.namespace, family.backend(number), backend.name))
            .collect();
        let spread = lab.client.inside(|| ask(SocketAddr::new(family.vip(), PORT)));
        drop(servers);
        assert!(
            spread.len() == 3 && spread.values().all(|count| *count == CLIENTS / 3),
            "clients by backend over {family:?}: {spread:?}"
        );
    }
    assert_eq!(lab.weir().drops(), BTreeMap::new());
}

/// Asks from many sockets, several times each, interleaved; how many sockets each backend answered.
fn ask(vip: SocketAddr) -> BTreeMap<String, usize> {
    let own = match vip.ip() {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    let sockets: Vec<UdpSocket> = (0..CLIENTS)
        .map(|_| {
            let socket = UdpSocket::bind(own).expect("a client socket");
            socket.connect(vip).expect("connect");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            socket
        })
        .collect();
    let mut servers: Vec<Option<String>> = vec![None; CLIENTS];
    for round in 0..DATAGRAMS {
        for (client, socket) in sockets.iter().enumerate() {
            let question = format!("client {client} round {round}");
            socket.send(question.as_bytes()).expect("send");
            let mut answer = [0; 100];
            let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{vip}, {question}: {error}"));
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            let (name, echo) = answer.split_once(' ').expect("a name and the question");
            assert_eq!(echo, question, "an answer to somebody else");
            let known = servers[client].get_or_insert_with(|| name.to_owned());
            assert_eq!(known, name, "client {client} was sent to another backend in round {round}");
        }
    }
    let mut spread = BTreeMap::new();
    for name in servers.into_iter().flatten() {
        *spread.entry(name).or_default() += 1;
    }
    spread
}

/// Answers its name and the question.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(at: &Namespace, address: IpAddr, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = at.inside(|| UdpSocket::bind((address, PORT)).expect("a server socket"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&socket, name, &stopped));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Relaxed: the flag is the whole message.
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it panicked about, its clients have missed.
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut question = [0; 100];
    while !stop.load(Relaxed) {
        let (length, client) = match socket.recv_from(&mut question) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        let answer = [name.as_bytes(), b" ", &question[..length]].concat();
        socket.send_to(&answer, client).expect("answer");
    }
}
