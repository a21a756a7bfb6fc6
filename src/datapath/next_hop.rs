//! Where a packet goes next on the wire: routes and neighbours as the kernel has them, mirrored by the control thread.
//!
//! A connection remembers one small [`NextHopId`] for each direction and the [`NextHops::epoch`] at which it was looked up. When
//! routes change, the epoch moves on and the connection looks its next hops up again; when only a neighbour's link address
//! changes, its slot is overwritten and every connection over it follows at once.

use super::{MAX_PORTS, PortId};
use crate::conntrack::LAST_HOP;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use foldhash::HashMap;
use ipnet::IpNet;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Index of a neighbour's slot, from 1: 0 means none, and its slot stays empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHopId(pub u16);

/// Slots for neighbours; a connection has 16 bits for each of its next hops, some values of which mean that it has none.
pub const NEXT_HOPS: usize = LAST_HOP as usize;

/// One for each number of 16 bits, so that none is out of bounds. Those of no neighbour stay empty.
type Slots = [AtomicU64; 1 << 16];

/// A neighbour, resolved: what the Ethernet header toward it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Destination of the frame.
    pub mac: [u8; 6],
    /// Out of this port.
    pub port: PortId,
    /// With this 802.1Q VLAN id, 1 to 4094; 0 without tag.
    pub vlan: u16,
}

impl NextHop {
    /// MAC in the upper 48 bits, port in 4, VLAN id in 12: one load reads all of it.
    fn pack(self) -> u64 {
        let mac = self.mac.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        mac << 16 | u64::from(self.port.0 & 0xf) << 12 | u64::from(self.vlan & 0xfff)
    }

    fn unpack(bits: u64) -> Option<Self> {
        let [m0, m1, m2, m3, m4, m5, _, _] = bits.to_be_bytes();
        let mac = [m0, m1, m2, m3, m4, m5];
        let hop = Self { mac, port: PortId((bits >> 12 & 0xf) as u8), vlan: (bits & 0xfff) as u16 };
        (mac != [0; 6]).then_some(hop)
    }
}

/// A resolved neighbour in one word, as the packet path uses it: MAC in the upper 48 bits, port in 4, VLAN id in 12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hop(u64);

impl Hop {
    #[inline(always)]
    pub(super) fn port(self) -> PortId {
        PortId((self.0 >> 12 & 0xf) as u8)
    }

    #[inline(always)]
    pub(super) fn vlan(self) -> u16 {
        (self.0 & 0xfff) as u16
    }

    /// The destination MAC address in the upper 48 bits, zeroes below.
    #[inline(always)]
    pub(super) fn mac(self) -> u64 {
        self.0 & !0xffff
    }
}

/// One route of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destinations that it is for.
    pub prefix: IpNet,
    /// `None`: the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Out of this port. `None`: not weir's to forward; it leads out of another interface, to the host itself, or nowhere (blackhole).
    /// Such routes are kept because they hide the shorter prefixes behind them.
    pub port: Option<PortId>,
    /// With this VLAN id; 0 without tag.
    pub vlan: u16,
    /// The kernel's priority: the lower one wins among equal prefixes.
    pub metric: u32,
}

/// Routes by prefix length, the longest first; a lookup costs one hash for each length that is in use, however many routes there are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Routes(BTreeMap<Reverse<u8>, HashMap<IpNet, Route>>);

impl Routes {
    /// Keeps the route with the lowest metric of each prefix, the first of equal ones.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut lengths = BTreeMap::<_, HashMap<IpNet, Route>>::new();
        for route in routes {
            let prefix = route.prefix.trunc();
            let same_length = lengths.entry(Reverse(prefix.prefix_len())).or_default();
            let best = same_length.entry(prefix).or_insert(route);
            if route.metric < best.metric {
                *best = route;
            }
        }
        Self(lengths)
    }

    /// The route to `destination`.
    pub fn find(&self, destination: IpAddr) -> Option<&Route> {
        self.0.iter().find_map(|(Reverse(length), routes)| routes.get(&IpNet::new(destination, *length).ok()?.trunc()))
    }
}

/// What the datapath must know of an interface, kept up to date by the control thread. Independent numbers: `Relaxed`.
#[derive(Debug, Default)]
pub struct PortState {
    /// Its own MAC address in the lower 48 bits, the first byte the highest.
    mac: AtomicU64,
    /// Largest IP packet, in bytes; 0 while the interface is down.
    mtu: AtomicU32,
    /// 1: checksums of frames that come in here may be partial and are computed anew.
    recompute: AtomicU32,
}

