//! What a hook says about a packet.

use super::{DropReason, PortId};
use std::net::IpAddr;

/// As netfilter's verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Accept,
    /// End it here, for this reason.
    Drop(DropReason),
    /// Its sender is told that it is refused, by a RST or an ICMP error, where that may be; else it ends here, for this reason.
    Reject(DropReason),
    /// The frame is an answer now: it goes out, as it is, by the port it came in by.
    Stolen,
    /// It waits for this neighbour of this port, then begins anew.
    Queue(PortId, IpAddr),
    /// It waits for the first fragment of its datagram, then begins anew.
    Gather,
    /// It was changed: begin anew, from the parser on.
    Repeat,
}

/// The way of a packet up to where a verdict other than [`Verdict::Accept`] ends it.
pub(super) type Way<T> = Result<T, Verdict>;

impl From<DropReason> for Verdict {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}
