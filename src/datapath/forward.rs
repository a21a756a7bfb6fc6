//! FORWARD: may it go on, and which way?

use super::hook::{Hook, Packet};
use super::link;
use super::prerouting::Connection;
use super::process::{Context, Tracked};
use super::verdict::{Verdict, Way};
use super::{DropReason, Frame, NextHop, NextHopId, Unreachable};
use crate::conntrack::Found;
use crate::packet::Headers;
use std::net::IpAddr;

/// The way a packet takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hop {
    pub id: NextHopId,
    pub to: NextHop,
}

/// Finds the next hop and checks TTL and size against it. Nothing of the packet has been changed when this refuses it.
#[inline(always)]
pub(super) fn route<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    connection: &Connection<'_, F>,
) -> Way<Hop> {
    let hop = match connection {
        Connection::Known(found) => next_hop(context, found)?,
        Connection::New(opening) => look_up(context, opening.target.ip())?,
    };
    // RFC 1812, section 5.3.1; RFC 8200, section 3: who would bring it to 0 does not send it on.
    if headers.ttl(frame.bytes()) <= 1 {
        return Err(DropReason::TtlExpired.into());
    }
    let mtu = context.port(hop.to.port).mtu();
    if headers.ip_length() > mtu as usize {
        context.mtu = mtu;
        return Err(if mtu == 0 { DropReason::PortDown } else { DropReason::TooBig }.into());
    }
    let lacking = link::lacks(frame, headers, hop.to);
    if lacking > 0 {
        context.mtu = headers.ip_length().saturating_sub(lacking) as u32;
        return Err(DropReason::TooBig.into());
    }
    if HOOKED {
        let connection = Some(connection.summary(headers));
        let mut packet = Packet { bytes: &mut frame.buffer[..frame.length], headers, port: frame.port, connection };
        context.datapath.hooks.run(Hook::Forward, i32::MIN..i32::MAX, &mut packet)?;
    }
    Ok(hop)
}

/// The next hop that the connection remembers, while routes stay and the neighbour is resolved.
#[inline(always)]
fn next_hop<F: Tracked, const HOOKED: bool>(context: &Context<'_, HOOKED>, found: &Found<'_, F>) -> Way<Hop> {
    if let Some(id) = found.entry.hop(found.direction, context.epoch).map(NextHopId)
        && let Some(to) = context.datapath.next_hops.get(id)
    {
        return Ok(Hop { id, to });
    }
    look_up_known(context, found)
}

#[cold]
fn look_up_known<F: Tracked, const HOOKED: bool>(context: &Context<'_, HOOKED>, found: &Found<'_, F>) -> Way<Hop> {
    // Where packets of this direction go is where packets of the other one come from.
    let other = found.entry.tuple(found.direction.turned());
    let hop = look_up(context, F::addresses(other.addresses).0)?;
    found.entry.set_hop(found.direction, context.epoch, hop.id.0);
    Ok(hop)
}

fn look_up<const HOOKED: bool>(context: &Context<'_, HOOKED>, destination: IpAddr) -> Way<Hop> {
    let next_hops = &context.datapath.next_hops;
    match next_hops.find(destination) {
        Ok(id) => next_hops.get(id).map(|to| Hop { id, to }).ok_or(DropReason::NeighbourUnresolved.into()),
        Err(Unreachable::NoRoute) => Err(DropReason::NoRoute.into()),
        Err(Unreachable::Unresolved(port, neighbour)) => Err(Verdict::Queue(port, neighbour)),
    }
}
