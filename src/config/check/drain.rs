//! `drain` of a `[[pool]]`

use super::problems::Problems;
use crate::config::raw;
use crate::config::value::{duration, one_of};
use crate::service::{AtDeadline, Datagrams, Drain};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Below it the walk over a large table would take longer.
const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(7 * 24 * 3600);

pub(super) fn check_drain(raw: &raw::Drain, problems: &mut Problems) -> Drain {
    let mut deadline = |key, value: &raw::Maybe<String>| {
        problems.value(key, value.as_ref(), |text| duration(text, DEADLINES)).map(|deadline| deadline.value)
    };
    let planned = deadline("pool.drain.deadline", &raw.deadline);
    let failed = deadline("pool.drain.failed_deadline", &raw.failed_deadline);
    Drain {
        deadline: planned,
        failed_deadline: failed.or(planned),
        tcp: problems.value_or("pool.drain.tcp", raw.tcp.as_ref(), AtDeadline::default(), |text| {
            one_of("end of TCP connections", text, AtDeadline::NAMES)
        }),
        udp: problems.value_or("pool.drain.udp", raw.udp.as_ref(), Datagrams::default(), |text| {
            one_of("end of UDP connections", text, Datagrams::NAMES)
        }),
    }
}
