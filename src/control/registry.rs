//! Which number a service or a backend has, for as long as connections may refer to it.

use crate::config::{self, Config};
use crate::schedule::{self, Member};
use crate::service::{Backend, BackendId, Pool, Service, ServiceId, Services, Snapshot};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Everything that was ever in the config of this daemon.
#[derive(Debug, Default)]
pub(super) struct Registry {
    backends: Vec<Arc<Backend>>,
    numbers: HashMap<(String, SocketAddr), usize>,
    services: Vec<String>,
    generation: u64,
}

impl Registry {
    /// The snapshot of a config, of the next generation; a backend or service that was known keeps its number and its counts.
    pub(super) fn snapshot(&mut self, config: &Config) -> Snapshot {
        self.generation += 1;
        let pools: HashMap<&str, Arc<Pool>> =
            config.pools.iter().map(|pool| (pool.name.as_str(), Arc::new(self.pool(pool)))).collect();
        let services = config.services.iter().filter_map(|settings| {
            let pool = Arc::clone(pools.get(settings.pool.as_str())?);
            Some(Arc::new(self.service(settings, pool)))
        });
        let services = Services::new(services.collect());
        let vips = config.services.iter().map(|service| service.vip);
        Snapshot {
            generation: self.generation,
            services,
            backends: self.backends.iter().cloned().map(Some).collect(),
            snat: config.snat.clone(),
            own_addresses: vips.chain(config.snat.addresses()).collect::<HashSet<_>>(),
            timeouts: config.timeouts,
        }
    }

    fn pool(&mut self, settings: &config::Pool) -> Pool {
        let backends = settings.backends.iter().map(|backend| self.backend(&settings.name, backend)).collect();
        Pool::new(&settings.name, backends)
    }

    fn backend(&mut self, pool: &str, settings: &config::Backend) -> Arc<Backend> {
        let number = *self.numbers.entry((pool.to_owned(), settings.address)).or_insert_with(|| {
            let member = Member::new(settings.address, settings.weight, true);
            let id = BackendId(self.backends.len() as u16);
            self.backends.push(Arc::new(Backend::new(id, pool, Arc::new(member))));
            self.backends.len() - 1
        });
        self.backends[number].member.set_weight(settings.weight);
        Arc::clone(&self.backends[number])
    }

    fn service(&mut self, settings: &config::Service, pool: Arc<Pool>) -> Service {
        let number = self.services.iter().position(|name| *name == settings.name).unwrap_or_else(|| {
            self.services.push(settings.name.clone());
            self.services.len() - 1
        });
        Service {
            id: ServiceId(number as u16),
            name: settings.name.clone(),
            vip: settings.vip,
            port: settings.port,
            protocol: settings.protocol,
            scheduler: schedule::build(settings.scheduler, settings.scheduler_settings, &pool.members),
            pool,
        }
    }
}
