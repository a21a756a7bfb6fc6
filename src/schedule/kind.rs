//! The schedulers by their names in the config, and how each is made.

use super::affinity::Affinity;
use super::capped::{Capped, Sharing, StandIns};
use super::load::Load;
use super::room::Room;
use super::tournament::{Rank, Tournament};
use super::{
    BoundedHash, Failover, LeastLoaded, Maglev, Member, PowerOfTwoChoices, Random, RoundRobin, Scheduler, SourceHash,
    WeightedRoundRobin, first_available, least_conn, never_queue, shortest_expected_delay, weighted_least_conn,
};
use std::collections::HashMap;
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
    /// [`LeastLoaded`] by connections.
    LeastConn,
    /// [`LeastLoaded`] by connections / weight.
    WeightedLeastConn,
    /// [`LeastLoaded`] by (connections + 1) / weight.
    ShortestExpectedDelay,
    /// An idle member before any other, then as the one above.
    NeverQueue,
    /// [`PowerOfTwoChoices`]
    PowerOfTwoChoices,
    /// [`Random`]
    Random,
    /// [`SourceHash`]
    SourceHash,
    /// [`BoundedHash`]
    BoundedHash,
    /// [`Maglev`]
    Maglev,
    /// [`Failover`]
    Failover,
    /// The first member that is not full yet.
    FirstAvailable,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Kind] = &[
        Kind::RoundRobin,
        Kind::WeightedRoundRobin,
        Kind::LeastConn,
        Kind::WeightedLeastConn,
        Kind::ShortestExpectedDelay,
        Kind::NeverQueue,
        Kind::PowerOfTwoChoices,
        Kind::Random,
        Kind::SourceHash,
        Kind::BoundedHash,
        Kind::Maglev,
        Kind::Failover,
        Kind::FirstAvailable,
    ];

    /// The name in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::LeastConn => "least_conn",
            Self::WeightedLeastConn => "weighted_least_conn",
            Self::ShortestExpectedDelay => "shortest_expected_delay",
            Self::NeverQueue => "never_queue",
            Self::PowerOfTwoChoices => "power_of_two_choices",
            Self::Random => "random",
            Self::SourceHash => "source_hash",
            Self::BoundedHash => "bounded_hash",
            Self::Maglev => "maglev",
            Self::Failover => "failover",
            Self::FirstAvailable => "first_available",
        }
    }

    /// Why the member that it chooses is the one, in a few words (`weir explain`).
    pub const fn reason(self) -> &'static str {
        match self {
            Self::RoundRobin => "it is next in turn",
            Self::WeightedRoundRobin => "it is next in turn by weight",
            Self::LeastConn => "it has the fewest connections",
            Self::WeightedLeastConn => "it has the fewest connections for its weight",
            Self::ShortestExpectedDelay => "with this connection it would have the fewest for its weight",
            Self::NeverQueue => "it is idle, or nobody is and with this connection it would have the fewest for its weight",
            Self::PowerOfTwoChoices => "it has fewer connections for its weight than the other one that was drawn",
            Self::Random => "it was drawn by weight",
            Self::SourceHash => "the client's address hashes to it",
            Self::BoundedHash => "it is the first with room in the order of the client's address",
            Self::Maglev => "the client's address and port hash to it",
            Self::Failover => "it is next in turn by weight in the first tier that serves",
            Self::FirstAvailable => {
                "it is the first that is not full, or all are and it has the fewest connections for its weight"
            }
        }
    }

    /// Whether there is a Maglev table, whose size can be set.
    pub const fn has_table(self) -> bool {
        matches!(self, Self::Maglev | Self::SourceHash | Self::BoundedHash)
    }

    /// What members are ranked by, where the least loaded one is taken.
    const fn rank(self) -> Option<Rank> {
        match self {
            Self::LeastConn => Some(least_conn::rank),
            Self::WeightedLeastConn => Some(weighted_least_conn::rank),
            Self::ShortestExpectedDelay => Some(shortest_expected_delay::rank),
            Self::NeverQueue => Some(never_queue::rank),
            Self::FirstAvailable => Some(first_available::rank),
            _ => None,
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
    /// Percent of its share that a member of [`BoundedHash`] may have.
    pub hash_balance_factor: u32,
    /// Where the draws of [`Random`] and [`PowerOfTwoChoices`] begin.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { maglev_table_size: Maglev::DEFAULT_TABLE_SIZE, hash_balance_factor: BoundedHash::DEFAULT_FACTOR, seed: 0 }
    }
}

