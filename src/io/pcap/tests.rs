use super::*;
use crate::datapath::Fate;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// A file that can be read after its writer is gone.
#[derive(Clone, Default)]
struct Sink(Rc<RefCell<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn names() -> Vec<String> {
    vec!["outside".to_owned(), "inside".to_owned()]
}

fn open(bytes: &[u8]) -> (PcapPorts, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (PcapPorts::new(&names(), io::Cursor::new(bytes.to_vec()), Arc::clone(&counters)).unwrap(), counters)
}

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

/// Sends everything to the other port, byte 0 changed, and returns port, time and number of frames of each burst.
fn replay(ports: &mut PcapPorts) -> Vec<(u8, Duration, usize)> {
    let mut bursts = Vec::new();
    while let Some(next) = ports.upcoming() {
        let frames = ports.receive(next.port, &mut |frames| {
            for frame in frames {
                frame.buffer[0] ^= 0xff;
                frame.fate = Fate::Transmit(PortId(1 - frame.port.0));
            }
        });
        bursts.push((next.port.0, next.time, frames));
    }
    bursts
}

fn captured(bytes: &[u8]) -> Vec<(Vec<u8>, Duration, Option<String>)> {
    let mut reader = CaptureReader::new(Box::new(io::Cursor::new(bytes.to_vec()))).unwrap();
    let next = std::iter::from_fn(|| reader.next());
    next.map(|frame| frame.unwrap()).map(|frame| (frame.bytes, frame.time, frame.interface_name)).collect()
}

#[test]
fn a_burst_is_what_comes_within_a_millisecond() {
    let file = classic(MICROSECONDS, &[(10, 500, b"a", 1), (10, 999, b"b", 1), (10, 1000, b"c", 1), (9, 0, b"d", 1)]);
    let (mut ports, counters) = open(&file);
    let bursts = replay(&mut ports);
    let at = |microseconds| Duration::from_secs(10) + Duration::from_micros(microseconds);
    // The last one is dated before the one in front of it: time stands still instead.
    assert_eq!(bursts, [(0, at(500), 2), (0, at(1000), 2)]);
    assert_eq!((counters.rx.get(), counters.tx.get(), counters.bursts.get()), (4, 4, 2));
}

#[test]
fn times_come_out_as_they_went_in() {
    for (magic, fraction, nanoseconds) in [(MICROSECONDS, 123_456, 123_456_000), (NANOSECONDS, 123_456_789, 123_456_789)] {
        // Captured with a snap length of 96: longer on the wire.
        let file = classic(magic, &[(7, fraction, &[0x0f; 60], 1514)]);
        for format in [Format::Pcap, Format::PcapNg] {
            let sink = Sink::default();
            let (mut ports, _) = open(&file);
            ports.write_to(sink.clone(), format).unwrap();
            replay(&mut ports);
            ports.finish().unwrap();
            let mut bytes = vec![0x0f; 60];
            bytes[0] = 0xf0;
            let name = (format == Format::PcapNg).then(|| "inside".to_owned());
            assert_eq!(captured(&sink.0.borrow()), [(bytes, Duration::new(7, nanoseconds), name)]);
        }
    }
}

#[test]
fn frames_come_in_at_the_interface_that_captured_them() {
    let sink = Sink::default();
    let file = classic(NANOSECONDS, &[(1, 0, b"first", 5), (1, 1, b"second", 6)]);
    let (mut ports, _) = open(&file);
    ports.write_to(sink.clone(), Format::PcapNg).unwrap();
    replay(&mut ports);
    ports.finish().unwrap();
    // Everything left through `inside`, so in the second replay it comes in there.
    let (mut ports, _) = open(&sink.0.borrow());
    assert_eq!(replay(&mut ports), [(1, Duration::from_secs(1), 2)]);
}

#[test]
fn originated_frames_bear_the_time_of_the_last_burst() {
    let sink = Sink::default();
    let (mut ports, counters) = open(&classic(MICROSECONDS, &[(3, 0, b"x", 1), (9, 0, b"y", 1)]));
    ports.write_to(sink.clone(), Format::Pcap).unwrap();
    ports.receive(PortId(0), &mut |frames| frames[0].fate = Fate::Transmit(PortId(1)));
    let lent = ports.originate(2, &mut |frames| {
        frames[0].buffer[..4].copy_from_slice(b"made");
        frames[0].length = 4;
        frames[0].fate = Fate::Transmit(PortId(0));
    });
    assert_eq!((lent, counters.tx.get()), (2, 2));
    ports.finish().unwrap();
    assert_eq!(captured(&sink.0.borrow())[1], (b"made".to_vec(), Duration::from_secs(3), None));
}

#[test]
fn what_is_no_capture_is_refused() {
    let refused = |bytes: &[u8]| {
        PcapPorts::new(&names(), io::Cursor::new(bytes.to_vec()), Arc::default()).expect_err("a refusal").to_string()
    };
    assert_eq!(refused(b"GIF89a"), "this is no capture: it begins with [47, 49, 46, 38], which is neither pcap nor pcapng");
    assert_eq!(refused(b""), "this is no capture: it begins with [], which is neither pcap nor pcapng");
    let mut radio = classic(MICROSECONDS, &[]);
    radio[20] = 105;
    assert_eq!(refused(&radio), "the frames are of link type 105; only Ethernet (1) is understood");
    assert!(refused(&radio[..10]).starts_with("the capture's header cannot be read"));
}

#[test]
fn a_capture_that_was_cut_is_replayed_up_to_there_and_says_so() {
    let file = classic(MICROSECONDS, &[(1, 0, b"whole", 5), (2, 0, b"broken", 6)]);
    let (mut ports, counters) = open(&file[..file.len() - 3]);
    assert_eq!(replay(&mut ports).len(), 1);
    assert_eq!(counters.rx.get(), 1);
    assert!(ports.finish().unwrap_err().to_string().starts_with("frame 2 cannot be read"));
}

#[test]
fn the_format_follows_the_name() {
    assert_eq!(Format::of(Path::new("out.PcapNg")), Format::PcapNg);
    assert_eq!(Format::of(Path::new("out.pcap")), Format::Pcap);
    assert_eq!(Format::of(Path::new("out")), Format::Pcap);
}
