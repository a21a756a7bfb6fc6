//! What an operator has set at run time: backends that are drained, and weights. It stands where it has effect, with the backends themselves.

use super::daemon::Daemon;
use super::departure::{self, Cause};
use super::plan::{self, Set, SetAtRunTime};
use super::registry::refresh;
use crate::admin::{self, Answer};
use crate::config::{Config, Overrides};
use crate::service::{Backend, Shown, Snapshot};
use crate::worker::Monotonic;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

impl Daemon {
    /// `weir drain`: it takes no new connections; from now on its deadline runs.
    pub(super) fn drain(&mut self, pool: &str, backend: &str) -> Result<(String, SocketAddr), String> {
        let (backend, snapshot) = (self.find(pool, backend)?, self.datapath.snapshot.load_full());
        let (name, drain) = (name(&backend), self.drain_of(&backend));
        if backend.member.is_drained() {
            return Ok((format!("{name} is drained already; {}", left(&backend)), backend.address()));
        }
        backend.member.set_drained(true);
        self.reweighed.insert(backend.pool.clone());
        refresh(&snapshot, &backend.pool);
        self.draining.begin(&backend, Cause::Drained, drain, Monotonic::now());
        self.drain_due();
        let nobody = if has_others(&snapshot, &backend) { "" } else { "; no other backend of the pool takes connections" };
        let becomes = if backend.member.connections() > 0 { departure::sentence(&drain) } else { "it may go".to_owned() };
        Ok((format!("{name} takes no new connections, {}: {becomes}{nobody}", left(&backend)), backend.address()))
    }

    /// `weir undrain`: it takes new connections again, as far as its health allows.
    pub(super) fn undrain(&mut self, pool: &str, backend: &str) -> Result<(String, SocketAddr), String> {
        let backend = self.find(pool, backend)?;
        // Quorums follow at the end of the turn.
        self.reweighed.insert(backend.pool.clone());
        let name = name(&backend);
        if !backend.member.is_drained() {
            return Ok((format!("{name} is not drained"), backend.address()));
        }
        self.draining.end(backend.id, Cause::Drained);
        backend.member.set_drained(false);
        refresh(&self.datapath.snapshot.load_full(), &backend.pool);
        let unless = if backend.member.is_eligible() { "" } else { " once it is up" };
        Ok((format!("{name} takes new connections again{unless}"), backend.address()))
    }

    /// What `weir drain --wait` waits for.
    pub(super) fn left(&self, pool: &str, backend: SocketAddr) -> Answer {
        let snapshot = self.datapath.snapshot.load();
        let found = snapshot.backends.iter().flatten().find(|known| known.pool == pool && known.address() == backend);
        match found {
            Some(backend) => {
                let leaving =
                    [Cause::Drained, Cause::Removed].iter().any(|cause| self.draining.since(backend.id, *cause).is_some());
                Answer::Left { connections: backend.member.connections(), leaving }
            }
            None => Answer::Left { connections: 0, leaving: true },
        }
    }

    /// `weir weight`: in the place of the config's, until a reload or a restart drops it; that of the config itself is no override.
    pub(super) fn set_weight(&mut self, pool: &str, backend: &str, weight: u32) -> Result<(String, SocketAddr), String> {
        if weight > 65_535 {
            return Err(format!("the weight {weight} is out of range: allowed are 0 to 65535"));
        }
        let backend = self.find(pool, backend)?;
        // Quorums follow at the end of the turn.
        self.reweighed.insert(backend.pool.clone());
        let before = backend.weight().whole();
        backend.change_weight(|of| of.overridden = (weight != of.configured).then_some(weight));
        weigh(&self.datapath.snapshot.load_full(), &backend.pool);
        let configured = backend.weight().configured;
        let file = if weight == configured { ", as in the config".to_owned() } else { format!("; the config has {configured}") };
        Ok((format!("{} has weight {weight}, before {before}{file}", name(&backend)), backend.address()))
    }

    /// `weir diff`: what was set at run time, and what a reload of the file would change.
    pub(super) fn diff(&self) -> Answer {
        match Config::load(&self.path) {
            Err(report) => Answer::Error { message: report.to_string() },
            Ok(file) => {
                Answer::Diff { overrides: self.describe_overrides(), drops: drops(&self.config), file: self.file_changes(&file) }
            }
        }
    }

    /// What a reload of `file` would do, or that it would be refused.
    fn file_changes(&self, file: &Config) -> Vec<String> {
        let fixed = self.config.needs_restart(file);
        let refused =
            (!fixed.is_empty()).then(|| format!("a reload would be refused: only a restart can change {}", fixed.join(", ")));
        refused.into_iter().chain(plan::plan(&self.config, file, &SetAtRunTime::new()).sentences()).collect()
    }

