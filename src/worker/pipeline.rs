//! What a worker does with a burst.

use crate::conntrack::Now;
use crate::datapath::{Datapath, Frame, Lane, PortId, Unreachable};
use std::net::IpAddr;
use std::sync::Arc;

/// Decides the fates of bursts: the load balancer ([`Balancer`]), or what a test or a yardstick puts in its place.
pub trait Pipeline {
    /// Gives each frame, at most [`crate::datapath::BURST`] of them, a fate.
    fn process(&mut self, frames: &mut [Frame<'_>], now: Now);

    /// Whether packets that wait for this neighbour of `port` need not wait any more.
    fn resolved(&self, port: PortId, neighbour: IpAddr) -> bool;
}

/// The datapath with the lane of one worker.
#[derive(Debug)]
pub struct Balancer {
    datapath: Arc<Datapath>,
    lane: Lane,
}

impl Balancer {
    /// `lane` counts in the counters that the worker's ports count in.
    pub fn new(datapath: Arc<Datapath>, lane: Lane) -> Self {
        Self { datapath, lane }
    }
}

impl Pipeline for Balancer {
    fn process(&mut self, frames: &mut [Frame<'_>], now: Now) {
        self.datapath.process(&mut self.lane, frames, now);
    }

    /// A route that has gone meanwhile also ends the wait: processed again, the packet is dropped for the right reason.
    fn resolved(&self, port: PortId, neighbour: IpAddr) -> bool {
        !matches!(self.datapath.next_hops.find(neighbour), Err(Unreachable::Unresolved(unresolved, _)) if unresolved == port)
    }
}
