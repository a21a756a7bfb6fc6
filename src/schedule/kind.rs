//! The schedulers by their names in the config.

use super::{LeastConn, Maglev, Member, RoundRobin, Scheduler, SourceHash, WeightedRoundRobin};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which scheduler a service uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    /// [`RoundRobin`]
    RoundRobin,
    /// [`WeightedRoundRobin`]. The default: exact by weight from the first connection on, and plain turns when all weights are equal.
    #[default]
    WeightedRoundRobin,
    /// [`LeastConn`]
    LeastConn,
    /// [`SourceHash`]
    SourceHash,
    /// [`Maglev`]
    Maglev,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Kind] =
        &[Kind::RoundRobin, Kind::WeightedRoundRobin, Kind::LeastConn, Kind::SourceHash, Kind::Maglev];

    /// The name in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::LeastConn => "least_conn",
            Self::SourceHash => "source_hash",
            Self::Maglev => "maglev",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A scheduler that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no scheduler `{name}`; allowed: {}", Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownScheduler {
    /// What was asked for.
    pub name: String,
}

impl FromStr for Kind {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<Self, UnknownScheduler> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| UnknownScheduler { name: name.to_owned() })
    }
}

/// What some schedulers can be told beside their members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Entries of the Maglev table: a prime, see [`Maglev`].
    pub maglev_table_size: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { maglev_table_size: Maglev::DEFAULT_TABLE_SIZE }
    }
}

/// A scheduler for these members, ready to pick: no [`Scheduler::refresh`] is needed first.
pub fn build(kind: Kind, settings: Settings, members: &[Arc<Member>]) -> Arc<dyn Scheduler> {
    match kind {
        Kind::RoundRobin => Arc::new(RoundRobin::default()),
        Kind::WeightedRoundRobin => Arc::new(WeightedRoundRobin::new(members)),
        Kind::LeastConn => Arc::new(LeastConn::default()),
        Kind::SourceHash => Arc::new(SourceHash::default()),
        Kind::Maglev => Arc::new(Maglev::new(settings.maglev_table_size, members)),
    }
}
