//! VIPs and SNAT addresses on the interfaces, so that the kernel answers ARP and ND for them, and what is needed to take them off again.

use super::{Placed, StartError, StateFile};
use crate::kernel::{Link, Netlink, Owner, announce};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tracing::warn;

/// Where an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    interface: String,
    index: u32,
}

/// The addresses that weir put on interfaces. Dropping it takes them off.
#[derive(Debug)]
pub(super) struct Addresses {
    netlink: Netlink,
    state: StateFile,
    ours: BTreeMap<IpAddr, Place>,
}

impl Addresses {
    /// No addresses yet, but those that a killed weir left on interfaces that are still there.
    pub(super) fn new(netlink: Netlink, state: StateFile, left: Vec<Placed>, index: impl Fn(&str) -> Option<u32>) -> Self {
        let place = |placed: Placed| {
            let index = index(&placed.interface)?;
            Some((placed.address, Place { interface: placed.interface, index }))
        };
        Self { netlink, state, ours: left.into_iter().filter_map(place).collect() }
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

    /// Whether it was not there before.
    fn add_one(&mut self, address: IpAddr, link: &Link) -> Result<bool, StartError> {
        let place = Place { interface: link.name.clone(), index: link.index };
        let known = self.ours.get(&address).cloned();
        if let Some(known) = known.as_ref().filter(|known| **known != place) {
            self.netlink.remove_address(known.index, address)?;
        }
        // Written down first: a kill between the two leaves a name too many in the file, never one too few.
        self.ours.insert(address, place);
        self.record();
        let owner = match self.netlink.add_address(link.index, address) {
            Ok(owner) => owner,
            Err(error) => {
                self.forget(address);
                return Err(error.into());
            }
        };
        if owner == Owner::Other && known.is_none() {
            // Somebody else's: used, but not taken off at the end.
            self.forget(address);
        }
        if let Err(error) = announce(link, address) {
            warn!("{error}");
        }
        Ok(known.is_none())
    }

    /// Puts addresses back that are not on their interface any more.
    ///
    /// # Errors
    /// When the kernel refuses one; the others are not tried.
    pub(super) fn restore(&mut self, wanted: &BTreeMap<IpAddr, Link>) -> Result<(), StartError> {
        let there: Vec<(u32, IpAddr)> = self.netlink.addresses()?.iter().map(|item| (item.index, item.address)).collect();
        for (address, link) in wanted.iter().filter(|(address, link)| !there.contains(&(link.index, **address))) {
            self.add_one(*address, link)?;
        }
        Ok(())
    }

    /// Takes those of these addresses off that are ours.
    pub(super) fn remove(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            let Some(place) = self.ours.get(&address) else { continue };
            if let Err(error) = self.netlink.remove_address(place.index, address) {
                warn!("{error}; {address} stays on interface {}", place.interface);
            }
            self.forget(address);
        }
    }

    /// Those that weir put there.
    pub(super) fn ours(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ours.keys().copied()
    }

    fn forget(&mut self, address: IpAddr) {
        self.ours.remove(&address);
        self.record();
    }

    fn record(&mut self) {
        let placed = |(address, place): (&IpAddr, &Place)| Placed { interface: place.interface.clone(), address: *address };
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
