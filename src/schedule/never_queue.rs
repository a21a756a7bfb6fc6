//! A member that has no connection, the heaviest such one; if all have some, the shortest expected delay (IPVS: nq).

use super::least_loaded::share;
use super::member::Standing;

/// Above every key of an idle member.
const BUSY: u64 = 1 << 33;

pub(super) fn rank(_index: usize, standing: Standing) -> u64 {
    match standing.connections {
        0 => share(0, 1, standing.weight),
        busy => BUSY + share(busy, 1, standing.weight).min(u64::MAX - 2 * BUSY),
    }
}
