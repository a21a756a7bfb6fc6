//! What a reply tuple may be made of.

use std::ops::RangeInclusive;

/// A connection asks for what tells it apart toward its backend.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The word of its original tuple.
    pub original: u32,
    /// The backend's port, where there is such a thing.
    pub target: u16,
    /// Source ports that may be given out.
    pub ports: RangeInclusive<u16>,
}

impl Wish {
    /// Choice `number` of the source ports, under the backend's port: what protocols with ports ask for.
    #[inline]
    pub(super) fn port(&self, number: u32) -> Option<u32> {
        let port = u16::try_from(u32::from(*self.ports.start()) + number).ok().filter(|port| port <= self.ports.end())?;
        Some(u32::from(self.target) << 16 | u32::from(port))
    }
}
