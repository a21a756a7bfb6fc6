//! One queue of one interface: its four rings.
#![allow(unsafe_code)] // ring calls of xsk-rs: the caller answers for who holds which frame

use super::statistics::{Link, SocketStatistics};
use super::umem::{Frames, os_error};
use super::{Attached, Binding, Got, Settings, XskError, options};
use crate::datapath::BURST;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue};

/// How long a queue that is busy is tried again. After a process is killed the kernel takes up to 0.2 s to let go of its queues.
const BUSY_DEADLINE: Duration = Duration::from_secs(2);
/// Between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// With zero-copy: flushes after which a driver that was given nothing new is woken again to send. Waking runs its whole poll function,
/// and as a rule what is still on its way waits for the card alone. `poll(2)`, with which a worker sleeps, wakes it as well.
const REMIND_AFTER: u32 = 64;

/// A step of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    ZeroCopy,
    Copy,
}

/// A bound socket with its rings.
#[derive(Debug)]
pub(super) struct QueueSocket {
    pub(super) binding: Binding,
    pub(super) got: Got,
    pub(super) statistics: Arc<SocketStatistics>,
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    fd: RawFd,
    received: u64,
    sent: u64,
    /// Frames on the fill ring, in the driver, on the RX ring.
    filling: usize,
    /// As many of them as there shall be: the size of the fill ring, so that there is always room for one more.
    fill_level: usize,
    /// Frames on the TX ring, in the driver, on the completion ring.
    in_flight: usize,
    tx_ring: usize,
    /// With zero-copy: flushes until the driver is woken again to send. 0 when it has not been told of frames on the TX ring.
    until_reminded: u32,
    busy_polling: bool,
    link: Link,
}

impl QueueSocket {
    pub(super) fn bind(binding: &Binding, ask: Ask, frames: &Frames, settings: &Settings) -> Result<Self, XskError> {
        let (interface, queue) = (binding.interface.clone(), binding.queue);
        let (tx, rx, rings) = create_patiently(binding, ask, frames, settings)?;
        let Some((fill, completion)) = rings else {
            // xsk-rs gives no rings when this UMEM is already bound to this very queue: the binding was listed twice.
            return Err(XskError::Busy { interface, queue, seconds: 0 });
        };
        let fd = rx.fd().as_raw_fd();
        let failed = |option| move |source| XskError::Option { interface, queue, option, source };
        let zero_copy = options::is_zero_copy(fd).map_err(failed("XDP_OPTIONS"))?;
        let got = match (zero_copy, binding.attached) {
            (true, _) => Got::ZeroCopy,
            (false, Attached::Native) => Got::Copy,
            (false, Attached::Generic) => Got::Generic,
        };
        let socket = Self {
            binding: binding.clone(),
            got,
            statistics: Arc::default(),
            tx,
            rx,
            fill,
            completion,
            fd,
            received: 0,
            sent: 0,
            filling: 0,
            fill_level: settings.fill_ring() as usize,
            in_flight: 0,
            tx_ring: settings.tx_ring as usize,
            until_reminded: 0,
            busy_polling: settings.busy_poll.is_some(),
            link: Link::Up,
        };
        socket.set_options(settings)?;
        Ok(socket)
    }

    fn set_options(&self, settings: &Settings) -> Result<(), XskError> {
        let failed = |option| {
            move |source| XskError::Option {
                interface: self.binding.interface.clone(),
                queue: self.binding.queue,
                option,
                source,
            }
        };
        // Kernels that do not know this one send 32 frames a call; `kick` goes on as long as a call makes progress.
        let _ = options::set_tx_budget(self.fd, settings.tx_ring);
        if let Some(busy_poll) = settings.busy_poll {
            options::set_prefer_busy_poll(self.fd).map_err(failed("SO_PREFER_BUSY_POLL"))?;
            options::set_busy_poll(self.fd, busy_poll.microseconds).map_err(failed("SO_BUSY_POLL"))?;
            options::set_busy_poll_budget(self.fd, busy_poll.budget).map_err(failed("SO_BUSY_POLL_BUDGET"))?;
            if options::napi(self.fd).map_err(failed("SO_INCOMING_NAPI_ID"))? == 0 {
                let Binding { interface, queue, .. } = &self.binding;
                tracing::warn!(
                    interface,
                    queue,
                    "busy_poll polls nothing: the kernel knows no NAPI of this queue; its driver does not say (veth's), or, before Linux 6.13, no frame has come yet"
                );
            }
        }
        Ok(())
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }

