//! Memory of a table: one anonymous mapping, zeroed by the kernel, touched only as connections come, unless it is populated before.
//!
//! All that is kept in it are atomics addressed by index, so that the same bytes could live in a memfd at any address.

#![allow(unsafe_code)] // mmap, and views of the mapping as slices of atomics

use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Types that a region may hold.
///
/// # Safety
/// Every bit pattern is a valid value, all zeroes among them; the type is made of atomics only, so that a shared reference is
/// all that anyone ever needs; and dropping it does nothing.
pub(super) unsafe trait Plain: Sync + Default {}

// SAFETY: an atomic; 0 is a number.
unsafe impl Plain for AtomicU64 {}

/// A fixed number of `T`, all zero at first.
#[derive(Debug)]
pub(super) struct Region<T: Plain> {
    start: NonNull<T>,
    count: usize,
    items: PhantomData<T>,
}

// SAFETY: the mapping belongs to the region alone and `T: Plain` is Sync; nothing is tied to the thread that made it.
unsafe impl<T: Plain> Send for Region<T> {}
// SAFETY: as above; only shared references to `T: Sync` are given out.
unsafe impl<T: Plain> Sync for Region<T> {}

/// Transparent huge pages are worth their zeroing only for regions much larger than one.
const HUGE_PAGE: usize = 2 << 20;

impl<T: Plain> Region<T> {
    /// Room for `count` items.
    pub(super) fn new(count: usize) -> io::Result<Self> {
        let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| *bytes > 0).ok_or(io::ErrorKind::InvalidInput)?;
        // Rounded up so that the mapping can be aligned to huge pages: a table at an odd page would begin and end with small ones.
        let length = bytes + HUGE_PAGE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let skip = address.align_offset(HUGE_PAGE);
        // SAFETY: `skip` is below HUGE_PAGE, by which the mapping is longer than `bytes`: both ends that are given back lie in it, outside
        // of what is kept. A failing munmap or madvise leaves pages mapped or small, which is only less tidy.
        let start = unsafe {
            let start = address.byte_add(skip);
            if skip > 0 {
                libc::munmap(address, skip);
            }
            let kept = bytes.next_multiple_of(4096);
            libc::munmap(start.byte_add(kept), length - skip - kept);
            if bytes >= 2 * HUGE_PAGE {
                libc::madvise(start, kept, libc::MADV_HUGEPAGE);
            }
            start
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, count, items: PhantomData })
    }

    /// All items.
    #[inline(always)]
    pub(super) fn items(&self) -> &[T] {
        // SAFETY: the mapping holds `count` items of T from `start`, aligned to a huge page, for as long as self lives; `T: Plain` makes
        // zeroes valid and every later write goes through T's own atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }

    /// Takes the memory now, so that nobody who writes to an item later waits for a page.
    ///
    /// # Errors
    /// When there is not so much memory; when the kernel cannot do it (Linux before 5.14).
    pub(super) fn populate(&self) -> io::Result<()> {
        let length = self.bytes().next_multiple_of(4096);
        // SAFETY: the mapping of `new`, whole; its bytes stay what they are.
        match unsafe { libc::madvise(self.start.as_ptr().cast(), length, libc::MADV_POPULATE_WRITE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Bytes of address space that the items take.
    pub(super) fn bytes(&self) -> usize {
        self.count * size_of::<T>()
    }
}

impl<T: Plain> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` kept; no reference outlives self.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes().next_multiple_of(4096)) };
    }
}
