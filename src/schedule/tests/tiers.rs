//! Schedulers that have an order of preference.

use super::*;

#[test]
fn failover_serves_from_the_first_tier_that_has_anybody() {
    let members = members(&[1, 3, 1, 1, 5]);
    for (member, priority) in members.iter().zip([0, 0, 7, 7, 9]) {
        member.set_priority(priority);
    }
    let scheduler = Failover::new(&members);
    assert_eq!(spread(&scheduler, &members, 40), [10, 30, 0, 0, 0], "by weight within the tier");
    let heavy_down = |up| {
        members[1].set_eligible(up);
        scheduler.refresh(&members);
    };
    heavy_down(false);
    assert_eq!(spread(&scheduler, &members, 40), [40, 0, 0, 0, 0]);
    members[0].set_eligible(false);
    assert_eq!(spread(&scheduler, &members, 4), [0, 0, 4, 0, 0], "until the refresh, the next one of the next tier");
    scheduler.refresh(&members);
    assert_eq!(spread(&scheduler, &members, 40), [0, 0, 20, 20, 0]);
    members[2].set_eligible(false);
    assert_eq!(spread(&scheduler, &members, 4), [0, 0, 0, 4, 0], "until the refresh, the same tier before the next");
    members[3].set_weight(0);
    scheduler.refresh(&members);
    assert_eq!(spread(&scheduler, &members, 4), [0, 0, 0, 0, 4]);
    heavy_down(true);
    assert_eq!(spread(&scheduler, &members, 4), [0, 4, 0, 0, 0], "who comes back takes over");
}

#[test]
fn first_available_fills_one_after_the_other_and_then_shares() {
    let members = members(&[1, 1, 4, 1]);
    for (member, limit) in members.iter().zip([Some(3), Some(2), Some(5), Some(0)]) {
        member.set_overflow_at(limit);
    }
    let scheduler = build(Kind::FirstAvailable, Settings::default(), &members);
    open(&*scheduler, &members, 4);
    assert_eq!(connections(&members), [3, 1, 0, 0]);
    members[0].connection_closed();
    open(&*scheduler, &members, 7);
    assert_eq!(connections(&members), [3, 2, 5, 0], "what became free is filled first");
    // All are full: (connections + 1) / weight.
    open(&*scheduler, &members, 60);
    assert_eq!(connections(&members), [10, 10, 40, 10]);
    members[0].set_overflow_at(None);
    open(&*scheduler, &members, 100);
    assert_eq!(connections(&members), [110, 10, 40, 10]);
}
