//! What a reload changes, in sentences.

use crate::config::{Config, Pool, Service};
use std::net::SocketAddr;

/// The difference between the config in force and a new one, one sentence a step; empty when they mean the same.
pub(super) fn plan(old: &Config, new: &Config) -> Vec<String> {
    let mut steps = Vec::new();
    plan_services(old, new, &mut steps);
    plan_pools(old, new, &mut steps);
    plan_snat(old, new, &mut steps);
    if old.timeouts != new.timeouts {
        steps.push("timeouts: changed, for all connections from now on".into());
    }
    if steps.is_empty() && old != new {
        steps.push("the order of services or pools changed".into());
    }
    steps
}

fn plan_services(old: &Config, new: &Config, steps: &mut Vec<String>) {
    for service in &new.services {
        match old.services.iter().find(|known| known.name == service.name) {
            None => steps.push(format!("service {}: added at {}, pool {}", service.name, destination(service), service.pool)),
            Some(known) => plan_service(known, service, steps),
        }
    }
    for gone in old.services.iter().filter(|known| new.services.iter().all(|service| service.name != known.name)) {
        steps.push(format!("service {}: removed, {} is not served any more", gone.name, destination(gone)));
    }
}

fn plan_service(old: &Service, new: &Service, steps: &mut Vec<String>) {
    let name = &new.name;
    let (was, is) = (destination(old), destination(new));
    if was != is {
        steps.push(format!("service {name}: moves from {was} to {is}, {was} is not served any more"));
    }
    if old.pool != new.pool {
        steps.push(format!("service {name}: new connections go to pool {}, no more to {}", new.pool, old.pool));
    }
    if (old.scheduler, &old.scheduler_settings) != (new.scheduler, &new.scheduler_settings) {
        steps.push(format!("service {name}: scheduler {}, before {}", new.scheduler.name(), old.scheduler.name()));
    }
}

fn destination(service: &Service) -> String {
    let port = service.port.map_or("every port".into(), |port| format!("port {port}"));
    format!("{} {port} {}", service.vip, service.protocol)
}

fn plan_pools(old: &Config, new: &Config, steps: &mut Vec<String>) {
    for pool in &new.pools {
        match old.pool(&pool.name) {
            None => steps.push(format!("pool {}: added with {} backends", pool.name, pool.backends.len())),
            Some(known) => plan_pool(known, pool, steps),
        }
    }
    for gone in old.pools.iter().filter(|known| new.pool(&known.name).is_none()) {
        steps.push(format!("pool {}: removed, its connections go on until they end", gone.name));
    }
}

fn plan_pool(old: &Pool, new: &Pool, steps: &mut Vec<String>) {
    let name = &new.name;
    let weight = |pool: &Pool, address: SocketAddr| {
        pool.backends.iter().find(|backend| backend.address == address).map(|backend| backend.weight)
    };
    for backend in &new.backends {
        let (address, now) = (backend.address, backend.weight);
        match weight(old, address) {
            None => steps.push(format!("pool {name}: backend {address} added, weight {now}")),
            Some(before) if before != now => steps.push(format!("pool {name}: backend {address} weight {now}, before {before}")),
            Some(_) => {}
        }
    }
    for gone in old.backends.iter().filter(|backend| weight(new, backend.address).is_none()) {
        steps.push(format!("pool {name}: backend {} removed, its connections go on until they end", gone.address));
    }
    if old.health != new.health {
        let how = if new.health.is_some() { "changed" } else { "removed, every backend counts as up" };
        steps.push(format!("pool {name}: health check {how}"));
    }
}

fn plan_snat(old: &Config, new: &Config, steps: &mut Vec<String>) {
    let addresses = |config: &Config| config.snat.addresses().collect::<Vec<_>>();
    let (before, now) = (addresses(old), addresses(new));
    for address in now.iter().filter(|address| !before.contains(address)) {
        steps.push(format!("snat: address {address} added"));
    }
    for address in before.iter().filter(|address| !now.contains(address)) {
        steps.push(format!("snat: address {address} takes no new connections and is removed once its last one ended"));
    }
    if old.snat.ports != new.snat.ports {
        let (from, to) = new.snat.ports.clone().into_inner();
        steps.push(format!("snat: ports {from}-{to} for new connections"));
    }
}
