//! Aim: ten thousand requests over new connections, none fails, and the backends share them as their weights say.
//! The backends have no route to the client: what they answer comes back because weir is the client that they see.

use crate::support::{Family, Lab, Layout, run, spread_of_requests};
use std::collections::BTreeMap;

/// Parts of a hundred for b1, b2 and b3.
const WEIGHTS: [u32; 3] = [50, 30, 20];

const REQUESTS: u32 = 10_000;

#[test]
fn ten_thousand_requests_over_ipv4() {
    run("ten_thousand_v4", Layout::two_arm().bulk(), |lab| balance(lab, Family::V4));
}

#[test]
fn ten_thousand_requests_over_ipv6() {
    run("ten_thousand_v6", Layout::two_arm().bulk(), |lab| balance(lab, Family::V6));
}

#[test]
fn ten_thousand_requests_over_ipv4_with_one_arm() {
    run("ten_thousand_v4_one_arm", Layout::one_arm().bulk(), |lab| balance(lab, Family::V4));
}

#[test]
fn ten_thousand_requests_over_ipv6_with_one_arm() {
    run("ten_thousand_v6_one_arm", Layout::one_arm().bulk(), |lab| balance(lab, Family::V6));
}

fn balance(lab: &mut Lab, family: Family) {
    let has_no_route =
        lab.backends.iter().all(|backend| !backend.namespace.attempt(&format!("ip route get {}", family.client())).success());
    assert!(has_no_route, "a backend has a route to the client");
    lab.config = lab.config.clone().with_web(WEIGHTS);
    lab.start_weir();
    let spread = spread_of_requests(&lab.client, &family.url("name"), REQUESTS);
    check_spread(&spread);
    let new_connections = lab.weir().sum_of_workers("new_connections");
    assert_eq!(new_connections, u64::from(REQUESTS), "connections that weir counted");
}

/// The scheduler deals strictly in turn; 0.5 % is for clients that had to send their SYN again.
fn check_spread(spread: &BTreeMap<String, u32>) {
    for (name, weight) in ["b1", "b2", "b3"].iter().zip(WEIGHTS) {
        let (wanted, got) = (REQUESTS * weight / 100, spread.get(*name).copied().unwrap_or(0));
        assert!(wanted.abs_diff(got) <= REQUESTS / 200, "{name} answered {got} requests, its weight says {wanted}: {spread:?}");
    }
}