    fn describe_overrides(&self) -> Vec<admin::Override> {
        let now = Monotonic::now();
        let describe = |backend: &Arc<Backend>| admin::Override {
            pool: backend.pool.clone(),
            backend: backend.address(),
            drained_seconds: self.draining.since(backend.id, Cause::Drained).map(|since| now.nanos_since(since) / 1_000_000_000),
            weight: backend.weight().overridden,
            file_weight: backend.weight().configured,
        };
        let snapshot = self.datapath.snapshot.load_full();
        snapshot.backends.iter().flatten().filter(|backend| is_overridden(backend)).map(describe).collect()
    }

    /// Takes back what a reload to `new` does not keep: everything, or what was set for backends that it has no more. Before the snapshot is
    /// made of it.
    pub(super) fn drop_overrides(&mut self, new: &Config) {
        // The key in force, not that of the new file.
        let drops = drops(&self.config);
        self.draining.forget_over(Monotonic::now());
        let pools = new.pools.iter();
        let kept: HashSet<(&str, SocketAddr)> =
            pools.flat_map(|pool| pool.backends.iter().map(|backend| (pool.name.as_str(), backend.address))).collect();
        let snapshot = self.datapath.snapshot.load_full();
        for backend in snapshot.backends.iter().flatten().filter(|backend| is_overridden(backend)) {
            if drops || !kept.contains(&(backend.pool.as_str(), backend.address())) {
                backend.change_weight(|weight| weight.overridden = None);
                backend.member.set_drained(false);
                self.draining.take_back(backend.id, Cause::Drained);
                weigh(&snapshot, &backend.pool);
                refresh(&snapshot, &backend.pool);
            }
        }
    }

    /// A backend of the config in force, by its address, with its port unless that is clear.
    fn find(&self, pool: &str, backend: &str) -> Result<Arc<Backend>, String> {
        let Some(known) = self.config.pool(pool) else {
            let names: Vec<&str> = self.config.pools.iter().map(|pool| pool.name.as_str()).collect();
            return Err(format!("there is no pool {pool:?}: there are {}", names.join(", ")));
        };
        let addresses = known.backends.iter().map(|backend| backend.address);
        // RFC 3986, section 3.2.2: who leaves the port out may leave the brackets.
        let bare = backend.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|bare| bare.contains(':'));
        let alike: Vec<SocketAddr> = match (backend.parse::<SocketAddr>(), bare.unwrap_or(backend).parse::<IpAddr>()) {
            (Ok(address), _) => addresses.clone().filter(|known| *known == address).collect(),
            (_, Ok(address)) => addresses.clone().filter(|known| known.ip() == address).collect(),
            _ => return Err(format!("{backend:?} is not the address of a backend: allowed is such as {}", list(addresses))),
        };
        let [address] = alike[..] else {
            let what = if alike.is_empty() { "has no backend" } else { "has more than one backend" };
            return Err(format!("the pool {pool} {what} {backend}: it has {}", list(addresses)));
        };
        let snapshot = self.datapath.snapshot.load();
        let found = snapshot.backends.iter().flatten().find(|known| known.pool == pool && known.address() == address);
        found.cloned().ok_or_else(|| format!("the pool {pool} has no backend {backend} any more"))
    }
}

fn list(addresses: impl Iterator<Item = SocketAddr>) -> String {
    const MOST: usize = 16;
    let mut texts: Vec<String> = addresses.map(|address| Shown(address).to_string()).collect();
    if texts.len() > MOST {
        let more = texts.split_off(MOST).len();
        texts.push(format!("{more} more"));
    }
    texts.join(", ")
}

fn name(backend: &Backend) -> String {
    format!("backend {} of pool {}", Shown(backend.address()), backend.pool)
}

fn left(backend: &Backend) -> String {
    match backend.member.connections() {
        0 => "no connection left".to_owned(),
        1 => "1 connection left".to_owned(),
        count => format!("{count} connections left"),
    }
}

fn drops(config: &Config) -> bool {
    config.reload.overrides == Overrides::Drop
}

/// All that is set.
pub(super) fn set_at_run_time(snapshot: &Snapshot) -> SetAtRunTime {
    let overridden = snapshot.backends.iter().flatten().filter(|backend| is_overridden(backend));
    let set = |backend: &Backend| Set { is_drained: backend.member.is_drained(), weight: backend.weight().overridden };
    overridden.map(|backend| ((backend.pool.clone(), backend.address()), set(backend))).collect()
}

fn is_overridden(backend: &Backend) -> bool {
    backend.member.is_drained() || backend.weight().overridden.is_some()
}

fn has_others(snapshot: &Snapshot, backend: &Backend) -> bool {
    let others = snapshot.backends.iter().flatten().filter(|other| other.pool == backend.pool && other.id != backend.id);
    others.into_iter().any(|other| other.member.weight() > 0)
}

/// A weight of the pool was changed: schedulers go by it from now on.
fn weigh(snapshot: &Snapshot, pool: &str) {
    let used = snapshot.services.iter().flat_map(|service| service.uses(pool)).next();
    let changed = used.is_some_and(|(_, pool)| pool.weigh());
    if changed {
        refresh(snapshot, pool);
    }
}
