//! LOCAL_IN: packets to weir's own addresses that belong to no connection and no service.

use super::Frame;
use super::hook::{Hook, Packet};
use super::process::Context;
use super::verdict::{Verdict, Way};
use crate::packet::parse;

/// Offers the packet to the handlers registered here; one that answers it says STOLEN.
#[cold]
pub(super) fn deliver<const HOOKED: bool>(context: &Context<'_, HOOKED>, frame: &mut Frame<'_>) -> Way<()> {
    let headers = parse(frame.bytes()).map_err(|malformed| Verdict::Drop(malformed.into()))?;
    let mut packet = Packet { bytes: &mut frame.buffer[..frame.length], headers: &headers, port: frame.port, connection: None };
    context.datapath.hooks.run(Hook::LocalIn, i32::MIN..i32::MAX, &mut packet)
}
