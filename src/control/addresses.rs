//! VIPs and SNAT addresses on the interfaces, so that the kernel answers ARP and ND for them, and what is needed to take them off again.

use super::{Placed, StartError, StateFile};
use crate::config::Config;
use crate::kernel::{Address, Announcer, Link, Netlink, Owner};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use tracing::{info, warn};

/// Where an address is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    interface: String,
    index: u32,
}

/// The addresses that weir put on interfaces. Dropping it takes them off.
#[derive(Debug)]
pub(super) struct Addresses {
    netlink: Netlink,
    announcer: Announcer,
    state: StateFile,
    /// An address is in two places while it moves from one to the other.
    ours: BTreeSet<(IpAddr, Place)>,
}

impl Addresses {
    /// No addresses yet, but those that a killed weir left on interfaces that are still there.
    pub(super) fn new(
        (netlink, announcer): (Netlink, Announcer),
        state: StateFile,
        left: Vec<Placed>,
        index: impl Fn(&str) -> Option<u32>,
    ) -> Self {
        let place = |placed: Placed| {
            let index = index(&placed.interface)?;
            Some((placed.address, Place { interface: placed.interface, index }))
        };
        Self { netlink, announcer, state, ours: left.into_iter().filter_map(place).collect() }
    }

    /// Puts addresses on interfaces where they are not yet, and tells the neighbours where they are now. On an error the new ones are
    /// taken off again.
    pub(super) fn add(&mut self, wanted: &BTreeMap<IpAddr, Link>) -> Result<(), StartError> {
        let mut added = Vec::new();
        for (address, link) in wanted {
            match self.add_one(*address, link) {
                Ok(true) => added.push(*address),
                Ok(false) => {}
                Err(error) => {
                    self.remove(added);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Whether it was not there before. If it was on another interface, it goes from there last: at no time is nobody asked for it.
    fn add_one(&mut self, address: IpAddr, link: &Link) -> Result<bool, StartError> {
        let place = Place { interface: link.name.clone(), index: link.index };
        let before = self.places(address);
        let known = before.contains(&place);
        // Written down first: a kill between the two leaves a name too many in the file, never one too few.
        self.ours.insert((address, place.clone()));
        self.record();
        let owner = match self.netlink.add_address(link.index, address) {
            Ok(owner) => owner,
            Err(error) => {
                self.forget(address, &place);
                return Err(error.into());
            }
        };
        if owner == Owner::Other && !known {
            // Somebody else's: used, but not taken off at the end.
            self.forget(address, &place);
        }
        if let Err(error) = self.announcer.announce(link, address) {
            warn!("{error}");
        }
        for old in before.iter().filter(|old| **old != place) {
            info!("{address} moves from interface {} to interface {}", old.interface, place.interface);
            self.take_off(address, old);
        }
        Ok(before.is_empty())
    }

    /// Puts addresses back that are not on their interface any more, and moves those that are on another one.
    ///
    /// # Errors
    /// When the kernel refuses one; the others are not tried.
    pub(super) fn restore(&mut self, wanted: &BTreeMap<IpAddr, Link>, there: &[Address]) -> Result<(), StartError> {
        for (address, link) in self.missing(wanted, there) {
            self.add_one(address, &link)?;
        }
        Ok(())
    }

    /// Those that are not on their interface, as `there` says, or on another one as well.
    pub(super) fn missing(&self, wanted: &BTreeMap<IpAddr, Link>, there: &[Address]) -> BTreeMap<IpAddr, Link> {
        let there: HashSet<(u32, IpAddr)> = there.iter().map(|item| (item.index, item.address)).collect();
        let mut missing = wanted.clone();
        missing.retain(|address, link| {
            !there.contains(&(link.index, *address)) || self.indices(*address).any(|index| index != link.index)
        });
        missing
    }

    /// Takes those of these addresses off that are ours.
    pub(super) fn remove(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            for place in self.places(address) {
                self.take_off(address, &place);
            }
        }
    }

    fn take_off(&mut self, address: IpAddr, place: &Place) {
        if let Err(error) = self.netlink.remove_address(place.index, address) {
            warn!("{error}; {address} stays on interface {}", place.interface);
        }
        self.forget(address, place);
    }

    /// Refuses SNAT addresses that the host has from somebody else, for weir takes all packets to them; warns of VIPs of which that is
    /// true as well, where it may be meant.
    ///
    /// # Errors
    /// [`StartError::SnatTaken`]
    pub(super) fn check(&self, config: &Config, there: &[Address], links: &[Link]) -> Result<(), StartError> {
        let interface = |item: &Address| {
            let link = links.iter().find(|link| link.index == item.index);
            link.map_or_else(|| format!("number {}", item.index), |link| link.name.clone())
        };
        for address in config.snat.addresses() {
            if let Some(item) = self.foreign(address, there) {
                return Err(StartError::SnatTaken { address, interface: interface(item) });
            }
        }
        for service in config.services.iter().filter(|service| service.port.is_none() || service.helper.is_some()) {
            if let Some(item) = self.foreign(service.vip, there) {
                let takes = match service.port {
                    None => "is on every port: the host gets no packet of its protocol to it any more",
                    Some(_) => {
                        "has a helper: the host gets no TCP packet to its ports from 1024 on any more, nor answers to its own"
                    }
                };
                let (name, vip) = (&service.name, service.vip);
                warn!(
                    "service {name}: {vip} is an address of the host, on interface {}, and the service {takes}",
                    interface(item)
                );
            }
        }
        Ok(())
    }

    /// Where somebody else put this address.
    fn foreign<'a>(&self, address: IpAddr, there: &'a [Address]) -> Option<&'a Address> {
        let places = self.places(address);
        // Kernels that keep no mark: what is written down is ours as well, if it looks as we put it there.
        let ours = |item: &Address| {
            item.owner == Owner::Weir || (item.is_host() && places.iter().any(|place| place.index == item.index))
        };
        there.iter().find(|item| item.address == address && !ours(item))
    }

    /// The interfaces on which weir put this address.
    pub(super) fn indices(&self, address: IpAddr) -> impl Iterator<Item = u32> + '_ {
        self.at(address).map(|place| place.index)
    }

    fn places(&self, address: IpAddr) -> Vec<Place> {
        self.at(address).cloned().collect()
    }

    fn at(&self, address: IpAddr) -> impl Iterator<Item = &Place> + '_ {
        let first = (address, Place { interface: String::new(), index: 0 });
        self.ours.range(first..).take_while(move |(ours, _)| *ours == address).map(|(_, place)| place)
    }

    /// Those that weir put there.
    pub(super) fn ours(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ours.iter().map(|(address, _)| *address)
    }

    fn forget(&mut self, address: IpAddr, place: &Place) {
        self.ours.remove(&(address, place.clone()));
        self.record();
    }

    fn record(&mut self) {
        let placed = |(address, place): &(IpAddr, Place)| Placed { interface: place.interface.clone(), address: *address };
        let addresses: Vec<Placed> = self.ours.iter().map(placed).collect();
        if let Err(error) = self.state.record(&addresses) {
            warn!("the state file beside the admin socket could not be written: {error}");
        }
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        let ours: Vec<IpAddr> = self.ours().collect();
        self.remove(ours);
    }
}
