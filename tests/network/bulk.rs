//! Aim: much data in both directions arrives whole: iperf3 over TCP and UDP, and a file of 100 MB byte by byte.

use crate::support::{Family, Lab, Layout, iperf3, run, transfer};
use std::collections::BTreeMap;
use std::net::SocketAddr;

#[test]
fn iperf3_both_ways_with_two_arms() {
    run("iperf3", Layout::two_arm().bulk(), iperf3_both_ways);
}

#[test]
fn iperf3_both_ways_with_one_arm() {
    run("iperf3_one_arm", Layout::one_arm().bulk(), iperf3_both_ways);
}

#[test]
fn a_large_file_is_the_same_both_ways_over_ipv4() {
    run("file_v4", Layout::two_arm().bulk(), |lab| transfer_file(lab, Family::V4));
}

#[test]
fn a_large_file_is_the_same_both_ways_over_ipv6() {
    run("file_v6", Layout::two_arm().bulk(), |lab| transfer_file(lab, Family::V6));
}

/// iperf3 opens several connections (control and data) that must meet the same server: a pool of one.
fn iperf3_both_ways(lab: &mut Lab) {
    for family in Family::BOTH {
        let (vip, backend) = (SocketAddr::new(family.vip(), 5201), SocketAddr::new(family.backend(1), 5201));
        for protocol in ["tcp", "udp"] {
            lab.config.add(&format!("iperf-{protocol}-{}", family.name()), vip, protocol, vec![(backend, 1)]);
        }
    }
    lab.start_weir();
    for family in Family::BOTH {
        for direction in ["", "--reverse"] {
            let tcp = iperf3(&lab.client, &lab.backends[0], family.vip(), &format!("--time 2 {direction}"));
            assert!(tcp.bytes > 10_000_000, "TCP over {family:?} {direction}: only {tcp:?} in 2 s");
            let udp = iperf3(
                &lab.client,
                &lab.backends[0],
                family.vip(),
                &format!("--udp --bitrate 20M --length 1200 --time 2 {direction}"),
            );
            assert!(udp.bytes > 4_000_000 && udp.lost_percent < 10.0, "UDP over {family:?} {direction}: {udp:?}");
        }
    }
    // A veth holds 256 packets: while the machine does something else, the kernel may lose some of iperf3's. weir may not.
    assert_eq!(lab.weir().drops(), BTreeMap::new(), "drops of weir");
}

fn transfer_file(lab: &mut Lab, family: Family) {
    lab.config = lab.config.clone().with_web([1, 1, 1]);
    lab.start_weir();
    transfer(lab, family, 100 << 20);
    // What the machine loses on the way is sent again, and every segment of it is inside of its window.
    assert_eq!(lab.weir().drops(), BTreeMap::new(), "drops of weir");
}
