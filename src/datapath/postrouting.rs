//! POSTROUTING: a new connection gets its local address and port (snat, priority 100) and is confirmed (last); then the packet is
//! rewritten, all of it, and leaves.

use super::forward::Hop;
use super::hook::{Hook, Packet, priority};
use super::link;
use super::prerouting::{Connection, Opening};
use super::process::{Context, Lookup, Tracked};
use super::verdict::{Verdict, Way};
use super::{DropReason, Fate, Frame};
use crate::conntrack::{Confirmed, Direction, Entry, Found, Owner, TcpState, Visit};
use crate::nat::{Allocation, decrement_ttl, manip_pkt, recompute_checksum, unique_tuple};
use crate::packet::{Headers, Payload};
use std::sync::atomic::Ordering::Relaxed;

/// Sends the packet on its way.
#[inline(always)]
pub(super) fn leave<'a, F: Tracked, const HOOKED: bool>(
    context: &mut Context<'a, HOOKED>,
    visit: &mut Visit<'_>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
    (connection, hop): (Connection<'a, F>, Hop),
) -> Way<Fate> {
    if HOOKED {
        run_handlers(context, frame, headers, i32::MIN..priority::NAT_SRC, &connection)?;
    }
    let found = match connection {
        Connection::Known(found) => {
            context.tally.established += 1;
            found
        }
        Connection::New(opening) => {
            let entry = confirm(context, visit, headers, lookup, &opening)?;
            entry.set_hop(Direction::Original, context.epoch, hop.id.0);
            Found { entry, direction: Direction::Original }
        }
    };
    rewrite(context, frame, headers, lookup, &found);
    if HOOKED {
        let connection = Connection::Known(found);
        run_handlers(context, frame, headers, priority::NAT_SRC..i32::MAX, &connection)?;
    }
    Ok(Fate::Transmit(link::address(context.port(hop.to.port).mac(), frame, headers, hop.to)))
}

#[cold]
fn run_handlers<F: Tracked, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    range: std::ops::Range<i32>,
    connection: &Connection<'_, F>,
) -> Way<()> {
    let connection = Some(connection.summary(headers));
    let mut packet = Packet { bytes: &mut frame.buffer[..frame.length], headers, port: frame.port, connection };
    context.datapath.hooks.run(Hook::Postrouting, range, &mut packet)
}

/// Opens a connection, takes a SNAT port for it, and puts it into the table.
fn confirm<'a, F: Tracked, const HOOKED: bool>(
    context: &mut Context<'a, HOOKED>,
    visit: &mut Visit<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
    opening: &Opening<'_>,
) -> Way<&'a Entry<F>> {
    let table = F::table(&context.datapath.conntrack);
    let owner = Owner { service: opening.service.id.0, backend: opening.backend.id.0 };
    let tcp = if matches!(headers.payload, Payload::Tcp(_)) { TcpState::SynSent } else { TcpState::None };
    let connection =
        table.open(F::hoard(visit), &lookup.tuple, lookup.hash, owner, tcp, context.now).ok_or(DropReason::TableFull)?;
    match unique_tuple(table, &connection, opening.backend, opening.target, &context.snapshot.snat, context.now) {
        Allocation::Taken => {}
        Allocation::Exhausted => {
            table.discard(F::hoard(visit), connection);
            return Err(DropReason::NoSnatPort.into());
        }
        Allocation::TableFull => {
            table.discard(F::hoard(visit), connection);
            return Err(DropReason::TableFull.into());
        }
    }
    match table.confirm(connection) {
        Confirmed::Placed(entry) => {
            context.tally.opened += 1;
            opening.backend.member.connection_opened();
            opening.backend.total_connections.fetch_add(1, Relaxed);
            Ok(entry)
        }
        // Another worker opened it at the same moment: the packet goes the way of that one.
        Confirmed::Clash(_) => Err(Verdict::Repeat),
        Confirmed::Full => Err(DropReason::TableFull.into()),
    }
}

/// From the addresses it came with to those it leaves with: the inverted tuple of the other direction.
#[inline(always)]
fn rewrite<F: Tracked, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
    found: &Found<'_, F>,
) {
    let to = found.entry.tuple(found.direction.turned()).inverted();
    let recompute = context.port(frame.port).recompute();
    let bytes = &mut frame.buffer[..frame.length];
    manip_pkt(bytes, headers, &lookup.tuple, &to);
    decrement_ttl(bytes, headers);
    if recompute {
        recompute_checksum(bytes, headers);
    }
    found.entry.account(found.direction, headers.ip_length(), context.now);
}
