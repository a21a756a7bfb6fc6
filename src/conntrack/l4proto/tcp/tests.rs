//! States, windows and RSTs, segment by segment, without a packet; and that the short way and the long way agree.

use super::judge::{Known, Verdict, judge};
use super::window::{bits, load, store};
use super::*;
use crate::conntrack::entry::Owner;
use crate::conntrack::{Conntrack, Direction::Original, Direction::Reply, Hoard, Millis, Tables, Tuple, V4};
use crate::packet::tcp::flag::{ACK, FIN, PSH, RST, SYN};
use TcpState::{Close, CloseWait, Established, FinWait, LastAck, SynRecv, SynSent, SynSent2, TimeWait};
use proptest::prelude::*;

const CLIENT: u32 = u32::MAX - 100;
const BACKEND: u32 = 5000;
const STRICT: Settings = Settings { tcp_be_liberal: false, tcp_loose: false, checksum: super::super::Verify::Changes };

/// A segment; numbers count from the first one of each side.
#[derive(Debug, Clone, Copy)]
struct Sent {
    direction: Direction,
    flags: u8,
    sequence: u32,
    acknowledgment: u32,
    window: u16,
    length: u32,
    options: &'static [u8],
}

fn sent(direction: Direction, flags: u8, sequence: u32, acknowledgment: u32, length: u32) -> Sent {
    Sent { direction, flags, sequence, acknowledgment, window: 1000, length, options: &[] }
}

impl Sent {
    fn segment(&self) -> Segment<'static> {
        let (own, other) = if self.direction == Original { (CLIENT, BACKEND) } else { (BACKEND, CLIENT) };
        let sequence = own.wrapping_add(self.sequence);
        let counted = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        let acknowledgment = if self.flags & ACK != 0 { other.wrapping_add(self.acknowledgment) } else { 0 };
        Segment {
            flags: self.flags,
            sequence,
            end: sequence.wrapping_add(self.length + counted),
            acknowledgment,
            window: self.window,
            options: self.options,
        }
    }
}

/// A connection that is only known, in no table.
struct Walk {
    known: Known,
    settings: Settings,
}

impl Walk {
    fn open(first: Sent) -> Self {
        let sides = [Seen::first(&first.segment()), Seen::default()];
        Self { known: Known { state: State::new(6, SynSent).with(bits(&sides)), sides, syn: None }, settings: STRICT }
    }

    /// After a handshake: both sides have sent one number.
    fn established() -> Self {
        let mut walk = Self::open(sent(Original, SYN, 0, 0, 0));
        walk.goes(sent(Reply, SYN | ACK, 0, 1, 0), SynRecv);
        walk.goes(sent(Original, ACK, 1, 1, 0), Established);
        walk
    }

    fn send(&mut self, segment: Sent) -> Verdict {
        judge(&mut self.known, segment.direction, &segment.segment(), &self.settings)
    }

    #[track_caller]
    fn goes(&mut self, segment: Sent, to: TcpState) {
        assert_eq!((self.send(segment), self.known.state.tcp()), (Verdict::Forward, to), "{segment:?}");
    }

    /// It goes on, and the connection lives no longer for it.
    #[track_caller]
    fn passes(&mut self, segment: Sent, state: TcpState) {
        assert_eq!((self.send(segment), self.known.state.tcp()), (Verdict::Ignore, state), "{segment:?}");
    }

    #[track_caller]
    fn ends(&mut self, segment: Sent, verdict: Verdict) {
        let before = (self.known.state, self.known.sides);
        assert_eq!(self.send(segment), verdict, "{segment:?}");
        assert_eq!((self.known.state, self.known.sides), before, "nothing is noted");
    }
}

