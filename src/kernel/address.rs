//! Addresses on interfaces: VIPs and SNAT addresses are put there, so that the kernel answers ARP, ND and ping for them.

use super::{Netlink, NetlinkError};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::{IpAddr, Ipv4Addr};

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix.
    pub prefix_length: u8,
    /// Who put it there.
    pub owner: Owner,
    /// Not in use: the kernel still looks for somebody else who has it (RFC 4862, section 5.4), or has found one.
    pub tentative: bool,
}

/// Who put an address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// weir, now or before it was last killed: it takes the address off when it stops.
    Weir,
    /// Somebody else: it stays.
    Other,
}

/// weir's mark on its addresses: IFA_PROTO, shown by `ip address` as `proto 0x77`. Kernels before 5.18 do not keep it; there an address
/// that a killed weir left behind looks like somebody else's and stays.
const MARK: u8 = 0x77;

impl Address {
    pub(super) fn from_message(message: &AddressMessage) -> Option<Self> {
        let (mut local, mut address, mut owner) = (None, None, Owner::Other);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Protocol(AddressProtocol::Other(MARK)) => owner = Owner::Weir,
                _ => {}
            }
        }
        // On a point-to-point link `Address` is the peer's.
        let address = local.or(address)?;
        let (index, prefix_length) = (message.header.index, message.header.prefix_len);
        // A failed address stays tentative.
        let tentative = message.header.flags.contains(AddressHeaderFlags::Tentative);
        Some(Self { index, address, prefix_length, owner, tentative })
    }

    /// Whether the kernel can ask for neighbours from it by itself.
    pub(super) fn is_link_local_in_use(&self) -> bool {
        matches!(self.address, IpAddr::V6(address) if address.is_unicast_link_local()) && !self.tentative
    }

    /// The broadcast address of its prefix; those of one or two addresses have none (RFC 3021), nor has IPv6.
    pub fn broadcast(&self) -> Option<IpAddr> {
        match self.address {
            IpAddr::V4(address) if self.prefix_length < 31 => {
                Some(Ipv4Addr::from_bits(address.to_bits() | u32::MAX >> self.prefix_length).into())
            }
            _ => None,
        }
    }

    /// Whether its prefix holds nothing but itself, as those that weir adds.
    pub fn is_host(&self) -> bool {
        self.prefix_length == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

impl Netlink {
    /// All addresses of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        self.list("list the addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| match message {
            RouteNetlinkMessage::NewAddress(message) => Address::from_message(&message),
            _ => None,
        })
    }

    /// Puts an address on an interface, as /32 or /128. `Ok(Owner::Other)`: it was there already, and is not weir's to take off.
    ///
    /// IPv6: no duplicate address detection, since with several load balancers the address is meant to be in several places; and
    /// deprecated (RFC 6724, section 5, rule 3), so that the kernel does not choose it as the source of connections of its own.
    pub fn add_address(&mut self, index: u32, address: IpAddr) -> Result<Owner, NetlinkError> {
        let mut message = host_address(index, address);
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(MARK)));
        if address.is_ipv6() {
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_valid = u32::MAX;
            message.attributes.push(AddressAttribute::CacheInfo(lifetime));
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
        }
        let action = format!("add {address} to interface {index}");
        match self.change(&action, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(Owner::Weir),
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                let there = self.addresses()?.into_iter().find(|item| item.index == index && item.address == address);
                Ok(there.map_or(Owner::Other, |item| item.owner))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes an address off that [`Netlink::add_address`] put there. No error if it is gone, or the interface is.
    pub fn remove_address(&mut self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let action = format!("remove {address} from interface {index}");
        match self.change(&action, RouteNetlinkMessage::DelAddress(host_address(index, address)), 0) {
            Err(error) if !matches!(error.errno(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Err(error),
            _ => Ok(()),
        }
    }
}

fn host_address(index: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    let (family, length) = if address.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    message.header.family = family;
    message.header.prefix_len = length;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_addresses_of_prefixes() {
        let of = |address: &str, prefix_length| {
            let address = address.parse().unwrap();
            Address { index: 1, address, prefix_length, owner: Owner::Other, tentative: false }
                .broadcast()
                .map(|it| it.to_string())
        };
        assert_eq!(of("10.71.2.1", 24).as_deref(), Some("10.71.2.255"));
        assert_eq!(of("10.71.2.1", 30).as_deref(), Some("10.71.2.3"));
        assert_eq!(of("10.71.2.1", 8).as_deref(), Some("10.255.255.255"));
        assert_eq!(of("10.71.2.1", 0).as_deref(), Some("255.255.255.255"));
        assert_eq!([of("10.71.2.1", 31), of("10.71.2.1", 32), of("2001:db8::1", 64)], [None, None, None]);
    }
}
