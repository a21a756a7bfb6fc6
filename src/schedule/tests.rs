//! All schedulers together: what holds for every one. What each promises stands in the files beside.

mod chance;
mod hashing;
mod least;
mod limits;
mod tiers;
mod turns;

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

fn member(number: u32, weight: u32) -> Arc<Member> {
    let address = SocketAddr::new(Ipv4Addr::from_bits(0x0a01_0000 + number).into(), 8443);
    Arc::new(Member::new(address, weight, true))
}

fn members(weights: &[u32]) -> Vec<Arc<Member>> {
    (0..).zip(weights).map(|(number, weight)| member(number, *weight)).collect()
}

/// The `number`-th of clients that differ in address and port.
fn client(number: u32) -> Request {
    Request { client: Ipv4Addr::from_bits(0xc000_0200 + number * 7).into(), client_port: (number * 31 + 1024) as u16 }
}

fn spread(scheduler: &dyn Scheduler, members: &[Arc<Member>], picks: u32) -> Vec<u32> {
    let mut counts = vec![0; members.len()];
    (0..picks).filter_map(|number| scheduler.pick(&client(number), members)).for_each(|index| counts[index] += 1);
    counts
}

/// Opens connections where the scheduler says.
fn open(scheduler: &dyn Scheduler, members: &[Arc<Member>], times: u32) {
    (0..times).filter_map(|number| scheduler.pick(&client(number), members)).for_each(|index| members[index].connection_opened());
}

fn connections(members: &[Arc<Member>]) -> Vec<u32> {
    members.iter().map(|member| member.connections()).collect()
}

/// Tables small enough to be made hundreds of times.
fn small() -> Settings {
    Settings { maglev_table_size: 1009, ..Settings::default() }
}

/// Pearson's statistic of `counts` against shares of `weights`.
fn chi_square(counts: &[u32], weights: &[u32]) -> f64 {
    let (total, sum) = (counts.iter().sum::<u32>(), weights.iter().sum::<u32>());
    let expected = |weight: &u32| f64::from(total) * f64::from(*weight) / f64::from(sum);
    let terms = counts.iter().zip(weights).filter(|(_, weight)| **weight > 0);
    terms.map(|(count, weight)| (f64::from(*count) - expected(weight)).powi(2) / expected(weight)).sum()
}

proptest! {
    #[test]
    fn only_members_with_weight_are_picked(
        weights in prop::collection::vec(prop_oneof![Just(0u32), 1u32..20, Just(65_535)], 0..12),
        down in any::<u16>(),
        priorities in any::<u16>(),
        opened in 0u32..30,
        refreshed in any::<bool>(),
    ) {
        for kind in Kind::ALL {
            let members = members(&weights);
            for (index, member) in members.iter().enumerate() {
                member.set_priority(u32::from(priorities >> index & 1));
                member.set_overflow_at((index % 3 > 0).then_some(index as u32));
            }
            let scheduler = build(*kind, Settings { maglev_table_size: 251, ..Settings::default() }, &members);
            open(&*scheduler, &members, opened);
            for (index, member) in members.iter().enumerate() {
                member.set_eligible(down >> index & 1 == 0);
            }
            if refreshed {
                scheduler.refresh(&members);
            }
            let somebody = members.iter().any(|member| member.weight() > 0);
            for number in 0..50 {
                let preview = scheduler.preview(&client(number), &members);
                prop_assert_eq!(preview, scheduler.preview(&client(number), &members), "{} moved by a preview", kind);
                let picked = scheduler.pick(&client(number), &members);
                picked.iter().for_each(|index| members[*index].connection_opened());
                prop_assert_eq!(picked, preview, "{} does not do what it said", kind);
                prop_assert_eq!(picked.is_some(), somebody);
                prop_assert!(picked.is_none_or(|index| members[index].weight() > 0), "{} picked one without weight", kind);
            }
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[test]
fn names_are_read_back_and_others_are_refused_with_the_list() {
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse(), Ok(*kind));
        assert_eq!(build(*kind, Settings::default(), &members(&[1])).name(), kind.name());
    }
    let error = "rr".parse::<Kind>().unwrap_err().to_string();
    assert!(error.starts_with("there is no scheduler `rr`; allowed: round_robin, weighted_round_robin, least_conn, "), "{error}");
    let names: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), 13);
}

#[test]
fn workers_pick_while_the_control_thread_refreshes() {
    for kind in Kind::ALL {
        let members = members(&[1, 2, 3, 0, 4]);
        let scheduler = build(*kind, small(), &members);
        let (picked, seen) = (AtomicUsize::new(0), [(); 5].map(|()| AtomicUsize::new(0)));
        let work = |worker: u32| {
            for number in 0..20_000 {
                if let Some(index) = scheduler.pick(&client(worker * 20_000 + number), &members) {
                    seen[index].fetch_add(1, Relaxed);
                    picked.fetch_add(1, Relaxed);
                    members[index].connection_opened();
                }
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..3).map(|worker| scope.spawn(move || work(worker))).collect();
            let mut up = false;
            while workers.iter().any(|worker| !worker.is_finished()) {
                members[0].set_eligible(up);
                scheduler.refresh(&members);
                up = !up;
            }
        });
        // Member 0 comes and goes, 3 has no weight, somebody always has some.
        assert_eq!(picked.load(Relaxed), 60_000, "{kind}");
        if *kind == Kind::FirstAvailable {
            continue; // Nobody overflows: whoever is first has them all.
        }
        let seen: HashSet<usize> = (0..5).filter(|index| seen[*index].load(Relaxed) > 0).collect();
        assert!(seen.is_superset(&HashSet::from([1, 2, 4])) && !seen.contains(&3), "{kind}: {seen:?}");
    }
}

#[test]
fn nobody_starves() {
    for kind in Kind::ALL.iter().filter(|kind| !matches!(kind, Kind::FirstAvailable)) {
        let weights: Vec<u32> = (0..100).map(|number| number % 7 + 1).collect();
        let members = members(&weights);
        let scheduler = build(*kind, Settings::default(), &members);
        open(&*scheduler, &members, 20_000);
        // A weight of 1 is due 50 of 20,000.
        let least = connections(&members).into_iter().min();
        assert!(least >= Some(25), "{kind}: {least:?}");
    }
}

#[test]
fn services_of_one_pool_share_what_follows_its_connections() {
    let members = members(&[1, 2, 3]);
    let mut builder = Builder::new(&members);
    let web = builder.build(Kind::LeastConn, small());
    let api = builder.build(Kind::LeastConn, small());
    let feed = builder.build(Kind::BoundedHash, small());
    assert_eq!(members[0].watchers(), 3, "one tree, and two for the bounds");
    for scheduler in [&web, &api, &feed] {
        open(&**scheduler, &members, 20);
    }
    let least = connections(&members).into_iter().min();
    for scheduler in [&web, &api] {
        let picked = scheduler.preview(&client(0), &members).map(|index| members[index].connections());
        assert_eq!(picked, least, "each sees the connections of all");
    }
    drop((web, api));
    drop(builder);
    assert_eq!(members[0].watchers(), 2, "a tree dies with the last scheduler that asks it");
    drop(feed);
    assert_eq!(members[0].watchers(), 0);
    members[0].connection_closed();
}