#[test]
fn an_orderly_life() {
    let mut walk = Walk::established();
    assert!(walk.known.state.has(State::ASSURED | State::SEEN_REPLY));
    walk.goes(sent(Original, ACK | PSH, 1, 1, 500), Established);
    walk.goes(sent(Reply, ACK, 1, 501, 900), Established);
    walk.goes(sent(Original, FIN | ACK, 501, 901, 0), FinWait);
    walk.goes(sent(Reply, ACK, 901, 502, 0), CloseWait);
    walk.goes(sent(Reply, FIN | ACK, 901, 502, 0), LastAck);
    walk.goes(sent(Original, ACK, 502, 902, 0), TimeWait);
    walk.ends(sent(Original, SYN, 5000, 0, 0), Verdict::Reopen);
    walk.passes(sent(Reply, SYN | ACK, 0, 1, 0), TimeWait);
    walk.ends(sent(Reply, SYN, 0, 0, 0), Verdict::BadState);
}

#[test]
fn both_close_at_once() {
    let mut walk = Walk::established();
    walk.goes(sent(Original, FIN | ACK, 1, 1, 0), FinWait);
    walk.goes(sent(Reply, FIN | ACK, 1, 1, 0), LastAck);
    walk.goes(sent(Original, ACK, 2, 2, 0), TimeWait);
    walk.goes(sent(Reply, ACK, 2, 2, 0), TimeWait);
}

#[test]
fn both_open_at_once() {
    let mut walk = Walk::open(sent(Original, SYN, 0, 0, 0));
    walk.goes(sent(Reply, SYN, 0, 0, 0), SynSent2);
    walk.goes(sent(Original, SYN | ACK, 0, 1, 0), SynRecv);
    walk.goes(sent(Reply, ACK, 1, 1, 0), Established);
    walk.goes(sent(Original, ACK | PSH, 1, 1, 10), Established);

    let mut walk = Walk::open(sent(Original, SYN, 0, 0, 0));
    walk.goes(sent(Reply, SYN, 0, 0, 0), SynSent2);
    walk.goes(sent(Reply, SYN | ACK, 0, 1, 0), SynRecv);
    walk.goes(sent(Original, ACK, 1, 1, 0), Established);
}

#[test]
fn nothing_before_the_handshake() {
    let mut walk = Walk::open(sent(Original, SYN, 0, 0, 0));
    walk.passes(sent(Original, SYN, 0, 0, 0), SynSent);
    walk.ends(sent(Original, ACK, 1, 1, 0), Verdict::BadState);
    walk.ends(sent(Original, FIN | ACK, 1, 1, 0), Verdict::BadState);
    walk.ends(sent(Reply, FIN | ACK, 1, 1, 0), Verdict::BadState);
    // An answer to another SYN.
    walk.ends(sent(Reply, SYN | ACK, 0, 2, 0), Verdict::OutOfWindow);
    walk.goes(sent(Reply, SYN | ACK, 0, 1, 0), SynRecv);
}

#[test]
fn a_refused_connection_is_gone() {
    let mut walk = Walk::open(sent(Original, SYN, 0, 0, 0));
    let refusal = Sent { sequence: 0u32.wrapping_sub(BACKEND), ..sent(Reply, RST | ACK, 0, 1, 0) };
    assert_eq!((walk.send(refusal), walk.known.state.tcp()), (Verdict::End, Close));
}

/// RFC 9293, section 3.10.7.3: the client believes a RST only if it acknowledges the SYN.
#[test]
fn a_reset_that_does_not_answer_the_syn_ends_nothing() {
    let mut walk = Walk::open(sent(Original, SYN, 0, 0, 0));
    for sequence in [0, 1_000_000_000] {
        let sequence = sequence - BACKEND.min(sequence);
        walk.passes(sent(Reply, RST, sequence, 0, 0), SynSent);
        for acknowledgment in [0, 2, 77, u32::MAX] {
            walk.passes(sent(Reply, RST | ACK, sequence, acknowledgment, 0), SynSent);
        }
    }
    // The handshake goes on as if nothing had been.
    walk.goes(sent(Reply, SYN | ACK, 0, 1, 0), SynRecv);
    walk.goes(sent(Original, ACK, 1, 1, 0), Established);
}

