//! What packets look like and from whom they are.

use super::PktgenError;
use super::stamp::STAMP;
use crate::packet::{ipv4, ipv6, tcp, udp};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The protocol above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Flows are opened by a SYN, then carry segments of data.
    Tcp,
}

/// How large frames are on the wire, with their FCS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sizes {
    /// The smallest that hold headers and stamp.
    #[default]
    Smallest,
    /// All alike.
    Fixed(u32),
    /// The simple Internet mix: 7 frames of 64 bytes, or the smallest, 4 of 594 and 1 of 1518, interleaved.
    Imix,
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "imix" => Ok(Self::Imix),
            _ => text
                .parse()
                .map(Self::Fixed)
                .map_err(|_| "allowed: imix, or bytes on the wire with FCS, such as 64 or 1518".into()),
        }
    }
}

/// Ethernet's FCS, which is not in a frame's bytes.
const FCS: u32 = 4;
const ETHERNET: usize = 14;
/// The largest frame on the wire (IEEE 802.3 without tag).
const LARGEST: u32 = 1518;
/// Source ports of flows: above the well-known ones.
pub(super) const FIRST_PORT: u16 = 1024;
pub(super) const PORTS: u32 = 65536 - FIRST_PORT as u32;

/// What is sent, checked.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) protocol: Protocol,
    pub(super) vip: SocketAddr,
    pub(super) clients: IpNet,
    pub(super) flows: u32,
    pub(super) flood: bool,
    sizes: Sizes,
}

impl Plan {
    /// `flood`: SYNs of sources at random out of all of `clients`, instead of `flows` flows.
    ///
    /// # Errors
    /// What does not go together, what was found, and what is allowed.
    pub fn new(
        protocol: Protocol,
        vip: SocketAddr,
        clients: IpNet,
        flows: u32,
        sizes: Sizes,
        flood: bool,
    ) -> Result<Self, PktgenError> {
        let plan = Self { protocol, vip, clients, flows, flood, sizes };
        let wrong = |text: String| Err(PktgenError::Plan(text));
        if vip.is_ipv4() != clients.addr().is_ipv4() {
            return wrong(format!("--clients {clients}: the family is not that of --vip {vip}; both must be of one"));
        }
        if vip.port() == 0 {
            return wrong(format!("--vip {vip}: the port is 0; allowed: 1 to 65535"));
        }
        let most = u64::from(plan.addresses().1) * u64::from(PORTS);
        if flows == 0 || u64::from(flows) > most {
            return wrong(format!("--flows {flows}: allowed with clients {clients}: 1 to {most}"));
        }
        if flood && protocol == Protocol::Udp {
            return wrong("--syn-flood with --protocol udp: a SYN is a segment of TCP; allowed: --protocol tcp".into());
        }
        let smallest = plan.smallest() + FCS;
        match sizes {
            Sizes::Fixed(size) if !(smallest..=LARGEST).contains(&size) => {
                wrong(format!("--size {size}: allowed for {plan}: {smallest} (headers and stamp) to {LARGEST}, or imix"))
            }
            _ => Ok(plan),
        }
    }

    /// Whether an interface of this MTU carries the largest frame.
    pub(super) fn check_mtu(&self, interface: &str, mtu: u32) -> Result<(), PktgenError> {
        let packet = self.largest() - ETHERNET as u32;
        if packet <= mtu {
            return Ok(());
        }
        let text = format!(
            "interface {interface}: its MTU of {mtu} is below {packet}, the largest packet of --size; allowed there: up to {}",
            mtu + 18
        );
        Err(PktgenError::Plan(text))
    }

    pub(super) fn is_ipv6(&self) -> bool {
        self.vip.is_ipv6()
    }

    /// Offset of the transport header.
    pub(super) fn l4(&self) -> usize {
        ETHERNET + if self.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER }
    }

    /// Offset of the stamp.
    pub(super) fn stamp(&self) -> usize {
        self.l4()
            + match self.protocol {
                Protocol::Udp => udp::HEADER,
                Protocol::Tcp => tcp::HEADER,
            }
    }

    /// Bytes of the smallest frame, without FCS.
    pub(super) fn smallest(&self) -> u32 {
        (self.stamp() + STAMP).max(60) as u32
    }

    /// Bytes of the largest frame, without FCS.
    pub(super) fn largest(&self) -> u32 {
        self.pattern().into_iter().max().unwrap_or(0)
    }

    /// Bytes of twelve frames that follow each other, without FCS.
    pub(super) fn pattern(&self) -> [u32; 12] {
        let small = self.smallest();
        match self.sizes {
            Sizes::Smallest => [small; 12],
            Sizes::Fixed(size) => [size - FCS; 12],
            Sizes::Imix => {
                let (middle, large) = (594 - FCS, LARGEST - FCS);
                [small, middle, small, small, middle, small, large, small, middle, small, small, middle]
            }
        }
    }

    /// The first address of clients and how many there are, at most 2^31. In IPv4 the network's own and the broadcast address are left out.
    pub(super) fn addresses(&self) -> (IpAddr, u32) {
        let bits = u32::from(self.clients.max_prefix_len() - self.clients.prefix_len()).min(31);
        let all = 1u32 << bits;
        match self.clients.network() {
            IpAddr::V4(network) if all > 2 => (std::net::Ipv4Addr::from_bits(network.to_bits() + 1).into(), all - 2),
            network => (network, all),
        }
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The number of the protocol.
    pub(super) fn number(&self) -> u8 {
        match self.protocol {
            Protocol::Udp => 17,
            Protocol::Tcp => 6,
        }
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = if self.is_ipv6() { "IPv6" } else { "IPv4" };
        let protocol = match (self.protocol, self.flood) {
            (Protocol::Udp, _) => "UDP",
            (Protocol::Tcp, false) => "TCP",
            (Protocol::Tcp, true) => "SYNs",
        };
        write!(f, "{protocol} over {family}")
    }
}
