//! What every packet carries behind its transport header, in network byte order: tag (4 bytes), sequence number (6), nanoseconds of the
//! monotonic clock (8).
//!
//! Tag: 22 bits of the run, 8 of the trial, 2 of the kind.

/// Bytes of it.
pub const STAMP: usize = 18;
/// Kinds: bit 0 is set in what was sent back, bit 1 in what opens flows.
pub const KINDS: usize = 4;
/// Set in the tag of packets that open flows.
pub const OPENING: u32 = 2;
/// What the kernel's pktgen writes in place of a tag, and behind it: sequence number (4 bytes), seconds (4) and microseconds (4) of the wall clock.
pub const PKTGEN: u32 = 0xbe9b_e955;

/// The tag of measured packets.
pub fn tag(run: u32, trial: u8) -> u32 {
    run << 10 | u32::from(trial) << 2
}

/// Writes it at the beginning of `at`.
///
/// # Panics
/// When there are fewer than [`STAMP`] bytes.
pub fn write(at: &mut [u8], tag: u32, sequence: u64, time: u64) {
    at[..4].copy_from_slice(&tag.to_be_bytes());
    at[4..10].copy_from_slice(&sequence.to_be_bytes()[2..]);
    at[10..18].copy_from_slice(&time.to_be_bytes());
}
