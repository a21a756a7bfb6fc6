//! Who has which id: the memory that makes a snapshot out of a config, and keeps backends and services what they were over reloads.
//!
//! A backend is the same one as before if its pool's name and its address are: it keeps its id, its counters and its health. One that the
//! config has no more stays in the snapshot, out of every pool, for as long as a connection or a worker may still refer to it. A service
//! is the same one if its name is.

use crate::config::{self, Config, Pool as PoolConfig};
use crate::conntrack::TimeoutPolicy;
use crate::health::{Start, Target, Watched};
use crate::schedule::{self, Builder, Member};
use crate::service::{Access, Backend, BackendId, Backup, Ledger, Persistence, Pool, Service, ServiceId, Services, Snapshot};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Ids of one kind: they have 16 bits.
const IDS: usize = 1 << 16;

/// Ids that were given out, and what is shared with the workers under them.
#[derive(Debug, Default)]
pub struct Registry {
    services: HashMap<String, (ServiceId, Arc<Ledger>)>,
    /// Numbers of groups that persist together, by name; a service without one persists alone, under its id.
    groups: HashMap<String, u32>,
    /// By [`BackendId`].
    backends: Vec<Option<Arc<Backend>>>,
    /// Ids below it are taken.
    lowest_free: usize,
    generation: u64,
    /// Where each backend's search for SNAT ports and each service's draws begin; `None`: at the first one.
    scatter: Option<RandomState>,
}

/// No id is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfIds {
    /// Backends in use and backends that still have connections.
    #[error("{wanted} backends and {lingering} removed ones that still have connections are more than {IDS}")]
    Backends {
        /// In the new config.
        wanted: usize,
        /// Not in the new config.
        lingering: usize,
    },
    /// Names of services are remembered until a restart.
    #[error("{0} different names of services since the start are more than {IDS}; a restart forgets them")]
    Services(usize),
}

/// What makes a backend the same one as before.
pub(super) type Key<'a> = (&'a str, SocketAddr);

impl Registry {
    /// An empty one, with which the search for SNAT ports begins somewhere else for every backend and after every start. Otherwise a
    /// restart would begin with the ports that were used last, which backends still hold in TIME_WAIT.
    pub fn scattered() -> Self {
        Self { scatter: Some(RandomState::new()), ..Self::default() }
    }

    /// Whether [`Registry::snapshot`] would have an id for everything in `config`. Changes nothing.
    ///
    /// # Errors
    /// Which ids are used up.
    pub fn check(&self, config: &Config) -> Result<(), OutOfIds> {
        let wanted = keys(config);
        let lingering = self.backends.iter().flatten().filter(|held| !wanted.contains(&key(held)) && is_in_use(held)).count();
        if wanted.len() + lingering > IDS {
            return Err(OutOfIds::Backends { wanted: wanted.len(), lingering });
        }
        let new_names = config.services.iter().filter(|service| !self.services.contains_key(&service.name)).count();
        match self.services.len() + new_names {
            names if names > IDS => Err(OutOfIds::Services(names)),
            _ => Ok(()),
        }
    }

    /// The snapshot of `config`, to be published by the caller. Weights of backends that stay take effect at once.
    ///
    /// # Errors
    /// Those of [`Registry::check`]; then nothing has changed.
    pub fn snapshot(&mut self, config: &Config) -> Result<Snapshot, OutOfIds> {
        self.check(config)?;
        self.release_unused(&keys(config));
        let known = self.known();
        let pools: HashMap<&str, Arc<Pool>> =
            config.pools.iter().map(|pool| (pool.name.as_str(), self.pool(pool, &known))).collect();
        let mut builders: HashMap<&str, Builder<'_>> =
            pools.iter().map(|(name, pool)| (*name, Builder::new(&pool.members))).collect();
        let services = config.services.iter().filter_map(|service| {
            let settings = schedule::Settings { seed: self.seed(&service.name), ..service.scheduler_settings };
            let mut build =
                |pool: &str| Some((builders.get_mut(pool)?.build(service.scheduler, settings), pools.get(pool)?.clone()));
            let (scheduler, pool) = build(&service.pool)?;
            let backup = service.backup.as_deref().and_then(build).map(|(scheduler, pool)| Backup { scheduler, pool });
            let (id, ledger) = self.service(&service.name);
            Some(Arc::new(Service {
                id,
                name: service.name.clone(),
                vip: service.vip,
                port: service.port,
                protocol: service.protocol,
                helper: service.helper,
                access: Access::new(&service.allow, &service.deny),
                scheduler,
                pool,
                backup,
                limits: service.limits,
                persistence: service.persistence.as_ref().map(|persistence| self.persistence(id, persistence)),
                ledger,
            }))
        });
        let services = Services::new(services.collect());
        let timeouts = self.timeouts(config);
        self.generation += 1;
        Ok(Snapshot {
            generation: self.generation,
            services,
            backends: self.backends.clone(),
            snat: config.snat.clone(),
            own_addresses: config.services.iter().map(|service| service.vip).chain(config.snat.addresses()).collect(),
            timeouts,
            spared: config.spared,
            tracking: config.tracking,
        })
    }

