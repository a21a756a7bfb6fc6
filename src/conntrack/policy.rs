//! Which timeouts hold for which connection (the kernel's `nf_ct_timeout`), and whose backend has left.

use super::Timeouts;

/// Timeouts of all services, and the backends that no pool has any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// For services without any of their own.
    pub common: Timeouts,
    /// By the index of the service.
    of_service: Vec<Option<Box<Timeouts>>>,
    /// Indices of backends, in order.
    removed: Vec<u16>,
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
        Self { common, of_service, removed, shortest }
    }

    /// Those of a service.
    pub fn of(&self, service: u16) -> &Timeouts {
        self.of_service.get(usize::from(service)).and_then(Option::as_deref).unwrap_or(&self.common)
    }

    /// Whether no pool has this backend any more, or it takes no new connections.
    pub fn is_removed(&self, backend: u16) -> bool {
        !self.removed.is_empty() && self.removed.binary_search(&backend).is_ok()
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
        Self { common, of_service: Vec::new(), removed: Vec::new(), shortest: common.shortest() }
    }
}

impl Default for TimeoutPolicy {
    fn default() -> Self {
        Timeouts::default().into()
    }
}
