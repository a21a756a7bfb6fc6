//! Aim: virtio_net with 8 queues, of which fewer are in use when weir comes. Attaching XDP then turns on further queues by itself; zero-copy
//! sockets on those receive but never send, and the next attachment after such a process has crashed kernels. So weir turns on all of them
//! before it attaches, and serves just those; where it may not, it starts nothing and says what to do.

use crate::guest::Scenario;
use crate::service::{check_modes, insist};
use crate::support::{Daemon, Family, Lab, Layout, run, spread_of_requests, transfer};
use std::time::Duration;
use weir::xdp::{AttachMode, Steering};

const CHANNELS: u32 = 8;

pub(crate) fn scenario() -> Scenario {
    Scenario::new("attached_and_detached_ten_times", || {
        run("channels", Layout::two_arm().cards(0), |lab| {
            insist(lab);
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            // 16 sockets.
            lab.config.more = "[worker]\nframes = 512\n".into();
            asks_where_it_may_not(lab);
            for round in 0..10 {
                attach_and_detach(lab, round);
            }
        });
    })
}

/// While a program is attached the driver changes no channels. This one was attached with too few of them, as weir itself must not: it
/// opens no socket then, and asks for what it could not do.
fn asks_where_it_may_not(lab: &mut Lab) {
    lab.node.run("ethtool -L outside combined 3");
    let program = lab.node.inside(|| Steering::attach("outside", AttachMode::Native)).expect("a program");
    let mut weir = Daemon::spawn(&lab.node, &lab.directory, &lab.config, None);
    let (status, log) = (weir.wait(Duration::from_secs(20)), weir.log());
    assert_eq!(status.and_then(|status| status.code()), Some(1), "weir without its channels: {status:?}\n{log}");
    assert!(log.contains("ethtool -L outside combined 8"), "weir asks for the channels:\n{log}");
    assert!(!log.contains("zero-copy, XDP"), "weir speaks of a socket that it opened:\n{log}");
    lab.node.inside(|| drop(program));
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
        // Once a program is attached the driver refuses to change them: so weir did it before, and no queue that it binds was beyond them.
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