#[test]
fn data_must_fit_the_window() {
    let mut walk = Walk::established();
    // The backend has offered 1000 bytes from 1 on.
    walk.goes(sent(Original, ACK, 1, 1, 1000), Established);
    walk.goes(sent(Original, ACK, 1001, 1, 1), Established);
    // Beyond by no more than a window: forwarded.
    walk.goes(sent(Original, ACK, 1002, 1, 500), Established);
    walk.ends(sent(Original, ACK, 5000, 1, 500), Verdict::OutOfWindow);
    walk.ends(sent(Original, ACK, 0x8000_0000, 1, 1), Verdict::OutOfWindow);
    // It moves on with the ACK.
    walk.goes(sent(Reply, ACK, 1, 1502, 0), Established);
    walk.goes(sent(Original, ACK, 1502, 1, 1000), Established);
}

#[test]
fn nobody_acknowledges_what_was_not_sent() {
    let mut walk = Walk::established();
    walk.goes(sent(Original, ACK, 1, 1, 10), Established);
    walk.ends(sent(Reply, ACK, 1, 12, 0), Verdict::OutOfWindow);
    walk.goes(sent(Reply, ACK, 1, 11, 0), Established);
    walk.ends(sent(Original, ACK, 11, 2, 0), Verdict::OutOfWindow);
    // An old ACK is ignored, not dropped.
    let highest = walk.known.sides[1].maxack;
    walk.passes(sent(Reply, ACK, 1, 1u32.wrapping_sub(200_000), 0), Established);
    assert_eq!(walk.known.sides[1].maxack, highest);
}

#[test]
fn liberal_lets_through_what_is_beyond() {
    let mut walk = Walk::established();
    walk.settings.tcp_be_liberal = true;
    walk.goes(sent(Original, ACK, 500_000, 1, 500), Established);
    walk.goes(sent(Reply, ACK, 1, 777_777, 0), Established);
    walk.goes(sent(Original, FIN | ACK, 1, 1, 0), FinWait);
}

#[test]
fn windows_are_scaled_if_both_say_so() {
    let scaled: &[u8] = &[3, 3, 7, 0];
    let mut walk = Walk::open(Sent { options: scaled, ..sent(Original, SYN, 0, 0, 0) });
    walk.goes(Sent { options: scaled, ..sent(Reply, SYN | ACK, 0, 1, 0) }, SynRecv);
    walk.goes(sent(Original, ACK, 1, 1, 0), Established);
    walk.goes(sent(Reply, ACK, 1, 1, 1000 << 7), Established);
    walk.ends(sent(Reply, ACK, 2 + (3000 << 7), 1, 1), Verdict::OutOfWindow);

    let mut walk = Walk::open(Sent { options: scaled, ..sent(Original, SYN, 0, 0, 0) });
    walk.goes(sent(Reply, SYN | ACK, 0, 1, 0), SynRecv);
    walk.goes(sent(Original, ACK, 1, 1, 0), Established);
    assert_eq!(walk.known.sides.map(|side| side.scale), [0, 0]);
    walk.ends(sent(Reply, ACK, 1 + (1000 << 7), 1, 1), Verdict::OutOfWindow);
}

#[test]
fn only_an_exact_reset_closes() {
    // Below what the client has acknowledged.
    let mut walk = Walk::established();
    walk.goes(sent(Reply, ACK, 1, 1, 500), Established);
    walk.goes(sent(Original, ACK, 1, 501, 0), Established);
    walk.ends(sent(Reply, RST, 500, 0, 0), Verdict::BadReset);
    // In the window, not exact: forwarded, the connection stays.
    walk.passes(sent(Reply, RST, 502, 0, 0), Established);
    walk.goes(sent(Original, ACK, 1, 501, 0), Established);
    // Beyond the window.
    walk.ends(sent(Reply, RST, 100_000, 0, 0), Verdict::OutOfWindow);
    walk.goes(sent(Reply, RST, 501, 0, 0), Close);

    // Behind data that is on its way.
    let mut walk = Walk::established();
    walk.goes(sent(Reply, ACK, 1, 1, 500), Established);
    walk.goes(sent(Reply, RST, 501, 0, 0), Close);

    // While it closes, too.
    let mut walk = Walk::established();
    walk.goes(sent(Reply, FIN | ACK, 1, 1, 0), FinWait);
    walk.ends(sent(Original, RST, 900_000, 0, 0), Verdict::OutOfWindow);
    walk.passes(sent(Original, RST, 2, 0, 0), FinWait);
    walk.goes(sent(Original, RST, 1, 0, 0), Close);

    // And before the handshake is over.
    let mut walk = Walk::open(sent(Original, SYN, 0, 0, 0));
    walk.goes(sent(Reply, SYN | ACK, 0, 1, 0), SynRecv);
    walk.passes(sent(Original, RST, 3, 0, 0), SynRecv);
    walk.goes(sent(Original, ACK, 1, 1, 0), Established);
}

