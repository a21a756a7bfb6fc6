//! Who may open connections to a service.
//!
//! Both lists are made, when they are read, into ranges without overlap, each with what the longest prefix that holds it says: where it
//! begins is enough. They stand in order, and the upper bits of an address, up to 16 of them, tell between which ones its range is, so that a
//! search touches a few neighbouring cache lines. A trie (the `prefix-trie` crate) took 51 ns for one of 100,000 IPv4 prefixes and 108 ns of
//! IPv6 ones, a line a step.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// Lists of sources: of all prefixes that a source is in, the longest decides.
#[derive(Default)]
pub struct Access {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// As they were given.
    prefixes: usize,
}

impl Access {
    /// Lists without a prefix in common.
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
        // Somebody is allowed by name, so that others are not.
        let otherwise = allow.is_empty();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (list, allowed) in [(allow, true), (deny, false)] {
            for prefix in list {
                match prefix {
                    IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits(), allowed)),
                    IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits(), allowed)),
                }
            }
        }
        Self { v4: Ranges::new(v4, otherwise), v6: Ranges::new(v6, otherwise), prefixes: allow.len() + deny.len() }
    }

    /// Whether this source may open a connection: as its longest prefix says; without one, if nobody is allowed by name.
    #[inline]
    pub fn allows(&self, source: IpAddr) -> bool {
        // Most services are for everybody.
        self.prefixes == 0 || self.decide(source)
    }

    #[inline(never)]
    fn decide(&self, source: IpAddr) -> bool {
        match source {
            IpAddr::V4(source) => self.v4.find(source.to_bits()),
            IpAddr::V6(source) => self.v6.find(source.to_bits()),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({} prefixes)", self.prefixes)
    }
}

/// An address as a number.
trait Bits: Copy + Ord + Default {
    /// The upper `count` bits, 1 to 16.
    fn upper(self, count: u32) -> usize;
    /// The next higher number, if there is one.
    fn next(self) -> Option<Self>;
}

