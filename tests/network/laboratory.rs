//! Aim: the laboratory itself is sound. With the kernel's own full-NAT in weir's place every kind of traffic that the other tests use
//! passes, so what fails in them is weir's.

use crate::support::{Family, Lab, Layout, Load, answers, curl, failures, iperf3, ping, run, spread_of_requests};
use std::net::SocketAddr;

#[test]
fn two_arm_laboratory_passes_traffic_through_nftables() {
    run("two_arm_laboratory", Layout::two_arm(), traffic_of_every_kind);
}

#[test]
fn one_arm_laboratory_passes_traffic_through_nftables() {
    run("one_arm_laboratory", Layout::one_arm(), traffic_of_every_kind);
}

fn traffic_of_every_kind(lab: &mut Lab) {
    balance_by_nftables(lab);
    for family in Family::BOTH {
        let spread = spread_of_requests(&lab.client, &family.url("name"), 300);
        assert!(["b1", "b2", "b3"].iter().all(|name| spread[*name] == 100), "in turn: {spread:?}");
        assert!(ping(&lab.client, family.vip()), "ping of {}", family.vip());
        assert!(!curl(&lab.backends[0].namespace, &format!("http://{}/", SocketAddr::new(family.client(), 80))).success());
        let moved = iperf3(&lab.client, &lab.backends[0], family.vip(), "--time 1");
        assert!(moved.bytes > 10_000_000, "{moved:?}");
    }
    let load = Load::start(&lab.client, &Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80)), 2);
    load.wait_for(100);
    let outcomes = load.stop();
    assert_eq!(failures(&outcomes), [""; 0]);
    assert_eq!(answers(&outcomes).len(), 3);
}

/// What weir does, done by the kernel: in turn to three backends, with a SNAT address as the source.
fn balance_by_nftables(lab: &Lab) {
    let interface = lab.layout.interfaces()[0];
    lab.node.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]);
    let mut rules = String::from("table inet balance {\n");
    let (mut dnat, mut snat) = (String::new(), String::new());
    for (family, keyword) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        let (vip, source, first) = (family.vip(), family.snat(), family.backend(1));
        lab.node.ip(&format!("address add {} dev {interface}", family.on_link(vip)));
        lab.node.ip(&format!(
            "address add {} dev {}",
            family.on_link(source),
            lab.layout.interfaces()[lab.layout.interfaces().len() - 1]
        ));
        let backends: Vec<String> = (0..3).map(|turn| format!("{turn} : {}", family.backend(turn + 1))).collect();
        dnat +=
            &format!("{keyword} daddr {vip} tcp dport 80 dnat {keyword} to numgen inc mod 3 map {{ {} }}\n", backends.join(", "));
        dnat += &format!("{keyword} daddr {vip} meta l4proto {{ tcp, udp }} th dport 5201 dnat {keyword} to {first}\n");
        snat += &format!("{keyword} saddr {} ct status dnat snat {keyword} to {source}\n", family.client());
    }
    rules += &format!("chain prerouting {{ type nat hook prerouting priority dstnat;\n{dnat} }}\n");
    rules += &format!("chain postrouting {{ type nat hook postrouting priority srcnat;\n{snat} }}\n}}\n");
    let file = lab.directory.join("balance.nft");
    std::fs::write(&file, rules).expect("rules");
    lab.node.run(&format!("nft -f {}", file.display()));
}
