//! What shall be steered to weir, as the config says it and as the program's maps hold it.

use super::{MAX_ADDRESSES, MAX_SERVICES, XdpError};
use crate::service::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Data connections come to a VIP's TCP ports from here on; `claims_upper` of `steer.bpf.c` has the same number.
pub const FIRST_DATA_PORT: u16 = 1024;

/// What shall be steered to weir.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// VIP, port (`None`: every port) and protocol.
    pub services: BTreeSet<(IpAddr, Option<u16>, Protocol)>,
    /// VIPs to whose TCP ports from [`FIRST_DATA_PORT`] on data connections of a helper come.
    pub data: BTreeSet<IpAddr>,
    /// What comes to these addresses is replies of backends: all TCP and UDP, and what else there is a service of.
    pub snat: BTreeSet<IpAddr>,
}

impl Targets {
    /// Whether packets of clients to this VIP and port, of the protocol with this number, are among it.
    pub fn serve(&self, vip: SocketAddr, protocol: u8) -> bool {
        let Some(protocol) = Protocol::from_number(protocol) else { return false };
        let (vip, port) = (vip.ip(), vip.port());
        let has = |port| self.services.contains(&(vip, port, protocol));
        let is_data = || protocol == Protocol::Tcp && port >= FIRST_DATA_PORT && self.data.contains(&vip);
        has(Some(port)) || has(None) || is_data()
    }
}

/// Bits of what an address claims; `enum claim` of `steer.bpf.c` has the same numbers.
const TCP_PORTS: u16 = 1 << 0;
const UDP_PORTS: u16 = 1 << 1;
const SCTP_PORTS: u16 = 1 << 2;
const DCCP_PORTS: u16 = 1 << 3;
const TCP_ALL: u16 = 1 << 4;
const UDP_ALL: u16 = 1 << 5;
const SCTP_ALL: u16 = 1 << 6;
const DCCP_ALL: u16 = 1 << 7;
const GRE_ALL: u16 = 1 << 8;
const ECHO_REQUESTS: u16 = 1 << 9;
const ECHO_REPLIES: u16 = 1 << 10;
const TCP_UPPER: u16 = 1 << 11;

/// What a VIP claims for a service.
fn claim(protocol: Protocol, port: Option<u16>) -> u16 {
    match (protocol, port) {
        (Protocol::Tcp, Some(_)) => TCP_PORTS,
        (Protocol::Udp, Some(_)) => UDP_PORTS,
        (Protocol::Tcp, None) => TCP_ALL,
        (Protocol::Udp, None) => UDP_ALL,
        (Protocol::Sctp, Some(_)) => SCTP_PORTS,
        (Protocol::Dccp, Some(_)) => DCCP_PORTS,
        (Protocol::Sctp, None) => SCTP_ALL,
        (Protocol::Dccp, None) => DCCP_ALL,
        (Protocol::Gre, _) => GRE_ALL,
        (Protocol::Icmp | Protocol::Icmpv6, _) => ECHO_REQUESTS,
    }
}

/// What a SNAT address claims for the replies to a service of its family.
fn claim_replies(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Icmp | Protocol::Icmpv6 => ECHO_REPLIES,
        other => claim(other, None),
    }
}

/// What the maps hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entries {
    /// Services on one port.
    pub(super) services: BTreeSet<(IpAddr, u16, Protocol)>,
    /// What each address claims.
    pub(super) claims: BTreeMap<IpAddr, u16>,
}

impl Entries {
    pub(super) fn new(targets: &Targets) -> Result<Self, XdpError> {
        let mut entries = Self::default();
        for &(vip, port, protocol) in &targets.services {
            if let Some(port) = port {
                entries.services.insert((vip, port, protocol));
            }
            *entries.claims.entry(vip).or_default() |= claim(protocol, port);
        }
        for &vip in &targets.data {
            *entries.claims.entry(vip).or_default() |= TCP_UPPER;
        }
        for &address in &targets.snat {
            let of_family = targets.services.iter().filter(|(vip, ..)| vip.is_ipv4() == address.is_ipv4());
            let replies = of_family.fold(TCP_ALL | UDP_ALL, |claims, (.., protocol)| claims | claim_replies(*protocol));
            *entries.claims.entry(address).or_default() |= replies;
        }
        check_limit("services", entries.services.iter().map(|(vip, ..)| vip), MAX_SERVICES)?;
        check_limit("addresses", entries.claims.keys(), MAX_ADDRESSES)?;
        Ok(entries)
    }
}

fn check_limit<'a>(what: &'static str, addresses: impl Iterator<Item = &'a IpAddr>, limit: usize) -> Result<(), XdpError> {
    let (mut v4, mut v6) = (0, 0);
    for address in addresses {
        *(if address.is_ipv4() { &mut v4 } else { &mut v6 }) += 1;
    }
    let count = v4.max(v6);
    if count > limit { Err(XdpError::TooMany { what, count, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_what_the_maps_claim() {
        let vip: IpAddr = "10.0.0.100".parse().unwrap();
        let other: IpAddr = "10.0.0.101".parse().unwrap();
        let services = [(vip, Some(21), Protocol::Tcp), (other, None, Protocol::Udp)];
        let targets = Targets { services: services.into(), data: [vip].into(), snat: BTreeSet::new() };
        let serve = |vip, port, protocol: Protocol| targets.serve(SocketAddr::new(vip, port), protocol.number());
        assert!(serve(vip, 21, Protocol::Tcp) && !serve(vip, 22, Protocol::Tcp));
        assert!(serve(vip, FIRST_DATA_PORT, Protocol::Tcp) && !serve(vip, FIRST_DATA_PORT, Protocol::Udp));
        assert!(serve(other, 9, Protocol::Udp) && !serve(other, 9, Protocol::Tcp));
    }
}
