//! Links: network interfaces as the kernel has them.

use super::{Netlink, NetlinkError};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, VlanProtocol};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address; zeros where it has none.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Set up by the administrator.
    pub enabled: bool,
    /// Enabled, and with a carrier.
    pub up: bool,
    /// The loopback interface, which no other host is behind.
    pub loopback: bool,
    /// An 802.1Q interface: index of the one below it, and VLAN id.
    pub vlan: Option<(u32, u16)>,
    /// RX queues that were allocated; [`super::queues`] tells how many are in use.
    pub rx_queues: u32,
    /// The kernel's id of the XDP program on it.
    pub program: Option<u32>,
}

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is none of this name.
    #[error("interface {name}: there is none of this name; there are: {known}")]
    Missing {
        /// As asked for.
        name: String,
        /// Names of those that exist.
        known: String,
    },
    /// The administrator has not set it up.
    #[error("interface {name}: it is down: ip link set {name} up")]
    Down {
        /// Its name.
        name: String,
    },
    /// It leads nowhere.
    #[error("interface {name}: the loopback interface cannot be used; name one that leads to clients or backends")]
    Loopback {
        /// Its name.
        name: String,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: [0; 6],
            mtu: 0,
            enabled: flags.contains(LinkFlags::Up),
            up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            vlan: None,
            rx_queues: 1,
            program: None,
        };
        let (mut below, mut vlan) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::NumRxQueues(queues) => link.rx_queues = *queues,
                LinkAttribute::Link(index) => below = Some(*index),
                LinkAttribute::LinkInfo(infos) => vlan = vlan_id(infos),
                LinkAttribute::Xdp(attributes) => link.program = program_id(attributes),
                _ => {}
            }
        }
        link.vlan = below.zip(vlan);
        link
    }
}

/// The id of an 802.1Q interface; 802.1ad tags are not weir's.
fn vlan_id(infos: &[LinkInfo]) -> Option<u16> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    if data.iter().any(|item| matches!(item, InfoVlan::Protocol(protocol) if *protocol != VlanProtocol::Ieee8021Q)) {
        return None;
    }
    data.iter().find_map(|item| if let InfoVlan::Id(id) = item { Some(*id) } else { None })
}

fn program_id(attributes: &[LinkXdp]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) if *id != 0 => Some(*id),
        _ => None,
    })
}

impl Netlink {
    /// All interfaces of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        self.list("list the interfaces", RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(&message)),
            _ => None,
        })
    }
}

/// The interface of this name, if it exists and is enabled. It may be without a carrier: many a driver loses that for seconds when the
/// program of a killed weir goes, and a switch that starts later than this machine is no reason to stay away.
pub fn usable_link(name: &str) -> Result<Link, LinkError> {
    let links = Netlink::open()?.links()?;
    match links.iter().find(|link| link.name == name) {
        Some(link) if link.enabled => Ok(link.clone()),
        Some(_) => Err(LinkError::Down { name: name.to_owned() }),
        None => {
            let known: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
            Err(LinkError::Missing { name: name.to_owned(), known: known.join(", ") })
        }
    }
}

/// The same, if it leads to other hosts.
pub fn servable_link(name: &str) -> Result<Link, LinkError> {
    let link = usable_link(name)?;
    if link.loopback { Err(LinkError::Loopback { name: name.to_owned() }) } else { Ok(link) }
}

/// The kernel's id of the XDP program on an interface.
pub fn attached_program(name: &str) -> Result<Option<u32>, NetlinkError> {
    let links = Netlink::open()?.links()?;
    Ok(links.into_iter().find(|link| link.name == name).and_then(|link| link.program))
}
