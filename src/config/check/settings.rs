//! `[worker]`, `[conntrack]`, `[fragments]`, `[admin]`, `[reload]`, `[timeouts]`

use super::problems::{Located, Problems};
use crate::config::raw::{self, Raw};
use crate::config::value::{Complaint, duration, one_of, quoted, refuse, whole};
use crate::config::{Idle, Overrides, Place, Problem, Reload, Worker};
use crate::conntrack::l4proto::{self, Verify};
use crate::conntrack::{FragmentLimits, MAX_TIMEOUT, Spared, Timeouts, belongs_to};
use crate::service::Protocol;
use serde_spanned::Spanned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The kernel's limit on a CPU mask of fixed size (CPU_SETSIZE).
const MOST_CPUS: i64 = 1024;
/// What `busy_poll = true` means, in microseconds.
const BUSY_POLL_MICROSECONDS: u64 = 50;
const MOST_BUSY_POLL: u64 = 10_000;
/// Connections of one family in the table.
const CONNECTIONS: std::ops::RangeInclusive<i64> = 1_000..=100_000_000;
const DEFAULT_CONNECTIONS: usize = 1_000_000;
/// How long a datagram may take to arrive whole.
const FRAGMENT_TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
/// Datagrams that are remembered at a time.
const DATAGRAMS: std::ops::RangeInclusive<i64> = 64..=65_536;
/// Fragments of one datagram: at most one for each 8 bytes of 64 KiB.
const FRAGMENTS: std::ops::RangeInclusive<i64> = 2..=8192;
/// Fragments that wait on one worker.
const HELD: std::ops::RangeInclusive<i64> = 0..=65_536;
const DEFAULT_SOCKET: &str = "/run/weir/weir.sock";
/// sun_path of unix(7) has 108 bytes, the last is 0.
const MOST_SOCKET_BYTES: usize = 107;

pub(super) fn check_worker(raw: &raw::Worker, problems: &mut Problems) -> Worker {
    let default = Worker::default();
    let cpus: Vec<Located<usize>> = (raw.cpus.iter().flatten())
        .filter_map(|cpu| problems.value("worker.cpus", Some(cpu), |cpu| whole(*cpu, 0..=MOST_CPUS - 1)))
        .collect();
    problems.unique("worker.cpus", cpus.iter(), |cpu| format!("CPU {cpu} is named twice"));
    Worker {
        cpus: cpus.into_iter().map(|cpu| cpu.value).collect(),
        idle: problems
            .value_or("worker.idle", raw.idle.as_ref(), default.idle, |idle| one_of("idle strategy", idle, Idle::NAMES)),
        busy_poll: problems.value_or("worker.busy_poll", raw.busy_poll.as_ref(), default.busy_poll, busy_poll),
        frames: problems.value_or("worker.frames", raw.frames.as_ref(), default.frames, |frames| frame_count(*frames)),
        frame_size: problems.value_or("worker.frame_size", raw.frame_size.as_ref(), default.frame_size, |size| match size {
            2048 => Ok(Some(2048)),
            4096 => Ok(Some(4096)),
            _ => refuse(format!("{size} is not a frame size"), "2048 or 4096"),
        }),
    }
}

fn busy_poll(value: &toml::Value) -> Result<Option<Duration>, Complaint> {
    let microseconds = match value {
        toml::Value::Boolean(false) => return Ok(None),
        toml::Value::Boolean(true) => Some(BUSY_POLL_MICROSECONDS),
        toml::Value::Integer(number) => u64::try_from(*number).ok().filter(|number| (1..=MOST_BUSY_POLL).contains(number)),
        _ => None,
    };
    let allowed = || format!("true ({BUSY_POLL_MICROSECONDS}), false, or 1 to {MOST_BUSY_POLL} microseconds");
    microseconds
        .map_or_else(|| refuse(format!("{value} is not a time to poll"), allowed()), |us| Ok(Some(Duration::from_micros(us))))
}

fn frame_count(frames: i64) -> Result<u32, Complaint> {
    let count = u32::try_from(frames).ok().filter(|count| count.is_power_of_two() && (512..=65_536).contains(count));
    count.map_or_else(|| refuse(format!("{frames} is not a number of frames"), "a power of two from 512 to 65536"), Ok)
}

pub(super) fn check_max_connections(raw: &raw::Conntrack, problems: &mut Problems) -> usize {
    let value = raw.max_connections.as_ref();
    problems.value_or("conntrack.max_connections", value, DEFAULT_CONNECTIONS, |number| whole(*number, CONNECTIONS))
}

