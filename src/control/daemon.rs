//! The running daemon: everything that the control thread holds.

use super::addresses::Addresses;
use super::complaints::Complaints;
use super::desk::Question;
use super::draining::Draining;
use super::expiry::Expiry;
use super::health::Quorums;
use super::homes::Cards;
use super::inquiries::Inquiries;
use super::interface::Interface;
use super::persistence::Persisting;
use super::registry::Registry;
use super::reload::Force;
use super::throng::Throng;
use super::watch::Watch;
use super::workers::{self, Running};
use super::{StartError, retired, start};
use crate::admin::Server;
use crate::config::Config;
use crate::datapath::{Datapath, connection_closed};
use crate::health::{Checker, Ward};
use crate::io::xsk;
use crate::kernel::{Address, Event, Mirror, Monitor, Netlink};
use crate::worker::{Monotonic, Resolver};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tracing::{info, warn};

/// Nanoseconds between two touches of neighbours that the kernel has not confirmed for a while.
const REFRESH_EVERY: u64 = 30_000_000_000;

/// Probes that are started or given up before the loop looks at everything else again.
const PROBES_A_TURN: usize = 64;

/// Everything that the control thread holds. Dropping it stops the daemon, in the order of the first fields: the traffic goes back to
/// the kernel, the workers stop, the socket file and the addresses go away.
pub(super) struct Daemon {
    pub(super) interfaces: Vec<Interface>,
    pub(super) workers: Vec<Running>,
    // Before the addresses, which hold the state file and with it the directory of both.
    pub(super) _socket: start::SocketFile,
    pub(super) addresses: Addresses,
    pub(super) path: PathBuf,
    pub(super) watch: Watch,
    pub(super) config: Config,
    /// The same, for the threads of clients.
    pub(super) in_force: Arc<ArcSwap<Config>>,
    pub(super) registry: Registry,
    pub(super) datapath: Arc<Datapath>,
    pub(super) netlink: Netlink,
    pub(super) monitor: Monitor,
    pub(super) mirror: Mirror,
    pub(super) resolver: Arc<Resolver>,
    pub(super) inquiries: Inquiries,
    /// Of questions for neighbours that the kernel refused.
    pub(super) unanswered: Complaints,
    pub(super) checker: Checker,
    pub(super) ward: Ward,
    /// Pools in which an agent has asked for another part of a weight.
    pub(super) reweighed: BTreeSet<String>,
    pub(super) quorums: Quorums,
    pub(super) health_news: Throng,
    pub(super) server: Server,
    pub(super) questions: Receiver<Question>,
    pub(super) retired: retired::Retired,
    /// Addresses without a subnet, as far as they were told of.
    pub(super) homeless: BTreeSet<IpAddr>,
    pub(super) expiry: Expiry,
    /// A client has ended connections.
    pub(super) ended: Arc<AtomicBool>,
    pub(super) draining: Draining,
    /// How they spread what they receive over the queues.
    pub(super) cards: Cards,
    pub(super) persisting: Persisting,
    pub(super) refresh_at: Monotonic,
    pub(super) began: Monotonic,
}

