//! The config: read from TOML as the user typed it ([`raw`]), checked whole into what the daemon needs ([`check`]), and every mistake
//! shown where it stands ([`report`]). `docs/configuration.md` is the reference; a test keeps it complete.

mod check;
mod file;
mod raw;
mod read;
mod report;
mod restart;
mod value;

pub(crate) use file::read_whole;
pub use report::{ConfigReport, Place, Problem};
pub(crate) use value::brief;

use crate::conntrack::{FragmentLimits, SourceSettings, Spared, Timeouts, l4proto};
use crate::health;
use crate::io::xsk::Mode;
use crate::schedule;
use crate::service::{Drain, Helper, Limits, Protocol, SnatPool};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A config without mistakes. Two that are equal mean the same; how they were written does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// In the order of the file: the index is the [`crate::datapath::PortId`]. At least one, at most [`crate::datapath::MAX_PORTS`].
    pub interfaces: Vec<Interface>,
    /// How workers run.
    pub worker: Worker,
    /// Room in the connection table, for each address family.
    pub max_connections: usize,
    /// Whether the memory of the connection table is taken at the start.
    pub preallocate: bool,
    /// Whether packets, bytes and times of each connection are counted.
    pub accounting: bool,
    /// Who does not give way when the connection table is full.
    pub spared: Spared,
    /// How strict tracking is.
    pub tracking: l4proto::Settings,
    /// How much fragments may cost.
    pub fragments: FragmentLimits,
    /// What is one source, and how many are known.
    pub sources: SourceSettings,
    /// Where the admin socket is.
    pub admin_socket: PathBuf,
    /// When the file is applied anew, and when it is not.
    pub reload: Reload,
    /// Source addresses and ports toward the backends. At least one address of every family that a service has.
    pub snat: SnatPool,
    /// How long a connection may be silent.
    pub timeouts: Timeouts,
    /// In the order of the file. Names are unique, and so are address, port and protocol together.
    pub services: Vec<Service>,
    /// In the order of the file. Names are unique, and every service's pool is among them.
    pub pools: Vec<Pool>,
}

/// `[[interface]]`: where packets come in and go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// As the kernel knows it.
    pub name: String,
    /// Which way AF_XDP is used.
    pub mode: Mode,
    /// Whether checksums of what comes in can be trusted.
    pub checksum: Checksum,
    /// How many queues to serve, from queue 0 on; `None`: all that the interface has.
    pub queues: Option<u32>,
}

/// The names of [`Mode`] in the config.
pub(crate) const MODES: &[(&str, Mode)] =
    &[("auto", Mode::Auto), ("zero-copy", Mode::ZeroCopy), ("copy", Mode::Copy), ("generic", Mode::Generic)];

/// How the transport checksum of a packet is made right again after its addresses and ports changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// By the difference (RFC 1624): the checksum that came in is trusted, and a wrong one stays wrong.
    #[default]
    Incremental,
    /// Over the whole packet: for interfaces that deliver partial checksums, such as veth with transmit offload at its peer.
    Recompute,
}

impl Checksum {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Checksum)] =
        &[("incremental", Checksum::Incremental), ("recompute", Checksum::Recompute)];
}

/// `[worker]`: how workers run. There is one worker for each queue number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// `cpus[i % cpus.len()]` is for worker i; empty: worker i takes the i-th CPU that the process may use.
    pub cpus: Vec<usize>,
    /// What a worker does while nothing comes in.
    pub idle: Idle,
    /// How long a system call may poll the NIC itself instead of waiting for its interrupt; `None`: never.
    pub busy_poll: Option<Duration>,
    /// Frames that wait for packets on each queue of an interface, a power of two; there are half as many more to send from.
    pub frames: u32,
    /// Bytes of a frame: 2048 or 4096; `None`: the smaller one that holds the largest MTU.
    pub frame_size: Option<u32>,
}

impl Default for Worker {
    fn default() -> Self {
        Self { cpus: Vec::new(), idle: Idle::default(), busy_poll: None, frames: 4096, frame_size: None }
    }
}

/// What a worker does while nothing comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Idle {
    /// Sleep in poll(2) until a frame arrives.
    #[default]
    Sleep,
    /// Look again at once: the lowest latency, and the CPU is never idle.
    Spin,
}

impl Idle {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Idle)] = &[("sleep", Idle::Sleep), ("spin", Idle::Spin)];
}

/// `[reload]`: when the file is applied anew, when it is not, and what happens beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reload {
    /// Whether an edit of the file is applied without being asked for.
    pub watch: bool,
    /// A reload that would reset more connections is refused unless it is forced; `None`: none is.
    pub max_reset: Option<u64>,
    /// What becomes of what was set at run time.
    pub overrides: Overrides,
}

