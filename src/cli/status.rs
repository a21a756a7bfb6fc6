//! `weir status`: services, pools, backends, interfaces, workers.

use super::daemon::{Daemon, print_json, unexpected};
use super::table::Table;
use crate::admin::{self, Answer, Request};
use crate::service::Shown;
use std::io::{self, Write};

/// Show what the running daemon does
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Asks and prints.
    ///
    /// # Errors
    /// When the daemon can not be asked or `out` fails.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.daemon.ask(&Request::Status {})? {
            Answer::Status(status) if self.json => Ok(print_json(out, &status)?),
            Answer::Status(status) => Ok(print(&status, out)?),
            other => unexpected(&other),
        }
    }
}

fn print(status: &admin::Status, out: &mut dyn Write) -> io::Result<()> {
    let admin::Status { version, pid, config, generation, connections, .. } = status;
    let uptime = jiff::SignedDuration::from_secs(status.uptime_seconds.cast_signed());
    writeln!(out, "weir {version}, pid {pid}, up {uptime:#}, {config} generation {generation}")?;
    let megabytes = connections.bytes >> 20;
    let early_drops: u64 = status.workers.iter().map(|worker| worker.early_drops).sum();
    let gave_way = if early_drops > 0 { format!("; {early_drops} gave way because it was full") } else { String::new() };
    let (count, capacity) = (connections.count, connections.capacity);
    let ending = if connections.ending > 0 { format!(" and {} ending", connections.ending) } else { String::new() };
    let ports = match connections.port_bytes {
        0 => String::new(),
        bytes => format!(" and {} MiB of notes of taken SNAT ports", bytes.div_ceil(1 << 20)),
    };
    writeln!(out, "connections: {count}{ending} of {capacity} a family, at most {megabytes} MiB{ports}{gave_way}\n")?;
    print_services(status, out)?;
    print_limits(status, out)?;
    print_backends(status, out)?;
    print_draining(status, out)?;
    print_interfaces(status, out)?;
    print_workers(status, out)?;
    print_replies(status, out)?;
    print_next_hops(status, out)
}

fn print_services(status: &admin::Status, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["SERVICE", "VIP", "PORT", "PROTOCOL", "SCHEDULER", "POOL", "CONNECTIONS", "UP", ""]);
    for service in &status.services {
        let port = service.port.map_or("any".into(), |port| port.to_string());
        let up = match service.quorum {
            0 => service.up.to_string(),
            quorum => format!("{} of {quorum}", service.up),
        };
        let announced = if service.announced { "" } else { "VIP withdrawn" }.to_owned();
        let admin::Service { name, vip, protocol, scheduler, mut pool, .. } = service.clone();
        if let Some(backup) = &service.backup {
            pool = format!("{pool}, then {backup}");
        }
        let connections = service.connections.to_string();
        table.row([name, vip.to_string(), port, protocol, scheduler, pool, connections, up, announced]);
    }
    table.print(out)
}

/// What stood in the way of new connections, and where they went instead; nothing where there are no limits, backups or persistence.
fn print_limits(status: &admin::Status, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["SERVICE", "LIMIT", "VALUE", "STRUCK", "THEN"]);
    for service in &status.services {
        for limit in &service.limits {
            let value = limit.value.map_or("-".into(), |value| value.to_string());
            let (name, then) = (service.name.clone(), service.over_limit.clone());
            table.row([name, limit.limit.clone(), value, limit.struck.to_string(), then]);
        }
    }
    if status.services.iter().any(|service| !service.limits.is_empty()) {
        writeln!(out)?;
        table.print(out)?;
    }
    let told = status.services.iter().filter(|service| service.at_backup + service.persisted > 0);
    for (index, service) in told.enumerate() {
        if index == 0 {
            writeln!(out)?;
        }
        let admin::Service { name, at_backup, persisted, .. } = service;
        writeln!(out, "{name}: {at_backup} connections went to the backup pool, {persisted} where their client's last one did")?;
    }
    let admin::Sources { limited, limited_capacity, uncounted, persistent, persistent_capacity, not_remembered } = status.sources;
    if limited + uncounted + persistent + not_remembered > 0 {
        writeln!(out, "\nsources: {limited} of {limited_capacity} counted, {uncounted} connections of others")?;
        writeln!(out, "persistence: {persistent} of {persistent_capacity} clients, {not_remembered} connections of others")?;
    }
    Ok(())
}

fn print_backends(status: &admin::Status, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["POOL", "BACKEND", "WEIGHT", "EFFECTIVE", "HEALTH", "CONNECTIONS", "TOTAL", ""]);
    for pool in &status.pools {
        for backend in &pool.backends {
            table.row([
                pool.name.clone(),
                Shown(backend.address).to_string(),
                backend
                    .file_weight
                    .map_or_else(|| backend.weight.to_string(), |file| format!("{} (file: {file})", backend.weight)),
                backend.effective_weight.to_string(),
                match backend.health.as_str() {
                    health if backend.drained => format!("{health}, drained"),
                    held @ ("down" | "ejected") if backend.serves => format!("{held}, held"),
                    health => health.to_owned(),
                },
                match backend.max_connections {
                    Some(most) => format!("{} of {most}", backend.connections),
                    None => backend.connections.to_string(),
                },
                backend.total_connections.to_string(),
                backend.detail.clone().unwrap_or_default(),
            ]);
        }
    }
    writeln!(out)?;
    table.print(out)
}

