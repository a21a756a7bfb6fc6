//! How the backends of a pool are probed.

use crate::service::BackendId;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// One backend that is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who is meant in [`super::HealthEvent`].
    pub backend: BackendId,
    /// Where probes go; the port is not 0.
    pub address: SocketAddr,
    /// How; shared by the backends of a pool.
    pub settings: Arc<Settings>,
}

/// The `health` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What is asked of a backend.
    pub probe: Probe,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// How long a probe may take; never above `interval`, so a backend has at most one probe under way.
    pub timeout: Duration,
    /// Successes in a row after which a backend that is down is up.
    pub rise: u32,
    /// Failures in a row after which a backend that is up is down.
    pub fall: u32,
    /// Whether a backend that was never probed takes connections.
    pub start: Start,
    /// Probe this port instead of the one that connections go to; needed when backends have none.
    pub port: Option<u16>,
}

impl Settings {
    /// `interval` unless set.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
    /// `timeout` unless set, if `interval` is not shorter.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
    /// `rise` unless set.
    pub const DEFAULT_RISE: u32 = 2;
    /// `fall` unless set.
    pub const DEFAULT_FALL: u32 = 3;
}

/// What is asked of a backend, and which answer is a good one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The connection is accepted.
    Tcp,
    /// `GET path` is answered with one of these statuses.
    Http {
        /// Path and query, begins with `/`.
        path: String,
        /// The `Host` header; `None`: the address and port that are probed.
        host: Option<String>,
        /// Good statuses.
        status: StatusSet,
    },
}

/// What is believed of a backend before its first probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// It takes connections until `fall` probes failed: a restart of weir refuses nobody.
    #[default]
    Up,
    /// It takes none until `rise` probes succeeded.
    Down,
}

impl Start {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Start)] = &[("up", Start::Up), ("down", Start::Down)];

    /// Whether that means up.
    pub fn is_up(self) -> bool {
        self == Self::Up
    }
}

/// HTTP statuses that count as healthy. Interim ones (1xx) are never the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(Vec<RangeInclusive<u16>>);

impl Default for StatusSet {
    /// 200 to 399: what a browser would call an answer.
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

/// A status set that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a status from 200 to 599 nor a range of them such as 200-399")]
pub struct BadStatus(String);

impl StatusSet {
    /// Reads `"200"`, `"200-299"` or `"200, 204, 301-302"`.
    pub fn parse(text: &str) -> Result<Self, BadStatus> {
        text.split(',').map(|part| parse_range(part.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this status is a good one.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

fn parse_range(part: &str) -> Result<RangeInclusive<u16>, BadStatus> {
    let bad = || BadStatus(part.to_owned());
    let status = |text: &str| text.trim().parse().ok().filter(|status| (200..=599).contains(status)).ok_or_else(bad);
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let range = status(first)?..=status(last)?;
    if range.is_empty() { Err(bad()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_single_statuses_and_ranges() {
        let set = StatusSet::parse("200, 204,301-302").unwrap();
        let good: Vec<u16> = (0..1000).filter(|status| set.contains(*status)).collect();
        assert_eq!(good, [200, 204, 301, 302]);
        assert!(StatusSet::default().contains(399) && !StatusSet::default().contains(400) && !StatusSet::default().contains(199));
    }

    #[test]
    fn refuses_what_is_no_status_and_names_the_part() {
        for (text, part) in [("", ""), ("200,,204", ""), ("199", "199"), ("600", "600"), ("300-200", "300-200"), ("2xx", "2xx")] {
            assert_eq!(StatusSet::parse(text), Err(BadStatus(part.to_owned())), "{text}");
        }
    }
}
