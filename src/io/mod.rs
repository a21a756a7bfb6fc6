//! Where frames come from and go to.

pub mod memory;
pub mod pcap;
pub mod xsk;
mod settle;

use crate::datapath::{Frame, PortId};
use std::io;
use std::time::Duration;

/// The ports of one worker. Implemented over AF_XDP ([`xsk`]) and over memory ([`memory`]), into which a replay puts what a capture
/// ([`pcap`]) has.
///
/// The implementation owns the frames; it lends at most [`crate::datapath::BURST`] of them to a closure, which decides
/// each one's [`crate::datapath::Fate`], and then does what the fates say: puts them on the TX ring of the port named (counting
/// `tx`, or the drop `tx_ring_full` or `port_down`), or takes them back (counting the drop). A frame that shall wait has been copied by
/// the closure and is taken back without being counted as a drop. When a call returns, every frame of it is counted.
pub trait Ports {
    /// How many there are; their ids are 0 to `count() - 1`.
    fn count(&self) -> usize;

    /// Takes a burst from an RX ring of `port`, if there is one, and returns how many frames it had; counts them as `rx`.
    /// A frame that is still [`crate::datapath::Fate::Undecided`] afterwards is dropped for [`crate::datapath::DropReason::Hook`].
    fn receive(&mut self, port: PortId, process: &mut dyn FnMut(&mut [Frame<'_>])) -> usize;

    /// Lends up to `wanted` empty frames (length 0, port 0) to be written and given a fate. Returns how many it lent. Frames
    /// that stay undecided were not used: they are taken back and not counted. `originated` is the caller's to count.
    fn originate(&mut self, wanted: usize, process: &mut dyn FnMut(&mut [Frame<'_>])) -> usize;

    /// Makes the kernel send what is on the TX rings, reaps completions, refills the fill rings. After every burst, and once a
    /// round while [`Ports::transmitting`]. An error says that an interface is gone; it is told once, and what is sent there
    /// afterwards is dropped for `port_down`, while the other ports go on.
    fn flush(&mut self) -> io::Result<()>;

    /// Whether the driver looks for frames only when it is asked to: a worker that does not sleep flushes in rounds without any, too.
    fn busy_polls(&self) -> bool {
        false
    }

    /// Whether frames are still on their way out: the worker must not sleep long.
    fn transmitting(&self) -> bool;

    /// Sleeps until a frame arrives at any port or `timeout` has passed.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;

    /// Before each sleep: publishes what was counted here. Nothing to do where no kernel is involved.
    fn publish(&mut self) {}

    /// About once a second: publishes what the kernel counted about the rings. Nothing to do where no kernel is involved.
    fn refresh_statistics(&mut self) {}
}
