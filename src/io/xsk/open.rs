//! From bindings to bound sockets: sizes, the mode ladder, memory.

use super::socket::{Ask, QueueSocket};
use super::umem::{Frames, HEADROOM, LINK_HEADERS, UmemSizes};
use super::{Attached, Binding, HugePages, Mode, Settings, XskError};
use crate::datapath::{BURST, MAX_PORTS};

/// Bytes of a huge page; a UMEM on them must be a multiple.
const HUGE_PAGE: u32 = 2 << 20;

/// Binds every queue or none. Zero-copy is tried where nobody objects; all sockets of a worker share one memory, and the kernel
/// gives that one mode, so where one interface refuses, all of them are bound in copy mode.
pub(super) fn bind_all(bindings: &[Binding], settings: &Settings) -> Result<(Frames, Vec<QueueSocket>), XskError> {
    settings.check()?;
    check_ports(bindings)?;
    let frame_size = frame_size(bindings, settings)?;
    if ladder(bindings)? == Ladder::ZeroCopyFirst {
        match (bind_as(Ask::ZeroCopy, bindings, settings, frame_size), insisting(bindings).next()) {
            (Err(XskError::ZeroCopyRefused { interface, queue, source }), None) => {
                tracing::info!(interface, queue, "no zero-copy ({source}): frames are copied");
            }
            (Err(XskError::ZeroCopyRefused { interface, queue, source }), Some(insists))
                if insisting(bindings).all(|other| other.interface != interface) =>
            {
                return Err(XskError::ZeroCopyShared { insists: insists.interface.clone(), interface, queue, source });
            }
            (outcome, _) => return outcome,
        }
    }
    bind_as(Ask::Copy, bindings, settings, frame_size)
}

#[derive(Debug, PartialEq, Eq)]
enum Ladder {
    ZeroCopyFirst,
    CopyOnly,
}

fn ladder(bindings: &[Binding]) -> Result<Ladder, XskError> {
    let copies = |binding: &&Binding| {
        matches!(binding.mode, Mode::Copy | Mode::Generic)
            || (binding.attached == Attached::Generic && binding.mode != Mode::ZeroCopy)
    };
    match (insisting(bindings).next(), bindings.iter().find(copies)) {
        (Some(insists), Some(refuses)) => {
            Err(XskError::MixedModes { insists: insists.interface.clone(), refuses: refuses.interface.clone() })
        }
        (None, Some(_)) => Ok(Ladder::CopyOnly),
        (_, None) => Ok(Ladder::ZeroCopyFirst),
    }
}

fn insisting(bindings: &[Binding]) -> impl Iterator<Item = &Binding> {
    bindings.iter().filter(|binding| binding.mode == Mode::ZeroCopy)
}

/// The smallest frame that holds a packet of the largest MTU, unless one is set.
fn frame_size(bindings: &[Binding], settings: &Settings) -> Result<u32, XskError> {
    let largest = bindings.iter().map(|binding| binding.mtu).max().unwrap_or(0);
    let size = settings.frame_size.unwrap_or_else(|| frame_size_for(largest));
    match bindings.iter().find(|binding| binding.mtu > largest_packet(size)) {
        None => Ok(size),
        Some(Binding { interface, mtu, .. }) => {
            Err(XskError::MtuTooBig { interface: interface.clone(), mtu: *mtu, usable: largest_packet(size), frame_size: size })
        }
    }
}

/// Bytes of the frames that sockets use unless the config says: the smaller one that holds packets of `mtu` bytes, if any does.
pub fn frame_size_for(mtu: u32) -> u32 {
    if mtu <= largest_packet(2048) { 2048 } else { 4096 }
}

/// Bytes of the largest IP packet that a frame of so many bytes holds.
pub fn largest_packet(frame_size: u32) -> u32 {
    frame_size - HEADROOM - LINK_HEADERS
}

/// Every port up to the highest has a queue.
fn check_ports(bindings: &[Binding]) -> Result<(), XskError> {
    let highest = bindings.iter().map(|binding| binding.port.0).max().ok_or(XskError::MissingPort(0))?;
    let missing = (0..=highest).find(|port| bindings.iter().all(|binding| binding.port.0 != *port));
    match missing.or((usize::from(highest) >= MAX_PORTS).then_some(highest)) {
        None => Ok(()),
        Some(port) => Err(XskError::MissingPort(port)),
    }
}

fn bind_as(ask: Ask, bindings: &[Binding], settings: &Settings, frame_size: u32) -> Result<(Frames, Vec<QueueSocket>), XskError> {
    let frames = map_frames(bindings.len() as u32, settings, frame_size)?;
    let sockets = bindings.iter().map(|binding| QueueSocket::bind(binding, ask, &frames, settings)).collect::<Result<_, _>>()?;
    Ok((frames, sockets))
}

