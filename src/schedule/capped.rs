//! Members at their limit are passed over, whoever else would be chosen.

use super::hash::{below, hash_socket};
use super::tournament::{Rank, Tournament};
use super::{Kind, Member, Request, Scheduler};
use std::net::SocketAddr;
use std::sync::Arc;

/// Asks a scheduler that knows of no limits, and asks again where the one that it names is full: for the next turn, the next draw, or the place
/// of another port. Where that is full, too, the first one with room from a place on that the client's address and port hash to is taken, which a
/// [`Tournament`] finds among a thousand as fast as among three.
#[derive(Debug)]
pub(super) struct Capped {
    inner: Arc<dyn Scheduler>,
    room: Arc<Tournament>,
}

/// Questions before one is looked for.
const QUESTIONS: u16 = 2;
/// Fixed: nodes with another seed would choose otherwise.
const CLIENT_SEED: u64 = 0x7765_6972_2d63_6170; // "weir-cap"
/// Another port, far from those that the client uses next.
const OTHER_PORT: u16 = 0x9e37;

/// Everyone with room is as good as anyone.
fn any(_: usize, _: super::member::Standing) -> u64 {
    0
}

/// Lower tiers first.
fn by_tier(_: usize, standing: super::member::Standing) -> u64 {
    u64::from(standing.priority)
}

/// How members with room are told apart; `None`: this kind of scheduler knows limits itself.
pub(super) fn rank_of_room(kind: Kind) -> Option<Rank> {
    match kind {
        Kind::Failover => Some(by_tier),
        Kind::RoundRobin | Kind::WeightedRoundRobin | Kind::PowerOfTwoChoices | Kind::Random => Some(any),
        Kind::SourceHash | Kind::Maglev => Some(any),
        Kind::BoundedHash
        | Kind::LeastConn
        | Kind::WeightedLeastConn
        | Kind::ShortestExpectedDelay
        | Kind::NeverQueue
        | Kind::FirstAvailable => None,
    }
}

impl Capped {
    /// `room` follows the same members.
    pub(super) fn new(inner: Arc<dyn Scheduler>, room: Arc<Tournament>) -> Self {
        Self { inner, room }
    }

    fn ask(&self, request: &Request, members: &[Arc<Member>], inner: impl Fn(&Request) -> Option<usize>) -> Option<usize> {
        for question in 0..QUESTIONS {
            let port = request.client_port.wrapping_add(question.wrapping_mul(OTHER_PORT));
            let named = inner(&Request { client_port: port, ..*request })?;
            if members.get(named)?.has_room() {
                return Some(named);
            }
        }
        let client = hash_socket(CLIENT_SEED, SocketAddr::new(request.client, request.client_port));
        self.room.least(below(client, members.len() as u64) as usize)
    }
}

impl Scheduler for Capped {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    fn pick(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.ask(request, members, |request| self.inner.pick(request, members))
    }

    /// Where the member whose turn it is is full, the next one with room: a turn that is not taken has no successor.
    fn preview(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.ask(request, members, |request| self.inner.preview(request, members))
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.inner.refresh(members);
    }
}