pub(super) fn check_spared(raw: &raw::Conntrack) -> Spared {
    let everybody_gives_way = raw.evict_established.as_ref().is_some_and(|value| *value.get_ref());
    if everybody_gives_way { Spared::Nobody } else { Spared::Established }
}

pub(super) fn check_tracking(raw: &raw::Conntrack, problems: &mut Problems) -> l4proto::Settings {
    let checksum = problems.value_or("conntrack.checksum", raw.checksum.as_ref(), Verify::default(), |text| {
        one_of("choice of packets", text, Verify::NAMES)
    });
    let is = |key: &raw::Maybe<bool>| key.as_ref().is_some_and(|key| *key.get_ref());
    l4proto::Settings { tcp_be_liberal: is(&raw.tcp_be_liberal), tcp_loose: is(&raw.tcp_loose), checksum }
}

pub(super) fn check_fragments(raw: &raw::Fragments, problems: &mut Problems) -> FragmentLimits {
    let default = FragmentLimits::default();
    FragmentLimits {
        timeout: problems.value_or("fragments.timeout", raw.timeout.as_ref(), default.timeout, |text| {
            // In this range it fits.
            duration(text, FRAGMENT_TIMEOUT).map(|timeout| timeout.as_millis() as u32)
        }),
        datagrams: problems
            .value_or("fragments.datagrams", raw.datagrams.as_ref(), default.datagrams, |number| whole(*number, DATAGRAMS)),
        per_datagram: problems.value_or("fragments.per_datagram", raw.per_datagram.as_ref(), default.per_datagram, |number| {
            whole(*number, FRAGMENTS)
        }),
        held: problems.value_or("fragments.held", raw.held.as_ref(), default.held, |number| whole(*number, HELD)),
    }
}

pub(super) fn check_socket(raw: &raw::Admin, problems: &mut Problems) -> PathBuf {
    problems.value_or("admin.socket", raw.socket.as_ref(), PathBuf::from(DEFAULT_SOCKET), |path| {
        let fits = path.starts_with('/') && !path.ends_with('/') && path.len() <= MOST_SOCKET_BYTES && !path.contains('\0');
        if fits {
            return Ok(PathBuf::from(path));
        }
        refuse(format!("{path:?} cannot be a socket"), format!("an absolute path of at most {MOST_SOCKET_BYTES} bytes"))
    })
}

pub(super) fn check_reload(raw: &raw::Reload, problems: &mut Problems) -> Reload {
    Reload {
        watch: raw.watch.as_ref().is_some_and(|watch| *watch.get_ref()),
        max_reset: problems
            .value("reload.max_reset", raw.max_reset.as_ref(), |number| whole(*number, 0..=*CONNECTIONS.end()))
            .map(|located| located.value),
        overrides: problems.value_or("reload.overrides", raw.overrides.as_ref(), Overrides::default(), |text| {
            one_of("way to treat overrides", text, Overrides::NAMES)
        }),
    }
}

pub(super) fn check_timeouts(raw: &Raw, problems: &mut Problems) -> Timeouts {
    check_keys("timeouts", &raw.timeouts, Timeouts::default(), |_| true, problems)
}

/// What a service has in the place of `common`: only keys of its own protocol.
pub(super) fn check_timeouts_of_service(
    raw: &raw::Service,
    common: Timeouts,
    protocol: Option<Protocol>,
    problems: &mut Problems,
) -> Timeouts {
    // Of a protocol that was refused, nobody knows which keys it has.
    let fits = |key: &str| protocol.is_none_or(|protocol| belongs_to(key, protocol.name()));
    check_keys("service.timeouts", &raw.timeouts, common, fits, problems)
}

fn check_keys(
    table: &str,
    given: &BTreeMap<Spanned<String>, Spanned<String>>,
    mut timeouts: Timeouts,
    fits: impl Fn(&str) -> bool,
    problems: &mut Problems,
) -> Timeouts {
    let range = Duration::from_millis(1)..=Duration::from_millis(u64::from(MAX_TIMEOUT));
    for (key, value) in given {
        let Some(timeout) = timeouts.get_mut(key.get_ref()).filter(|_| fits(key.get_ref())) else {
            let found = format!("there is no key `{}` here", key.get_ref());
            let allowed = quoted(Timeouts::KEYS.iter().copied().filter(|key| fits(key))).replace('"', "");
            problems.add(Problem::new("unknown key", found, allowed).at(Place::new(key.span(), "unknown key")));
            continue;
        };
        let checked = problems.value(format!("{table}.{}", key.get_ref()), Some(value), |text| duration(text, range.clone()));
        // In the range above it fits.
        *timeout = checked.map_or(*timeout, |checked| checked.value.as_millis() as u32);
    }
    timeouts
}
