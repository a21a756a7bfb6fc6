//! Ports over memory, for tests and benchmarks: frames are pushed in, sent ones are collected or only counted.
//!
//! It has what real ports have and tests want to reach: a fixed number of frames, RX and TX rings of fixed size, a port
//! that stops sending ([`MemoryPorts::stall`]) and one that is gone ([`MemoryPorts::unplug`]).

use super::Ports;
use super::settle::{Settled, count_received, count_sent, settle_originated, settle_received};
use crate::datapath::{BURST, Counters, DropReason, Frame, PortId};
use arrayvec::ArrayVec;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Sizes of [`MemoryPorts`].
#[derive(Debug, Clone, Copy)]
pub struct MemorySizes {
    /// Ports, 1 to [`crate::datapath::MAX_PORTS`].
    pub ports: usize,
    /// Frames that all ports share.
    pub frames: usize,
    /// Bytes of room in each.
    pub room: usize,
    /// Frames that fit on each TX ring between two flushes.
    pub tx_ring: usize,
}

impl Default for MemorySizes {
    fn default() -> Self {
        Self { ports: 2, frames: 1024, room: 2048, tx_ring: 512 }
    }
}

/// A frame that holds bytes.
#[derive(Debug)]
struct Filled {
    room: Box<[u8]>,
    length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Stalled,
    Unplugged,
}

#[derive(Debug)]
struct MemoryPort {
    rx: VecDeque<Filled>,
    tx: VecDeque<Filled>,
    sent: Vec<Vec<u8>>,
    link: Link,
}

/// Ports over memory.
#[derive(Debug)]
pub struct MemoryPorts {
    ports: Vec<MemoryPort>,
    free: Vec<Box<[u8]>>,
    sizes: MemorySizes,
    counters: Arc<Counters>,
    collecting: bool,
}

impl MemoryPorts {
    /// Ports that collect what they send, see [`MemoryPorts::take_sent`].
    pub fn new(sizes: MemorySizes, counters: Arc<Counters>) -> Self {
        let port = |_| MemoryPort { rx: VecDeque::new(), tx: VecDeque::new(), sent: Vec::new(), link: Link::Up };
        let free = (0..sizes.frames).map(|_| vec![0; sizes.room].into_boxed_slice()).collect();
        Self { ports: (0..sizes.ports).map(port).collect(), free, sizes, counters, collecting: true }
    }

    /// Ports that only count what they send.
    pub fn counting(sizes: MemorySizes, counters: Arc<Counters>) -> Self {
        Self { collecting: false, ..Self::new(sizes, counters) }
    }

    /// A frame comes in at `port`. `false` when no frame is free or it is larger than one, as a network card would lose it.
    pub fn push(&mut self, port: PortId, bytes: &[u8]) -> bool {
        if bytes.len() > self.sizes.room {
            return false;
        }
        let Some(mut room) = self.free.pop() else { return false };
        room[..bytes.len()].copy_from_slice(bytes);
        self.ports[usize::from(port.0)].rx.push_back(Filled { room, length: bytes.len() });
        true
    }

    /// What `port` has sent since the last call, in order.
    pub fn take_sent(&mut self, port: PortId) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.ports[usize::from(port.0)].sent)
    }

    /// From now on `port` takes frames on its TX ring but does not send them.
    pub fn stall(&mut self, port: PortId) {
        self.ports[usize::from(port.0)].link = Link::Stalled;
    }

    /// From now on `port` neither receives nor sends.
    pub fn unplug(&mut self, port: PortId) {
        self.ports[usize::from(port.0)].link = Link::Unplugged;
    }

    /// Undoes [`MemoryPorts::stall`] and [`MemoryPorts::unplug`].
    pub fn restore(&mut self, port: PortId) {
        self.ports[usize::from(port.0)].link = Link::Up;
    }

    /// Frames that no ring holds. With nothing on its way it is [`MemorySizes::frames`] again.
    pub fn free_frames(&self) -> usize {
        self.free.len()
    }

    /// Frames that came in and were not received yet.
    pub fn arrived(&self) -> usize {
        self.ports.iter().map(|port| port.rx.len()).sum()
    }

    fn carry_out(&mut self, filled: Filled, settled: Settled) {
        let Settled::Send(to, length) = settled else { return self.free.push(filled.room) };
        let Some(port) = self.ports.get_mut(usize::from(to.0)).filter(|port| port.link != Link::Unplugged) else {
            return self.lose(filled, DropReason::PortDown);
        };
        if port.tx.len() >= self.sizes.tx_ring {
            return self.lose(filled, DropReason::TxRingFull);
        }
        port.tx.push_back(Filled { length, ..filled });
        count_sent(1, length, &self.counters);
    }

    fn lose(&mut self, filled: Filled, reason: DropReason) {
        self.counters.drops(reason).add(1);
        self.free.push(filled.room);
    }
}

type Burst<T> = ArrayVec<T, BURST>;

/// Lends the frames and returns what became of each.
fn lend(
    burst: &mut Burst<Filled>,
    port: PortId,
    process: &mut dyn FnMut(&mut [Frame<'_>]),
    settle: impl Fn(&Frame<'_>) -> Settled,
) -> Burst<Settled> {
    let mut frames: Burst<Frame<'_>> = burst.iter_mut().map(|filled| Frame::new(&mut filled.room, filled.length, port)).collect();
    process(&mut frames);
    frames.iter().map(settle).collect()
}

impl Ports for MemoryPorts {
    fn count(&self) -> usize {
        self.ports.len()
    }

    fn receive(&mut self, port: PortId, process: &mut dyn FnMut(&mut [Frame<'_>])) -> usize {
        let Some(from) = self.ports.get_mut(usize::from(port.0)).filter(|port| port.link != Link::Unplugged) else { return 0 };
        let count = from.rx.len().min(BURST);
        if count == 0 {
            return 0;
        }
        let mut burst: Burst<Filled> = from.rx.drain(..count).collect();
        count_received(burst.iter().map(|filled| filled.length), &self.counters);
        let settled = lend(&mut burst, port, process, |frame| settle_received(frame, &self.counters));
        for (filled, settled) in burst.into_iter().zip(settled) {
            self.carry_out(filled, settled);
        }
        count
    }

    fn originate(&mut self, wanted: usize, process: &mut dyn FnMut(&mut [Frame<'_>])) -> usize {
        let count = wanted.min(BURST).min(self.free.len());
        if count == 0 {
            return 0;
        }
        let free = self.free.drain(self.free.len() - count..);
        let mut burst: Burst<Filled> = free.map(|room| Filled { room, length: 0 }).collect();
        let settled = lend(&mut burst, PortId(0), process, |frame| settle_originated(frame, &self.counters));
        for (filled, settled) in burst.into_iter().zip(settled) {
            self.carry_out(filled, settled);
        }
        count
    }

    fn flush(&mut self) -> io::Result<()> {
        for port in self.ports.iter_mut().filter(|port| port.link == Link::Up) {
            for filled in port.tx.drain(..) {
                if self.collecting {
                    port.sent.push(filled.room[..filled.length].to_vec());
                }
                self.free.push(filled.room);
            }
        }
        Ok(())
    }

    fn transmitting(&self) -> bool {
        self.ports.iter().any(|port| !port.tx.is_empty())
    }

    /// Nothing can arrive while the only owner sleeps: parks the thread.
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        std::thread::park_timeout(timeout);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
