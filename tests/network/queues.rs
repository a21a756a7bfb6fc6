//! Aim: with two queues, and so two workers, every connection works wherever its packets come in, also when the replies come in at
//! the other worker than the requests. veth has no RSS; small programs on the senders' egress choose the queue.

use crate::support::{Family, Lab, Layout, Load, Mapping, failures, map_queues, run, spread_of_requests};
use std::net::SocketAddr;

#[test]
fn requests_and_replies_on_different_queues() {
    run("queues_crossed", Layout::two_arm().queues(2), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        // veth has neither key nor table: weir says so, and counts what comes of it.
        for interface in lab.weir().status()["interfaces"].as_array().unwrap() {
            let replies = interface["replies"].as_str().unwrap();
            assert!(replies.starts_with("replies come in at any worker: its driver does not tell key and table"), "{replies}");
        }
        for (requests, replies) in [(0, 1), (1, 0)] {
            let before = lab.weir().of_workers("new_connections");
            place(lab, Mapping::All(requests), Mapping::All(replies));
            for family in Family::BOTH {
                spread_of_requests(&lab.client, &family.url("name"), 1000);
            }
            let after = lab.weir().of_workers("new_connections");
            let opened: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
            let mut wanted = [0, 0];
            wanted[requests as usize] = 2000;
            assert_eq!(opened, wanted, "connections opened by each worker, requests on queue {requests}");
        }
        let weir = lab.weir();
        assert_eq!((weir.sum_of_workers("first_replies"), weir.sum_of_workers("first_replies_at_home")), (4000, 0));
        both_workers_moved(lab);
    });
}

#[test]
fn flows_on_both_queues_and_replies_anywhere() {
    run("queues_mixed", Layout::two_arm().queues(2), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        place(lab, Mapping::SourcePort, Mapping::DestinationPort);
        for family in Family::BOTH {
            spread_of_requests(&lab.client, &family.url("name"), 2000);
        }
        let opened = lab.weir().of_workers("new_connections");
        assert!(opened.iter().all(|count| *count > 500), "connections opened by each worker: {opened:?}");
        both_workers_moved(lab);
    });
}

#[test]
fn queues_that_change_under_load() {
    run("queues_moving", Layout::two_arm().queues(2), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let targets = Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80));
        let load = Load::start(&lab.client, &targets, 2);
        for mappings in [(0, 0), (1, 0), (1, 1), (0, 1)] {
            place(lab, Mapping::All(mappings.0), Mapping::All(mappings.1));
            load.wait_for(150);
        }
        let outcomes = load.stop();
        assert_eq!(failures(&outcomes), [""; 0], "of {} requests", outcomes.len());
        both_workers_moved(lab);
    });
}

/// Which queue of `outside` the requests come in on, and which of `inside` the replies.
fn place(lab: &Lab, requests: Mapping, replies: Mapping) {
    map_queues(&lab.client, "eth0", requests, &lab.directory);
    map_queues(&lab.switch, "uplink", replies, &lab.directory);
}

fn both_workers_moved(lab: &mut Lab) {
    let received = lab.weir().of_workers("rx");
    assert_eq!(received.len(), 2, "workers");
    assert!(received.iter().all(|frames| *frames > 1000), "frames received by each worker: {received:?}");
    // Segments of both directions, seen by different workers, are judged as by one.
    let drops = lab.weir().drops();
    assert!(!drops.keys().any(|reason| reason.starts_with("tcp_")), "refused by tracking: {drops:?}");
}

/// A worker that asks the driver in every round, where the driver has nothing to say.
#[test]
fn busy_polling_on_veth_serves_and_says_that_it_polls_nothing() {
    run("busy_poll", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.more = "[worker]\nidle = \"spin\"\nbusy_poll = true\n".into();
        lab.start_weir();
        let log = lab.weir().log();
        for interface in ["outside", "inside"] {
            let said = log.lines().any(|line| line.contains("busy_poll polls nothing") && line.contains(interface));
            assert!(said, "nothing is said of {interface}:\n{log}");
        }
        for family in Family::BOTH {
            spread_of_requests(&lab.client, &family.url("name"), 100);
        }
        lab.weir().check_conservation();
    });
}
