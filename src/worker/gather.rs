//! Fragments that came before the first one of their datagram, and wait for it: copies in a bounded store. Any worker may see the first;
//! the table of datagrams, which all share, tells that one did.

use super::Pipeline;
use super::pending::Pending;
use crate::conntrack::{Datagram, FragmentLimits, Millis, Now};
use crate::datapath::{BURST, Counters, DropReason, Fate, Frame, PortId};
use crate::io::Ports;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Milliseconds between two looks at which datagrams are known by now.
pub(super) const LOOK_EVERY: u32 = 1;
/// Bytes of a buffer at first; those for fragments of larger MTUs grow once.
const ROOM: usize = 2048;

/// A copy of a fragment that waits.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    came_in: PortId,
    since: Millis,
    datagram: Datagram,
}

/// The early fragments of one worker.
#[derive(Debug)]
pub(super) struct Gather {
    limits: FragmentLimits,
    /// The oldest first.
    held: VecDeque<Held>,
    /// How many of each datagram are held.
    datagrams: HashMap<Datagram, u32>,
    /// The first one of their datagram came.
    ready: VecDeque<Held>,
    /// Buffers without a fragment.
    spare: Vec<Vec<u8>>,
    /// How many decisions there were at the last look.
    decisions: u64,
    looked: Millis,
    counters: Arc<Counters>,
}

impl Gather {
    /// All memory that it will need is taken here.
    pub(super) fn new(limits: FragmentLimits, counters: Arc<Counters>) -> Self {
        Self {
            limits,
            held: VecDeque::with_capacity(limits.held),
            datagrams: HashMap::with_capacity(limits.held),
            ready: VecDeque::with_capacity(limits.held),
            spare: (0..limits.held).map(|_| Vec::with_capacity(ROOM)).collect(),
            decisions: 0,
            looked: Millis(0),
            counters,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.ready.is_empty()
    }

    /// Copies every frame of a received burst that waits for the first fragment of its datagram. When there is no room the oldest one
    /// that waits is given up: fragments that change places follow each other within milliseconds.
    pub(super) fn hold<D: Pipeline>(&mut self, frames: &mut [Frame<'_>], pipeline: &D, now: Millis) {
        for frame in frames.iter_mut().filter(|frame| frame.fate == Fate::Gather) {
            let Some(datagram) = pipeline.datagram(frame.bytes()) else {
                frame.fate = Fate::Drop(DropReason::Fragment);
                continue;
            };
            if self.datagrams.get(&datagram).is_some_and(|count| *count >= self.limits.per_datagram) {
                frame.fate = Fate::Drop(DropReason::FragmentExcess);
                continue;
            }
            if self.spare.is_empty() {
                self.give_up(DropReason::FragmentRoom);
            }
            let Some(mut bytes) = self.spare.pop() else {
                frame.fate = Fate::Drop(DropReason::FragmentRoom);
                continue;
            };
            bytes.extend_from_slice(frame.bytes());
            self.held.push_back(Held { bytes, came_in: frame.port, since: now, datagram });
            *self.datagrams.entry(datagram).or_default() += 1;
            self.counters.waiting.add(1);
        }
    }

    /// Sends on a burst of what need not wait any more and drops what has waited too long. Looks at most once in [`LOOK_EVERY`].
    pub(super) fn revisit<P: Ports, D: Pipeline>(&mut self, ports: &mut P, pipeline: &mut D, pending: &mut Pending, now: Now) {
        if now.millis.since(self.looked) >= LOOK_EVERY {
            self.looked = now.millis;
            let decisions = pipeline.decisions();
            if decisions != self.decisions {
                self.decisions = decisions;
                self.choose_ready(pipeline, now.millis);
            }
            while self.held.front().is_some_and(|held| now.millis.since(held.since) >= self.limits.timeout) {
                self.give_up(DropReason::FragmentTimeout);
            }
        }
        self.send_on(ports, pipeline, pending, now);
    }

    /// What is known by now, in the order in which it came.
    fn choose_ready<D: Pipeline>(&mut self, pipeline: &D, now: Millis) {
        for _ in 0..self.held.len() {
            let Some(held) = self.held.pop_front() else { return };
            let of = if pipeline.is_decided(&held.datagram, now) { &mut self.ready } else { &mut self.held };
            of.push_back(held);
        }
    }

    /// No more than a burst, so that the TX ring is flushed before the next. Fewer while frames lack: those on their way out come back soon.
    fn send_on<P: Ports, D: Pipeline>(&mut self, ports: &mut P, pipeline: &mut D, pending: &mut Pending, now: Now) {
        if self.ready.is_empty() {
            return;
        }
        ports.originate(self.ready.len().min(BURST), &mut |frames| {
            for (frame, held) in frames.iter_mut().zip(&self.ready) {
                held.write_into(frame);
            }
            pipeline.process(frames, now);
            // Now a neighbour may be what they wait for: counted there from here on.
            pending.hold(frames, now.millis);
            for frame in frames {
                // What was known is forgotten already, or nobody decided.
                if matches!(frame.fate, Fate::Gather | Fate::Undecided) {
                    frame.fate = Fate::Drop(DropReason::FragmentTimeout);
                }
                if let Some(held) = self.ready.pop_front() {
                    self.leave(held);
                }
            }
        });
    }

    /// Drops the one that has waited longest.
    fn give_up(&mut self, reason: DropReason) {
        if let Some(held) = self.held.pop_front() {
            self.counters.drops(reason).add(1);
            self.leave(held);
        }
    }

    fn leave(&mut self, mut held: Held) {
        self.counters.waiting.sub(1);
        if let Some(count) = self.datagrams.get_mut(&held.datagram) {
            *count -= 1;
            if *count == 0 {
                self.datagrams.remove(&held.datagram);
            }
        }
        held.bytes.clear();
        self.spare.push(held.bytes);
    }
}

impl Held {
    /// Into a lent frame; it fitted into one when it came.
    fn write_into(&self, frame: &mut Frame<'_>) {
        let length = self.bytes.len().min(frame.buffer.len());
        frame.buffer[..length].copy_from_slice(&self.bytes[..length]);
        frame.length = length;
        frame.port = self.came_in;
    }
}
