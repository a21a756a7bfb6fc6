//! What must hold between services, pools and SNAT addresses.

use super::problems::{Located, Problems};
use super::{helped, persistence, pool, service, snat};
use crate::config::value::{Endpoint, family, quoted};
use crate::config::{Place, Problem};
use crate::schedule::Kind;
use crate::xdp::{MAX_ADDRESSES, MAX_SERVICES};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;

/// Ids of backends have 16 bits; half of them are left for backends that were removed while they had connections.
const MOST_BACKENDS: usize = 32_768;
/// Services, for the same reason.
const MOST_SERVICES: usize = 32_768;

pub(super) fn check_together(
    services: &[service::Checked],
    pools: &[pool::Checked],
    snat: &snat::Checked,
    problems: &mut Problems,
) {
    check_counts(services, pools, problems);
    check_steered(services, snat, problems);
    helped::check_data_ports(services, problems);
    check_own_addresses(services, pools, snat, problems);
    for pool in pools {
        check_probe_port(pool, problems);
        check_ranks(pool, services, problems);
    }
    persistence::check_groups(services, pools, problems);
    for service in services {
        let pool = find_pool("service.pool", service.pool.as_ref(), pools, problems);
        if let Some(pool) = pool {
            check_pair(service, ("service.pool", pool), problems);
            check_quorum(service, pool, problems);
        }
        let backup = find_pool("service.backup", service.backup.as_ref(), pools, problems);
        if let Some(backup) = backup {
            check_backup(service, backup, problems);
        }
        if let Some(vip) = &service.vip {
            check_snat_family(vip, snat, problems);
        }
    }
}

/// More than all cannot be up.
fn check_quorum(service: &service::Checked, pool: &pool::Checked, problems: &mut Problems) {
    let (Some(quorum), backends) = (&service.quorum, pool.backends.len()) else { return };
    let needed = quorum.value.least + quorum.value.hysteresis;
    if needed > backends {
        let found = format!("{needed} backends up are needed, of {backends}");
        problems.add(
            Problem::new("service.quorum", found, format!("at most {backends}, quorum and quorum_hysteresis together"))
                .at(Place::new(quorum.span.clone(), ""))
                .at(Place::new(pool.list.clone(), "all of them")),
        );
    }
}

fn check_counts(services: &[service::Checked], pools: &[pool::Checked], problems: &mut Problems) {
    let mut backends = pools.iter().flat_map(|pool| &pool.backends);
    if let Some(extra) = backends.nth(MOST_BACKENDS) {
        let place = Place::new(extra.span.clone(), "one too many");
        problems.add(
            Problem::new("pool.backends", "there are too many backends", format!("at most {MOST_BACKENDS} in all pools"))
                .at(place),
        );
    }
    if let Some(vip) = services.get(MOST_SERVICES).and_then(|service| service.vip.as_ref()) {
        let place = Place::new(vip.span.clone(), "one too many");
        problems.add(Problem::new("service", "there are too many services", format!("at most {MOST_SERVICES}")).at(place));
    }
}

/// What the maps of the XDP program hold, of each family. A service on every port takes no place among the services.
fn check_steered(services: &[service::Checked], snat: &snat::Checked, problems: &mut Problems) {
    let vips = || services.iter().filter_map(|service| service.vip.as_ref());
    for name in ["IPv4", "IPv6"] {
        let is_of_family = |address: IpAddr| address.is_ipv4() == (name == "IPv4");
        let mut with_port = vips().filter(|vip| vip.value.port.is_some() && is_of_family(vip.value.address));
        if let Some(extra) = with_port.nth(MAX_SERVICES) {
            let found = format!("there are too many {name} services on one port");
            let allowed = format!("at most {MAX_SERVICES} of a family");
            problems.add(Problem::new("service", found, allowed).at(Place::new(extra.span.clone(), "one too many")));
        }
        let sources = snat.addresses.iter().map(|source| (source.value, &source.span));
        let mut seen = HashSet::new();
        let addresses = vips().map(|vip| (vip.value.address, &vip.span)).chain(sources);
        let mut distinct = addresses.filter(|(address, _)| is_of_family(*address) && seen.insert(*address));
        if let Some((_, span)) = distinct.nth(MAX_ADDRESSES) {
            let found = format!("there are too many {name} VIPs and SNAT addresses");
            let allowed = format!("at most {MAX_ADDRESSES} of a family, VIPs and SNAT addresses together");
            problems.add(Problem::new("service.vip", found, allowed).at(Place::new(span.clone(), "one too many")));
        }
    }
}

