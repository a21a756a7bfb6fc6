//! Members at their limit are passed over, whoever else would be chosen.

use super::hash::{below, mix};
use super::member::Standing;
use super::room::Room;
use super::tournament::Tournament;
use super::{Kind, Member, Request, Scheduler};
use std::net::IpAddr;
use std::sync::Arc;

/// Asks a scheduler that knows of no limits. Where the member that it names is full, one that has room stands in, found in as many steps
/// whether every second one has room or one in a thousand.
#[derive(Debug)]
pub(super) struct Capped {
    inner: Arc<dyn Scheduler>,
    stand_ins: StandIns,
}

/// How those with room share what full ones would get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sharing {
    /// All the same.
    Evenly,
    ByWeight,
    /// Those of the first tier that has room, in the order of the config from some place on.
    ByTier,
}

/// Those with room.
#[derive(Debug, Clone)]
pub(super) enum StandIns {
    Drawn(Arc<Room>),
    Tiers(Arc<Tournament>),
}

/// Lower tiers first.
fn tier(_: usize, standing: Standing) -> u64 {
    u64::from(standing.priority)
}

impl Sharing {
    /// For this kind of scheduler; `None`: it knows limits itself.
    pub(super) fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::RoundRobin => Some(Self::Evenly),
            Kind::WeightedRoundRobin | Kind::Random | Kind::SourceHash | Kind::Maglev => Some(Self::ByWeight),
            Kind::Failover => Some(Self::ByTier),
            Kind::PowerOfTwoChoices
            | Kind::BoundedHash
            | Kind::LeastConn
            | Kind::WeightedLeastConn
            | Kind::ShortestExpectedDelay
            | Kind::NeverQueue
            | Kind::FirstAvailable => None,
        }
    }

    /// Of these members.
    pub(super) fn stand_ins(self, members: &[Arc<Member>]) -> StandIns {
        match self {
            Self::Evenly => StandIns::Drawn(Room::new(|_| 1, members)),
            Self::ByWeight => StandIns::Drawn(Room::new(|standing| standing.weight, members)),
            Self::ByTier => StandIns::Tiers(Tournament::new(tier, members)),
        }
    }
}

impl Capped {
    /// `stand_ins` follow the same members.
    pub(super) fn new(inner: Arc<dyn Scheduler>, stand_ins: StandIns) -> Self {
        Self { inner, stand_ins }
    }

    fn unless_full(&self, named: Option<usize>, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        let named = named?;
        if members.get(named)?.has_room() { Some(named) } else { self.stand_in(request, members.len()) }
    }

    /// The same one for all of a client's connections where the scheduler goes by its address, as long as who has room stays the same.
    fn stand_in(&self, request: &Request, members: usize) -> Option<usize> {
        let port = if self.kind() == Kind::SourceHash { 0 } else { request.client_port };
        let bits = spread(request.client, port);
        match &self.stand_ins {
            StandIns::Drawn(room) => room.draw(bits),
            StandIns::Tiers(tiers) => tiers.least(below(bits, members as u64) as usize),
        }
    }
}

/// Bits that differ between clients: one step of what [`super::hash`] does for choices that all nodes must agree on.
fn spread(client: IpAddr, port: u16) -> u64 {
    let address = match client {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64 ^ (address.to_bits() as u64).rotate_left(24),
    };
    mix(address ^ u64::from(port) << 48)
}

impl Scheduler for Capped {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    fn pick(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.unless_full(self.inner.pick(request, members), request, members)
    }

    fn preview(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.unless_full(self.inner.preview(request, members), request, members)
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.inner.refresh(members);
    }
}
