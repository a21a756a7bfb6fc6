//! Aim: clients behind an 802.1Q tag are served: tagged frames are steered to weir and tracked.
//!
//! Answers that carry a tag need a VLAN sub-interface, which not every kernel has; `tests/packet_way` shows every change of tag.

use crate::support::{Family, Layout, curl, ping, run, spread_of_requests, tag_frames};

const VLAN: u16 = 100;

/// What the kernel shall see loses its tag after weir had the first look: tagged requests reach weir, and the answers go untagged, as the
/// route says.
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
