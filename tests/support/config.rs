//! The configuration that a test gives to weir, and the addresses of the laboratory.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// IPv4 or IPv6; every laboratory has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both of them, for tests that do the same twice.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    fn pick(self, v4: &str, v6: &str) -> IpAddr {
        let text = match self {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        text.parse().expect("an address")
    }

    /// `v4` or `v6`: the end of the names of services and pools.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
        }
    }

    /// The client's own address.
    pub fn client(self) -> IpAddr {
        self.pick("10.1.0.2", "fd00:1::2")
    }

    /// weir's own address toward the clients.
    pub fn weir(self) -> IpAddr {
        self.pick("10.1.0.1", "fd00:1::1")
    }

    /// What the clients connect to.
    pub fn vip(self) -> IpAddr {
        self.pick("10.1.0.100", "fd00:1::100")
    }

    /// What the backends see.
    pub fn snat(self) -> IpAddr {
        self.pick("10.2.0.200", "fd00:2::200")
    }

    /// The address of backend 1, 2 or 3.
    pub fn backend(self, number: usize) -> IpAddr {
        self.pick(&format!("10.2.0.1{number}"), &format!("fd00:2::1{number}"))
    }

    /// An address with its prefix length on the links of the laboratory.
    pub fn on_link(self, address: IpAddr) -> String {
        match self {
            Family::V4 => format!("{address}/24"),
            Family::V6 => format!("{address}/64 nodad"),
        }
    }

    /// A URL of the VIP.
    pub fn url(self, path: &str) -> String {
        format!("http://{}/{path}", SocketAddr::new(self.vip(), 80))
    }
}

#[derive(Debug, Clone)]
struct Service {
    name: String,
    vip: SocketAddr,
    protocol: &'static str,
    scheduler: &'static str,
    helper: Option<&'static str>,
    access: String,
    pool: String,
}

#[derive(Debug, Clone)]
struct Pool {
    name: String,
    health: Option<String>,
    drain: Option<String>,
    more: String,
    backends: Vec<(SocketAddr, u32)>,
}

/// A configuration file in the making.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// One `[[interface]]` for each, as the lines below that header.
    pub interfaces: Vec<String>,
    /// Source addresses toward the backends.
    pub snat: Vec<IpAddr>,
    /// Sections that a test adds as they are.
    pub more: String,
    services: Vec<Service>,
    pools: Vec<Pool>,
}

impl Config {
    /// The interfaces and SNAT addresses of a laboratory, no service yet.
    pub fn new(interfaces: &[&str]) -> Self {
        Self {
            interfaces: interfaces.iter().map(|name| format!("name = \"{name}\"")).collect(),
            snat: Family::BOTH.map(Family::snat).to_vec(),
            ..Self::default()
        }
    }

    /// `web-v4` and `web-v6`: HTTP over three backends, in turn, with these weights.
    pub fn with_web(mut self, weights: [u32; 3]) -> Self {
        for family in Family::BOTH {
            let backends = (1..=3).map(|number| SocketAddr::new(family.backend(number), 80)).zip(weights).collect();
            self.add(&format!("web-{}", family.name()), SocketAddr::new(family.vip(), 80), "tcp", backends);
        }
        self
    }

    /// A service and a pool of the same name, balanced in turn by weight.
    pub fn add(&mut self, name: &str, vip: SocketAddr, protocol: &'static str, backends: Vec<(SocketAddr, u32)>) {
        let pool = name.to_owned();
        let scheduler = "weighted_round_robin";
        self.services.push(Service {
            name: pool.clone(),
            vip,
            protocol,
            scheduler,
            helper: None,
            access: String::new(),
            pool: pool.clone(),
        });
        self.pools.push(Pool { name: pool, health: None, drain: None, more: String::new(), backends });
    }

    /// Without this service and the pool of the same name.
    pub fn remove(&mut self, name: &str) {
        self.services.retain(|service| service.name != name);
        self.pools.retain(|pool| pool.name != name);
    }

    /// The service goes on under another name.
    pub fn rename_service(&mut self, from: &str, to: &str) {
        let found = self.services.iter_mut().find(|known| known.name == from);
        found.unwrap_or_else(|| panic!("no service {from} in the test's config")).name = to.to_owned();
    }

    /// The helper of a service.
    pub fn set_helper(&mut self, service: &str, helper: Option<&'static str>) {
        let found = self.services.iter_mut().find(|known| known.name == service);
        found.unwrap_or_else(|| panic!("no service {service} in the test's config")).helper = helper;
    }

    /// Who chooses the backend.
    pub fn set_scheduler(&mut self, service: &str, scheduler: &'static str) {
        let found = self.services.iter_mut().find(|known| known.name == service);
        found.unwrap_or_else(|| panic!("no service {service} in the test's config")).scheduler = scheduler;
    }

    /// Who may use a service, and further keys of it: lines of TOML.
    pub fn set_access(&mut self, service: &str, access: &str) {
        let found = self.services.iter_mut().find(|known| known.name == service);
        found.unwrap_or_else(|| panic!("no service {service} in the test's config")).access = access.to_owned();
    }

    /// The backends of a pool, to add to or take from.
    pub fn backends(&mut self, pool: &str) -> &mut Vec<(SocketAddr, u32)> {
        &mut self.pool(pool).backends
    }

    /// The health check of a pool, as a TOML value.
    pub fn set_health(&mut self, pool: &str, health: &str) {
        self.pool(pool).health = Some(health.to_owned());
    }

    /// The drain of a pool, as a TOML value.
    pub fn set_drain(&mut self, pool: &str, drain: &str) {
        self.pool(pool).drain = Some(drain.to_owned());
    }

    /// More keys of a pool, as TOML.
    pub fn set_pool(&mut self, pool: &str, more: &str) {
        self.pool(pool).more = more.to_owned();
    }

    fn pool(&mut self, name: &str) -> &mut Pool {
        self.pools.iter_mut().find(|pool| pool.name == name).unwrap_or_else(|| panic!("no pool {name} in the test's config"))
    }

    /// The file.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for interface in &self.interfaces {
            let _ = writeln!(text, "[[interface]]\n{interface}\n");
        }
        let addresses: Vec<String> = self.snat.iter().map(|address| format!("\"{address}\"")).collect();
        let _ = writeln!(text, "[snat]\naddresses = [{}]\n\n{}", addresses.join(", "), self.more);
        for Service { name, vip, protocol, scheduler, helper, access, pool } in &self.services {
            let vip = endpoint(*vip);
            let _ = writeln!(text, "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nprotocol = \"{protocol}\"");
            if let Some(helper) = helper {
                let _ = writeln!(text, "helper = \"{helper}\"");
            }
            let _ = writeln!(text, "{access}\nscheduler = \"{scheduler}\"\npool = \"{pool}\"\n");
        }
        for Pool { name, health, drain, more, backends } in &self.pools {
            let _ = writeln!(text, "[[pool]]\nname = \"{name}\"\n{more}");
            if let Some(health) = health {
                let _ = writeln!(text, "health = {health}");
            }
            if let Some(drain) = drain {
                let _ = writeln!(text, "drain = {drain}");
            }
            let members: Vec<String> = backends
                .iter()
                .map(|(address, weight)| format!("  {{ address = \"{}\", weight = {weight} }},\n", endpoint(*address)))
                .collect();
            let _ = writeln!(text, "backends = [\n{}]\n", members.concat());
        }
        text
    }
}

/// With its port, unless that is 0: then the address alone.
fn endpoint(address: SocketAddr) -> String {
    if address.port() == 0 { address.ip().to_string() } else { address.to_string() }
}
