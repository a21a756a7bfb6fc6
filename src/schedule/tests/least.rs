//! Schedulers that take the least loaded one, and the tree that knows it.

use super::*;
use crate::schedule::least_loaded::LeastLoaded;

const KINDS: [Kind; 5] =
    [Kind::LeastConn, Kind::WeightedLeastConn, Kind::ShortestExpectedDelay, Kind::NeverQueue, Kind::FirstAvailable];

fn least(kind: Kind, members: &[Arc<Member>]) -> LeastLoaded {
    Builder::new(members).least_loaded(kind)
}

/// The keys by the definitions of the schedulers, as exact fractions; `None`: may not be chosen. Lower ones come first.
fn key(kind: Kind, index: usize, member: &Member) -> Option<(u8, u128)> {
    let (connections, weight) = (u128::from(member.connections()), u128::from(member.weight()));
    if weight == 0 {
        return None;
    }
    // All weights here divide this: fractions become whole numbers.
    let scale: u128 = 5040 * 65_535;
    assert_eq!(scale % weight, 0);
    let delay = (connections + 1) * (scale / weight);
    Some(match kind {
        Kind::LeastConn => (0, connections),
        Kind::WeightedLeastConn => (0, connections * (scale / weight)),
        Kind::NeverQueue if connections > 0 => (1, delay),
        Kind::FirstAvailable if member.overflow_at().is_none_or(|limit| connections < u128::from(limit)) => (0, index as u128),
        Kind::FirstAvailable => (1, delay),
        _ => (0, delay),
    })
}

