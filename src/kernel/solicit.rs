//! Neighbour solicitations that the kernel would not send: it sends none for [`super::Netlink::resolve`] from an interface that has no
//! link-local address in use, as for a second or two after its link came up, while duplicates of that address are looked for.

use super::Link;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

/// Asks on `link` for the link address of `target` (RFC 4861, section 7.2.2). The kernel hears the answer and tells it as an
/// [`super::Event::Neighbour`], if it has an entry for the neighbour.
///
/// # Errors
/// Of the kernel; `EADDRNOTAVAIL` while the interface has no IPv6 address in use at all.
pub(super) fn solicit(link: &Link, target: Ipv6Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::from(libc::SOCK_RAW), Some(Protocol::ICMPV6))?;
    socket.set_multicast_if_v6(link.index)?;
    // RFC 4861, section 7.1.1: what came over a router is no solicitation.
    socket.set_multicast_hops_v6(255)?;
    let group = SocketAddrV6::new(solicited_node(target), 0, 0, link.index);
    socket.send_to(&solicitation(link.mac, target), &SockAddr::from(group))?;
    Ok(())
}

/// RFC 4861, section 4.3, with the sender's link-layer address; the kernel fills the checksum in (RFC 3542, section 3.1).
fn solicitation(mac: [u8; 6], target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]); // option: source link-layer address, one unit of eight bytes
    message.extend(mac);
    message
}

/// RFC 4291, section 2.7.1: ff02::1:ff and the last three bytes.
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = target.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}
