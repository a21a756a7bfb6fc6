//! Schedulers that draw.

use super::*;
use crate::schedule::alias::Alias;

/// The shares of a table, exactly: what of 2³² × slots each member has, by asking at both sides of every threshold.
fn shares(alias: &Alias, slots: u64, members: usize) -> Vec<f64> {
    let mut shares = vec![0.0; members];
    for slot in 0..slots {
        let at = |low: u64| alias.draw(((slot << 32) / slots + 1) << 32 | low).unwrap();
        let (first, last) = (at(0), at(0xffff_ffff));
        // The first draw that is not the slot's own.
        let (mut below, mut above) = (0u64, 1u64 << 32);
        while first != last && above - below > 1 {
            let middle = (below + above) / 2;
            *(if at(middle) == first { &mut below } else { &mut above }) = middle;
        }
        let own = if first == last { 1.0 } else { above as f64 / (1u64 << 32) as f64 };
        shares[first] += own / slots as f64;
        shares[last] += (1.0 - own) / slots as f64;
    }
    shares
}

proptest! {
    #[test]
    fn the_alias_table_holds_exactly_the_weights(weights in prop::collection::vec(prop_oneof![Just(0u32), 1u32..9, Just(65_535)], 1..40)) {
        let alias = Alias::new(weights.iter().enumerate().map(|(index, weight)| (index as u16, *weight)));
        let (sum, slots) = (weights.iter().sum::<u32>(), weights.iter().filter(|weight| **weight > 0).count() as u64);
        prop_assert_eq!(alias.draw(1).is_some(), sum > 0);
        if sum > 0 {
            for (share, weight) in shares(&alias, slots, weights.len()).iter().zip(&weights) {
                let due = f64::from(*weight) / f64::from(sum);
                prop_assert!((share - due).abs() < 1e-8, "{share} where {due} was due");
            }
        }
    }
}

#[test]
fn random_spreads_by_weight() {
    let weights = [1, 2, 3, 4, 10, 0];
    let members = members(&weights);
    for seed in 0..5 {
        let counts = spread(&Random::new(seed, &members), &members, 100_000);
        // 4 degrees of freedom: above 23.5 once in ten thousand; the draws are fixed, so this never changes.
        assert!(chi_square(&counts, &weights) < 23.5, "{counts:?}");
        assert_eq!(counts[5], 0);
    }
}

#[test]
fn random_spreads_by_weight_over_a_thousand() {
    let weights: Vec<u32> = (0..1000).map(|number| number % 10 + 1).collect();
    let members = members(&weights);
    let counts = spread(&Random::new(1, &members), &members, 1_000_000);
    // 999 degrees of freedom: mean 999, standard deviation 44.7; five of them.
    assert!((775.0..1223.0).contains(&chi_square(&counts, &weights)), "{}", chi_square(&counts, &weights));
}

#[test]
fn seeds_give_different_draws_and_the_same_one_the_same() {
    let members = members(&[1; 50]);
    let picks = |seed| {
        let scheduler = Random::new(seed, &members);
        (0..50).map(|number| scheduler.pick(&client(number), &members)).collect::<Vec<_>>()
    };
    assert_eq!(picks(1), picks(1));
    assert_ne!(picks(1), picks(2));
}

#[test]
fn two_choices_are_far_more_even_than_one() {
    let unevenness = |kind: Kind, weights: &[u32]| {
        let members = members(weights);
        open(&*build(kind, Settings::default(), &members), &members, 100 * weights.iter().sum::<u32>());
        let loads = members.iter().zip(weights).map(|(member, weight)| f64::from(member.connections()) / f64::from(*weight));
        loads.map(|load| (load - 100.0).abs()).fold(0.0, f64::max)
    };
    let equal = [1; 200];
    let (one, two) = (unevenness(Kind::Random, &equal), unevenness(Kind::PowerOfTwoChoices, &equal));
    // 100 each: the worst of 200 is some 30 away by chance alone, and log log 200 with two choices.
    assert!(one > 20.0 && two < 6.0, "{one} {two}");
    let weights: Vec<u32> = (0..50).map(|number| number % 5 + 1).collect();
    let two = unevenness(Kind::PowerOfTwoChoices, &weights);
    assert!(two < 6.0, "{two}");
    let two = unevenness(Kind::PowerOfTwoChoices, &[1, 1]);
    assert!(two < 6.0, "{two}");
}
