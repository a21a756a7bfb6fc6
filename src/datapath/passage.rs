//! The way of one packet that makes connections through the hooks.

use super::hook::priority;
use super::prerouting::{Advanced, Whose};
use super::process::Context;
use super::tracked::Tracked;
use super::tuples::Lookup;
use super::verdict::Way;
use super::{Frame, PortId, forward, helped, local_out, postrouting, prerouting};
use crate::conntrack::l4proto::{self, Step};
use crate::conntrack::{Direction, EventKind, Found, State, TcpState, Visit};
use crate::packet::{Headers, Payload};

/// Pass 3 for one packet, the whole way: of a known connection in a straight line, of a new one through [`open`].
#[inline(never)]
pub(super) fn run_hooks<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    visit: &mut Visit<'_>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
) -> Way<PortId> {
    prerouting::run_handlers(context, frame, headers, i32::MIN..priority::CONNTRACK, || None)?;
    match prerouting::conntrack_in(context, frame, headers, lookup)? {
        Whose::Connections(found) => {
            let port = go_on(context, frame, headers, lookup, &found)?;
            found.entry.touch(context.now);
            Ok(port)
        }
        Whose::Advanced(found, advanced) => go_on_advanced(context, frame, headers, lookup, (&found, &advanced)),
        Whose::Nobodys => open(context, visit, frame, headers, lookup),
    }
}

/// The way of a packet that its protocol has looked at. What it changed is told behind it, so that the account has it; also where it got
/// no further, for the change stays.
#[inline(never)]
fn go_on_advanced<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
    (found, advanced): (&Found<'_, F>, &Advanced),
) -> Way<PortId> {
    let way = match advanced.is_helped {
        true => helped::process(context, frame, headers, lookup, found),
        false => go_on(context, frame, headers, lookup, found),
    };
    if way.is_ok() && advanced.step != Step::Ignore {
        found.entry.touch(context.now);
    }
    prerouting::tell(context, found, advanced);
    way
}

/// The way of a packet of a known connection from conntrack_in on.
#[inline(always)]
fn go_on<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
    found: &Found<'_, F>,
) -> Way<PortId> {
    let summary = || (found.direction, found.entry.state());
    prerouting::run_handlers(context, frame, headers, priority::CONNTRACK..i32::MAX, || Some(summary()))?;
    let hop = forward::route(context, found)?;
    forward::admit(context, frame, headers, hop, summary)?;
    postrouting::run_handlers(context, frame, headers, summary)?;
    context.tally.established += 1;
    Ok(postrouting::leave(context, frame, headers, lookup, found, hop))
}

/// The way of a first packet from conntrack_in on.
#[inline(never)]
fn open<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    visit: &mut Visit<'_>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
) -> Way<PortId> {
    let summary = || (Direction::Original, State::new(headers.protocol, TcpState::None));
    prerouting::run_handlers(context, frame, headers, priority::CONNTRACK..priority::NAT_DST, || Some(summary()))?;
    let decided = prerouting::dnat(context, frame, headers);
    let (opening, state) = decided.map_err(|refused| local_out::tell_again(context, frame, headers, lookup, refused))?;
    prerouting::run_handlers(context, frame, headers, priority::NAT_DST..i32::MAX, || Some(summary()))?;
    let (id, hop) = forward::route_opening(context, &opening)?;
    forward::admit(context, frame, headers, hop, summary)?;
    postrouting::run_handlers(context, frame, headers, summary)?;
    let packet = l4proto::Packet { bytes: frame.bytes(), headers };
    let found = postrouting::confirm(context, visit, lookup, (&opening, hop), state, packet)?;
    opening.seats.keep();
    found.entry.set_hop(Direction::Original, context.epoch, id.0);
    // Of other protocols no card says where replies come in.
    if opening.expected.is_none() && matches!(headers.payload, Payload::Tcp(_) | Payload::Udp) {
        found.entry.set_opener(context.worker);
    }
    let port = postrouting::leave(context, frame, headers, lookup, &found, hop);
    context.tell(EventKind::New, &found);
    Ok(port)
}
