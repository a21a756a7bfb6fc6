//! On which interface an address of weir's is put.

use super::daemon::Daemon;
use super::targets;
use crate::config::Config;
use crate::datapath::PortId;
use crate::kernel::{Address, Link};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tracing::warn;

impl Daemon {
    /// Where each address that weir needs shall be, while the host has the addresses `there`.
    ///
    /// There the kernel is asked for the address by ARP or ND: by neighbours on its subnet, or, for an address of no subnet, by a router
    /// that was told so. A VIP that is withdrawn is nowhere.
    pub(super) fn placements(&self, config: &Config, retired: &BTreeSet<IpAddr>, there: &[Address]) -> BTreeMap<IpAddr, Link> {
        let subnets = self.subnets(there);
        let needed = targets::targets(config, retired);
        let place = |address: IpAddr| {
            let port = interface_for(address, &subnets).or_else(|| {
                let toward = needed.snat.contains(&address).then(|| self.toward_backends(config, address)).flatten();
                self.without_subnet(address, toward)
            });
            Some((address, self.mirror.link(port.unwrap_or(PortId(0)))?.clone()))
        };
        targets::addresses(&needed).into_iter().filter(|address| !self.quorums.withdraws(address)).filter_map(place).collect()
    }

    /// Warns of addresses that are on an interface without a subnet for them, once for each.
    pub(super) fn tell_homeless(&mut self, wanted: &BTreeMap<IpAddr, Link>, there: &[Address]) {
        let subnets = self.subnets(there);
        let homeless: BTreeMap<IpAddr, &Link> =
            wanted.iter().filter(|(address, _)| interface_for(**address, &subnets).is_none()).map(|(a, l)| (*a, l)).collect();
        for (address, link) in homeless.iter().filter(|(address, _)| !self.homeless.contains(address)) {
            warn!(
                "{address}: no interface has a subnet with it; it is on interface {}, for routers that send it there",
                link.name
            );
        }
        self.homeless = homeless.into_keys().collect();
    }

    /// An address of no subnet stays while its interface is down, for the subnet has gone with it and may come back with it; a SNAT
    /// address goes to where answers to it come in; others stay.
    fn without_subnet(&self, address: IpAddr, toward: Option<PortId>) -> Option<PortId> {
        let now = self.addresses.indices(address).find_map(|index| self.port(index));
        let down = |port: PortId| self.mirror.link(port).is_some_and(|link| !link.up);
        now.filter(|port| down(*port)).or(toward).or(now)
    }

    /// The interface by which the first backend of this family that there is a route to is reached.
    fn toward_backends(&self, config: &Config, address: IpAddr) -> Option<PortId> {
        let backends = config.pools.iter().flat_map(|pool| &pool.backends).map(|backend| backend.address.ip());
        let mut family = backends.filter(|backend| backend.is_ipv4() == address.is_ipv4());
        family.find_map(|backend| self.datapath.next_hops.route(backend)?.port)
    }

    fn subnets(&self, there: &[Address]) -> Vec<(PortId, IpNet)> {
        let subnet = |item: &Address| self.port(item.index).zip(IpNet::new(item.address, item.prefix_length).ok());
        there.iter().filter_map(subnet).collect()
    }

    fn port(&self, index: u32) -> Option<PortId> {
        self.interfaces.iter().find(|interface| interface.index == index).map(|interface| interface.port)
    }
}

/// The interface that has a connected subnet with this address, the narrowest such subnet.
fn interface_for(address: IpAddr, subnets: &[(PortId, IpNet)]) -> Option<PortId> {
    let around = subnets.iter().filter(|(_, subnet)| subnet.contains(&address) && subnet.prefix_len() < subnet.max_prefix_len());
    around.max_by_key(|(port, subnet)| (subnet.prefix_len(), std::cmp::Reverse(*port))).map(|(port, _)| *port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(list: &[(u8, &str)]) -> Vec<(PortId, IpNet)> {
        list.iter().map(|(port, subnet)| (PortId(*port), subnet.parse().unwrap())).collect()
    }

    #[test]
    fn an_address_goes_where_its_subnet_is() {
        let subnets = subnets(&[(0, "10.1.0.1/24"), (1, "10.2.0.1/24"), (1, "fd00:2::1/64")]);
        assert_eq!(interface_for("10.2.0.200".parse().unwrap(), &subnets), Some(PortId(1)));
        assert_eq!(interface_for("10.1.0.200".parse().unwrap(), &subnets), Some(PortId(0)));
        assert_eq!(interface_for("fd00:2::200".parse().unwrap(), &subnets), Some(PortId(1)));
        assert_eq!(interface_for("192.0.2.1".parse().unwrap(), &subnets), None);
    }

    #[test]
    fn the_narrowest_subnet_wins_and_then_the_first_interface() {
        let subnets = subnets(&[(0, "10.0.0.0/8"), (2, "10.2.0.0/24"), (1, "10.2.0.0/24")]);
        assert_eq!(interface_for("10.2.0.9".parse().unwrap(), &subnets), Some(PortId(1)));
    }

    #[test]
    fn an_address_of_its_own_is_no_subnet() {
        let subnets = subnets(&[(1, "10.9.9.9/32")]);
        assert_eq!(interface_for("10.9.9.9".parse().unwrap(), &subnets), None);
    }
}
