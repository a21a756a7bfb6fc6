//! `persistence` of a service, and what services of one group must have in common.

use super::problems::{Located, Problems};
use super::{pool, service};
use crate::config::raw;
use crate::config::value::{self, duration, whole};
use crate::config::{Persistence, Place, Problem};
use crate::conntrack::MAX_TIMEOUT;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

/// As long as `ipvsadm --persistent` has it.
const DEFAULT_TIMEOUT: u32 = 300_000;
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn check_persistence(raw: &raw::Persistence, problems: &mut Problems) -> (Persistence, Option<Located<String>>) {
    let range = SHORTEST_TIMEOUT..=Duration::from_millis(u64::from(MAX_TIMEOUT));
    let group = problems.value("service.persistence.group", raw.group.as_ref(), |text| value::name(text));
    let persistence = Persistence {
        timeout: problems.value_or("service.persistence.timeout", raw.timeout.as_ref(), DEFAULT_TIMEOUT, |text| {
            // In this range it fits.
            duration(text, range).map(|timeout| timeout.as_millis() as u32)
        }),
        prefix_v4: problems.value_or("service.persistence.prefix_v4", raw.prefix_v4.as_ref(), 32, |bits| whole(*bits, 1..=32)),
        prefix_v6: problems.value_or("service.persistence.prefix_v6", raw.prefix_v6.as_ref(), 128, |bits| whole(*bits, 1..=128)),
        group: group.as_ref().map(|group| group.value.clone()),
    };
    (persistence, group)
}

/// Services of one group know each other's clients: by the same prefixes, and by backends on the same hosts.
pub(super) fn check_groups(services: &[service::Checked], pools: &[pool::Checked], problems: &mut Problems) {
    for (at, service) in services.iter().enumerate() {
        let Some(group) = &service.group else { continue };
        let is_of_group = |other: &&service::Checked| other.group.as_ref().is_some_and(|other| other.value == group.value);
        let Some(first) = services[..at].iter().find(is_of_group) else { continue };
        let Some(place) = first.group.as_ref().map(|group| group.span.clone()) else { continue };
        let pair = |found: String, allowed: &str| {
            Problem::new("service.persistence.group", found, allowed.to_owned())
                .at(Place::new(group.span.clone(), "here"))
                .at(Place::new(place.clone(), "first here"))
        };
        if prefixes(service) != prefixes(first) {
            problems
                .add(pair(format!("services of the group {:?} have other prefixes", group.value), "the same prefixes for all"));
        }
        let (Some(hosts), Some(known)) = (hosts(service, pools), hosts(first, pools)) else { continue };
        let same_family = hosts.iter().next().map(IpAddr::is_ipv4) == known.iter().next().map(IpAddr::is_ipv4);
        if same_family && hosts.is_disjoint(&known) {
            let found = format!("services of the group {:?} have no backend in common", group.value);
            problems.add(pair(found, "pools with backends on the same hosts, whatever their ports"));
        }
    }
}

fn prefixes(service: &service::Checked) -> Option<(u8, u8)> {
    service.checked.persistence.as_ref().map(|persistence| (persistence.prefix_v4, persistence.prefix_v6))
}

/// Addresses of a service's backends; `None`: its pool was refused.
fn hosts(service: &service::Checked, pools: &[pool::Checked]) -> Option<HashSet<IpAddr>> {
    let wanted = service.pool.as_ref()?;
    let pool = pools.iter().find(|pool| pool.name.as_ref().is_some_and(|name| name.value == wanted.value))?;
    Some(pool.backends.iter().map(|backend| backend.value.address).collect())
}
