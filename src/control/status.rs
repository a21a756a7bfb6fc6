//! What `weir status` and `weir drops` show, gathered from where it is.

use super::daemon::Daemon;
use super::draining::Line;
use super::interface::Interface;
use super::workers::{Queue, Running};
use crate::admin::{self, Status};
use crate::conntrack::Rate;
use crate::datapath::{Counters, DropReason, NextHop};
use crate::service::{Backend, Limit, Pool, Service, Snapshot};
use crate::worker::{BurstTimes, Monotonic};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Daemon {
    /// Everything, at this moment.
    pub(super) fn status(&self) -> Status {
        let snapshot = self.datapath.snapshot.load_full();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: Monotonic::now().nanos_since(self.began) / 1_000_000_000,
            config: self.path.display().to_string(),
            generation: snapshot.generation,
            interfaces: self.interfaces.iter().map(|interface| self.describe_interface(interface)).collect(),
            workers: self.workers.iter().map(describe_worker).collect(),
            services: snapshot.services.iter().map(|service| self.describe_service(service)).collect(),
            pools: self.describe_pools(&snapshot),
            draining: self.draining.lines().iter().map(describe_draining).collect(),
            connections: admin::Connections {
                count: self.datapath.conntrack.count() as u64,
                ending: self.datapath.conntrack.ending() as u64,
                capacity: self.datapath.conntrack.capacity() as u64,
                bytes: self.datapath.conntrack.bytes() as u64,
                port_bytes: self.datapath.homes.load().as_ref().map_or(0, |homes| homes.bytes() as u64),
                expected: self.datapath.conntrack.expectations().count() as u64,
            },
            sources: self.describe_sources(),
            next_hops: self.describe_next_hops(),
        }
    }

    fn describe_sources(&self) -> admin::Sources {
        let conntrack = &self.datapath.conntrack;
        let settings = conntrack.conncount().settings();
        let ((limited, uncounted), (persistent, not_remembered)) = (conntrack.conncount().load(), conntrack.templates().load());
        admin::Sources {
            limited: limited as u64,
            limited_capacity: settings.entries as u64,
            uncounted,
            persistent: persistent as u64,
            persistent_capacity: settings.templates as u64,
            not_remembered,
        }
    }

    fn describe_service(&self, service: &Service) -> admin::Service {
        let settings = self.config.services.iter().find(|settings| settings.name == service.name);
        admin::Service {
            name: service.name.clone(),
            vip: service.vip,
            port: service.port,
            protocol: service.protocol.name().to_owned(),
            scheduler: service.scheduler.name().to_owned(),
            pool: service.pool.name.clone(),
            backup: service.backup.as_ref().map(|backup| backup.pool.name.clone()),
            connections: self.datapath.conntrack.conncount().of_service(service.id.0),
            at_backup: service.ledger.backup(),
            persisted: service.ledger.persisted(),
            limits: describe_limits(service),
            over_limit: service.limits.over.name().to_owned(),
            up: self.up(&service.pool),
            quorum: settings.map_or(0, |settings| settings.quorum.least),
            announced: !self.quorums.withdraws(&service.vip),
        }
    }

    /// Every drop reason, over all workers.
    pub(super) fn drops(&self) -> Vec<admin::Drop> {
        let count = |reason: DropReason| self.workers.iter().map(|running| counters(running).drops(reason).get()).sum();
        let describe = |reason: &DropReason| admin::Drop {
            reason: reason.label().to_owned(),
            count: count(*reason),
            sentence: reason.sentence().to_owned(),
        };
        DropReason::ALL.iter().map(describe).collect()
    }

    fn describe_interface(&self, interface: &Interface) -> admin::Interface {
        let port = self.datapath.next_hops.port(interface.port);
        let counters = interface.steering.counters().unwrap_or_default();
        let mut queues: Vec<admin::Queue> = self.workers.iter().flat_map(|running| queues_of(running, interface)).collect();
        queues.sort_by_key(|queue| queue.queue);
        admin::Interface {
            name: interface.name.clone(),
            up: port.mtu() > 0,
            mac: write_mac(port.mac()),
            // That of the port says 0 for an interface that is down.
            mtu: self.mirror.link(interface.port).map_or(interface.mtu, |link| link.mtu),
            attached: interface.steering.mode().name().to_owned(),
            replies: self.cards.describe(interface.port),
            queues,
            redirected: counters.redirected,
            passed: counters.passed + counters.unserved,
        }
    }

    fn describe_pools(&self, snapshot: &Snapshot) -> Vec<admin::Pool> {
        let pools: BTreeMap<&str, &Arc<Pool>> =
            snapshot.services.iter().flat_map(|service| service.pools()).map(|pool| (pool.name.as_str(), pool)).collect();
        let describe = |settings: &crate::config::Pool| {
            let pool = pools.get(settings.name.as_str())?;
            let backends = pool.backends.iter().map(|backend| self.describe_backend(backend, pool.parts())).collect();
            Some(admin::Pool { name: settings.name.clone(), backends })
        };
        self.config.pools.iter().filter_map(describe).collect()
    }

    fn describe_backend(&self, backend: &Backend, parts: u32) -> admin::Backend {
        let look = self.ward.look(backend.id);
        let probed = self.checker.look(backend.id);
        let ejection = look.and_then(|look| Some((look.ejected_until?, look.why)));
        let (health, detail) = match (ejection, probed) {
            (Some((until, why)), _) => {
                let left = until.saturating_sub(Duration::from_nanos(Monotonic::now().0)).as_secs();
                ("ejected", Some(format!("{why}; for {left} s more")))
            }
            (None, None) => ("unchecked", None),
            (None, Some((up, last))) => {
                (if up { "up" } else { "down" }, last.and_then(|last| last.as_ref().err()).map(ToString::to_string))
            }
        };
        admin::Backend {
            address: backend.address(),
            weight: backend.weight().whole(),
            effective_weight: f64::from(backend.weight().effective(parts)) / f64::from(parts),
            file_weight: backend.weight().overridden.map(|_| backend.weight().configured),
            drained: backend.member.is_drained(),
            health: health.to_owned(),
            serves: backend.member.is_eligible(),
            detail,
            connections: backend.member.connections(),
            max_connections: backend.member.max_connections(),
            total_connections: backend.total_connections.load(Relaxed),
        }
    }

    fn describe_next_hops(&self) -> Vec<admin::Neighbour> {
        let mut hops: Vec<_> = self.datapath.next_hops.neighbours();
        hops.sort_by_key(|(address, ..)| *address);
        hops.into_iter().map(|(address, _, hop)| self.describe_next_hop(address, hop)).collect()
    }

    fn describe_next_hop(&self, address: std::net::IpAddr, hop: Option<NextHop>) -> admin::Neighbour {
        let interface = hop.and_then(|hop| self.interfaces.get(usize::from(hop.port.0)));
        admin::Neighbour {
            address,
            interface: interface.map(|interface| interface.name.clone()),
            vlan: hop.map_or(0, |hop| hop.vlan),
            mac: hop.map(|hop| write_mac(hop.mac)),
        }
    }
}

