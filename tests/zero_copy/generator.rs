//! Aim: what the kernel's own pktgen sends through weir comes out of it, every frame once, and `weir pktgen` counts and times it so. Here, for
//! few machines have the module.

use crate::guest::Scenario;
use crate::service::insist;
use crate::support::{Family, Lab, Layout, run, run_within};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

const PORT: u16 = 7;
const FLOWS: u64 = 20;
/// Frames of a run, at a rate that the emulator keeps.
const FRAMES: u64 = 500;
/// The link address of weir's card of the first pair.
const WEIR: &str = "02:00:00:00:00:01";

pub(crate) fn of_the_kernel(queues: u32) -> Scenario {
    Scenario::new("kernel_pktgen", move || {
        run("kernel_pktgen", Layout::two_arm().queues(queues).cards(0), |lab| {
            insist(lab);
            for family in Family::BOTH {
                let backend = SocketAddr::new(family.backend(1), PORT);
                lab.config.add(
                    &format!("sink-{}", family.name()),
                    SocketAddr::new(family.vip(), PORT),
                    "udp",
                    vec![(backend, 1)],
                );
            }
            lab.client.run("modprobe pktgen");
            lab.start_weir();
            for family in Family::BOTH {
                let before = lab.weir().sum_of_workers("new_connections");
                let sent = send(lab, family);
                let opened = lab.weir().sum_of_workers("new_connections") - before;
                println!("    {family:?}: {sent} frames sent by the kernel, all came; {opened} flows");
                // A hundred frames at random leave out four of twenty flows once in a thousand runs.
                assert!((FLOWS - 4..=FLOWS).contains(&opened), "{opened} connections of {FLOWS} flows");
            }
        });
    })
}

/// What the module says that it sent, all of which the sink must have got.
fn send(lab: &Lab, family: Family) -> u64 {
    let mut command = lab.client.command(&std::env::var("WEIR_BINARY").expect("the guest's weir"));
    let vip = SocketAddr::new(family.vip(), PORT).to_string();
    let (flows, rate) = (FLOWS.to_string(), FRAMES.to_string());
    command.args(["pktgen", "--sender", "kernel", "--interface", "eth0", "--to", WEIR, "--json"]);
    command.args(["--sink", "uplink", "--sink-namespace", &lab.switch.path()]);
    command.args(["--vip", &vip, "--flows", &flows, "--rate", &rate, "--duration", "1"]);
    let finished = run_within(command, Duration::from_secs(30));
    assert!(finished.success(), "{finished}");
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"));
    let figures = &answer["figures"];
    let sent = figures["sent"].as_u64().expect("a number");
    // An emulator that gets no CPU is late, and the run is of one second.
    assert!((FRAMES / 4..=FRAMES).contains(&sent), "{answer:#}");
    assert_eq!(figures["lost"], 0, "{answer:#}");
    let received = &figures["received"];
    assert_eq!((&received["frames"], &received["duplicates"]), (&sent.into(), &0.into()), "{answer:#}");
    assert_eq!(received["latency_ns"]["count"], sent, "a time for each: {answer:#}");
    sent
}
