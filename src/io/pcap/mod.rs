//! Ports over captures: frames come from one file and go to another, in the time that the capture tells.

mod error;
mod read;
mod write;

pub use error::PcapError;
pub use read::{CaptureReader, Captured};
pub use write::Format;

use super::Ports;
use super::settle::{Settled, count_received, count_sent, settle_originated, settle_received};
use crate::datapath::{BURST, Counters, DropReason, Frame, PortId};
use arrayvec::ArrayVec;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;
use write::CaptureWriter;

/// Bytes of room in a frame beyond what was captured, and at least: as in a UMEM frame, so that the same packets can grow.
const SMALLEST_ROOM: usize = 2048 - 256;
const GROWTH: usize = 64;

/// The next burst of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upcoming {
    /// Where it comes in.
    pub port: PortId,
    /// When, since the capture's epoch (1970 in most). Never earlier than the burst before, even if the capture says so.
    pub time: Duration,
}

/// A frame that was read but not received yet.
struct Arrived {
    upcoming: Upcoming,
    captured: Captured,
}

/// Ports over captures. A burst is at most [`BURST`] frames that follow each other in the file, came in at one port and within
/// one millisecond, the datapath's unit of time.
pub struct PcapPorts {
    names: Vec<String>,
    input: CaptureReader,
    output: Option<CaptureWriter>,
    next: Option<Arrived>,
    /// The latest that was read.
    latest: Duration,
    /// Of the last burst received; what is originated is sent then.
    time: Duration,
    unreadable: Option<PcapError>,
    unwritten: Option<PcapError>,
    counters: Arc<Counters>,
}

impl fmt::Debug for PcapPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcapPorts").field("names", &self.names).field("time", &self.time).finish_non_exhaustive()
    }
}

impl PcapPorts {
    /// Reads a capture, classic or pcapng. `names` are the interfaces, by port. A frame of a pcapng file comes in at the port that
    /// is called as its interface, or else has its interface's number; all others come in at port 0.
    pub fn new(names: &[String], input: impl Read + 'static, counters: Arc<Counters>) -> Result<Self, PcapError> {
        let input = CaptureReader::new(Box::new(input))?;
        let names = names.to_vec();
        let mut ports = Self {
            names,
            input,
            output: None,
            next: None,
            latest: Duration::ZERO,
            time: Duration::ZERO,
            unreadable: None,
            unwritten: None,
            counters,
        };
        ports.read_next();
        Ok(ports)
    }

    /// Writes what is sent to `output`. Times are those of the frames that came in, to the nanosecond where those had them.
    pub fn write_to(&mut self, output: impl Write + 'static, format: Format) -> Result<(), PcapError> {
        self.output = Some(CaptureWriter::new(Box::new(output), format, self.input.resolution(), &self.names)?);
        Ok(())
    }

    /// What comes next, to be taken by [`Ports::receive`] at that port; `None` at the end of the capture, or where it cannot be read.
    pub fn upcoming(&self) -> Option<Upcoming> {
        self.next.as_ref().map(|arrived| arrived.upcoming)
    }

    /// At the end: whether all was read and written.
    pub fn finish(mut self) -> Result<(), PcapError> {
        match self.unreadable.take().or(self.unwritten.take()) {
            Some(error) => Err(error),
            None => self.output.map_or(Ok(()), CaptureWriter::finish),
        }
    }

    fn read_next(&mut self) {
        self.next = match self.input.next() {
            None => None,
            Some(Err(error)) => {
                self.unreadable = Some(error);
                None
            }
            Some(Ok(captured)) => {
                let upcoming = Upcoming { port: self.port_of(&captured), time: captured.time.max(self.latest) };
                self.latest = upcoming.time;
                Some(Arrived { upcoming, captured })
            }
        };
    }

    fn port_of(&self, captured: &Captured) -> PortId {
        let by_name = captured.interface_name.as_ref().and_then(|name| self.names.iter().position(|known| known == name));
        let number = usize::try_from(captured.interface).ok().filter(|number| *number < self.names.len());
        PortId(by_name.or(number).unwrap_or(0) as u8)
    }

    fn take_burst(&mut self, first: Upcoming) -> ArrayVec<Captured, BURST> {
        let mut burst = ArrayVec::new();
        let belongs =
            |next: &Arrived| next.upcoming.port == first.port && next.upcoming.time.as_millis() == first.time.as_millis();
        while let Some(arrived) = self.next.take_if(|next| !burst.is_full() && belongs(next)) {
            burst.push(arrived.captured);
            self.read_next();
        }
        burst
    }

    /// Lends frames with these contents and writes down what is sent, at the times given.
    fn lend(
        &mut self,
        rooms: &mut [(Vec<u8>, usize, Duration)],
        port: PortId,
        process: &mut dyn FnMut(&mut [Frame<'_>]),
        settle: impl Fn(&Frame<'_>, &Counters) -> Settled,
    ) {
        let settled: ArrayVec<Settled, BURST> = {
            let frames = rooms.iter_mut().map(|(room, length, _)| Frame::new(room, *length, port));
            let mut frames: ArrayVec<Frame<'_>, BURST> = frames.collect();
            process(&mut frames);
            frames.iter().map(|frame| settle(frame, &self.counters)).collect()
        };
        for ((room, _, time), settled) in rooms.iter().zip(settled) {
            match settled {
                Settled::Back => {}
                Settled::Send(to, _) if usize::from(to.0) >= self.names.len() => {
                    self.counters.drops(DropReason::PortDown).add(1);
                }
                Settled::Send(to, length) => {
                    count_sent(1, length, &self.counters);
                    if let Some(output) = &mut self.output {
                        let written = output.write(to, *time, &room[..length]);
                        self.unwritten = self.unwritten.take().or(written.err());
                    }
                }
            }
        }
    }
}

/// The captured bytes with room behind them.
fn room_for(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize((bytes.len() + GROWTH).max(SMALLEST_ROOM), 0);
    bytes
}

impl Ports for PcapPorts {
    fn count(&self) -> usize {
        self.names.len()
    }

    fn receive(&mut self, port: PortId, process: &mut dyn FnMut(&mut [Frame<'_>])) -> usize {
        let Some(first) = self.upcoming().filter(|upcoming| upcoming.port == port) else { return 0 };
        self.time = first.time;
        let burst = self.take_burst(first);
        count_received(burst.iter().map(|captured| captured.bytes.len()), &self.counters);
        let room = |captured: Captured| {
            let length = captured.bytes.len();
            (room_for(captured.bytes), length, captured.time)
        };
        let mut rooms: ArrayVec<_, BURST> = burst.into_iter().map(room).collect();
        self.lend(&mut rooms, port, process, settle_received);
        rooms.len()
    }

    fn originate(&mut self, wanted: usize, process: &mut dyn FnMut(&mut [Frame<'_>])) -> usize {
        let room = |_| (room_for(Vec::new()), 0, self.time);
        let mut rooms: ArrayVec<_, BURST> = (0..wanted.min(BURST)).map(room).collect();
        self.lend(&mut rooms, PortId(0), process, settle_originated);
        rooms.len()
    }

    /// An error says that the output could not be written; it is told again by [`PcapPorts::finish`].
    fn flush(&mut self) -> io::Result<()> {
        match &self.unwritten {
            Some(error) => Err(io::Error::other(error.to_string())),
            None => Ok(()),
        }
    }

    fn transmitting(&self) -> bool {
        false
    }

    /// Virtual time does not pass by waiting.
    fn wait(&mut self, _timeout: Duration) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