/// What a reload does with drains and weights that were set at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overrides {
    /// They stay, for backends that the file still has.
    #[default]
    Keep,
    /// The file alone counts.
    Drop,
}

impl Overrides {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Overrides)] = &[("keep", Overrides::Keep), ("drop", Overrides::Drop)];
}

/// `[[service]]`: what clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// The address that clients connect to.
    pub vip: IpAddr,
    /// `None`: every port, kept toward the backend.
    pub port: Option<u16>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Who reads along; only for TCP on one port.
    pub helper: Option<Helper>,
    /// Prefixes of sources that may open connections; empty: all that are not denied.
    pub allow: Vec<IpNet>,
    /// Prefixes of sources that may not, unless a longer one is allowed. None of them is in `allow`, too.
    pub deny: Vec<IpNet>,
    /// Who chooses the backend.
    pub scheduler: schedule::Kind,
    /// What the scheduler is told beside its members.
    pub scheduler_settings: schedule::Settings,
    /// How long its connections may be silent.
    pub timeouts: Timeouts,
    /// How many connections it takes.
    pub limits: Limits,
    /// Whether a client's next connection goes where its last one went.
    pub persistence: Option<Persistence>,
    /// When its VIP is announced.
    pub quorum: Quorum,
    /// The name of the pool that serves it.
    pub pool: String,
    /// The name of the pool that serves when nobody of that one can be chosen.
    pub backup: Option<String>,
}

/// A service's `persistence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persistence {
    /// Milliseconds from the last new connection on.
    pub timeout: u32,
    /// IPv4 addresses with so many bits in common are one client.
    pub prefix_v4: u8,
    /// The same for IPv6.
    pub prefix_v6: u8,
    /// Services of one group persist together; `None`: alone.
    pub group: Option<String>,
}

/// As many backends must be up for a service's VIP to be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quorum {
    /// Fewer, and it is withdrawn; 0: never.
    pub least: usize,
    /// As many more, and it comes back.
    pub hysteresis: usize,
}

/// `[[pool]]`: backends that serve the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Unique among pools.
    pub name: String,
    /// `None`: backends are not probed and always count as up.
    pub health: Option<health::Settings>,
    /// What follows from their health.
    pub rules: health::Rules,
    /// What becomes of the connections of a backend that takes no new ones.
    pub drain: Drain,
    /// In the order of the file; at least one, all of one family, addresses unique.
    pub backends: Vec<Backend>,
}

impl Pool {
    /// Whether agents say how much of their weight backends get.
    pub fn has_agent(&self) -> bool {
        self.health.as_ref().is_some_and(|health| health.probe == health::Probe::Agent)
    }

    /// Whether backends may get a part of their weight.
    pub fn divides_weights(&self) -> bool {
        self.has_agent() || !self.rules.slow_start.is_zero()
    }
}

/// One server of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// Where connections go. Port 0: none is given, the pool serves services without a port, and the client's destination port is kept.
    pub address: SocketAddr,
    /// 0 to 65535; 0 takes no new connections.
    pub weight: u32,
    /// The tier of [`schedule::Failover`]; the lowest one that has anybody serves.
    pub priority: u32,
    /// Connections at which [`schedule::Kind::FirstAvailable`] goes on to the next one; `None`: never.
    pub overflow_at: Option<u32>,
    /// Connections at which no scheduler chooses it any more; `None`: never.
    pub max_connections: Option<u32>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Everything that is wrong with it: not readable, no regular file, not UTF-8, not TOML, or the mistakes in it.
    pub fn load(path: &Path) -> Result<Self, ConfigReport> {
        match read_whole(path) {
            Err(error) => Err(ConfigReport::unreadable(path, &error.to_string())),
            Ok(bytes) => Self::parse_bytes(path, bytes),
        }
    }

    /// Checks a config that is already in memory; `path` only names it in messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(path: &Path, source: &str) -> Result<Self, ConfigReport> {
        let problems = match read::read(source) {
            Ok(document) => {
                let (config, others) = match check::check(&document.raw) {
                    Ok(config) => (Some(config), Vec::new()),
                    Err(problems) => (None, problems),
                };
                match (document.problems(others), config) {
                    (problems, Some(config)) if problems.is_empty() => return Ok(config),
                    (problems, _) => problems,
                }
            }
            Err(problems) => problems,
        };
        Err(ConfigReport::new(path, source, problems))
    }

    fn parse_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, ConfigReport> {
        match String::from_utf8(bytes) {
            Ok(source) => Self::parse(path, &source),
            Err(error) => Err(ConfigReport::not_utf8(path, &error)),
        }
    }

    /// The pool with this name.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }
}

#[cfg(test)]
mod tests;
