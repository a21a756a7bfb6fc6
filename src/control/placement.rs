//! On which interface an address of weir's is put.

use crate::datapath::PortId;
use ipnet::IpNet;
use std::net::IpAddr;

/// The interface that has a connected subnet with this address, the narrowest such subnet; else the first interface.
///
/// There the kernel is asked for the address by ARP or ND: by neighbours on that subnet, or, for an address of no subnet, by a router
/// that was told so.
pub(super) fn interface_for(address: IpAddr, subnets: &[(PortId, IpNet)]) -> PortId {
    let around = subnets.iter().filter(|(_, subnet)| subnet.contains(&address) && subnet.prefix_len() < subnet.max_prefix_len());
    around.max_by_key(|(port, subnet)| (subnet.prefix_len(), std::cmp::Reverse(*port))).map_or(PortId(0), |(port, _)| *port)
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
        assert_eq!(interface_for("10.2.0.200".parse().unwrap(), &subnets), PortId(1));
        assert_eq!(interface_for("10.1.0.200".parse().unwrap(), &subnets), PortId(0));
        assert_eq!(interface_for("fd00:2::200".parse().unwrap(), &subnets), PortId(1));
        assert_eq!(interface_for("192.0.2.1".parse().unwrap(), &subnets), PortId(0), "no subnet: the first");
    }

    #[test]
    fn the_narrowest_subnet_wins_and_then_the_first_interface() {
        let subnets = subnets(&[(0, "10.0.0.0/8"), (2, "10.2.0.0/24"), (1, "10.2.0.0/24")]);
        assert_eq!(interface_for("10.2.0.9".parse().unwrap(), &subnets), PortId(1));
    }

    #[test]
    fn an_address_of_its_own_is_no_subnet() {
        let subnets = subnets(&[(1, "10.9.9.9/32")]);
        assert_eq!(interface_for("10.9.9.9".parse().unwrap(), &subnets), PortId(0));
    }
}
