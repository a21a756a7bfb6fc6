//! The loop: waits for whatever happens next, and lets the daemon do what that asks for.

use super::complaints::Complaints;
use super::daemon::Daemon;
use super::notify::notify;
use super::reload::Force;
use super::watch::Watch;
use super::{StartError, start};
use crate::config::Config;
use crate::health::Checker;
use crate::worker::Monotonic;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

const SIGNALS: Token = Token(0);
const KERNEL: Token = Token(1);
const ADMIN: Token = Token(2);
const WAKE: Token = Token(3);
const FILE: Token = Token(4);
/// One for each backend that is probed.
const PROBES: Range<usize> = 16..16 + (1 << 16);

/// Runs the daemon with the config at `path` until a signal or an error ends it; then everything is as it was before.
///
/// # Errors
/// When it cannot start, or a worker died.
pub fn run(path: &Path) -> Result<(), StartError> {
    let watch = Watch::new(path).map_err(StartError::Loop)?;
    let config = Config::load(path)?;
    let mut poll = Poll::new().map_err(StartError::Loop)?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(StartError::Loop)?);
    // Before anything is touched: a signal during the start is answered after it, in order.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(StartError::Loop)?;
    let checker = Checker::new(poll.registry().try_clone().map_err(StartError::Loop)?, PROBES);
    let (mut daemon, listener) = start::start(path, config, waker, checker, watch)?;
    let mut listener = mio::net::UnixListener::from_std(listener);
    register(&poll, &mut signals, &daemon, &mut listener).map_err(StartError::Loop)?;

    info!("weir serves {}", path.display());
    notify(&[NotifyState::Ready]);
    let ended = serve(&mut daemon, &mut poll, &mut signals, &listener);
    notify(&[NotifyState::Stopping]);
    drop(daemon);
    ended
}

fn register(poll: &Poll, signals: &mut Signals, daemon: &Daemon, listener: &mut mio::net::UnixListener) -> io::Result<()> {
    poll.registry().register(signals, SIGNALS, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&daemon.monitor.as_raw_fd()), KERNEL, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&daemon.watch.fd()), FILE, Interest::READABLE)?;
    poll.registry().register(listener, ADMIN, Interest::READABLE)
}

fn serve(
    daemon: &mut Daemon,
    poll: &mut Poll,
    signals: &mut Signals,
    listener: &mio::net::UnixListener,
) -> Result<(), StartError> {
    let mut events = Events::with_capacity(64);
    let mut complaints = Complaints::default();
    loop {
        let timeout = Duration::from_nanos(daemon.next_wake().nanos_since(Monotonic::now()));
        match poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(StartError::Loop)?,
        }
        for event in &events {
            match event.token() {
                SIGNALS if !heed(signals, daemon) => return Ok(()),
                KERNEL => daemon.follow_kernel()?,
                FILE => daemon.watch.look(Monotonic::now()),
                ADMIN => accept(listener, daemon, &mut complaints),
                token if PROBES.contains(&token.0) => {
                    let change = daemon.checker.ready(event);
                    daemon.heed_health(change);
                }
                _ => {}
            }
        }
        // A wake may be for any of these, and they cost nothing when there is nothing.
        daemon.resolve_asked();
        daemon.answer_questions();
        daemon.tell_troubles();
        if let Some(error) = daemon.dead_worker() {
            return Err(error);
        }
        daemon.tick();
    }
}

/// `false`: it is time to stop.
fn heed(signals: &mut Signals, daemon: &mut Daemon) -> bool {
    for signal in signals.pending() {
        match signal {
            SIGHUP => {
                let now = i128::from(Monotonic::now().0 / 1000);
                notify(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now)]);
                // What became of it is in the log.
                let _ = daemon.reload(Force::No);
                notify(&[NotifyState::Ready]);
            }
            _ => {
                info!("stopping");
                return false;
            }
        }
    }
    true
}

fn accept(listener: &mio::net::UnixListener, daemon: &Daemon, complaints: &mut Complaints) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = daemon.server.serve(stream.into()) {
                    complain(complaints, &error);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                complain(complaints, &error);
                return;
            }
        }
    }
}

fn complain(complaints: &mut Complaints, error: &io::Error) {
    match complaints.due(Monotonic::now()) {
        None => {}
        Some(0) => warn!("admin socket: {error}"),
        Some(more) => warn!("admin socket: {error}; {more} such messages before this one were left out"),
    }
}
