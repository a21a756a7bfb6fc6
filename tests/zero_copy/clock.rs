//! How fast the time-stamp counter of this machine counts. QEMU hands it on to its guests, whose kernels would find out against an emulated timer at their boot:
//! on a busy machine one was four times too fast from then on, and every patience in it four times too short.
#![allow(unsafe_code)] // the counter is read by an instruction

use std::arch::x86_64::_rdtsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Counts a millisecond.
pub(crate) fn tsc_khz() -> u128 {
    let (began, first) = now();
    sleep(Duration::from_millis(200));
    let (ended, last) = now();
    u128::from(last.wrapping_sub(first)) * 1_000_000 / ended.duration_since(began).as_nanos()
}

/// One moment by both clocks: of many readings that with the least between them.
fn now() -> (Instant, u64) {
    let read = |_| {
        let before = Instant::now();
        // SAFETY: every x86-64 has the instruction, which only reads the counter.
        let count = unsafe { _rdtsc() };
        (before.elapsed(), before, count)
    };
    let (_, moment, count) = (0..100).map(read).min_by_key(|(between, ..)| *between).expect("readings");
    (moment, count)
}
