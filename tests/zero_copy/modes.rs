//! Aim: weir takes zero-copy where it is to be had, says so where it is not, and works in every other mode and with busy polling.

use crate::guest::Scenario;
use crate::service::{check_modes, insist};
use crate::support::{Daemon, Family, Lab, Layout, run, run_within, spread_of_requests};
use std::time::Duration;

const REQUESTS: u32 = 100;

/// Cards whose device flags leave out what zero-copy needs: the third and fourth pair.
pub(crate) fn without_zero_copy() -> Scenario {
    Scenario::new("cards_without_zero_copy", || {
        run("without_flags", Layout::two_arm().cards(2), |lab| {
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            refused(lab);
            lab.start_weir();
            check_modes(lab.weir(), 1, "copy");
            let log = lab.weir().log();
            assert!(log.contains("no zero-copy") && log.contains("frames are copied"), "auto says that it copies:\n{log}");
            serve(lab);
        });
    })
}

fn refused(lab: &mut Lab) {
    let right = lab.config.interfaces.clone();
    insist(lab);
    let mut weir = Daemon::spawn(&lab.node, &lab.directory, &lab.config, None);
    let status = weir.wait(Duration::from_secs(20));
    let log = weir.log();
    assert_eq!(status.and_then(|status| status.code()), Some(1), "weir with zero-copy where there is none: {status:?}\n{log}");
    let why =
        log.lines().find(|line| line.contains("zero-copy was refused")).unwrap_or_else(|| panic!("no reason is given:\n{log}"));
    println!("    refused: {why}");
    assert!(why.contains("interface outside queue 0"), "the message names interface and queue: {why}");
    assert!(why.contains("virtio_net"), "it says what of this driver is missing: {why}");
    let left = lab.node.run("ip -d link");
    assert!(!left.contains("prog/xdp"), "a program was left attached: {left}");
    lab.config.interfaces = right;
}

/// What else the config can ask for, on the same cards.
pub(crate) fn others(queues: u32) -> Scenario {
    Scenario::new("copy_generic_and_busy_poll", move || {
        run("modes", Layout::two_arm().queues(queues).cards(0), |lab| {
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            let plain = lab.config.clone();
            for mode in ["copy", "generic"] {
                lab.config.interfaces.iter_mut().for_each(|interface| interface.push_str(&format!("\nmode = \"{mode}\"")));
                lab.start_weir();
                check_modes(lab.weir(), queues, mode);
                serve(lab);
                lab.weir().stop();
                lab.config = plain.clone();
            }
            insist(lab);
            lab.config.more = "[worker]\nbusy_poll = true\n".into();
            lab.start_weir();
            check_modes(lab.weir(), queues, "zero-copy");
            serve(lab);
        });
    })
}

/// One queue alone, for workers that spin leave an emulated CPU to nobody. Interrupts wait for ten seconds, far longer than a request may take: what comes in does so because the worker polls for it.
pub(crate) fn polled() -> Scenario {
    Scenario::new("interrupts_put_off", || {
        run("polled", Layout::two_arm().cards(0), |lab| {
            insist(lab);
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            lab.config.more = "[worker]\nidle = \"spin\"\nbusy_poll = true\n".into();
            lab.start_weir();
            check_modes(lab.weir(), 1, "zero-copy");
            assert!(!lab.weir().log().contains("busy_poll polls nothing"), "a driver that names its NAPI:\n{}", lab.weir().log());
            put_off_interrupts(lab, 1_000_000, 10_000_000_000);
            serve(lab);
            put_off_interrupts(lab, 0, 0);
        });
    })
}

/// After a poll that found something, `times` times for so long; again after each poll that a socket has asked for.
fn put_off_interrupts(lab: &Lab, times: u32, nanos: u64) {
    for interface in ["outside", "inside"] {
        let settings = format!(
            "mount -t sysfs none /sys && cd /sys/class/net/{interface} && echo {times} >napi_defer_hard_irqs && echo {nanos} >gro_flush_timeout"
        );
        let mut command = lab.node.command("unshare");
        command.args(["-m", "sh", "-c", &settings]);
        let finished = run_within(command, Duration::from_secs(20));
        assert!(finished.success(), "{interface}: {finished}");
    }
}

fn serve(lab: &mut Lab) {
    for family in Family::BOTH {
        spread_of_requests(&lab.client, &family.url("name"), REQUESTS);
    }
    lab.weir().check_conservation();
}