/// A packet to a VIP goes to a backend, one to a SNAT address is an answer: no address can be two of these three.
fn check_own_addresses(services: &[service::Checked], pools: &[pool::Checked], snat: &snat::Checked, problems: &mut Problems) {
    let sources: HashMap<IpAddr, &Range<usize>> = snat.addresses.iter().map(|source| (source.value, &source.span)).collect();
    let mut vips: HashMap<IpAddr, &Range<usize>> = HashMap::new();
    let mut told = HashSet::new();
    for vip in services.iter().flat_map(|service| &service.vip) {
        vips.entry(vip.value.address).or_insert(&vip.span);
        if let Some(source) = sources.get(&vip.value.address).filter(|_| told.insert(vip.value.address)) {
            let found = format!("the VIP {} is also a SNAT address", vip.value.address);
            problems.add(
                Problem::new("service.vip", found, "an address that is not in snat.addresses")
                    .at(Place::new(vip.span.clone(), "the VIP"))
                    .at(Place::new((*source).clone(), "the SNAT address")),
            );
        }
    }
    for backend in pools.iter().flat_map(|pool| &pool.backends) {
        let address = backend.value.address;
        let own =
            vips.get(&address).map(|span| ("a VIP", span)).or_else(|| sources.get(&address).map(|span| ("a SNAT address", span)));
        if let Some((what, span)) = own {
            problems.add(
                Problem::new(
                    "pool.backends.address",
                    format!("the backend {address} is also {what}"),
                    "the address of another host",
                )
                .at(Place::new(backend.span.clone(), "the backend"))
                .at(Place::new((*span).clone(), what)),
            );
        }
    }
}

/// Backends without a port can be probed only at a port that `health` names.
fn check_probe_port(pool: &pool::Checked, problems: &mut Problems) {
    let (Some(health), Some(backend)) = (&pool.health, pool.backends.first()) else { return };
    if health.value.probe.needs_port() && health.value.port.is_none() && backend.value.port.is_none() {
        problems.add(
            Problem::new("pool.health.port", "the key `port` is missing: backends without a port cannot be probed", "1 to 65535")
                .at(Place::new(health.span.clone(), "in here"))
                .at(Place::new(backend.span.clone(), "no port")),
        );
    }
}

/// A key that only one scheduler heeds, in a pool of which no service has that scheduler: whoever wrote it expects something of it.
fn check_ranks(pool: &pool::Checked, services: &[service::Checked], problems: &mut Problems) {
    let Some(name) = &pool.name else { return };
    let mine =
        |service: &&service::Checked| [&service.pool, &service.backup].into_iter().flatten().any(|pool| pool.value == name.value);
    let uses: Vec<Option<Kind>> = services.iter().filter(mine).map(|service| service.uses).collect();
    let priority = pool.ranks.iter().find_map(|ranks| ranks.priority.as_ref());
    let overflow_at = pool.ranks.iter().find_map(|ranks| ranks.overflow_at.as_ref());
    let keys =
        [("pool.backends.priority", priority, Kind::Failover), ("pool.backends.overflow_at", overflow_at, Kind::FirstAvailable)];
    for (key, given, kind) in keys {
        // A scheduler that was refused may have been meant to be this one; a pool without services waits for one.
        let heeded = uses.is_empty() || uses.iter().any(|used| used.is_none_or(|used| used == kind));
        if let Some(given) = given.filter(|_| !heeded) {
            let found = format!("no service of the pool {:?} has a scheduler that heeds it", name.value);
            let allowed = format!("only with scheduler = \"{kind}\"");
            problems.add(Problem::new(key, found, allowed).at(Place::new(given.span.clone(), "not used")));
        }
    }
}

