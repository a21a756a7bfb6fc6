//! The five hooks, and handlers that a user of the library registers at them.
//!
//! The built-in handlers are called directly, at netfilter's priorities; a registered one runs before the built-in ones of a higher
//! priority and after those of a lower or equal one. Only at POSTROUTING all of them run before the built-in ones, in their order: the
//! packet is rewritten last, when nobody can refuse it any more.

use super::{PortId, Verdict};
use crate::conntrack::{Direction, State};
use crate::packet::Headers;
use std::fmt::Debug;

/// Where on its way a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// Every packet, as it came in.
    Prerouting,
    /// Packets that end here.
    LocalIn,
    /// Packets that go on, with their connection known.
    Forward,
    /// Packets that start here.
    LocalOut,
    /// Packets that leave, still with the addresses they came with.
    Postrouting,
}

const HOOKS: usize = 5;

/// Priorities of the built-in handlers (`enum nf_ip_hook_priorities`).
pub mod priority {
    /// Fragments, at PREROUTING.
    pub const CONNTRACK_DEFRAG: i32 = -400;
    /// Tracking, at PREROUTING.
    pub const CONNTRACK: i32 = -200;
    /// VIP to backend, at PREROUTING.
    pub const NAT_DST: i32 = -100;
    /// Between, at FORWARD.
    pub const FILTER: i32 = 0;
    /// Local address and port, at POSTROUTING.
    pub const NAT_SRC: i32 = 100;
}

/// A packet at a hook.
#[derive(Debug)]
pub struct Packet<'a> {
    /// The frame. A handler that changes more than payload answers [`Verdict::Repeat`].
    pub bytes: &'a mut [u8],
    /// Where its headers are.
    pub headers: &'a Headers,
    /// Where it came in.
    pub port: PortId,
    /// Its connection, once it is known.
    pub connection: Option<(Direction, State)>,
}

/// A handler. It runs on the packet path: it neither locks, nor allocates, nor reads a clock.
pub trait Handler: Send + Sync + Debug {
    /// Looks at a packet and says what becomes of it.
    fn handle(&self, packet: &mut Packet<'_>) -> Verdict;
}

/// The registered handlers, by hook and priority.
#[derive(Debug, Default)]
pub struct Hooks {
    handlers: [Vec<(i32, Box<dyn Handler>)>; HOOKS],
}

impl Hooks {
    /// Adds a handler. Handlers of the same priority run in the order they were added.
    pub fn register(&mut self, hook: Hook, priority: i32, handler: Box<dyn Handler>) {
        let handlers = &mut self.handlers[hook as usize];
        let at = handlers.partition_point(|(other, _)| *other <= priority);
        handlers.insert(at, (priority, handler));
    }

    /// Whether no handler is registered at any hook.
    pub fn is_empty(&self) -> bool {
        self.handlers.iter().all(Vec::is_empty)
    }

    /// Runs the handlers of a hook with a priority in `range`, until one says something other than ACCEPT.
    pub(super) fn run(&self, hook: Hook, range: std::ops::Range<i32>, packet: &mut Packet<'_>) -> Result<(), Verdict> {
        for (_, handler) in self.handlers[hook as usize].iter().filter(|(priority, _)| range.contains(priority)) {
            match handler.handle(packet) {
                Verdict::Accept => {}
                other => return Err(other),
            }
        }
        Ok(())
    }
}
