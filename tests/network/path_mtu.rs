//! Aim: a backend whose packets are too big for the way to the client is told so by weir, and the connection goes on with smaller ones.

use crate::support::{Family, Lab, Layout, curl, run};

/// Of weir's interface toward the client, while everyone else has 1500.
const MTU: u32 = 1400;

#[test]
fn a_backend_learns_the_smaller_mtu_over_ipv4() {
    run("path_mtu_v4", Layout::two_arm(), |lab| learn(lab, Family::V4));
}

#[test]
fn a_backend_learns_the_smaller_mtu_over_ipv6() {
    run("path_mtu_v6", Layout::two_arm(), |lab| learn(lab, Family::V6));
}

fn learn(lab: &mut Lab, family: Family) {
    lab.node.ip(&format!("link set outside mtu {MTU}"));
    lab.config = lab.config.clone().with_web([1, 0, 0]);
    lab.start_weir();
    let content: Vec<u8> = (0..1 << 20).map(|byte: u32| (byte % 253) as u8).collect();
    std::fs::write(lab.backends[0].file("down"), &content).expect("a file to serve");

    // The client says that it takes 1500 bytes, so the backend sends 1500 and must hear of it.
    let copy = lab.directory.join("copy");
    let finished = curl(&lab.client, &format!("--fail --output {} {}", copy.display(), family.url("down")));
    assert!(finished.success(), "download: {finished}");
    assert!(std::fs::read(&copy).expect("the copy") == content, "the copy differs");

    let route = lab.backends[0].namespace.run(&format!("ip route get {}", family.snat()));
    assert!(route.contains(&format!("mtu {MTU}")), "what the backend knows of its way to weir: {route}");
    assert!(lab.weir().sum_of_workers("answered") > 0, "weir counts its ICMP errors");
}
