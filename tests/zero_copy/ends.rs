//! Aim: after every kind of interruption under load the service is back soon, and no frame is lost on the way: kill -9, orderly stops
//! and starts, links that go down and up, reloads.

use crate::carriers::Carriers;
use crate::guest::{Scenario, step};
use crate::service::{FRAMES, insist};
use crate::support::{Family, Lab, Layout, Load, failures, run, spread_of_requests, wait_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest to the first answers of both families; [`back_in_time`] says from when.
const BACK: Duration = Duration::from_secs(2);
/// Longest from the fault's end whatever the driver does meanwhile: an igb was seen to take 4.0 s on a busy machine.
const WHOLE: Duration = Duration::from_secs(6);

pub(crate) fn scenarios(queues: u32) -> Vec<Scenario> {
    let scenario = |name: &'static str, test: fn(&mut Lab)| {
        Scenario::new(name, move || {
            run(name, Layout::two_arm().queues(queues).cards(0), |lab| {
                insist(lab);
                lab.config = lab.config.clone().with_web([1, 1, 1]);
                lab.start_weir();
                test(lab);
                check_frames(lab);
            });
        })
    };
    vec![
        scenario("kill_9", killed),
        scenario("stopped_and_started_20_times", stopped),
        scenario("link_down_and_up", unplugged),
        scenario("reload_under_load", reloaded),
    ]
}

/// Longest that a client of the load tries before its next request, where requests may fail.
const PATIENCE: Duration = Duration::from_millis(500);

fn load(lab: &Lab, patience: Duration) -> Load {
    Load::with_patience(&lab.client, &Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80)), 1, patience)
}

fn killed(lab: &mut Lab) {
    for round in 1..=3 {
        let load = load(lab, PATIENCE);
        load.wait_for(20);
        lab.weir().kill();
        start_again(lab, &format!("kill {round}"));
        drop(load);
        spread_of_requests(&lab.client, &Family::V4.url("name"), 30);
        lab.weir().check_conservation();
    }
}

fn stopped(lab: &mut Lab) {
    let load = load(lab, PATIENCE);
    for round in 1..=20 {
        load.wait_for(4);
        let status = lab.weir().stop();
        assert_eq!(status.code(), Some(0), "round {round}: exit of weir on SIGTERM: {status}\n{}", lab.weir().log());
        start_again(lab, &format!("stop {round}"));
    }
    drop(load);
}

/// The fault ends when weir is started again.
fn start_again(lab: &mut Lab, what: &str) {
    let (carriers, fault_ended) = (Carriers::watch(lab), Instant::now());
    lab.start_weir();
    let ready = Instant::now();
    println!("    {what}: weir ready after {:.1} s", (ready - fault_ended).as_secs_f32());
    let links = back_in_time(lab, what, fault_ended, ready, carriers);
    assert!(links.is_none() || drops_links(lab), "{what}: a link went down and came back, and no igb is there to do so");
}

fn unplugged(lab: &mut Lab) {
    for interface in ["outside", "inside"] {
        let load = load(lab, PATIENCE);
        load.wait_for(20);
        lab.node.ip(&format!("link set {interface} down"));
        wait_until("weir to notice", Duration::from_secs(10), || {
            lab.weir().log().contains(&format!("interface {interface}: down")).then_some(())
        });
        let (carriers, fault_ended) = (Carriers::watch(lab), Instant::now());
        lab.node.ip(&format!("link set {interface} up"));
        // Addresses of IPv6 went with the link: the node's own are put back by whoever set them.
        let own = if interface == "outside" { "fd00:1::1/64" } else { "fd00:2::1/64" };
        lab.node.ip(&format!("address replace {own} dev {interface} nodad"));
        back_in_time(lab, &format!("link {interface}"), fault_ended, fault_ended, carriers);
        drop(load);
        spread_of_requests(&lab.client, &Family::V6.url("name"), 30);
    }
}

