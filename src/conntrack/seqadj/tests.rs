//! Numbers there and back, over every place of a stream and round the end of the numbers.

use super::*;
use proptest::prelude::*;

/// A stream that begins at `first`, with replacements of (bytes before it, its length, growth).
fn stream(first: u32, pieces: &[(u8, u8, i8)]) -> (Edits, u32) {
    let (edits, mut at) = (Edits::default(), first);
    for (number, (before, length, growth)) in pieces.iter().enumerate() {
        at = at.wrapping_add(u32::from(*before));
        edits.push((at, *length), *growth, (1, number as u16), at).unwrap();
        at = at.wrapping_add(u32::from(*length));
    }
    (edits, at)
}

#[test]
fn nothing_is_shifted_where_nothing_was_replaced() {
    let edits = Edits::default();
    for number in [0, 1, u32::MAX] {
        assert_eq!((edits.forth(number), edits.back(number)), (number, number));
    }
    assert_eq!(edits.within(7, 100), Ok(ArrayVec::new()));
}

#[test]
fn what_is_behind_is_shifted_by_all_that_is_before() {
    let (edits, _) = stream(1000, &[(10, 5, 3), (10, 8, -6)]);
    // 1010..1015 became three longer, 1025..1033 six shorter.
    let pairs = [(1000, 1000), (1010, 1010), (1015, 1018), (1025, 1028), (1033, 1030), (2000, 1997)];
    for (sent, seen) in pairs {
        assert_eq!((edits.forth(sent), edits.back(seen)), (seen, sent), "{sent}");
    }
    // In the middle of a replaced text nothing of it is acknowledged.
    assert_eq!([1011, 1017].map(|seen| edits.back(seen)), [1010; 2]);
    assert_eq!(edits.back(1029), 1025);
}

#[test]
fn a_segment_has_all_of_a_replaced_text_or_nothing() {
    let (edits, _) = stream(u32::MAX - 9, &[(8, 4, 2)]);
    // From u32::MAX - 1 to 1.
    let begin = u32::MAX - 1;
    let edit = Edit { sequence: begin, length: 4, growth: 2, offset: 2, form: 1, port: 0 };
    for (sequence, length, found) in [
        (begin, 4, Ok(1)),
        (begin.wrapping_sub(5), 100, Ok(1)),
        (begin.wrapping_sub(5), 5, Ok(0)),
        (2, 5, Ok(0)),
        (begin.wrapping_sub(5), 6, Err(Torn)),
        (begin, 3, Err(Torn)),
        (begin.wrapping_add(1), 3, Err(Torn)),
        (1, 5, Err(Torn)),
    ] {
        let within = edits.within(sequence, length);
        assert_eq!(within.as_ref().map(ArrayVec::len).map_err(|torn| *torn), found, "{sequence} {length}");
        assert!(within.into_iter().flatten().all(|found| found == edit));
    }
}

#[test]
fn a_replacement_stands_behind_all_others() {
    let (edits, end) = stream(0, &[(10, 5, 1), (10, 5, 1)]);
    for sequence in [0, 10, 15, 25, end - 1] {
        assert_eq!(edits.push((sequence, 1), 1, (1, 1), end), None, "{sequence}");
    }
    assert!(edits.push((end, 1), 1, (1, 1), end).is_some());
}

#[test]
fn what_is_not_acknowledged_is_not_forgotten() {
    let (edits, end) = stream(0, &[(10, 5, 1); REMEMBERED]);
    assert_eq!(edits.push((end, 5), 1, (1, 1), 14), None, "the first one ends with 15");
    assert!(edits.push((end, 5), 1, (1, 1), 15).is_some());
}

#[test]
fn a_stream_is_not_shifted_without_end() {
    let edits = Edits::default();
    let mut at = 0u32;
    let pushed = (0..).take_while(|_| {
        at += 200;
        edits.push((at, 100), 100, (1, 1), at).is_some()
    });
    assert_eq!(pushed.count(), MOST as usize / 100);
    assert!(edits.push((at, 100), -100, (1, 1), at).is_some());
}

#[test]
fn edges_of_blocks_are_found_among_other_options() {
    let blocks: Vec<u8> = [10u32, 20, 30, 40].map(u32::to_be_bytes).concat();
    let mut options = [&[1, 1, 8, 10, 0, 0, 0, 10, 0, 0, 0, 20, 5, 18][..], &blocks, &[0, 5, 10, 0, 0, 0, 1]].concat();
    let mut adjusted = options.clone();
    adjusted[14..30].copy_from_slice(&[11u32, 21, 31, 41].map(u32::to_be_bytes).concat());
    sack_adjust(&mut options, |edge| edge + 1);
    assert_eq!(options, adjusted);
    // Malformed: of no length, past the end, no whole blocks, cut off.
    for options in [&[5, 0, 0, 0][..], &[5, 10, 0, 0, 0, 1], &[5, 6, 0, 0, 0, 1], &[5], &[9, 1, 5, 10], &[2, 255]] {
        let mut copy = options.to_vec();
        sack_adjust(&mut copy, |_| u32::MAX);
        assert_eq!(copy, options);
    }
}

proptest! {
    /// What the receiver acknowledges leads back to what was sent, as far as replacements are remembered.
    #[test]
    fn there_and_back(first: u32, pieces in prop::collection::vec((0u8..100, 1u8..60, -40i8..40), 0..12)) {
        let pieces: Vec<_> = pieces.iter().map(|(before, length, growth)| (*before, *length, (*growth).max(1 - length.cast_signed()))).collect();
        let (edits, end) = stream(first, &pieces);
        let remembered = edits.all();
        prop_assert_eq!(remembered.len(), pieces.len().min(REMEMBERED));
        let oldest = remembered.first().map_or(first, |edit| edit.sequence);
        for ahead in 0..=end.wrapping_sub(oldest) + 10 {
            let sent = oldest.wrapping_add(ahead);
            let inside = remembered.iter().any(|edit| is_behind(sent, edit.sequence) && is_behind(edit.end(), sent));
            if !inside {
                prop_assert_eq!(edits.back(edits.forth(sent)), sent);
            }
        }
        let grown: i32 = pieces.iter().map(|(.., growth)| i32::from(*growth)).sum();
        prop_assert_eq!(edits.forth(end.wrapping_add(1)), end.wrapping_add(1).wrapping_add_signed(grown));
        // Acknowledgments never lead backward.
        let mut last = edits.back(edits.forth(oldest));
        for ahead in 0..1000u32 {
            let back = edits.back(edits.forth(oldest).wrapping_add(ahead));
            prop_assert!(!is_behind(last, back));
            last = back;
        }
    }
}