impl PortState {
    /// The interface's own MAC address.
    pub fn mac(&self) -> [u8; 6] {
        let [_, _, mac @ ..] = self.mac.load(Ordering::Relaxed).to_be_bytes();
        mac
    }

    /// [`PortState::mac`] in the lower 48 bits.
    #[inline(always)]
    pub(super) fn mac_bits(&self) -> u64 {
        self.mac.load(Ordering::Relaxed)
    }

    /// Largest IP packet in bytes; 0 while the interface is down.
    pub fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Whether checksums of frames received here may be partial.
    pub fn recompute(&self) -> bool {
        self.recompute.load(Ordering::Relaxed) != 0
    }

    /// The control thread's: address and MTU (0: down).
    pub fn set(&self, mac: [u8; 6], mtu: u32) {
        self.mac.store(mac.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)), Ordering::Relaxed);
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    /// The control thread's: `checksum = "recompute"`.
    pub fn set_recompute(&self, recompute: bool) {
        self.recompute.store(u32::from(recompute), Ordering::Relaxed);
    }
}

/// What an address is to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// One of its own, on whatever interface.
    Own,
    /// The broadcast address of a prefix that it has an address in.
    Broadcast,
}

/// Addresses of this machine, each list sorted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Locals {
    own: Vec<IpAddr>,
    broadcasts: Vec<IpAddr>,
}

/// All next hops of the daemon, shared by control (writes) and workers (read).
#[derive(Debug)]
pub struct NextHops {
    slots: Box<Slots>,
    taken: AtomicU32,
    neighbours: DashMap<(PortId, u16, IpAddr), NextHopId>,
    routes: ArcSwap<Routes>,
    locals: ArcSwap<Locals>,
    epoch: AtomicU16,
    ports: [PortState; MAX_PORTS],
}

/// Why there is no next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No route leads there through one of weir's interfaces.
    NoRoute,
    /// The neighbour is not resolved; this address must be.
    Unresolved(PortId, IpAddr),
}

impl Default for NextHops {
    fn default() -> Self {
        let slots: Vec<_> = (0..1 << 16).map(|_| AtomicU64::new(0)).collect();
        Self {
            slots: slots.into_boxed_slice().try_into().expect("that many"),
            taken: AtomicU32::new(0),
            neighbours: DashMap::new(),
            routes: ArcSwap::default(),
            locals: ArcSwap::default(),
            epoch: AtomicU16::new(0),
            ports: Default::default(),
        }
    }
}

impl NextHops {
    /// What is known of an interface.
    pub fn port(&self, port: PortId) -> &PortState {
        &self.ports[usize::from(port.0) % MAX_PORTS]
    }

    /// Moves when routes changed. Pairs with the `Release` in [`NextHops::set_routes`]: who sees the new epoch finds the new routes.
    #[inline]
    pub fn epoch(&self) -> u16 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The neighbour in a slot, `None` while it is not resolved. `Relaxed`: the word is the whole message.
    #[inline]
    pub fn get(&self, id: NextHopId) -> Option<NextHop> {
        NextHop::unpack(self.slots[usize::from(id.0)].load(Ordering::Relaxed))
    }

    /// As [`NextHops::get`], still in one word.
    #[inline(always)]
    pub(super) fn hop(&self, id: NextHopId) -> Option<Hop> {
        let bits = self.slots[usize::from(id.0)].load(Ordering::Relaxed);
        (bits >> 16 != 0).then_some(Hop(bits))
    }

    /// Route and neighbour lookup for a first packet or after the epoch moved.
    pub fn find(&self, destination: IpAddr) -> Result<NextHopId, Unreachable> {
        let routes = self.routes.load();
        let route = routes.find(destination).ok_or(Unreachable::NoRoute)?;
        let port = route.port.ok_or(Unreachable::NoRoute)?;
        let neighbour = route.gateway.unwrap_or(destination);
        let unresolved = Unreachable::Unresolved(port, neighbour);
        let id = *self.neighbours.get(&(port, route.vlan, neighbour)).ok_or(unresolved)?;
        self.get(id).map(|_| id).ok_or(unresolved)
    }

    /// The control thread's: replaces all routes. Returns whether anything changed.
    pub fn set_routes(&self, routes: Routes) -> bool {
        if **self.routes.load() == routes {
            return false;
        }
        self.routes.store(std::sync::Arc::new(routes));
        // Release: pairs with the Acquire in `epoch`.
        self.epoch.fetch_add(1, Ordering::Release);
        true
    }

