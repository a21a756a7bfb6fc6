//! Channels (queues), rings and driver of an interface, by the ethtool ioctl.
#![allow(unsafe_code)] // promises about structures of <linux/ethtool.h>, see `ethtool`

use super::ethtool::{Request, ioctl};
use super::{LinkError, usable_link};
use std::io;

/// An ethtool request failed.
#[derive(Debug, thiserror::Error)]
pub enum ChannelsError {
    /// The driver or the kernel refused.
    #[error("interface {interface}: cannot {action}: {source}")]
    Refused {
        /// Which.
        interface: String,
        /// What was asked for.
        action: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The number of channels must be raised, and could not be.
    #[error(
        "interface {interface}: its driver {driver} turns on queues by itself when XDP is attached, unless all are on; raising them failed ({source}); run: {command}"
    )]
    NotRaised {
        /// Which.
        interface: String,
        /// Whose trap it is.
        driver: String,
        /// What to run.
        command: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The interface is missing or down.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Channels of an interface: now, and at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Channels {
    /// Channels that only receive.
    pub rx: u32,
    /// Channels that do both.
    pub combined: u32,
    /// As many that only receive could there be.
    pub max_rx: u32,
    /// As many that do both.
    pub max_combined: u32,
}

/// Descriptors of each ring of an interface: now, and at most. 0 where the driver does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rings {
    /// For received frames.
    pub rx: u32,
    /// For frames to send.
    pub tx: u32,
    /// At most so many for received ones.
    pub max_rx: u32,
    /// At most so many for those to send.
    pub max_tx: u32,
}

/// How many RX queues must be served, and who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queues {
    /// The driver: as many are in use.
    Used(u32),
    /// The driver does not tell; the kernel allocated as many.
    Allocated(u32),
}

impl Queues {
    /// Queues 0 to this minus one must be served.
    pub fn count(self) -> u32 {
        match self {
            Self::Used(count) | Self::Allocated(count) => count.max(1),
        }
    }
}

// Commands of <linux/ethtool.h>.
const GET_DRIVER: u32 = 0x03;
const GET_RINGS: u32 = 0x10;
const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;
const SET_CHANNELS: u32 = 0x3d;

/// `struct ethtool_channels`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawChannels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_ringparam`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawRings {
    command: u32,
    max_rx: u32,
    max_rx_mini: u32,
    max_rx_jumbo: u32,
    max_tx: u32,
    rx: u32,
    rx_mini: u32,
    rx_jumbo: u32,
    tx: u32,
}

/// `struct ethtool_value`
#[repr(C)]
struct RawValue {
    command: u32,
    value: u32,
}

/// `struct ethtool_drvinfo`
#[repr(C)]
struct RawDriver {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

// SAFETY: as in <linux/ethtool.h>, which never changes.
unsafe impl Request for RawChannels {}
// SAFETY: as above.
unsafe impl Request for RawRings {}
// SAFETY: as above.
unsafe impl Request for RawValue {}
// SAFETY: as above; `rest` stands for version, firmware, bus, erom (32 bytes each), 12 reserved bytes and five numbers.
unsafe impl Request for RawDriver {}

const _: () = assert!(size_of::<RawChannels>() == 36 && size_of::<RawRings>() == 36 && size_of::<RawDriver>() == 196);

fn ask<T: Request>(interface: &str, action: &'static str, request: &mut T) -> Result<(), ChannelsError> {
    ioctl(interface, request).map_err(|source| ChannelsError::Refused { interface: interface.to_owned(), action, source })
}

/// The channels of an interface. Not every driver tells: EOPNOTSUPP.
pub fn channels(interface: &str) -> Result<Channels, ChannelsError> {
    let raw = raw_channels(interface)?;
    Ok(Channels { rx: raw.rx, combined: raw.combined, max_rx: raw.max_rx, max_combined: raw.max_combined })
}

fn raw_channels(interface: &str) -> Result<RawChannels, ChannelsError> {
    let mut raw = RawChannels { command: GET_CHANNELS, ..RawChannels::default() };
    ask(interface, "read its channels", &mut raw)?;
    Ok(raw)
}

/// The ring sizes of an interface. Not every driver tells: EOPNOTSUPP.
pub fn rings(interface: &str) -> Result<Rings, ChannelsError> {
    let mut raw = RawRings { command: GET_RINGS, ..RawRings::default() };
    ask(interface, "read its ring sizes", &mut raw)?;
    Ok(Rings { rx: raw.rx, tx: raw.tx, max_rx: raw.max_rx, max_tx: raw.max_tx })
}

/// The name of an interface's driver.
pub fn driver(interface: &str) -> Result<String, ChannelsError> {
    let mut raw = RawDriver { command: GET_DRIVER, driver: [0; 32], rest: [0; 160] };
    ask(interface, "read its driver's name", &mut raw)?;
    let name = raw.driver.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// How many RX queues of an interface weir must serve. A queue without a socket silently gives its traffic to the kernel.
///
/// Where the driver has no channels, the queues are those that the kernel allocated; not those of /sys, which shows the namespace it was
/// mounted in.
pub fn queues(interface: &str) -> Result<Queues, ChannelsError> {
    match raw_channels(interface) {
        Ok(raw) => Ok(Queues::Used(raw.combined + raw.rx)),
        Err(ChannelsError::Refused { source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Ok(Queues::Allocated(usable_link(interface)?.rx_queues))
        }
        Err(error) => Err(error),
    }
}

/// Whether the interface takes the 802.1Q tag off received frames before XDP sees them. weir then takes frames of a VLAN for untagged
/// ones, so where VLANs are in use it must be turned off: `ethtool -K IF rxvlan off`; on veth, `txvlan off` on the peer.
pub fn strips_vlan_tags(interface: &str) -> Result<bool, ChannelsError> {
    const RX_VLAN: u32 = 1 << 8; // ETH_FLAG_RXVLAN
    let mut raw = RawValue { command: GET_FLAGS, value: 0 };
    ask(interface, "read its offloads", &mut raw)?;
    Ok(raw.value & RX_VLAN != 0)
}

/// Must be called before XDP is attached. virtio_net turns on more RX queues at the attachment if not all channels are in use; AF_XDP
/// sockets on those receive but never send, and the next attachment after the process ended has crashed kernels. So all are turned on
/// first. Returns how many there were and are, if that was needed.
pub fn use_all_channels(interface: &str) -> Result<Option<(u32, u32)>, ChannelsError> {
    let driver = driver(interface)?;
    if driver != "virtio_net" {
        return Ok(None);
    }
    let mut raw = raw_channels(interface)?;
    let before = raw.combined;
    if before >= raw.max_combined {
        return Ok(None);
    }
    raw.command = SET_CHANNELS;
    raw.combined = raw.max_combined;
    ioctl(interface, &mut raw).map_err(|source| ChannelsError::NotRaised {
        interface: interface.to_owned(),
        driver,
        command: format!("ethtool -L {interface} combined {}", raw.max_combined),
        source,
    })?;
    Ok(Some((before, raw.max_combined)))
}
