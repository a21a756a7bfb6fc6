//! The ports of a worker over its sockets.

use super::bell::Bell;
use super::socket::QueueSocket;
use super::statistics::{Link, SocketStatistics};
use super::umem::Frames;
use super::{Binding, Got, Settings, XskError, open, options};
use crate::conntrack::prefetch::prefetch;
use crate::datapath::{BURST, Counters, DropReason, Frame, PortId};
use crate::io::Ports;
use crate::io::settle::{Settled, count_received, count_sent, settle_originated, settle_received};
use arrayvec::ArrayVec;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use xsk_rs::FrameDesc;

/// Bytes of an Ethernet header: the kernel refuses to send less.
const SHORTEST: usize = 14;

/// What the control thread needs of a bound socket.
#[derive(Debug)]
pub struct SocketInfo {
    /// The interface's index in the config.
    pub port: PortId,
    /// Its name.
    pub interface: String,
    /// RX and TX queue.
    pub queue: u32,
    /// The mode that it got.
    pub got: Got,
    /// To be entered in the XSKMAP at `queue` and then closed: as long as it is open the queue stays bound, also without the worker.
    pub fd: OwnedFd,
    /// What the kernel and the worker say about it.
    pub statistics: Arc<SocketStatistics>,
}

/// The sockets of one port, by their index.
#[derive(Debug, Default)]
struct PortSockets {
    all: Vec<usize>,
    /// Position in `all` of the one to receive from next, so that no queue starves another.
    next: usize,
}

/// Ports over AF_XDP. All frames of the worker are accounted for at any time outside of a call:
/// free + filling + in flight = total, checked in debug builds.
#[derive(Debug)]
pub struct XskPorts {
    frames: Frames,
    sockets: Vec<QueueSocket>,
    ports: Vec<PortSockets>,
    counters: Arc<Counters>,
    burst: Box<[FrameDesc; BURST]>,
    /// What a burst sends, by port; empty between bursts.
    outgoing: Vec<ArrayVec<FrameDesc, BURST>>,
    poll: Vec<libc::pollfd>,
    bell: Option<Arc<Bell>>,
    /// An interface went away while a burst was sent: told at the next flush.
    trouble: Option<io::Error>,
}

impl XskPorts {
    /// Binds every queue, or none and says which one and why.
    pub fn open(bindings: &[Binding], settings: &Settings, counters: Arc<Counters>) -> Result<Self, XskError> {
        let (frames, sockets) = open::bind_all(bindings, settings)?;
        let count = sockets.iter().map(|socket| usize::from(socket.binding.port.0) + 1).max().unwrap_or(0);
        let mut ports: Vec<PortSockets> = (0..count).map(|_| PortSockets::default()).collect();
        for (index, socket) in sockets.iter().enumerate() {
            ports[usize::from(socket.binding.port.0)].all.push(index);
        }
        let mut opened = Self {
            frames,
            sockets,
            ports,
            counters,
            burst: Box::new([FrameDesc::default(); BURST]),
            outgoing: (0..count).map(|_| ArrayVec::new()).collect(),
            poll: Vec::new(),
            bell: None,
            trouble: None,
        };
        opened.watch();
        for socket in &mut opened.sockets {
            socket.refill(&mut opened.frames).map_err(|source| XskError::Bind {
                interface: socket.binding.interface.clone(),
                queue: socket.binding.queue,
                source,
            })?;
        }
        Ok(opened)
    }

    /// From now on this ends a sleep as an arriving frame does.
    pub fn wake_by(&mut self, bell: Arc<Bell>) {
        self.bell = Some(bell);
        self.watch();
    }

    /// What the control thread needs to know, in the order of the bindings.
    pub fn sockets(&self) -> io::Result<Vec<SocketInfo>> {
        let info = |socket: &QueueSocket| {
            Ok(SocketInfo {
                port: socket.binding.port,
                interface: socket.binding.interface.clone(),
                queue: socket.binding.queue,
                got: socket.got,
                fd: options::duplicate(socket.fd())?,
                statistics: Arc::clone(&socket.statistics),
            })
        };
        self.sockets.iter().map(info).collect()
    }

    /// Frames by holder: free, with the kernel, all there are. The first two add up to the third.
    pub fn frames(&self) -> (usize, usize, usize) {
        (self.frames.free(), self.sockets.iter().map(QueueSocket::held).sum(), self.frames.total())
    }

    /// The sockets that can still receive, and the bell.
    fn watch(&mut self) {
        let alive = self.sockets.iter().filter(|socket| socket.link() != Link::Gone).map(QueueSocket::fd);
        let all = alive.chain(self.bell.iter().map(|bell| bell.fd()));
        self.poll = all.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    }

