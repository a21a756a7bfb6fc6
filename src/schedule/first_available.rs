//! The first member in the order of the config that has fewer connections than it overflows at (HAProxy: `first`), so that as few
//! members as possible are busy and the last ones can be switched off. When all have as many, connections are shared by weight, as
//! [`super::shortest_expected_delay`] does: nobody is turned away.

use super::least_loaded::share;
use super::member::Standing;

/// Above every index.
const FULL: u64 = 1 << 32;

pub(super) fn rank(index: usize, standing: Standing) -> u64 {
    if standing.connections < standing.overflow_at {
        index as u64
    } else {
        FULL + share(standing.connections, 1, standing.weight).min(u64::MAX - 2 * FULL)
    }
}
