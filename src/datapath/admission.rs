//! Whether a service takes a new connection, and which backend gets it: limits, persistence, the scheduler, the backup pool. First packets only.
//!
//! What a connection takes up is counted here, before it is confirmed, so that no limit is ever passed; if nothing comes of it, it is given back.

use super::DropReason;
use super::process::Context;
use super::verdict::{Verdict, Way};
use crate::conntrack::{ConnCount, Millis, Remembered, Source, State};
use crate::schedule::{Member, Request, Scheduler};
use crate::service::{Backend, Limit, OverLimit, Persistence, Pool, Service};
use std::net::IpAddr;
use std::sync::Arc;

/// A backend that is to get a connection.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    /// Who.
    pub(super) backend: &'a Arc<Backend>,
    /// What the connection takes up.
    pub(super) seats: Seats<'a>,
}

/// What a connection takes up until it leaves the table. Dropped before it is confirmed, all of it is given back.
#[derive(Debug)]
pub(super) struct Seats<'a> {
    conncount: &'a ConnCount,
    service: &'a Service,
    is_counted: bool,
    has_token: bool,
    source: Option<Source>,
    member: Option<&'a Member>,
    by: By,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Scheduler,
    Persistence,
    Backup,
}

/// Why a pool has nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nobody {
    /// All are down, draining, or without weight.
    IsUp,
    /// The others are at their limit.
    HasRoom,
}

/// Choices, where other workers take the last place of a backend at the same moment.
const CHOICES: usize = 4;

impl<'a> Seats<'a> {
    fn none(conncount: &'a ConnCount, service: &'a Service) -> Self {
        Self { conncount, service, is_counted: false, has_token: false, source: None, member: None, by: By::Scheduler }
    }

    /// Those of a connection that was announced: it is part of one that was let in, and is counted without being limited.
    pub(super) fn announced(conncount: &'a ConnCount, service: &'a Service, member: &'a Member) -> Self {
        conncount.enter_service(service.id.0, None);
        member.connection_opened();
        Self { is_counted: true, member: Some(member), ..Self::none(conncount, service) }
    }

    /// The connection is confirmed: from now on whoever takes it out of the table takes it off.
    pub(super) fn keep(mut self) {
        match self.by {
            By::Scheduler => {}
            By::Persistence => self.service.ledger.count_persisted(),
            By::Backup => self.service.ledger.count_backup(),
        }
        (self.is_counted, self.has_token, self.source, self.member) = (false, false, None, None);
    }

    /// What of it the connection's state says.
    pub(super) fn mark(&self, state: State) -> State {
        let state = if self.by == By::Backup { state.with(State::AT_BACKUP) } else { state };
        if self.source.is_some() { state.with_source_counted() } else { state }
    }
}

impl Drop for Seats<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.conncount.leave_service(self.service.id.0);
        }
        if self.has_token {
            self.service.ledger.bucket.give_back();
        }
        if let Some(source) = self.source {
            self.conncount.give_back(&source);
        }
        if let Some(member) = self.member {
            member.connection_closed();
        }
    }
}

/// The backend for a first packet of this client, and the room for it.
pub(super) fn choose<'a, const HOOKED: bool>(
    context: &Context<'a, HOOKED>,
    service: &'a Service,
    request: &Request,
) -> Way<Chosen<'a>> {
    let conntrack = &context.datapath.conntrack;
    let mut seats = Seats::none(conntrack.conncount(), service);
    let taken = match enter(&mut seats, request.client, context.now) {
        Ok(()) => match &service.persistence {
            None => seat(&service.pool, &*service.scheduler, request).map(|index| (index, By::Scheduler)),
            Some(persistence) => follow(context, service, persistence, request),
        },
        Err(limit) => return over(seats, limit, request),
    };
    match taken {
        Ok((index, by)) => {
            seats.by = by;
            seated(seats, &service.pool, index)
        }
        Err(Nobody::HasRoom) => over(seats, Limit::Backends, request),
        Err(Nobody::IsUp) => at_backup(seats, request).unwrap_or(Err(DropReason::NoBackend.into())),
    }
}

