//! Sequence numbers of a TCP stream in which text was replaced by text of another length (`nf_conntrack_seqadj`).
//!
//! Each replacement is remembered by the number of its first byte, so that the same segment, sent again, becomes the same again, and so that
//! numbers before and behind it can be told from each other. The kernel remembers one of each direction, here it is the last few.
//! A replacement is two words that both name its place; one that is seen half is not seen.

use arrayvec::ArrayVec;
use std::sync::atomic::{AtomicU64, Ordering};

/// Replacements of one direction that are remembered.
pub const REMEMBERED: usize = 4;
/// Most that one stream may grow or shrink by: what is left of its word.
const MOST: i32 = (1 << 23) - 1;

/// Text that was replaced. Numbers are its sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// Of its first byte.
    pub sequence: u32,
    /// Bytes that its sender has sent.
    pub length: u8,
    /// What stands there now is so much longer.
    pub growth: i8,
    /// By how much everything behind it is shifted.
    pub offset: i32,
    /// What the text says, as its protocol numbers it; not 0.
    pub form: u8,
    /// The port that it names now.
    pub port: u16,
}

impl Edit {
    /// The number behind its last byte.
    pub fn end(&self) -> u32 {
        self.sequence.wrapping_add(u32::from(self.length))
    }

    fn offset_before(&self) -> i32 {
        self.offset - i32::from(self.growth)
    }
}

/// The last replacements of one direction.
#[derive(Debug, Default)]
pub struct Edits([[AtomicU64; 2]; REMEMBERED]);

/// A segment holds a part of a text that was replaced: it has no counterpart on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn;

impl Edits {
    /// All of them, in the order of their numbers.
    fn all(&self) -> ArrayVec<Edit, REMEMBERED> {
        let mut edits: ArrayVec<_, REMEMBERED> = self.0.iter().filter_map(load).collect();
        edits.sort_unstable_by(|one, other| one.sequence.wrapping_sub(other.sequence).cast_signed().cmp(&0));
        edits
    }

    /// By how much a byte with this number is shifted.
    pub fn offset_at(&self, sequence: u32) -> i32 {
        let edits = self.all();
        let passed = edits.iter().rfind(|edit| is_behind(sequence, edit.sequence));
        passed.map_or_else(|| edits.first().map_or(0, Edit::offset_before), |edit| edit.offset)
    }

    /// The number that the receiver sees in place of the sender's.
    pub fn forth(&self, sequence: u32) -> u32 {
        sequence.wrapping_add_signed(self.offset_at(sequence))
    }

    /// The sender's number for one that the receiver says. Of a replaced text, nothing is acknowledged before all of it is.
    pub fn back(&self, number: u32) -> u32 {
        let edits = self.all();
        let began = |edit: &Edit| edit.sequence.wrapping_add_signed(edit.offset_before());
        match edits.iter().rfind(|edit| is_behind(number, began(edit))) {
            Some(edit) if is_behind(edit.end().wrapping_add_signed(edit.offset), number) => edit.sequence,
            Some(edit) => number.wrapping_add_signed(-edit.offset),
            None => number.wrapping_add_signed(-edits.first().map_or(0, Edit::offset_before)),
        }
    }

    /// Those of a segment that begins with `sequence`, in order.
    ///
    /// # Errors
    /// When the segment has a part of one.
    pub fn within(&self, sequence: u32, length: usize) -> Result<ArrayVec<Edit, REMEMBERED>, Torn> {
        let end = sequence.wrapping_add(length as u32);
        let touched = self.all().into_iter().filter(|edit| is_behind(edit.end(), sequence) && is_behind(end, edit.sequence));
        let touched: ArrayVec<_, REMEMBERED> = touched.collect();
        let whole = |edit: &Edit| !is_behind(sequence, edit.sequence) && !is_behind(edit.end(), end);
        if touched.iter().all(whole) { Ok(touched) } else { Err(Torn) }
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        // Relaxed: nobody else knows the connection.
        self.0.as_flattened().iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Remembers a replacement behind all others, in place of the oldest. One thread at a time. `None`: it is not behind them, or the stream
    /// has been shifted too far, or the receiver has not acknowledged the oldest: what it will say is at most `acknowledged` yet.
    pub fn push(&self, (sequence, length): (u32, u8), growth: i8, (form, port): (u8, u16), acknowledged: u32) -> Option<Edit> {
        let edits = self.all();
        let offset = edits.last().map_or(0, |edit| edit.offset) + i32::from(growth);
        if offset.abs() > MOST || edits.last().is_some_and(|last| is_behind(last.end(), sequence)) {
            return None;
        }
        let free = self.0.iter().find(|words| load(words).is_none());
        let oldest = edits.first().filter(|oldest| !is_behind(oldest.end(), acknowledged));
        let oldest = oldest.and_then(|oldest| self.0.iter().find(|words| load(words) == Some(*oldest)));
        let edit = Edit { sequence, length, growth, offset, form, port };
        store(free.or(oldest)?, &edit);
        Some(edit)
    }
}

/// First word: number (32) | offset (24) | growth (8). Second: number (32) | port (16) | length (8) | form (8).
fn load([first, second]: &[AtomicU64; 2]) -> Option<Edit> {
    // Acquire: pairs with the Release in `store`, whose second word was there before.
    let first = first.load(Ordering::Acquire);
    let second = second.load(Ordering::Relaxed);
    let edit = Edit {
        sequence: (first >> 32) as u32,
        length: (second >> 8) as u8,
        growth: (first as u8).cast_signed(),
        offset: (first as u32).cast_signed() >> 8,
        form: second as u8,
        port: (second >> 16) as u16,
    };
    (edit.form != 0 && first >> 32 == second >> 32).then_some(edit)
}

fn store([first, second]: &[AtomicU64; 2], edit: &Edit) {
    let place = u64::from(edit.sequence) << 32;
    let says = u64::from(edit.port) << 16 | u64::from(edit.length) << 8 | u64::from(edit.form);
    let shift = u64::from(edit.offset.cast_unsigned() << 8) | u64::from(edit.growth.cast_unsigned());
    second.store(place | says, Ordering::Relaxed);
    // Release: pairs with `load`.
    first.store(place | shift, Ordering::Release);
}

/// Whether `number` is behind `other` (RFC 9293, section 3.4).
pub(crate) fn is_behind(number: u32, other: u32) -> bool {
    number.wrapping_sub(other).cast_signed() > 0
}

/// Adjusts the edges of SACK blocks (RFC 2018) in the options of a segment (`nf_ct_sack_adjust`).
pub fn sack_adjust(options: &mut [u8], adjusted: impl Fn(u32) -> u32) {
    const NOP: u8 = 1;
    const SACK: u8 = 5;
    let mut at = 0;
    while let Some(kind) = options.get(at).filter(|kind| **kind != 0).copied() {
        let length = if kind == NOP { 1 } else { options.get(at + 1).map_or(0, |length| usize::from(*length)) };
        let Some(option) = options.get_mut(at..at + length).filter(|option| !option.is_empty()) else { return };
        if kind == SACK && option.len() % 8 == 2 {
            for edge in option[2..].as_chunks_mut::<4>().0 {
                *edge = adjusted(u32::from_be_bytes(*edge)).to_be_bytes();
            }
        }
        at += length;
    }
}

#[cfg(test)]
mod tests;
