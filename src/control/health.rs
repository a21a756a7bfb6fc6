//! What follows from health: who takes connections and with which weight, and whether a service's VIP is announced.

use super::daemon::Daemon;
use super::registry::refresh;
use super::throng::log;
use crate::config::{Config, Quorum};
use crate::health::{Handshakes, HealthEvent};
use crate::service::{BackendId, Pool, Shown, Snapshot};
use crate::worker::Monotonic;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tracing::{Level, info, warn};

/// What is known of quorums.
#[derive(Debug, Default)]
pub(super) struct Quorums {
    /// Services that have not reached theirs, by name.
    missed: BTreeSet<String>,
    /// VIPs that are not announced, for none of their services has reached its quorum.
    withdrawn: BTreeSet<IpAddr>,
    /// VIPs that a reload brings, before anybody has looked whether their services reach their quorums.
    unknown: BTreeSet<IpAddr>,
}

impl Quorums {
    /// Whether this VIP is not to be announced.
    pub(super) fn withdraws(&self, address: &IpAddr) -> bool {
        self.withdrawn.contains(address) || self.unknown.contains(address)
    }

    /// VIPs that only `new` has, and whose services all have a quorum, are not announced before it is known whether one of them reaches it.
    pub(super) fn expect(&mut self, old: &Config, new: &Config) {
        let vips = |config: &Config| config.services.iter().map(|service| service.vip).collect::<BTreeSet<_>>();
        let always = new.services.iter().filter(|service| service.quorum.least == 0).map(|service| service.vip).collect();
        self.unknown = &(&vips(new) - &vips(old)) - &always;
    }

    /// They do not come after all.
    pub(super) fn forget_expected(&mut self) {
        self.unknown.clear();
    }

    /// Goes by how many backends of each service are up. What is to be told.
    fn follow(&mut self, config: &Config, up: &BTreeMap<&str, usize>) -> Vec<(bool, String)> {
        let mut news = Vec::new();
        let mut missed = BTreeSet::new();
        let mut reached = BTreeSet::new();
        for service in &config.services {
            let Quorum { least, hysteresis } = service.quorum;
            let (name, up) = (&service.name, up.get(service.name.as_str()).copied().unwrap_or(0));
            let was_missed = self.missed.contains(name);
            let needed = if was_missed { least + hysteresis } else { least };
            if up >= needed {
                reached.insert(service.vip);
            } else {
                missed.insert(name.clone());
            }
            if (up < needed) != was_missed {
                let what = if up < needed { "quorum missed" } else { "quorum reached" };
                news.push((up < needed, format!("service {name}: {what}, {up} backends are up and {needed} are needed")));
            }
        }
        let vips: BTreeSet<IpAddr> = config.services.iter().map(|service| service.vip).collect();
        (self.missed, self.withdrawn) = (missed, &vips - &reached);
        news
    }
}

impl Daemon {
    /// Probes what the config in force says, from now on.
    pub(super) fn probe_targets(&mut self) {
        let own = self.datapath.snapshot.load().own_addresses.iter().copied().collect();
        let now = now();
        self.ward.update(self.registry.watched(&self.config), now);
        let changes = self.checker.update(self.registry.targets(&self.config), own, now);
        self.heed_health(changes);
        self.settle_health();
        // Also where nobody's health has changed: the services may have.
        self.settle_quorums();
    }

    /// Probes say something else of backends; what follows from it is done by [`Daemon::settle_health`], for many of them at once.
    pub(super) fn heed_health(&mut self, changes: impl IntoIterator<Item = HealthEvent>) {
        let snapshot = self.datapath.snapshot.load_full();
        for change in changes {
            self.ward.heed(&change, now());
            let Some(backend) = snapshot.backend(change.backend) else { continue };
            if backend.weight().share != change.share {
                let (address, pool, why) = (Shown(backend.address()), &backend.pool, &change.why);
                let level = self.health_news.level(Level::INFO, Monotonic::now());
                log!(level, "backend {address} of pool {pool} gets {} % of its weight: {why}", change.share);
                backend.change_weight(|weight| weight.share = change.share);
                self.reweighed.insert(backend.pool.clone());
            }
        }
    }

    /// Says of how many more backends probes or packets said something else lately than the log told.
    pub(super) fn sum_health(&mut self, now: Monotonic) {
        if let Some(more) = self.health_news.sum(now) {
            warn!("and {more} more changes of backends within a second; `weir status` shows who is up");
        }
    }

