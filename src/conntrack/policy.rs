//! Which timeouts hold for which connection (the kernel's `nf_ct_timeout`), and whose backend has left.

use super::Timeouts;

/// Timeouts of all services, the backends that no pool has any more, and which pools are whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// For services without any of their own.
    pub common: Timeouts,
    /// By the index of the service.
    of_service: Vec<Option<Box<Timeouts>>>,
    /// Indices of backends, in order.
    removed: Vec<u16>,
    /// By the index of the service: its pools' numbers; empty: any.
    pools_of_service: Vec<Vec<u16>>,
    /// By the index of the backend.
    pool_of_backend: Vec<u16>,
    shortest: u32,
}

impl TimeoutPolicy {
    /// `services`: index and timeouts of each that has its own. `removed`: indices of backends. `protocols`: names of the protocols that
    /// services are on; the timeouts of others do not matter to [`TimeoutPolicy::shortest`].
    pub fn new(common: Timeouts, services: &[(u16, Timeouts)], mut removed: Vec<u16>, protocols: &[&str]) -> Self {
        let mut of_service = vec![None; services.iter().map(|(id, _)| usize::from(*id) + 1).max().unwrap_or(0)];
        for (id, timeouts) in services {
            of_service[usize::from(*id)] = Some(Box::new(*timeouts));
        }
        removed.sort_unstable();
        let all = services.iter().map(|(_, timeouts)| timeouts).chain([&common]);
        let shortest = all.map(|timeouts| timeouts.shortest_of(protocols)).fold(u32::MAX, u32::min);
        Self { common, of_service, removed, shortest, pools_of_service: Vec::new(), pool_of_backend: Vec::new() }
    }

    /// The same for services whose connections stay with their own pools. `services`: index and numbers of its pools; `backends`: index and
    /// number of its pool.
    pub fn with_pools(mut self, services: &[(u16, Vec<u16>)], backends: &[(u16, u16)]) -> Self {
        let length = |last: Option<u16>| last.map_or(0, |last| usize::from(last) + 1);
        self.pools_of_service = vec![Vec::new(); length(services.iter().map(|(id, _)| *id).max())];
        self.pool_of_backend = vec![u16::MAX; length(backends.iter().map(|(id, _)| *id).max())];
        for (id, pools) in services {
            self.pools_of_service[usize::from(*id)].clone_from(pools);
        }
        for (id, pool) in backends {
            self.pool_of_backend[usize::from(*id)] = *pool;
        }
        self
    }

    /// Those of a service.
    pub fn of(&self, service: u16) -> &Timeouts {
        self.of_service.get(usize::from(service)).and_then(Option::as_deref).unwrap_or(&self.common)
    }

    /// Whether this service sends nothing new to this backend: no pool has it any more, or none of the service's, or it takes no new
    /// connections.
    pub fn has_left(&self, service: u16, backend: u16) -> bool {
        let pools = self.pools_of_service.get(usize::from(service)).filter(|pools| !pools.is_empty());
        let stranger =
            pools.zip(self.pool_of_backend.get(usize::from(backend))).is_some_and(|(pools, pool)| !pools.contains(pool));
        stranger || !self.removed.is_empty() && self.removed.binary_search(&backend).is_ok()
    }

    /// The same, with more backends among the removed ones.
    pub fn leaving(&self, also: impl Iterator<Item = u16>) -> Self {
        let mut removed: Vec<u16> = self.removed.iter().copied().chain(also).collect();
        removed.sort_unstable();
        removed.dedup();
        Self { removed, ..self.clone() }
    }

    /// The shortest that a connection of any service may have.
    pub fn shortest(&self) -> u32 {
        self.shortest
    }
}

/// The same timeouts for all services, of any protocol.
impl From<Timeouts> for TimeoutPolicy {
    fn from(common: Timeouts) -> Self {
        Self {
            common,
            of_service: Vec::new(),
            removed: Vec::new(),
            shortest: common.shortest(),
            pools_of_service: Vec::new(),
            pool_of_backend: Vec::new(),
        }
    }
}

impl Default for TimeoutPolicy {
    fn default() -> Self {
        Timeouts::default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_has_left_when_it_is_in_no_pool_of_the_service() {
        let policy = TimeoutPolicy::new(Timeouts::default(), &[], vec![9], &["udp"]);
        assert!(policy.has_left(0, 9) && !policy.has_left(0, 1), "no pools are known");
        // Service 1 has pools 0 and, for a backup, 2; service 4 has pool 1.
        let policy = policy.with_pools(&[(1, vec![0, 2]), (4, vec![1])], &[(0, 0), (1, 1), (2, 2), (9, 0)]);
        assert!(!policy.has_left(1, 0) && !policy.has_left(1, 2) && policy.has_left(1, 1));
        assert!(policy.has_left(4, 0) && !policy.has_left(4, 1));
        assert!(policy.has_left(1, 9), "removed all the same");
        assert!(!policy.has_left(2, 0), "a service that is not known");
    }
}
