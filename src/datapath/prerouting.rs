//! PREROUTING: which connection is it (conntrack_in, priority -200), and where does a new one go (dnat, priority -100)?

use super::hook::{Hook, Packet, priority};
use super::process::{Context, Lookup, Tracked};
use super::verdict::Way;
use super::{DropReason, Frame};
use crate::conntrack::tcp::Step;
use crate::conntrack::{Direction, Entry, Family, Found, State, TcpState, tcp, udp};
use crate::packet::{Headers, Payload};
use crate::schedule::Request;
use crate::service::{Backend, Protocol, Service, Snapshot};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The connection of a packet.
pub(super) enum Connection<'a, F: Family> {
    /// It is in the table.
    Known(Found<'a, F>),
    /// This is its first packet, and nobody else knows it yet.
    New(Opening<'a>),
}

/// What was decided for a new connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening<'a> {
    /// What the client connects to.
    pub service: &'a Arc<Service>,
    /// Who gets it.
    pub backend: &'a Arc<Backend>,
    /// Address and port toward the backend; a service on every port keeps the client's port.
    pub target: SocketAddr,
}

impl<F: Family> Connection<'_, F> {
    /// For registered handlers.
    pub(super) fn summary(&self, headers: &Headers) -> (Direction, State) {
        match self {
            Self::Known(found) => (found.direction, found.entry.state()),
            Self::New(_) => (Direction::Original, State::new(headers.protocol, TcpState::None)),
        }
    }
}

/// Finds the connection of a packet, or decides where a new one goes.
#[inline(always)]
pub(super) fn track<'a, F: Tracked, const HOOKED: bool>(
    context: &Context<'a, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
) -> Way<Connection<'a, F>> {
    if HOOKED {
        run_handlers(context, frame, headers, i32::MIN..priority::CONNTRACK, None)?;
    }
    let connection = match conntrack_in(context, headers, lookup)? {
        Some(found) => Connection::Known(found),
        None => Connection::New(dnat(context.snapshot, frame.bytes(), headers)?),
    };
    if HOOKED {
        let summary = Some(connection.summary(headers));
        run_handlers(context, frame, headers, priority::CONNTRACK..i32::MAX, summary)?;
    }
    Ok(connection)
}

#[cold]
fn run_handlers<const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    range: std::ops::Range<i32>,
    connection: Option<(Direction, State)>,
) -> Way<()> {
    let mut packet = Packet { bytes: &mut frame.buffer[..frame.length], headers, port: frame.port, connection };
    context.datapath.hooks.run(Hook::Prerouting, range, &mut packet)
}

/// The live connection of the packet, its state advanced; `None`: it has none (any more).
#[inline(always)]
fn conntrack_in<'a, F: Tracked, const HOOKED: bool>(
    context: &Context<'a, HOOKED>,
    headers: &Headers,
    lookup: &Lookup<F>,
) -> Way<Option<Found<'a, F>>> {
    let table = F::table(&context.datapath.conntrack);
    let Some(found) = table.find(lookup.hash, lookup.guess, &lookup.tuple) else { return Ok(None) };
    let live = match headers.payload {
        Payload::Tcp(flags) => advance_tcp(found.entry, found.direction, flags)?,
        _ => advance_udp(found.entry, found.direction),
    };
    if !live {
        table.kill(found.entry);
    }
    Ok(live.then_some(found))
}

/// `Ok(false)`: the tuple is used again for a new connection.
#[inline(always)]
fn advance_tcp<F: Family>(entry: &Entry<F>, direction: Direction, flags: u8) -> Way<bool> {
    let mut seen = entry.state();
    loop {
        let to = match tcp::step(seen.tcp(), direction, flags) {
            Step::To(to) => to,
            Step::Ignore => return Ok(true),
            Step::Invalid => return Err(DropReason::TcpInvalid.into()),
            Step::Reopen => return Ok(false),
        };
        let next = tcp::advance(seen, direction, to);
        // Most packets change nothing: no write to the line that both directions share.
        if next == seen {
            return Ok(true);
        }
        match entry.change_state(seen, next) {
            Ok(()) => return Ok(true),
            Err(now) => seen = now,
        }
    }
}

#[inline(always)]
fn advance_udp<F: Family>(entry: &Entry<F>, direction: Direction) -> bool {
    let mut seen = entry.state();
    loop {
        let next = udp::advance(seen, direction);
        if next == seen {
            return true;
        }
        match entry.change_state(seen, next) {
            Ok(()) => return true,
            Err(now) => seen = now,
        }
    }
}

/// The backend for a first packet.
fn dnat<'a>(snapshot: &'a Snapshot, bytes: &[u8], headers: &Headers) -> Way<Opening<'a>> {
    let ports = headers.ports(bytes);
    let source = SocketAddr::new(headers.source(bytes), (ports >> 16) as u16);
    let destination = SocketAddr::new(headers.destination(bytes), ports as u16);
    let protocol = Protocol::from_number(headers.protocol).ok_or(DropReason::UnknownProtocol)?;
    let service = snapshot.services.find(destination.ip(), destination.port(), protocol).ok_or(DropReason::NoService)?;
    if let Payload::Tcp(flags) = headers.payload
        && !tcp::opens(flags)
    {
        return Err(DropReason::TcpNotSyn.into());
    }
    check_source(snapshot, source.ip())?;
    let request = Request { client: source.ip(), client_port: source.port() };
    let chosen = service.scheduler.pick(&request, &service.pool.members).ok_or(DropReason::NoBackend)?;
    opening(service, chosen, destination.port()).ok_or(DropReason::NoBackend.into())
}

/// A frame from outside with one of our own addresses as its source is forged, or has gone in a circle.
fn check_source(snapshot: &Snapshot, source: IpAddr) -> Result<(), DropReason> {
    if snapshot.own_addresses.contains(&source) { Err(DropReason::OwnSource) } else { Ok(()) }
}

/// The opening toward the backend at index `chosen` of the service's pool.
pub(super) fn opening(service: &Arc<Service>, chosen: usize, port: u16) -> Option<Opening<'_>> {
    let backend = service.pool.backends.get(chosen)?;
    let mut target = backend.address();
    if service.port.is_none() {
        target.set_port(port);
    }
    Some(Opening { service, backend, target })
}
