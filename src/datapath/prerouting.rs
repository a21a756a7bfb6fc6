//! PREROUTING: which connection is it (conntrack_in, priority -200), and where does a new one go (dnat, priority -100)?

use super::admission::{Chosen, Seats, choose};
use super::hook::{Hook, Packet};
use super::process::Context;
use super::tracked::Tracked;
use super::tuples::Lookup;
use super::verdict::Way;
use super::{DropReason, Frame, Local, NextHops, expected, forward, handshake};
use crate::conntrack::l4proto::{self, Packet as Whole, Step, Verify, tcp, udp};
use crate::conntrack::{Direction, EventKind, Expectation, Found, State, TcpState, natural_end};
use crate::packet::{Headers, Payload, fragment};
use crate::schedule::Request;
use crate::service::{Backend, Protocol, Service, Snapshot};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

/// What was decided for a new connection.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    /// What the client connects to.
    pub service: &'a Arc<Service>,
    /// Who gets it.
    pub backend: &'a Arc<Backend>,
    /// Address and port toward the backend; a service on every port keeps the client's port.
    pub target: SocketAddr,
    /// A control connection has announced it; then the target is not always the backend.
    pub expected: Option<Expectation>,
    /// What it takes up of limits.
    pub seats: Seats<'a>,
}

/// Whose packet it is.
#[derive(Debug)]
pub(super) enum Whose<'a, F: Tracked> {
    /// Nobody's (any more).
    Nobodys,
    /// That of a connection, to which it changes nothing.
    Connections(Found<'a, F>),
    /// That of a connection whose protocol has looked at it.
    Advanced(Found<'a, F>, Advanced),
}

/// What a packet was to its connection.
#[derive(Debug)]
pub(super) struct Advanced {
    /// What becomes of it.
    pub step: Step,
    /// A helper reads along.
    pub is_helped: bool,
    /// What is to be told once it has left and is counted.
    pub change: Option<EventKind>,
    /// The connection ended with it.
    pub end: Option<EventKind>,
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

/// The live connection of the packet, its state advanced.
#[inline(always)]
pub(super) fn conntrack_in<'a, F: Tracked, const HOOKED: bool>(
    context: &mut Context<'a, HOOKED>,
    frame: &Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
) -> Way<Whose<'a, F>> {
    let table = F::table(&context.datapath.conntrack);
    let Some(found) = table.find(lookup.hash, lookup.guess, &lookup.tuple) else { return Ok(Whose::Nobodys) };
    let state = found.entry.state();
    // Most packets change nothing that both directions share, and need no look at the state machine.
    let steady = match headers.payload {
        Payload::Tcp(flags) => {
            let length = usize::from(headers.end - headers.l4);
            frame.bytes()[headers.l4()..]
                .split_first_chunk()
                .is_some_and(|segment| tcp::advance_steady(found.entry, found.direction, state, flags, segment, length))
        }
        Payload::Udp => udp::is_steady(state, found.direction),
        _ => false,
    };
    if steady {
        // Who wants all of them looked at goes the way of who has registered handlers.
        if HOOKED && context.snapshot.tracking.checksum == Verify::All {
            validate(context, frame, Whole { bytes: frame.bytes(), headers })?;
        }
        return Ok(Whose::Connections(found));
    }
    let opener = if state.has(State::SEEN_REPLY) { None } else { opener(&found) };
    let (step, change) = advance(context, frame, headers, &found)?;
    if let Some(opener) = opener {
        context.tally.first_replies += 1;
        context.tally.first_replies_at_home += u64::from(opener == context.worker);
    }
    let mut advanced = Advanced { step, is_helped: state.has(State::HELPER), change, end: None };
    if matches!(step, Step::End | Step::Reopen) && table.kill(&found) {
        context.tally.ended += 1;
        advanced.end = Some(EventKind::Destroy(natural_end(found.entry.state())));
    }
    if step == Step::Reopen {
        // The packet is another connection's.
        tell(context, &found, &advanced);
        return Ok(Whose::Nobodys);
    }
    Ok(Whose::Advanced(found, advanced))
}

/// Who has opened the connection, if this is a reply.
fn opener<F: Tracked>(found: &Found<'_, F>) -> Option<u8> {
    if found.direction == Direction::Reply { found.entry.opener() } else { None }
}

/// Tells what a packet has changed.
pub(super) fn tell<F: Tracked, const HOOKED: bool>(context: &Context<'_, HOOKED>, found: &Found<'_, F>, advanced: &Advanced) {
    for event in advanced.change.into_iter().chain(advanced.end) {
        context.tell(event, found);
    }
}

