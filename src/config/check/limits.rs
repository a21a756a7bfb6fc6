//! `limits` of a service, and `[sources]`.

use super::problems::Problems;
use crate::config::raw;
use crate::config::value::{one_of, whole};
use crate::config::{Place, Problem};
use crate::conntrack::{Rate, SourceLimits, SourceSettings};
use crate::service::{Limits, OverLimit};
use serde_spanned::Spanned;
use std::ops::RangeInclusive;

/// As many connections as a table can have.
const CONNECTIONS: RangeInclusive<i64> = 1..=100_000_000;
const RATES: RangeInclusive<i64> = 1..=Rate::MOST as i64;
/// Sources that are known at a time.
const ENTRIES: RangeInclusive<i64> = 1024..=16_777_216;

pub(super) fn check_sources(raw: &raw::Sources, problems: &mut Problems) -> SourceSettings {
    let default = SourceSettings::default();
    SourceSettings {
        prefix_v4: problems.value_or("sources.prefix_v4", raw.prefix_v4.as_ref(), default.prefix_v4, |bits| whole(*bits, 1..=32)),
        prefix_v6: problems
            .value_or("sources.prefix_v6", raw.prefix_v6.as_ref(), default.prefix_v6, |bits| whole(*bits, 1..=128)),
        entries: problems.value_or("sources.limited", raw.limited.as_ref(), default.entries, |number| whole(*number, ENTRIES)),
        templates: problems
            .value_or("sources.persistent", raw.persistent.as_ref(), default.templates, |number| whole(*number, ENTRIES)),
    }
}

pub(super) fn check_limits(service: &raw::Service, problems: &mut Problems) -> Limits {
    let Some(table) = &service.limits else { return Limits::default() };
    let raw = table.get_ref();
    let mut connections = |key, given: &raw::Maybe<i64>| {
        problems.value(key, given.as_ref(), |number| whole(*number, CONNECTIONS)).map(|number| number.value)
    };
    let (of_service, of_source) = (
        connections("service.limits.connections", &raw.connections),
        connections("service.limits.source_connections", &raw.source_connections),
    );
    let rate = check_rate(["service.limits.rate", "service.limits.burst"], [&raw.rate, &raw.burst], problems);
    let source_rate = check_rate(
        ["service.limits.source_rate", "service.limits.source_burst"],
        [&raw.source_rate, &raw.source_burst],
        problems,
    );
    let over = problems.value("service.limits.over", raw.over.as_ref(), |text| one_of("choice", text, OverLimit::NAMES));
    if let Some(over) = over.as_ref().filter(|over| over.value == OverLimit::Backup && service.backup.is_none()) {
        let allowed = "only with the key `backup`, the name of a [[pool]]";
        let problem = Problem::new("service.limits.over", "the service has no backup pool", allowed);
        problems.add(problem.at(Place::new(over.span.clone(), "")));
    }
    Limits {
        connections: of_service,
        rate,
        source: SourceLimits { connections: of_source, rate: source_rate },
        over: over.map(|over| over.value).unwrap_or_default(),
    }
}

/// A rate, with a second's worth at once unless the burst is given, too.
fn check_rate(keys: [&'static str; 2], [rate, burst]: [&raw::Maybe<i64>; 2], problems: &mut Problems) -> Option<Rate> {
    if let (None, Some(burst)) = (rate, burst) {
        let allowed = format!("only with the key `{}`", keys[0].rsplit('.').next().unwrap_or(keys[0]));
        problems.add(Problem::new(keys[1], "a burst of no rate", allowed).at(Place::new(burst.span(), "not used")));
    }
    let mut value = |key, given: Option<&Spanned<i64>>| problems.value(key, given, |number| whole(*number, RATES));
    // Both are looked at, so that no mistake hides behind another one.
    let (per_second, burst) = (value(keys[0], rate.as_ref()), value(keys[1], burst.as_ref()));
    let per_second = per_second?.value;
    Some(Rate { per_second, burst: burst.map_or(per_second, |burst| burst.value) })
}
