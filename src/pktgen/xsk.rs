//! The sender over an AF_XDP socket: one TX ring, zero-copy where the driver has that.

use super::end::Outgoing;
use super::frame::Writer;
use super::pace::Pace;
use super::watch::Progress;
use super::{Order, PktgenError, Place, Plan, Sender, Sent, Watch, now};
use crate::datapath::{BURST, Counters, Fate, PortId};
use crate::io::Ports;
use crate::io::xsk::{Attached, Binding, Mode, Settings, XskPorts};
use crate::kernel;
use crate::xdp::AttachMode;
use std::sync::Arc;

/// Nanoseconds between two of its words to who watches it.
const WORD: u64 = 1_000_000;

/// An open socket.
pub(super) struct AfXdp {
    ports: XskPorts,
    counters: Arc<Counters>,
    writer: Writer,
    cpu: Option<usize>,
    tx_ring: usize,
}

impl AfXdp {
    /// Binds it to the first queue. `mode` is that of the program at this end.
    pub(super) fn new(
        place: &Place,
        plan: &Plan,
        out: &Outgoing,
        mode: AttachMode,
        cpu: Option<usize>,
    ) -> Result<Self, PktgenError> {
        kernel::check_af_xdp()?;
        let counters = Arc::new(Counters::default());
        let settings = Settings::default();
        let ports = place.inside(|| {
            let mtu = kernel::servable_link(&place.interface)?.mtu;
            let attached = match mode {
                AttachMode::Native => Attached::Native,
                AttachMode::Generic => Attached::Generic,
            };
            let interface = place.interface.clone();
            let binding = Binding { port: PortId(0), interface, queue: 0, mtu, mode: Mode::Auto, attached };
            Ok(XskPorts::open(&[binding], &settings, Arc::clone(&counters))?)
        })?;
        let writer = Writer::new(plan.clone(), out.to, out.from, now() | 1);
        Ok(Self { ports, counters, writer, cpu, tx_ring: settings.tx_ring as usize })
    }

    /// Puts a burst on the ring, as much of it as there is room for, and makes the kernel send it.
    fn burst(&mut self, order: &Order, sequence: u64, wanted: usize, idle: usize) -> Result<(), PktgenError> {
        let failed = |source| PktgenError::System { action: "send", source };
        let in_flight = idle - self.ports.frames().0.min(idle);
        let room = self.tx_ring.saturating_sub(in_flight).min(wanted);
        let writer = &mut self.writer;
        self.ports.originate(room, &mut |frames| {
            for (frame, sequence) in frames.iter_mut().zip(sequence..) {
                frame.length = writer.length(order, sequence);
                writer.write(&mut frame.buffer[..frame.length], order, sequence, now());
                frame.fate = Fate::Transmit(PortId(0));
            }
        });
        self.ports.flush().map_err(failed)
    }
}

impl Sender for AfXdp {
    fn send(&mut self, order: &Order, watch: &Watch) -> Result<Sent, PktgenError> {
        if let Some(cpu) = self.cpu {
            kernel::pin_thread(cpu).map_err(|source| PktgenError::System { action: "stay on that core", source })?;
        }
        let failed = |source| PktgenError::System { action: "send", source };
        self.ports.flush().map_err(failed)?;
        let (idle, before) = (self.ports.frames().0, (self.counters.tx.get(), self.counters.tx_bytes.get()));
        let start = now();
        let (mut pace, mut told, mut last) = (Pace::new(order.profile, start), 0, 0);
        let elapsed = loop {
            let frames = self.counters.tx.get() - before.0;
            let nanos = now() - start;
            if nanos >= told + WORD {
                watch.tell(Progress { frames, nanos });
                told = nanos;
            }
            if frames >= order.limit || nanos >= order.deadline || watch.is_over() {
                break nanos;
            }
            match (pace.due(start + nanos).min(order.limit - frames) as usize).min(BURST) {
                0 if self.ports.transmitting() => self.ports.flush().map_err(failed)?,
                0 => std::hint::spin_loop(),
                due => {
                    self.burst(order, frames, due, idle)?;
                    last = nanos;
                }
            }
        };
        while self.ports.transmitting() && now() - start < elapsed + 1_000_000_000 {
            self.ports.flush().map_err(failed)?;
        }
        let (frames, bytes) = (self.counters.tx.get() - before.0, self.counters.tx_bytes.get() - before.1);
        Ok(Sent { frames, bytes, nanos: order.spent(frames, last, elapsed) })
    }
}