fn counters(running: &Running) -> &Counters {
    &running.worker.shared().counters
}

fn queues_of<'a>(running: &'a Running, interface: &'a Interface) -> impl Iterator<Item = admin::Queue> + 'a {
    let queues = running.queues.iter().filter(|queue| queue.port == interface.port);
    queues.map(|queue| describe_queue(queue, running.worker.id() as u32))
}

fn describe_queue(queue: &Queue, worker: u32) -> admin::Queue {
    let statistics = &queue.statistics;
    admin::Queue {
        queue: queue.queue,
        worker,
        mode: queue.got.name().to_owned(),
        ring_drops: statistics.lost(queue.got),
        fill_ring_empty: statistics.fill_ring_empty(),
        received: statistics.received(),
        sent: statistics.sent(),
        filling: statistics.filling(),
        in_flight: statistics.in_flight(),
    }
}

fn describe_worker(running: &Running) -> admin::Worker {
    let counters = counters(running);
    let numbers = DropReason::ALL.iter().map(|reason| (reason.label().to_owned(), counters.drops(*reason).get()));
    let drops: BTreeMap<String, u64> = numbers.filter(|(_, count)| *count > 0).collect();
    let came = counters.rx.get() + counters.originated.get();
    let went = counters.tx.get() + counters.waiting.get() + drops.values().sum::<u64>();
    admin::Worker {
        index: running.worker.id() as u32,
        cpu: running.cpu as u32,
        rx: counters.rx.get(),
        rx_bytes: counters.rx_bytes.get(),
        tx: counters.tx.get(),
        tx_bytes: counters.tx_bytes.get(),
        answered: counters.answered.get(),
        related: counters.related.get(),
        originated: counters.originated.get(),
        waiting: counters.waiting.get(),
        new_connections: counters.new_connections.get(),
        homeless: counters.homeless.get(),
        first_replies: counters.first_replies.get(),
        first_replies_at_home: counters.first_replies_at_home.get(),
        established: counters.established.get(),
        early_drops: counters.early_drops.get(),
        expectations: counters.expectations.get(),
        expected: counters.expected.get(),
        refused_expectations: counters.refused_expectations.get(),
        bursts: describe_bursts(&running.worker.shared().burst_times),
        drops,
        conservation: came.wrapping_sub(went).cast_signed(),
    }
}

