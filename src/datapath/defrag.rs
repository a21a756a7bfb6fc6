//! PREROUTING at priority -400: fragments. They are not put together; each goes the way that the first one of its datagram went.
//!
//! The first one has the ports: it is tracked and translated like a whole packet, and what became of it is noted. The transport
//! checksum stands in it, too, and the difference that addresses and ports make is the same whatever the others carry. A later one is given
//! the ports that were noted, finds its connection by them, and gets new addresses. One that comes before the first waits for it.

use super::hook::priority;
use super::passage::run_hooks;
use super::process::{Context, look_up};
use super::tracked::Tracked;
use super::verdict::{Verdict, Way};
use super::{DropReason, Frame, PortId, forward, link, postrouting, prerouting};
use crate::conntrack::l4proto::{
    L4Proto,
    tcp::{self, Tcp},
};
use crate::conntrack::{Datagram, Decision, Fragments, Known, Passed, Tuple, V4, V6, Visit, l4proto};
use crate::packet::fragment::{self, Fragment, can_be_followed};
use crate::packet::tcp::flag;
use crate::packet::{self, Headers, Ip, Payload, be32, ipv6};

/// The whole way of a fragment.
#[inline(never)]
pub(super) fn process<const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    visit: &mut Visit<'_>,
    frame: &mut Frame<'_>,
    headers: &Headers,
) -> Way<PortId> {
    let fragment = fragment::read(frame.bytes(), headers).ok_or(DropReason::Fragment)?;
    if !is_followed(headers, &fragment) {
        return Err(DropReason::Fragment.into());
    }
    if fragment.is_malformed() {
        return Err(DropReason::FragmentMalformed.into());
    }
    let datagram = Datagram::of(frame.bytes(), headers, &fragment);
    let fragments = context.datapath.conntrack.fragments();
    match (fragment.is_first(), fragments.find(&datagram, context.now)) {
        (true, Some(known)) if !known.is_over(context.now) => Err(repeated(fragments, &known, &fragment).into()),
        (true, _) => first(context, visit, frame, headers, (&datagram, &fragment)),
        (false, None) => Err(Verdict::Gather),
        (false, Some(known)) => match headers.ip {
            Ip::V4 => follow::<V4, HOOKED>(context, frame, headers, &known, &fragment),
            Ip::V6 => follow::<V6, HOOKED>(context, frame, headers, &known, &fragment),
        },
    }
}

/// Whether weir can translate a datagram of this protocol in pieces. What a later IPv6 fragment carries may stand behind extension headers
/// that only the first one has.
fn is_followed(headers: &Headers, fragment: &Fragment) -> bool {
    match headers.protocol {
        ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => headers.ip == Ip::V6 && !fragment.is_first(),
        protocol => can_be_followed(protocol),
    }
}

/// A first fragment where there was one already.
fn repeated(fragments: &Fragments, known: &Known<'_>, fragment: &Fragment) -> DropReason {
    match known.decision {
        Decision::Refused => DropReason::FragmentRefused,
        Decision::Overlapped => DropReason::FragmentOverlap,
        Decision::Forwarded { .. } => pass(fragments, known, fragment).err().unwrap_or(DropReason::FragmentDuplicate),
    }
}

/// Whether a fragment may go on beside those that went before it.
fn pass(fragments: &Fragments, known: &Known<'_>, fragment: &Fragment) -> Result<(), DropReason> {
    match fragments.pass(known, fragment) {
        Passed::On => Ok(()),
        Passed::Duplicate => Err(DropReason::FragmentDuplicate),
        Passed::Overlap => Err(DropReason::FragmentOverlap),
        Passed::Excess => Err(DropReason::FragmentExcess),
    }
}

/// The way of a first fragment, and a note of what became of it for those that follow.
fn first<const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    visit: &mut Visit<'_>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    (datagram, fragment): (&Datagram, &Fragment),
) -> Way<PortId> {
    let now = context.now;
    let ((ports, sequence), way) = match as_whole(frame.bytes(), headers) {
        Ok(whole) => {
            // Before it is rewritten.
            let ports = l4proto::pkt_to_tuple(l4proto::Packet { bytes: frame.bytes(), headers: &whole });
            let sequence = sequence_of(frame.bytes(), &whole, fragment);
            ((ports, sequence), send_whole(context, visit, frame, &whole))
        }
        Err(reason) => ((0, 0), Err(reason.into())),
    };
    let decision = match way {
        Ok(_) => Decision::Forwarded { protocol: headers.protocol, ports, sequence },
        Err(Verdict::Drop(_) | Verdict::Reject(_) | Verdict::Stolen) => Decision::Refused,
        // It will come here again.
        Err(_) => return way,
    };
    let fragments = context.datapath.conntrack.fragments();
    if let Some(known) = fragments.decide(datagram, decision, now)
        && way.is_ok()
    {
        // The first of all: whatever else came meanwhile, it is on its way.
        let _ = fragments.pass(&known, fragment);
    }
    way
}