/// Moves the state on. What is to be told of that.
#[inline(never)]
fn advance<F: Tracked, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &Frame<'_>,
    headers: &Headers,
    found: &Found<'_, F>,
) -> Way<(Step, Option<EventKind>)> {
    let packet = Whole { bytes: frame.bytes(), headers };
    validate(context, frame, packet)?;
    let reopens = matches!(headers.payload, Payload::Tcp(flags) if tcp::reopens(found, flags));
    if !reopens {
        // A packet that must wait for a neighbour comes here again: until it can go on, nothing of it is noted.
        forward::route(context, found)?;
    }
    let table = F::table(&context.datapath.conntrack);
    let connection = l4proto::Connection { found, table, settings: &context.snapshot.tracking, now: context.time() };
    let (before, since) = (found.entry.state(), found.entry.last_seen());
    let step = l4proto::packet(&connection, packet).map_err(DropReason::from)?;
    if matches!(headers.payload, Payload::Tcp(_)) && before.tcp() == TcpState::SynSent {
        handshake::note(context, found, since);
    }
    let after = found.entry.state();
    // Where the other direction changes it at the same moment that may be told twice.
    let change = (after.looks_different(before) && after.is_live()).then(|| {
        let assured = after.has(State::ASSURED) && !before.has(State::ASSURED);
        if assured { EventKind::Assured } else { EventKind::Update }
    });
    Ok((step, change))
}

/// A packet that opens or changes a connection must not be a damaged one: nobody behind weir would take back what it did.
fn validate<const HOOKED: bool>(context: &Context<'_, HOOKED>, frame: &Frame<'_>, packet: Whole<'_>) -> Way<()> {
    // A partial checksum cannot be told from a wrong one, nor can that of a fragment, which covers the others.
    if context.port(frame.port).recompute() || fragment::read(packet.bytes, packet.headers).is_some() {
        return Ok(());
    }
    if context.snapshot.tracking.checksum == Verify::None && packet.headers.payload != Payload::Sctp {
        return Ok(());
    }
    Ok(l4proto::error(packet).map_err(DropReason::from)?)
}

/// The backend for a first packet.
pub(super) fn dnat<'a, const HOOKED: bool>(
    context: &Context<'a, HOOKED>,
    frame: &Frame<'_>,
    headers: &Headers,
) -> Way<(Opening<'a>, State)> {
    let (bytes, snapshot) = (frame.bytes(), context.snapshot);
    let protocol = Protocol::from_number(headers.protocol).ok_or(DropReason::UnknownProtocol)?;
    let packet = Whole { bytes, headers };
    let (source_port, destination_port) = l4proto::shown(headers.protocol, l4proto::pkt_to_tuple(packet));
    let source = SocketAddr::new(headers.source(bytes), source_port);
    let destination = SocketAddr::new(headers.destination(bytes), destination_port);
    if !context.datapath.conntrack.expectations().is_empty()
        && let Some(opening) = expected::find(context, source, destination)
    {
        let state = check(context, frame, packet, source.ip())?;
        let bits = opening.expected.as_ref().map_or(0, expected::status);
        return Ok((opening, state.with(bits)));
    }
    let service = snapshot.services.find(destination.ip(), destination.port(), protocol).ok_or(DropReason::NoService)?;
    if !service.access.allows(source.ip()) {
        return Err(DropReason::AccessDenied.into());
    }
    let state = check(context, frame, packet, source.ip())?;
    let request = Request { client: source.ip(), client_port: source.port() };
    let Chosen { backend, seats } = choose(context, service, &request)?;
    let target = target(service, backend, destination.port());
    let state = seats.mark(state);
    Ok((Opening { service, backend, target, expected: None, seats }, state))
}

/// The state that a first packet begins with, if it may begin anything.
fn check<const HOOKED: bool>(context: &Context<'_, HOOKED>, frame: &Frame<'_>, packet: Whole<'_>, source: IpAddr) -> Way<State> {
    let state = l4proto::new(packet, &context.snapshot.tracking).map_err(DropReason::from)?;
    validate(context, frame, packet)?;
    check_source(&context.datapath.next_hops, context.snapshot, source)?;
    Ok(state)
}

/// A frame from outside with one of our own addresses or of this machine's as its source is forged, or has gone in a circle; one from a
/// broadcast address is forged, and its answer would go to everybody there (RFC 1812, section 5.3.7).
pub(super) fn check_source(next_hops: &NextHops, snapshot: &Snapshot, source: IpAddr) -> Result<(), DropReason> {
    if snapshot.own_addresses.contains(&source) {
        return Err(DropReason::OwnSource);
    }
    match next_hops.local(source) {
        Some(Local::Own) => Err(DropReason::OwnSource),
        Some(Local::Broadcast) => Err(DropReason::MartianSource),
        None => Ok(()),
    }
}

/// Address and port toward a backend, for a packet to this port of the service.
pub(super) fn target(service: &Service, backend: &Backend, port: u16) -> SocketAddr {
    let mut target = backend.address();
    if service.port.is_none() && service.protocol.has_ports() {
        target.set_port(port);
    }
    target
}
