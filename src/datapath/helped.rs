//! The way of a packet of a connection that a helper reads along in (`nf_conntrack_helper`, `nf_nat_helper`): what it announces is expected,
//! the text that announces it is replaced, and every number behind it is adjusted. All of it out of the way of other packets.
//!
//! A line is looked at where it is known to begin: behind the end of a segment that ended with one, or within a segment. What was sent on
//! once stays as it went: text that was replaced is replaced again in the same way, text that was not is left alone.

use super::expected;
use super::hook::priority;
use super::process::Context;
use super::tracked::Tracked;
use super::tuples::Lookup;
use super::verdict::Way;
use super::{DropReason, Frame, PortId, forward, postrouting, prerouting};
use crate::conntrack::ftp::{self, Endpoint, Form, Line};
use crate::conntrack::l4proto::tcp::highest_ack;
use crate::conntrack::seqadj::{Edit, REMEMBERED};
use crate::conntrack::{Direction, Extension, Found};
use crate::nat::{self, mangle_tcp, seq_adjust};
use crate::packet::tcp::Segment;
use crate::packet::{Headers, fragment, tcp};
use crate::service::ServiceId;
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// Replacements in one segment: those that were made before, and a new one.
type Plan = ArrayVec<Edit, { REMEMBERED + 1 }>;

/// The whole way of such a packet, from where its connection is known and advanced.
#[cold]
#[inline(never)]
pub(super) fn process<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &mut Frame<'_>,
    headers: &Headers,
    lookup: &Lookup<F>,
    found: &Found<'_, F>,
) -> Way<PortId> {
    // The kernel would have put it together: here a part of the text is all there is.
    if fragment::read(frame.bytes(), headers).is_some() {
        return Err(DropReason::Fragment.into());
    }
    let summary = || (found.direction, found.entry.state());
    prerouting::run_handlers(context, frame, headers, priority::CONNTRACK..i32::MAX, || Some(summary()))?;
    let hop = forward::route(context, found)?;
    forward::admit(context, frame, headers, hop, summary)?;
    postrouting::run_handlers(context, frame, headers, summary)?;

    // It lives as long as the connection does.
    let record = F::table(&context.datapath.conntrack).extension(found).ok_or(DropReason::HelperExpectation)?;
    let seen = Seen::of(frame.bytes(), headers);
    let plan = plan(context, frame, headers, (found, record), &seen)?;
    make_room(context, frame, headers, hop, &plan)?;
    let changed = replace(frame, headers, found, &seen, &plan);
    let (own, other) = (record.stream(found.direction), record.stream(found.direction.turned()));
    seq_adjust(&mut frame.buffer[changed.l4()..usize::from(changed.end)], &own.edits, &other.edits);
    context.tally.established += 1;
    let port = postrouting::leave(context, frame, &changed, lookup, found, hop);
    if !seen.is_empty() {
        own.note_sent(seen.end(), seen.ends_line);
    }
    Ok(port)
}

/// The payload of a segment as its sender sent it.
struct Seen {
    sequence: u32,
    /// Where it is in the frame.
    at: usize,
    length: usize,
    ends_line: bool,
}