/// A first fragment as if it were all of its packet.
fn as_whole(bytes: &[u8], headers: &Headers) -> Result<Headers, DropReason> {
    let payload = fragment::first_payload(bytes, headers).ok_or(DropReason::FragmentTiny)?;
    let whole = Headers { payload: payload.map_err(DropReason::from)?, ..*headers };
    // ICMP errors are too short to come in pieces; other messages have no connection.
    if l4proto::is_tracked(&whole) { Ok(whole) } else { Err(DropReason::Fragment) }
}

/// The sequence number that the first byte of the datagram would have, so that its end is the segment's: less what is in front of the
/// segment's data, more what SYN and FIN count (RFC 9293, section 3.4). 0 for other protocols than TCP.
fn sequence_of(bytes: &[u8], headers: &Headers, fragment: &Fragment) -> u32 {
    let Payload::Tcp(flags) = headers.payload else { return 0 };
    let segment = &bytes[headers.l4()..usize::from(headers.end)];
    let in_front = usize::from(fragment.length) - segment.len() + usize::from(segment[packet::tcp::DATA_OFFSET] >> 4) * 4;
    let counted = u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
    be32(segment, packet::tcp::SEQUENCE).wrapping_add(counted).wrapping_sub(in_front as u32)
}

fn send_whole<const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    visit: &mut Visit<'_>,
    frame: &mut Frame<'_>,
    headers: &Headers,
) -> Way<PortId> {
    match headers.ip {
        Ip::V4 => {
            let lookup = look_up::<V4, HOOKED>(context, frame, headers);
            run_hooks(context, visit, frame, headers, &lookup)
        }
        Ip::V6 => {
            let lookup = look_up::<V6, HOOKED>(context, frame, headers);
            run_hooks(context, visit, frame, headers, &lookup)
        }
    }
}

/// The way of a later fragment: that of the first one, with no ports to rewrite and no checksum to update.
fn follow<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    known: &Known<'_>,
    fragment: &Fragment,
) -> Way<PortId> {
    let (protocol, ports, sequence) = match known.decision {
        Decision::Forwarded { protocol, ports, sequence } => (protocol, ports, sequence),
        Decision::Refused => return Err(DropReason::FragmentRefused.into()),
        Decision::Overlapped => return Err(DropReason::FragmentOverlap.into()),
    };
    prerouting::run_handlers(context, frame, headers, i32::MIN..priority::CONNTRACK, || None)?;
    let table = F::table(&context.datapath.conntrack);
    let tuple = Tuple::<F> { addresses: F::read(frame.bytes(), headers), ports, protocol };
    // Gone since the first one: who took its place is not asked for.
    let found = table.look_up(table.hash(&tuple), &tuple).ok_or(DropReason::FragmentRefused)?;
    let summary = || (found.direction, found.entry.state());
    prerouting::run_handlers(context, frame, headers, priority::CONNTRACK..i32::MAX, || Some(summary()))?;
    let hop = forward::route(context, &found)?;
    forward::admit(context, frame, headers, hop, summary)?;
    postrouting::run_handlers(context, frame, headers, summary)?;
    pass(context.datapath.conntrack.fragments(), known, fragment)?;

    let to = found.entry.tuple(found.direction.turned()).inverted();
    F::write(&mut frame.buffer[..frame.length], headers, tuple.addresses, to.addresses);
    if protocol == Tcp::NUMBER {
        // Or the ACK of all of the segment would be one of what nobody sent.
        tcp::note_end(found.entry, found.direction, sequence.wrapping_add(fragment.end() as u32));
    }
    found.entry.touch(context.now);
    if let Some(account) = table.account(&found) {
        account.count(found.direction, headers.ip_length());
    }
    context.tally.established += 1;
    link::address(context.port(hop.port()), frame, headers, hop);
    Ok(hop.port())
}
