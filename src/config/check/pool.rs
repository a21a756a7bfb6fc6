//! `[[pool]]`

use super::drain::check_drain;
use super::health::{check_health, check_rules};
use super::problems::{Located, Problems};
use crate::config::raw::{self, Raw};
use crate::config::value::{self, Endpoint, endpoint, family, whole};
use crate::config::{Backend, Place, Pool, Problem};
use crate::health::{Rules, Settings};
use crate::service::Drain;
use serde_spanned::Spanned;
use std::ops::Range;

/// A pool whose own values were looked at.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) name: Option<Located<String>>,
    pub(super) health: Option<Located<Settings>>,
    rules: Rules,
    drain: Drain,
    pub(super) backends: Vec<Located<Endpoint>>,
    /// The list of backends, or the whole pool where there is none.
    pub(super) list: Range<usize>,
    /// What schedulers are told of each of them.
    pub(super) ranks: Vec<Ranks>,
}

/// What schedulers are told of a backend.
#[derive(Debug)]
pub(super) struct Ranks {
    weight: u32,
    pub(super) priority: Option<Located<u32>>,
    pub(super) overflow_at: Option<Located<u32>>,
    max_connections: Option<u32>,
}

impl Checked {
    pub(super) fn into_pool(self) -> Pool {
        let backends = self.backends.iter().zip(self.ranks).map(|(backend, ranks)| Backend {
            address: backend.value.socket(),
            weight: ranks.weight,
            priority: ranks.priority.map_or(0, |priority| priority.value),
            overflow_at: ranks.overflow_at.map(|limit| limit.value),
            max_connections: ranks.max_connections,
        });
        Pool {
            name: self.name.map(|name| name.value).unwrap_or_default(),
            health: self.health.map(|health| health.value),
            rules: self.rules,
            drain: self.drain,
            backends: backends.collect(),
        }
    }
}

pub(super) fn check_pools(raw: &Raw, problems: &mut Problems) -> Vec<Checked> {
    let pools: Vec<_> = raw.pool.iter().map(|pool| check_pool(pool, problems)).collect();
    problems.unique("pool.name", pools.iter().flat_map(|pool| &pool.name), |name| format!("the pool {name:?} is defined twice"));
    pools
}

fn check_pool(raw: &Spanned<raw::Pool>, problems: &mut Problems) -> Checked {
    let pool = raw.get_ref();
    let name = problems.required("pool.name", &pool.name, raw.span(), "a name that services refer to");
    let name = problems.value("pool.name", name, |text| value::name(text));
    let expected = "a list such as [{ address = \"10.1.0.11:8443\", weight = 10 }]";
    let list = problems.required("pool.backends", &pool.backends, raw.span(), expected);
    if let Some(list) = list.filter(|list| list.get_ref().is_empty()) {
        problems.add(Problem::new("pool.backends", "the pool has no backend", expected).at(Place::new(list.span(), "")));
    }
    let checked = list.iter().flat_map(|list| list.get_ref()).filter_map(|backend| check_backend(backend, problems));
    let (backends, ranks): (Vec<_>, Vec<_>) = checked.collect();
    problems.unique("pool.backends.address", backends.iter(), |backend| format!("{} is in this pool twice", backend.socket()));
    check_alike(&backends, problems);
    let health = pool.health.as_ref().map(|health| Located { value: check_health(health, problems), span: health.span() });
    let drain = pool.drain.as_ref().map(|drain| check_drain(drain.get_ref(), problems)).unwrap_or_default();
    let rules = check_rules(pool, backends.len(), problems);
    Checked { name, health, rules, drain, backends, list: list.map_or_else(|| raw.span(), Spanned::span), ranks }
}

fn check_backend(raw: &Spanned<raw::Backend>, problems: &mut Problems) -> Option<(Located<Endpoint>, Ranks)> {
    let backend = raw.get_ref();
    let address =
        problems.required("pool.backends.address", &backend.address, raw.span(), "an address, such as \"10.1.0.11:8443\"");
    let address = problems.value("pool.backends.address", address, |text| endpoint(text));
    let ranks = Ranks {
        weight: problems.value_or("pool.backends.weight", backend.weight.as_ref(), 1, |weight| whole(*weight, 0..=65_535)),
        priority: problems.value("pool.backends.priority", backend.priority.as_ref(), |priority| whole(*priority, 0..=255)),
        overflow_at: problems
            .value("pool.backends.overflow_at", backend.overflow_at.as_ref(), |limit| whole(*limit, 1..=MOST_CONNECTIONS)),
        max_connections: problems
            .value("pool.backends.max_connections", backend.max_connections.as_ref(), |limit| whole(*limit, 1..=MOST_CONNECTIONS))
            .map(|limit| limit.value),
    };
    address.map(|address| (address, ranks))
}

/// As many connections as a table can have.
const MOST_CONNECTIONS: i64 = 100_000_000;

/// One pool, one family, and a port with all backends or with none.
fn check_alike(backends: &[Located<Endpoint>], problems: &mut Problems) {
    let Some(first) = backends.first() else { return };
    if let Some(other) = backends.iter().find(|backend| backend.value.address.is_ipv4() != first.value.address.is_ipv4()) {
        problems.add(
            Problem::new("pool.backends.address", "the pool mixes address families", "IPv4 alone or IPv6 alone; make two pools")
                .at(Place::new(other.span.clone(), family(other.value.address).to_string()))
                .at(Place::new(first.span.clone(), family(first.value.address).to_string())),
        );
    }
    if let Some(other) = backends.iter().find(|backend| backend.value.port.is_some() != first.value.port.is_some()) {
        let label = |backend: &Endpoint| if backend.port.is_some() { "with a port" } else { "without a port" };
        problems.add(
            Problem::new(
                "pool.backends.address",
                "some backends of the pool have a port, some have none",
                "all with a port, or all without",
            )
            .at(Place::new(other.span.clone(), label(&other.value)))
            .at(Place::new(first.span.clone(), label(&first.value))),
        );
    }
}