    pub(super) fn link(&self) -> Link {
        self.link
    }

    /// Frames that are with the kernel on either way.
    pub(super) fn held(&self) -> usize {
        self.filling + self.in_flight
    }

    /// Whether the driver looks for frames only when it is asked to.
    pub(super) fn busy_polls(&self) -> bool {
        self.busy_polling && self.link == Link::Up
    }

    /// Whether frames are on their way out. Those of an interface that is gone never come back.
    pub(super) fn transmitting(&self) -> bool {
        self.in_flight > 0 && self.link != Link::Gone
    }

    /// Takes what came in, up to the length of `burst`.
    pub(super) fn receive(&mut self, burst: &mut [FrameDesc]) -> usize {
        // SAFETY: descriptors that are overwritten are copies of ones that were settled; each one consumed is held by the caller.
        let received = unsafe { self.rx.consume(burst) };
        self.filling -= received;
        self.received += received as u64;
        received
    }

    /// Puts as many of `burst` on the TX ring as there is room for, from the front, and returns how many.
    pub(super) fn send(&mut self, burst: &[FrameDesc]) -> usize {
        let ring = self.tx.nb_free(burst.len() as u32) as usize;
        // The completion ring is as large as the TX ring: with no more in flight than that, it can take all of them.
        let room = ring.min(self.tx_ring - self.in_flight).min(burst.len());
        // SAFETY: the caller holds these frames and gives them up; they come back through the completion ring.
        let sent = unsafe { self.tx.produce(&burst[..room]) };
        self.in_flight += sent;
        self.sent += sent as u64;
        if sent > 0 {
            self.until_reminded = 0;
        }
        sent
    }

    /// Takes back the frames that were sent.
    pub(super) fn reap(&mut self, frames: &mut Frames) {
        if self.in_flight == 0 {
            return;
        }
        let mut done = [FrameDesc::default(); BURST];
        loop {
            // SAFETY: `done` holds copies only; each frame consumed goes to the free list, which holds it from then on.
            let count = unsafe { self.completion.consume(&mut done) };
            done[..count].iter().for_each(|frame| frames.give(*frame));
            self.in_flight -= count;
            if count < done.len() {
                return;
            }
        }
    }

    /// Gives the kernel frames to receive into.
    pub(super) fn refill(&mut self, frames: &mut Frames) -> io::Result<()> {
        if self.link == Link::Gone {
            return Ok(());
        }
        let missing = self.fill_level - self.filling;
        if missing > 0 {
            // SAFETY: these frames leave the free list for the fill ring; they come back through the RX ring.
            self.filling += frames.take_for(missing, |free| unsafe { self.fill.produce(free) });
        }
        if self.busy_polling || self.fill.needs_wakeup() {
            let woken = options::kick_rx(self.fd);
            return self.judge(woken);
        }
        Ok(())
    }

    /// Makes the kernel send what is on the TX ring. An error means that the interface is gone; it is returned once.
    pub(super) fn kick(&mut self) -> io::Result<()> {
        if !self.transmitting() || !self.tx.needs_wakeup() {
            return Ok(());
        }
        if self.got == Got::ZeroCopy {
            // The driver may hold descriptors that left the ring long ago until it is woken again.
            if self.until_reminded > 0 {
                self.until_reminded -= 1;
                return Ok(());
            }
            self.until_reminded = REMIND_AFTER;
            let woken = if self.busy_polling { options::wake(self.fd) } else { options::kick_tx(self.fd) };
            return self.judge(woken);
        }
        let mut unsent = self.unsent();
        while unsent > 0 {
            // EAGAIN (budget used up, socket buffer or completion ring full), ENOBUFS and EBUSY (the driver's queue is full) leave
            // frames on the ring: again as long as that gets anywhere, otherwise the next flush tries.
            let woken = options::kick_tx(self.fd);
            self.judge(woken)?;
            let left = self.unsent();
            if left >= unsent {
                break;
            }
            unsent = left;
        }
        Ok(())
    }

    /// Asks the kernel anew whether a link that was down can be sent to. With zero-copy no other call may ever come to tell: nothing is on
    /// its way out, and the fill ring is full.
    pub(super) fn look_again(&mut self) -> io::Result<()> {
        let woken = options::kick_tx(self.fd);
        self.judge(woken)
    }