fn scan(kind: Kind, members: &[Arc<Member>]) -> Vec<usize> {
    let keys: Vec<_> = members.iter().enumerate().map(|(index, member)| key(kind, index, member)).collect();
    let least = keys.iter().flatten().min();
    (0..members.len()).filter(|index| keys[*index].is_some() && keys[*index].as_ref() == least).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Open(usize),
    Close(usize),
    Weight(usize, u32),
    Eligible(usize, bool),
    Overflow(usize, Option<u32>),
    Pick,
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![Just(0u32), 1u32..8, Just(65_535)];
    prop_oneof![
        4 => Just(Step::Pick),
        2 => any::<usize>().prop_map(Step::Open),
        2 => any::<usize>().prop_map(Step::Close),
        1 => (any::<usize>(), weight).prop_map(|(at, weight)| Step::Weight(at, weight)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(at, up)| Step::Eligible(at, up)),
        1 => (any::<usize>(), prop::option::of(0u32..4)).prop_map(|(at, limit)| Step::Overflow(at, limit)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_tree_says_what_a_scan_would(size in 1usize..150, steps in prop::collection::vec(step(), 0..200)) {
        for kind in KINDS {
            let members = members(&vec![1; size]);
            let scheduler = least(kind, &members);
            for step in &steps {
                match *step {
                    Step::Open(at) => members[at % size].connection_opened(),
                    Step::Close(at) if members[at % size].connections() > 0 => members[at % size].connection_closed(),
                    Step::Close(_) => (),
                    Step::Weight(at, weight) => members[at % size].set_weight(weight),
                    Step::Eligible(at, up) => members[at % size].set_eligible(up),
                    Step::Overflow(at, limit) => members[at % size].set_overflow_at(limit),
                    Step::Pick => {
                        let expected = scan(kind, &members);
                        let picked = scheduler.pick(&client(0), &members);
                        prop_assert_eq!(picked.is_some(), !expected.is_empty(), "{}", kind);
                        if let Some(index) = picked {
                            prop_assert!(expected.contains(&index), "{}: {} is not among {:?}", kind, index, expected);
                            members[index].connection_opened();
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn those_with_the_same_key_take_turns(size in 1usize..700, without in prop::collection::hash_set(0usize..700, 0..300)) {
        let members = members(&vec![1; size]);
        without.iter().filter(|index| **index < size).for_each(|index| members[*index].set_eligible(false));
        let expected: Vec<usize> = (0..size).filter(|index| !without.contains(index)).collect();
        let scheduler = least(Kind::LeastConn, &members);
        for _ in 0..2 {
            let round: Vec<usize> = expected.iter().filter_map(|_| scheduler.pick(&client(0), &members)).collect();
            prop_assert_eq!(&round, &expected);
        }
    }
}

#[test]
fn each_fills_up_as_its_name_says() {
    let filled = |kind: Kind, times: u32| {
        let members = members(&[4, 2, 1, 1, 0]);
        open(&least(kind, &members), &members, times);
        connections(&members)
    };
    assert_eq!(filled(Kind::LeastConn, 400), [100, 100, 100, 100, 0], "the weight does not matter unless it is 0");
    assert_eq!(filled(Kind::WeightedLeastConn, 400), [200, 100, 50, 50, 0]);
    assert_eq!(filled(Kind::ShortestExpectedDelay, 400), [200, 100, 50, 50, 0]);
    assert_eq!(filled(Kind::NeverQueue, 400), [200, 100, 50, 50, 0]);
    // Idle ones: in turn, the one that would have the least by weight, any idle one before a busy one.
    assert_eq!(filled(Kind::WeightedLeastConn, 4), [1, 1, 1, 1, 0]);
    assert_eq!(filled(Kind::ShortestExpectedDelay, 4), [3, 1, 0, 0, 0]);
    assert_eq!(filled(Kind::NeverQueue, 4), [1, 1, 1, 1, 0]);
    assert_eq!(filled(Kind::NeverQueue, 6), [3, 1, 1, 1, 0]);
}

#[test]
fn what_closed_is_filled_up_again() {
    let members = members(&[3, 1, 1]);
    let scheduler = least(Kind::ShortestExpectedDelay, &members);
    open(&scheduler, &members, 50);
    assert_eq!(connections(&members), [30, 10, 10]);
    (0..20).for_each(|_| members[0].connection_closed());
    open(&scheduler, &members, 20);
    assert_eq!(connections(&members), [30, 10, 10]);
    // Nothing is confirmed between these picks: the two with the least load share them.
    members[0].set_eligible(false);
    assert_eq!(spread(&scheduler, &members, 10), [0, 5, 5]);
}

#[test]
fn a_scheduler_that_comes_later_knows_the_connections_before_it() {
    let members = members(&[1; 20]);
    (0..19).for_each(|index| members[index].connection_opened());
    for kind in KINDS {
        members[0].set_overflow_at(Some(1));
        (1..19).for_each(|index| members[index].set_overflow_at(Some(1)));
        assert_eq!(least(kind, &members).pick(&client(0), &members), Some(19), "{kind}");
    }
}

#[test]
fn the_largest_counts_and_weights_have_their_order() {
    let member = |weight, connections| Standing { connections, weight, overflow_at: 0, priority: 0 };
    use crate::schedule::member::Standing;
    use crate::schedule::{first_available, never_queue, shortest_expected_delay, weighted_least_conn};
    for rank in [weighted_least_conn::rank, shortest_expected_delay::rank, never_queue::rank, first_available::rank] {
        assert!(rank(0, member(1, u32::MAX)) < u64::MAX, "it may be chosen");
        assert!(rank(0, member(65_535, u32::MAX)) < rank(0, member(65_534, u32::MAX)));
        assert!(rank(0, member(65_535, 65_534)) < rank(0, member(65_534, 65_534)));
        assert_eq!(rank(0, member(21_845, 5)) == rank(0, member(65_535, 17)), rank(0, member(1, 5)) == rank(0, member(3, 17)));
    }
}

/// Workers pick, open and close, the control thread changes weights and health; at rest nothing was lost.
#[test]
fn counts_are_exact_and_the_tree_is_right_after_all_at_once() {
    const WORKERS: u32 = 3;
    for kind in KINDS {
        for size in [3, 100] {
            let members = members(&vec![2; size]);
            members.iter().for_each(|member| member.set_overflow_at(Some(5)));
            let (scheduler, other) = (least(kind, &members), build(Kind::BoundedHash, small(), &members));
            let work = |worker: u32| {
                let mut mine = Vec::new();
                for number in 0..8000u32 {
                    let chooser: &dyn Scheduler = if number % 2 == 0 { &scheduler } else { &*other };
                    if let Some(index) = chooser.pick(&client(worker * 8000 + number), &members) {
                        members[index].connection_opened();
                        mine.push(index);
                    }
                    if mine.len() > 40 {
                        members[mine.swap_remove(number as usize % mine.len())].connection_closed();
                    }
                }
                mine
            };
            let held: Vec<usize> = thread::scope(|scope| {
                let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
                let mut number = 0;
                while workers.iter().any(|worker| !worker.is_finished()) {
                    members[number % size].set_weight(number as u32 % 3);
                    members[(number + 1) % size].set_eligible(number.is_multiple_of(2));
                    number += 1;
                }
                workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
            });
            for (index, member) in members.iter().enumerate() {
                let expected = held.iter().filter(|held| **held == index).count();
                assert_eq!(member.connections() as usize, expected, "{kind}");
            }
            members.iter().for_each(|member| member.set_weight(member.configured_weight()));
            assert_tree_is_right(kind, &scheduler, &members);
            // Nothing more changes: everybody who is at the least has a turn, and nobody else.
            let expected: HashSet<usize> = scan(kind, &members).into_iter().collect();
            let picked: HashSet<usize> = (0..size).filter_map(|_| scheduler.pick(&client(0), &members)).collect();
            assert_eq!(picked, expected, "{kind}");
        }
    }
}

fn assert_tree_is_right(kind: Kind, scheduler: &LeastLoaded, members: &[Arc<Member>]) {
    let keys = scheduler.tree().keys();
    let fresh = least(kind, members);
    assert_eq!(keys, fresh.tree().keys(), "{kind}: each leaf is what its member says");
    assert_eq!(scheduler.tree().inner_keys(), fresh.tree().inner_keys(), "{kind}: each node is the least below it");
}

#[test]
fn sums_are_exact_after_all_at_once() {
    use crate::schedule::load::Load;
    let members = members(&[1, 2, 3, 4, 5]);
    let load = Load::new(&members);
    let work = |worker: usize| {
        for number in 0..20_000 {
            members[(worker + number) % 5].connection_opened();
            if number % 3 > 0 {
                members[(worker + number) % 5].connection_closed();
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|worker| scope.spawn(move || work(worker))).collect();
        let mut weight = 1;
        while workers.iter().any(|worker| !worker.is_finished()) {
            weight = weight % 9 + 1;
            members[1].set_weight(weight);
            members[2].set_eligible(weight > 4);
        }
    });
    let counted = members.iter().filter(|member| member.weight() > 0).map(|member| u64::from(member.connections())).sum::<u64>();
    let weights = members.iter().map(|member| u64::from(member.weight())).sum::<u64>();
    assert_eq!(load.read(), (counted, weights));
}