impl Bits for u32 {
    fn upper(self, count: u32) -> usize {
        (self >> (Self::BITS - count)) as usize
    }
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Bits for u128 {
    fn upper(self, count: u32) -> usize {
        (self >> (Self::BITS - count)) as usize
    }
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Most bits that lead into the ranges.
const MOST_BITS: u32 = 16;

/// All addresses, cut into ranges.
#[derive(Default)]
struct Ranges<T> {
    /// Where each range begins, in order, but for the first one, which begins at 0.
    begins: Vec<T>,
    /// By range: whether it is allowed.
    allowed: Vec<bool>,
    /// Upper bits of an address that lead into `below`.
    bits: u32,
    /// By those bits, and one more: how many of `begins` have lower ones.
    below: Vec<u32>,
}

impl<T: Bits> Ranges<T> {
    /// From prefixes as first and last address; `otherwise` holds where there is none.
    fn new(mut prefixes: Vec<(T, T, bool)>, otherwise: bool) -> Self {
        // Whoever holds others comes before them.
        prefixes.sort_unstable_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
        let mut ranges = Self { begins: Vec::new(), allowed: vec![otherwise], bits: 1, below: Vec::new() };
        // Those that hold the place where the walk is, the innermost last.
        let mut open: Vec<(T, bool)> = Vec::new();
        for (first, last, allowed) in prefixes {
            ranges.close(&mut open, otherwise, |last| last < first);
            ranges.turn(Some(first), allowed);
            open.push((last, allowed));
        }
        ranges.close(&mut open, otherwise, |_| true);
        ranges.index();
        ranges
    }

    /// Behind those that end here, what is around them holds again.
    fn close(&mut self, open: &mut Vec<(T, bool)>, otherwise: bool, ends: impl Fn(T) -> bool) {
        while let Some((last, _)) = open.pop_if(|(last, _)| ends(*last)) {
            self.turn(last.next(), open.last().map_or(otherwise, |(_, allowed)| *allowed));
        }
    }

    /// About as many places as ranges, so that short lists cost little.
    fn index(&mut self) {
        self.bits = self.begins.len().max(2).ilog2().min(MOST_BITS);
        self.below = vec![0; (1 << self.bits) + 1];
        for begin in &self.begins {
            self.below[begin.upper(self.bits) + 1] += 1;
        }
        for at in 1..self.below.len() {
            self.below[at] += self.below[at - 1];
        }
    }

    /// From `begin` on this holds. Ranges that say the same as the one before them are not kept.
    fn turn(&mut self, begin: Option<T>, allowed: bool) {
        let Some(begin) = begin else { return };
        match self.begins.last() {
            // What was said for no address at all is forgotten; so is a begin behind which the same holds as before it.
            Some(last) if *last == begin => {
                let at = self.allowed.len() - 1;
                self.allowed[at] = allowed;
                if self.allowed[at - 1] == allowed {
                    self.begins.pop();
                    self.allowed.pop();
                }
            }
            None if begin == T::default() => self.allowed[0] = allowed,
            _ if self.allowed.last() == Some(&allowed) => {}
            _ => {
                self.begins.push(begin);
                self.allowed.push(allowed);
            }
        }
    }

    fn find(&self, address: T) -> bool {
        let upper = address.upper(self.bits);
        let (from, to) = (self.below[upper] as usize, self.below[upper + 1] as usize);
        self.allowed[from + self.begins[from..to].partition_point(|begin| *begin <= address)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn access(allow: &[&str], deny: &[&str]) -> impl Fn(&str) -> bool {
        let parse = |list: &[&str]| list.iter().map(|prefix| prefix.parse().unwrap()).collect::<Vec<IpNet>>();
        let access = Access::new(&parse(allow), &parse(deny));
        move |source| access.allows(source.parse().unwrap())
    }

    #[test]
    fn without_lists_everybody_may() {
        let may = access(&[], &[]);
        assert!(may("192.0.2.1") && may("2001:db8::1"));
        assert!(Access::default().allows("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn who_is_denied_may_not_and_others_may() {
        let may = access(&[], &["192.0.2.0/24", "2001:db8::/32"]);
        assert!(!may("192.0.2.1") && !may("2001:db8::1"));
        assert!(may("192.0.3.1") && may("2001:db9::1"));
    }

    #[test]
    fn who_is_allowed_may_and_others_may_not() {
        let may = access(&["192.0.2.0/24"], &[]);
        assert!(may("192.0.2.255") && !may("192.0.3.0"));
        // Nobody of the other family was allowed.
        assert!(!may("2001:db8::1"));
    }

    #[test]
    fn the_longest_prefix_decides() {
        let may = access(&["10.0.0.0/8", "10.1.2.3/32"], &["10.1.0.0/16"]);
        assert!(may("10.2.0.1") && !may("10.1.2.4") && may("10.1.2.3") && !may("11.0.0.1"));
        let may = access(&["10.1.0.0/16"], &["0.0.0.0/0"]);
        assert!(may("10.1.2.3") && !may("10.2.0.1"));
    }

    #[test]
    fn the_first_and_the_last_address_are_in_their_ranges() {
        let may = access(&["0.0.0.0/0", "::/0"], &["255.255.255.0/24", "0.0.0.0/32", "ff00::/8", "::/128"]);
        assert!(!may("255.255.255.255") && may("255.255.254.255") && !may("0.0.0.0") && may("0.0.0.1"));
        assert!(!may("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") && may("feff::") && !may("::") && may("::1"));
    }

    /// A hundred thousand prefixes against a walk over them all; sources are random, and addresses at the edges of prefixes.
    fn agrees(prefix: impl Fn(&mut dyn FnMut() -> u64) -> IpNet, address: impl Fn(&mut dyn FnMut() -> u64) -> IpAddr) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        };
        let mut prefixes: Vec<(IpNet, bool)> = (0..100_000).map(|_| (prefix(&mut next), next() >> 63 == 0)).collect();
        prefixes.sort_unstable();
        prefixes.dedup_by_key(|(prefix, _)| *prefix);
        let list =
            |wanted| prefixes.iter().filter(|(_, allowed)| *allowed == wanted).map(|(prefix, _)| *prefix).collect::<Vec<_>>();
        let access = Access::new(&list(true), &list(false));
        let mut sources: Vec<IpAddr> = (0..150).map(|_| address(&mut next)).collect();
        for _ in 0..150 {
            let (prefix, _) = prefixes[next() as usize % prefixes.len()];
            sources.extend([prefix.network(), prefix.broadcast()]);
        }
        let mut in_one = 0;
        for source in sources {
            let longest =
                prefixes.iter().filter(|(prefix, _)| prefix.contains(&source)).max_by_key(|(prefix, _)| prefix.prefix_len());
            assert_eq!(access.allows(source), longest.is_some_and(|(_, allowed)| *allowed), "{source}");
            in_one += usize::from(longest.is_some());
        }
        assert!(in_one >= 300, "{in_one}");
    }

    #[test]
    fn ipv4_prefixes_decide_as_a_walk_over_them_all() {
        let address = |next: &mut dyn FnMut() -> u64| IpAddr::V4(Ipv4Addr::from_bits((next() >> 32) as u32));
        agrees(|next| IpNet::new(address(next), 8 + (next() >> 33) as u8 % 25).unwrap().trunc(), address);
    }

    #[test]
    fn ipv6_prefixes_decide_as_a_walk_over_them_all() {
        // Few upper bits, as those that are given out: prefixes lie within each other.
        let address = |next: &mut dyn FnMut() -> u64| {
            let upper = 0x2a00_0000_0000_0000 | (next() >> 8 & 0x7_0003_000f_ffff);
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(next())))
        };
        agrees(|next| IpNet::new(address(next), 10 + (next() >> 33) as u8 % 119).unwrap().trunc(), address);
    }
}