impl Seen {
    fn of(bytes: &[u8], headers: &Headers) -> Self {
        let transport = &bytes[headers.l4()..usize::from(headers.end)];
        let header = usize::from(transport[tcp::DATA_OFFSET] >> 4) * 4;
        let payload = &transport[header..];
        Self {
            sequence: Segment::read(transport).sequence,
            at: headers.l4() + header,
            length: payload.len(),
            ends_line: payload.ends_with(b"\n"),
        }
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn end(&self) -> u32 {
        self.number(self.length)
    }

    /// The number of the byte at this offset.
    fn number(&self, at: usize) -> u32 {
        self.sequence.wrapping_add(at as u32)
    }
}

/// What is to be replaced in a segment, in order.
fn plan<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &Frame<'_>,
    headers: &Headers,
    (found, record): (&Found<'_, F>, &Extension),
    seen: &Seen,
) -> Way<Plan> {
    let mut plan = Plan::new();
    if seen.is_empty() {
        return Ok(plan);
    }
    let payload = &frame.bytes()[seen.at..seen.at + seen.length];
    let known = record.stream(found.direction).edits.within(seen.sequence, seen.length);
    plan.extend(known.map_err(|_| DropReason::HelperPartial)?);
    if let Some(endpoint) = find(record, found.direction, headers, payload, seen, &plan)? {
        plan.extend(announce(context, (found, record), seen, &endpoint)?);
    }
    Ok(plan)
}

/// The first line that names a port and was not sent on before.
fn find(
    record: &Extension,
    direction: Direction,
    headers: &Headers,
    payload: &[u8],
    seen: &Seen,
    known: &Plan,
) -> Result<Option<Endpoint>, DropReason> {
    let stream = record.stream(direction);
    let next_line = |at: usize| payload[at..].iter().position(|byte| *byte == b'\n').map(|newline| at + newline + 1);
    let mut begins = if stream.is_line_begin(seen.sequence) { Some(0) } else { next_line(0) };
    while let Some(at) = begins.filter(|at| *at < payload.len()) {
        begins = next_line(at);
        let line = &payload[at..begins.unwrap_or(payload.len())];
        let has_been_read = known.iter().any(|edit| edit.sequence.wrapping_sub(seen.number(at)) < line.len() as u32);
        if has_been_read || !stream.is_new(seen.number(at)) {
            continue;
        }
        match ftp::read(direction, headers.ip, line) {
            Line::Names(endpoint) => return Ok(Some(Endpoint { at: at + endpoint.at, ..endpoint })),
            // The sender sends it again, with what follows. Behind other lines it would perhaps be cut off at the same place each time.
            Line::Partial if at == 0 => return Err(DropReason::HelperPartial),
            Line::Partial | Line::Malformed | Line::Other => {}
        }
    }
    Ok(None)
}

/// Makes what a line announces expected. How the line is to be changed; `None`: it announces nothing that is believed, and stays.
fn announce<F: Tracked, const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    (found, record): (&Found<'_, F>, &Extension),
    seen: &Seen,
    endpoint: &Endpoint,
) -> Way<Option<Edit>> {
    let snapshot = context.snapshot;
    let Some(service) = snapshot.services.with_helper(ServiceId(found.entry.owner().service)) else { return Ok(None) };
    if !is_believed(found, endpoint) {
        context.tally.refused_expectations += 1;
        return Ok(None);
    }
    let made = record.claim(|| {
        let port = expected::announce(context, (found, record), service, endpoint)?;
        let text = nat::ftp::write(endpoint.form, named_address(found, endpoint.form), port)?;
        let growth = i8::try_from(text.len().cast_signed() - endpoint.length.cast_signed()).ok()?;
        let length = u8::try_from(endpoint.length).ok()?;
        let acknowledged = highest_ack(found.entry, found.direction.turned());
        let place = (seen.number(endpoint.at), length);
        record.stream(found.direction).edits.push(place, growth, (endpoint.form as u8, port), acknowledged)
    });
    match made.flatten() {
        Some(edit) => {
            context.tally.expectations += 1;
            Ok(Some(edit))
        }
        None => Err(DropReason::HelperExpectation.into()),
    }
}

/// A client may announce its own address, and a backend its own: weir opens nobody a way to a third one (`loose` of `nf_conntrack_ftp`).
fn is_believed<F: Tracked>(found: &Found<'_, F>, endpoint: &Endpoint) -> bool {
    let sender = F::addresses(found.entry.tuple(found.direction).addresses).0;
    endpoint.address.is_none_or(|address| address == sender)
}

/// What the other side is told instead: the client of the VIP, the backend of the SNAT address.
fn named_address<F: Tracked>(found: &Found<'_, F>, form: Form) -> IpAddr {
    let other = match form {
        Form::Port | Form::Eprt => Direction::Reply,
        Form::Pasv | Form::Epsv => Direction::Original,
    };
    F::addresses(found.entry.tuple(other).addresses).1
}

/// Whether the longer text fits. What does not is answered as a packet that is too big; its sender sends less at a time.
fn make_room<const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    frame: &Frame<'_>,
    headers: &Headers,
    hop: super::next_hop::Hop,
    plan: &Plan,
) -> Way<()> {
    let growth = plan.iter().map(|edit| isize::from(edit.growth)).sum::<isize>().max(0) as usize;
    if growth == 0 {
        return Ok(());
    }
    // Behind it a VLAN tag may still be put in.
    let room = frame.buffer.len().saturating_sub(usize::from(headers.end) + crate::packet::ethernet::TAG) + headers.ip_length();
    let most = room.min(context.port(hop.port()).mtu() as usize);
    if headers.ip_length() + growth > most {
        context.mtu = most.saturating_sub(growth) as u32;
        return Err(DropReason::TooBig.into());
    }
    Ok(())
}

/// Replaces the text. The headers of the frame as it is then.
fn replace<F: Tracked>(frame: &mut Frame<'_>, headers: &Headers, found: &Found<'_, F>, seen: &Seen, plan: &Plan) -> Headers {
    let mut changed = *headers;
    // From behind, so that what is still to be replaced stays where it is.
    for edit in plan.iter().rev() {
        let text = Form::from_number(edit.form).and_then(|form| nat::ftp::write(form, named_address(found, form), edit.port));
        let Some(text) = text else { continue };
        let at = edit.sequence.wrapping_sub(seen.sequence) as usize;
        changed = mangle_tcp(frame.buffer, &changed, (at, usize::from(edit.length)), text.as_bytes());
        frame.length = usize::from(changed.end);
    }
    changed
}