/// Takes what the limits of a service count.
fn enter(seats: &mut Seats<'_>, client: IpAddr, now: Millis) -> Result<(), Limit> {
    let (service, conncount) = (seats.service, seats.conncount);
    let limits = &service.limits;
    // The source's first: what it asks for too much is not taken from others.
    if !limits.source.is_none() {
        let source = conncount.source(service.id.0, client);
        if conncount.enter_source(source, &limits.source, now).map_err(Limit::from)? {
            seats.source = Some(source);
        }
    }
    if !conncount.enter_service(service.id.0, limits.connections) {
        return Err(Limit::Service);
    }
    seats.is_counted = true;
    if let Some(rate) = limits.rate {
        if !service.ledger.bucket.take(now, rate) {
            return Err(Limit::ServiceRate);
        }
        seats.has_token = true;
    }
    Ok(())
}

/// A place at a member that the scheduler names.
fn seat(pool: &Pool, scheduler: &dyn Scheduler, request: &Request) -> Result<usize, Nobody> {
    for _ in 0..CHOICES {
        match scheduler.pick(request, &pool.members) {
            Some(index) if pool.members.get(index).is_some_and(|member| member.enter()) => return Ok(index),
            // Others have just taken its last place.
            Some(_) => {}
            None => return Err(nobody(pool)),
        }
    }
    Err(Nobody::HasRoom)
}

/// Why a scheduler has named nobody.
#[cold]
pub(super) fn nobody(pool: &Pool) -> Nobody {
    if pool.members.iter().any(|member| member.weight() > 0) { Nobody::HasRoom } else { Nobody::IsUp }
}

/// A place at the member where the client's last connection went, or at another one that is remembered from now on.
#[inline(never)]
fn follow<const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    service: &Service,
    persistence: &Persistence,
    request: &Request,
) -> Result<(usize, By), Nobody> {
    let (pool, mut why) = (&service.pool, Nobody::IsUp);
    let remembered = |address| match pool.find(address).map(|index| (index, &pool.members[index])) {
        Some((_, member)) if member.weight() == 0 => Remembered::IsOut,
        Some((index, member)) if member.enter() => Remembered::Takes(index),
        Some(_) => Remembered::IsFull,
        None => Remembered::IsOut,
    };
    let chosen = || match seat(pool, &*service.scheduler, request) {
        Ok(index) => Some((index, pool.members[index].address)),
        Err(nobody) => {
            why = nobody;
            None
        }
    };
    let (client, when) = (persistence.of(request.client), (persistence.timeout, context.now));
    let followed = context.datapath.conntrack.templates().follow(client, when, remembered, chosen);
    match followed {
        Some((index, true)) => Ok((index, By::Persistence)),
        Some((index, false)) => Ok((index, By::Scheduler)),
        None => Err(why),
    }
}

/// What the service has chosen for connections that are over a limit.
#[cold]
fn over<'a>(seats: Seats<'a>, limit: Limit, request: &Request) -> Way<Chosen<'a>> {
    let service = seats.service;
    service.ledger.strike(limit);
    match service.limits.over {
        OverLimit::Drop => Err(Verdict::Drop(limit.into())),
        OverLimit::Reject => Err(Verdict::Reject(limit.into())),
        OverLimit::Backup => at_backup(seats, request).unwrap_or(Err(Verdict::Drop(limit.into()))),
    }
}

/// A place at a member of the backup pool, if there is one: of what the service limits, it takes up nothing.
#[cold]
fn at_backup<'a>(seats: Seats<'a>, request: &Request) -> Option<Way<Chosen<'a>>> {
    let (service, conncount) = (seats.service, seats.conncount);
    drop(seats);
    let backup = service.backup.as_ref()?;
    let index = seat(&backup.pool, &*backup.scheduler, request).ok()?;
    Some(seated(Seats { by: By::Backup, ..Seats::none(conncount, service) }, &backup.pool, index))
}

fn seated<'a>(mut seats: Seats<'a>, pool: &'a Pool, index: usize) -> Way<Chosen<'a>> {
    let backend = &pool.backends[index];
    seats.member = Some(&backend.member);
    Ok(Chosen { backend, seats })
}

/// The limit that a new connection of this client would strike now.
pub(super) fn would_strike(conncount: &ConnCount, service: &Service, client: IpAddr, now: Millis) -> Option<Limit> {
    let limits = &service.limits;
    let source = conncount.source(service.id.0, client);
    if let Some(exceeded) = conncount.would_exceed(&source, &limits.source, now) {
        return Some(exceeded.into());
    }
    if limits.connections.is_some_and(|most| conncount.of_service(service.id.0) >= most) {
        return Some(Limit::Service);
    }
    limits.rate.filter(|rate| !service.ledger.bucket.has_token(now, *rate)).map(|_| Limit::ServiceRate)
}
