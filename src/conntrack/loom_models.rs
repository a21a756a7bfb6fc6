//! Small tables in which loom tries every interleaving of two threads up to a number of preemptions, and every value that an access may
//! read by the rules of the memory model: `cargo test --features loom --lib loom_models`.
//!
//! The table is the real one; only its constants are smaller (two slots a bucket, chains of three). What the models hold: one of two that
//! insert the same tuple wins, and its rival finds it; a lookup never sees a connection change into another one under its hands, whether the
//! control thread or another worker takes it away; entries are handed out once; nothing stays behind in the index.

use super::index::{Handle, Index, Inserted};
use super::*;
use loom::model::Builder;
use loom::thread;
use std::sync::Arc as Shared;

const UDP: u8 = 17;

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    // Not one of loom's: it counts over all executions.
    let executions = Shared::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Shared::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
    let executions = executions.load(Relaxed);
    println!("{executions} executions");
    assert!(executions > 5, "{executions} executions: the threads hardly met");
}

fn timeouts() -> TimeoutPolicy {
    Timeouts { udp: 1000, udp_stream: 2000, ..Timeouts::default() }.into()
}

fn conntrack(connections: usize) -> Shared<Conntrack> {
    Shared::new(Conntrack::with_key(connections, HashKey::new([1, 2])).unwrap())
}

fn original(client: u16) -> Tuple<V4> {
    let source = SocketAddr::from(([192, 0, 2, 1], client));
    Tuple::new(UDP, source, SocketAddr::from(([10, 9, 9, 9], 53))).unwrap()
}

fn reply(port: u16) -> Tuple<V4> {
    let source = SocketAddr::from(([10, 1, 0, 1], 53));
    Tuple::new(UDP, source, SocketAddr::from(([10, 2, 0, 1], port))).unwrap()
}

/// Opens a connection whose SNAT port and backend are `port`. `true`: it is in the table.
fn open(conntrack: &Conntrack, walker: &mut Walker, client: u16, port: u16, now: Millis) -> bool {
    let table: &Table<V4> = conntrack.table();
    let visit = walker.enter();
    let tuple = original(client);
    let hash = table.hash(&tuple);
    if !table.has_room(visit.hoard_v4) {
        let _ = table.early_drop(visit.hoard_v4, hash, Spared::Established, (now, &timeouts()), &mut |_| {});
    }
    let owner = Owner { service: 1, backend: port };
    let state = State::new(UDP, TcpState::None);
    let Some(connection) = table.open(visit.hoard_v4, &tuple, hash, owner, state, now) else { return false };
    if table.reserve(&connection, &reply(port)) != Reserved::Taken {
        table.discard(visit.hoard_v4, connection);
        return false;
    }
    matches!(table.confirm(connection), Confirmed::Placed(_))
}

/// Looks a connection up as a packet does, and uses it for as long as a burst lasts: all of it must be of this client.
fn use_it(conntrack: &Conntrack, walker: &mut Walker, client: u16) -> Option<u16> {
    let table: &Table<V4> = conntrack.table();
    let _visit = walker.enter();
    let tuple = original(client);
    let found = table.look_up(table.hash(&tuple), &tuple)?;
    let backend = found.entry.owner().backend;
    assert_eq!(found.entry.tuple(Direction::Reply).view(), reply(backend).view(), "translated by another connection's tuple");
    assert_eq!(found.entry.tuple(Direction::Original).view(), tuple.view(), "another connection by now");
    Some(backend)
}

fn sweep(conntrack: &Conntrack, now: Millis) -> usize {
    let mut closed = 0;
    while !conntrack.sweep(now, &timeouts(), 64, &mut |_| closed += 1).wrapped {}
    closed
}

#[test]
fn of_two_who_insert_the_same_tuple_one_wins() {
    check(3, || {
        let index = Shared::new(Index::new(1).unwrap());
        let hash = 7 << 32;
        let insert = |number: u32| {
            let index = Shared::clone(&index);
            move || index.insert(hash, Handle::new(number, false), |_| true)
        };
        let other = thread::spawn(insert(1));
        let mine = insert(2)();
        let theirs = other.join().unwrap();
        let winner = match (mine, theirs) {
            (Inserted::Placed, Inserted::Exists(winner)) | (Inserted::Exists(winner), Inserted::Placed) => winner,
            other => panic!("{other:?}"),
        };
        assert_eq!(index.find(hash, |_| true), Some(winner));
        assert!(index.remove(hash, winner));
        assert!(index.is_clean());
    });
}

