//! POSTROUTING: a new connection gets its local address and port (snat, priority 100) and is confirmed (last); then the packet is
//! rewritten, all of it, and leaves.

use super::hook::{Hook, Packet};
use super::link;
use super::next_hop::Hop;
use super::prerouting::Opening;
use super::process::Context;
use super::tracked::Tracked;
use super::tuples::Lookup;
use super::verdict::{Verdict, Way};
use super::{DropReason, Frame, PortId, connection_closed, expected};
use crate::conntrack::l4proto::{self, L4Proto, Packet as Whole, gre::Gre};
use crate::conntrack::{
    Confirmed, ConnectionView, DestroyReason, Direction, EventKind, Found, Owner, Room, State, Table, Unconfirmed, Visit,
};
use crate::nat::{Allocation, Home, Sources, manip_pkt, recompute_checksum, unique_tuple};
use crate::packet::Headers;
use std::sync::atomic::Ordering::Relaxed;

/// Opens a connection, takes a SNAT port for it, and puts it into the table.
pub(super) fn confirm<'a, F: Tracked, const HOOKED: bool>(
    context: &mut Context<'a, HOOKED>,
    visit: &mut Visit<'_>,
    lookup: &Lookup<F>,
    (opening, hop): (&Opening<'_>, Hop),
    state: State,
    packet: Whole<'_>,
) -> Way<Found<'a, F>> {
    let owner = Owner { service: opening.service.id.0, backend: opening.backend.id.0 };
    // Before anything else is taken: one announcement is one connection.
    if opening.expected.as_ref().is_some_and(|expected| !context.datapath.conntrack.expectations().take(expected)) {
        return Err(Verdict::Repeat);
    }
    let opened = open(context, visit, lookup, (opening, owner, hop), state, packet);
    if let (Err(Verdict::Drop(_)), Some(expected)) = (&opened, &opening.expected) {
        // What stood in its way may be gone when the packet is sent again.
        context.datapath.conntrack.expectations().announce(expected.clone());
    }
    opened
}

fn open<'a, F: Tracked, const HOOKED: bool>(
    context: &mut Context<'a, HOOKED>,
    visit: &mut Visit<'_>,
    lookup: &Lookup<F>,
    (opening, owner, hop): (&Opening<'_>, Owner, Hop),
    state: State,
    packet: Whole<'_>,
) -> Way<Found<'a, F>> {
    let table = F::table(&context.datapath.conntrack);
    if !table.has_room(F::hoard(visit)) {
        make_room(context, visit, lookup);
    }
    let connection =
        table.open(F::hoard(visit), &lookup.tuple, lookup.hash, owner, state, context.time()).ok_or(DropReason::TableFull)?;
    l4proto::begin(connection.entry, packet);
    let home = home(context, opening, state.protocol(), hop);
    let allocation = match &opening.expected {
        None => {
            let (toward, sources) = ((&**opening.backend, opening.target), Sources::from(&context.snapshot.snat));
            unique_tuple(table, &connection, toward, (sources, home), context.now)
        }
        Some(expected) => expected::allocate(context, &connection, opening, (expected, home)),
    };
    let refused = match allocation {
        Allocation::Taken => None,
        Allocation::Away => {
            context.tally.homeless += 1;
            None
        }
        Allocation::Exhausted if lookup.tuple.protocol == Gre::NUMBER => Some(DropReason::GreClash),
        Allocation::Exhausted => Some(DropReason::NoSnatPort),
        Allocation::TableFull => Some(DropReason::TableFull),
    };
    if let Some(reason) = refused {
        table.discard(F::hoard(visit), connection);
        return Err(reason.into());
    }
    if opening.expected.is_some() || opening.service.helper.is_some() {
        extend(table, &connection, opening);
    }
    let reply = home.map(|_| connection.entry.tuple(Direction::Reply));
    let confirmed = table.confirm(connection);
    if let (Confirmed::Clash | Confirmed::Full, Some(homes), Some(reply)) = (&confirmed, context.homes(), reply) {
        homes.release_reply(reply.protocol, &reply.view());
    }
    match confirmed {
        Confirmed::Placed(found) => {
            context.tally.opened += 1;
            context.tally.expected += u64::from(opening.expected.is_some());
            opening.backend.total_connections.fetch_add(1, Relaxed);
            Ok(found)
        }
        // Another worker opened it at the same moment: the packet goes the way of that one.
        Confirmed::Clash => Err(Verdict::Repeat),
        Confirmed::Full => Err(DropReason::TableFull.into()),
    }
}

