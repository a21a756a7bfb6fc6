//! Captures of Ethernet frames, as they are read.

mod error;
mod read;

pub use error::PcapError;
pub use read::{CaptureReader, Captured, Source};

#[cfg(test)]
mod tests;
