//! What the packets under measurement look like.

use clap::ValueEnum;
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Family, protocol and size of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Shape {
    pub family: Family,
    pub protocol: Transport,
    pub size: Size,
}

/// The IP version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Family {
    #[default]
    Ipv4,
    Ipv6,
}

/// The protocol above IP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    #[default]
    Tcp,
    Udp,
}

/// How large frames are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(into = "u16")]
pub(super) enum Size {
    /// 64 bytes on the wire, with the FCS; IPv6 headers need up to 78.
    #[default]
    #[value(name = "64")]
    Smallest,
    /// An IP packet of 1500 bytes.
    #[value(name = "1500")]
    Full,
}

impl From<Size> for u16 {
    fn from(size: Size) -> u16 {
        match size {
            Size::Smallest => 64,
            Size::Full => 1500,
        }
    }
}

/// Bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
/// 64 bytes on the wire without the FCS.
const SMALLEST: usize = 60;

impl Shape {
    /// Bytes before the transport header.
    pub(super) fn l4(self) -> usize {
        match self.family {
            Family::Ipv4 => ETHERNET + 20,
            Family::Ipv6 => ETHERNET + 40,
        }
    }

    /// Bytes of a frame, without FCS.
    pub(super) fn length(self) -> usize {
        let header = match self.protocol {
            Transport::Tcp => 20,
            Transport::Udp => 8,
        };
        match self.size {
            Size::Smallest => SMALLEST.max(self.l4() + header),
            Size::Full => ETHERNET + 1500,
        }
    }

    /// Bytes from one frame to the next in memory. Small ones take two cache lines, so that what is measured is the table and not the frames;
    /// large ones stand as far apart as they do at the least in a UMEM, and compete for the same lines of the cache as they do there.
    pub(super) fn room(self) -> usize {
        match self.size {
            Size::Smallest => 128,
            Size::Full => 2048,
        }
    }

    /// The protocol's number.
    pub(super) fn number(self) -> u8 {
        match self.protocol {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    /// The address with this lower word: all that differs between two of IPv6.
    pub(super) fn address(self, word: u32) -> IpAddr {
        match self.family {
            Family::Ipv4 => Ipv4Addr::from_bits(word).into(),
            Family::Ipv6 => Ipv6Addr::from_bits(PREFIX | u128::from(word)).into(),
        }
    }
}

/// Of all IPv6 addresses: fd00::/96.
const PREFIX: u128 = 0xfd00 << 112;

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        };
        let protocol = match self.protocol {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        };
        write!(f, "{family} {protocol} {:>4}", u16::from(self.size))
    }
}