    /// Lends the first `count` frames of `burst` and carries out what becomes of them.
    fn lend(
        &mut self,
        count: usize,
        port: PortId,
        process: &mut dyn FnMut(&mut [Frame<'_>]),
        settle: impl Fn(&Frame<'_>, &Counters) -> Settled,
    ) {
        let Self { frames, burst, outgoing, counters, .. } = self;
        let burst = &mut burst[..count];
        let settled: ArrayVec<Settled, BURST> = {
            let view = |frame| {
                let (room, length) = frames.view(frame);
                // The kernel or the card wrote it on another core: all headers of the burst come while the first is parsed.
                room.first().map(prefetch);
                Frame::new(room, length, port)
            };
            let mut lent: ArrayVec<Frame<'_>, BURST> = burst.iter_mut().map(view).collect();
            process(&mut lent);
            lent.iter().map(|frame| settle(frame, counters)).collect()
        };
        for (frame, settled) in burst.iter_mut().zip(settled) {
            let lost = match settled {
                Settled::Back => None,
                Settled::Send(_, length) if length < SHORTEST => Some(DropReason::FrameTooShort),
                Settled::Send(to, length) => match outgoing.get_mut(usize::from(to.0)) {
                    Some(outgoing) => {
                        frames.set_length(frame, length);
                        outgoing.push(*frame);
                        continue;
                    }
                    None => Some(DropReason::PortDown),
                },
            };
            if let Some(reason) = lost {
                counters.drops(reason).add(1);
            }
            frames.give(*frame);
        }
        for port in 0..self.ports.len() {
            self.send(port);
        }
        debug_assert!(self.is_accounted(), "{:?} frames free, held, in all", self.frames());
    }

    /// Puts on the TX ring what the burst sends out of `port`. When there is no room the kernel is made to send once.
    fn send(&mut self, port: usize) {
        let Self { frames, sockets, ports, counters, outgoing, trouble, .. } = self;
        let outgoing = &mut outgoing[port];
        if outgoing.is_empty() {
            return;
        }
        let socket = &mut sockets[ports[port].all[0]];
        let mut sent = 0;
        if socket.link() == Link::Down {
            *trouble = socket.look_again().err().or(trouble.take());
        }
        if socket.link() == Link::Up {
            sent = socket.send(outgoing);
            if sent < outgoing.len() {
                *trouble = socket.kick().err().or(trouble.take());
                socket.reap(frames);
                sent += socket.send(&outgoing[sent..]);
            }
        }
        count_sent(sent, outgoing[..sent].iter().map(|frame| frame.lengths().data()).sum(), counters);
        let reason = if socket.link() == Link::Up { DropReason::TxRingFull } else { DropReason::PortDown };
        counters.drops(reason).add((outgoing.len() - sent) as u64);
        outgoing[sent..].iter().for_each(|frame| frames.give(*frame));
        outgoing.clear();
    }

    fn is_accounted(&self) -> bool {
        let (free, held, total) = self.frames();
        free + held == total
    }

    fn report(&mut self, trouble: Option<io::Error>) -> io::Result<()> {
        match trouble {
            None => Ok(()),
            Some(error) => {
                self.watch();
                Err(error)
            }
        }
    }
}

impl Ports for XskPorts {
    fn count(&self) -> usize {
        self.ports.len()
    }

    fn receive(&mut self, port: PortId, process: &mut dyn FnMut(&mut [Frame<'_>])) -> usize {
        let Some(queues) = self.ports.get_mut(usize::from(port.0)) else { return 0 };
        for _ in 0..queues.all.len() {
            let socket = queues.all[queues.next];
            queues.next = (queues.next + 1) % queues.all.len();
            let count = self.sockets[socket].receive(&mut self.burst[..]);
            if count > 0 {
                count_received(self.burst[..count].iter().map(|frame| frame.lengths().data()), &self.counters);
                self.lend(count, port, process, settle_received);
                return count;
            }
        }
        0
    }

    fn originate(&mut self, wanted: usize, process: &mut dyn FnMut(&mut [Frame<'_>])) -> usize {
        let mut count = 0;
        while count < wanted.min(BURST) {
            let Some(frame) = self.frames.take() else { break };
            self.burst[count] = frame;
            count += 1;
        }
        if count > 0 {
            self.lend(count, PortId(0), process, settle_originated);
        }
        count
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut trouble = self.trouble.take();
        for socket in &mut self.sockets {
            socket.reap(&mut self.frames);
            trouble = trouble.or(socket.refill(&mut self.frames).err());
            trouble = trouble.or(socket.kick().err());
        }
        self.report(trouble)
    }

    fn busy_polls(&self) -> bool {
        self.sockets.iter().any(QueueSocket::busy_polls)
    }

    fn transmitting(&self) -> bool {
        self.sockets.iter().any(QueueSocket::transmitting)
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let milliseconds = timeout.as_micros().div_ceil(1000).min(60_000) as libc::c_int;
        options::poll(&mut self.poll, milliseconds)?;
        if let Some(bell) = &self.bell
            && self.poll.iter().any(|polled| polled.fd == bell.fd() && polled.revents != 0)
        {
            bell.hush();
        }
        let mut trouble = None;
        for polled in self.poll.iter().filter(|polled| polled.revents & !libc::POLLIN != 0) {
            if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.fd() == polled.fd) {
                trouble = trouble.or(socket.lose().err());
            }
        }
        self.report(trouble)
    }

    fn publish(&mut self) {
        self.sockets.iter().for_each(QueueSocket::publish);
    }

    fn refresh_statistics(&mut self) {
        self.sockets.iter().for_each(QueueSocket::refresh_statistics);
    }
}
