use super::*;
use std::sync::atomic::AtomicBool;

const NOW: Millis = Millis(5);
const GOES: Decision = Decision::Forwarded { protocol: 17, ports: 0x1234_5678, sequence: 0x9abc_def0 };

fn datagram(number: u64) -> Datagram {
    Datagram { addresses: [number, 1, 2, 3], identity: number | 4 << 40 }
}

/// Bytes `range` of a datagram.
fn piece(range: std::ops::Range<u16>, more: bool) -> Fragment {
    Fragment { identification: 1, offset: range.start / 8, more, length: range.end - range.start }
}

fn fragments(datagrams: usize) -> Fragments {
    Fragments::new(FragmentLimits { datagrams, ..FragmentLimits::default() }, HashKey::new([1, 2]))
}

#[test]
fn a_decision_is_found_until_its_time_is_over() {
    let fragments = fragments(64);
    assert!(fragments.find(&datagram(1), NOW).is_none());
    for decision in [GOES, Decision::Refused, Decision::Overlapped] {
        fragments.decide(&datagram(1), decision, NOW).unwrap();
        assert_eq!(fragments.find(&datagram(1), NOW).unwrap().decision, decision);
    }
    assert_eq!(fragments.decisions(), 3);
    assert!(fragments.find(&datagram(2), NOW).is_none());
    assert!(fragments.find(&datagram(1), NOW.after(29_999)).is_some());
    assert!(fragments.find(&datagram(1), NOW.after(30_000)).is_none());
    // Another worker's clock may be a little behind.
    assert!(fragments.find(&datagram(1), Millis(NOW.0.wrapping_sub(3))).is_some());
}

#[test]
fn units_are_counted_to_the_end() {
    let fragments = fragments(64);
    let known = fragments.decide(&datagram(1), GOES, NOW).unwrap();
    // The longest there is, in two halves, the second one first.
    assert_eq!(fragments.pass(&known, &piece(32_768..65_535, false)), Passed::On);
    assert!(!known.is_over(NOW));
    assert_eq!(fragments.pass(&known, &piece(0..32_768, true)), Passed::On);
    assert!(known.is_over(NOW));
    for at in [0, 8, 504, 512, 65_520] {
        assert_eq!(fragments.pass(&known, &piece(at..at + 8, true)), Passed::Duplicate, "{at}");
    }
}

#[test]
fn every_overlap_is_seen() {
    for (first, second) in [(8..24, 16..32), (8..24, 0..16), (8..24, 0..32), (504..520, 512..1024), (0..1024, 1016..1032)] {
        let fragments = fragments(64);
        let known = fragments.decide(&datagram(1), GOES, NOW).unwrap();
        assert_eq!(fragments.pass(&known, &piece(first.clone(), true)), Passed::On);
        assert_eq!(fragments.pass(&known, &piece(second.clone(), true)), Passed::Overlap, "{first:?} {second:?}");
        assert_eq!(fragments.find(&datagram(1), NOW).unwrap().decision, Decision::Overlapped);
    }
}

#[test]
fn the_end_is_one() {
    for (first, second, passed) in [
        (piece(80..100, false), piece(96..112, true), Passed::Overlap),
        (piece(80..100, false), piece(104..112, true), Passed::Overlap),
        (piece(80..100, false), piece(80..100, false), Passed::Duplicate),
        (piece(80..100, false), piece(40..60, false), Passed::Overlap),
        (piece(80..96, true), piece(40..60, false), Passed::Overlap),
        (piece(640..648, true), piece(40..512, false), Passed::Overlap),
        (piece(40..48, true), piece(48..60, false), Passed::On),
    ] {
        let fragments = fragments(64);
        let known = fragments.decide(&datagram(1), GOES, NOW).unwrap();
        assert_eq!(fragments.pass(&known, &first), Passed::On);
        assert_eq!(fragments.pass(&known, &second), passed, "{first:?} {second:?}");
    }
}

#[test]
fn a_full_bucket_forgets_the_complete_and_then_the_oldest() {
    let fragments = fragments(WAYS);
    let alive = |now| (0..10).filter(|number| fragments.find(&datagram(*number), now).is_some()).collect::<Vec<_>>();
    for number in 0..WAYS as u64 {
        fragments.decide(&datagram(number), GOES, NOW.after(number as u32)).unwrap();
    }
    let now = NOW.after(100);
    let known = fragments.find(&datagram(2), now).unwrap();
    assert_eq!(fragments.pass(&known, &piece(0..4, false)), Passed::On);
    for (next, left) in [(4, [0, 1, 3, 4]), (5, [1, 3, 4, 5]), (6, [3, 4, 5, 6])] {
        fragments.decide(&datagram(next), GOES, now.after(next as u32)).unwrap();
        assert_eq!(alive(now), left);
    }
}

/// Threads write and read the same bucket: what is found is always what was written for that datagram.
#[test]
fn what_is_read_belongs_together() {
    let fragments = fragments(WAYS);
    let ports = |number: u64| (number as u32).wrapping_mul(0x9e37_79b9);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut found = 0;
                    while !over.load(Ordering::Relaxed) {
                        for number in 0..8 {
                            if let Some(known) = fragments.find(&datagram(number), NOW) {
                                let expected = Decision::Forwarded {
                                    protocol: number as u8,
                                    ports: ports(number),
                                    sequence: !ports(number),
                                };
                                assert_eq!(known.decision, expected);
                                found += 1;
                            }
                        }
                    }
                    found
                })
            })
            .collect();
        let writers: Vec<_> = (0..2u64)
            .map(|writer| {
                let fragments = &fragments;
                scope.spawn(move || {
                    for round in 0..100_000 {
                        let number = (round * 3 + writer) % 8;
                        let decision =
                            Decision::Forwarded { protocol: number as u8, ports: ports(number), sequence: !ports(number) };
                        // Not taken only while the other one writes.
                        let _ = fragments.decide(&datagram(number), decision, NOW);
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        over.store(true, Ordering::Relaxed);
        assert!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>() > 0);
    });
}
