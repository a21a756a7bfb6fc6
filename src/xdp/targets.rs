//! What shall be steered to weir, as the config says it and as the program's maps hold it.

use super::{MAX_ADDRESSES, MAX_SERVICES, XdpError};
use crate::service::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What shall be steered to weir.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// VIP, port (`None`: every port) and protocol.
    pub services: BTreeSet<(IpAddr, Option<u16>, Protocol)>,
    /// All TCP and UDP to these addresses is replies of backends.
    pub snat: BTreeSet<IpAddr>,
}

/// Bits of what an address claims; `enum claim` of `steer.bpf.c` has the same numbers.
const TCP_PORTS: u8 = 1;
const UDP_PORTS: u8 = 2;
const TCP_ALL: u8 = 4;
const UDP_ALL: u8 = 8;
const SNAT: u8 = 16;

/// What the maps hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entries {
    /// Services on one port.
    pub(super) services: BTreeSet<(IpAddr, u16, Protocol)>,
    /// What each address claims.
    pub(super) claims: BTreeMap<IpAddr, u8>,
}

impl Entries {
    pub(super) fn new(targets: &Targets) -> Result<Self, XdpError> {
        let mut entries = Self::default();
        for &(vip, port, protocol) in &targets.services {
            if let Some(port) = port {
                entries.services.insert((vip, port, protocol));
            }
            *entries.claims.entry(vip).or_default() |= match (protocol, port) {
                (Protocol::Tcp, Some(_)) => TCP_PORTS,
                (Protocol::Udp, Some(_)) => UDP_PORTS,
                (Protocol::Tcp, None) => TCP_ALL,
                (Protocol::Udp, None) => UDP_ALL,
            };
        }
        for &address in &targets.snat {
            *entries.claims.entry(address).or_default() |= SNAT;
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