/// Where replies of a new connection are to come in: at the interface that its first packet leaves by.
#[inline(always)]
fn home<'a, const HOOKED: bool>(
    context: &Context<'a, HOOKED>,
    opening: &Opening<'_>,
    protocol: u8,
    hop: Hop,
) -> Option<Home<'a>> {
    let interface = usize::from(hop.port().0);
    context.homes()?.find(usize::from(context.worker), opening.backend.id, opening.target, protocol, interface)
}

/// Gives a record to a control connection, or to a data connection, which notes its master there. Without room for one, the one goes on
/// without a helper and the other without a name for its master.
#[cold]
#[inline(never)]
fn extend<F: Tracked>(table: &Table<F>, connection: &Unconfirmed<'_, F>, opening: &Opening<'_>) {
    let Some(record) = table.extend(connection) else { return };
    match &opening.expected {
        Some(expected) => record.set_master(expected),
        None => table.mark_helped(connection),
    }
}

/// In a full table the place of one that has ended is taken, or another connection gives way. Its entry is this worker's from one of the next bursts on: the newcomer takes one
/// that was given up before, if there is one.
#[cold]
#[inline(never)]
fn make_room<F: Tracked, const HOOKED: bool>(context: &mut Context<'_, HOOKED>, visit: &mut Visit<'_>, lookup: &Lookup<F>) {
    let (snapshot, homes, now) = (context.snapshot, context.homes(), context.now);
    let table = F::table(&context.datapath.conntrack);
    let mut closed = |connection: &ConnectionView| {
        context.datapath.conntrack.conncount().closed(connection);
        connection_closed(snapshot, homes, connection);
    };
    let room = table.early_drop(F::hoard(visit), lookup.hash, snapshot.spared, (now, &snapshot.timeouts), &mut closed);
    let Room::Evicted(evicted) = room else { return };
    closed(&evicted);
    context.tally.early_drops += 1;
    context.tally.ended += 1;
    if context.teller.is_heard() {
        context.teller.tell(EventKind::Destroy(DestroyReason::EarlyDrop), now, evicted);
    }
}

/// Asks the registered handlers: all of them while the packet is as it came and nobody else knows its connection, so that one that is
/// refused leaves nothing behind and one that begins anew is not half translated.
#[inline(always)]
pub(super) fn run_handlers<const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    connection: impl FnOnce() -> (Direction, State),
) -> Way<()> {
    if !HOOKED {
        return Ok(());
    }
    let connection = Some(connection());
    let mut packet = Packet { bytes: &mut frame.buffer[..frame.length], headers, port: frame.port, connection };
    context.datapath.hooks.run(Hook::Postrouting, i32::MIN..i32::MAX, &mut packet)
}

/// Rewrites the packet from the addresses it came with to those it leaves with, which are the inverted tuple of the other direction,
/// and sends it on.
#[inline(always)]
pub(super) fn leave<F: Tracked, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
    found: &Found<'_, F>,
    hop: Hop,
) -> PortId {
    let other = found.entry.tuple(found.direction.turned());
    let bytes = &mut frame.buffer[..frame.length];
    manip_pkt(bytes, headers, &lookup.tuple, &other);
    if context.port(frame.port).recompute() {
        recompute_checksum(bytes, headers);
    }
    if let Some(account) = F::table(&context.datapath.conntrack).account(found) {
        account.count(found.direction, headers.ip_length());
    }
    link::address(context.port(hop.port()), frame, headers, hop);
    hop.port()
}
