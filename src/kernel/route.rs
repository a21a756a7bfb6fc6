//! Routes of the kernel's main, default and local table.

use super::{Netlink, NetlinkError};
use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destinations that it is for.
    pub prefix: IpNet,
    /// `None`: the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The interface that packets leave by; `None` if they are not forwarded: the host's own addresses, broadcast, blackholes.
    pub output: Option<u32>,
    /// Its priority: the lower one wins among equal prefixes.
    pub metric: u32,
}

const TABLE_DEFAULT: u32 = 253;
const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;

impl Route {
    /// `None` for what decides nothing: other tables, cached exceptions, and dead routes.
    ///
    /// Of several next hops the first one that is alive is taken: weir keeps a connection on one path, and does not balance over paths.
    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let mut table = u32::from(header.table);
        let (mut destination, mut gateway, mut output, mut metric) = (None, None, None, 0);
        let mut alive = !header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Destination(address) => destination = ip(address),
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::Oif(index) => output = Some(*index),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = gateway_of(attribute),
                RouteAttribute::MultiPath(hops) => {
                    let hop = hops.iter().find(|hop| is_alive(hop));
                    alive = hop.is_some();
                    output = hop.map(|hop| hop.interface_index);
                    gateway = hop.and_then(|hop| hop.attributes.iter().find_map(gateway_of));
                }
                _ => {}
            }
        }
        if !alive || header.flags.contains(RouteFlags::Cloned) || !matches!(table, TABLE_MAIN | TABLE_DEFAULT | TABLE_LOCAL) {
            return None;
        }
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let prefix = IpNet::new(destination.unwrap_or(any), header.destination_prefix_length).ok()?;
        if header.kind != RouteType::Unicast {
            (gateway, output) = (None, None);
        }
        Some(Self { prefix, gateway, output, metric })
    }
}

fn is_alive(hop: &RouteNextHop) -> bool {
    !hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// RFC 5549: the gateway of an IPv4 route may have an IPv6 address.
fn gateway_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

impl Netlink {
    /// The routes of both families that decide where forwarded packets go.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            routes.extend(self.list("list the routes", RouteNetlinkMessage::GetRoute(request), |message| match message {
                RouteNetlinkMessage::NewRoute(message) => Route::from_message(&message),
                _ => None,
            })?);
        }
        Ok(routes)
    }
}