    /// Of services that have timeouts of their own, those; which backends are only here because connections refer to them, and who belongs to whom.
    fn timeouts(&self, config: &Config) -> TimeoutPolicy {
        let own = config.services.iter().filter(|service| service.timeouts != config.timeouts);
        let own: Vec<_> = own.filter_map(|service| Some((self.services.get(&service.name)?.0.0, service.timeouts))).collect();
        let wanted = keys(config);
        let removed = self.backends.iter().flatten().filter(|held| !wanted.contains(&key(held))).map(|held| held.id.0).collect();
        let mut protocols: Vec<&str> = config.services.iter().map(|service| service.protocol.name()).collect();
        protocols.sort_unstable();
        protocols.dedup();
        let numbers: HashMap<&str, u16> = config.pools.iter().map(|pool| pool.name.as_str()).zip(0..).collect();
        let of_service = config.services.iter().filter_map(|service| {
            let pools = [Some(&service.pool), service.backup.as_ref()].into_iter().flatten();
            Some((self.services.get(&service.name)?.0.0, pools.filter_map(|pool| numbers.get(pool.as_str()).copied()).collect()))
        });
        let of_backend = self.backends.iter().flatten().filter_map(|held| Some((held.id.0, *numbers.get(held.pool.as_str())?)));
        let (of_service, of_backend): (Vec<_>, Vec<_>) = (of_service.collect(), of_backend.collect());
        TimeoutPolicy::new(config.timeouts, &own, removed, &protocols).with_pools(&of_service, &of_backend)
    }

    /// What the health checks of `config`, the one that the last snapshot was made of, have to probe.
    pub fn targets(&self, config: &Config) -> Vec<Target> {
        let known = self.known();
        let targets = config.pools.iter().flat_map(|pool| {
            let settings = pool.health.clone().map(Arc::new);
            let known = &known;
            pool.backends.iter().filter_map(move |backend| {
                let settings = settings.clone()?;
                let id = *known.get(&(pool.name.clone(), backend.address))?;
                let port = settings.port.unwrap_or(backend.address.port());
                Some(Target { backend: id, address: SocketAddr::new(backend.address.ip(), port), settings })
            })
        });
        targets.collect()
    }

    /// The pools of `config`, the one that the last snapshot was made of, and what they do with the health of their backends.
    pub fn watched(&self, config: &Config) -> Vec<Watched> {
        let known = self.known();
        let watched = config.pools.iter().map(|pool| {
            let backends = pool.backends.iter().filter_map(|backend| known.get(&(pool.name.clone(), backend.address)).copied());
            Watched { rules: pool.rules, probed: pool.health.is_some(), backends: backends.collect() }
        });
        watched.collect()
    }

    /// Removed backends may go once no connection is counted and nobody but the registry and the snapshot in force holds them. A worker
    /// that is about to open a connection looks at an older snapshot, which has the backend in a pool and so holds it too.
    fn release_unused(&mut self, wanted: &HashSet<Key<'_>>) {
        for slot in &mut self.backends {
            if slot.as_ref().is_some_and(|backend| !wanted.contains(&key(backend)) && !is_in_use(backend)) {
                *slot = None;
                self.lowest_free = 0;
            }
        }
    }

    fn known(&self) -> HashMap<(String, SocketAddr), BackendId> {
        let held = self.backends.iter().flatten();
        held.map(|backend| ((backend.pool.clone(), backend.address()), backend.id)).collect()
    }

