//! Kernel state in the datapath's words: interfaces become ports, routes and neighbours become next hops.

use super::solicit::solicit;
use super::{Address, Event, Link, Neighbour, NeighbourState, Netlink, NetlinkError, Route};
use crate::datapath::{self, NextHop, NextHops, PortId, Routes};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Keeps a [`NextHops`] as the kernel has it.
///
/// Open a [`super::Monitor`], then [`Mirror::load`]; give every event to [`Mirror::apply`] and call [`Mirror::settle`] once after each
/// batch of them. Nothing that happens between is lost, since the monitor was there first.
#[derive(Debug)]
pub struct Mirror {
    served: Vec<(String, PortId)>,
    links: BTreeMap<u32, Link>,
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    routes: Vec<Route>,
    /// Interfaces from which the kernel can ask for neighbours of IPv6 by itself.
    with_link_local: BTreeSet<u32>,
    unsettled: Unsettled,
}

/// What must be listed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unsettled {
    Nothing,
    Routes,
    Everything,
}

impl Mirror {
    /// A mirror for these interfaces and the 802.1Q interfaces on top of them. Empty until loaded.
    pub fn new(interfaces: impl IntoIterator<Item = (String, PortId)>) -> Self {
        Self {
            served: interfaces.into_iter().collect(),
            links: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            routes: Vec::new(),
            with_link_local: BTreeSet::new(),
            unsettled: Unsettled::Everything,
        }
    }

    /// Lists everything and makes `hops` that.
    pub fn load(&mut self, netlink: &mut Netlink, hops: &NextHops) -> Result<(), NetlinkError> {
        let (links, neighbours, routes) = (netlink.links()?, netlink.neighbours()?, netlink.routes()?);
        let usable = netlink.addresses()?.into_iter().filter(Address::is_link_local_in_use);
        self.with_link_local = usable.map(|address| address.index).collect();
        self.forget_neighbours(hops, |_| true);
        self.links = links.into_iter().map(|link| (link.index, link)).collect();
        self.set_ports(hops);
        for neighbour in neighbours {
            self.learn_neighbour(neighbour, hops);
        }
        self.set_routes(routes, hops);
        Ok(())
    }

    /// Takes a change over. Changes of routes are only noted: [`Mirror::settle`] lists them, once for many changes.
    pub fn apply(&mut self, event: &Event, hops: &NextHops) {
        match event {
            Event::Link(link) => self.learn_link(link, hops),
            Event::LinkGone(link) => self.forget_link(link, hops),
            Event::Neighbour(neighbour) => self.learn_neighbour(*neighbour, hops),
            Event::NeighbourGone(neighbour) => {
                let key = (neighbour.index, neighbour.address);
                self.forget_neighbours(hops, |known| *known == key);
            }
            Event::Routes => self.unsettled = self.unsettled.max(Unsettled::Routes),
            Event::Address(address) => {
                if address.is_link_local_in_use() {
                    self.with_link_local.insert(address.index);
                }
                self.unsettled = self.unsettled.max(Unsettled::Routes);
            }
            Event::AddressGone(address) => {
                if address.is_link_local_in_use() {
                    self.with_link_local.remove(&address.index);
                }
                self.unsettled = self.unsettled.max(Unsettled::Routes);
            }
            Event::Overrun => self.unsettled = Unsettled::Everything,
        }
    }

    /// Lists what [`Mirror::apply`] only noted. Returns whether anything was listed.
    pub fn settle(&mut self, netlink: &mut Netlink, hops: &NextHops) -> Result<bool, NetlinkError> {
        match self.unsettled {
            Unsettled::Nothing => return Ok(false),
            Unsettled::Routes => self.set_routes(netlink.routes()?, hops),
            Unsettled::Everything => self.load(netlink, hops)?,
        }
        Ok(true)
    }

    /// The interface behind a port.
    pub fn link(&self, port: PortId) -> Option<&Link> {
        self.links.values().find(|link| self.place(link) == Some((port, 0)))
    }

    /// Makes the kernel resolve a neighbour that the datapath misses. Over VLANs the same address may be on several interfaces of a
    /// port (a link-local gateway is); then each is asked, and each answer fills its own next hop.
    pub fn resolve(&self, netlink: &mut Netlink, port: PortId, address: IpAddr) -> Result<(), NetlinkError> {
        let mut outputs: Vec<_> =
            self.routes.iter().filter(|route| leads_to(route, address)).filter_map(|route| route.output).collect();
        outputs.sort_unstable();
        outputs.dedup();
        outputs.retain(|index| !self.is_fixed(*index, address));
        for link in outputs.iter().filter_map(|index| self.links.get(index)) {
            if self.place(link).is_some_and(|(place, _)| place == port) {
                netlink.resolve(link.index, address)?;
                self.solicit(link, address);
            }
        }
        Ok(())
    }

    /// Asks for a neighbour of IPv6 in the kernel's stead, which now has an entry for it, where the kernel cannot.
    fn solicit(&self, link: &Link, address: IpAddr) {
        if let IpAddr::V6(target) = address
            && !self.with_link_local.contains(&link.index)
            && let Err(error) = solicit(link, target)
        {
            // Passes: the kernel asks as soon as it can, and so does the next packet.
            tracing::debug!("interface {}: cannot ask for {target}: {error}", link.name);
        }
    }

