//! A worker as a thread: started on its core, stopped, noticed when it ends.

use super::{Idle, Monotonic, Next, Pipeline, Resolver, Rounds, Shared, WhenIdle};
use crate::io::Ports;
use crate::kernel::pin_thread;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use thiserror::Error;

/// What a worker is given besides its ports and its pipeline.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// From 0; the thread is called `weir-<id>`.
    pub id: usize,
    /// The core to stay on; `None` leaves that to the kernel.
    pub core: Option<usize>,
    /// What it does while nothing comes in.
    pub when_idle: WhenIdle,
    /// Where it asks for neighbours, and what wakes the control thread when it ends.
    pub resolver: Arc<Resolver>,
    /// Where it counts.
    pub shared: Arc<Shared>,
}

/// Why a worker did not start.
#[derive(Debug, Error)]
pub enum StartError<E> {
    /// No thread.
    #[error("worker {0}: cannot start its thread: {1}")]
    Thread(usize, #[source] io::Error),
    /// No core.
    #[error("worker {0}: cannot stay on core {1}: {2}")]
    Core(usize, usize, #[source] io::Error),
    /// No ports.
    #[error(transparent)]
    Ports(E),
    /// It panicked while it opened its ports.
    #[error("worker {0} panicked while it opened its ports")]
    Panicked(usize),
}

/// A running worker. Dropping it stops it and waits for it.
#[derive(Debug)]
pub struct Worker {
    id: usize,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread, which pins itself and then opens its ports, so that their memory is local to the core. Returns when
    /// they are open, with what `open` tells about them, or with why they are not.
    pub fn start<P, D, I, E>(
        settings: WorkerSettings,
        pipeline: D,
        open: impl FnOnce() -> Result<(P, I), E> + Send + 'static,
    ) -> Result<(Self, I), StartError<E>>
    where
        P: Ports + 'static,
        D: Pipeline + Send + 'static,
        I: Send + 'static,
        E: Send + 'static,
    {
        let id = settings.id;
        let shared = Arc::clone(&settings.shared);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let (report, opened) = mpsc::sync_channel(1);
        let body = move || {
            let _noticed = WakeAtEnd(Arc::clone(&settings.resolver));
            if let Err(error) = pin(settings.core) {
                let _ = report.send(Err(StartError::Core(settings.id, settings.core.unwrap_or_default(), error)));
                return;
            }
            match open() {
                Ok((ports, told)) => {
                    // The starter waits for this; if it is gone there is nobody to work for.
                    if report.send(Ok(told)).is_ok() {
                        let rounds = Rounds::new(ports, pipeline, settings.resolver, settings.shared);
                        run(rounds, Idle::new(settings.when_idle), &stopping);
                    }
                }
                Err(error) => drop(report.send(Err(StartError::Ports(error)))),
            }
        };
        let thread = std::thread::Builder::new().name(format!("weir-{id}")).spawn(body);
        let thread = Some(thread.map_err(|error| StartError::Thread(id, error))?);
        let worker = Self { id, shared, stop, thread };
        let told = opened.recv().unwrap_or(Err(StartError::Panicked(id)))?;
        Ok((worker, told))
    }

    /// From 0.
    pub fn id(&self) -> usize {
        self.id
    }

    /// What may be seen of it.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether it runs no more though nobody stopped it: it panicked. The resolver's wake call came when that happened.
    pub fn has_died(&self) -> bool {
        !self.stop.load(Relaxed) && self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Tells it to stop, without waiting. `Relaxed`: the flag is the whole message, the join synchronises.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Stops it and waits, at most a sleep of 100 ms. `Err` with the message if it panicked.
    pub fn join(mut self) -> Result<(), String> {
        self.stop();
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => Err(message(panic.as_ref())),
            _ => Ok(()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the panic hook already; there is no one to return it to.
            let _ = thread.join();
        }
    }
}

/// Wakes the control thread when the worker ends, however it ends.
struct WakeAtEnd(Arc<Resolver>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        self.0.wake();
    }
}

fn pin(core: Option<usize>) -> io::Result<()> {
    core.map_or(Ok(()), pin_thread)
}

fn run<P: Ports, D: Pipeline>(mut rounds: Rounds<P, D>, mut idle: Idle, stop: &AtomicBool) {
    let mut ended = None;
    while !stop.load(Relaxed) {
        // The end of a burst is the beginning of what follows it at once: a busy worker reads the clock once a burst.
        let round = rounds.round_from(ended.unwrap_or_else(Monotonic::now), &Monotonic::now);
        ended = round.ended;
        match idle.after(round.frames, rounds.unfinished()) {
            Next::Again => std::hint::spin_loop(),
            Next::Sleep(timeout) => rounds.sleep(timeout),
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
