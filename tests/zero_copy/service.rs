//! Aim: weir serves over zero-copy sockets: HTTP over IPv4 and IPv6, large files, datagrams; with two arms and with one.

use crate::guest::{Scenario, step};
use crate::support::{
    Backend, Daemon, DatagramServer, Family, Lab, Layout, ask_by_datagram, ping, run, spread_of_requests, transfer,
};
use std::net::SocketAddr;

const FILE: u64 = 10 << 20;
/// Of each family.
const REQUESTS: u32 = 1000;
/// Of the UDP echo.
const PORT: u16 = 5353;

pub(crate) fn two_arms(queues: u32) -> Scenario {
    Scenario::new("two_arms", move || run("two_arms", Layout::two_arm().queues(queues).cards(0), |lab| serve(lab, queues)))
}

pub(crate) fn one_arm(queues: u32) -> Scenario {
    Scenario::new("one_arm", move || run("one_arm", Layout::one_arm().queues(queues).cards(0), |lab| serve(lab, queues)))
}

/// Frames of a queue, for all but those scenarios that leave it at the default of 4096: an emulator takes long to clear memory.
pub(crate) const FRAMES: u32 = 1024;

/// Every interface insists on zero-copy.
pub(crate) fn insist(lab: &mut Lab) {
    lab.config.interfaces.iter_mut().for_each(|interface| interface.push_str("\nmode = \"zero-copy\""));
    lab.config.more = format!("[worker]\nframes = {FRAMES}\n");
}

fn serve(lab: &mut Lab, queues: u32) {
    insist(lab);
    lab.config = lab.config.clone().with_web([1, 1, 1]);
    for family in Family::BOTH {
        let backends = (1..=3).map(|number| (SocketAddr::new(family.backend(number), PORT), 1)).collect();
        lab.config.add(&format!("echo-{}", family.name()), SocketAddr::new(family.vip(), PORT), "udp", backends);
    }
    lab.start_weir();
    check_modes(lab.weir(), queues, "zero-copy");
    for family in Family::BOTH {
        step("requests", || drop(spread_of_requests(&lab.client, &family.url("name"), REQUESTS)));
        step("a file both ways", || transfer(lab, family, FILE));
        step("datagrams", || echo(lab, family));
        assert!(ping(&lab.client, family.vip()), "ping of {}", family.vip());
    }
}

/// What XDP_OPTIONS says of every socket, as `weir status` tells it.
#[track_caller]
pub(crate) fn check_modes(weir: &Daemon, queues: u32, mode: &str) {
    let status = weir.status();
    let interfaces = status["interfaces"].as_array().expect("interfaces");
    assert!(!interfaces.is_empty(), "weir has interfaces");
    for interface in interfaces {
        let modes: Vec<&str> =
            interface["queues"].as_array().expect("queues").iter().filter_map(|queue| queue["mode"].as_str()).collect();
        println!("    {}: XDP {}, sockets {modes:?}", interface["name"], interface["attached"]);
        assert_eq!(modes, vec![mode; queues as usize], "modes of the sockets of {}", interface["name"]);
    }
}

fn echo(lab: &Lab, family: Family) {
    let start = |(backend, number): (&Backend, usize)| {
        DatagramServer::start(&backend.namespace, SocketAddr::new(family.backend(number), PORT), backend.name)
    };
    let _servers: Vec<DatagramServer> = lab.backends.iter().zip(1..).map(start).collect();
    let spread = lab.client.inside(|| ask_by_datagram(SocketAddr::new(family.vip(), PORT), 60, 5));
    assert!(spread.len() == 3 && spread.values().all(|count| *count == 20), "clients by backend over {family:?}: {spread:?}");
}
