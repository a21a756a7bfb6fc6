//! The topology, and a forwarder over the ports under test.

use super::namespace::Namespace;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use weir::conntrack::Now;
use weir::datapath::{Counters, Fate, Frame, PortId};
use weir::io::Ports;
use weir::io::xsk::{Attached, Binding, Mode, Settings, SocketInfo, XskPorts};
use weir::service::Protocol;
use weir::worker::{Idle, Monotonic, Next, Pipeline, Resolver, Rounds, Shared};
use weir::xdp::{AttachMode, Steering, Targets};

pub(crate) const CLIENT_SIDE: PortId = PortId(0);
pub(crate) const SERVER_SIDE: PortId = PortId(1);
const ECHO: u16 = 7;

/// The three namespaces.
pub(crate) struct Wires {
    pub(crate) client: Namespace,
    pub(crate) weir: Namespace,
    pub(crate) server: Namespace,
}

/// The topology, or `None` with a line that says why not.
pub(crate) fn wires(test: &str) -> Option<Wires> {
    let missing = if !is_root() { Some("needs root, to make network namespaces") } else { missing_program() };
    if let Some(why) = missing {
        println!("SKIP {test}: {why}");
        return None;
    }
    let wires = Wires { client: Namespace::new("client"), weir: Namespace::new("weir"), server: Namespace::new("server") };
    let queues = "numtxqueues 2 numrxqueues 2";
    let weir = wires.weir.path();
    wires.client.ip(&format!(
        "link add c0 address 02:00:00:00:00:11 {queues} type veth peer name l0 netns {weir} address 02:00:00:00:00:22 {queues}
         addr add 10.1.0.1/24 dev c0
         link set c0 up
         route add 10.9.9.9 dev c0
         neigh add 10.9.9.9 lladdr 02:00:00:00:00:22 dev c0 nud permanent"
    ));
    wires.server.ip(&format!(
        "link add s0 address 02:00:00:00:00:44 {queues} type veth peer name l1 netns {weir} address 02:00:00:00:00:33 {queues}
         addr add 10.9.9.9/32 dev s0
         link set s0 up
         route add 10.1.0.1 dev s0
         neigh add 10.1.0.1 lladdr 02:00:00:00:00:33 dev s0 nud permanent"
    ));
    wires.weir.ip("link set l0 up\nlink set l1 up");
    // Otherwise frames come with partial checksums and the receiver refuses them.
    wires.client.run("ethtool -K c0 tx off");
    wires.server.run("ethtool -K s0 tx off");
    Some(wires)
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn missing_program() -> Option<&'static str> {
    let found = |program: &str| Command::new(program).arg("-V").output().is_ok();
    if !found("ip") {
        return Some("ip is not installed (apt-get install iproute2)");
    }
    (!found("ethtool")).then_some("ethtool is not installed (apt-get install ethtool)")
}

impl Wires {
    /// A UDP socket of the client, connected to the server's echo, with a source port of its own.
    pub(crate) fn client_socket(&self) -> UdpSocket {
        let socket = self.client.inside(|| UdpSocket::bind("10.1.0.1:0")).expect("a UDP socket");
        socket.connect(("10.9.9.9", ECHO)).expect("connect");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        socket
    }

    /// Starts an echo server; it ends with the returned guard.
    pub(crate) fn echo(&self) -> Background<()> {
        let socket = self.server.inside(|| UdpSocket::bind(("10.9.9.9", ECHO))).expect("a UDP socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        Background::start(move |stop| {
            let mut packet = vec![0; 2000];
            while !stop.load(Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut packet) {
                    socket.send_to(&packet[..length], from).expect("echo");
                }
            }
        })
    }
}

/// A socket for one queue.
pub(crate) fn binding(port: PortId, queue: u32, mode: Mode) -> Binding {
    let interface = if port == CLIENT_SIDE { "l0" } else { "l1" };
    Binding { port, interface: interface.to_owned(), queue, mtu: 1500, mode, attached: Attached::Native }
}

/// Both queues of both interfaces.
pub(crate) fn bindings(mode: Mode) -> Vec<Binding> {
    [CLIENT_SIDE, SERVER_SIDE].iter().flat_map(|port| [binding(*port, 0, mode), binding(*port, 1, mode)]).collect()
}

