//! Aim: frames whose checksums were left for the hardware to finish, as all local traffic over veth and many virtual machines has
//! them, leave weir with whole ones where the interface says `checksum = "recompute"`.

use crate::support::{Family, Lab, Layout, curl, run, spread_of_requests};

#[test]
fn partial_checksums_are_computed_anew_with_two_arms() {
    run("recompute", Layout::two_arm().partial_checksums(), recompute);
}

#[test]
fn partial_checksums_are_computed_anew_with_one_arm() {
    run("recompute_one_arm", Layout::one_arm().partial_checksums(), recompute);
}

fn recompute(lab: &mut Lab) {
    lab.config = lab.config.clone().with_web([1, 1, 1]);
    for interface in &mut lab.config.interfaces {
        interface.push_str("\nchecksum = \"recompute\"");
    }
    lab.start_weir();
    let original = lab.directory.join("original");
    std::fs::write(&original, (0..3 << 20).map(|byte: u32| (byte % 249) as u8).collect::<Vec<_>>()).expect("a file");
    for family in Family::BOTH {
        spread_of_requests(&lab.client, &family.url("name"), 300);
        let up = format!("up-{}", family.name());
        let finished = curl(&lab.client, &format!("--fail --upload-file {} {}", original.display(), family.url(&up)));
        assert!(finished.success(), "upload: {finished}");
    }
}
