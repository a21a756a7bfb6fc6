//! Aim: an igb has RSS, and nobody tells it where replies shall go. Flows come in on all queues, most replies on another queue than
//! their requests, and every connection works.

use crate::guest::Scenario;
use crate::service::{check_modes, insist};
use crate::support::{Family, Lab, Layout, run, wait_until};
use serde_json::Value;
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
    let mut before = Counters::read(lab);
    for family in Family::BOTH {
        for _ in 0..CONNECTIONS {
            lab.client.inside(|| request(SocketAddr::new(family.vip(), 80)));
            let after = Counters::read(lab);
            let owner = most_moved(&before.opened, &after.opened);
            opened[owner] += 1;
            on_their_owner += u32::from(most_moved(&before.replies, &after.replies) == owner);
            before = after;
        }
    }
    let connections = 2 * CONNECTIONS;
    println!(
        "    connections opened by each worker: {opened:?}; replies at the worker that owns them: {on_their_owner} of {connections}"
    );
    assert!(opened.iter().all(|count| *count > 0), "flows on all queues: {opened:?}");
    // About a quarter, for the card chooses without regard to the other side: 13 to 24 of 64 were seen.
    assert!(2 * on_their_owner < connections, "most replies come in on another queue than their requests");
}

/// By queue, which is by worker.
struct Counters {
    opened: Vec<u64>,
    /// Frames received from the servers' side.
    replies: Vec<u64>,
}

impl Counters {
    fn read(lab: &mut Lab) -> Self {
        let status = lab.weir().status();
        let each = |list: &Value, counter: &str| -> Vec<u64> {
            list.as_array().expect("a list").iter().map(|one| one[counter].as_u64().expect("a counter")).collect()
        };
        let interfaces = status["interfaces"].as_array().expect("interfaces");
        let inside = interfaces.iter().find(|interface| interface["name"] == "inside").expect("inside");
        Self { opened: each(&status["workers"], "new_connections"), replies: each(&inside["queues"], "received") }
    }
}

/// Which of them grew most: the last segment of the connection before may have come in since, a whole connection is more.
fn most_moved(before: &[u64], after: &[u64]) -> usize {
    let moved: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    let queue = (0..moved.len()).max_by_key(|queue| moved[*queue]).expect("queues");
    assert!(moved[queue] > 0, "one of the queues moved: {before:?} {after:?}");
    queue
}

/// To the end of the connection, but for the client's FIN and its ACK, which are on their way when this returns.
pub(crate) fn request(target: SocketAddr) {
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
