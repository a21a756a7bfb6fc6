//! When a backend that takes no new connections must be empty: the clock of a drain, pure.

use crate::config::brief;
use crate::service::{AtDeadline, Datagrams, Drain};

/// What becomes of the connections of a backend that is removed or drained, for sentences that begin with whose they are.
pub(super) fn sentence(drain: &Drain) -> String {
    let moved = if drain.udp == Datagrams::Rehash { ", but for UDP, which moves at once" } else { "" };
    match (drain.deadline, drain.tcp) {
        (None, _) => format!("its connections go on until they end{moved}"),
        (Some(deadline), AtDeadline::Reset) => {
            format!("its connections have {} to end, then they are reset{moved}", brief(deadline))
        }
        (Some(deadline), AtDeadline::Wait) => {
            format!("its connections have {} to end, TCP as long as it takes{moved}", brief(deadline))
        }
    }
}
