//! The laboratory: who is connected to whom.
//!
//! Two arms: clients on one side of weir, backends on the other.
//!
//! ```text
//!   client                    weir                            switch (bridge)
//!  ┌───────────────┐   ┌──────────────────────────┐   ┌────────────────────────┐   ┌────────────────┐
//!  │ eth0 10.1.0.2 ├───┤ outside           inside ├───┤ uplink              b1 ├───┤ eth0 10.2.0.11 │ b1
//!  │   fd00:1::2   │   │ 10.1.0.1        10.2.0.1 │   │                        │   │   fd00:2::11   │
//!  └───────────────┘   │ fd00:1::1      fd00:2::1 │   │                     b2 ├───┤ eth0 10.2.0.12 │ b2
//!                      │ VIP 10.1.0.100           │   │                     b3 ├───┤ eth0 10.2.0.13 │ b3
//!                      │     fd00:1::100          │   └────────────────────────┘   └────────────────┘
//!                      │ SNAT 10.2.0.200          │
//!                      │      fd00:2::200         │
//!                      └──────────────────────────┘
//! ```
//!
//! One arm: the client, weir and the backends all on the switch; weir has both networks on its one interface `lan`.
//!
//! In both, a backend has the network 10.2.0.0/24 (fd00:2::/64) and no other route: it cannot answer a client by itself. Names and
//! addresses are the same in every laboratory, for no two of them can see each other.

use super::backend::Backend;
use super::cards;
use super::config::{Config, Family};
use super::daemon::Daemon;
use super::evidence;
use super::namespace::Namespace;
use super::program::Background;
use super::requirement;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// What a laboratory is like.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    one_arm: bool,
    queues: u32,
    partial_checksums: bool,
    capture: bool,
    cards: Option<u8>,
}

impl Layout {
    /// Clients and backends on two interfaces of weir.
    pub fn two_arm() -> Self {
        Self { one_arm: false, queues: 1, partial_checksums: false, capture: true, cards: None }
    }

    /// Everything on one interface of weir.
    pub fn one_arm() -> Self {
        Self { one_arm: true, ..Self::two_arm() }
    }

    /// weir's interfaces have this many queues, so it has this many workers.
    pub fn queues(self, queues: u32) -> Self {
        Self { queues, ..self }
    }

    /// Leaves checksum offload on in the senders: what a NIC would fill in is then missing from the frames that weir gets.
    pub fn partial_checksums(self) -> Self {
        Self { partial_checksums: true, ..self }
    }

    /// Keeps no capture, for tests that move much data.
    pub fn bulk(self) -> Self {
        Self { capture: false, ..self }
    }

    /// In the virtual machine of scripts/zero-copy-vm.sh: weir's interfaces are network cards, those of this pair and the next one.
    pub fn cards(self, pair: u8) -> Self {
        Self { cards: Some(pair), capture: false, ..self }
    }

    /// Names of weir's interfaces.
    pub fn interfaces(self) -> &'static [&'static str] {
        if self.one_arm { &["lan"] } else { &["outside", "inside"] }
    }
}

/// A laboratory with nginx running in all backends, weir not started yet.
#[derive(Debug)]
pub struct Lab {
    /// The test's name.
    pub name: &'static str,
    /// What it is like.
    pub layout: Layout,
    /// Where the files of this test lie.
    pub directory: PathBuf,
    /// The configuration; [`Lab::start_weir`] takes it as it is then.
    pub config: Config,
    /// weir, once started.
    pub weir: Option<Daemon>,
    /// Where the requests come from.
    pub client: Namespace,
    /// Where weir runs.
    pub node: Namespace,
    /// The bridge between weir and the backends.
    pub switch: Namespace,
    /// `b1`, `b2`, `b3`
    pub backends: Vec<Backend>,
    captures: Vec<Background>,
}

/// Builds a laboratory, runs `test` in it, and asks weir, if it still runs, whether every frame is accounted for.
/// Prints `SKIP` and returns where this machine cannot do it.
pub fn run(name: &'static str, layout: Layout, test: impl FnOnce(&mut Lab)) {
    if layout.cards.is_none()
        && let Some(why) = requirement::missing()
    {
        println!("SKIP {name}: {why}");
        return;
    }
    let mut lab = Lab::new(name, layout);
    test(&mut lab);
    if let Some(weir) = &mut lab.weir {
        weir.check_conservation();
    }
}

