//! Aim: however weir ends, the machine is left as it should be: on SIGTERM as it was before, on `kill -9` with the traffic back in the
//! kernel's hands, and the next weir starts at once.

use crate::support::{Family, Lab, Layout, Load, failures, ping, run, spread_of_requests, wait_until};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

#[test]
fn a_stopped_weir_leaves_nothing_behind() {
    run("sigterm", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        let before = lab.node.run("ip -o address");
        lab.start_weir();
        for family in Family::BOTH {
            assert!(
                has_address(lab, family.vip()) && has_address(lab, family.snat()),
                "addresses that weir put on its interfaces"
            );
            spread_of_requests(&lab.client, &family.url("name"), 30);
        }
        assert!(programs_attached(lab), "the XDP program is attached");
        lab.weir().check_conservation();
        let status = lab.weir().stop();
        assert_eq!(status.code(), Some(0), "exit of weir on SIGTERM: {status}\n{}", lab.weir().log());
        assert!(!programs_attached(lab), "an XDP program is left behind");
        let after = lab.node.run("ip -o address");
        assert_eq!(lines(&after), lines(&before), "addresses after and before");
    });
}

#[test]
fn a_killed_weir_gives_the_traffic_back_and_starts_again() {
    run("kill_9", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let targets = Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80));
        for round in 0..3 {
            let load = Load::start(&lab.client, &targets, 2);
            load.wait_for(100);
            assert_eq!(failures(&load.outcomes()), [""; 0], "round {round}");
            lab.weir().kill();
            wait_until("the XDP program to be gone", Duration::from_secs(5), || (!programs_attached(lab)).then_some(()));
            the_kernel_answers(lab, round);

            lab.start_weir();
            drop(load);
            for family in Family::BOTH {
                spread_of_requests(&lab.client, &family.url("name"), 300);
            }
        }
    });
}

/// The VIP is still on the interface, nobody listens there: the kernel refuses at once, and answers pings.
fn the_kernel_answers(lab: &Lab, round: u32) {
    for family in Family::BOTH {
        let begun = Instant::now();
        let target = SocketAddr::new(family.vip(), 80);
        let refused =
            lab.client.inside(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)).expect_err("nobody listens"));
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "round {round}, {target} after {:?}", begun.elapsed());
        assert!(ping(&lab.client, family.vip()), "round {round}, ping of {}", family.vip());
    }
}

fn programs_attached(lab: &Lab) -> bool {
    lab.layout.interfaces().iter().any(|interface| lab.node.run(&format!("ip -d link show {interface}")).contains("prog/xdp"))
}

fn has_address(lab: &Lab, address: IpAddr) -> bool {
    lab.node.run("ip -o address").contains(&format!(" {address}/"))
}

/// Without what changes by itself.
fn lines(addresses: &str) -> Vec<String> {
    let shown = |line: &str| line.split(" valid_lft").next().unwrap_or(line).replace(" tentative", "");
    let mut lines: Vec<String> = addresses.lines().map(shown).collect();
    lines.sort();
    lines
}
