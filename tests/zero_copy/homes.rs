//! Aim: a card that tells its RSS key and table. Every reply comes in at the worker that has opened its connection, also when the card is
//! given another table under way.

use crate::guest::Scenario;
use crate::queues::request;
use crate::service::{check_modes, insist};
use crate::support::{Family, Lab, Layout, run, wait_until};
use std::net::SocketAddr;
use std::time::Duration;

const QUEUES: u32 = 4;
/// Of each family, one after the other. By chance 64 replies would all come home once in 10^38 runs.
const CONNECTIONS: u32 = 32;

pub(crate) fn scenario() -> Scenario {
    Scenario::new("every_reply_comes_home", || {
        run("homes", Layout::two_arm().queues(QUEUES).cards(0), |lab| {
            insist(lab);
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            lab.start_weir();
            check_modes(lab.weir(), QUEUES, "zero-copy");
            let told = "SNAT ports of TCP/IPv4, UDP/IPv4, TCP/IPv6, UDP/IPv6 are chosen by its RSS key and table";
            for interface in lab.weir().status()["interfaces"].as_array().expect("interfaces") {
                assert!(interface["replies"].as_str().is_some_and(|replies| replies.starts_with(told)), "{interface}");
            }
            // 8 KiB, and 128 bytes for each of four workers, toward three backends of each family.
            assert_eq!(lab.weir().status()["connections"]["port_bytes"], 6 * (8192 + 4 * 128));
            come_home(lab, 0);
            // Queues 1 and 3 alone, where the replies come in.
            lab.node.run("ethtool -X inside weight 0 1 0 1");
            let said = "interface inside: from now on";
            wait_until("weir sees the other table", Duration::from_secs(30), || lab.weir().log().contains(said).then_some(()));
            come_home_where_there_is_one(lab);
        });
    })
}

fn come_home(lab: &mut Lab, before: u64) {
    connect(lab);
    let weir = lab.weir();
    let (replies, at_home, opened) =
        (weir.sum_of_workers("first_replies"), weir.sum_of_workers("first_replies_at_home"), weir.of_workers("new_connections"));
    println!("    connections opened by each worker: {opened:?}; first replies at home: {at_home} of {replies}");
    assert_eq!((replies - before, at_home - before), (u64::from(2 * CONNECTIONS), u64::from(2 * CONNECTIONS)));
    assert!(opened.iter().all(|count| *count > 0), "flows on all queues: {opened:?}");
    assert_eq!(weir.sum_of_workers("homeless"), 0);
}

/// Workers 0 and 2 have no port at home any more, and say so; the replies of the others come home as before.
fn come_home_where_there_is_one(lab: &mut Lab) {
    let (opened, before) = (lab.weir().of_workers("new_connections"), lab.weir().sum_of_workers("first_replies_at_home"));
    connect(lab);
    let weir = lab.weir();
    let moved: Vec<u64> = weir.of_workers("new_connections").iter().zip(opened).map(|(after, before)| after - before).collect();
    let at_home = weir.sum_of_workers("first_replies_at_home") - before;
    println!("    with a table of queues 1 and 3: opened {moved:?}, first replies at home: {at_home}");
    assert_eq!(at_home, moved[1] + moved[3]);
    assert_eq!(weir.sum_of_workers("homeless"), moved[0] + moved[2]);
}

fn connect(lab: &Lab) {
    for family in Family::BOTH {
        (0..CONNECTIONS).for_each(|_| lab.client.inside(|| request(SocketAddr::new(family.vip(), 80))));
    }
}
