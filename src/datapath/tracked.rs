//! The address families as the datapath needs them.

use crate::conntrack::{Conntrack, Hoard, Table, Tables, V4, V6, Visit};
use crate::nat::Manip;

/// A family as the datapath needs it.
pub(super) trait Tracked: Manip {
    fn table(conntrack: &Conntrack) -> &Table<Self>;
    fn hoard<'a>(visit: &'a mut Visit<'_>) -> &'a mut Hoard;
}

impl Tracked for V4 {
    #[inline(always)]
    fn table(conntrack: &Conntrack) -> &Table<V4> {
        conntrack.table()
    }
    fn hoard<'a>(visit: &'a mut Visit<'_>) -> &'a mut Hoard {
        visit.hoard_v4
    }
}

impl Tracked for V6 {
    #[inline(always)]
    fn table(conntrack: &Conntrack) -> &Table<V6> {
        conntrack.table()
    }
    fn hoard<'a>(visit: &'a mut Visit<'_>) -> &'a mut Hoard {
        visit.hoard_v6
    }
}