#[test]
fn the_loser_of_a_clash_leaves_nothing_behind() {
    check(3, || {
        let conntrack = conntrack(2);
        let (mut mine, mut theirs) = (conntrack.walker().unwrap(), conntrack.walker().unwrap());
        let other = {
            let conntrack = Shared::clone(&conntrack);
            thread::spawn(move || open(&conntrack, &mut theirs, 1, 11, Millis(0)))
        };
        let opened = open(&conntrack, &mut mine, 1, 12, Millis(0));
        assert!(opened != other.join().unwrap(), "one of them, and only one");
        let winner = if opened { 12 } else { 11 };
        assert_eq!(use_it(&conntrack, &mut mine, 1), Some(winner));
        assert_eq!(sweep(&conntrack, Millis(0)), 0, "what was given up was no connection");
        assert_eq!(sweep(&conntrack, Millis(1000)), 1);
        assert!(Tables::<V4>::table(&*conntrack).is_clean());
    });
}

/// The control thread ends a connection and frees its entry, another one takes it: whoever found the first one still has it.
#[test]
fn an_entry_that_expires_is_not_used_again_under_a_packet() {
    check(3, || {
        let conntrack = conntrack(1);
        let (mut control, mut worker) = (conntrack.walker().unwrap(), conntrack.walker().unwrap());
        assert!(open(&conntrack, &mut control, 1, 11, Millis(0)));
        let other = {
            let conntrack = Shared::clone(&conntrack);
            thread::spawn(move || use_it(&conntrack, &mut worker, 1))
        };
        assert_eq!(sweep(&conntrack, Millis(1000)), 1);
        sweep(&conntrack, Millis(1000));
        let reused = open(&conntrack, &mut control, 2, 12, Millis(1000));
        if let Some(backend) = other.join().unwrap() {
            assert_eq!(backend, 11);
        }
        sweep(&conntrack, Millis(1000));
        assert!(reused || open(&conntrack, &mut control, 2, 12, Millis(1000)), "nobody looks any more");
    });
}

/// A worker of a full table makes a connection give way and uses its entry: whoever found the first one still has it.
#[test]
fn an_entry_that_gave_way_is_not_used_again_under_a_packet() {
    check(3, || {
        let conntrack = conntrack(1);
        let (mut evictor, mut worker) = (conntrack.walker().unwrap(), conntrack.walker().unwrap());
        assert!(open(&conntrack, &mut evictor, 1, 11, Millis(0)));
        let other = {
            let conntrack = Shared::clone(&conntrack);
            thread::spawn(move || use_it(&conntrack, &mut worker, 1))
        };
        assert!(!open(&conntrack, &mut evictor, 2, 12, Millis(1)), "its entry is not free in the same burst");
        let reused = open(&conntrack, &mut evictor, 2, 12, Millis(1));
        if let Some(backend) = other.join().unwrap() {
            assert_eq!(backend, 11);
        }
        assert!(reused || open(&conntrack, &mut evictor, 2, 12, Millis(1)), "nobody looks any more");
        assert_eq!(use_it(&conntrack, &mut evictor, 2), Some(12));
    });
}

/// A worker and the control thread want the same connection gone: one of them has its entry afterwards.
#[test]
fn giving_way_and_expiring_at_once_frees_an_entry_once() {
    check(3, || {
        let conntrack = conntrack(1);
        let mut evictor = conntrack.walker().unwrap();
        assert!(open(&conntrack, &mut evictor, 1, 11, Millis(0)));
        let other = {
            let conntrack = Shared::clone(&conntrack);
            thread::spawn(move || sweep(&conntrack, Millis(1000)))
        };
        let mut opens = || (0..2).any(|_| open(&conntrack, &mut evictor, 2, 12, Millis(1000)));
        let opened = opens();
        other.join().unwrap();
        sweep(&conntrack, Millis(1000));
        assert!(opened || opens(), "the entry is not lost");
        assert_eq!(use_it(&conntrack, &mut evictor, 2), Some(12));
        let table: &Table<V4> = conntrack.table();
        assert_eq!(table.take_number(&mut evictor.hoard_v4), None, "and there is one");
    });
}

/// A connection has ended, a worker wants its place and the control thread frees it: one of them has it, and whoever found the connection
/// before still has that.
#[test]
fn the_place_of_an_ended_connection_is_taken_once() {
    check(3, || {
        let conntrack = conntrack(1);
        let (mut mine, mut reader) = (conntrack.walker().unwrap(), conntrack.walker().unwrap());
        assert!(open(&conntrack, &mut mine, 1, 11, Millis(0)));
        let other = {
            let conntrack = Shared::clone(&conntrack);
            thread::spawn(move || {
                let used = use_it(&conntrack, &mut reader, 1);
                sweep(&conntrack, Millis(0));
                used
            })
        };
        assert!(conntrack.delete((UDP, original(1).view().source, original(1).view().destination), Millis(0), &timeouts()));
        let mut opens = || (0..2).any(|_| open(&conntrack, &mut mine, 2, 12, Millis(0)));
        let opened = opens();
        if let Some(backend) = other.join().unwrap() {
            assert_eq!(backend, 11);
        }
        sweep(&conntrack, Millis(0));
        assert!(opened || opens(), "the place is not lost");
        assert_eq!(conntrack.ending(), 0);
        let table: &Table<V4> = conntrack.table();
        assert_eq!(table.take_number(&mut mine.hoard_v4), None, "and there is one");
    });
}

