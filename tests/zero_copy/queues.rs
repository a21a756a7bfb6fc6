//! Aim: an igb has RSS, and nobody tells it where replies shall go. Flows come in on all queues, most replies on another queue than
//! their requests, and every connection works.

use crate::guest::Scenario;
use crate::service::{check_modes, insist};
use crate::support::{Family, Lab, Layout, run, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const QUEUES: u32 = 4;
/// Of each family, one after the other. That a queue gets none of 64 happens once in 25 million runs.
const CONNECTIONS: u32 = 32;

pub(crate) fn scenario() -> Scenario {
    Scenario::new("flows_on_all_queues", || {
        run("rss", Layout::two_arm().queues(QUEUES).cards(0), |lab| {
            insist(lab);
            lab.config = lab.config.clone().with_web([1, 1, 1]);
            lab.start_weir();
            check_modes(lab.weir(), QUEUES, "zero-copy");
            println!("    RSS key of outside: {}", rss_key(lab));
            spread(lab);
            every_queue_moved(lab);
        });
    })
}

/// In ethtool's words. An igb's driver tells nobody, so which queue a reply comes to cannot be reckoned; it is counted.
fn rss_key(lab: &Lab) -> String {
    let shown = lab.node.run("ethtool -x outside");
    let (_, key) = shown.split_once("RSS hash key:").unwrap_or_else(|| panic!("ethtool -x: {shown}"));
    key.trim().lines().next().unwrap_or_default().to_owned()
}

fn spread(lab: &mut Lab) {
    let mut opened = [0; QUEUES as usize];
    let mut on_their_owner = 0;
    let mut before = counters(lab);
    for family in Family::BOTH {
        for _ in 0..CONNECTIONS {
            lab.client.inside(|| request(SocketAddr::new(family.vip(), 80)));
            let after = counters(lab);
            let moved = |now: &[u64], then: &[u64]| -> Vec<usize> {
                (0..now.len()).filter(|worker| now[*worker] > then[*worker]).collect()
            };
            let owner = moved(&after.0, &before.0);
            assert_eq!(owner.len(), 1, "one connection, one worker that opened it: {:?} {:?}", before.0, after.0);
            opened[owner[0]] += 1;
            // Requests come in at the worker that opened the connection; whoever else received something received the replies.
            on_their_owner += u32::from(moved(&after.1, &before.1) == owner);
            before = after;
        }
    }
    let connections = 2 * CONNECTIONS;
    println!(
        "    connections opened by each worker: {opened:?}; replies at the worker that owns them: {on_their_owner} of {connections}"
    );
    assert!(opened.iter().all(|count| *count > 0), "flows on all queues: {opened:?}");
    assert!(on_their_owner < connections, "some replies come in on another queue");
}

/// Connections opened and frames received, by worker. Asking takes long enough for the last ACK of a connection to come in.
fn counters(lab: &mut Lab) -> (Vec<u64>, Vec<u64>) {
    let status = lab.weir().status();
    let of_workers = |counter: &str| -> Vec<u64> {
        let workers = status["workers"].as_array().expect("workers");
        workers.iter().map(|worker| worker[counter].as_u64().expect("a counter")).collect()
    };
    (of_workers("new_connections"), of_workers("rx"))
}

/// To the end of the connection: the server closes first, and the client's last ACK is on its way when this returns.
fn request(target: SocketAddr) {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5)).expect("connect");
    stream.write_all(b"GET /name HTTP/1.0\r\n\r\n").expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn every_queue_moved(lab: &mut Lab) {
    wait_until("counters of every queue", Duration::from_secs(5), || {
        let status = lab.weir().status();
        let interfaces = status["interfaces"].as_array().expect("interfaces");
        let mut queues = interfaces.iter().flat_map(|interface| interface["queues"].as_array().expect("queues"));
        queues.all(|queue| queue["received"].as_u64() > Some(0) && queue["sent"].as_u64() > Some(0)).then_some(())
    });
}
