//! Schedulers that take turns.

use super::*;

proptest! {
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
}

#[test]
fn round_robin_gives_everybody_with_weight_the_same() {
    let members = members(&[1, 500, 0, 2]);
    let scheduler = RoundRobin::new(&members);
    assert_eq!(spread(&scheduler, &members, 30), [10, 10, 0, 10]);
    members[0].set_eligible(false);
    scheduler.refresh(&members);
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
