//! Writing captures.

use super::PcapError;
use crate::datapath::PortId;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::SectionHeaderBlock;
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, TsResolution};
use std::borrow::Cow;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Larger than any frame: nothing is cut.
const SNAP_LENGTH: u32 = 262_144;

/// What a written capture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Classic pcap: every program reads it; it does not say through which interface a frame left.
    Pcap,
    /// pcapng, with the interfaces by name.
    PcapNg,
}

impl Format {
    /// By the name of the file: pcapng if it ends so, else classic.
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().unwrap_or_default();
        if extension.eq_ignore_ascii_case("pcapng") { Self::PcapNg } else { Self::Pcap }
    }
}

type Sink = Box<dyn Write>;

/// A capture that is written frame by frame. Little-endian on every machine, so that golden captures are the same bytes.
pub(super) enum CaptureWriter {
    Classic(PcapWriter<Sink>),
    NextGeneration(PcapNgWriter<Sink>),
}

impl CaptureWriter {
    pub(super) fn new(output: Sink, format: Format, resolution: TsResolution, names: &[String]) -> Result<Self, PcapError> {
        let writer = match format {
            Format::Pcap => PcapWriter::with_header(output, header(resolution)).map(Self::Classic),
            Format::PcapNg => describe(output, names).map(Self::NextGeneration),
        };
        writer.map_err(|source| PcapError::Output { source })
    }

    pub(super) fn write(&mut self, port: PortId, time: Duration, bytes: &[u8]) -> Result<(), PcapError> {
        let length = bytes.len() as u32;
        let written = match self {
            Self::Classic(writer) => writer.write_packet(&PcapPacket::new(time, length, bytes)),
            Self::NextGeneration(writer) => writer.write_pcapng_block(EnhancedPacketBlock {
                interface_id: port.0.into(),
                timestamp: time,
                original_len: length,
                data: Cow::Borrowed(bytes),
                options: Vec::new(),
            }),
        };
        written.map(drop).map_err(|source| PcapError::Output { source })
    }

    pub(super) fn finish(self) -> Result<(), PcapError> {
        let mut output = match self {
            Self::Classic(writer) => writer.into_writer(),
            Self::NextGeneration(writer) => writer.into_inner(),
        };
        output.flush().map_err(|error| PcapError::Output { source: pcap_file::PcapError::IoError(error) })
    }
}

fn header(ts_resolution: TsResolution) -> PcapHeader {
    let datalink = DataLink::ETHERNET;
    PcapHeader { snaplen: SNAP_LENGTH, datalink, ts_resolution, endianness: Endianness::Little, ..PcapHeader::default() }
}

fn describe(output: Sink, names: &[String]) -> Result<PcapNgWriter<Sink>, pcap_file::PcapError> {
    let section = SectionHeaderBlock { endianness: Endianness::Little, ..SectionHeaderBlock::default() };
    let mut writer = PcapNgWriter::with_section_header(output, section)?;
    for name in names {
        let options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(name.as_str())),
            // The crate writes nanoseconds: 10^-9.
            InterfaceDescriptionOption::IfTsResol(9),
        ];
        let interface = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: SNAP_LENGTH, options };
        writer.write_block(&interface.into_block())?;
    }
    Ok(writer)
}
