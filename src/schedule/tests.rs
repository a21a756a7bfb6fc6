//! All schedulers together: what holds for every one, and what each promises.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
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
        refreshed in any::<bool>(),
    ) {
        for kind in Kind::ALL {
            let members = members(&weights);
            let scheduler = build(*kind, Settings { maglev_table_size: 251 }, &members);
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
                prop_assert_eq!(picked, preview, "{} does not do what it said", kind);
                prop_assert_eq!(picked.is_some(), somebody);
                prop_assert!(picked.is_none_or(|index| members[index].weight() > 0), "{} picked one without weight", kind);
            }
        }
    }

    #[test]
    fn weighted_round_robin_is_exact_over_its_length(weights in prop::collection::vec(0u32..30, 1..10), before in 0usize..100) {
        let members = members(&weights);
        let scheduler = WeightedRoundRobin::new(&members);
        let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
        prop_assert_eq!(scheduler.length() as u32, weights.iter().sum::<u32>() / divisor);
        spread(&scheduler, &members, before as u32);
        let counts = spread(&scheduler, &members, scheduler.length() as u32);
        prop_assert_eq!(counts, weights.iter().map(|weight| weight / divisor).collect::<Vec<_>>());
    }

    #[test]
    fn weighted_round_robin_never_lags(weights in prop::collection::vec(1u32..30, 1..10)) {
        let members = members(&weights);
        let scheduler = WeightedRoundRobin::new(&members);
        let sum = f64::from(weights.iter().sum::<u32>());
        let mut counts = vec![0.0; weights.len()];
        for turn in 1..=scheduler.length() {
            counts[scheduler.pick(&client(0), &members).unwrap()] += 1.0;
            for (count, weight) in counts.iter().zip(&weights) {
                // Two: one for the group's place in the sequence, one for the member's in the group.
                let due = turn as f64 * f64::from(*weight) / sum;
                prop_assert!((count - due).abs() <= 2.0, "{count} turns where {due} were due");
            }
        }
    }

    #[test]
    fn maglev_does_not_depend_on_the_order_of_members(weights in prop::collection::vec(1u32..100, 1..20), rotation in 0usize..20) {
        let here = members(&weights);
        let mut there = here.clone();
        there.rotate_left(rotation % here.len());
        let (a, b) = (Maglev::new(1009, &here), Maglev::new(1009, &there));
        for number in 0..500 {
            let chosen = |scheduler: &Maglev, members: &[Arc<Member>]| members[scheduler.pick(&client(number), members).unwrap()].address;
            prop_assert_eq!(chosen(&a, &here), chosen(&b, &there));
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
    assert_eq!(error, "there is no scheduler `rr`; allowed: round_robin, weighted_round_robin, least_conn, source_hash, maglev");
}

#[test]
fn round_robin_gives_everybody_with_weight_the_same() {
    let members = members(&[1, 500, 0, 2]);
    let scheduler = RoundRobin::default();
    assert_eq!(spread(&scheduler, &members, 30), [10, 10, 0, 10]);
    members[0].set_eligible(false);
    assert_eq!(spread(&scheduler, &members, 30), [0, 15, 0, 15], "the one after it gets no double turn");
}

#[test]
fn weighted_round_robin_is_smooth() {
    let scheduler = WeightedRoundRobin::new(&members(&[5, 1, 1]));
    let picks: Vec<_> = (0..7).map(|_| scheduler.pick(&client(0), &members(&[5, 1, 1])).unwrap()).collect();
    assert_eq!(picks, [0, 1, 0, 0, 0, 2, 0]);
    let equal = WeightedRoundRobin::new(&members(&[700; 4]));
    assert_eq!(equal.length(), 4);
}

#[test]
fn weighted_round_robin_bounds_its_sequence() {
    let weights: Vec<u32> = (0..1000).map(|number| 65_535 - number * 61).collect();
    let members = members(&weights);
    let scheduler = WeightedRoundRobin::new(&members);
    assert!((10_000..20_000).contains(&scheduler.length()), "{}", scheduler.length());
    let counts = spread(&scheduler, &members, scheduler.length() as u32);
    let sum: u32 = weights.iter().sum();
    for (count, weight) in counts.iter().zip(&weights) {
        let due = scheduler.length() as f64 * f64::from(*weight) / f64::from(sum);
        assert!(*count >= 1 && (f64::from(*count) - due).abs() < 1.0, "{count} turns where {due} were due");
    }
}

#[test]
fn least_conn_fills_up_by_weight_and_takes_turns_among_equals() {
    let members = members(&[3, 1, 1]);
    let scheduler = LeastConn::default();
    let open = |times: u32| {
        for number in 0..times {
            members[scheduler.pick(&client(number), &members).unwrap()].connection_opened();
        }
    };
    open(50);
    let counts = |members: &[Arc<Member>]| members.iter().map(|member| member.connections()).collect::<Vec<_>>();
    assert_eq!(counts(&members), [30, 10, 10]);
    (0..20).for_each(|_| members[0].connection_closed());
    open(20);
    assert_eq!(counts(&members), [30, 10, 10], "what closed is filled up again");
    // Nothing is confirmed between these picks: the two with the least load share them.
    members[0].set_eligible(false);
    assert_eq!(spread(&scheduler, &members, 10), [0, 5, 5]);
}

#[test]
fn source_hash_keeps_a_client_whatever_its_port() {
    let members = members(&[1, 2, 3, 4]);
    let scheduler = SourceHash::default();
    for number in 0..100 {
        let request = client(number);
        let first = scheduler.pick(&request, &members);
        for client_port in [1, 1024, 65_535] {
            assert_eq!(scheduler.pick(&Request { client_port, ..request }, &members), first);
        }
    }
}

#[test]
fn source_hash_spreads_by_weight_and_moves_only_the_clients_of_who_left() {
    let weights = [1, 2, 3, 4, 10];
    let members = members(&weights);
    let scheduler = SourceHash::default();
    let counts = spread(&scheduler, &members, 100_000);
    // 4 degrees of freedom: above 23.5 once in ten thousand; the draws are fixed, so this never changes.
    assert!(chi_square(&counts, &weights) < 23.5, "{counts:?}");
    let before: Vec<_> = (0..10_000).map(|number| scheduler.pick(&client(number), &members).unwrap()).collect();
    members[2].set_eligible(false);
    for (number, old) in (0..).zip(before) {
        let new = scheduler.pick(&client(number), &members).unwrap();
        assert!(if old == 2 { new != 2 } else { new == old }, "client {number} moved from {old} to {new}");
    }
}

#[test]
fn maglev_spreads_by_weight() {
    let weights = [1, 2, 3, 4, 10];
    let members = members(&weights);
    let scheduler = Maglev::new(Maglev::DEFAULT_TABLE_SIZE, &members);
    // The table itself is within one entry of the exact share; clients hash onto it evenly.
    for (entries, weight) in scheduler.entries(members.len()).iter().zip(weights) {
        let due = f64::from(Maglev::DEFAULT_TABLE_SIZE) * f64::from(weight) / 20.0;
        assert!((f64::from(*entries) - due).abs() <= 1.0, "{entries} entries where {due} were due");
    }
    let counts = spread(&scheduler, &members, 100_000);
    assert!(chi_square(&counts, &weights) < 23.5, "{counts:?}");
}

#[test]
fn maglev_moves_little_more_than_it_must() {
    let members = members(&[1; 100]);
    let scheduler = Maglev::new(Maglev::DEFAULT_TABLE_SIZE, &members);
    let before = scheduler.places();
    for gone in [0, 37, 99] {
        members[gone].set_eligible(false);
        scheduler.refresh(&members);
        let after = scheduler.places();
        let must = before.iter().filter(|member| usize::from(**member) == gone).count();
        let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
        let beyond = (moved - must) as f64 / before.len() as f64;
        assert!(beyond <= 0.015, "{:.2} % beyond the {must} that had to move", beyond * 100.0);
        members[gone].set_eligible(true);
        scheduler.refresh(&members);
        assert_eq!(scheduler.places(), before, "who comes back finds its clients again");
    }
}

#[test]
fn maglev_moves_little_when_a_weight_changes() {
    let members = members(&[10; 20]);
    let scheduler = Maglev::new(Maglev::DEFAULT_TABLE_SIZE, &members);
    let before = scheduler.places();
    members[3].set_weight(5);
    scheduler.refresh(&members);
    let moved = before.iter().zip(&scheduler.places()).filter(|(old, new)| old != new).count() as f64;
    let share = moved / before.len() as f64;
    // It must give up half of its twentieth.
    assert!((0.0243..0.05).contains(&share), "{:.2} % moved", share * 100.0);
}

#[test]
fn maglev_table_sizes_are_primes() {
    for size in [251, 65_537, 5_000_011] {
        assert_eq!(Maglev::check_table_size(size), Ok(size as u32));
    }
    for size in [i64::MIN, -1, 0, 2, 241, 252, 65_536, 5_000_021, i64::MAX] {
        assert!(Maglev::check_table_size(size).is_err(), "{size}");
    }
    let error = Maglev::check_table_size(65_536).unwrap_err().to_string();
    assert_eq!(error, "65536 is not a prime from 251 to 5000011; near it: 65521 and 65537");
}

#[test]
fn hashing_schedulers_never_change() {
    // Other nodes may run another version of weir: these must not move. Computed by another program, from the papers and the constants.
    let members = members(&[1, 1, 2, 5]);
    let scheduler = Maglev::new(251, &members);
    let picks: Vec<_> = (0..16).map(|number| scheduler.pick(&client(number), &members).unwrap()).collect();
    assert_eq!(picks, [0, 0, 3, 1, 2, 3, 3, 3, 2, 3, 3, 3, 0, 1, 3, 3]);
    let scheduler = SourceHash::default();
    let picks: Vec<_> = (0..16).map(|number| scheduler.pick(&client(number), &members).unwrap()).collect();
    assert_eq!(picks, [2, 3, 3, 2, 3, 2, 3, 1, 3, 0, 3, 3, 2, 2, 3, 3]);
}

#[test]
fn workers_pick_while_the_control_thread_refreshes() {
    for kind in Kind::ALL {
        let members = members(&[1, 2, 3, 0, 4]);
        let scheduler = build(*kind, Settings { maglev_table_size: 1009 }, &members);
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
        let seen: HashSet<usize> = (0..5).filter(|index| seen[*index].load(Relaxed) > 0).collect();
        assert!(seen.is_superset(&HashSet::from([1, 2, 4])) && !seen.contains(&3), "{kind}: {seen:?}");
    }
}