    /// The control thread's: the addresses of the machine itself, and the broadcast addresses of the prefixes that they are in.
    pub fn set_locals(&self, own: impl IntoIterator<Item = IpAddr>, broadcasts: impl IntoIterator<Item = IpAddr>) {
        let locals = Locals { own: sorted(own), broadcasts: sorted(broadcasts) };
        if **self.locals.load() != locals {
            self.locals.store(std::sync::Arc::new(locals));
        }
    }

    /// Whether an address is one of this machine's.
    pub fn local(&self, address: IpAddr) -> Option<Local> {
        let locals = self.locals.load();
        let is_in = |list: &[IpAddr]| list.binary_search(&address).is_ok();
        if is_in(&locals.own) { Some(Local::Own) } else { is_in(&locals.broadcasts).then_some(Local::Broadcast) }
    }

    /// The route that a packet to `destination` takes now.
    pub fn route(&self, destination: IpAddr) -> Option<Route> {
        self.routes.load().find(destination).copied()
    }

    /// The control thread's: the kernel resolved a neighbour, or its link address changed. `false` when all slots are taken.
    pub fn set_neighbour(&self, address: IpAddr, hop: NextHop) -> bool {
        let key = (hop.port, hop.vlan, address);
        let known = self.neighbours.get(&key).map(|id| *id);
        let Some(id) = known.or_else(|| self.take_slot()) else { return false };
        self.slots[usize::from(id.0)].store(hop.pack(), Ordering::Relaxed);
        self.neighbours.insert(key, id);
        true
    }

    /// The control thread's: the kernel forgot a neighbour or failed to resolve it. Its slot stays its own, empty.
    pub fn clear_neighbour(&self, address: IpAddr, port: PortId, vlan: u16) {
        if let Some(id) = self.neighbours.get(&(port, vlan, address)) {
            self.slots[usize::from(id.0)].store(0, Ordering::Relaxed);
        }
    }

    /// Neighbours with a slot: address, slot and what is in it.
    pub fn neighbours(&self) -> Vec<(IpAddr, NextHopId, Option<NextHop>)> {
        self.neighbours.iter().map(|item| (item.key().2, *item.value(), self.get(*item.value()))).collect()
    }

    fn take_slot(&self) -> Option<NextHopId> {
        let taken = self.taken.load(Ordering::Relaxed);
        let id = u16::try_from(taken + 1).ok().filter(|id| *id <= LAST_HOP)?;
        self.taken.store(taken + 1, Ordering::Relaxed);
        Some(NextHopId(id))
    }
}

fn sorted(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.into_iter().collect();
    addresses.sort_unstable();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, gateway: Option<&str>, port: Option<u8>, metric: u32) -> Route {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        Route { prefix: prefix.parse().unwrap(), gateway, port: port.map(PortId), vlan: 0, metric }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let routes = Routes::new(vec![
            route("0.0.0.0/0", Some("10.0.0.1"), Some(0), 100),
            route("0.0.0.0/0", Some("10.0.0.2"), Some(0), 50),
            route("10.1.0.0/16", None, Some(1), 0),
            route("10.1.2.3/32", None, Some(2), 9),
            route("::/0", Some("fe80::1"), Some(3), 1024),
        ]);
        let port = |text| routes.find(address(text)).and_then(|route| route.port).map(|port| port.0);
        assert_eq!(routes.find(address("192.0.2.1")).and_then(|route| route.gateway), Some(address("10.0.0.2")));
        assert_eq!(port("10.1.9.9"), Some(1));
        assert_eq!(port("10.1.2.3"), Some(2));
        assert_eq!(port("2001:db8::1"), Some(3));
        assert_eq!(Routes::default().find(address("10.1.2.3")), None);
    }

    #[test]
    fn what_leads_elsewhere_is_no_route_and_hides_what_is_behind_it() {
        let hops = NextHops::default();
        assert!(hops.set_routes(Routes::new(vec![
            route("0.0.0.0/0", Some("10.0.0.1"), Some(0), 0),
            route("10.9.0.0/16", None, None, 0),
        ])));
        assert_eq!(hops.find(address("10.9.0.1")), Err(Unreachable::NoRoute));
        assert_eq!(hops.find(address("10.8.0.1")), Err(Unreachable::Unresolved(PortId(0), address("10.0.0.1"))));
    }
}
