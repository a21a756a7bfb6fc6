//! The link layer header of a frame that leaves: addresses and VLAN tag of its next hop.

use super::{Frame, NextHop, PortId};
use crate::packet::{Headers, ethernet};

/// Addresses the frame to its next hop, and returns the port it leaves by. Its room [`lacks`] nothing.
#[inline(always)]
pub(super) fn address(own: [u8; 6], frame: &mut Frame<'_>, headers: &Headers, to: NextHop) -> PortId {
    if tag_differs(headers, to) {
        retag(frame, headers, to.vlan);
    }
    ethernet::set_addresses(frame.buffer, to.mac, own);
    to.port
}

/// A priority tag (VLAN id 0) is a tag too: it does not go on to a next hop without one.
#[inline(always)]
fn tag_differs(headers: &Headers, to: NextHop) -> bool {
    headers.vlan != to.vlan || (usize::from(headers.l3) != ethernet::HEADER) != (to.vlan != 0)
}

/// Bytes that the frame's room lacks for the tag of its next hop; 0 when it has it. Asked before anything is rewritten.
#[inline(always)]
pub(super) fn lacks(frame: &Frame<'_>, headers: &Headers, to: NextHop) -> usize {
    let gets_tag = usize::from(headers.l3) == ethernet::HEADER && to.vlan != 0;
    if gets_tag { (frame.length + ethernet::TAG).saturating_sub(frame.buffer.len()) } else { 0 }
}

/// Brings the frame to another VLAN: the tag is written, put in or taken out.
#[cold]
fn retag(frame: &mut Frame<'_>, headers: &Headers, vlan: u16) {
    let (had, wants) = (usize::from(headers.l3) != ethernet::HEADER, vlan != 0);
    match (had, wants) {
        (true, false) => {
            frame.buffer.copy_within(12 + ethernet::TAG..frame.length, 12);
            frame.length -= ethernet::TAG;
        }
        (false, true) => {
            frame.buffer.copy_within(12..frame.length, 12 + ethernet::TAG);
            frame.length += ethernet::TAG;
            frame.buffer[12..14].copy_from_slice(&ethernet::VLAN.to_be_bytes());
            frame.buffer[14..16].copy_from_slice(&vlan.to_be_bytes());
        }
        (true, true) => frame.buffer[14..16].copy_from_slice(&vlan.to_be_bytes()),
        (false, false) => {}
    }
}