#[test]
fn a_reset_that_is_not_believed_makes_no_other_one_exact() {
    let mut walk = Walk::established();
    for direction in [Original, Reply] {
        for _ in 0..3 {
            walk.passes(sent(direction, RST, 502, 0, 0), Established);
        }
    }
    // A SYN before it does not help.
    walk.passes(sent(Original, SYN, 700_000, 0, 0), Established);
    walk.passes(sent(Original, RST, 502, 0, 0), Established);
    walk.passes(sent(Original, SYN, 700_000, 0, 0), Established);
    walk.passes(sent(Reply, RST, 502, 0, 0), Established);
    walk.goes(sent(Original, ACK, 1, 1, 100), Established);
}

#[test]
fn a_segment_far_ahead_makes_what_follows_in_order_not_old() {
    let mut walk = Walk::established();
    walk.goes(sent(Original, ACK, 1, 1, 10), Established);
    // Beyond the edge that the backend has offered, by less than its window.
    let edge = walk.known.sides[0].maxend.wrapping_sub(CLIENT);
    walk.goes(sent(Original, ACK, edge + 1, 1, 900), Established);
    // Not ignored: it keeps the connection alive.
    walk.goes(sent(Original, ACK, 11, 1, 10), Established);
    walk.goes(sent(Reply, ACK, 1, 21, 0), Established);
    walk.goes(sent(Original, ACK, 21, 1, 10), Established);
}

#[test]
fn a_forged_syn_changes_nothing() {
    let mut walk = Walk::established();
    let sides = walk.known.sides;
    walk.passes(sent(Original, SYN, 700_000, 0, 0), Established);
    assert_eq!(walk.known.sides, sides);
    // The challenge ACK, and the connection goes on.
    walk.goes(sent(Reply, ACK, 1, 1, 0), Established);
    walk.goes(sent(Original, ACK, 1, 1, 100), Established);
    // A SYN/ACK that answers nothing.
    walk.passes(sent(Reply, SYN | ACK, 999, 700_001, 0), Established);
    walk.goes(sent(Reply, ACK, 1, 101, 100), Established);
}

#[test]
fn weir_follows_two_sides_that_begin_anew() {
    let mut walk = Walk::established();
    let scaled: &[u8] = &[3, 3, 9, 0];
    walk.passes(Sent { options: scaled, ..sent(Original, SYN, 700_000, 0, 0) }, Established);
    walk.goes(Sent { options: scaled, ..sent(Reply, SYN | ACK, 300_000, 700_001, 0) }, SynRecv);
    walk.goes(sent(Original, ACK, 700_001, 300_001, 0), Established);
    walk.goes(sent(Reply, ACK, 300_001, 700_001, 400_000), Established);

    // Or the backend has nobody there any more.
    let mut walk = Walk::established();
    walk.passes(sent(Original, SYN, 700_000, 0, 0), Established);
    let refusal = Sent { sequence: 0u32.wrapping_sub(BACKEND), ..sent(Reply, RST | ACK, 0, 700_001, 0) };
    walk.goes(refusal, Close);
}

#[test]
fn a_challenge_is_no_last_ack() {
    let mut walk = Walk::established();
    walk.goes(sent(Original, FIN | ACK, 1, 1, 0), FinWait);
    walk.goes(sent(Reply, FIN | ACK, 1, 2, 0), LastAck);
    walk.passes(sent(Original, SYN, 700_000, 0, 0), LastAck);
    walk.passes(sent(Reply, ACK, 2, 2, 0), LastAck);
    walk.goes(sent(Original, ACK, 2, 2, 0), TimeWait);
}

