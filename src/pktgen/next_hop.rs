//! Whose link address packets are sent to.

use super::{PktgenError, Place};
use crate::kernel::{Netlink, Route, usable_link};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long the neighbour may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The link address of the next hop toward `vip` out of the interface, by the kernel's routes and neighbours; asked for if it is not known.
pub fn next_hop(place: &Place, vip: IpAddr) -> Result<[u8; 6], PktgenError> {
    place.inside(|| {
        let interface = place.interface.clone();
        let index = usable_link(&interface)?.index;
        let mut netlink = Netlink::open()?;
        let routes = netlink.routes()?;
        let hop = choose(&routes, index, vip).ok_or_else(|| PktgenError::NoRoute { vip, interface: interface.clone() })?;
        let start = Instant::now();
        let mut asked = false;
        loop {
            let neighbours = netlink.neighbours()?;
            let known = neighbours.iter().find(|neighbour| neighbour.index == index && neighbour.address == hop);
            if let Some(mac) = known.and_then(|neighbour| neighbour.resolved()) {
                return Ok(mac);
            }
            if start.elapsed() > PATIENCE {
                return Err(PktgenError::Unresolved { vip, hop, interface });
            }
            if !asked {
                netlink.resolve(index, hop)?;
                asked = true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    })
}

/// The best route's gateway, or the address itself where it is on the link.
fn choose(routes: &[Route], index: u32, vip: IpAddr) -> Option<IpAddr> {
    let usable = routes.iter().filter(|route| route.output == Some(index) && route.prefix.contains(&vip));
    let best = usable.min_by_key(|route| (u8::MAX - route.prefix.prefix_len(), route.metric))?;
    Some(best.gateway.unwrap_or(vip))
}
