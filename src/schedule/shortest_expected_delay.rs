//! The member that would have the fewest connections for its weight with this one (IPVS: sed). Unlike [`super::weighted_least_conn`], it
//! tells idle members of different weights apart.

use super::least_loaded::share;
use super::member::Standing;

pub(super) fn rank(_index: usize, standing: Standing) -> u64 {
    share(standing.connections, 1, standing.weight)
}
