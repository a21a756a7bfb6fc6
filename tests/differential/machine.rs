//! What is compared: whether a segment goes on, and what the connection is afterwards.

use super::segment::Segment;

/// A connection as a machine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The kernel's name.
    pub(crate) state: String,
    pub(crate) seen_reply: bool,
    pub(crate) assured: bool,
    /// Seconds of silence that it may last from now on.
    pub(crate) timeout: u32,
}

/// What became of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) forwarded: bool,
    /// `None`: there is no connection.
    pub(crate) shown: Option<Shown>,
}

/// A load balancer.
pub(crate) trait Machine {
    /// From now on segments are of another connection: one from this port of the client.
    fn begin(&mut self, port: u16);

    /// A segment comes in.
    fn step(&mut self, segment: &Segment) -> Step;
}
