//! What may be wrong with a capture.

use thiserror::Error;

/// A capture that cannot be read.
#[derive(Debug, Error)]
pub enum PcapError {
    /// Neither magic number.
    #[error("this is no capture: it begins with {0:02x?}, which is neither pcap nor pcapng")]
    NoCapture(Vec<u8>),
    /// Not Ethernet.
    #[error("the frames are of link type {0}; only Ethernet (1) is understood")]
    LinkType(u32),
    /// Broken inside.
    #[error("frame {frame} cannot be read: {source}{}", detail(source))]
    Frame {
        /// Counted from 1.
        frame: u64,
        /// What is wrong.
        source: pcap_file::PcapError,
    },
    /// A pcapng frame of an interface that was not described.
    #[error("frame {frame} is of interface {interface}, which the capture does not describe")]
    Interface {
        /// Counted from 1.
        frame: u64,
        /// Its number.
        interface: u32,
    },
    /// The header.
    #[error("the capture's header cannot be read: {source}{}", detail(source))]
    Header {
        /// What is wrong.
        source: pcap_file::PcapError,
    },
    /// The input itself.
    #[error("the capture cannot be read: {0}")]
    Input(#[from] std::io::Error),
}

/// The crate's own messages leave out the cause.
fn detail(error: &pcap_file::PcapError) -> String {
    std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default()
}