    /// Whether somebody said for good what the link address is. Asking the kernel to use such an entry would make it an ordinary one, which
    /// fails when nobody answers (`NEIGH_UPDATE_F_USE` takes NUD_PERMANENT away).
    fn is_fixed(&self, index: u32, address: IpAddr) -> bool {
        let known = self.neighbours.get(&(index, address));
        known.is_some_and(|neighbour| matches!(neighbour.state, NeighbourState::Permanent | NeighbourState::Noarp))
    }

    /// Neighbours that the kernel has not confirmed for a while, by interface.
    pub fn stale(&self) -> Vec<(u32, IpAddr)> {
        let stale = self.neighbours.values().filter(|neighbour| neighbour.state == NeighbourState::Stale);
        stale.map(|neighbour| (neighbour.index, neighbour.address)).collect()
    }

    /// Makes the kernel ask again for a neighbour that it has not confirmed for a while, if that is still so. It does not see weir's
    /// packets, so without this it would never notice that a link address has silently changed. Do it every half a minute or so.
    pub fn confirm(&self, netlink: &mut Netlink, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        match self.neighbours.get(&(index, address)) {
            Some(neighbour) if neighbour.state == NeighbourState::Stale => netlink.resolve(index, address),
            _ => Ok(()),
        }
    }

    /// Whether the link address of a neighbour out of a port is known.
    pub fn is_resolved(&self, port: PortId, address: IpAddr) -> bool {
        let of_port = self.links.values().filter(|link| self.place(link).is_some_and(|(place, _)| place == port));
        of_port.filter_map(|link| self.neighbours.get(&(link.index, address))).any(|neighbour| neighbour.resolved().is_some())
    }

    pub(super) fn set_routes(&mut self, routes: Vec<Route>, hops: &NextHops) {
        self.routes = routes;
        let routes = self.routes.iter().map(|route| {
            let place = route.output.and_then(|index| self.place_of(index));
            let (port, vlan) = place.map_or((None, 0), |(port, vlan)| (Some(port), vlan));
            datapath::Route { prefix: route.prefix, gateway: route.gateway, port, vlan, metric: route.metric }
        });
        hops.set_routes(Routes::new(routes.collect()));
        self.unsettled = Unsettled::Nothing;
    }

    /// The port of an interface, and the VLAN id that its frames carry there.
    fn place(&self, link: &Link) -> Option<(PortId, u16)> {
        let port_of = |name: &str| self.served.iter().find(|(served, _)| served == name).map(|(_, port)| *port);
        if let Some(port) = port_of(&link.name) {
            return Some((port, 0));
        }
        let (below, vlan) = link.vlan?;
        Some((port_of(&self.links.get(&below)?.name)?, vlan))
    }

    fn place_of(&self, index: u32) -> Option<(PortId, u16)> {
        self.place(self.links.get(&index)?)
    }

    /// A port whose interface is down or missing has MTU 0.
    fn set_ports(&self, hops: &NextHops) {
        for (name, port) in &self.served {
            let state = hops.port(*port);
            match self.links.values().find(|link| link.name == *name) {
                Some(link) => state.set(link.mac, if link.up { link.mtu } else { 0 }),
                None => state.set(state.mac(), 0),
            }
        }
    }

    fn learn_link(&mut self, link: &Link, hops: &NextHops) {
        let place = self.place_of(link.index);
        self.links.insert(link.index, link.clone());
        if self.place_of(link.index) != place {
            // Renamed, or moved to another VLAN: every neighbour and route over it means something else now.
            self.unsettled = Unsettled::Everything;
        }
        // The kernel takes routes away with a link that goes down, and does not tell for IPv4.
        self.unsettled = self.unsettled.max(Unsettled::Routes);
        self.set_ports(hops);
    }

    fn forget_link(&mut self, link: &Link, hops: &NextHops) {
        self.forget_neighbours(hops, |(index, _)| *index == link.index);
        self.links.remove(&link.index);
        self.unsettled = self.unsettled.max(Unsettled::Routes);
        self.set_ports(hops);
    }

    fn learn_neighbour(&mut self, neighbour: Neighbour, hops: &NextHops) {
        let Some((port, vlan)) = self.place_of(neighbour.index) else { return };
        if neighbour.address.is_multicast() || neighbour.address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return; // the kernel lists where it sent multicast; nothing is forwarded there
        }
        self.neighbours.insert((neighbour.index, neighbour.address), neighbour);
        match neighbour.resolved() {
            Some(mac) if !hops.set_neighbour(neighbour.address, NextHop { mac, port, vlan }) => {
                tracing::warn!(address = %neighbour.address, "no slot left for this neighbour: it cannot be reached");
            }
            Some(_) => {}
            None => hops.clear_neighbour(neighbour.address, port, vlan),
        }
    }

    fn forget_neighbours(&mut self, hops: &NextHops, gone: impl Fn(&(u32, IpAddr)) -> bool) {
        let keys: Vec<_> = self.neighbours.keys().copied().filter(|key| gone(key)).collect();
        for (index, address) in keys {
            self.neighbours.remove(&(index, address));
            if let Some((port, vlan)) = self.place_of(index) {
                hops.clear_neighbour(address, port, vlan);
            }
        }
    }
}

/// Whether packets of this route go to the neighbour with this address.
fn leads_to(route: &Route, neighbour: IpAddr) -> bool {
    match route.gateway {
        Some(gateway) => gateway == neighbour,
        None => route.prefix.contains(&neighbour),
    }
}
