//! How many connections a service takes, how fast, and what becomes of those that are over.

use crate::conntrack::{Exceeded, Rate, SharedBucket, SourceLimits};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Limits of one service. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Connections at a time; those at the backup pool do not count.
    pub connections: Option<u32>,
    /// New connections a second.
    pub rate: Option<Rate>,
    /// The same of each source.
    pub source: SourceLimits,
    /// What becomes of a new connection that is over a limit, of these or of all backends'.
    pub over: OverLimit,
}

/// What becomes of a new connection that is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverLimit {
    /// Its first packet is dropped; a client that sends it again may be luckier.
    #[default]
    Drop,
    /// Its client is told: TCP by a RST, others by an ICMP error.
    Reject,
    /// It goes to the backup pool.
    Backup,
}

impl OverLimit {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, OverLimit)] =
        &[("drop", OverLimit::Drop), ("reject", OverLimit::Reject), ("backup", OverLimit::Backup)];

    /// The name in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Backup => "backup",
        }
    }
}

/// A limit that was struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Limit {
    /// Every backend that could be chosen has all the connections that it may have.
    Backends,
    /// Connections of the service.
    Service,
    /// Connections of the source.
    Source,
    /// New connections a second of the service.
    ServiceRate,
    /// New connections a second of the source.
    SourceRate,
}

impl Limit {
    /// All of them, in the order of the enum.
    pub const ALL: [Limit; 5] = [Self::Backends, Self::Service, Self::Source, Self::ServiceRate, Self::SourceRate];

    /// The name in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backends => "backends",
            Self::Service => "connections",
            Self::Source => "source_connections",
            Self::ServiceRate => "rate",
            Self::SourceRate => "source_rate",
        }
    }
}

impl From<Exceeded> for Limit {
    fn from(exceeded: Exceeded) -> Self {
        match exceeded {
            Exceeded::Connections => Self::Source,
            Exceeded::Rate => Self::SourceRate,
        }
    }
}

/// What is kept of a service over reloads: how fast connections came, and what became of them. Counts are Relaxed, they publish nothing.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Of [`Limits::rate`].
    pub bucket: SharedBucket,
    struck: [AtomicU64; Limit::ALL.len()],
    backup: AtomicU64,
    persisted: AtomicU64,
}

impl Ledger {
    /// A limit stood in the way of a new connection.
    pub fn strike(&self, limit: Limit) {
        self.struck[limit as usize].fetch_add(1, Relaxed);
    }

    /// A connection went to the backup pool.
    pub fn count_backup(&self) {
        self.backup.fetch_add(1, Relaxed);
    }

    /// A connection went where its client's last one did.
    pub fn count_persisted(&self) {
        self.persisted.fetch_add(1, Relaxed);
    }

    /// How often a limit was struck.
    pub fn struck(&self, limit: Limit) -> u64 {
        self.struck[limit as usize].load(Relaxed)
    }

    /// Connections that went to the backup pool.
    pub fn backup(&self) -> u64 {
        self.backup.load(Relaxed)
    }

    /// Connections that went where their client's last one did.
    pub fn persisted(&self) -> u64 {
        self.persisted.load(Relaxed)
    }
}
