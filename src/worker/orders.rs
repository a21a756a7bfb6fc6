//! What the control thread has a worker send: RSTs, which only workers can put on rings. Bounded everywhere, and done between bursts.

use super::{Pipeline, Resolver, Unresolved};
use crate::conntrack::Millis;
use crate::datapath::{Counters, DropReason, Fate};
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
/// Milliseconds between two questions for neighbours.
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

/// An order that was taken.
#[derive(Debug, Clone, Copy)]
struct Taken {
    reset: TcpReset,
    since: Millis,
}

/// One worker's orders under way.
#[derive(Debug)]
pub(super) struct Errands {
    /// To be tried; those that wait for a neighbour go back to the end.
    taken: VecDeque<Taken>,
    asked: Millis,
    counters: Arc<Counters>,
    resolver: Arc<Resolver>,
}

impl Errands {
    pub(super) fn new(resolver: Arc<Resolver>, counters: Arc<Counters>) -> Self {
        Self { taken: VecDeque::new(), asked: Millis(0), counters, resolver }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Whether [`Errands::run`] has something to do.
    #[inline(always)]
    pub(super) fn are_due(&self, orders: &Orders) -> bool {
        orders.are_given() || !self.taken.is_empty()
    }

    /// Sends some.
    #[cold]
    pub(super) fn run<P: Ports, D: Pipeline>(&mut self, orders: &Orders, ports: &mut P, pipeline: &mut D, now: Millis) {
        let room = A_ROUND.saturating_sub(self.taken.len());
        if room > 0 && orders.are_given() {
            self.taken.extend(orders.take(room).map(|reset| Taken { reset, since: now }));
            orders.look_again();
        }
        let mut left = self.taken.len().min(A_ROUND);
        while left > 0 {
            // None: no frame is free; those on their way out come back soon.
            let lent = ports.originate(left, &mut |frames| {
                for frame in frames {
                    let Some(taken) = self.taken.pop_front() else { return };
                    frame.fate = match pipeline.originate(frame, &taken.reset) {
                        Fate::Wait(port, neighbour) if now.since(taken.since) < PATIENCE => {
                            self.wait(taken, Unresolved { port, neighbour }, now);
                            Fate::Undecided
                        }
                        Fate::Wait(..) => self.count(Fate::Drop(DropReason::NeighbourUnresolved)),
                        fate => self.count(fate),
                    };
                }
            });
            if lent == 0 {
                break;
            }
            left = left.saturating_sub(lent);
        }
    }

    fn wait(&mut self, taken: Taken, needs: Unresolved, now: Millis) {
        if now.since(self.asked) >= ASK_EVERY {
            self.asked = now;
            self.resolver.ask(needs);
        }
        self.taken.push_back(taken);
    }

    /// A frame that came from nowhere: it is counted as sent, or with why it was not.
    fn count(&self, fate: Fate) -> Fate {
        self.counters.originated.add(1);
        fate
    }
}
