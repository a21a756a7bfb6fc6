//! The member with the fewest connections, whatever its weight (IPVS: lc).

use super::member::Standing;

pub(super) fn rank(_index: usize, standing: Standing) -> u64 {
    u64::from(standing.connections)
}