    fn pool(&mut self, config: &PoolConfig, known: &HashMap<(String, SocketAddr), BackendId>) -> Arc<Pool> {
        let starts_up = config.health.as_ref().is_none_or(|health| health.start == Start::Up);
        let mut backends = Vec::with_capacity(config.backends.len());
        for backend in &config.backends {
            let id = known.get(&(config.name.clone(), backend.address));
            backends.push(match id.and_then(|id| self.backends[usize::from(id.0)].clone()) {
                Some(kept) => {
                    kept.change_weight(|weight| weight.configured = backend.weight);
                    kept.member.set_priority(backend.priority);
                    kept.member.set_overflow_at(backend.overflow_at);
                    kept.member.set_max_connections(backend.max_connections);
                    if config.health.is_none() {
                        kept.member.set_eligible(true);
                    }
                    if !config.has_agent() {
                        kept.change_weight(|weight| weight.share = 100);
                    }
                    kept
                }
                None => {
                    let member = Member::new(backend.address, backend.weight, starts_up);
                    member.set_priority(backend.priority);
                    member.set_overflow_at(backend.overflow_at);
                    member.set_max_connections(backend.max_connections);
                    self.add(&config.name, member)
                }
            });
        }
        let mut pool = Pool::new(&config.name, backends);
        pool.divides_weights = config.divides_weights();
        pool.weigh();
        Arc::new(pool)
    }

    /// At the lowest free id; `check` has seen that there is one.
    fn add(&mut self, pool: &str, member: Member) -> Arc<Backend> {
        while self.backends.get(self.lowest_free).is_some_and(Option::is_some) {
            self.lowest_free += 1;
        }
        let backend = Arc::new(Backend::new(BackendId(self.lowest_free as u16), pool, Arc::new(member)));
        if let Some(scatter) = &self.scatter {
            backend.begin_ports_at(scatter.hash_one((pool, backend.address())) as u32);
        }
        if self.lowest_free == self.backends.len() {
            self.backends.push(None);
        }
        self.backends[self.lowest_free] = Some(Arc::clone(&backend));
        backend
    }

    /// Where a service's draws begin: elsewhere after every reload, so that many reloads in a row do not all begin with the same backend.
    fn seed(&self, service: &str) -> u64 {
        self.scatter.as_ref().map_or(0, |scatter| scatter.hash_one((service, self.generation)))
    }

    /// Its id, and what is kept of it over reloads.
    fn service(&mut self, name: &str) -> (ServiceId, Arc<Ledger>) {
        let next = ServiceId(self.services.len() as u16);
        self.services.entry(name.to_owned()).or_insert_with(|| (next, Arc::default())).clone()
    }

    fn persistence(&mut self, id: ServiceId, config: &config::Persistence) -> Persistence {
        let next = (IDS + self.groups.len()) as u32;
        let group = match &config.group {
            Some(name) => *self.groups.entry(name.clone()).or_insert(next),
            None => u32::from(id.0),
        };
        Persistence { group, timeout: config.timeout, prefix_v4: config.prefix_v4, prefix_v6: config.prefix_v6 }
    }
}

/// All backends of a config.
pub(super) fn keys(config: &Config) -> HashSet<Key<'_>> {
    let pools = config.pools.iter();
    pools.flat_map(|pool| pool.backends.iter().map(|backend| (pool.name.as_str(), backend.address))).collect()
}

/// That of a backend.
pub(super) fn key(backend: &Backend) -> Key<'_> {
    (&backend.pool, backend.address())
}

/// Whether anybody but the registry and one snapshot's list holds the backend, or a connection is counted for it.
fn is_in_use(backend: &Arc<Backend>) -> bool {
    if Arc::strong_count(backend) > 2 {
        return true;
    }
    // Acquire: pairs with the Release in the drop of an Arc. Who has let go of the backend has counted its connections before.
    fence(Ordering::Acquire);
    backend.member.connections() > 0
}

/// A backend went up or down: connections go to it or past it from now on.
pub fn set_health(snapshot: &Snapshot, id: BackendId, up: bool) {
    let Some(backend) = snapshot.backend(id).filter(|backend| backend.member.is_eligible() != up) else { return };
    backend.member.set_eligible(up);
    refresh(snapshot, &backend.pool);
}

/// Weights in force of members of the pool were changed: its schedulers go by them from now on.
pub(super) fn refresh(snapshot: &Snapshot, pool: &str) {
    for (scheduler, pool) in snapshot.services.iter().flat_map(|service| service.uses(pool)) {
        scheduler.refresh(&pool.members);
    }
}

#[cfg(test)]
mod tests;
