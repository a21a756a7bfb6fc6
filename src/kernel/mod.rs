//! What the kernel knows and does for weir: links, addresses, routes, neighbours, queues, cores, privileges.
//!
//! [`Netlink`] asks and waits for the answer, [`Monitor`] hears of changes without blocking, [`Mirror`] turns both into what the datapath
//! reads. All of it is for the control thread: workers never come here.

mod address;
mod affinity;
mod announce;
mod channels;
mod ethtool;
mod inside;
mod link;
mod mirror;
mod monitor;
mod neighbour;
mod netlink;
mod privileges;
mod route;
mod rss;
mod solicit;
#[cfg(test)]
pub(crate) mod namespace;
#[cfg(test)]
mod tests;

pub use address::{Address, Owner};
pub use affinity::{allowed_cpus, pin_thread};
pub use announce::{AnnounceError, Announcer};
pub use channels::{Channels, ChannelsError, Queues, Rings, channels, driver, queues, rings, strips_vlan_tags, use_all_channels};
pub use inside::{NamespaceError, enter_namespace};
pub use link::{Link, LinkError, attached_program, servable_link, usable_link};
pub use mirror::Mirror;
pub use monitor::{Event, Monitor};
pub use neighbour::{Neighbour, NeighbourState};
pub use netlink::{Netlink, NetlinkError};
pub use privileges::{Lacking, check_af_xdp, check_privileges};
pub use route::Route;
pub use rss::{RssError, rss};
