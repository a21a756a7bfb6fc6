//! What the control thread has a worker send: RSTs, which only workers can put on rings. Bounded everywhere, and done between bursts.

use super::{Pipeline, Resolver, Unresolved};
use crate::conntrack::Millis;
use crate::datapath::{Counters, DropReason, Fate, Frame};
use crate::io::Ports;
use crate::nat::tcp_reset::TcpReset;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Orders that one worker has not taken yet.
const QUEUE: usize = 4096;
/// Sent between two bursts: half of one, so that received packets wait for no more than that.
const A_ROUND: usize = 32;
/// Longest wait for a neighbour, in milliseconds.
const PATIENCE: u32 = 1000;
/// Orders that wait for a neighbour; there is no room for more. Whom they are for is told when it sends something.
const WAITING: usize = 256;
/// Milliseconds between two looks at those that wait.
const LOOK_EVERY: u32 = 20;
/// Milliseconds between two questions for the same neighbour.
const ASK_EVERY: u32 = 100;

/// The way from the control thread to one worker.
pub struct Orders {
    queue: ArrayQueue<TcpReset>,
    /// Whether there may be some: all that a worker looks at while there are none.
    given: CachePadded<AtomicBool>,
}

impl Default for Orders {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(QUEUE), given: CachePadded::default() }
    }
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("queue", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Orders {
    /// How many more fit in. Only one thread gives orders, so that many do.
    pub fn room(&self) -> usize {
        QUEUE - self.queue.len()
    }

    /// Gives one. `false`: there is no room.
    pub fn give(&self, reset: TcpReset) -> bool {
        let given = self.queue.push(reset).is_ok();
        // Release: pairs with the Acquire in `take`, which finds the order above.
        self.given.store(true, Ordering::Release);
        given
    }

    /// Whether there may be some. Relaxed: one that is seen late is sent late.
    #[inline(always)]
    fn are_given(&self) -> bool {
        self.given.load(Ordering::Relaxed)
    }

    /// Up to `most`.
    fn take(&self, most: usize) -> impl Iterator<Item = TcpReset> {
        // Acquire: see `give`. Cleared before the queue is looked at, so that an order that comes meanwhile sets it again.
        self.given.swap(false, Ordering::Acquire);
        std::iter::from_fn(|| self.queue.pop()).take(most)
    }

    fn look_again(&self) {
        if !self.queue.is_empty() {
            self.given.store(true, Ordering::Release);
        }
    }
}

/// An order that waits for a neighbour.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    reset: TcpReset,
    since: Millis,
}

/// One worker's orders under way.
#[derive(Debug)]
pub(super) struct Errands {
    /// Taken, to be tried now.
    taken: VecDeque<TcpReset>,
    /// Tried, the oldest first.
    waiting: VecDeque<Waiting>,
    looked: Millis,
    asked: Option<(Unresolved, Millis)>,
    counters: Arc<Counters>,
    resolver: Arc<Resolver>,
}

impl Errands {
    pub(super) fn new(resolver: Arc<Resolver>, counters: Arc<Counters>) -> Self {
        Self { taken: VecDeque::new(), waiting: VecDeque::new(), looked: Millis(0), asked: None, counters, resolver }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.waiting.is_empty()
    }

    /// Whether [`Errands::run`] has something to do.
    #[inline(always)]
    pub(super) fn are_due(&self, orders: &Orders, now: Millis) -> bool {
        orders.are_given() || !self.is_empty() && (!self.taken.is_empty() || now.since(self.looked) >= LOOK_EVERY)
    }

    /// Sends some. Those that wait for a neighbour hold up nobody: a backend that is gone must not keep its clients from being told.
    #[cold]
    pub(super) fn run<P: Ports, D: Pipeline>(&mut self, orders: &Orders, ports: &mut P, pipeline: &mut D, now: Millis) {
        let room = A_ROUND.saturating_sub(self.taken.len());
        if room > 0 && orders.are_given() {
            self.taken.extend(orders.take(room));
            orders.look_again();
        }
        self.send(ports, pipeline, now);
        if now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.look_at_waiting(ports, pipeline, now);
        }
    }

    fn send<P: Ports, D: Pipeline>(&mut self, ports: &mut P, pipeline: &mut D, now: Millis) {
        while !self.taken.is_empty() {
            let lent = ports.originate(self.taken.len(), &mut |frames| {
                for frame in frames {
                    let Some(reset) = self.taken.pop_front() else { return };
                    frame.fate = self.try_one(frame, Waiting { reset, since: now }, pipeline, now);
                }
            });
            if lent == 0 {
                // No frame is free; those on their way out come back soon.
                return;
            }
        }
    }

    /// Each once more; those that have waited too long end here.
    fn look_at_waiting<P: Ports, D: Pipeline>(&mut self, ports: &mut P, pipeline: &mut D, now: Millis) {
        let mut left = self.waiting.len();
        while left > 0 {
            let lent = ports.originate(left, &mut |frames| {
                for frame in frames {
                    let Some(waiting) = self.waiting.pop_front() else { return };
                    frame.fate = self.try_one(frame, waiting, pipeline, now);
                }
            });
            if lent == 0 {
                return;
            }
            left = left.saturating_sub(lent);
        }
    }

    fn try_one<D: Pipeline>(&mut self, frame: &mut Frame<'_>, one: Waiting, pipeline: &mut D, now: Millis) -> Fate {
        match pipeline.originate(frame, &one.reset) {
            Fate::Wait(port, neighbour) if now.since(one.since) < PATIENCE && self.waiting.len() < WAITING => {
                self.ask(Unresolved { port, neighbour }, now);
                self.waiting.push_back(one);
                Fate::Undecided
            }
            Fate::Wait(..) => self.count(Fate::Drop(DropReason::NeighbourUnresolved)),
            fate => self.count(fate),
        }
    }

    fn ask(&mut self, needs: Unresolved, now: Millis) {
        if self.asked.is_none_or(|(asked, at)| asked != needs || now.since(at) >= ASK_EVERY) {
            self.asked = Some((needs, now));
            self.resolver.ask(needs);
        }
    }

    /// A frame that came from nowhere: it is counted as sent, or with why it was not.
    fn count(&self, fate: Fate) -> Fate {
        self.counters.originated.add(1);
        fate
    }
}