#[test]
fn a_client_that_reuses_its_port_too_early_may_reset() {
    let mut walk = Walk::open(sent(Original, SYN, 0, 0, 0));
    // The backend still has an older connection, of other numbers.
    walk.passes(sent(Reply, ACK, 123_456, 654_321, 0), SynSent);
    walk.goes(sent(Original, RST, 654_321, 0, 0), Close);
}

#[test]
fn a_keepalive_and_its_answer() {
    let mut walk = Walk::established();
    walk.goes(sent(Original, ACK, 0, 1, 0), Established);
    walk.goes(sent(Original, ACK, 0, 1, 1), Established);
    walk.goes(sent(Reply, ACK, 1, 1, 0), Established);
}

#[test]
fn a_closed_window_may_be_probed() {
    let mut walk = Walk::established();
    walk.goes(Sent { window: 0, ..sent(Reply, ACK, 1, 1, 0) }, Established);
    walk.goes(sent(Original, ACK, 1, 1, 1000), Established);
    walk.goes(Sent { window: 0, ..sent(Reply, ACK, 1, 1001, 0) }, Established);
    walk.goes(sent(Original, ACK, 1001, 1, 1), Established);
}

/// A connection in a table.
struct Tracked {
    conntrack: Conntrack,
}

impl Tracked {
    fn open(first: &Sent) -> Self {
        let conntrack = Conntrack::new(8).unwrap();
        let table: &Table<V4> = conntrack.table();
        let tuple = Tuple::new(6, "192.0.2.1:1".parse().unwrap(), "10.9.9.9:80".parse().unwrap()).unwrap();
        let reply = Tuple::new(6, "10.1.0.1:80".parse().unwrap(), "10.2.0.1:9".parse().unwrap()).unwrap();
        let mut hoard = Hoard::default();
        let owner = Owner::default();
        let connection = table.open(&mut hoard, &tuple, table.hash(&tuple), owner, State::new(6, SynSent), Millis(0)).unwrap();
        let sides = [Seen::first(&first.segment()), Seen::default()];
        connection.entry.set_state(connection.entry.state().with(bits(&sides)));
        store(connection.entry, &Sides::default(), &sides);
        table.reserve(&connection, &reply);
        table.confirm(connection);
        Self { conntrack }
    }

    fn found(&self, direction: Direction) -> Found<'_, V4> {
        let table: &Table<V4> = self.conntrack.table();
        let tuple = Tuple::new(6, "192.0.2.1:1".parse().unwrap(), "10.9.9.9:80".parse().unwrap()).unwrap();
        let reply = Tuple::new(6, "10.1.0.1:80".parse().unwrap(), "10.2.0.1:9".parse().unwrap()).unwrap();
        let tuple = if direction == Original { tuple } else { reply };
        table.look_up(table.hash(&tuple), &tuple).unwrap()
    }

    /// By the short way if there is one.
    fn send(&self, segment: &Sent, short: bool) -> Result<Step, Invalid> {
        let found = self.found(segment.direction);
        let bytes = bytes(segment);
        let state = found.entry.state();
        let parts = bytes.split_first_chunk().unwrap();
        if short && advance_steady(found.entry, segment.direction, state, segment.flags, parts, bytes.len()) {
            return Ok(Step::Accept);
        }
        let connection = Connection { found: &found, table: self.conntrack.table(), settings: &STRICT, now: Millis(0).into() };
        track(&connection, &segment.segment())
    }

    fn known(&self) -> (State, Sides) {
        let entry = self.found(Original).entry;
        (entry.state(), load(entry, entry.state()))
    }
}

fn bytes(sent: &Sent) -> Vec<u8> {
    let segment = sent.segment();
    let mut bytes = vec![0; 20 + sent.options.len() + sent.length as usize];
    bytes[4..8].copy_from_slice(&segment.sequence.to_be_bytes());
    bytes[8..12].copy_from_slice(&segment.acknowledgment.to_be_bytes());
    bytes[12] = (5 + sent.options.len() as u8 / 4) << 4;
    bytes[13] = sent.flags;
    bytes[14..16].copy_from_slice(&sent.window.to_be_bytes());
    bytes[20..20 + sent.options.len()].copy_from_slice(sent.options);
    bytes
}

