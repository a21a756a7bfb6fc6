//! A pool: backends that serve the same thing.

use super::{Backend, Weight};
use crate::schedule::Member;
use std::net::SocketAddr;
use std::sync::Arc;

/// Named backends, all of one address family.
#[derive(Debug)]
pub struct Pool {
    /// The name in the config.
    pub name: String,
    /// In the order of the config.
    pub backends: Vec<Arc<Backend>>,
    /// `members[i]` is `backends[i].member`: the slice that schedulers are given.
    pub members: Vec<Arc<Member>>,
    /// Whether backends may get a part of their weight: with slow start, or an agent.
    pub divides_weights: bool,
    /// Indices of backends, in the order of their addresses.
    by_address: Vec<u16>,
}

impl Pool {
    /// A pool of these backends.
    pub fn new(name: &str, backends: Vec<Arc<Backend>>) -> Self {
        let members = backends.iter().map(|backend| Arc::clone(&backend.member)).collect();
        let mut by_address: Vec<u16> = (0..backends.len()).map(|index| index as u16).collect();
        by_address.sort_unstable_by_key(|index| backends[usize::from(*index)].address());
        Self { name: name.to_owned(), backends, members, divides_weights: false, by_address }
    }

    /// The index of the backend at this address; if there is none on this port, of one on another port of the same host.
    pub fn find(&self, address: SocketAddr) -> Option<usize> {
        let address_of = |index: &u16| self.members[usize::from(*index)].address;
        let same_host = |at: usize| self.by_address.get(at).filter(|index| address_of(index).ip() == address.ip());
        let exact = self.by_address.partition_point(|index| address_of(index) < address);
        let first = || self.by_address.partition_point(|index| address_of(index).ip() < address.ip());
        let found = same_host(exact).filter(|index| address_of(index) == address).or_else(|| same_host(first()))?;
        Some(usize::from(*found))
    }

    /// In how many parts of one the members' weights are.
    pub fn parts(&self) -> u32 {
        if self.divides_weights { Weight::parts(self.backends.iter().map(|backend| backend.weight().peak())) } else { 1 }
    }

    /// Gives members the weights that follow from what each is made of. Whether one has changed: then the owner calls
    /// [`crate::schedule::Scheduler::refresh`] of every service of the pool.
    pub fn weigh(&self) -> bool {
        let parts = self.parts();
        let mut changed = false;
        for backend in &self.backends {
            let weight = backend.weight().effective(parts);
            if backend.member.configured_weight() != weight {
                backend.member.set_weight(weight);
                changed = true;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::BackendId;

    #[test]
    fn a_backend_is_found_by_address_or_by_host() {
        let addresses = ["10.2.0.12:80", "10.2.0.11:8080", "10.2.0.11:443", "10.2.0.9:1"];
        let backend = |address: &&str| {
            let member = Member::new(address.parse().unwrap(), 1, true);
            Arc::new(Backend::new(BackendId(0), "pool", Arc::new(member)))
        };
        let pool = Pool::new("pool", addresses.iter().map(backend).collect());
        let find = |address: &str| pool.find(address.parse().unwrap());
        assert_eq!(["10.2.0.12:80", "10.2.0.11:8080", "10.2.0.11:443", "10.2.0.9:1"].map(find), [0, 1, 2, 3].map(Some));
        assert_eq!(["10.2.0.12:443", "10.2.0.11:80", "10.2.0.9:0"].map(find), [0, 2, 3].map(Some));
        assert_eq!(["10.2.0.10:80", "10.2.0.13:80", "10.2.0.1:80", "[fd02::11]:80"].map(find), [None; 4]);
    }
}
