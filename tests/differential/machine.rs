//! What is compared: whether a packet goes on, and what the connection is afterwards.

use super::message::Message;

/// A connection as a machine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The kernel's name; empty for protocols without states.
    pub(crate) state: &'static str,
    pub(crate) seen_reply: bool,
    pub(crate) assured: bool,
    /// Seconds of silence that are left to it.
    pub(crate) left: u32,
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) forwarded: bool,
    /// `None`: there is no connection.
    pub(crate) shown: Option<Shown>,
}

/// A load balancer.
pub(crate) trait Machine {
    /// From now on packets are of another connection: one from this port (or identifier) of the client.
    fn begin(&mut self, port: u16);

    /// A packet comes in.
    fn step(&mut self, message: &Message) -> Step;

    /// The connection, where there is one.
    fn shown(&mut self) -> Option<Shown>;
}