const OPTIONS: [&[u8]; 4] =
    [&[], &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], &[1, 1, 5, 10, 0, 0, 20, 0, 0, 0, 24, 0], &[3, 3, 7, 4, 2, 0, 0, 0]];

fn segments() -> impl Strategy<Value = Vec<Sent>> {
    let flags = prop_oneof![
        20 => Just(ACK), 4 => Just(ACK | PSH), 1 => Just(FIN | ACK), 1 => Just(RST), 1 => Just(SYN), 1 => Just(SYN | ACK)
    ];
    // Near to where the numbers would be, and at times far away.
    let number = || prop_oneof![6 => 0u32..4000, 2 => Just(1u32), 1 => any::<u32>()];
    let window = prop_oneof![4 => 500u16..1500, 1 => Just(0u16), 1 => any::<u16>()];
    let segment = (any::<bool>(), flags, number(), number(), window, prop_oneof![Just(0u32), 1u32..1400], 0usize..4);
    let segment = segment.prop_map(|(reply, flags, sequence, acknowledgment, window, length, options)| Sent {
        direction: if reply { Reply } else { Original },
        flags,
        sequence,
        acknowledgment,
        window,
        length,
        options: OPTIONS[options],
    });
    prop::collection::vec(segment, 1..60)
}

proptest! {
    /// The short way says yes only where the long one does, and notes the same.
    #[test]
    fn both_ways_agree(scaled: bool, segments in segments()) {
        let options = OPTIONS[if scaled { 3 } else { 0 }];
        let first = Sent { options, ..sent(Original, SYN, 0, 0, 0) };
        let (short, long) = (Tracked::open(&first), Tracked::open(&first));
        let handshake = [Sent { options, ..sent(Reply, SYN | ACK, 0, 1, 0) }, sent(Original, ACK, 1, 1, 0)];
        for segment in handshake.iter().chain(&segments) {
            prop_assert_eq!(short.send(segment, true), long.send(segment, false), "{:?}", segment);
            prop_assert_eq!(short.known(), long.known(), "{:?}", segment);
        }
    }

    /// What is kept of the sides is never less than what was seen, and keeping it twice changes nothing.
    #[test]
    fn what_is_kept_is_rounded_up(
        numbers in prop::array::uniform4(any::<u32>()),
        ahead in prop::array::uniform2(0u32..60_000),
        windows in prop::array::uniform2(1u32..60_000),
        scales in prop::array::uniform2(0u8..=14),
    ) {
        let tracked = Tracked::open(&sent(Original, SYN, 0, 0, 0));
        let entry = tracked.found(Original).entry;
        let mut sides = [Seen::default(); 2];
        for at in 0..2 {
            let (scale, other) = (scales[at], 1 - at);
            sides[at].end = numbers[at];
            sides[at].maxack = Some(numbers[at + 2]);
            sides[at].scale = scale;
            sides[at].maxwin = windows[at] << scale;
            sides[other].maxend = numbers[at + 2].wrapping_add(ahead[at] << scale).wrapping_add(u32::from(scale > 3));
        }
        let state = entry.state().without(OF_SIDES).with(bits(&sides));
        entry.set_state(state);
        store(entry, &window::load(entry, state), &sides);
        let kept = load(entry, state);
        for at in 0..2 {
            let unit = 1 << scales[1 - at];
            prop_assert_eq!((kept[at].end, kept[at].maxack, kept[at].scale), (sides[at].end, sides[at].maxack, sides[at].scale));
            prop_assert!(kept[at].maxend.wrapping_sub(sides[at].maxend) < unit.max(2));
            prop_assert!(kept[at].maxwin >= sides[at].maxwin && kept[at].maxwin <= (2 * sides[at].maxwin).max(4 << scales[at]));
        }
        store(entry, &kept, &kept);
        prop_assert_eq!(load(entry, state), kept);
    }
}
