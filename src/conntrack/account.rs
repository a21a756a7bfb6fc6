//! What is counted about a connection, if the config asks for it: packets, bytes, when it began, and how long its handshake took.
//!
//! Kept apart from the entries, in an array of the same numbers, as the kernel's `nf_conntrack_acct` is an extension: whoever does not
//! need it pays nothing for it, and the entry stays one cache line.

#![allow(unsafe_code)] // one promise about a type, see there

use super::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use super::region::Plain;
use super::{Direction, Micros, Millis, Now};

/// The account of one connection: a cache line.
///
/// Each direction's numbers are written by the worker that has that direction. All Relaxed: they publish nothing; if packets of one
/// direction come in at two workers at once, one of two updates may be lost.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Account {
    packets: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    opened: AtomicU32,
    asked: AtomicU32,
    answered: AtomicU32,
    backend_rtt: AtomicU32,
    client_rtt: AtomicU32,
}

#[cfg(not(feature = "loom"))]
const _: () = assert!(size_of::<Account>() == 64);

// SAFETY: atomics only; zeroes are an account of nothing.
unsafe impl Plain for Account {}

/// A copy of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountView {
    /// Packets client → backend and back.
    pub packets: [u64; 2],
    /// IP bytes client → backend and back.
    pub bytes: [u64; 2],
    /// When the connection was opened.
    pub opened: Millis,
    /// How long the handshake took, once it is over.
    pub handshake: Option<Handshake>,
}

/// How long the parts of a handshake took, seen from here, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// From the client's last SYN to the backend's SYN/ACK: there and back to the backend.
    pub backend: u32,
    /// From the SYN/ACK to the client's ACK: there and back to the client.
    pub client: u32,
}

impl Account {
    /// Begins the account of a connection that nobody else knows.
    pub(super) fn begin(&self, now: Now) {
        for direction in [0, 1] {
            self.packets[direction].store(0, Relaxed);
            self.bytes[direction].store(0, Relaxed);
        }
        self.opened.store(now.millis.0, Relaxed);
        self.asked.store(now.micros.0, Relaxed);
        for number in [&self.answered, &self.backend_rtt, &self.client_rtt] {
            number.store(0, Relaxed);
        }
    }

    /// Counts a packet of `bytes` IP bytes.
    #[inline(always)]
    pub fn count(&self, direction: Direction, bytes: usize) {
        let at = direction as usize;
        self.packets[at].store(self.packets[at].load(Relaxed).wrapping_add(1), Relaxed);
        self.bytes[at].store(self.bytes[at].load(Relaxed).wrapping_add(bytes as u64), Relaxed);
    }

    /// The opening packet was sent again: what is answered next is taken for its answer.
    pub fn asked_again(&self, now: Micros) {
        self.asked.store(now.0, Relaxed);
    }

    /// The backend has answered the opening packet.
    pub fn answered(&self, now: Micros) {
        self.answered.store(now.0, Relaxed);
        self.backend_rtt.store(elapsed(&self.asked, now), Relaxed);
    }

    /// The client has answered the backend: the handshake is over.
    pub fn established(&self, now: Micros) {
        self.client_rtt.store(elapsed(&self.answered, now), Relaxed);
    }

    pub(super) fn view(&self) -> AccountView {
        let pair = |numbers: &[AtomicU64; 2]| [numbers[0].load(Relaxed), numbers[1].load(Relaxed)];
        let (backend, client) = (self.backend_rtt.load(Relaxed), self.client_rtt.load(Relaxed));
        AccountView {
            packets: pair(&self.packets),
            bytes: pair(&self.bytes),
            opened: Millis(self.opened.load(Relaxed)),
            handshake: (backend > 0 && client > 0).then_some(Handshake { backend, client }),
        }
    }
}

/// Microseconds since the time in `earlier`; never 0, which stands for not measured.
fn elapsed(earlier: &AtomicU32, now: Micros) -> u32 {
    now.since(Micros(earlier.load(Relaxed))).max(1)
}
