//! The atomics of the table: the standard library's, or with the feature `loom` those of the crate that tries every interleaving.
//!
//! loom treats sequentially consistent accesses as acquire and release, but knows sequentially consistent fences: there, an access of that
//! kind stands between two of them.

pub(super) use std::sync::atomic::Ordering;

#[cfg(not(feature = "loom"))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence};

#[cfg(feature = "loom")]
pub(super) use modelled::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence};

#[cfg(feature = "loom")]
mod modelled {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicUsize, fence};
    use std::sync::atomic::Ordering::{self, SeqCst};

    /// As the standard library's. In a bound of [`super::super::Family`], so as public as that.
    #[derive(Debug, Default)]
    #[allow(unreachable_pub)]
    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub(crate) fn load(&self, ordering: Ordering) -> u64 {
            between_fences(ordering, || self.0.load(ordering))
        }

        pub(crate) fn store(&self, value: u64, ordering: Ordering) {
            between_fences(ordering, || self.0.store(value, ordering));
        }

        pub(crate) fn swap(&self, value: u64, ordering: Ordering) -> u64 {
            between_fences(ordering, || self.0.swap(value, ordering))
        }

        pub(crate) fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
            between_fences(ordering, || self.0.fetch_add(value, ordering))
        }

        pub(crate) fn fetch_sub(&self, value: u64, ordering: Ordering) -> u64 {
            between_fences(ordering, || self.0.fetch_sub(value, ordering))
        }

        pub(crate) fn compare_exchange(&self, from: u64, to: u64, ordering: Ordering, failure: Ordering) -> Result<u64, u64> {
            between_fences(ordering, || self.0.compare_exchange(from, to, ordering, failure))
        }

        pub(crate) fn compare_exchange_weak(
            &self,
            from: u64,
            to: u64,
            ordering: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.compare_exchange(from, to, ordering, failure)
        }
    }

    fn between_fences<T>(ordering: Ordering, access: impl FnOnce() -> T) -> T {
        if ordering != SeqCst {
            return access();
        }
        fence(SeqCst);
        let result = access();
        fence(SeqCst);
        result
    }
}
