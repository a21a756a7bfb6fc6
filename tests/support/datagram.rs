//! Questions and answers over UDP.

use super::namespace::Namespace;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Asks from so many sockets, several times each, interleaved; how many sockets each backend answered. Each must keep its backend.
#[track_caller]
pub fn ask_by_datagram(vip: SocketAddr, clients: usize, datagrams: usize) -> BTreeMap<String, usize> {
    let own = match vip.ip() {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    let sockets: Vec<UdpSocket> = (0..clients)
        .map(|_| {
            let socket = UdpSocket::bind(own).expect("a client socket");
            socket.connect(vip).expect("connect");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            socket
        })
        .collect();
    let mut servers: Vec<Option<String>> = vec![None; clients];
    for round in 0..datagrams {
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
#[derive(Debug)]
pub struct DatagramServer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl DatagramServer {
    /// Serves at this address from now on, until it is dropped.
    pub fn start(at: &Namespace, address: SocketAddr, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = at.inside(|| UdpSocket::bind(address).expect("a server socket"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&socket, name, &stopped));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for DatagramServer {
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
