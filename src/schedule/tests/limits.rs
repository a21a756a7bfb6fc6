//! Members at their limit.

use super::*;
use crate::schedule::hash::mix;
use crate::schedule::room::Room;

proptest! {
    #[test]
    fn nobody_at_the_limit_is_picked_while_others_have_room(
        backends in prop::collection::vec((0u32..4, prop::option::of(1u32..5), any::<bool>()), 1..40),
        picks in 1u32..120,
    ) {
        for kind in Kind::ALL {
            let members = members(&backends.iter().map(|(weight, ..)| *weight).collect::<Vec<_>>());
            for (index, (member, (_, limit, up))) in members.iter().zip(&backends).enumerate() {
                member.set_max_connections(*limit);
                member.set_eligible(*up);
                member.set_priority(index as u32 % 3);
            }
            let scheduler = build(*kind, Settings { maglev_table_size: 251, ..Settings::default() }, &members);
            for number in 0..picks {
                let has_place = |member: &Arc<Member>| member.weight() > 0 && member.has_room();
                let previewed = scheduler.preview(&client(number), &members);
                prop_assert!(previewed.is_none_or(|index| has_place(&members[index])), "{kind}");
                match scheduler.pick(&client(number), &members) {
                    Some(index) => {
                        prop_assert!(has_place(&members[index]), "{kind}: member {index}");
                        prop_assert!(members[index].enter());
                    }
                    None => prop_assert!(!members.iter().any(has_place), "{kind}"),
                }
            }
        }
    }
}

#[test]
fn a_limit_is_never_passed_by_many_at_once() {
    let member = &member(0, 1);
    member.set_max_connections(Some(10));
    for _ in 0..200 {
        let entered: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(move || (0..5).filter(|_| member.enter()).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((entered, member.connections()), (10, 10));
        (0..10).for_each(|_| member.connection_closed());
    }
}

#[test]
fn the_others_share_what_a_full_one_would_get() {
    for kind in
        [Kind::RoundRobin, Kind::WeightedRoundRobin, Kind::Random, Kind::Maglev, Kind::PowerOfTwoChoices, Kind::SourceHash]
    {
        let members = members(&[1; 5]);
        members[1].set_max_connections(Some(1));
        let scheduler = build(kind, Settings::default(), &members);
        assert!(members[1].enter());
        let counts = spread(&*scheduler, &members, 4000);
        assert_eq!(counts[1], 0, "{kind}");
        // Three degrees of freedom: exceeded by chance once in ten thousand times.
        let others = [counts[0], counts[2], counts[3], counts[4]];
        assert!(chi_square(&others, &[1; 4]) < 21.1, "{kind}: {counts:?}");
        members[1].connection_closed();
        assert!(spread(&*scheduler, &members, 4000)[1] > 600, "{kind}: back again without being told");
    }
}

#[test]
fn few_with_room_share_by_weight_whoever_is_full_around_them() {
    let (weights, room) = (vec![3; 1000], [3, 4, 5, 500, 998]);
    for kind in [Kind::WeightedRoundRobin, Kind::Random, Kind::Maglev, Kind::SourceHash, Kind::RoundRobin] {
        let members = members(&weights);
        for (index, member) in members.iter().enumerate() {
            member.set_max_connections(Some(1));
            if !room.contains(&index) {
                assert!(member.enter());
            }
        }
        members[4].set_weight(12);
        let scheduler = build(kind, Settings::default(), &members);
        let counts = spread(&*scheduler, &members, 20_000);
        let (counts, weights) =
            (room.map(|index| counts[index]), if kind == Kind::RoundRobin { [1; 5] } else { [3, 12, 3, 3, 3] });
        assert_eq!(counts.iter().sum::<u32>(), 20_000, "{kind}");
        // Four degrees of freedom: exceeded by chance once in ten thousand times.
        assert!(chi_square(&counts, &weights) < 23.5, "{kind}: {counts:?}");
    }
}

#[test]
fn two_choices_are_even_among_the_few_with_room() {
    let members = members(&[1; 1000]);
    for member in &members[..990] {
        member.set_max_connections(Some(1));
        assert!(member.enter());
    }
    let scheduler = build(Kind::PowerOfTwoChoices, Settings::default(), &members);
    open(&*scheduler, &members, 1000);
    let counts = connections(&members[990..]);
    assert!(counts.iter().all(|count| (94..=106).contains(count)), "{counts:?}");
}

#[test]
fn a_client_keeps_its_stand_in_while_the_same_ones_are_full() {
    let members = members(&[1; 100]);
    for member in &members[..95] {
        member.set_max_connections(Some(1));
        assert!(member.enter());
    }
    let scheduler = build(Kind::SourceHash, Settings::default(), &members);
    for number in 0..100 {
        let request = client(number);
        let first = scheduler.pick(&request, &members);
        let again = (0..10).map(|port| scheduler.pick(&Request { client_port: port, ..request }, &members));
        assert!(again.into_iter().all(|picked| picked == first));
    }
}

#[test]
fn sums_follow_whoever_fills_and_empties_members_at_once() {
    let members = members(&[7; 300]);
    members.iter().for_each(|member| member.set_max_connections(Some(2)));
    let room = Room::new(|standing| standing.weight, &members);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (members, room) = (&members, &room);
            scope.spawn(move || {
                for number in 0..20_000u64 {
                    let Some(index) = room.draw(mix(number << 2 | worker)) else { continue };
                    if members[index].enter() && number % 3 > 0 {
                        members[index].connection_closed();
                    }
                }
            });
        }
    });
    assert!(room.is_right());
    assert_eq!(room.draw(1).is_some(), members.iter().any(|member| member.has_room()));
    assert!((0..300).all(|index| room.draw(mix(index)).is_none_or(|index| members[index].has_room())));
}

#[test]
fn a_full_tier_is_followed_by_the_next_one() {
    let members = members(&[1; 4]);
    for (member, priority) in members.iter().zip([2, 1, 0, 0]) {
        member.set_priority(priority);
        member.set_max_connections(Some(2));
    }
    let scheduler = build(Kind::Failover, Settings::default(), &members);
    let order: Vec<usize> = (0..8)
        .map(|number| {
            let index = scheduler.pick(&client(number), &members).unwrap();
            assert!(members[index].enter());
            index
        })
        .collect();
    assert_eq!(order[..4].iter().filter(|index| **index >= 2).count(), 4, "{order:?}");
    assert_eq!(order[4..], [1, 1, 0, 0]);
    assert_eq!(scheduler.pick(&client(0), &members), None);
}