    /// Gives schedulers what follows from health and from the time.
    pub(super) fn settle_health(&mut self) {
        let snapshot = self.datapath.snapshot.load_full();
        let (verdicts, news) = self.ward.settle(now(), |backend| handshakes(&snapshot, backend));
        let mut touched = std::mem::take(&mut self.reweighed);
        for verdict in verdicts {
            let Some(backend) = snapshot.backend(verdict.backend) else { continue };
            if backend.member.is_eligible() != verdict.serves {
                backend.member.set_eligible(verdict.serves);
                self.follow_health(backend, verdict.serves);
                touched.insert(backend.pool.clone());
            }
            if backend.weight().ramp != verdict.ramp {
                backend.change_weight(|weight| weight.ramp = verdict.ramp);
                touched.insert(backend.pool.clone());
            }
        }
        for pool in &touched {
            if let Some((_, pool)) = snapshot.services.iter().flat_map(|service| service.uses(pool)).next() {
                pool.weigh();
            }
            refresh(&snapshot, pool);
        }
        for item in &news {
            let Some(backend) = snapshot.backend(item.backend) else { continue };
            let (address, pool, text) = (Shown(backend.address()), &backend.pool, &item.text);
            let level = self.health_news.level(if item.bad { Level::WARN } else { Level::INFO }, Monotonic::now());
            log!(level, "backend {address} of pool {pool} {text}");
        }
        if !touched.is_empty() || !news.is_empty() {
            self.settle_quorums();
        }
    }

    /// Backends of a pool that are fine, are not drained, and have weight.
    pub(super) fn up(&self, pool: &Pool) -> usize {
        let is_fine = |backend| self.ward.look(backend).is_none_or(|look| look.fine);
        pool.backends
            .iter()
            .filter(|backend| is_fine(backend.id) && !backend.member.is_drained() && backend.weight().effective(1) > 0)
            .count()
    }

    /// Takes VIPs off, or puts them back, as the quorums of their services say.
    fn settle_quorums(&mut self) {
        let snapshot = self.datapath.snapshot.load_full();
        let up = snapshot.services.iter().map(|service| (service.name.as_str(), self.up(&service.pool))).collect();
        let before = self.quorums.withdrawn.clone();
        for (bad, text) in self.quorums.follow(&self.config, &up) {
            if bad { warn!("{text}") } else { info!("{text}") }
        }
        let expected = std::mem::take(&mut self.quorums.unknown);
        let now = &self.quorums.withdrawn;
        let (gone, back, new) = (now - &before, &before - now, &expected - now);
        gone.iter().for_each(|vip| warn!("VIP {vip} is withdrawn: none of its services has its quorum"));
        self.addresses.remove(gone);
        back.iter().for_each(|vip| info!("VIP {vip} is announced again"));
        if !back.is_empty() || !new.is_empty() {
            self.restore_addresses();
        }
    }
}

fn now() -> Duration {
    Duration::from_nanos(Monotonic::now().0)
}

/// Relaxed: numbers that publish nothing.
fn handshakes(snapshot: &Snapshot, backend: BackendId) -> Handshakes {
    snapshot.backend(backend).map_or(Handshakes::default(), |backend| Handshakes {
        answered: backend.answered.load(Relaxed),
        failed: backend.failed.load(Relaxed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const CONFIG: &str = r#"
        interface = [{ name = "eth0" }]
        snat = { addresses = ["10.0.0.200"] }
        service = [
            { name = "a", vip = "10.0.0.1:80", protocol = "tcp", pool = "p", quorum = 2, quorum_hysteresis = 1 },
            { name = "b", vip = "10.0.0.1:81", protocol = "tcp", pool = "p", quorum = 1 },
            { name = "c", vip = "10.0.0.2:80", protocol = "tcp", pool = "p" },
        ]
        [[pool]]
        name = "p"
        backends = [{ address = "10.1.0.1:80" }, { address = "10.1.0.2:80" }, { address = "10.1.0.3:80" }]
    "#;

    #[test]
    fn a_vip_is_withdrawn_when_none_of_its_services_has_its_quorum() {
        let config = Config::parse(Path::new("test.toml"), CONFIG).unwrap_or_else(|report| panic!("{report}"));
        let mut quorums = Quorums::default();
        let mut follow = |up| {
            let news = quorums.follow(&config, &["a", "b", "c"].map(|name| (name, up)).into());
            (news.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), quorums.withdrawn.len())
        };
        assert_eq!(follow(3), (vec![], 0));
        assert_eq!(follow(1), (vec!["service a: quorum missed, 1 backends are up and 2 are needed".to_owned()], 0));
        assert_eq!(
            follow(0),
            (vec!["service b: quorum missed, 0 backends are up and 1 are needed".to_owned()], 1),
            "not that of c"
        );
        assert_eq!(follow(1), (vec!["service b: quorum reached, 1 backends are up and 1 are needed".to_owned()], 0));
        assert_eq!(follow(2), (vec![], 0), "hysteresis");
        assert_eq!(follow(3), (vec!["service a: quorum reached, 3 backends are up and 3 are needed".to_owned()], 0));
    }
}