fn reloaded(lab: &mut Lab) {
    let load = load(lab, Duration::from_secs(5));
    for weights in [[1, 2, 3], [3, 0, 1], [1, 1, 1]] {
        load.wait_for(20);
        for family in Family::BOTH {
            let pool = format!("web-{}", family.name());
            lab.config.backends(&pool).iter_mut().zip(weights).for_each(|(backend, weight)| backend.1 = weight);
        }
        let (config, generation) = (lab.config.clone(), lab.weir().status()["generation"].as_u64());
        lab.weir().reload(&config);
        wait_until("the reload", Duration::from_secs(5), || {
            (lab.weir().status()["generation"].as_u64() > generation).then_some(())
        });
    }
    load.wait_for(20);
    let outcomes = load.stop();
    assert_eq!(failures(&outcomes), [""; 0], "requests while weir was reloaded");
    let longest = outcomes.iter().map(|outcome| outcome.ended - outcome.begun).max().expect("requests");
    println!("    reloads: the longest of {} requests took {:.1} s", outcomes.len(), longest.as_secs_f32());
    assert!(longest <= BACK, "a request took {longest:?} while weir was reloaded, {BACK:?} are allowed");
}

/// Waits until both families are served, and says how long that took since the fault ended. That is what has the bound; but where the
/// driver drops its links meanwhile, as an igb does for two seconds whenever it is given a program or a socket, it counts from when they
/// are back and weir, which waits for the driver, is `ready`. Says when the links came back, if they were away.
fn back_in_time(lab: &Lab, what: &str, fault_ended: Instant, ready: Instant, carriers: Carriers) -> Option<Instant> {
    for family in Family::BOTH {
        let target = SocketAddr::new(family.vip(), 80);
        wait_until(&format!("an answer from {target}"), Duration::from_secs(20), || lab.client.inside(|| asked(target)));
    }
    let served = Instant::now();
    let links = carriers.last_came_back().filter(|linked| *linked > fault_ended);
    let bound_from = links.map_or(fault_ended, |linked| linked.max(ready));
    let [whole, counted] = [fault_ended, bound_from].map(|start| served.saturating_duration_since(start));
    let told =
        links.map_or("links stayed up".into(), |linked| format!("links up after {:.1} s", (linked - fault_ended).as_secs_f32()));
    println!("    {what}: {told}, served after {:.1} s; {:.1} s count", whole.as_secs_f32(), counted.as_secs_f32());
    assert!(counted <= BACK, "{what}: service came back after {whole:?}, of which {counted:?} count, {BACK:?} are allowed");
    assert!(whole <= WHOLE, "{what}: service came back after {whole:?}, {WHOLE:?} are allowed whatever the driver does");
    links
}

/// Whether the driver of weir's cards is the one that takes its links down when it is given a program or a socket.
fn drops_links(lab: &Lab) -> bool {
    lab.node.run("ethtool -i outside").contains("driver: igb")
}

/// One request, with short patience: what was lost while nobody served shall not be waited for.
fn asked(target: SocketAddr) -> Option<()> {
    let patience = Duration::from_millis(300);
    let mut stream = TcpStream::connect_timeout(&target, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(b"GET /name HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}

/// Nothing is under way any more, so every queue's frames are where they were at the start: as many as it has with the kernel to receive
/// into, and none that is sent. The others are free; that each frame is at one place and none is missing, weir's debug assertion sees after
/// every burst.
pub(crate) fn check_frames(lab: &mut Lab) {
    lab.weir().check_conservation();
    step("every frame at its place", || {
        wait_until("frames that came back", Duration::from_secs(10), || {
            let status = lab.weir().status();
            let interfaces = status["interfaces"].as_array().expect("interfaces").clone();
            let queues: Vec<&Value> =
                interfaces.iter().flat_map(|interface| interface["queues"].as_array().expect("queues")).collect();
            let home = |queue: &&Value| queue["in_flight"] == 0 && queue["filling"] == FRAMES;
            queues.iter().all(home).then_some(())
        });
    });
}