fn describe_bursts(times: &BurstTimes) -> admin::Bursts {
    let times = times.histogram();
    let quantile = |at| times.value_at_quantile(at);
    admin::Bursts { count: times.len(), p50: quantile(0.5), p99: quantile(0.99), p99_9: quantile(0.999), max: times.max() }
}

fn describe_draining(line: &Line) -> admin::Draining {
    const SECOND: u64 = 1_000_000_000;
    let (departure, now) = (&line.departure, Monotonic::now());
    let cause = departure.cause();
    admin::Draining {
        pool: line.backend.pool.clone(),
        backend: line.backend.address(),
        cause: cause.name().to_owned(),
        seconds: departure.since(cause).map_or(0, |since| now.nanos_since(since) / SECOND),
        seconds_left: departure.deadline().map(|deadline| deadline.nanos_since(now).div_ceil(SECOND)),
        tcp: departure.drain().tcp.name().to_owned(),
        udp: departure.drain().udp.name().to_owned(),
        connections: line.backend.member.connections(),
    }
}

/// The limits that there are, or that were struck before a reload took them away.
fn describe_limits(service: &Service) -> Vec<admin::ServiceLimit> {
    let (limits, members) = (&service.limits, &service.pool.members);
    let per_second = |rate: Option<Rate>| rate.map(|rate| rate.per_second);
    let describe = |limit: &Limit| {
        let (exists, value) = match limit {
            Limit::Backends => (members.iter().any(|member| member.max_connections().is_some()), None),
            Limit::Service => (limits.connections.is_some(), limits.connections),
            Limit::Source => (limits.source.connections.is_some(), limits.source.connections),
            Limit::ServiceRate => (limits.rate.is_some(), per_second(limits.rate)),
            Limit::SourceRate => (limits.source.rate.is_some(), per_second(limits.source.rate)),
        };
        let struck = service.ledger.struck(*limit);
        (exists || struck > 0).then(|| admin::ServiceLimit { limit: limit.name().to_owned(), value, struck })
    };
    Limit::ALL.iter().filter_map(describe).collect()
}

/// As `ip link` writes it.
pub(super) fn write_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
