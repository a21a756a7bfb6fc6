//! The three, each set up as its manual says, with the same services.

use super::situations::{GONE, NO_BACKEND, TWO};
use super::street::Street;
use crate::service::check_modes;
use crate::support::{Config, Daemon, Family};
use std::net::SocketAddr;
use std::path::Path;

/// One of those compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rival {
    Weir,
    Ipvs,
    Nftables,
}

/// Runs until it is dropped; what the kernel does ends with its namespace.
pub(super) struct Running {
    pub(super) weir: Option<Daemon>,
}

/// Files of weir and the rules.
const DIRECTORY: &str = "/tmp/comparison";

impl Rival {
    pub(super) const ALL: [Self; 3] = [Self::Weir, Self::Ipvs, Self::Nftables];

    /// The head of its column.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Ipvs => "IPVS (NAT)",
            Self::Nftables => "nftables full-NAT",
        }
    }

    pub(super) fn start(self, street: &Street) -> Running {
        std::fs::create_dir_all(DIRECTORY).expect("a directory");
        match self {
            Self::Weir => return Running { weir: Some(weir(street)) },
            Self::Ipvs => ipvs(street),
            Self::Nftables => nftables(street),
        }
        Running { weir: None }
    }
}

fn backend(family: Family, number: u16, port: u16) -> SocketAddr {
    let address = if family == Family::V4 { format!("10.2.0.{number}") } else { format!("fd00:2::{number}") };
    SocketAddr::new(address.parse().expect("an address"), port)
}

fn weir(street: &Street) -> Daemon {
    let mut config = Config::new(&["outside", "inside"]);
    config.interfaces.iter_mut().for_each(|interface| interface.push_str("\nmode = \"zero-copy\""));
    for family in Family::BOTH {
        let vip = |port| SocketAddr::new(family.vip(), port);
        let name = |what: &str| format!("{what}-{}", family.name());
        config.add(&name("web"), vip(80), "tcp", vec![(backend(family, 66, 80), 1)]);
        config.add(&name("dns"), vip(53), "udp", vec![(backend(family, 66, 53), 1)]);
    }
    let vip = |port| SocketAddr::new(Family::V4.vip(), port);
    config.add("none", vip(NO_BACKEND), "tcp", vec![(backend(Family::V4, 66, NO_BACKEND), 0)]);
    config.add("gone", vip(GONE), "tcp", vec![(backend(Family::V4, 99, GONE), 1)]);
    config.add("two", vip(TWO), "tcp", vec![(backend(Family::V4, 66, TWO), 1), (backend(Family::V4, 67, TWO), 1)]);
    let weir = Daemon::start(&street.node, Path::new(DIRECTORY), &config);
    check_modes(&weir, 1, "zero-copy");
    weir
}

/// What the kernel needs to forward, and the addresses that weir puts there by itself.
fn prepare_kernel(street: &Street) {
    street.node.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]);
    for family in Family::BOTH {
        street.node.ip(&format!("address add {} dev outside", family.on_link(family.vip())));
    }
}

fn ipvs(street: &Street) {
    prepare_kernel(street);
    let balance = |arguments: String| drop(street.node.run(&format!("ipvsadm {arguments}")));
    for family in Family::BOTH {
        let vip = |port| SocketAddr::new(family.vip(), port);
        for (flag, port) in [("-t", 80), ("-u", 53)] {
            balance(format!("-A {flag} {} -s rr", vip(port)));
            balance(format!("-a {flag} {} -r {} -m", vip(port), backend(family, 66, port)));
        }
    }
    let vip = |port| SocketAddr::new(Family::V4.vip(), port);
    balance(format!("-A -t {} -s rr", vip(NO_BACKEND)));
    for (port, numbers) in [(GONE, vec![99]), (TWO, vec![66, 67])] {
        balance(format!("-A -t {} -s rr", vip(port)));
        for number in numbers {
            balance(format!("-a -t {} -r {} -m", vip(port), backend(Family::V4, number, port)));
        }
    }
}

/// A service without a backend has no rule: the kernel cannot say it otherwise.
fn nftables(street: &Street) {
    prepare_kernel(street);
    let mut dnat = String::new();
    let mut snat = String::new();
    for (family, ip) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        street.node.ip(&format!("address add {} dev inside", family.on_link(family.snat())));
        let (vip, first) = (family.vip(), backend(family, 66, 0).ip());
        dnat +=
            &format!("{ip} daddr {vip} tcp dport 80 dnat {ip} to {first}\n{ip} daddr {vip} udp dport 53 dnat {ip} to {first}\n");
        snat += &format!("oifname inside ct status dnat snat {ip} to {}\n", family.snat());
    }
    let vip = Family::V4.vip();
    dnat += &format!("ip daddr {vip} tcp dport {GONE} dnat ip to 10.2.0.99\n");
    dnat += &format!("ip daddr {vip} tcp dport {TWO} dnat ip to numgen inc mod 2 map {{ 0 : 10.2.0.66, 1 : 10.2.0.67 }}\n");
    let rules = format!(
        "table inet balance {{\nchain to_backend {{ type nat hook prerouting priority dstnat;\n{dnat}}}\n
         chain from_us {{ type nat hook postrouting priority srcnat;\n{snat}}}\n}}\n"
    );
    let file = Path::new(DIRECTORY).join("balance.nft");
    std::fs::write(&file, rules).expect("rules");
    street.node.run(&format!("nft -f {}", file.display()));
}
