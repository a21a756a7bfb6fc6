//! A service: a VIP, a protocol and perhaps a port, served by a pool through a scheduler.

use super::{Access, Ledger, Limits, Pool};
use crate::conntrack::Persistent;
use crate::schedule::Scheduler;
use foldhash::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Transport protocols that a service may be on, by their IP protocol numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// Echoes over IPv4.
    Icmp = 1,
    /// TCP
    Tcp = 6,
    /// UDP
    Udp = 17,
    /// GRE
    Gre = 47,
    /// DCCP
    Dccp = 33,
    /// Echoes over IPv6.
    Icmpv6 = 58,
    /// SCTP
    Sctp = 132,
}

impl Protocol {
    /// All of them.
    pub const ALL: &'static [Protocol] = &[Self::Tcp, Self::Udp, Self::Sctp, Self::Dccp, Self::Gre, Self::Icmp, Self::Icmpv6];

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The protocol with this IP protocol number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|protocol| protocol.number() == number)
    }

    /// The name in the config and in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Dccp => "dccp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Gre => "gre",
        }
    }

    /// Whether there are ports: a service may be on one of them.
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp | Self::Dccp)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who reads along in a service's connections, to know which other connections belong to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// FTP: control connections announce data connections.
    Ftp,
}

impl Helper {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Helper)] = &[("ftp", Helper::Ftp)];

    /// The name in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ftp => "ftp",
        }
    }
}

/// The port that FTP servers with control connections on `port` open data connections from (RFC 959, section 3.2).
pub fn data_port(port: u16) -> Option<u16> {
    port.checked_sub(1).filter(|port| *port > 0)
}

/// Index of a service; the control thread gives it out and keeps it over reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u16);

/// What clients connect to.
#[derive(Debug)]
pub struct Service {
    /// Stable over reloads, by name.
    pub id: ServiceId,
    /// The name in the config.
    pub name: String,
    /// The address that clients connect to.
    pub vip: IpAddr,
    /// `None`: every port of the VIP, kept toward the backend.
    pub port: Option<u16>,
    /// What it speaks.
    pub protocol: Protocol,
    /// `None`: nobody reads along.
    pub helper: Option<Helper>,
    /// Who may open connections.
    pub access: Access,
    /// Who chooses the backend.
    pub scheduler: Arc<dyn Scheduler>,
    /// Who is chosen from.
    pub pool: Arc<Pool>,
    /// Who is chosen from when nobody of the pool can be; `None`: nobody.
    pub backup: Option<Backup>,
    /// How many connections it takes.
    pub limits: Limits,
    /// `None`: where a client's next connection goes does not depend on its last one.
    pub persistence: Option<Persistence>,
    /// What is kept over reloads.
    pub ledger: Arc<Ledger>,
}

/// Who serves when nobody of a service's pool can be chosen.
#[derive(Debug)]
pub struct Backup {
    /// Who chooses.
    pub scheduler: Arc<dyn Scheduler>,
    /// Who is chosen from.
    pub pool: Arc<Pool>,
}

/// A client's next connection goes where its last one went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// Services with the same number persist together.
    pub group: u32,
    /// Milliseconds from the last new connection on.
    pub timeout: u32,
    /// IPv4 addresses with so many bits in common are one client.
    pub prefix_v4: u8,
    /// The same for IPv6.
    pub prefix_v6: u8,
}

impl Persistence {
    /// Who persists, for this client.
    pub fn of(&self, client: IpAddr) -> Persistent {
        Persistent::new(self.group, client, if client.is_ipv4() { self.prefix_v4 } else { self.prefix_v6 })
    }
}

impl Service {
    /// Members and scheduler of the pool with this name, as far as this service uses it.
    pub fn uses(&self, pool: &str) -> impl Iterator<Item = (&Arc<dyn Scheduler>, &Arc<Pool>)> {
        let backup = self.backup.as_ref().map(|backup| (&backup.scheduler, &backup.pool));
        let all = [(&self.scheduler, &self.pool)].into_iter().chain(backup);
        all.filter(move |(_, used)| used.name == pool)
    }

    /// All pools that this service uses.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        [&self.pool].into_iter().chain(self.backup.as_ref().map(|backup| &backup.pool))
    }
}

/// All services, found by the destination of a first packet.
#[derive(Debug, Default)]
pub struct Services {
    list: Vec<Arc<Service>>,
    by_port: HashMap<(IpAddr, u16, Protocol), usize>,
    any_port: HashMap<(IpAddr, Protocol), usize>,
    with_helper: HashMap<ServiceId, usize>,
}

impl Services {
    /// An index over `list`; destinations are unique (the config check sees to that).
    pub fn new(list: Vec<Arc<Service>>) -> Self {
        let mut services = Self::default();
        for (index, service) in list.iter().enumerate() {
            match service.port {
                Some(port) => services.by_port.insert((service.vip, port, service.protocol), index),
                None => services.any_port.insert((service.vip, service.protocol), index),
            };
            if service.helper.is_some() {
                services.with_helper.insert(service.id, index);
            }
        }
        services.list = list;
        services
    }

    /// The service at this destination: the one on the port before the one on every port.
    pub fn find(&self, vip: IpAddr, port: u16, protocol: Protocol) -> Option<&Arc<Service>> {
        let index = self.by_port.get(&(vip, port, protocol)).or_else(|| self.any_port.get(&(vip, protocol)))?;
        self.list.get(*index)
    }

    /// Whether a service has this port to itself.
    pub fn has_port(&self, vip: IpAddr, port: u16, protocol: Protocol) -> bool {
        self.by_port.contains_key(&(vip, port, protocol))
    }

    /// The service with this id, if it has a helper.
    pub fn with_helper(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.list.get(*self.with_helper.get(&id)?)
    }

    /// All of them, in the order of the config.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.list.iter()
    }
}