fn find_pool<'a>(
    key: &'static str,
    wanted: Option<&Located<String>>,
    pools: &'a [pool::Checked],
    problems: &mut Problems,
) -> Option<&'a pool::Checked> {
    let wanted = wanted?;
    let names = || pools.iter().filter_map(|pool| pool.name.as_ref()).map(|name| name.value.as_str());
    let found = pools.iter().find(|pool| pool.name.as_ref().is_some_and(|name| name.value == wanted.value));
    // A pool whose name was refused may be the one that is meant.
    if found.is_none() && pools.iter().all(|pool| pool.name.is_some()) {
        let allowed = if pools.is_empty() { "the name of a [[pool]]; there is none".to_owned() } else { quoted(names()) };
        let place = Place::new(wanted.span.clone(), "");
        problems.add(Problem::new(key, format!("there is no pool {:?}", wanted.value), allowed).at(place));
    }
    found
}

/// A backup serves when the pool does not: it cannot be the pool itself.
fn check_backup(service: &service::Checked, backup: &pool::Checked, problems: &mut Problems) {
    let (Some(pool), Some(named)) = (&service.pool, &service.backup) else { return };
    if pool.value == named.value {
        problems.add(
            Problem::new("service.backup", format!("the pool {:?} cannot stand in for itself", pool.value), "another pool")
                .at(Place::new(named.span.clone(), "the backup"))
                .at(Place::new(pool.span.clone(), "the pool")),
        );
        return;
    }
    check_pair(service, ("service.backup", backup), problems);
}

/// What a service asks of a pool.
fn check_pair(service: &service::Checked, (key, pool): (&'static str, &pool::Checked), problems: &mut Problems) {
    if let Some(size) = service.table_size.as_ref().filter(|size| (size.value as usize) < pool.backends.len()) {
        let found = format!("a table of {} places cannot hold {} backends", size.value, pool.backends.len());
        problems.add(
            Problem::new("service.maglev_table_size", found, "at least one place a backend, better a hundred")
                .at(Place::new(size.span.clone(), ""))
                .at(Place::new(pool.list.clone(), "the backends")),
        );
    }
    let (Some(vip), Some(backend)) = (&service.vip, pool.backends.first()) else { return };
    if vip.value.address.is_ipv4() != backend.value.address.is_ipv4() {
        let families = [family(vip.value.address).to_string(), family(backend.value.address).to_string()];
        problems.add(
            Problem::new(key, format!("an {} service has {} backends", families[0], families[1]), "one family for both")
                .at(Place::new(vip.span.clone(), &*families[0]))
                .at(Place::new(backend.span.clone(), &*families[1])),
        );
    }
    check_ports(vip, backend, problems);
}

/// A service on one port needs to know the backend's; one on every port keeps the client's, so a backend's would never be used.
fn check_ports(vip: &Located<Endpoint>, backend: &Located<Endpoint>, problems: &mut Problems) {
    let (found, allowed, labels) = match (vip.value.port, backend.value.port) {
        (Some(_), None) => {
            ("a service on one port has backends without a port", "backends as \"10.1.0.11:8443\"", ["one port", "no port"])
        }
        (None, Some(_)) => (
            "a service on every port has backends with a port",
            "backends without a port: the client's destination port is kept",
            ["every port", "with a port"],
        ),
        _ => return,
    };
    problems.add(
        Problem::new("pool.backends.address", found, allowed)
            .at(Place::new(backend.span.clone(), labels[1]))
            .at(Place::new(vip.span.clone(), labels[0])),
    );
}

fn check_snat_family(vip: &Located<Endpoint>, snat: &snat::Checked, problems: &mut Problems) {
    let address = vip.value.address;
    if snat.incomplete || snat.addresses.iter().any(|source| source.value.is_ipv4() == address.is_ipv4()) {
        return;
    }
    let found = format!("no SNAT address is {}, as this service is", family(address));
    let problem = Problem::new("snat.addresses", found, format!("at least one {} address in snat.addresses", family(address)));
    let problem = problem.at(Place::new(vip.span.clone(), family(address).to_string()));
    problems.add(match &snat.list {
        Some(list) => problem.at(Place::new(list.clone(), "no such address here")),
        None => problem,
    });
}
