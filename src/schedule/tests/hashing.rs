//! Schedulers that hash.

use super::*;

proptest! {
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

#[test]
fn source_hash_keeps_a_client_whatever_its_port() {
    let members = members(&[1, 2, 3, 4]);
    let scheduler = SourceHash::new(Maglev::DEFAULT_TABLE_SIZE, &members);
    for number in 0..100 {
        let request = client(number);
        let first = scheduler.pick(&request, &members);
        for client_port in [1, 1024, 65_535] {
            assert_eq!(scheduler.pick(&Request { client_port, ..request }, &members), first);
        }
    }
}

#[test]
fn source_hash_spreads_by_weight() {
    let weights = [1, 2, 3, 4, 10];
    let members = members(&weights);
    let counts = spread(&SourceHash::new(Maglev::DEFAULT_TABLE_SIZE, &members), &members, 100_000);
    // 4 degrees of freedom: above 23.5 once in ten thousand; the draws are fixed, so this never changes.
    assert!(chi_square(&counts, &weights) < 23.5, "{counts:?}");
}

#[test]
fn source_hash_moves_only_the_clients_of_who_went_down() {
    let members = members(&[1; 100]);
    let schedulers = [Kind::SourceHash, Kind::BoundedHash]
        .map(|kind| build(kind, Settings { hash_balance_factor: 1000, ..Settings::default() }, &members));
    for scheduler in schedulers {
        let homes = || (0..10_000).map(|number| scheduler.pick(&client(number), &members).unwrap()).collect::<Vec<_>>();
        let before = homes();
        for down in [[2, 2], [2, 71]] {
            down.iter().for_each(|index| members[*index].set_eligible(false));
            scheduler.refresh(&members);
            let after = homes();
            for (old, new) in before.iter().zip(&after) {
                assert!(if down.contains(old) { !down.contains(new) } else { new == old }, "moved from {old} to {new}");
            }
            let taken_over = before.iter().zip(&after).filter(|(old, _)| down.contains(old)).map(|(_, new)| *new);
            assert!(taken_over.collect::<HashSet<_>>().len() > 50, "they spread over the others");
            down.iter().for_each(|index| members[*index].set_eligible(true));
            scheduler.refresh(&members);
            assert_eq!(homes(), before, "who comes back finds its clients again");
        }
    }
}

#[test]
fn source_hash_finds_the_last_one_that_is_up() {
    let members = members(&[1; 1000]);
    members.iter().filter(|member| member.address != members[777].address).for_each(|member| member.set_eligible(false));
    let scheduler = SourceHash::new(Maglev::DEFAULT_TABLE_SIZE, &members);
    assert_eq!(spread(&scheduler, &members, 1000)[777], 1000);
    // A tenth is up: most clients find one by their own order, the others are shared by weight.
    (0..1000).step_by(10).for_each(|index| members[index].set_eligible(true));
    members[777].set_eligible(false);
    scheduler.refresh(&members);
    let counts = spread(&scheduler, &members, 50_000);
    let weights: Vec<u32> = members.iter().map(|member| member.weight()).collect();
    // 99 degrees of freedom, and the places of the table are not all equal: above 250 never.
    assert!(chi_square(&counts, &weights) < 250.0, "{}", chi_square(&counts, &weights));
}

/// What a change of the list moves beyond those that must move: at most this share.
#[test]
fn hashing_schedulers_move_little_more_than_they_must_when_a_backend_is_removed() {
    for kind in [Kind::Maglev, Kind::SourceHash, Kind::BoundedHash] {
        let all = members(&[1; 100]);
        let settings = Settings { hash_balance_factor: 1000, ..Settings::default() };
        let homes = |members: &[Arc<Member>]| {
            let scheduler = build(kind, settings, members);
            (0..50_000).map(|number| members[scheduler.pick(&client(number), members).unwrap()].address).collect::<Vec<_>>()
        };
        let before = homes(&all);
        for gone in [0, 50, 99] {
            let mut left = all.clone();
            let removed = left.remove(gone).address;
            let after = homes(&left);
            let must = before.iter().filter(|address| **address == removed).count();
            let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
            let beyond = (moved - must) as f64 / before.len() as f64;
            assert!(beyond <= 0.015, "{kind}: {:.2} % beyond the {must} that had to move", beyond * 100.0);
        }
    }
}

#[test]
fn bounded_hash_is_source_hash_while_there_is_room() {
    let members = members(&[1, 2, 3, 4]);
    let source = SourceHash::new(1009, &members);
    let bounded = build(Kind::BoundedHash, small(), &members);
    for number in 0..100 {
        assert_eq!(bounded.pick(&client(number), &members), source.pick(&client(number), &members));
    }
}

proptest! {
    #[test]
    fn bounded_hash_never_exceeds_its_bound(
        weights in prop::collection::vec(prop_oneof![1u32..20, Just(65_535)], 1..30),
        factor in 100u32..300,
        clients in 1u32..50,
        opened in 1u32..400,
    ) {
        let members = members(&weights);
        let settings = Settings { hash_balance_factor: factor, ..small() };
        let scheduler = build(Kind::BoundedHash, settings, &members);
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        // Few clients open them all.
        for number in 0..opened {
            let index = scheduler.pick(&client(number % clients), &members).unwrap();
            members[index].connection_opened();
            let bound = (u64::from(factor) * u64::from(number + 1) * u64::from(weights[index])).div_ceil(100 * sum);
            prop_assert!(u64::from(members[index].connections()) <= bound);
        }
    }
}

#[test]
fn bounded_hash_brings_clients_home_when_there_is_room() {
    let members = members(&[1; 10]);
    let scheduler = build(Kind::BoundedHash, small(), &members);
    let home = scheduler.preview(&client(7), &members).unwrap();
    for _ in 0..100 {
        members[scheduler.pick(&client(7), &members).unwrap()].connection_opened();
    }
    // 1.25 times a tenth of 100, rounded up. The two behind it in the client's order are as full; all others share the rest.
    assert_eq!(members[home].connections(), 13);
    let (full, rest): (Vec<u32>, Vec<u32>) = connections(&members).into_iter().partition(|count| *count >= 12);
    assert!(
        (2..=3).contains(&full.len())
            && full.iter().all(|count| *count <= 13)
            && rest.iter().max() <= rest.iter().min().map(|least| least + 1).as_ref(),
        "{full:?} {rest:?}"
    );
    assert_ne!(scheduler.preview(&client(7), &members), Some(home));
    (0..5).for_each(|_| members[home].connection_closed());
    assert_eq!(scheduler.preview(&client(7), &members), Some(home));
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
    let scheduler = SourceHash::new(251, &members);
    let picks = || (0..16).map(|number| scheduler.pick(&client(number), &members).unwrap()).collect::<Vec<_>>();
    assert_eq!(picks(), [0, 3, 3, 3, 1, 3, 3, 3, 3, 3, 2, 3, 0, 3, 2, 3]);
    members[2].set_eligible(false);
    assert_eq!(picks(), [0, 3, 3, 3, 1, 3, 3, 3, 3, 3, 3, 3, 0, 3, 0, 3]);
}
