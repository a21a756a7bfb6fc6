//! The control thread's expiry, for measurements: as the daemon's, with its cost counted.

use crate::control::Expiry;
use crate::datapath::Datapath;
use crate::worker::Monotonic;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a control thread has done so far. Relaxed, all of it: numbers to be looked at.
#[derive(Default)]
pub(super) struct Spent {
    cpu_nanos: AtomicU64,
    /// Connections that ended.
    pub expired: AtomicU64,
}

impl Spent {
    /// Of its thread.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.load(Relaxed))
    }
}

/// Sweeps as the daemon's control thread does, until it is told to stop.
pub(super) fn control(datapath: &Datapath, stop: &AtomicBool, spent: &Spent) {
    let mut expiry = Expiry::new(Monotonic::now());
    let first = cpu_time();
    // Relaxed: the flag is the whole message.
    while !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_nanos(expiry.next().nanos_since(Monotonic::now()).min(100_000_000)));
        let sweep = |budget, now: Monotonic| {
            let snapshot = datapath.snapshot.load();
            let swept = datapath
                .conntrack
                .sweep(now.millis(), &snapshot.timeouts, budget, &mut |connection| snapshot.connection_closed(connection));
            spent.expired.fetch_add(swept.ended, Relaxed);
            swept
        };
        expiry.run(Monotonic::now, sweep, || datapath.conntrack.free_swept());
        let used = u64::try_from((cpu_time() - first).as_nanos()).unwrap_or(u64::MAX);
        spent.cpu_nanos.store(used, Relaxed);
    }
}

/// Of the calling thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