/// Somebody ends everything and sweeps while a worker is about to lose a clash: its entry is freed once.
#[test]
fn the_loser_of_a_clash_is_not_ended_by_others() {
    check(2, || {
        let conntrack = conntrack(2);
        let (mut mine, mut theirs) = (conntrack.walker().unwrap(), conntrack.walker().unwrap());
        assert!(open(&conntrack, &mut mine, 1, 11, Millis(0)));
        let other = {
            let conntrack = Shared::clone(&conntrack);
            thread::spawn(move || open(&conntrack, &mut theirs, 1, 12, Millis(0)))
        };
        let ended = conntrack.end_where(DestroyReason::Deleted, Millis(0), &timeouts(), &mut |view| view.backend == 12);
        sweep(&conntrack, Millis(0));
        let opened = other.join().unwrap();
        assert!(!opened && ended == 0, "the first one lives, so the second never is a connection");
        (0..3).for_each(|_| drop(sweep(&conntrack, Millis(1000))));
        let table: &Table<V4> = conntrack.table();
        let taken: Vec<_> = (0..3).filter_map(|_| table.take_number(&mut mine.hoard_v4)).collect();
        assert!(taken.len() == 2 && taken[0] != taken[1], "{taken:?}");
        assert!(table.is_clean());
    });
}

/// A connection that was reset is remembered still; its client comes back over the same tuple while the sweep forgets it.
#[test]
fn who_was_reset_may_come_back_while_it_is_forgotten() {
    check(2, || {
        let conntrack = conntrack(2);
        let (mut mine, mut theirs) = (conntrack.walker().unwrap(), conntrack.walker().unwrap());
        assert!(open(&conntrack, &mut mine, 1, 11, Millis(0)));
        let table: &Table<V4> = conntrack.table();
        let (tuple, hash) = (original(1), table.hash(&original(1)));
        let number = table.look_up(hash, &tuple).unwrap().number();
        assert!(table.kill_drained(number, Millis(0)) && !table.kill_drained(number, Millis(0)), "once");
        assert!(table.look_up(hash, &tuple).is_none() && table.was_drained(hash, &tuple));
        sweep(&conntrack, Millis(cull::LINGER - 1));
        assert!(table.was_drained(hash, &tuple));
        let later = Millis(cull::LINGER);
        let other = {
            let conntrack = Shared::clone(&conntrack);
            thread::spawn(move || open(&conntrack, &mut theirs, 1, 12, later))
        };
        assert_eq!(sweep(&conntrack, later), 0, "who ended it has counted it");
        assert!(other.join().unwrap());
        assert!(!table.was_drained(hash, &tuple));
        assert_eq!(use_it(&conntrack, &mut mine, 1), Some(12));
        (0..3).for_each(|_| drop(sweep(&conntrack, later.after(1000))));
        let taken: Vec<_> = (0..3).filter_map(|_| table.take_number(&mut mine.hoard_v4)).collect();
        assert!(taken.len() == 2 && taken[0] != taken[1], "{taken:?}");
        assert!(table.is_clean());
    });
}

#[test]
fn entries_are_handed_out_once() {
    check(3, || {
        let conntrack = conntrack(2);
        let (mut mine, mut theirs) = (conntrack.walker().unwrap(), conntrack.walker().unwrap());
        assert!(open(&conntrack, &mut mine, 1, 11, Millis(0)) && open(&conntrack, &mut mine, 2, 12, Millis(0)));
        sweep(&conntrack, Millis(1000));
        sweep(&conntrack, Millis(1000));
        let take = |walker: &mut Walker, conntrack: &Conntrack| {
            let table: &Table<V4> = conntrack.table();
            table.take_number(&mut walker.hoard_v4)
        };
        let other = {
            let conntrack = Shared::clone(&conntrack);
            thread::spawn(move || take(&mut theirs, &conntrack))
        };
        let taken = [take(&mut mine, &conntrack), other.join().unwrap()];
        assert!(taken.iter().all(Option::is_some), "{taken:?}");
        assert_ne!(taken[0], taken[1]);
    });
}
