//! The link layer header of a frame that leaves: addresses and VLAN tag of its next hop.

use super::verdict::Way;
use super::{DropReason, Frame, NextHop, PortId};
use crate::packet::{Headers, ethernet};

/// Addresses the frame to its next hop, and returns the port it leaves by.
#[inline(always)]
pub(super) fn address(own: [u8; 6], frame: &mut Frame<'_>, headers: &Headers, to: NextHop) -> Way<PortId> {
    if tag_differs(headers, to) {
        retag(frame, headers, to.vlan)?;
    }
    ethernet::set_addresses(frame.buffer, to.mac, own);
    Ok(to.port)
}

/// A priority tag (VLAN id 0) is a tag too: it does not go on to a next hop without one.
#[inline(always)]
fn tag_differs(headers: &Headers, to: NextHop) -> bool {
    headers.vlan != to.vlan || (usize::from(headers.l3) != ethernet::HEADER) != (to.vlan != 0)
}

/// Brings the frame to another VLAN: the tag is written, put in or taken out.
#[cold]
fn retag(frame: &mut Frame<'_>, headers: &Headers, vlan: u16) -> Way<()> {
    let (had, wants) = (usize::from(headers.l3) != ethernet::HEADER, vlan != 0);
    match (had, wants) {
        (true, false) => {
            frame.buffer.copy_within(12 + ethernet::TAG..frame.length, 12);
            frame.length -= ethernet::TAG;
        }
        (false, true) => {
            if frame.length + ethernet::TAG > frame.buffer.len() {
                // Not TooBig: that would be answered, and the packet is no longer what its sender sent.
                return Err(DropReason::NoFrame.into());
            }
            frame.buffer.copy_within(12..frame.length, 12 + ethernet::TAG);
            frame.length += ethernet::TAG;
            frame.buffer[12..14].copy_from_slice(&ethernet::VLAN.to_be_bytes());
            frame.buffer[14..16].copy_from_slice(&vlan.to_be_bytes());
        }
        (true, true) => frame.buffer[14..16].copy_from_slice(&vlan.to_be_bytes()),
        (false, false) => {}
    }
    Ok(())
}
