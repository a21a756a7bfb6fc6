//! Aim: UDP is balanced by sender, not by datagram: each client socket keeps its backend, and gets its own answers back.

use crate::support::{Backend, DatagramServer, Family, Lab, Layout, ask_by_datagram, run};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const PORT: u16 = 5353;
const CLIENTS: usize = 300;
const DATAGRAMS: usize = 5;

#[test]
fn datagrams_of_a_client_keep_their_backend() {
    run("udp", Layout::two_arm(), balance_datagrams);
}

#[test]
fn datagrams_of_a_client_keep_their_backend_with_one_arm_and_two_queues() {
    run("udp_one_arm", Layout::one_arm().queues(2), balance_datagrams);
}

fn balance_datagrams(lab: &mut Lab) {
    for family in Family::BOTH {
        let backends = (1..=3).map(|number| (SocketAddr::new(family.backend(number), PORT), 1)).collect();
        lab.config.add(&format!("dns-{}", family.name()), SocketAddr::new(family.vip(), PORT), "udp", backends);
    }
    lab.start_weir();
    for family in Family::BOTH {
        let start = |(backend, number): (&Backend, usize)| {
            DatagramServer::start(&backend.namespace, SocketAddr::new(family.backend(number), PORT), backend.name)
        };
        let servers: Vec<DatagramServer> = lab.backends.iter().zip(1..).map(start).collect();
        let spread = lab.client.inside(|| ask_by_datagram(SocketAddr::new(family.vip(), PORT), CLIENTS, DATAGRAMS));
        drop(servers);
        assert!(
            spread.len() == 3 && spread.values().all(|count| *count == CLIENTS / 3),
            "clients by backend over {family:?}: {spread:?}"
        );
    }
    assert_eq!(lab.weir().drops(), BTreeMap::new());
}
