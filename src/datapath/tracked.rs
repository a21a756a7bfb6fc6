//! The address families as the datapath needs them.

use crate::conntrack::{Conntrack, Hoard, Table, Tables, V4, V6, Visit};
use crate::nat::Manip;
use crate::packet::{Ip, Plain, parse_plain, parse_plain_v6, tcp};

/// A family as the datapath needs it.
pub(super) trait Tracked: Manip {
    /// What headers call it.
    const IP: Ip;
    /// Where the transport header of a plain packet begins.
    const L4: usize = Plain::l4(Self::IP);
    /// Where a TCP header without options ends.
    const HEAD: usize = Self::L4 + tcp::HEADER;
    /// Where its TTL or hop limit is.
    const TTL: usize = Plain::ttl(Self::IP);

    /// A packet of this family, if it is of the plain shape.
    fn parse_plain(bytes: &[u8]) -> Option<Plain>;
    fn table(conntrack: &Conntrack) -> &Table<Self>;
    fn hoard<'a>(visit: &'a mut Visit<'_>) -> &'a mut Hoard;
}

impl Tracked for V4 {
    const IP: Ip = Ip::V4;

    #[inline(always)]
    fn parse_plain(bytes: &[u8]) -> Option<Plain> {
        parse_plain(bytes)
    }

    #[inline(always)]
    fn table(conntrack: &Conntrack) -> &Table<V4> {
        conntrack.table()
    }
    fn hoard<'a>(visit: &'a mut Visit<'_>) -> &'a mut Hoard {
        visit.hoard_v4
    }
}

impl Tracked for V6 {
    const IP: Ip = Ip::V6;

    #[inline(always)]
    fn parse_plain(bytes: &[u8]) -> Option<Plain> {
        parse_plain_v6(bytes)
    }

    #[inline(always)]
    fn table(conntrack: &Conntrack) -> &Table<V6> {
        conntrack.table()
    }
    fn hoard<'a>(visit: &'a mut Visit<'_>) -> &'a mut Hoard {
        visit.hoard_v6
    }
}
