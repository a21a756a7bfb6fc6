//! ICMP errors about packets of known connections (`nf_conntrack_inet_error`, IP_CT_RELATED): found by the packet that they quote, translated
//! inside and outside, and sent to whoever sent that packet. They belong to the connection but neither refresh nor change it.

use super::hook::priority;
use super::prerouting::check_source;
use super::process::{Context, tuple};
use super::tracked::Tracked;
use super::verdict::Way;
use super::{DropReason, Frame, PortId, forward, link, postrouting, prerouting};
use crate::conntrack::{Found, V4, V6};
use crate::nat::icmp_reply_translation;
use crate::packet::{Headers, Ip, icmp, quote};

/// Whether an ICMP message of this type may be related to a connection. Redirects are not: whom they send elsewhere never saw the
/// translated addresses (`nf_nat_icmp_reply_translation`). Nor are ICMPv6 errors that RFC 4443 does not know.
pub(super) fn may_be(ip: Ip, kind: u8) -> bool {
    match ip {
        Ip::V4 => icmp::v4::is_error(kind) && kind != icmp::v4::REDIRECT,
        Ip::V6 => (icmp::v6::UNREACHABLE..=icmp::v6::PARAMETER_PROBLEM).contains(&kind),
    }
}

/// The whole way of an ICMP error.
#[inline(never)]
pub(super) fn process<const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
) -> Way<PortId> {
    match headers.ip {
        Ip::V4 => process_of::<V4, HOOKED>(context, frame, headers),
        Ip::V6 => process_of::<V6, HOOKED>(context, frame, headers),
    }
}

fn process_of<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
) -> Way<PortId> {
    prerouting::run_handlers(context, frame, headers, i32::MIN..priority::CONNTRACK, || None)?;
    let quoted = check(frame.bytes(), headers)?;
    check_source(&context.datapath.next_hops, context.snapshot, headers.source(frame.bytes()))?;
    let found = find::<F, HOOKED>(context, frame.bytes(), &quoted).ok_or(DropReason::IcmpUnrelated)?;
    let summary = || (found.direction, found.entry.state());
    prerouting::run_handlers(context, frame, headers, priority::CONNTRACK..i32::MAX, || Some(summary()))?;
    let hop = forward::route(context, &found)?;
    forward::admit(context, frame, headers, hop, summary)?;
    postrouting::run_handlers(context, frame, headers, summary)?;

    let to = found.entry.tuple(found.direction.turned()).inverted();
    icmp_reply_translation(&mut frame.buffer[..frame.length], headers, &quoted, &to);
    if let Some(account) = F::table(&context.datapath.conntrack).account(&found) {
        account.count(found.direction, headers.ip_length());
    }
    context.tally.related += 1;
    link::address(context.port(hop.port()), frame, headers, hop);
    Ok(hop.port())
}

/// The headers of the quoted packet (`error`).
fn check(bytes: &[u8], headers: &Headers) -> Result<Headers, DropReason> {
    if !icmp::checksum_holds(bytes, headers) {
        return Err(DropReason::IcmpChecksum);
    }
    let quoted = quote::parse(bytes, headers).ok_or(DropReason::IcmpQuote)?;
    // Whoever complains about a packet tells the one that it came from.
    if quoted.source(bytes) != headers.destination(bytes) {
        return Err(DropReason::IcmpQuote);
    }
    Ok(quoted)
}

/// The connection whose packet is quoted, and the direction of the error: against that of the quoted packet.
fn find<'a, F: Tracked, const HOOKED: bool>(
    context: &Context<'a, HOOKED>,
    bytes: &[u8],
    quoted: &Headers,
) -> Option<Found<'a, F>> {
    let table = F::table(&context.datapath.conntrack);
    let tuple = tuple::<F>(bytes, quoted).inverted();
    table.look_up(table.hash(&tuple), &tuple)
}
