//! The short way of packets that change nothing: of the plain shape, in a connection that is known, steady and has a next hop. It is
//! what netfilter's flowtable is to its hooks.
//!
//! Everything is asked before anything is written, in as few instructions as it can be, at offsets known beforehand. A packet that does not
//! fit goes the whole way, untouched, where every question is asked once more by who knows what a no means.

use super::process::Context;
use super::{Fate, Frame, PortId, forward};
use crate::conntrack::l4proto::{tcp, udp};
use crate::conntrack::{Found, Guess, Table, Tables, Tuple, V4};
use crate::nat::manip_pkt;
use crate::packet::{Headers, Plain, Transport, ethernet, ipv4};

/// What the passes before this one have found out about some packets, an item each.
#[derive(Clone, Copy)]
pub(super) struct Packets<'a> {
    /// `None`: of another shape.
    pub plain: &'a [Option<Plain>],
    /// The tuples: addresses, and ports above the protocol.
    pub tuples: (&'a [u64], &'a [u64]),
    pub guesses: &'a [Guess],
}

/// Sends packets on up to the first one that does not fit; how many. A loop of its own, so that what all packets need stays in registers.
#[inline(never)]
pub(super) fn send_while_steady<const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frames: &mut [Frame<'_>],
    packets: Packets<'_>,
) -> usize {
    let tuples = packets.tuples.0.iter().zip(packets.tuples.1);
    let all = frames.iter_mut().zip(packets.plain).zip(tuples).zip(packets.guesses);
    for (sent, (((frame, plain), (addresses, ports)), guess)) in all.enumerate() {
        let tuple = Tuple { addresses: *addresses, ports: (*ports >> 8) as u32, protocol: *ports as u8 };
        let Some(port) = plain.and_then(|plain| send(context, frame, plain, &tuple, *guess)) else { return sent };
        frame.fate = Fate::Transmit(port);
    }
    packets.plain.len()
}

/// Rewrites the packet and says where it leaves; `None`: nothing was done.
#[inline(always)]
fn send<const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    plain: Plain,
    tuple: &Tuple<V4>,
    guess: Guess,
) -> Option<PortId> {
    let table: &Table<V4> = context.datapath.conntrack.table();
    let found = table.guessed(guess, tuple)?;
    let hop = forward::remembered(context, &found)?;
    let (came, leaves) = (context.port(frame.port), context.port(hop.port()));
    let bytes = frame.buffer.get_mut(..frame.length)?;
    let (head, behind) = bytes.split_first_chunk_mut::<{ Plain::HEAD }>()?;
    let length = usize::from(plain.end) - Plain::L3;
    let goes_on = head[Plain::L3 + ipv4::TTL] > 1 && length <= leaves.mtu() as usize && hop.vlan() == 0 && !came.recompute();
    if !goes_on || !is_steady(&found, plain, head, behind) {
        return None;
    }
    let headers = Headers { end: Plain::HEAD as u16, ..plain.headers() };
    manip_pkt(head, &headers, tuple, &found.entry.tuple(found.direction.turned()));
    ethernet::set_addresses(head, hop.mac() >> 16, leaves.mac_bits());
    if let Some(account) = table.account(&found) {
        account.count(found.direction, length);
    }
    found.entry.touch(context.now);
    Some(hop.port())
}

/// Whether the connection goes on as it is; if so, the packet is noted.
#[inline(always)]
fn is_steady(found: &Found<'_, V4>, plain: Plain, head: &[u8; Plain::HEAD], behind: &[u8]) -> bool {
    let state = found.entry.state();
    match plain.transport {
        Transport::Tcp => {
            let Some(header) = head.last_chunk() else { return false };
            let length = usize::from(plain.end) - Plain::L4;
            tcp::advance_steady(found.entry, found.direction, state, plain.flags, (header, behind), length)
        }
        Transport::Udp => state.is_live() && udp::is_steady(state, found.direction),
    }
}
