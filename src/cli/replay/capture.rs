//! Captures of Ethernet packets in files.

use crate::io::pcap::{CaptureReader, Captured};
use anyhow::Context;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// Reads a capture.
pub(super) struct Reader {
    frames: CaptureReader,
    name: String,
}

impl Reader {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let frames = CaptureReader::new(Box::new(BufReader::new(file))).with_context(|| name.clone())?;
        Ok(Self { frames, name })
    }

    pub(super) fn next(&mut self) -> anyhow::Result<Option<Captured>> {
        self.frames.next().transpose().with_context(|| self.name.clone())
    }
}

/// Writes a capture.
pub(super) struct Writer {
    packets: PcapWriter<BufWriter<File>>,
}

impl Writer {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
        let packets = PcapWriter::with_header(BufWriter::new(file), header);
        Ok(Self { packets: packets.with_context(|| format!("cannot write {}", path.display()))? })
    }

    pub(super) fn write(&mut self, at: Duration, bytes: &[u8]) -> anyhow::Result<()> {
        let length = u32::try_from(bytes.len())?;
        self.packets.write_packet(&PcapPacket::new(at, length, bytes))?;
        Ok(())
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        Ok(self.packets.into_writer().flush()?)
    }
}