    /// Entries of the TX ring that the kernel has not taken.
    fn unsent(&mut self) -> usize {
        self.tx_ring - self.tx.nb_free_exact() as usize
    }

    /// What the outcome of a system call says about the link.
    fn judge(&mut self, outcome: io::Result<()>) -> io::Result<()> {
        let link = match outcome.as_ref().map_err(io::Error::raw_os_error) {
            Ok(()) => Link::Up,
            Err(Some(libc::ENETDOWN)) => Link::Down,
            // The socket is bound no more: the kernel unbinds it when its interface is deleted.
            Err(Some(libc::ENXIO | libc::ENODEV | libc::EBADF)) => Link::Gone,
            // EAGAIN, EBUSY, ENOBUFS, ENOMEM, EINTR: nothing about the link, and the next call tries again.
            Err(_) => return Ok(()),
        };
        if self.link == Link::Gone || self.link == link {
            return Ok(());
        }
        self.link = link;
        self.statistics.set_link(link);
        match (link, outcome) {
            (Link::Gone, Err(error)) => Err(self.gone(&error)),
            _ => Ok(()),
        }
    }

    /// `poll(2)` says that the socket has an error: the kernel took the device away from it.
    pub(super) fn lose(&mut self) -> io::Result<()> {
        self.judge(Err(io::Error::from_raw_os_error(libc::ENXIO)))
    }

    fn gone(&self, error: &io::Error) -> io::Error {
        let (interface, queue) = (&self.binding.interface, self.binding.queue);
        io::Error::new(error.kind(), format!("interface {interface} queue {queue} is gone: {error}"))
    }

    /// Publishes what was counted here.
    pub(super) fn publish(&self) {
        self.statistics.publish_frames(self.received, self.sent, self.filling, self.in_flight);
    }

    /// Publishes what was counted here and in the kernel.
    pub(super) fn refresh_statistics(&self) {
        self.publish();
        // Refused only for a socket that was taken down: the numbers stay as they were.
        if let Ok(kernel) = self.rx.fd().xdp_statistics() {
            self.statistics.publish_kernel(&kernel);
        }
    }
}

type Rings = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

/// Binds, and while the queue is busy tries again until [`BUSY_DEADLINE`].
fn create_patiently(binding: &Binding, ask: Ask, frames: &Frames, settings: &Settings) -> Result<Rings, XskError> {
    let (interface, queue) = (binding.interface.clone(), binding.queue);
    let start = Instant::now();
    loop {
        let source = match create(binding, ask, frames, settings) {
            Ok(rings) => return Ok(rings),
            Err(source) => source,
        };
        match source.raw_os_error() {
            Some(libc::EBUSY) if start.elapsed() < BUSY_DEADLINE => std::thread::sleep(BUSY_PAUSE),
            Some(libc::EBUSY) => return Err(XskError::Busy { interface, queue, seconds: BUSY_DEADLINE.as_secs() }),
            Some(libc::EOPNOTSUPP | libc::EINVAL | ENOTSUPP) if ask == Ask::ZeroCopy => {
                return Err(XskError::ZeroCopyRefused { interface, queue, source });
            }
            _ => return Err(XskError::Bind { interface, queue, source }),
        }
    }
}

/// An error number of the kernel's own that some drivers let out.
const ENOTSUPP: i32 = 524;

fn create(binding: &Binding, ask: Ask, frames: &Frames, settings: &Settings) -> io::Result<Rings> {
    let invalid = |error: &dyn std::error::Error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    let mode = match ask {
        Ask::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        Ask::Copy => BindFlags::XDP_COPY,
    };
    let config = SocketConfig::builder()
        .rx_queue_size(QueueSize::new(settings.rx_ring).map_err(|error| invalid(&error))?)
        .tx_queue_size(QueueSize::new(settings.tx_ring).map_err(|error| invalid(&error))?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let interface: Interface = binding.interface.parse().map_err(|error| invalid(&error))?;
    // SAFETY: program loading is inhibited, which is what the function asks for when a UMEM is shared.
    let rings = unsafe { Socket::new(config, frames.umem(), &interface, binding.queue) }.map_err(|error| os_error(&error))?;
    options::close_on_exec(rings.1.fd().as_raw_fd())?;
    Ok(rings)
}