/// Only while there are some.
fn print_draining(status: &admin::Status, out: &mut dyn Write) -> io::Result<()> {
    if status.draining.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["DRAINING", "BACKEND", "WHY", "FOR", "LEFT", "CONNECTIONS", "TCP", "UDP"]);
    for line in &status.draining {
        let left = line.seconds_left.map_or("no deadline".to_owned(), |seconds| format!("{seconds} s"));
        let admin::Draining { pool, backend, cause, seconds, tcp, udp, connections, .. } = line.clone();
        table.row([pool, Shown(backend).to_string(), cause, format!("{seconds} s"), left, connections.to_string(), tcp, udp]);
    }
    writeln!(out)?;
    table.print(out)
}

fn print_interfaces(status: &admin::Status, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["INTERFACE", "LINK", "MAC", "MTU", "XDP", "REDIRECTED", "PASSED"]);
    let mut queues = Table::new(&["INTERFACE", "QUEUE", "MODE", "WORKER", "RECEIVED", "SENT", "RING DROPS"]);
    for interface in &status.interfaces {
        let admin::Interface { name, mac, attached, .. } = interface.clone();
        let link = if interface.up { "up" } else { "down" };
        let (redirected, passed) = (interface.redirected.to_string(), interface.passed.to_string());
        table.row([name, link.into(), mac, interface.mtu.to_string(), attached, redirected, passed]);
        for queue in &interface.queues {
            let numbers = [queue.received, queue.sent, queue.ring_drops];
            let [received, sent, drops] = numbers.map(|number| number.to_string());
            let (number, worker) = (queue.queue.to_string(), queue.worker.to_string());
            queues.row([interface.name.clone(), number, queue.mode.clone(), worker, received, sent, drops]);
        }
    }
    writeln!(out)?;
    table.print(out)?;
    writeln!(out)?;
    queues.print(out)
}

fn print_workers(status: &admin::Status, out: &mut dyn Write) -> io::Result<()> {
    let header = ["WORKER", "CPU", "RX", "TX", "ANSWERED", "RELATED", "ORIGINATED", "WAITING", "NEW", "DROPPED", "UNACCOUNTED"];
    let mut table = Table::new(&header);
    for worker in &status.workers {
        let dropped: u64 = worker.drops.values().sum();
        let ways = [worker.rx, worker.tx, worker.answered, worker.related, worker.originated];
        let [rx, tx, answered, related, originated] = ways.map(|number| number.to_string());
        let [waiting, new, dropped] = [worker.waiting, worker.new_connections, dropped].map(|number| number.to_string());
        let (index, cpu, difference) = (worker.index.to_string(), worker.cpu.to_string(), worker.conservation.to_string());
        table.row([index, cpu, rx, tx, answered, related, originated, waiting, new, dropped, difference]);
    }
    writeln!(out)?;
    table.print(out)?;
    let mut table = Table::new(&["WORKER", "BURSTS", "PACKETS EACH", "µs: p50", "p99", "p99.9", "max"]);
    for worker in &status.workers {
        let admin::Bursts { count, p50, p99, p99_9, max } = worker.bursts;
        let each = worker.rx as f64 / count.max(1) as f64;
        let [p50, p99, p99_9, max] = [p50, p99, p99_9, max].map(|nanos| format!("{:.1}", nanos as f64 / 1000.0));
        table.row([worker.index.to_string(), count.to_string(), format!("{each:.1}"), p50, p99, p99_9, max]);
    }
    writeln!(out)?;
    table.print(out)
}

/// Only where there are several workers.
fn print_replies(status: &admin::Status, out: &mut dyn Write) -> io::Result<()> {
    let told = status.interfaces.iter().filter_map(|interface| Some((&interface.name, interface.replies.as_ref()?)));
    let mut lines: Vec<String> = told.map(|(name, replies)| format!("{name}: {replies}")).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let sum = |count: fn(&admin::Worker) -> u64| status.workers.iter().map(count).sum::<u64>();
    let (all, home) = (sum(|worker| worker.first_replies), sum(|worker| worker.first_replies_at_home));
    // Rounded down: 100 means all of them.
    let (hundredths, homeless) = (10_000 * home / all.max(1), sum(|worker| worker.homeless));
    if all > 0 {
        lines.push(format!(
            "first replies: {}.{:02} % of {all} came in at the worker that has opened the connection",
            hundredths / 100,
            hundredths % 100
        ));
    }
    if homeless > 0 {
        lines.push(format!(
            "{homeless} connections were given a port of another worker: none at home was free, or their worker has none"
        ));
    }
    writeln!(out, "\n{}", lines.join("\n"))
}

fn print_next_hops(status: &admin::Status, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["NEXT HOP", "INTERFACE", "VLAN", "MAC"]);
    for hop in &status.next_hops {
        let vlan = if hop.vlan == 0 { "-".into() } else { hop.vlan.to_string() };
        let mac = hop.mac.clone().unwrap_or_else(|| "unresolved".into());
        table.row([hop.address.to_string(), hop.interface.clone().unwrap_or_else(|| "-".into()), vlan, mac]);
    }
    writeln!(out)?;
    table.print(out)
}
