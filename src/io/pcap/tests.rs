use super::*;
use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use std::borrow::Cow;
use std::io::Cursor;
use std::time::Duration;

/// A classic capture by hand: seconds, fraction, bytes, length on the wire.
fn classic(magic: u32, frames: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [magic, 4 << 16 | 2, 0, 0, 96, 1] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for (seconds, fraction, bytes, length) in frames {
        for word in [*seconds, *fraction, bytes.len() as u32, *length] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(bytes);
    }
    file
}

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

fn open(bytes: &[u8]) -> Result<CaptureReader, PcapError> {
    CaptureReader::new(Box::new(Cursor::new(bytes.to_vec())))
}

fn captured(bytes: &[u8]) -> Vec<(Vec<u8>, Duration)> {
    let mut reader = open(bytes).unwrap();
    std::iter::from_fn(|| reader.next()).map(|frame| frame.unwrap()).map(|frame| (frame.bytes, frame.time)).collect()
}

#[test]
fn a_classic_capture_is_read_in_its_own_unit_of_time() {
    for (magic, fraction, nanoseconds) in [(MICROSECONDS, 123_456, 123_456_000), (NANOSECONDS, 123_456_789, 123_456_789)] {
        // Captured with a snap length of 96: longer on the wire.
        let file = classic(magic, &[(7, fraction, &[0x0f; 60], 1514), (8, 0, b"next", 4)]);
        assert_eq!(
            captured(&file),
            [(vec![0x0f; 60], Duration::new(7, nanoseconds)), (b"next".to_vec(), Duration::from_secs(8))]
        );
    }
}

#[test]
fn a_pcapng_capture_is_read_in_the_unit_of_each_interface() {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    for options in [vec![InterfaceDescriptionOption::IfTsResol(9)], vec![]] {
        let interface = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 96, options };
        writer.write_block(&interface.into_block()).unwrap();
    }
    for interface_id in [0, 1] {
        // The crate writes every time as nanoseconds.
        let timestamp = Duration::new(3, 500);
        let data = Cow::Borrowed(b"frame".as_slice());
        writer
            .write_pcapng_block(EnhancedPacketBlock { interface_id, timestamp, original_len: 1514, data, options: Vec::new() })
            .unwrap();
    }
    let nanoseconds = 3_000_000_500;
    assert_eq!(
        captured(&writer.into_inner()),
        [(b"frame".to_vec(), Duration::from_nanos(nanoseconds)), (b"frame".to_vec(), Duration::from_micros(nanoseconds))]
    );
}

#[test]
fn what_is_no_capture_is_refused() {
    let refused = |bytes: &[u8]| open(bytes).err().expect("a refusal").to_string();
    assert_eq!(refused(b"GIF89a"), "this is no capture: it begins with [47, 49, 46, 38], which is neither pcap nor pcapng");
    assert_eq!(refused(b""), "this is no capture: it begins with [], which is neither pcap nor pcapng");
    let mut radio = classic(MICROSECONDS, &[]);
    radio[20] = 105;
    assert_eq!(refused(&radio), "the frames are of link type 105; only Ethernet (1) is understood");
    assert!(refused(&radio[..10]).starts_with("the capture's header cannot be read"));
}

#[test]
fn a_capture_that_was_cut_is_read_up_to_there_and_says_so() {
    let file = classic(MICROSECONDS, &[(1, 0, b"whole", 5), (2, 0, b"broken", 6)]);
    let mut reader = open(&file[..file.len() - 3]).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().bytes, b"whole");
    assert!(reader.next().unwrap().unwrap_err().to_string().starts_with("frame 2 cannot be read"));
}
