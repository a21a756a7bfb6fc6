//! Captures of Ethernet packets in files.

use anyhow::{Context, bail};
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// A packet and when it was seen.
#[derive(Debug)]
pub(super) struct Captured {
    /// Since 1970.
    pub(super) at: Duration,
    /// From the Ethernet header on.
    pub(super) bytes: Vec<u8>,
}

/// Reads a capture.
pub(super) struct Reader {
    packets: PcapReader<BufReader<File>>,
    name: String,
    number: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let packets = PcapReader::new(BufReader::new(file)).with_context(|| format!("{name} is no pcap file"))?;
        let link = packets.header().datalink;
        if link != DataLink::ETHERNET {
            bail!("{name} is a capture of {link:?}; only ETHERNET can be replayed");
        }
        Ok(Self { packets, name, number: 0 })
    }

    pub(super) fn next(&mut self) -> anyhow::Result<Option<Captured>> {
        self.number += 1;
        let Some(packet) = self.packets.next_packet() else { return Ok(None) };
        let packet = packet.with_context(|| format!("{}: packet {} cannot be read", self.name, self.number))?;
        Ok(Some(Captured { at: packet.timestamp, bytes: packet.data.into_owned() }))
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