fn map_frames(sockets: u32, settings: &Settings, frame_size: u32) -> Result<Frames, XskError> {
    let sizes = UmemSizes {
        frame_size,
        frames: frame_count(sockets, settings, frame_size),
        fill_ring: settings.fill_ring(),
        completion_ring: settings.tx_ring,
    };
    if settings.huge_pages == HugePages::IfReserved {
        match Frames::new(sizes, true) {
            Ok(frames) => return Ok(frames),
            Err(error) => tracing::debug!("no huge pages ({error}): ordinary ones"),
        }
    }
    Frames::new(sizes, false)
}

/// Enough for every fill ring and every TX ring to be full at once, and two bursts in hand; whole huge pages.
fn frame_count(sockets: u32, settings: &Settings, frame_size: u32) -> u32 {
    let frames = sockets * (settings.fill_ring() + settings.tx_ring) + 2 * BURST as u32;
    frames.next_multiple_of(HUGE_PAGE / frame_size)
}

impl Settings {
    /// Entries of each fill ring.
    pub(super) fn fill_ring(&self) -> u32 {
        self.rx_ring * 2
    }

    fn check(&self) -> Result<(), XskError> {
        let ring = |name, found: u32| {
            let right = found.is_power_of_two() && (64..=16384).contains(&found);
            if right { Ok(()) } else { Err(XskError::Size { name, found, allowed: "a power of two from 64 to 16384" }) }
        };
        ring("rx_ring", self.rx_ring)?;
        ring("tx_ring", self.tx_ring)?;
        match self.frame_size {
            None | Some(2048 | 4096) => Ok(()),
            Some(found) => Err(XskError::Size { name: "frame_size", found, allowed: "2048 or 4096" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::PortId;

    fn binding(port: u8, mode: Mode, attached: Attached) -> Binding {
        Binding { port: PortId(port), interface: format!("if{port}"), queue: 0, mtu: 1500, mode, attached }
    }

    #[test]
    fn the_ladder_follows_the_interface_that_asks_for_most() {
        use Attached::{Generic, Native};
        let plan = |modes: &[(Mode, Attached)]| {
            let all: Vec<_> = modes.iter().map(|(mode, attached)| binding(0, *mode, *attached)).collect();
            ladder(&all).map_err(|error| error.to_string())
        };
        assert_eq!(plan(&[(Mode::Auto, Native), (Mode::Auto, Native)]), Ok(Ladder::ZeroCopyFirst));
        assert_eq!(plan(&[(Mode::Auto, Native), (Mode::Copy, Native)]), Ok(Ladder::CopyOnly));
        assert_eq!(plan(&[(Mode::Auto, Native), (Mode::Auto, Generic)]), Ok(Ladder::CopyOnly));
        assert_eq!(plan(&[(Mode::ZeroCopy, Native), (Mode::Auto, Native)]), Ok(Ladder::ZeroCopyFirst));
        assert_eq!(plan(&[(Mode::ZeroCopy, Generic)]), Ok(Ladder::ZeroCopyFirst));
        assert!(plan(&[(Mode::ZeroCopy, Native), (Mode::Copy, Native)]).unwrap_err().contains("share frames"));
    }

    #[test]
    fn a_frame_holds_the_largest_packet() {
        let mut all = [binding(0, Mode::Auto, Attached::Native), binding(1, Mode::Auto, Attached::Native)];
        let size = |all: &[Binding], set| frame_size(all, &Settings { frame_size: set, ..Default::default() });
        assert_eq!(size(&all, None).unwrap(), 2048);
        all[1].mtu = 1775;
        assert_eq!(size(&all, None).unwrap(), 4096);
        assert_eq!(
            size(&all, Some(2048)).unwrap_err().to_string(),
            "interface if1: MTU 1775 is above 1774, the largest that fits a frame of 2048 bytes"
        );
        all[0].mtu = 9000;
        assert!(size(&all, None).unwrap_err().to_string().contains("interface if0: MTU 9000"));
    }

    #[test]
    fn every_port_needs_a_queue() {
        let of = |ports: &[u8]| {
            let all: Vec<_> = ports.iter().map(|port| binding(*port, Mode::Auto, Attached::Native)).collect();
            check_ports(&all)
        };
        assert!(of(&[0, 1, 1]).is_ok());
        assert!(matches!(of(&[0, 2]), Err(XskError::MissingPort(1))));
        assert!(matches!(of(&[]), Err(XskError::MissingPort(0))));
    }

    #[test]
    fn there_are_frames_for_all_rings_at_once() {
        let settings = Settings::default();
        let frames = frame_count(3, &settings, 2048);
        assert!(frames >= 3 * (4096 + 2048) + 128);
        assert_eq!(frames * 2048 % HUGE_PAGE, 0);
    }

    #[test]
    fn sizes_that_rings_cannot_have_are_refused() {
        let refused = |settings: Settings| settings.check().unwrap_err().to_string();
        assert!(
            refused(Settings { rx_ring: 1000, ..Default::default() }).starts_with("rx_ring is 1000; it must be a power of two")
        );
        assert!(refused(Settings { tx_ring: 32, ..Default::default() }).starts_with("tx_ring is 32"));
        assert!(refused(Settings { frame_size: Some(1024), ..Default::default() }).starts_with("frame_size is 1024"));
    }
}
