//! What of the config is steered to weir, and which addresses it needs on its interfaces.

use crate::config::Config;
use crate::service::data_port;
use crate::xdp::Targets;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Every service, every SNAT address, and those SNAT addresses that the config has no more but connections still use.
pub(super) fn targets(config: &Config, retired: &BTreeSet<IpAddr>) -> Targets {
    let helped = || config.services.iter().filter(|service| service.helper.is_some());
    let services = config.services.iter().map(|service| (service.vip, service.port, service.protocol));
    // RFC 959, section 3.2: a server opens data connections from the port before its own, so that is where they seem to come from.
    let own_data = helped().filter_map(|service| Some((service.vip, Some(data_port(service.port?)?), service.protocol)));
    Targets {
        services: services.chain(own_data).collect(),
        data: helped().map(|service| service.vip).collect(),
        snat: config.snat.addresses().chain(retired.iter().copied()).collect(),
    }
}

/// What is steered by the one or the other.
pub(super) fn union(one: &Targets, other: &Targets) -> Targets {
    Targets { services: &one.services | &other.services, data: &one.data | &other.data, snat: &one.snat | &other.snat }
}

/// The addresses that the kernel shall answer ARP and ND for.
pub(super) fn addresses(targets: &Targets) -> BTreeSet<IpAddr> {
    targets.services.iter().map(|(vip, ..)| *vip).chain(targets.snat.iter().copied()).collect()
}
