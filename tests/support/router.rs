//! Machines behind a router whose link to them is narrow: what comes from the laboratory is too big for it, and nobody but that router
//! knows.
//!
//! ```text
//!   far                   client                 weir                  b1                     hidden
//!  ┌────────────────┐    ┌─────────────┐       ┌──────┐              ┌──────────────┐       ┌───────────────┐
//!  │ 203.0.113.2    ├────┤ far    eth0 ├───────┤      ├── switch ────┤ eth0  hidden ├───────┤ 10.3.0.2      │
//!  │ 2001:db8:9::2  │1280│             │  1500 │      │     1500     │              │  1280 │ fd00:3::2     │
//!  └────────────────┘    └─────────────┘       └──────┘              └──────────────┘       └───────────────┘
//! ```

use super::config::Family;
use super::namespace::Namespace;

/// Of the link between the router and the machine behind it.
pub const NARROW: u32 = 1280;

/// A network behind a router of the laboratory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Behind the client: a client far away.
    Client,
    /// Behind the first backend: a backend in another network.
    Backend,
}

impl Behind {
    /// The address of the machine.
    pub fn address(self, family: Family) -> std::net::IpAddr {
        let text = match (self, family) {
            (Behind::Client, Family::V4) => "203.0.113.2",
            (Behind::Client, Family::V6) => "2001:db8:9::2",
            (Behind::Backend, Family::V4) => "10.3.0.2",
            (Behind::Backend, Family::V6) => "fd00:3::2",
        };
        text.parse().expect("an address")
    }

    fn router(self, family: Family) -> &'static str {
        match (self, family) {
            (Behind::Client, Family::V4) => "203.0.113.1",
            (Behind::Client, Family::V6) => "2001:db8:9::1",
            (Behind::Backend, Family::V4) => "10.3.0.1",
            (Behind::Backend, Family::V6) => "fd00:3::1",
        }
    }
}

/// Connects `machine` to `router` by a link of [`NARROW`] bytes, both ways, and tells `node` (weir's) the way there. `machine` lets its peers
/// believe that it takes segments for 1500 bytes, so that they learn of the link from the router alone.
pub fn put_behind(behind: Behind, machine: &Namespace, router: &Namespace, node: &Namespace) {
    let quiet = ["net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0"];
    machine.sysctl(&quiet);
    router.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]);
    router.ip(&format!(
        "link add name narrow mtu {NARROW} type veth peer name eth0 mtu {NARROW} netns {}
         link set narrow up",
        machine.path()
    ));
    machine.ip("link set eth0 up");
    machine.run("ethtool -K eth0 tx off");
    for family in Family::BOTH {
        let (address, gateway) = (behind.address(family), behind.router(family));
        router.ip(&format!("address add {} dev narrow", family.on_link(gateway.parse().expect("an address"))));
        machine.ip(&format!("address add {} dev eth0", family.on_link(address)));
        let segment = if family == Family::V4 { 1460 } else { 1440 };
        machine.ip(&format!("route add default via {gateway} advmss {segment}"));
        let via = match behind {
            Behind::Client => family.client(),
            Behind::Backend => family.backend(1),
        };
        let bits = if family == Family::V4 { 32 } else { 128 };
        node.ip(&format!("route add {address}/{bits} via {via}"));
    }
}
