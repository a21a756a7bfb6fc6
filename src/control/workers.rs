//! The workers: how many, on which cores, with which queues.

use super::StartError;
use super::interface::Interface;
use crate::config::{self, Config};
use crate::datapath::{Datapath, PortId};
use crate::io::xsk::{self, Bell, Binding, BusyPoll, Got, SocketStatistics, XskError, XskPorts};
use crate::kernel;
use crate::worker::{self, Balancer, Resolver, Shared, WhenIdle, Worker, WorkerSettings};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use tracing::warn;

/// A worker and what it serves.
#[derive(Debug)]
pub(super) struct Running {
    /// The thread.
    pub(super) worker: Worker,
    /// Ends its sleep.
    pub(super) bell: Arc<Bell>,
    /// The core that it is pinned to.
    pub(super) cpu: usize,
    /// Its sockets.
    pub(super) queues: Vec<Queue>,
}

/// One socket of a worker.
#[derive(Debug)]
pub(super) struct Queue {
    /// The interface.
    pub(super) port: PortId,
    /// Its queue.
    pub(super) queue: u32,
    /// The mode that it got.
    pub(super) got: Got,
    /// What the kernel and the worker say about it.
    pub(super) statistics: Arc<SocketStatistics>,
}

/// Why a worker has no ports.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A socket could not be had.
    #[error(transparent)]
    Xsk(#[from] XskError),
    /// A bound socket could not be handed over.
    #[error("cannot hand an AF_XDP socket to the control thread: {0}")]
    HandOver(#[from] io::Error),
    /// No eventfd.
    #[error("cannot make the eventfd that wakes it: {0}")]
    Bell(#[source] io::Error),
}

/// How many workers there are: as many as the interface with the fewest queues has, because each worker needs a queue of every
/// interface to send through. Further queues of the others are dealt out in turn.
pub(super) fn count(interfaces: &[Interface]) -> usize {
    interfaces.iter().map(|interface| interface.queues).min().unwrap_or(0) as usize
}

/// What to know where not every queue has a worker of its own: the queue counts of all interfaces.
fn unequal(interfaces: &[(&str, u32)]) -> Option<String> {
    let fewest = interfaces.iter().map(|(_, queues)| *queues).min()?;
    let most = interfaces.iter().map(|(_, queues)| *queues).max()?;
    let counts: Vec<_> = interfaces.iter().map(|(name, queues)| format!("{name} has {queues}")).collect();
    (fewest < most).then(|| {
        let counts = counts.join(", ");
        format!("{fewest} workers, for the interfaces have different numbers of queues ({counts}): workers share the queues of those with more")
    })
}

/// The queues of an interface that worker `id` of `count` serves.
fn queues_of(id: usize, count: usize, queues: u32) -> impl Iterator<Item = u32> {
    (id as u32..queues).step_by(count)
}

/// Starts all workers and enters their sockets in the XSKMAPs. On an error those that run already are stopped.
pub(super) fn start(
    config: &Config,
    interfaces: &mut [Interface],
    datapath: &Arc<Datapath>,
    resolver: &Arc<Resolver>,
) -> Result<Vec<Running>, StartError> {
    let count = count(interfaces);
    let queues: Vec<_> = interfaces.iter().map(|interface| (interface.name.as_str(), interface.queues)).collect();
    if let Some(text) = unequal(&queues) {
        warn!("{text}");
    }
    let cpus = cpus(&config.worker, count)?;
    let mut workers = Vec::with_capacity(count);
    for (id, cpu) in cpus.into_iter().enumerate() {
        let bindings = bindings(config, interfaces, id, count);
        workers.push(start_one(config, (id, cpu), bindings, interfaces, datapath, resolver)?);
    }
    Ok(workers)
}

fn start_one(
    config: &Config,
    (id, cpu): (usize, usize),
    bindings: Vec<Binding>,
    interfaces: &mut [Interface],
    datapath: &Arc<Datapath>,
    resolver: &Arc<Resolver>,
) -> Result<Running, StartError> {
    let shared = Arc::new(Shared::default());
    let lane = datapath.lane(Arc::clone(&shared.counters)).ok_or(StartError::TooManyWorkers)?;
    let pipeline = Balancer::new(Arc::clone(datapath), lane.of_worker(id as u8));
    let (settings, counters) = (settings(&config.worker, interfaces), Arc::clone(&shared.counters));
    let when_idle = when_idle(config.worker.idle);
    let told = WorkerSettings { id, core: Some(cpu), when_idle, resolver: Arc::clone(resolver), shared };
    let bell = Arc::new(Bell::new().map_err(OpenError::Bell).map_err(worker::StartError::Ports)?);
    let heard = Arc::clone(&bell);
    let (worker, sockets) = Worker::start(told, pipeline, move || {
        let mut ports = XskPorts::open(&bindings, &settings, counters)?;
        ports.wake_by(heard);
        let sockets = ports.sockets()?;
        Ok::<_, OpenError>((ports, sockets))
    })?;
    let mut queues = Vec::new();
    for socket in sockets {
        // The file descriptor is closed at the end of this round: the worker holds its own.
        interfaces[usize::from(socket.port.0)].steering.set_socket(socket.queue, socket.fd.as_fd())?;
        queues.push(Queue { port: socket.port, queue: socket.queue, got: socket.got, statistics: socket.statistics });
    }
    Ok(Running { worker, bell, cpu, queues })
}

fn bindings(config: &Config, interfaces: &[Interface], id: usize, count: usize) -> Vec<Binding> {
    let of_interface = |(interface, settings): (&Interface, &config::Interface)| {
        let binding = |queue| Binding {
            port: interface.port,
            interface: interface.name.clone(),
            queue,
            mtu: interface.mtu,
            mode: settings.mode,
            attached: interface.attached(),
        };
        queues_of(id, count, interface.queues).map(binding).collect::<Vec<_>>()
    };
    interfaces.iter().zip(&config.interfaces).flat_map(of_interface).collect()
}

fn when_idle(idle: config::Idle) -> WhenIdle {
    match idle {
        config::Idle::Sleep => WhenIdle::Sleep,
        config::Idle::Spin => WhenIdle::Spin,
    }
}

fn settings(worker: &config::Worker, interfaces: &[Interface]) -> xsk::Settings {
    let busy_poll = worker.busy_poll.map(|time| {
        let microseconds = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        BusyPoll { microseconds, ..BusyPoll::default() }
    });
    // The fill ring has twice the entries of the RX ring: it holds as many frames as the config says.
    let ring = worker.frames / 2;
    let frame_size = worker.frame_size.or_else(|| wanted_frame_size(interfaces));
    xsk::Settings { frame_size, rx_ring: ring, tx_ring: ring, busy_poll, ..xsk::Settings::default() }
}

/// What a driver asks for; workers share their frames among interfaces.
pub(super) fn wanted_frame_size(interfaces: &[Interface]) -> Option<u32> {
    interfaces.iter().filter_map(|interface| interface.frame_size).max()
}

/// A core for each worker: those of the config in turn, else those that the process may use.
fn cpus(settings: &config::Worker, count: usize) -> Result<Vec<usize>, StartError> {
    let allowed = kernel::allowed_cpus().map_err(StartError::Cpus)?;
    let chosen = if settings.cpus.is_empty() { &allowed } else { &settings.cpus };
    if let Some(&cpu) = chosen.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(StartError::NoSuchCpu { cpu, allowed });
    }
    Ok(chosen.iter().copied().cycle().take(count).collect())
}

impl From<worker::StartError<OpenError>> for StartError {
    fn from(error: worker::StartError<OpenError>) -> Self {
        Self::Worker(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unequal_queues_are_told_with_their_numbers() {
        assert_eq!(unequal(&[("front", 4), ("back", 4)]), None);
        assert_eq!(unequal(&[("front", 4)]), None);
        let told = unequal(&[("front", 8), ("back", 2)]).unwrap();
        assert!(told.starts_with("2 workers") && told.contains("(front has 8, back has 2)"), "{told}");
    }

    #[test]
    fn every_queue_has_one_worker_and_every_worker_a_queue_of_each_interface() {
        for (queues, count) in [(1, 1), (4, 4), (5, 2), (7, 3)] {
            let dealt: Vec<Vec<u32>> = (0..count).map(|id| queues_of(id, count, queues).collect()).collect();
            assert!(dealt.iter().all(|queues| !queues.is_empty()), "{dealt:?}");
            let mut all: Vec<u32> = dealt.concat();
            all.sort_unstable();
            assert_eq!(all, (0..queues).collect::<Vec<_>>());
        }
    }
}
