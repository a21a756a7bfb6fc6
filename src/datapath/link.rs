//! The link layer header of a frame that leaves: addresses and VLAN tag of its next hop.

use super::next_hop::Hop;
use super::{Frame, PortState};
use crate::packet::{Headers, ethernet};

/// Addresses the frame, from the interface it leaves by, to its next hop. Its room [`lacks`] nothing.
#[inline(always)]
pub(super) fn address(from: &PortState, frame: &mut Frame<'_>, headers: &Headers, to: Hop) {
    if is_tagged(headers) || to.vlan() != 0 {
        retag(frame, headers, to.vlan());
    }
    ethernet::set_addresses(frame.buffer, to.mac() >> 16, from.mac_bits());
}

/// A priority tag (VLAN id 0) is a tag too: it does not go on to a next hop without one.
#[inline(always)]
fn is_tagged(headers: &Headers) -> bool {
    headers.l3() != ethernet::HEADER
}

/// Bytes that the frame's room lacks for the tag of its next hop; 0 when it has it. Asked before anything is rewritten.
#[inline(always)]
pub(super) fn lacks(frame: &Frame<'_>, headers: &Headers, to: Hop) -> usize {
    let gets_tag = to.vlan() != 0 && !is_tagged(headers);
    if gets_tag { (frame.length + ethernet::TAG).saturating_sub(frame.buffer.len()) } else { 0 }
}

/// Brings the frame to another VLAN: the tag is written, put in or taken out.
#[cold]
fn retag(frame: &mut Frame<'_>, headers: &Headers, vlan: u16) {
    match (is_tagged(headers), vlan != 0) {
        (true, false) => {
            frame.buffer.copy_within(12 + ethernet::TAG..frame.length, 12);
            frame.length -= ethernet::TAG;
            return;
        }
        (false, true) => {
            frame.buffer.copy_within(12..frame.length, 12 + ethernet::TAG);
            frame.length += ethernet::TAG;
            frame.buffer[12..14].copy_from_slice(&ethernet::VLAN.to_be_bytes());
        }
        _ => {}
    }
    // Priority and drop eligibility (the upper four bits) are the sender's where there was a tag, else 0.
    let kept = if is_tagged(headers) { frame.buffer[14] & 0xf0 } else { 0 };
    frame.buffer[14..16].copy_from_slice(&(u16::from(kept) << 8 | vlan).to_be_bytes());
}