/// Tells laboratories of one process apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    fn new(name: &'static str, layout: Layout) -> Self {
        // Relaxed: a number that nothing else hangs on.
        let unique = format!("weir-{}-{}-{name}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique);
        std::fs::create_dir_all(&directory).expect("the test's directory");
        let backends = ["b1", "b2", "b3"].map(|name| Backend::new(name, &directory)).into();
        let config = Config::new(layout.interfaces());
        let [client, node, switch] = ["client", "weir", "switch"].map(Namespace::new);
        let mut lab = Self { name, layout, directory, config, weir: None, client, node, switch, backends, captures: Vec::new() };
        lab.connect();
        lab.address();
        lab.capture();
        lab.backends.iter_mut().for_each(Backend::start);
        lab
    }

    /// An open connection of the client to port 80 of the VIP.
    #[track_caller]
    pub fn open_connection(&self, family: Family) -> TcpStream {
        let vip = SocketAddr::new(family.vip(), 80);
        let stream = self.client.inside(|| TcpStream::connect_timeout(&vip, Duration::from_secs(5))).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    }

    /// Starts weir with the configuration as it is now and waits until it serves.
    #[track_caller]
    pub fn start_weir(&mut self) -> &mut Daemon {
        let daemon = Daemon::start(&self.node, &self.directory, &self.config);
        self.weir.insert(daemon)
    }

    /// The running weir.
    #[track_caller]
    pub fn weir(&mut self) -> &mut Daemon {
        self.weir.as_mut().expect("weir was started")
    }

    fn connect(&self) {
        let quiet = ["net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0"];
        for namespace in [&self.client, &self.switch, &self.node] {
            namespace.sysctl(&quiet);
        }
        // Frames between backends and weir cross the bridge whole, and the machine's firewall rules are not asked about them.
        self.switch.ip("link add name bridge type bridge forward_delay 0 mcast_snooping 0\nlink set bridge up");
        for (number, (interface, other, name)) in (0..).zip(self.wires()) {
            match self.layout.cards {
                None => self.cable(&self.node, interface, other, name),
                Some(first) => cards::plug((first + number, &self.node, interface), (other, name), self.layout.queues),
            }
        }
        if self.layout.one_arm {
            self.cable(&self.client, "eth0", &self.switch, "client");
            self.switch.ip("link set client master bridge");
        }
        self.switch.ip("link set uplink master bridge");
        self.fill_in_checksums(&self.client, "eth0");
        for backend in &self.backends {
            backend.namespace.sysctl(&quiet);
            self.cable(&backend.namespace, "eth0", &self.switch, backend.name);
            self.switch.ip(&format!("link set {} master bridge", backend.name));
            self.fill_in_checksums(&backend.namespace, "eth0");
        }
    }

    /// What weir serves, each a veth pair or two cards back to back: weir's end, and where the other end is and what it is called.
    fn wires(&self) -> Vec<(&'static str, &Namespace, &'static str)> {
        match self.layout.one_arm {
            true => vec![("lan", &self.switch, "uplink")],
            false => vec![("outside", &self.client, "eth0"), ("inside", &self.switch, "uplink")],
        }
    }

    /// Leaves the cards to the laboratory that comes next.
    fn unplug(&mut self) {
        let Some(first) = self.layout.cards else { return };
        // Whoever holds on to a card ends before.
        (self.weir, self.captures) = (None, Vec::new());
        for (number, (interface, other, name)) in (0..).zip(self.wires()) {
            cards::unplug((first + number, &self.node, interface), (other, name));
        }
    }

    /// A veth pair, both ends up.
    fn cable(&self, a: &Namespace, a_name: &str, b: &Namespace, b_name: &str) {
        let queues = format!("numtxqueues {0} numrxqueues {0}", self.layout.queues);
        a.ip(&format!(
            "link add name {a_name} {queues} type veth peer name {b_name} {queues} netns {}
             link set {a_name} up",
            b.path()
        ));
        b.ip(&format!("link set {b_name} up"));
    }

    /// veth hands over what a NIC would still have to finish; with this the sender finishes it.
    fn fill_in_checksums(&self, sender: &Namespace, interface: &str) {
        if !self.layout.partial_checksums {
            sender.run(&format!("ethtool -K {interface} tx off"));
        }
    }

    fn address(&self) {
        let (outside, inside) = if self.layout.one_arm { ("lan", "lan") } else { ("outside", "inside") };
        for family in Family::BOTH {
            let gateway = match family {
                Family::V4 => "10.2.0.1/24",
                Family::V6 => "fd00:2::1/64 nodad",
            };
            self.client.ip(&format!("address add {} dev eth0", family.on_link(family.client())));
            self.node
                .ip(&format!("address add {} dev {outside}\naddress add {gateway} dev {inside}", family.on_link(family.weir())));
            for (backend, number) in self.backends.iter().zip(1..) {
                backend.namespace.ip(&format!("address add {} dev eth0", family.on_link(family.backend(number))));
            }
        }
        self.detect_duplicates_again();
    }

    /// The node's own addresses were there at once, as on a machine that has been up for a while; those that weir adds get no such
    /// favour from the laboratory.
    fn detect_duplicates_again(&self) {
        let settings: Vec<String> =
            ["all"].iter().chain(self.layout.interfaces()).map(|name| format!("net/ipv6/conf/{name}/accept_dad=1")).collect();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        self.node.sysctl(&settings);
    }

    /// Captures what the client and what the backends see, kept only if the test fails.
    fn capture(&mut self) {
        if !self.layout.capture {
            return;
        }
        for (namespace, interface) in [(&self.client, "eth0"), (&self.switch, "uplink")] {
            let mut command = namespace.command("tcpdump");
            // The first 128 bytes of a frame, at most 2 files of 8 MB.
            command.args(["-i", interface, "-s", "128", "-U", "-n", "-Z", "root", "-C", "8", "-W", "2", "-w"]);
            command.arg(self.directory.join(format!("{}.pcap", namespace.name())));
            self.captures.push(Background::start(command, &self.directory.join("tcpdump.log")));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            evidence::show(self);
        } else {
            // Whatever stays behind lies under target/tmp and harms nobody.
            let _ = std::fs::remove_dir_all(&self.directory);
        }
        self.unplug();
    }
}
