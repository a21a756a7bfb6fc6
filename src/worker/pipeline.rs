//! What a worker does with a burst.

use crate::conntrack::{Datagram, FragmentLimits, Millis, Now};
use crate::datapath::{Datapath, DropReason, Fate, Frame, Lane, PortId, Unreachable};
use crate::nat::tcp_reset::TcpReset;
use crate::packet::{fragment, parse};
use std::net::IpAddr;
use std::sync::Arc;

/// Decides the fates of bursts: the load balancer ([`Balancer`]), or what a test or a yardstick puts in its place.
pub trait Pipeline {
    /// Gives each frame, at most [`crate::datapath::BURST`] of them, a fate.
    fn process(&mut self, frames: &mut [Frame<'_>], now: Now);

    /// Whether packets that wait for this neighbour of `port` need not wait any more.
    fn resolved(&self, port: PortId, neighbour: IpAddr) -> bool;

    /// Makes an empty frame a RST. A pipeline that originates nothing sends none.
    fn originate(&mut self, _frame: &mut Frame<'_>, _reset: &TcpReset) -> Fate {
        Fate::Drop(DropReason::NoRoute)
    }

    /// How much fragments may cost.
    fn fragment_limits(&self) -> FragmentLimits {
        FragmentLimits::default()
    }

    /// The datagram of which a frame, given [`crate::datapath::Fate::Gather`], is a fragment. A pipeline that gives none that fate
    /// knows no datagrams.
    fn datagram(&self, _frame: &[u8]) -> Option<Datagram> {
        None
    }

    /// Moves whenever a datagram's first fragment came to any worker.
    fn decisions(&self) -> u64 {
        0
    }

    /// Whether fragments that wait for the first one of this datagram need not wait any more.
    fn is_decided(&self, _datagram: &Datagram, _now: Millis) -> bool {
        false
    }
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

    fn originate(&mut self, frame: &mut Frame<'_>, reset: &TcpReset) -> Fate {
        self.datapath.originate(frame, reset)
    }

    fn fragment_limits(&self) -> FragmentLimits {
        *self.datapath.conntrack.fragments().limits()
    }

    fn datagram(&self, frame: &[u8]) -> Option<Datagram> {
        let headers = parse(frame).ok()?;
        let fragment = fragment::read(frame, &headers)?;
        Some(Datagram::of(frame, &headers, &fragment))
    }

    fn decisions(&self) -> u64 {
        self.datapath.conntrack.fragments().decisions()
    }

    fn is_decided(&self, datagram: &Datagram, now: Millis) -> bool {
        self.datapath.conntrack.fragments().find(datagram, now).is_some()
    }
}