/// A thread that ends when it is told to, or dropped.
pub(crate) struct Background<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Background<T> {
    fn start(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        Self { stop, thread: Some(std::thread::spawn(move || work(&stopping))) }
    }

    fn end(&mut self) -> Option<T> {
        self.stop.store(true, Relaxed);
        self.thread.take().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a background thread panicked");
        }
    }
}

/// What comes in on one side goes out on the other, to the peer there.
#[derive(Debug)]
struct Across;

impl Pipeline for Across {
    fn process(&mut self, frames: &mut [Frame<'_>], _now: Now) {
        for frame in frames {
            let (to, destination, source) = match frame.port {
                CLIENT_SIDE => (SERVER_SIDE, 0x44, 0x33),
                _ => (CLIENT_SIDE, 0x11, 0x22),
            };
            frame.buffer[5] = destination;
            frame.buffer[11] = source;
            frame.fate = Fate::Transmit(to);
        }
    }

    fn resolved(&self, _port: PortId, _neighbour: std::net::IpAddr) -> bool {
        true
    }
}

/// What was left when the forwarder stopped.
pub(crate) struct End {
    pub(crate) counters: Arc<Counters>,
    /// Frames by holder: free, with the kernel, all.
    pub(crate) frames: (usize, usize, usize),
    pub(crate) transmitting: bool,
    /// Bursts that were timed.
    pub(crate) timed: u64,
}

/// The ports under test, forwarding on a thread of their own, with the steering programs attached.
pub(crate) struct Forwarder {
    pub(crate) sockets: Vec<SocketInfo>,
    _steering: Vec<Steering>,
    thread: Background<End>,
}

impl Forwarder {
    pub(crate) fn start(wires: &Wires, bindings: &[Binding], settings: Settings) -> Self {
        let shared = Arc::new(Shared::default());
        let (mut steering, ports) = wires.weir.inside(|| {
            let steering = ["l0", "l1"].map(|interface| Steering::attach(interface, AttachMode::Native).expect("attach"));
            (steering, XskPorts::open(bindings, &settings, Arc::clone(&shared.counters)).expect("sockets"))
        });
        let sockets = ports.sockets().expect("sockets");
        for (steering, port) in steering.iter_mut().zip([CLIENT_SIDE, SERVER_SIDE]) {
            let services = [("10.9.9.9".parse().expect("an address"), Some(ECHO), Protocol::Udp)].into();
            let targets = Targets { services, snat: ["10.1.0.1".parse().expect("an address")].into(), ..Targets::default() };
            for socket in sockets.iter().filter(|socket| socket.port == port) {
                steering.set_socket(socket.queue, socket.fd.as_fd()).expect("the socket in the map");
            }
            steering.apply(&targets).expect("targets");
        }
        let thread = Background::start(move |stop| forward(ports, shared, stop));
        Self { sockets, _steering: steering.into(), thread }
    }

    /// Stops it once nothing is under way.
    pub(crate) fn stop(mut self) -> End {
        self.thread.end().expect("it was running")
    }
}

fn forward(ports: XskPorts, shared: Arc<Shared>, stop: &AtomicBool) -> End {
    let mut rounds = Rounds::new(ports, Across, Arc::new(Resolver::new(|| {})), Arc::clone(&shared));
    let mut idle = Idle::default();
    let mut after_stop = 0;
    // A few more rounds at the end: completions come when the receiver has taken the frames.
    while after_stop < 100 {
        let frames = rounds.round(&Monotonic::now);
        after_stop += u32::from(stop.load(Relaxed));
        if let Next::Sleep(timeout) = idle.after(frames, rounds.unfinished()) {
            rounds.sleep(timeout.min(Duration::from_millis(10)));
        }
    }
    rounds.ports().refresh_statistics();
    let trouble = shared.trouble.load();
    assert!(trouble.is_none(), "{trouble:?}");
    End {
        counters: Arc::clone(&shared.counters),
        frames: rounds.ports().frames(),
        transmitting: rounds.ports().transmitting(),
        timed: shared.burst_times.histogram().len(),
    }
}
