//! Aim: virtio_net with 8 queues, of which fewer are in use when weir comes. Attaching XDP then turns on further queues by itself; zero-copy
//! sockets on those receive but never send, and the next attachment after such a process has crashed kernels. So weir turns on all of them
//! first, and serves just those.

use crate::guest::Scenario;
use crate::service::{check_modes, insist};
use crate::support::{Family, Lab, Layout, run, spread_of_requests, transfer};

const CHANNELS: u32 = 8;

pub(crate) fn scenario() -> Scenario {
    Scenario::new("attached_and_detached_ten_times", || {
        run("channels", Layout::two_arm().cards(0), |lab| {
            insist(lab);
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            // 16 sockets.
            lab.config.more = "[worker]\nframes = 512\n".into();
            for round in 0..10 {
                attach_and_detach(lab, round);
            }
        });
    })
}

/// Every time with another number of channels in use before; ended by SIGTERM and by kill -9 in turn.
fn attach_and_detach(lab: &mut Lab, round: u32) {
    let before = round % CHANNELS + 1;
    for interface in ["outside", "inside"] {
        lab.node.attempt(&format!("ethtool -L {interface} combined {before}"));
        assert_eq!(channels(lab, interface), before, "channels of {interface} before weir");
    }
    lab.start_weir();
    for interface in ["outside", "inside"] {
        assert_eq!(channels(lab, interface), CHANNELS, "channels of {interface} under weir, {before} before");
    }
    let said = format!("{CHANNELS} channels are in use, before {before}");
    assert!(before == CHANNELS || lab.weir().log().contains(&said), "weir says what it changed:\n{}", lab.weir().log());
    check_modes(lab.weir(), CHANNELS, "zero-copy");
    for family in Family::BOTH {
        spread_of_requests(&lab.client, &family.url("name"), 30);
    }
    if round == 0 {
        transfer(lab, Family::V4, 1 << 20);
    }
    lab.weir().check_conservation();
    match round % 2 {
        0 => assert_eq!(lab.weir().stop().code(), Some(0), "exit of weir, round {round}"),
        _ => lab.weir().kill(),
    }
}

fn channels(lab: &Lab, interface: &str) -> u32 {
    let shown = lab.node.run(&format!("ethtool -l {interface}"));
    let (_, now) = shown.split_once("Current hardware settings").unwrap_or_else(|| panic!("ethtool -l: {shown}"));
    let combined = now.lines().find_map(|line| line.strip_prefix("Combined:"));
    combined.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("ethtool -l: {shown}"))
}
