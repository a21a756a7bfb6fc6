//! Starting up, in the order in which each step can rely on the ones before; a step that fails undoes them all.

use super::addresses::Addresses;
use super::complaints::Complaints;
use super::daemon::Daemon;
use super::desk::FrontDesk;
use super::draining::Draining;
use super::expiry::Expiry;
use super::health::Quorums;
use super::homes::Cards;
use super::inquiries::Inquiries;
use super::interface::Interface;
use super::persistence::Persisting;
use super::registry::Registry;
use super::retired::Retired;
use super::throng::Throng;
use super::watch::Watch;
use super::{StartError, StateFile, targets, workers};
use crate::admin::{self, Limits, Server};
use crate::config::{Checksum, Config};
use crate::conntrack::Conntrack;
use crate::datapath::{Datapath, Hooks, NextHops, PortId};
use crate::health::{Checker, Ward};
use crate::kernel::{self, Announcer, Link, Mirror, Monitor, Netlink, NetlinkError};
use crate::worker::{Monotonic, Resolver};
use arc_swap::ArcSwap;
use mio::Waker;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{info, warn};

/// The admin socket's file, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            warn!("the admin socket {} could not be removed: {error}", self.0.display());
        }
    }
}

/// Starts everything but the loop. `waker` wakes the loop.
pub(super) fn start(
    path: &Path,
    config: Config,
    waker: Arc<Waker>,
    checker: Checker,
    mut watch: Watch,
) -> Result<(Daemon, UnixListener), StartError> {
    // How many workers there will be is known later: at least one.
    kernel::check_privileges(locked_memory(&config, 1))?;
    kernel::check_af_xdp()?;
    let (state, left) = StateFile::lock(&config.admin_socket)?;
    let mut interfaces = open_interfaces(&config)?;
    kernel::check_privileges(locked_memory(&config, workers::count(&interfaces)))?;

    let mut registry = Registry::scattered();
    let datapath = Arc::new(make_datapath(&config, &mut registry)?);
    // The monitor first: what changes while everything is listed comes as an event afterwards.
    let monitor = Monitor::open()?;
    let mut netlink = Netlink::open()?;
    let mut mirror = Mirror::new(interfaces.iter().map(|interface| (interface.name.clone(), interface.port)));
    mirror.load(&mut netlink, &datapath.next_hops)?;
    warn_of_stripped_tags(&interfaces, &netlink.links()?);

    let wake = Arc::clone(&waker);
    // A wake that fails is made up for: the loop looks at every queue whenever it wakes.
    let resolver = Arc::new(Resolver::new(move || drop(wake.wake())));
    let running = workers::start(&config, &mut interfaces, &datapath, &resolver)?;
    tell_modes(&interfaces, &running);
    let cards = Cards::read(&interfaces, running.len(), Monotonic::now());

    let in_force = Arc::new(ArcSwap::from_pointee(config.clone()));
    let (desk, questions) = FrontDesk::new(Arc::clone(&datapath), Arc::clone(&in_force), waker);
    let listener = bind(&config.admin_socket)?;
    let socket = SocketFile(config.admin_socket.clone());
    let announcer = Announcer::open().map_err(StartError::Announcer)?;
    let known = interface_indices(&mut netlink)?;
    let addresses = Addresses::new((Netlink::open()?, announcer), state, left, |name| known.get(name).copied());
    let began = Monotonic::now();
    watch.set(config.reload.watch, began);
    let mut daemon = Daemon {
        interfaces,
        workers: running,
        addresses,
        _socket: socket,
        path: path.to_owned(),
        watch,
        config,
        in_force,
        registry,
        datapath,
        netlink,
        monitor,
        mirror,
        resolver,
        inquiries: Inquiries::default(),
        unanswered: Complaints::default(),
        checker,
        ward: Ward::default(),
        reweighed: BTreeSet::new(),
        quorums: Quorums::default(),
        health_news: Throng::default(),
        ended: desk.ended(),
        server: Server::new(Arc::new(desk), Limits::default()),
        questions,
        retired: Retired::new(),
        homeless: BTreeSet::new(),
        expiry: Expiry::new(began),
        draining: Draining::default(),
        cards,
        persisting: Persisting::new(began),
        refresh_at: began,
        began,
    };
    daemon.settle_homes();
    daemon.resolve_backends();
    daemon.probe_targets();
    daemon.take_traffic()?;
    Ok((daemon, listener))
}

