//! The memory that all sockets of one worker share, and the list of its free frames.
//!
//! Each frame has exactly one holder at any time: this list, a fill or RX ring (until it is received), a TX or completion ring
//! (until it is completed), or the burst that is lent out. xsk-rs leaves that to its user; here it is counted, see
//! [`super::XskPorts`].
#![allow(unsafe_code)] // frames are slices of the UMEM, which xsk-rs can only hand out unsafely

use super::XskError;
use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

/// Bytes in front of the packet that the kernel keeps in each frame (`XDP_PACKET_HEADROOM`).
pub(super) const HEADROOM: u32 = 256;
/// What a frame holds besides the IP packet: Ethernet header and one VLAN tag.
pub(super) const LINK_HEADERS: u32 = 18;

/// Sizes of a UMEM.
#[derive(Debug, Clone, Copy)]
pub(super) struct UmemSizes {
    pub(super) frame_size: u32,
    pub(super) frames: u32,
    pub(super) fill_ring: u32,
    pub(super) completion_ring: u32,
}

/// The frames of one worker.
///
/// One-shot: once its last socket is closed no other can be bound to it, so each attempt at binding makes a new one.
#[derive(Debug)]
pub(super) struct Frames {
    umem: Umem,
    /// The last one given back is taken first: its bytes may still be in the cache.
    free: Vec<FrameDesc>,
    total: usize,
}

impl Frames {
    /// Maps and registers the memory.
    pub(super) fn new(sizes: UmemSizes, huge_pages: bool) -> Result<Self, XskError> {
        let bytes = sizes.frame_size as usize * sizes.frames as usize;
        let failed = |source| XskError::Umem { bytes, source };
        let config = umem_config(sizes).map_err(failed)?;
        let count = NonZeroU32::new(sizes.frames).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let (umem, free) = Umem::new(config, count, huge_pages).map_err(|error| failed(os_error(&error)))?;
        Ok(Self { umem, total: free.len(), free })
    }

    pub(super) fn umem(&self) -> &Umem {
        &self.umem
    }

    /// All there are.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Those that nobody holds.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a frame back.
    pub(super) fn give(&mut self, frame: FrameDesc) {
        self.free.push(frame);
    }

    /// Takes a free frame, empty.
    pub(super) fn take(&mut self) -> Option<FrameDesc> {
        let mut frame = self.free.pop()?;
        self.set_length(&mut frame, 0);
        Some(frame)
    }

    /// Lends up to `wanted` free frames to `taker`, which says how many of them, counted from the front, it keeps.
    pub(super) fn take_for(&mut self, wanted: usize, taker: impl FnOnce(&[FrameDesc]) -> usize) -> usize {
        let rest = self.free.len() - wanted.min(self.free.len());
        let kept = taker(&self.free[rest..]);
        self.free.drain(rest..rest + kept);
        kept
    }

    /// The whole room of a frame and how much of it is filled. The borrow of the descriptor keeps a second view away.
    pub(super) fn view<'a>(&'a self, frame: &'a mut FrameDesc) -> (&'a mut [u8], usize) {
        // SAFETY: descriptors come only from this UMEM, and the one holder of this frame lends it: the kernel has given it up
        // with the RX or completion ring entry through which it came, and no other descriptor with its address is in user space.
        let mut data = unsafe { self.umem.data_mut(frame) };
        let length = data.contents().len();
        data.cursor().set_pos(usize::MAX);
        let room = data.contents_mut().as_mut_ptr_range();
        data.cursor().set_pos(length);
        let bytes = room.end.addr() - room.start.addr();
        // SAFETY: the same memory for as long as the descriptor and the UMEM are borrowed; `data` only had it through a shorter
        // borrow of itself and is not used any more.
        (unsafe { std::slice::from_raw_parts_mut(room.start, bytes) }, length)
    }

    /// Says how many bytes of the frame are filled. Most packets leave as long as they came: the descriptor is copied next, and a copy of
    /// what has just been written waits until it is stored.
    pub(super) fn set_length(&self, frame: &mut FrameDesc, length: usize) {
        if frame.lengths().data() == length {
            return;
        }
        // SAFETY: as in `view`; only the descriptor is written.
        unsafe { self.umem.data_mut(frame) }.cursor().set_pos(length);
    }
}

fn umem_config(sizes: UmemSizes) -> io::Result<UmemConfig> {
    let invalid = |error: &dyn Error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    UmemConfig::builder()
        .frame_size(FrameSize::new(sizes.frame_size).map_err(|error| invalid(&error))?)
        .fill_queue_size(QueueSize::new(sizes.fill_ring).map_err(|error| invalid(&error))?)
        .comp_queue_size(QueueSize::new(sizes.completion_ring).map_err(|error| invalid(&error))?)
        .build()
        .map_err(|error| invalid(&error))
}

/// The kernel's error inside one of xsk-rs.
pub(super) fn os_error(error: &(dyn Error + 'static)) -> io::Error {
    let inner = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match inner.and_then(io::Error::raw_os_error) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error.to_string()),
    }
}
