//! From what was typed to what is meant. All mistakes are collected: no check hides behind another one, and no mistake is told twice.

mod access;
mod cross;
mod drain;
mod health;
mod helped;
mod interface;
mod limits;
mod persistence;
mod pool;
mod problems;
mod service;
mod settings;
mod snat;

use super::raw::Raw;
use super::{Config, Problem};
use problems::Problems;

/// Checks everything.
pub(super) fn check(raw: &Raw) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    let interfaces = interface::check_interfaces(raw, &mut problems);
    let worker = settings::check_worker(&raw.worker, &mut problems);
    let max_connections = settings::check_max_connections(&raw.conntrack, &mut problems);
    let preallocate = raw.conntrack.preallocate.as_ref().is_some_and(|preallocate| *preallocate.get_ref());
    let accounting = raw.conntrack.accounting.as_ref().is_some_and(|accounting| *accounting.get_ref());
    let spared = settings::check_spared(&raw.conntrack);
    let tracking = settings::check_tracking(&raw.conntrack, &mut problems);
    let fragments = settings::check_fragments(&raw.fragments, &mut problems);
    let sources = limits::check_sources(&raw.sources, &mut problems);
    let admin_socket = settings::check_socket(&raw.admin, &mut problems);
    let reload = settings::check_reload(&raw.reload, &mut problems);
    let timeouts = settings::check_timeouts(raw, &mut problems);
    let snat = snat::check_snat(raw, &mut problems);
    let pools = pool::check_pools(raw, &mut problems);
    let services = service::check_services(raw, timeouts, &mut problems);
    cross::check_together(&services, &pools, &snat, &mut problems);
    let config = Config {
        interfaces,
        worker,
        max_connections,
        preallocate,
        accounting,
        spared,
        tracking,
        fragments,
        sources,
        admin_socket,
        reload,
        snat: snat.pool(),
        timeouts,
        services: services.into_iter().map(|service| service.checked).collect(),
        pools: pools.into_iter().map(pool::Checked::into_pool).collect(),
    };
    problems.none_or(config)
}
