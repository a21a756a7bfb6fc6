//! Tells the neighbours on a link where an address is now: gratuitous ARP and unsolicited neighbour advertisements.
#![allow(unsafe_code)] // sockaddr_ll: socket2 has no safe constructor for it

use super::Link;
use crate::packet::checksum;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address could not be announced.
#[derive(Debug, thiserror::Error)]
#[error("interface {interface}: cannot announce {address}: {source}")]
pub struct AnnounceError {
    interface: String,
    address: IpAddr,
    source: io::Error,
}

const BROADCAST: [u8; 6] = [0xff; 6];
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;

/// A socket to announce from. One for all: closing one waits for every CPU of the machine, some 10 ms.
#[derive(Debug)]
pub struct Announcer(Socket);

impl Announcer {
    /// A packet socket of this network namespace.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        // Protocol 0: it receives nothing.
        Socket::new(Domain::from(libc::AF_PACKET), Type::from(libc::SOCK_RAW), Some(Protocol::from(0))).map(Self)
    }

    /// Sends what makes the neighbours on `link` (a VLAN interface tags by itself) send packets for `address` to it.
    ///
    /// IPv4: an ARP request and an ARP reply. RFC 5227, section 3 has announcements as requests; RFC 5944, section 4.6 allows either, and
    /// there is equipment that heeds only one of them. IPv6: RFC 4861, section 7.2.6, to all nodes, with the override flag.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub fn announce(&self, link: &Link, address: IpAddr) -> Result<(), AnnounceError> {
        let frames = match address {
            IpAddr::V4(address) => vec![arp(link.mac, address, ARP_REQUEST), arp(link.mac, address, ARP_REPLY)],
            IpAddr::V6(address) => vec![advertisement(link.mac, address)],
        };
        self.send(link, &frames).map_err(|source| AnnounceError { interface: link.name.clone(), address, source })
    }

    fn send(&self, link: &Link, frames: &[Vec<u8>]) -> io::Result<()> {
        let to = link_address(link.index)?;
        for frame in frames {
            self.0.send_to(frame, &to)?;
        }
        Ok(())
    }
}

/// RFC 826, with the address as sender's and target's.
fn arp(mac: [u8; 6], address: Ipv4Addr, operation: u16) -> Vec<u8> {
    // In a request the target's link address is asked for; in a reply it repeats the sender's (RFC 5944, section 4.6).
    let target = if operation == ARP_REPLY { mac } else { [0; 6] };
    let mut frame = Vec::with_capacity(42);
    frame.extend(BROADCAST);
    frame.extend(mac);
    frame.extend(0x0806u16.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4]); // Ethernet, IPv4, and how long their addresses are
    frame.extend(operation.to_be_bytes());
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend(target);
    frame.extend(address.octets());
    frame
}

/// RFC 4861, section 4.4: override, not solicited, with the target's link-layer address.
fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]); // option: target link-layer address, one unit of eight bytes
    message.extend(mac);
    let addresses = checksum::sum(&address.octets()) + checksum::sum(&ALL_NODES.octets());
    let sum = addresses + checksum::pseudo_header(ICMPV6, message.len()) + checksum::sum(&message);
    message[2..4].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());

    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1]; // RFC 2464, section 7
    frame.extend(mac);
    frame.extend(0x86ddu16.to_be_bytes());
    frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, ICMPV6, 255]); // hop limit 255: RFC 4861, section 7.1.2
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// Where a raw packet socket sends: only the interface counts.
fn link_address(index: u32) -> io::Result<SockAddr> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is plain data that fits into the storage, and the storage is aligned for every socket address.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index;
    // SAFETY: the storage holds a whole sockaddr_ll, whose size this is.
    Ok(unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) })
}
