//! The member with the fewest connections for its weight (IPVS: wlc).

use super::least_loaded::share;
use super::member::Standing;

pub(super) fn rank(_index: usize, standing: Standing) -> u64 {
    share(standing.connections, 0, standing.weight)
}
