//! Packets that wait until their next hop is resolved: bounded in number, by neighbour and in time.

use super::{Pipeline, Resolver, Unresolved};
use crate::conntrack::{Millis, Now};
use crate::datapath::{BURST, Counters, DropReason, Fate, Frame, PortId};
use crate::io::Ports;
use std::collections::VecDeque;
use std::sync::Arc;

/// Packets that one worker lets wait: four bursts. Only first packets of connections come here.
pub(super) const PACKETS: usize = 256;
/// Packets for one neighbour, so that a dead backend does not take the room of the others (the kernel's queue is of this order).
pub(super) const PACKETS_A_NEIGHBOUR: usize = 64;
/// Longest wait, in milliseconds: the kernel's first retry of an ARP or ND request comes after one second, and so does a client's SYN.
pub(super) const PATIENCE: u32 = 1000;
/// Milliseconds between two questions for the same neighbour.
pub(super) const ASK_EVERY: u32 = 100;
/// Milliseconds between two looks at whether a neighbour was resolved.
pub(super) const LOOK_EVERY: u32 = 1;

/// A copy of a packet that waits.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    came_in: PortId,
    since: Millis,
    needs: Unresolved,
}

/// A neighbour that packets wait for, or that was asked for lately.
#[derive(Debug)]
struct Asked {
    needs: Unresolved,
    at: Millis,
    packets: usize,
}

/// The waiting packets of one worker.
#[derive(Debug)]
pub(super) struct Pending {
    /// The oldest first.
    packets: VecDeque<Waiting>,
    /// Buffers of packets that left, to be used again.
    spare: Vec<Vec<u8>>,
    asked: Vec<Asked>,
    looked: Millis,
    resolver: Arc<Resolver>,
    counters: Arc<Counters>,
}

impl Pending {
    pub(super) fn new(resolver: Arc<Resolver>, counters: Arc<Counters>) -> Self {
        Self { packets: VecDeque::new(), spare: Vec::new(), asked: Vec::new(), looked: Millis(0), resolver, counters }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Copies every frame of a received burst that shall wait, and drops those that there is no room for.
    pub(super) fn hold(&mut self, frames: &mut [Frame<'_>], now: Millis) {
        for frame in frames {
            let Fate::Wait(port, neighbour) = frame.fate else { continue };
            let needs = Unresolved { port, neighbour };
            if self.packets.len() >= PACKETS || !self.admit(needs, now) {
                frame.fate = Fate::Drop(DropReason::WaitQueueFull);
                continue;
            }
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.extend_from_slice(frame.bytes());
            self.packets.push_back(Waiting { bytes, came_in: frame.port, since: now, needs });
            self.counters.waiting.add(1);
        }
    }

    /// Counts one more packet for this neighbour, asking for it if that is due. `false` when enough wait for it already.
    fn admit(&mut self, needs: Unresolved, now: Millis) -> bool {
        let index = self.asked.iter().position(|asked| asked.needs == needs).unwrap_or_else(|| {
            self.asked.push(Asked { needs, at: Millis(now.0.wrapping_sub(ASK_EVERY)), packets: 0 });
            self.asked.len() - 1
        });
        let asked = &mut self.asked[index];
        if now.since(asked.at) >= ASK_EVERY {
            asked.at = now;
            self.resolver.ask(needs);
        }
        let admitted = asked.packets < PACKETS_A_NEIGHBOUR;
        asked.packets += usize::from(admitted);
        admitted
    }

    /// Sends on what need not wait any more and drops what has waited too long. Looks at most once in [`LOOK_EVERY`].
    pub(super) fn revisit<P: Ports, D: Pipeline>(&mut self, ports: &mut P, pipeline: &mut D, time: Now) {
        let now = time.millis;
        if now.since(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = now;
        let ready = self.take_ready(pipeline);
        self.send_on(ready, ports, pipeline, time);
        self.expire(now);
        // A neighbour is remembered as long as packets wait for it or the pause after the last question lasts.
        self.asked.retain(|asked| asked.packets > 0 || now.since(asked.at) < ASK_EVERY);
    }

    fn take_ready<D: Pipeline>(&mut self, pipeline: &D) -> VecDeque<Waiting> {
        let waited_for = self.asked.iter().filter(|asked| asked.packets > 0).map(|asked| asked.needs);
        let resolved: Vec<Unresolved> = waited_for.filter(|needs| pipeline.resolved(needs.port, needs.neighbour)).collect();
        if resolved.is_empty() {
            return VecDeque::new();
        }
        let (ready, rest) = self.packets.drain(..).partition(|packet| resolved.contains(&packet.needs));
        self.packets = rest;
        ready
    }

    fn send_on<P: Ports, D: Pipeline>(&mut self, mut ready: VecDeque<Waiting>, ports: &mut P, pipeline: &mut D, now: Now) {
        while !ready.is_empty() {
            let lent = ports.originate(ready.len().min(BURST), &mut |frames| {
                copy_in(frames, &ready);
                pipeline.process(frames, now);
                for frame in frames {
                    if let Some(packet) = ready.pop_front() {
                        self.conclude(frame, packet, now.millis);
                    }
                }
            });
            if lent == 0 {
                // No frame is free: those on their way out come back soon.
                break;
            }
        }
        // Older than all that wait still, or equally old: they keep their place at the front.
        while let Some(packet) = ready.pop_back() {
            self.packets.push_front(packet);
        }
    }

    /// A packet was processed again: it left, or it needs another neighbour.
    fn conclude(&mut self, frame: &mut Frame<'_>, mut packet: Waiting, now: Millis) {
        self.release(packet.needs);
        match frame.fate {
            Fate::Wait(port, neighbour) if self.admit(Unresolved { port, neighbour }, now) => {
                packet.needs = Unresolved { port, neighbour };
                let behind = self.packets.partition_point(|other| now.since(other.since) >= now.since(packet.since));
                self.packets.insert(behind, packet);
                return;
            }
            Fate::Wait(..) => frame.fate = Fate::Drop(DropReason::WaitQueueFull),
            // A frame that was lent and stays undecided would not be counted; this one is a packet that was received.
            Fate::Undecided => frame.fate = Fate::Drop(DropReason::Hook),
            // A later fragment; what was known of its datagram has been given up meanwhile.
            Fate::Gather => frame.fate = Fate::Drop(DropReason::FragmentTimeout),
            Fate::Transmit(_) | Fate::Drop(_) => {}
        }
        self.leave(packet);
    }

    fn expire(&mut self, now: Millis) {
        while self.packets.front().is_some_and(|packet| now.since(packet.since) >= PATIENCE) {
            let Some(packet) = self.packets.pop_front() else { return };
            self.release(packet.needs);
            self.counters.drops(DropReason::NeighbourUnresolved).add(1);
            self.leave(packet);
        }
    }

    fn release(&mut self, needs: Unresolved) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.needs == needs) {
            asked.packets -= 1;
        }
    }

    fn leave(&mut self, mut packet: Waiting) {
        self.counters.waiting.sub(1);
        packet.bytes.clear();
        self.spare.push(packet.bytes);
    }
}

/// Writes the packets into frames. One that is larger than its frame is cut, and the datapath drops what is cut.
fn copy_in(frames: &mut [Frame<'_>], packets: &VecDeque<Waiting>) {
    for (frame, packet) in frames.iter_mut().zip(packets) {
        let length = packet.bytes.len().min(frame.buffer.len());
        frame.buffer[..length].copy_from_slice(&packet.bytes[..length]);
        frame.length = length;
        frame.port = packet.came_in;
    }
}
