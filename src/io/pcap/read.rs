//! Reading captures: classic pcap and pcapng, either byte order, times to the microsecond or nanosecond.

use super::PcapError;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, TsResolution};
use std::io::{Cursor, Read};
use std::time::Duration;

/// The block type that every pcapng file begins with, the same in both byte orders.
const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The unit of time of an interface that tells none.
const MICROSECONDS: u8 = 6;

/// One captured frame.
#[derive(Debug)]
pub struct Captured {
    /// From the Ethernet header on, as much as was captured.
    pub bytes: Vec<u8>,
    /// Since the capture's epoch, 1970 in most.
    pub time: Duration,
}

/// Where a capture is read from.
pub type Source = Box<dyn Read>;

/// A capture that is read frame by frame.
pub struct CaptureReader {
    file: File,
    /// Frames read.
    frames: u64,
    /// Of the last frame: a simple packet block has no time of its own.
    time: Duration,
}

enum File {
    Classic(PcapReader<Source>),
    NextGeneration(PcapNgReader<Source>),
}

impl CaptureReader {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is of neither format, or of another link than Ethernet.
    pub fn new(mut input: Source) -> Result<Self, PcapError> {
        let mut magic = Vec::new();
        input.by_ref().take(4).read_to_end(&mut magic)?;
        let format = magic.clone();
        let whole: Source = Box::new(Cursor::new(magic).chain(input));
        let file = if format == SECTION_HEADER {
            File::NextGeneration(PcapNgReader::new(whole).map_err(|source| PcapError::Header { source })?)
        } else if is_classic(&format) {
            let reader = PcapReader::new(whole).map_err(|source| PcapError::Header { source })?;
            check_link_type(reader.header().datalink)?;
            File::Classic(reader)
        } else {
            return Err(PcapError::NoCapture(format));
        };
        Ok(Self { file, frames: 0, time: Duration::ZERO })
    }

    /// The next frame, `None` at the end.
    #[allow(clippy::should_implement_trait)] // an error is not the end of an iterator, but of the reading
    pub fn next(&mut self) -> Option<Result<Captured, PcapError>> {
        self.frames += 1;
        let captured = match &mut self.file {
            File::Classic(reader) => next_classic(reader, self.frames),
            File::NextGeneration(reader) => next_generation(reader, self.frames, self.time),
        };
        if let Some(Ok(captured)) = &captured {
            self.time = captured.time;
        }
        captured
    }
}

fn is_classic(magic: &[u8]) -> bool {
    let known = [[0xa1, 0xb2, 0xc3, 0xd4], [0xa1, 0xb2, 0x3c, 0x4d], [0xd4, 0xc3, 0xb2, 0xa1], [0x4d, 0x3c, 0xb2, 0xa1]];
    known.iter().any(|known| known == magic)
}

fn check_link_type(link_type: DataLink) -> Result<(), PcapError> {
    if link_type == DataLink::ETHERNET { Ok(()) } else { Err(PcapError::LinkType(link_type.into())) }
}

/// Raw, because the crate refuses frames longer than the snap length, as every capture with one has.
fn next_classic(reader: &mut PcapReader<Source>, frame: u64) -> Option<Result<Captured, PcapError>> {
    let resolution = reader.header().ts_resolution;
    let packet = reader.next_raw_packet()?;
    Some(packet.map_err(|source| PcapError::Frame { frame, source }).map(|packet| {
        let fraction = match resolution {
            TsResolution::MicroSecond => Duration::from_micros(packet.ts_frac.into()),
            TsResolution::NanoSecond => Duration::from_nanos(packet.ts_frac.into()),
        };
        let time = Duration::from_secs(packet.ts_sec.into()) + fraction;
        Captured { bytes: packet.data.into_owned(), time }
    }))
}

/// A frame of a pcapng file, before its interface was looked up.
struct Found {
    interface: u32,
    ticks: Option<u64>,
    bytes: Vec<u8>,
}

fn next_generation(reader: &mut PcapNgReader<Source>, frame: u64, last: Duration) -> Option<Result<Captured, PcapError>> {
    loop {
        let found = match reader.next_block()? {
            Err(source) => return Some(Err(PcapError::Frame { frame, source })),
            // The crate takes every time for nanoseconds; it is in units of the interface.
            Ok(Block::EnhancedPacket(block)) => Found {
                interface: block.interface_id,
                ticks: Some(block.timestamp.as_nanos() as u64),
                bytes: block.data.into_owned(),
            },
            Ok(Block::SimplePacket(block)) => Found { interface: 0, ticks: None, bytes: block.data.into_owned() },
            Ok(_) => continue,
        };
        let Some(interface) = reader.interfaces().get(found.interface as usize) else {
            return Some(Err(PcapError::Interface { frame, interface: found.interface }));
        };
        return Some(captured(found, interface, last));
    }
}

fn captured(block: Found, interface: &InterfaceDescriptionBlock<'_>, last: Duration) -> Result<Captured, PcapError> {
    check_link_type(interface.linktype)?;
    let told = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(value) => Some(*value),
        _ => None,
    });
    let time = block.ticks.map_or(last, |ticks| from_ticks(ticks, told.unwrap_or(MICROSECONDS)));
    Ok(Captured { bytes: block.bytes, time })
}

/// The option if_tsresol: the highest bit says whether the others are the negative power of 2 or of 10 that the unit is.
fn from_ticks(ticks: u64, unit: u8) -> Duration {
    let exponent = u32::from(unit & 0x7f);
    let per_second = if unit & 0x80 == 0 { 10u128.checked_pow(exponent) } else { 1u128.checked_shl(exponent) };
    // A unit too small to be written is one that no tick count adds up to a nanosecond of.
    let Some(per_second) = per_second.filter(|per_second| *per_second <= u128::from(u64::MAX)) else { return Duration::ZERO };
    let nanoseconds = u128::from(ticks) * 1_000_000_000 / per_second;
    Duration::new((nanoseconds / 1_000_000_000) as u64, (nanoseconds % 1_000_000_000) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_in_the_unit_of_their_interface() {
        assert_eq!(from_ticks(1_500_000, 6), Duration::from_millis(1500));
        assert_eq!(from_ticks(1_500_000_001, 9), Duration::new(1, 500_000_001));
        assert_eq!(from_ticks(3, 0), Duration::from_secs(3));
        assert_eq!(from_ticks(5 << 19, 0x80 | 20), Duration::from_millis(2500));
        assert_eq!(from_ticks(u64::MAX, 0x7f), Duration::ZERO);
        assert_eq!(from_ticks(u64::MAX, 0xff), Duration::ZERO);
    }
}
