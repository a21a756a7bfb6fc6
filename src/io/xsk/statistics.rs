//! What may be seen of a socket from outside its worker.

use super::Got;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use xsk_rs::socket::XdpStatistics;

/// Whether an interface can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Link {
    /// As far as is known.
    #[default]
    Up = 0,
    /// The kernel refuses to send; it may come back.
    Down = 1,
    /// The interface was deleted, or the kernel took it away from the socket; only a new socket helps.
    Gone = 2,
}

/// Numbers of one socket, published by its worker before it sleeps, and about once a second. Independent numbers: `Relaxed`.
#[derive(Debug, Default)]
pub struct SocketStatistics {
    received: AtomicU64,
    sent: AtomicU64,
    rx_dropped: AtomicU64,
    rx_ring_full: AtomicU64,
    fill_ring_empty: AtomicU64,
    rx_invalid: AtomicU64,
    tx_invalid: AtomicU64,
    filling: AtomicU64,
    in_flight: AtomicU64,
    link: AtomicU8,
}

impl SocketStatistics {
    /// Frames taken from the RX ring of this queue.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Frames put on the TX ring of this queue.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Frames that the kernel lost because it could not put them on the RX ring for another reason than those below.
    pub fn rx_dropped(&self) -> u64 {
        self.rx_dropped.load(Relaxed)
    }

    /// Frames that the kernel lost because the worker was late: the RX ring was full.
    pub fn rx_ring_full(&self) -> u64 {
        self.rx_ring_full.load(Relaxed)
    }

    /// Frames that the kernel took from the XDP program and lost, in the mode that the socket got.
    pub fn lost(&self, got: Got) -> u64 {
        let at_the_rings = self.rx_dropped() + self.rx_ring_full();
        match got {
            // The driver asks for frames before any come in: that it gets none is no loss yet.
            Got::ZeroCopy => at_the_rings,
            Got::Copy | Got::Generic => at_the_rings + self.fill_ring_empty(),
        }
    }

    /// Times that the kernel found no frame to receive into. In copy mode each one is a lost frame; see [`SocketStatistics::lost`].
    pub fn fill_ring_empty(&self) -> u64 {
        self.fill_ring_empty.load(Relaxed)
    }

    /// Descriptors of the fill ring that the kernel refused; not 0 is a fault in weir.
    pub fn rx_invalid(&self) -> u64 {
        self.rx_invalid.load(Relaxed)
    }

    /// Descriptors of the TX ring that the kernel refused; not 0 is a fault in weir.
    pub fn tx_invalid(&self) -> u64 {
        self.tx_invalid.load(Relaxed)
    }

    /// Frames that were with the kernel to be received into.
    pub fn filling(&self) -> u64 {
        self.filling.load(Relaxed)
    }

    /// Frames that were on their way out.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Whether the queue can be sent to; this one is up to date.
    pub fn link(&self) -> Link {
        match self.link.load(Relaxed) {
            0 => Link::Up,
            1 => Link::Down,
            _ => Link::Gone,
        }
    }

    pub(super) fn set_link(&self, link: Link) {
        self.link.store(link as u8, Relaxed);
    }

    pub(super) fn publish_frames(&self, received: u64, sent: u64, filling: usize, in_flight: usize) {
        self.received.store(received, Relaxed);
        self.sent.store(sent, Relaxed);
        self.filling.store(filling as u64, Relaxed);
        self.in_flight.store(in_flight as u64, Relaxed);
    }

    pub(super) fn publish_kernel(&self, kernel: &XdpStatistics) {
        self.rx_dropped.store(kernel.rx_dropped(), Relaxed);
        self.rx_ring_full.store(kernel.rx_ring_full(), Relaxed);
        self.fill_ring_empty.store(kernel.rx_fill_ring_empty_descs(), Relaxed);
        self.rx_invalid.store(kernel.rx_invalid_descs(), Relaxed);
        self.tx_invalid.store(kernel.tx_invalid_descs(), Relaxed);
    }
}
