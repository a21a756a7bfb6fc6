//! How workers ask the control thread for a neighbour's link address.

use crate::datapath::PortId;
use crossbeam_queue::ArrayQueue;
use std::fmt;
use std::net::IpAddr;

/// A neighbour that a worker needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unresolved {
    /// Out of this port.
    pub port: PortId,
    /// The address on its link.
    pub neighbour: IpAddr,
}

/// Questions that may be open at once; each worker repeats its own, so one that finds no room is only late.
const QUESTIONS: usize = 256;

/// The way from all workers to the control thread: a bounded queue and a call that wakes the reader.
pub struct Resolver {
    questions: ArrayQueue<Unresolved>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Resolver {
    /// `wake` is called by workers after each question; it must not block (a `mio::Waker`, an eventfd).
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { questions: ArrayQueue::new(QUESTIONS), wake: Box::new(wake) }
    }

    /// Asks. A full queue loses the question: whoever still waits asks again.
    pub fn ask(&self, question: Unresolved) {
        if self.questions.push(question).is_ok() {
            (self.wake)();
        }
    }

    /// The control thread's: the next question.
    pub fn next(&self) -> Option<Unresolved> {
        self.questions.pop()
    }

    /// Wakes the reader without a question, when a worker has something to tell.
    pub fn wake(&self) {
        (self.wake)();
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("questions", &self.questions.len()).finish_non_exhaustive()
    }
}