impl Daemon {
    /// The last step: steers first, so that no packet for a VIP reaches the kernel once the address is there.
    fn take_traffic(&mut self) -> Result<(), StartError> {
        let (there, links) = (self.netlink.addresses()?, self.netlink.links()?);
        self.addresses.check(&self.config, &there, &links)?;
        self.learn_host_addresses(&there);
        let targets = targets::targets(&self.config, &BTreeSet::new());
        for interface in &mut self.interfaces {
            interface.steering.apply(&targets)?;
        }
        let wanted = self.placements(&self.config, &BTreeSet::new(), &there);
        self.addresses.add(&wanted)?;
        self.tell_homeless(&wanted, &there);
        let leftovers: Vec<IpAddr> = self.addresses.ours().filter(|address| !wanted.contains_key(address)).collect();
        self.addresses.remove(leftovers);
        Ok(())
    }
}

fn open_interfaces(config: &Config) -> Result<Vec<Interface>, StartError> {
    // All of them are looked at before the first one is touched.
    for settings in &config.interfaces {
        let link = kernel::servable_link(&settings.name)?;
        if !link.up {
            warn!("interface {}: it has no carrier yet", link.name);
        }
    }
    let ports = (0u8..).map(PortId);
    ports.zip(&config.interfaces).map(|(port, settings)| Interface::open(port, settings)).collect()
}

/// Bytes of all frames: those of each fill ring and each TX ring; frames of the larger size if the config leaves that to the MTU.
fn locked_memory(config: &Config, workers: usize) -> u64 {
    let frames = u64::from(config.worker.frames) * 3 / 2 * config.interfaces.len() as u64;
    frames * u64::from(config.worker.frame_size.unwrap_or(4096)) * workers as u64
}

/// Where the NIC takes VLAN tags off, frames of a VLAN look untagged to weir and leave so.
fn warn_of_stripped_tags(interfaces: &[Interface], links: &[Link]) {
    for interface in interfaces {
        let vlan = links.iter().find(|link| link.vlan.is_some_and(|(below, _)| below == interface.index));
        if let Some(vlan) = vlan
            && kernel::strips_vlan_tags(&interface.name).is_ok_and(|strips| strips)
        {
            let name = &interface.name;
            warn!(
                "interface {name} takes the tags off frames of {} before weir sees them: `ethtool -K {name} rxvlan off`",
                vlan.name
            );
        }
    }
}

fn make_datapath(config: &Config, registry: &mut Registry) -> Result<Datapath, StartError> {
    let conntrack = make_table(config).map_err(|error| StartError::Table { max_connections: config.max_connections, error })?;
    let next_hops = NextHops::default();
    for (port, interface) in (0u8..).map(PortId).zip(&config.interfaces) {
        next_hops.port(port).set_recompute(interface.checksum == Checksum::Recompute);
    }
    let snapshot = ArcSwap::from_pointee(registry.snapshot(config)?);
    Ok(Datapath { conntrack, next_hops, snapshot, hooks: Hooks::default(), homes: Default::default() })
}

fn make_table(config: &Config) -> io::Result<Conntrack> {
    let conntrack = Conntrack::new(config.max_connections)?.with_fragments(config.fragments).with_sources(config.sources);
    let conntrack = if config.accounting { conntrack.with_accounts()? } else { conntrack };
    if config.preallocate { conntrack.populated() } else { Ok(conntrack) }
}

fn bind(path: &Path) -> Result<UnixListener, StartError> {
    admin::bind(path).map_err(|error| StartError::Socket { path: path.to_owned(), error })
}

fn interface_indices(netlink: &mut Netlink) -> Result<BTreeMap<String, u32>, NetlinkError> {
    Ok(netlink.links()?.into_iter().map(|link| (link.name, link.index)).collect())
}

fn tell_modes(interfaces: &[Interface], running: &[workers::Running]) {
    for interface in interfaces {
        let queues = running.iter().flat_map(|running| &running.queues).filter(|queue| queue.port == interface.port);
        let modes: BTreeSet<&str> = queues.map(|queue| queue.got.name()).collect();
        let modes: Vec<&str> = modes.into_iter().collect();
        info!(
            "interface {}: {}, {}, XDP {}",
            interface.name,
            if interface.queues == 1 { "1 queue".to_owned() } else { format!("{} queues", interface.queues) },
            modes.join(" and "),
            interface.steering.mode().name()
        );
    }
}
