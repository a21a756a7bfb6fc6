//! FORWARD: may it go on, and which way?

use super::hook::{Hook, Packet};
use super::link;
use super::next_hop::Hop;
use super::prerouting::Opening;
use super::process::Context;
use super::tracked::Tracked;
use super::verdict::{Verdict, Way};
use super::{DropReason, Frame, NextHopId, Unreachable};
use crate::conntrack::{Direction, Found, State};
use crate::packet::Headers;
use crate::service::Backend;
use std::net::IpAddr;

/// The next hop of a packet of a known connection.
#[inline(always)]
pub(super) fn route<F: Tracked, const HOOKED: bool>(context: &Context<'_, HOOKED>, found: &Found<'_, F>) -> Way<Hop> {
    match remembered(context, found) {
        Some(hop) => Ok(hop),
        None => route_anew(context, found),
    }
}

/// The next hop that the connection remembers, while routes stay and the neighbour is resolved.
#[inline(always)]
pub(super) fn remembered<F: Tracked, const HOOKED: bool>(context: &Context<'_, HOOKED>, found: &Found<'_, F>) -> Option<Hop> {
    context.datapath.next_hops.hop(NextHopId(found.entry.hop(found.direction, context.epoch)?))
}

#[cold]
#[inline(never)]
fn route_anew<F: Tracked, const HOOKED: bool>(context: &Context<'_, HOOKED>, found: &Found<'_, F>) -> Way<Hop> {
    // Where packets of this direction go is where packets of the other one come from.
    let other = found.entry.tuple(found.direction.turned());
    let (id, hop) = route_to(context, F::addresses(other.addresses).0)?;
    found.entry.set_hop(found.direction, context.epoch, id.0);
    Ok(hop)
}

/// The next hop of a connection's first packet.
#[inline]
pub(super) fn route_opening<const HOOKED: bool>(context: &Context<'_, HOOKED>, opening: &Opening<'_>) -> Way<(NextHopId, Hop)> {
    // An announced one may go to a client.
    if opening.expected.is_some() { route_to(context, opening.target.ip()) } else { route_to_backend(context, opening.backend) }
}

/// The next hop toward a backend: the one it was last reached by, while routes stay.
#[inline]
fn route_to_backend<const HOOKED: bool>(context: &Context<'_, HOOKED>, backend: &Backend) -> Way<(NextHopId, Hop)> {
    if let Some(id) = backend.hop(context.epoch).map(NextHopId)
        && let Some(hop) = context.datapath.next_hops.hop(id)
    {
        return Ok((id, hop));
    }
    let (id, hop) = route_to(context, backend.address().ip())?;
    backend.set_hop(context.epoch, id.0);
    Ok((id, hop))
}

/// The next hop toward an address.
fn route_to<const HOOKED: bool>(context: &Context<'_, HOOKED>, destination: IpAddr) -> Way<(NextHopId, Hop)> {
    let next_hops = &context.datapath.next_hops;
    match next_hops.find(destination) {
        Ok(id) => next_hops.hop(id).map(|hop| (id, hop)).ok_or(DropReason::NeighbourUnresolved.into()),
        Err(Unreachable::NoRoute) => Err(DropReason::NoRoute.into()),
        Err(Unreachable::Unresolved(port, neighbour)) => Err(Verdict::Queue(port, neighbour)),
    }
}

/// Checks TTL and size, and asks the handlers registered here. Nothing of the packet has been changed when this refuses it.
#[inline(always)]
pub(super) fn admit<const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    hop: Hop,
    connection: impl FnOnce() -> (Direction, State),
) -> Way<()> {
    // RFC 1812, section 5.3.1; RFC 8200, section 3: who would bring it to 0 does not send it on.
    if headers.ttl(frame.bytes()) <= 1 {
        return Err(DropReason::TtlExpired.into());
    }
    let mtu = context.port(hop.port()).mtu();
    if headers.ip_length() > mtu as usize {
        context.mtu = mtu;
        return Err(if mtu == 0 { DropReason::PortDown } else { DropReason::TooBig }.into());
    }
    let lacking = link::lacks(frame, headers, hop);
    if lacking > 0 {
        context.mtu = headers.ip_length().saturating_sub(lacking) as u32;
        return Err(DropReason::TooBig.into());
    }
    if HOOKED {
        let mut packet =
            Packet { bytes: &mut frame.buffer[..frame.length], headers, port: frame.port, connection: Some(connection()) };
        context.datapath.hooks.run(Hook::Forward, i32::MIN..i32::MAX, &mut packet)?;
    }
    Ok(())
}