impl Daemon {
    /// When something is to be done though nothing happens.
    pub(super) fn next_wake(&self) -> Monotonic {
        let ward = self.ward.next().map_or(u64::MAX, |next| u64::try_from(next.as_nanos()).unwrap_or(u64::MAX));
        let probe =
            self.checker.next_deadline().map_or(u64::MAX, |deadline| u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX));
        let timers = [
            self.expiry.next(),
            self.draining.next(),
            self.persisting.next(),
            self.refresh_at,
            self.inquiries.next(),
            self.health_news.next(),
            self.retired.next(),
            self.watch.next(),
            self.cards.next(),
        ];
        timers.into_iter().fold(Monotonic(probe.min(ward)), Monotonic::min)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        self.sweep();
        self.drain_due();
        self.persisting.run(Monotonic::now, &self.datapath);
        let now = Monotonic::now();
        if now >= self.refresh_at {
            self.refresh_at = Monotonic(now.0 + REFRESH_EVERY);
            self.refresh_neighbours();
        }
        self.look_at_cards(now);
        self.inquire();
        if self.watch.is_due(now) {
            info!("{} was edited", self.path.display());
            // What became of it is in the log.
            let _ = self.reload(Force::No);
        }
        if let Some(unused) = self.retired.run(now, &self.datapath) {
            self.release(&unused);
        }
        let changes = self.checker.tick(Duration::from_nanos(now.0), PROBES_A_TURN);
        self.heed_health(changes);
        self.settle_health();
        self.sum_health(now);
    }

    fn sweep(&mut self) {
        let (snapshot, homes) = (self.datapath.snapshot.load_full(), self.datapath.homes.load_full());
        let (conntrack, timeouts) = (&self.datapath.conntrack, self.draining.timeouts(&snapshot));
        // Relaxed: the flag is the whole message; who set it wakes us.
        if self.ended.swap(false, Relaxed) {
            self.expiry.hurry(Monotonic::now());
        }
        let sweep = |budget, now: Monotonic| {
            conntrack.sweep(now.millis(), &timeouts, budget, &mut |connection| {
                connection_closed(&snapshot, homes.as_deref(), connection);
            })
        };
        self.expiry.run(Monotonic::now, sweep, || conntrack.free_swept());
    }

    /// Takes over what the kernel says has changed.
    ///
    /// # Errors
    /// When an interface is gone, for nothing brings its sockets back.
    pub(super) fn follow_kernel(&mut self) -> Result<(), StartError> {
        let events = match self.monitor.events() {
            Ok(events) => events,
            Err(error) => {
                warn!("{error}; everything is listed anew");
                vec![Event::Overrun]
            }
        };
        for event in &events {
            self.tell(event)?;
            self.mirror.apply(event, &self.datapath.next_hops);
        }
        let listed = self.mirror.settle(&mut self.netlink, &self.datapath.next_hops);
        // Links, addresses and routes: all that decides where an address belongs.
        let changed = !matches!(listed, Ok(false));
        match listed {
            Ok(false) => {}
            Ok(true) => self.resolve_backends(),
            Err(error) => warn!("{error}; next hops may be out of date until the next change"),
        }
        if changed {
            self.restore_addresses();
        }
        Ok(())
    }

    /// Logs interfaces of ours that go up or down, and an MTU that no frame holds.
    fn tell(&self, event: &Event) -> Result<(), StartError> {
        let (link, gone) = match event {
            Event::Link(link) => (link, false),
            Event::LinkGone(link) => (link, true),
            _ => return Ok(()),
        };
        let Some(interface) = self.interfaces.iter().find(|interface| interface.index == link.index) else { return Ok(()) };
        if gone {
            return Err(StartError::InterfaceGone(interface.name.clone()));
        }
        let mtu = self.datapath.next_hops.port(interface.port).mtu();
        let holds = self.largest_packet();
        if link.mtu > holds && link.up && link.mtu != mtu {
            warn!("interface {}: MTU {} is above {holds}: larger packets are lost until weir is restarted", link.name, link.mtu);
        }
        match (mtu > 0, link.up) {
            (true, false) => warn!("interface {}: down", link.name),
            (false, true) => info!("interface {}: up", link.name),
            _ => {}
        }
        Ok(())
    }

    /// Bytes of the largest packet that frames hold: they are made for the MTUs at the start.
    fn largest_packet(&self) -> u32 {
        let at_the_start = self.interfaces.iter().map(|interface| interface.mtu).max().unwrap_or(0);
        let chosen = self.config.worker.frame_size.or_else(|| workers::wanted_frame_size(&self.interfaces));
        xsk::largest_packet(chosen.unwrap_or_else(|| xsk::frame_size_for(at_the_start)))
    }

    /// Puts addresses back that went away without our doing, as those of IPv6 do with a link that goes down, and moves those that
    /// belong to another interface now.
    pub(super) fn restore_addresses(&mut self) {
        let restored = self.netlink.addresses().map_err(StartError::from).and_then(|there| {
            self.learn_host_addresses(&there);
            let mut wanted = self.placements(&self.config, self.retired.addresses(), &there);
            wanted.retain(|_, link| link.up);
            self.tell_homeless(&wanted, &there);
            self.addresses.restore(&wanted, &there)
        });
        if let Err(error) = restored {
            warn!("{error}");
        }
    }

    /// Tells the workers which addresses the machine has.
    pub(super) fn learn_host_addresses(&self, there: &[Address]) {
        let addresses = there.iter().map(|item| item.address);
        self.datapath.next_hops.set_locals(addresses, there.iter().filter_map(Address::broadcast));
    }

    /// A worker that is not running any more, which is the end of the daemon.
    pub(super) fn dead_worker(&mut self) -> Option<StartError> {
        let at = self.workers.iter().position(|running| running.worker.has_died())?;
        let id = self.workers[at].worker.id();
        let why = self.workers.remove(at).worker.join().err().unwrap_or_else(|| "it ended without a word".to_owned());
        Some(StartError::WorkerDied { id, why })
    }

    /// Logs what went wrong at the ports of workers, once.
    pub(super) fn tell_troubles(&self) {
        for running in &self.workers {
            if let Some(trouble) = running.worker.shared().trouble.swap(None) {
                warn!("worker {}: {trouble}", running.worker.id());
            }
        }
    }
}
