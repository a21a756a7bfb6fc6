//! Aim: what is not weir's passes through the zero-copy queues to the kernel undisturbed, and 802.1Q sub-interfaces of the kernel work.

use crate::guest::Scenario;
use crate::service::insist;
use crate::support::{Family, Lab, Layout, Load, converse, failures, ping, run, spread_of_requests, transfer};
use std::net::SocketAddr;

const VLAN: u16 = 7;

/// Sessions with the machine itself on another port, as of ssh, and pings, under load.
pub(crate) fn sessions(queues: u32) -> Scenario {
    Scenario::new("own_traffic", move || {
        run("own_traffic", Layout::two_arm().queues(queues).cards(0), |lab| {
            insist(lab);
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            lab.start_weir();
            let load = Load::start(&lab.client, &Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80)), 1);
            load.wait_for(10);
            for family in Family::BOTH {
                for address in [SocketAddr::new(family.weir(), 22), SocketAddr::new(family.vip(), 22)] {
                    converse(&lab.client, &lab.node, address);
                }
                assert!(ping(&lab.client, family.vip()), "ping of the VIP {}", family.vip());
                assert!(ping(&lab.client, family.weir()), "ping of {}", family.weir());
            }
            assert_eq!(failures(&load.stop()), [""; 0]);
        });
    })
}

/// Clients on a VLAN, whose sub-interface at weir is the kernel's. Requests come tagged (or, where the card takes tags off, with the tag
/// beside the frame) and the answers leave with a tag.
pub(crate) fn vlan(queues: u32) -> Scenario {
    Scenario::new("vlan_sub_interface", move || {
        run("vlan", Layout::two_arm().queues(queues).cards(0), |lab| {
            insist(lab);
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            move_client_to_vlan(lab);
            lab.start_weir();
            for family in Family::BOTH {
                spread_of_requests(&lab.client, &family.url("name"), 100);
                transfer(lab, family, 1 << 20);
                assert!(ping(&lab.client, family.vip()), "ping of {}", family.vip());
            }
            let hops = lab.weir().status()["next_hops"].to_string();
            assert!(hops.contains(&format!("\"vlan\":{VLAN}")), "the way to the client has a tag: {hops}");
        });
    })
}

/// The only way from the client to weir and back is now the VLAN.
fn move_client_to_vlan(lab: &Lab) {
    lab.client.ip(&format!("link add link eth0 name eth0.{VLAN} type vlan id {VLAN}\nlink set eth0.{VLAN} up"));
    lab.node.ip(&format!("link add link outside name outside.{VLAN} type vlan id {VLAN}\nlink set outside.{VLAN} up"));
    for (family, client, node) in [(Family::V4, "10.7.0.2/24", "10.7.0.1"), (Family::V6, "fd00:7::2/64", "fd00:7::1")] {
        let (prefix, nodad) = if family == Family::V4 { (24, "") } else { (64, "nodad") };
        lab.client.ip(&format!("address add {client} dev eth0.{VLAN} {nodad}"));
        lab.node.ip(&format!("address add {node}/{prefix} dev outside.{VLAN} {nodad}"));
        lab.client.ip(&format!("address del {} dev eth0", family.on_link(family.client()).replace(" nodad", "")));
        lab.client.ip(&format!("route add {} via {node}", family.vip()));
    }
}
