//! Who may open connections to a service.

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;
use std::fmt;
use std::net::IpAddr;

/// Lists of sources: of all prefixes that a source is in, the longest decides.
#[derive(Default)]
pub struct Access {
    /// Whether the prefix is allowed.
    prefixes: JointPrefixMap<IpNet, bool>,
    /// Somebody is allowed by name, so that others are not.
    is_closed: bool,
}

impl Access {
    /// Lists without a prefix in common.
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
        let mut prefixes = JointPrefixMap::new();
        for (list, allowed) in [(allow, true), (deny, false)] {
            for prefix in list {
                prefixes.insert(*prefix, allowed);
            }
        }
        Self { prefixes, is_closed: !allow.is_empty() }
    }

    /// Whether this source may open a connection: as its longest prefix says; without one, if nobody is allowed by name.
    #[inline]
    pub fn allows(&self, source: IpAddr) -> bool {
        // Most services are for everybody.
        self.prefixes.is_empty() || self.decide(source)
    }

    #[inline(never)]
    fn decide(&self, source: IpAddr) -> bool {
        self.prefixes.get_lpm(&IpNet::from(source)).map_or(!self.is_closed, |(_, allowed)| *allowed)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({} prefixes)", self.prefixes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &[&str], deny: &[&str]) -> impl Fn(&str) -> bool {
        let parse = |list: &[&str]| list.iter().map(|prefix| prefix.parse().unwrap()).collect::<Vec<IpNet>>();
        let access = Access::new(&parse(allow), &parse(deny));
        move |source| access.allows(source.parse().unwrap())
    }

    #[test]
    fn without_lists_everybody_may() {
        let may = access(&[], &[]);
        assert!(may("192.0.2.1") && may("2001:db8::1"));
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
    fn a_hundred_thousand_prefixes_decide_as_a_walk_over_them_all() {
        let mut bits = 0x9e37_79b9_u32;
        let mut next = || {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bits
        };
        let mut prefixes: Vec<(IpNet, bool)> = (0..100_000)
            .map(|_| {
                (
                    IpNet::new(std::net::Ipv4Addr::from_bits(next()).into(), 8 + (next() >> 8) as u8 % 25).unwrap().trunc(),
                    next() >> 31 == 0,
                )
            })
            .collect();
        prefixes.sort_unstable();
        prefixes.dedup_by_key(|(prefix, _)| *prefix);
        let list =
            |wanted| prefixes.iter().filter(|(_, allowed)| *allowed == wanted).map(|(prefix, _)| *prefix).collect::<Vec<_>>();
        let access = Access::new(&list(true), &list(false));
        for _ in 0..300 {
            let source = IpAddr::V4(std::net::Ipv4Addr::from_bits(next()));
            let longest =
                prefixes.iter().filter(|(prefix, _)| prefix.contains(&source)).max_by_key(|(prefix, _)| prefix.prefix_len());
            assert_eq!(access.allows(source), longest.is_some_and(|(_, allowed)| *allowed), "{source}");
        }
    }
}
