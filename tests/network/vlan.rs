//! Aim: clients behind an 802.1Q tag are served: tagged frames are steered to weir, and the answers carry the tag.

use crate::support::{Family, Layout, curl, ping, run, spread_of_requests, tag_frames};

const VLAN: u16 = 100;

/// The client's port tags what it sends; weir has the sub-interface `outside.100`, which the kernel of this machine must know.
#[test]
fn a_client_behind_a_vlan_sub_interface() {
    run("vlan", Layout::two_arm(), |lab| {
        let made = lab.node.attempt(&format!("ip link add link outside name outside.{VLAN} type vlan id {VLAN}"));
        if !made.success() {
            println!("SKIP vlan: this kernel has no 802.1Q interfaces");
            return;
        }
        tag_frames(&lab.client, "eth0", VLAN, &lab.directory);
        for family in Family::BOTH {
            let address = family.on_link(family.weir());
            lab.node.ip(&format!("address del {} dev outside", address.replace(" nodad", "")));
            lab.node.ip(&format!("address add {address} dev outside.{VLAN}"));
        }
        lab.node.ip(&format!("link set outside.{VLAN} up"));
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        for family in Family::BOTH {
            spread_of_requests(&lab.client, &family.url("name"), 300);
            assert!(ping(&lab.client, family.vip()), "ping of {}", family.vip());
        }
    });
}

/// The same without a sub-interface, for kernels that have none: what the kernel shall see loses its tag after weir had the first
/// look, so tagged requests reach weir and the answers go untagged, as the route says.
#[test]
fn tagged_requests_are_steered_and_tracked() {
    run("vlan_tagged_requests", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        tag_frames(&lab.client, "eth0", VLAN, &lab.directory);
        tag_frames(&lab.node, "outside", VLAN, &lab.directory);
        for family in Family::BOTH {
            spread_of_requests(&lab.client, &family.url("name"), 300);
            assert!(ping(&lab.client, family.vip()), "ping of {}", family.vip());
            let upload = lab.directory.join("upload");
            std::fs::write(&upload, vec![7; 300_000]).expect("a file");
            let finished = curl(&lab.client, &format!("--fail --upload-file {} {}", upload.display(), family.url("up")));
            assert!(finished.success(), "upload in full-sized tagged frames: {finished}");
        }
    });
}