/// A scheduler for these members, ready to pick: no [`Scheduler::refresh`] is needed first.
pub fn build(kind: Kind, settings: Settings, members: &[Arc<Member>]) -> Arc<dyn Scheduler> {
    Builder::new(members).build(kind, settings)
}

/// Makes the schedulers of all services of one pool. What follows the connections of members is made once and shared: a connection is
/// told to as many as there are kinds of it, however many services the pool has.
#[derive(Debug)]
pub struct Builder<'a> {
    members: &'a [Arc<Member>],
    trees: HashMap<Kind, Arc<Tournament>>,
    stand_ins: HashMap<Sharing, StandIns>,
    load: Option<Arc<Load>>,
}

impl<'a> Builder<'a> {
    /// For these members.
    pub fn new(members: &'a [Arc<Member>]) -> Self {
        Self { members, trees: HashMap::new(), stand_ins: HashMap::new(), load: None }
    }

    /// One scheduler. Where members have limits it passes over those that are full.
    pub fn build(&mut self, kind: Kind, settings: Settings) -> Arc<dyn Scheduler> {
        let scheduler = self.build_unlimited(kind, settings);
        match Sharing::of(kind).filter(|_| self.are_limited()) {
            Some(sharing) => Arc::new(Capped::new(scheduler, self.stand_ins(sharing))),
            None => scheduler,
        }
    }

    fn are_limited(&self) -> bool {
        self.members.iter().any(|member| member.max_connections().is_some())
    }

    fn stand_ins(&mut self, sharing: Sharing) -> StandIns {
        let members = self.members;
        self.stand_ins.entry(sharing).or_insert_with(|| sharing.stand_ins(members)).clone()
    }

    /// Members with room, to be drawn by weight.
    fn room(&mut self) -> Option<Arc<Room>> {
        match self.are_limited().then(|| self.stand_ins(Sharing::ByWeight)) {
            Some(StandIns::Drawn(room)) => Some(room),
            _ => None,
        }
    }

    fn build_unlimited(&mut self, kind: Kind, settings: Settings) -> Arc<dyn Scheduler> {
        let (members, size) = (self.members, settings.maglev_table_size);
        match kind {
            Kind::RoundRobin => Arc::new(RoundRobin::new(members)),
            Kind::WeightedRoundRobin => Arc::new(WeightedRoundRobin::new(members)),
            Kind::PowerOfTwoChoices => Arc::new(PowerOfTwoChoices::new(settings.seed, members).within(self.room())),
            Kind::Random => Arc::new(Random::new(settings.seed, members)),
            Kind::SourceHash => Arc::new(SourceHash::new(size, members)),
            Kind::BoundedHash => Arc::new(self.bounded_hash(size, settings.hash_balance_factor)),
            Kind::Maglev => Arc::new(Maglev::new(size, members)),
            Kind::Failover => Arc::new(Failover::new(members)),
            Kind::LeastConn | Kind::WeightedLeastConn | Kind::ShortestExpectedDelay | Kind::NeverQueue | Kind::FirstAvailable => {
                Arc::new(self.least_loaded(kind))
            }
        }
    }

    pub(super) fn least_loaded(&mut self, kind: Kind) -> LeastLoaded {
        LeastLoaded::new(kind, self.tree(kind))
    }

    fn bounded_hash(&mut self, size: u32, factor: u32) -> BoundedHash {
        let load = Arc::clone(self.load.get_or_insert_with(|| Load::new(self.members)));
        BoundedHash::new(Affinity::new(size, self.members), load, self.tree(Kind::ShortestExpectedDelay), factor)
    }

    fn tree(&mut self, kind: Kind) -> Arc<Tournament> {
        let rank = kind.rank().unwrap_or(shortest_expected_delay::rank);
        Arc::clone(self.trees.entry(kind).or_insert_with(|| Tournament::new(rank, self.members)))
    }
}
