//! PREROUTING: which connection is it (conntrack_in, priority -200), and where does a new one go (dnat, priority -100)?

use super::hook::{Hook, Packet};
use super::process::{Context, Lookup, Tracked};
use super::verdict::Way;
use super::{DropReason, Frame};
use crate::conntrack::tcp::Step;
use crate::conntrack::{Direction, Entry, Family, Found, State, tcp, udp};
use crate::packet::{Headers, Payload};
use crate::schedule::Request;
use crate::service::{Backend, Protocol, Service, Snapshot};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

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

/// Asks the handlers registered with a priority in `range`.
#[inline(always)]
pub(super) fn run_handlers<const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    range: Range<i32>,
    connection: impl FnOnce() -> Option<(Direction, State)>,
) -> Way<()> {
    if !HOOKED {
        return Ok(());
    }
    let mut packet = Packet { bytes: &mut frame.buffer[..frame.length], headers, port: frame.port, connection: connection() };
    context.datapath.hooks.run(Hook::Prerouting, range, &mut packet)
}

/// The live connection of the packet, its state advanced; `None`: it has none (any more).
#[inline(always)]
pub(super) fn conntrack_in<'a, F: Tracked, const HOOKED: bool>(
    context: &Context<'a, HOOKED>,
    headers: &Headers,
    lookup: &Lookup<F>,
) -> Way<Option<Found<'a, F>>> {
    let table = F::table(&context.datapath.conntrack);
    let Some(found) = table.find(lookup.hash, lookup.guess, &lookup.tuple) else { return Ok(None) };
    let state = found.entry.state();
    // Most packets change nothing: no write to a word that both directions share, and no look at the state machine.
    let unchanged = match headers.payload {
        Payload::Tcp(flags) => tcp::is_steady(state, flags),
        _ => udp::advance(state, found.direction) == state,
    };
    if unchanged || advance(found.entry, found.direction, headers.payload)? {
        return Ok(Some(found));
    }
    // The tuple is used again for a new connection.
    table.kill(found.entry);
    Ok(None)
}

/// Moves the state on. `Ok(false)`: the connection is over, the packet begins a new one.
#[inline(never)]
fn advance<F: Family>(entry: &Entry<F>, direction: Direction, payload: Payload) -> Way<bool> {
    let mut seen = entry.state();
    loop {
        let next = match payload {
            Payload::Tcp(flags) => match tcp::step(seen.tcp(), direction, flags) {
                Step::To(to) => tcp::advance(seen, direction, to),
                Step::Ignore => return Ok(true),
                Step::Invalid => return Err(DropReason::TcpInvalid.into()),
                Step::Reopen => return Ok(false),
            },
            _ => udp::advance(seen, direction),
        };
        if next == seen {
            return Ok(true);
        }
        match entry.change_state(seen, next) {
            Ok(()) => return Ok(true),
            Err(now) => seen = now,
        }
    }
}

/// The backend for a first packet.
pub(super) fn dnat<'a>(snapshot: &'a Snapshot, bytes: &[u8], headers: &Headers) -> Way<Opening<'a>> {
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
pub(super) fn check_source(snapshot: &Snapshot, source: IpAddr) -> Result<(), DropReason> {
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
