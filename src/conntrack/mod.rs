//! Connection tracking: tuples in two directions, entries, the lock-free table, states, timeouts, expiry.

mod timeout;
mod tcp_state;
mod view;

pub use tcp_state::TcpState;
pub use timeout::{MAX_TIMEOUT, Millis, Timeouts};
pub use view::{ConnectionView, TupleView};

use std::net::SocketAddr;

/// All tracked connections, of both families; shared by every thread.
#[derive(Debug)]
pub struct Conntrack {}

/// What one step of the expiry did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries looked at.
    pub scanned: usize,
    /// Connections removed.
    pub expired: usize,
    /// The step reached the end of the table; the next one begins anew.
    pub wrapped: bool,
}

impl Conntrack {
    /// Room for `max_connections` of each family; memory is touched only as connections come.
    pub fn new(_max_connections: usize) -> Self {
        Self {}
    }

    /// Connections that are confirmed now.
    pub fn count(&self) -> usize {
        0
    }

    /// Calls `each` with a copy of every confirmed connection, while workers go on.
    pub fn for_each(&self, _timeouts: &Timeouts, _each: &mut dyn FnMut(&ConnectionView)) {}

    /// The connection that a packet of `protocol` from `source` to `destination` belongs to, and whether in reply direction.
    pub fn find(
        &self,
        _protocol: u8,
        _source: SocketAddr,
        _destination: SocketAddr,
        _timeouts: &Timeouts,
    ) -> Option<(ConnectionView, bool)> {
        None
    }

    /// One step of expiry, the control thread's alone: looks at up to `budget` entries, removes those whose time is over,
    /// frees what no worker can see any more, and calls `closed` once for every connection that left.
    pub fn sweep(&self, _now: Millis, _timeouts: &Timeouts, _budget: usize, _closed: &mut dyn FnMut(&ConnectionView)) -> Swept {
        Swept::default()
    }
}
