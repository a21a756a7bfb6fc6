//! [`super::region`] in a model of loom, whose atomics are no plain memory.

#![allow(unsafe_code)] // the same promise is asked for

use super::atomic::AtomicU64;
use std::io;

/// As that of the real region.
///
/// # Safety
/// As there; nothing here relies on it.
pub(super) unsafe trait Plain: Sync + Default {}

// SAFETY: an atomic.
unsafe impl Plain for AtomicU64 {}

/// A fixed number of `T`.
#[derive(Debug)]
pub(super) struct Region<T: Plain>(Box<[T]>);

impl<T: Plain> Region<T> {
    pub(super) fn new(count: usize) -> io::Result<Self> {
        Ok(Self((0..count).map(|_| T::default()).collect()))
    }

    pub(super) fn populate(&self) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn items(&self) -> &[T] {
        &self.0
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}
