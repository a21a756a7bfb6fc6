//! SNAT addresses that the config has no more but connections still use: they stay steered and on the interface until the last one ended.

use crate::datapath::Datapath;
use crate::worker::Monotonic;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use tracing::warn;

/// Nanoseconds between two walks over the connection table.
const WALK_EVERY: u64 = 5_000_000_000;
/// Nanoseconds between two looks at whether the walk has ended.
const LOOK_EVERY: u64 = 100_000_000;
const NEVER: Monotonic = Monotonic(u64::MAX);

/// The addresses, and when to look whether they are used.
#[derive(Debug)]
pub(super) struct Retired {
    addresses: BTreeSet<IpAddr>,
    next: Monotonic,
    /// A walk goes on, on a thread of its own; it tells which addresses connections use.
    walk: Option<Receiver<BTreeSet<IpAddr>>>,
}

impl Retired {
    /// None.
    pub(super) fn new() -> Self {
        Self { addresses: BTreeSet::new(), next: NEVER, walk: None }
    }

    /// Those that may still be used.
    pub(super) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// Now it is these; looked at soon, but not before connections that are being opened with them are in the table.
    pub(super) fn replace(&mut self, addresses: BTreeSet<IpAddr>, now: Monotonic) {
        self.next = if addresses.is_empty() { NEVER } else { Monotonic(now.0 + WALK_EVERY) };
        self.addresses = addresses;
        self.walk = None;
    }

    /// When to look.
    pub(super) fn next(&self) -> Monotonic {
        self.next
    }

    /// Begins a walk or takes its result. The addresses that no connection uses any more, if there are some: they are forgotten here.
    pub(super) fn run(&mut self, now: Monotonic, datapath: &Arc<Datapath>) -> Option<BTreeSet<IpAddr>> {
        if now < self.next {
            return None;
        }
        let Some(walk) = &self.walk else {
            self.walk = begin(Arc::clone(datapath));
            self.next = Monotonic(now.0 + LOOK_EVERY);
            return None;
        };
        match walk.try_recv() {
            Ok(used) => self.finish(&used, now),
            Err(TryRecvError::Empty) => {
                self.next = Monotonic(now.0 + LOOK_EVERY);
                None
            }
            Err(TryRecvError::Disconnected) => {
                self.walk = None;
                self.next = Monotonic(now.0 + WALK_EVERY);
                None
            }
        }
    }

    fn finish(&mut self, used: &BTreeSet<IpAddr>, now: Monotonic) -> Option<BTreeSet<IpAddr>> {
        self.walk = None;
        let unused = &self.addresses - used;
        self.addresses = &self.addresses & used;
        self.next = if self.addresses.is_empty() { NEVER } else { Monotonic(now.0 + WALK_EVERY) };
        (!unused.is_empty()).then_some(unused)
    }
}

fn begin(datapath: Arc<Datapath>) -> Option<Receiver<BTreeSet<IpAddr>>> {
    let (tell, told) = channel();
    let walk = move || {
        let mut used = BTreeSet::new();
        let timeouts = datapath.snapshot.load().timeouts.clone();
        datapath.conntrack.for_each(&timeouts, &mut |connection| {
            used.insert(connection.inside().destination.ip());
        });
        // Nobody waits any more if the daemon stopped or another reload came.
        let _ = tell.send(used);
    };
    let started = std::thread::Builder::new().name("weir-retired".into()).spawn(walk);
    if let Err(error) = &started {
        warn!("no thread to look which SNAT addresses are used: {error}");
    }
    started.is_ok().then_some(told)
}
