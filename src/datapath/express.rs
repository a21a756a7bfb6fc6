//! The short way of packets that change nothing: of the plain shape, in a connection that is known, steady and has a next hop. It is
//! what netfilter's flowtable is to its hooks.
//!
//! Everything is asked before anything is written, in as few instructions as it can be, at offsets known beforehand. A packet that does not
//! fit goes the whole way, untouched, where every question is asked once more by who knows what a no means.

use super::process::Context;
use super::tracked::Tracked;
use super::tuples::{Lanes, Lookup, Tuples};
use super::{Fate, Frame, PortId, forward};
use crate::conntrack::Found;
use crate::conntrack::l4proto::{tcp, udp};
use crate::nat::manip_pkt;
use crate::packet::{Headers, Plain, Transport, ethernet};
use std::ops::Range;

/// Sends plain packets on up to the first one that does not fit; how many. A loop of its own, so that what all packets need stays in
/// registers.
#[inline(never)]
pub(super) fn send_while_steady<F: Lanes, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    burst: &mut [Frame<'_>],
    tuples: &Tuples<F>,
    packets: Range<usize>,
) -> usize {
    let all = burst[packets.clone()].iter_mut().zip(tuples.shapes(packets.clone()));
    for (sent, (frame, plain)) in all.enumerate() {
        let Some(port) = send(context, frame, *plain, &tuples.lookup(packets.start + sent)) else { return sent };
        frame.fate = Fate::Transmit(port);
    }
    packets.len()
}

/// Rewrites the packet and says where it leaves; `None`: nothing was done.
#[inline(always)]
fn send<F: Tracked, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    plain: Plain,
    lookup: &Lookup<F>,
) -> Option<PortId> {
    let table = F::table(&context.datapath.conntrack);
    let found = table.guessed(lookup.guess, &lookup.tuple)?;
    let hop = forward::remembered(context, &found)?;
    let (came, leaves) = (context.port(frame.port), context.port(hop.port()));
    // Of the room, not of what is filled: the shortest datagrams over IPv6 end before.
    let (head, behind) = frame.buffer.split_at_mut_checked(F::HEAD)?;
    let length = usize::from(plain.end) - Plain::L3;
    let goes_on = head[F::TTL] > 1 && length <= leaves.mtu() as usize && hop.vlan() == 0 && !came.recompute();
    if !goes_on || !is_steady(&found, plain, head, behind) {
        return None;
    }
    let headers = Headers { end: F::HEAD as u16, ..plain.headers(F::IP) };
    manip_pkt(head, &headers, &lookup.tuple, &found.entry.tuple(found.direction.turned()));
    ethernet::set_addresses(head, hop.mac() >> 16, leaves.mac_bits());
    if let Some(account) = table.account(&found) {
        account.count(found.direction, length);
    }
    found.entry.touch(context.now);
    Some(hop.port())
}

/// Whether the connection goes on as it is; if so, the packet is noted.
#[inline(always)]
fn is_steady<F: Tracked>(found: &Found<'_, F>, plain: Plain, head: &[u8], behind: &[u8]) -> bool {
    let state = found.entry.state();
    match plain.transport {
        Transport::Tcp => {
            let Some(header) = head.last_chunk() else { return false };
            let length = usize::from(plain.end) - F::L4;
            tcp::advance_steady(found.entry, found.direction, state, plain.flags, (header, behind), length)
        }
        Transport::Udp => state.is_live() && udp::is_steady(state, found.direction),
    }
}
