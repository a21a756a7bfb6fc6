//! The table against a model, and against threads that want the same tuple.

use super::index::{Handle, Index, Inserted};
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

const UDP: u8 = 17;

fn timeouts() -> TimeoutPolicy {
    Timeouts { udp: 1000, udp_stream: 2000, ..Timeouts::default() }.into()
}

fn original(client: u16) -> Tuple<V4> {
    let source = SocketAddr::from(([192, 0, 2, 1], client));
    Tuple::new(UDP, source, SocketAddr::from(([10, 9, 9, 9], 53))).unwrap()
}

fn reply(port: u16) -> Tuple<V4> {
    let source = SocketAddr::from(([10, 1, 0, 1], 53));
    Tuple::new(UDP, source, SocketAddr::from(([10, 2, 0, 1], port))).unwrap()
}

/// Opens a connection of `client` with SNAT port `port`. `None`: the port is taken, the table full, or the client has one already.
fn open(conntrack: &Conntrack, walker: &mut Walker, client: u16, port: u16, now: Millis) -> Option<()> {
    let table: &Table<V4> = conntrack.table();
    let visit = walker.enter();
    let tuple = original(client);
    let owner = Owner { service: 1, backend: port };
    let connection =
        table.open(visit.hoard_v4, &tuple, table.hash(&tuple), owner, State::new(tuple.protocol, TcpState::None), now)?;
    if table.reserve(&connection, &reply(port)) != Reserved::Taken {
        table.discard(visit.hoard_v4, connection);
        return None;
    }
    match table.confirm(connection) {
        Confirmed::Placed(_) => {
            conntrack.opened(1);
            Some(())
        }
        Confirmed::Clash | Confirmed::Full => None,
    }
}

fn find(conntrack: &Conntrack, tuple: &Tuple<V4>) -> Option<(u16, Direction)> {
    let table: &Table<V4> = conntrack.table();
    let found = table.look_up(table.hash(tuple), tuple)?;
    Some((found.entry.owner().backend, found.direction))
}

fn sweep(conntrack: &Conntrack, now: Millis) -> Vec<ConnectionView> {
    let mut closed = Vec::new();
    // The first pass may begin in the middle of the table; the next ones also free what it took out.
    for _ in 0..3 {
        while !conntrack.sweep(now, &timeouts(), 16, &mut |view| closed.push(view.clone())).wrapped {}
    }
    closed
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Open { client: u16, port: u16 },
    Packet { client: u16 },
    Delete { client: u16 },
    Wait { milliseconds: u32 },
    Sweep,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        6 => (1u16..120, 1u16..150).prop_map(|(client, port)| Operation::Open { client, port }),
        3 => (1u16..120).prop_map(|client| Operation::Packet { client }),
        1 => (1u16..120).prop_map(|client| Operation::Delete { client }),
        1 => (1u32..900).prop_map(|milliseconds| Operation::Wait { milliseconds }),
        1 => Just(Operation::Sweep),
    ];
    prop::collection::vec(operation, 1..600)
}

/// What the table should be: client → SNAT port and time of the last packet. A deleted connection keeps its port until it is swept,
/// and so does one that lost against another of the same client.
#[derive(Default)]
struct Model {
    live: HashMap<u16, (u16, Millis)>,
    leaving: Vec<u16>,
    abandoned: Vec<u16>,
}

impl Model {
    fn port_taken(&self, port: u16) -> bool {
        self.leaving.contains(&port) || self.abandoned.contains(&port) || self.live.values().any(|(taken, _)| *taken == port)
    }
}

proptest! {
    #[test]
    fn behaves_as_a_map(operations in operations()) {
        const CAPACITY: usize = 1024;
        let conntrack = Conntrack::new(CAPACITY).unwrap();
        let mut walker = conntrack.walker().unwrap();
        let (mut model, mut now) = (Model::default(), Millis(u32::MAX - 5000));
        for operation in operations {
            match operation {
                Operation::Open { client, port } => {
                    let (known, taken) = (model.live.contains_key(&client), model.port_taken(port));
                    let opened = open(&conntrack, &mut walker, client, port, now).is_some();
                    prop_assert_eq!(opened, !known && !taken, "{} {}", client, port);
                    if known && !taken {
                        model.abandoned.push(port);
                    }
                    if opened {
                        model.live.insert(client, (port, now));
                    }
                }
                Operation::Packet { client } => {
                    let table: &Table<V4> = conntrack.table();
                    let tuple = original(client);
                    let found = table.look_up(table.hash(&tuple), &tuple);
                    prop_assert_eq!(found.is_some(), model.live.contains_key(&client));
                    if let Some(found) = found {
                        found.entry.touch(now);
                        model.live.get_mut(&client).unwrap().1 = now;
                    }
                }
                Operation::Delete { client } => {
                    let tuple = original(client).view();
                    let deleted = conntrack.delete((UDP, tuple.source, tuple.destination), now, &timeouts());
                    let known = model.live.remove(&client);
                    prop_assert_eq!(deleted, known.is_some());
                    model.leaving.extend(known.map(|(port, _)| port));
                }
                Operation::Wait { milliseconds } => now = now.after(milliseconds),
                Operation::Sweep => {
                    let over = |seen: Millis| now.since(seen) >= timeouts().common.udp;
                    let mut expected: Vec<u16> = model.live.values().filter(|(_, seen)| over(*seen)).map(|(port, _)| *port).collect();
                    expected.append(&mut model.leaving);
                    model.abandoned.clear();
                    model.live.retain(|_, (_, seen)| !over(*seen));
                    let mut closed: Vec<u16> = sweep(&conntrack, now).iter().map(|view| view.backend).collect();
                    closed.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(closed, expected);
                }
            }
            for client in 1..120 {
                let port = model.live.get(&client).map(|(port, _)| (*port, Direction::Original));
                prop_assert_eq!(find(&conntrack, &original(client)), port);
            }
            for (port, _) in model.live.values() {
                prop_assert_eq!(find(&conntrack, &reply(*port)), Some((*port, Direction::Reply)));
            }
            prop_assert_eq!(conntrack.count(), model.live.len());
        }
        let mut listed = Vec::new();
        conntrack.for_each(&timeouts(), &mut |view| listed.push(view.backend));
        listed.sort_unstable();
        let mut live: Vec<u16> = model.live.values().map(|(port, _)| *port).collect();
        live.sort_unstable();
        prop_assert_eq!(listed, live);
    }

    /// Tuples that all have the same home: chains over several buckets, slots freed in the middle of them.
    #[test]
    fn chains_lose_nothing(operations in prop::collection::vec((1u32..100, any::<bool>()), 1..400)) {
        let index = Index::new(100).unwrap();
        let hash = |number: u32| u64::from(number % 50) << 32 | 77;
        let mut model = HashMap::new();
        for (number, insert) in operations {
            let handle = Handle::new(number, number % 2 == 0);
            if insert {
                let inserted = index.insert(hash(number), handle, |other| other == handle);
                let expected = if model.insert(number, ()).is_some() { Inserted::Exists(handle) } else { Inserted::Placed };
                prop_assert_eq!(inserted, expected);
            } else {
                prop_assert_eq!(index.remove(hash(number), handle), model.remove(&number).is_some());
            }
            for number in 1..100 {
                let handle = Handle::new(number, number % 2 == 0);
                let found = index.find(hash(number), |other| other == handle);
                prop_assert_eq!(found.is_some(), model.contains_key(&number));
            }
        }
        for number in model.keys() {
            prop_assert!(index.remove(hash(*number), Handle::new(*number, number % 2 == 0)));
        }
        prop_assert!(index.is_clean());
    }
}

#[test]
fn of_many_who_insert_the_same_tuple_one_wins() {
    const THREADS: u32 = 4;
    const TUPLES: u64 = 20_000;
    let index = Index::new(2000).unwrap();
    let barrier = Barrier::new(THREADS as usize);
    for round in 0..TUPLES / 500 {
        // Few homes, so that slots fill up and rivals meet in the same chain.
        let hash = |tuple: u64| (round * 500 + tuple + 1) << 32 | ((tuple % 3) << 28);
        let wins: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (index, barrier, wins) = (&index, &barrier, &wins);
                scope.spawn(move || {
                    for tuple in 0..100u64 {
                        barrier.wait();
                        // The tuple is known by the handle's number modulo 100: every thread has its own number for it.
                        let handle = Handle::new(tuple as u32 + 100 * (thread + 1), false);
                        let same = |other: Handle| u64::from(other.number() % 100) == tuple;
                        match index.insert(hash(tuple), handle, same) {
                            Inserted::Placed => {
                                wins[tuple as usize].fetch_add(1, Relaxed);
                            }
                            Inserted::Exists(other) => assert!(same(other)),
                            Inserted::Full => panic!("there is room for all"),
                        }
                    }
                });
            }
        });
        for (tuple, wins) in wins.iter().enumerate() {
            assert_eq!(wins.load(Relaxed), 1, "tuple {tuple} of round {round}");
            let tuple = tuple as u64;
            let winner = index.find(hash(tuple), |other| u64::from(other.number() % 100) == tuple).unwrap();
            assert!(index.remove(hash(tuple), winner));
            assert_eq!(index.find(hash(tuple), |_| true), None, "nobody is left behind");
        }
        assert!(index.is_clean());
    }
}

#[test]
fn workers_open_and_expire_at_the_same_time() {
    const THREADS: u16 = 3;
    let conntrack = Conntrack::new(4096).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let opened = AtomicUsize::new(0);
    let mut closed = 0;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut walker = conntrack.walker().unwrap();
                    for round in 0..30_000u32 {
                        // All want the same few clients and ports: clashes of either tuple, ports that are taken, tuples that leave.
                        let (client, port) = ((round * 7 % 61) as u16 + 1, (round * 13 % 89) as u16 + 1);
                        if open(&conntrack, &mut walker, client, port, Millis(0)).is_some() {
                            opened.fetch_add(1, Relaxed);
                        }
                        if round % 5 == 0 {
                            let tuple = original(client).view();
                            conntrack.delete((UDP, tuple.source, tuple.destination), Millis(0), &timeouts());
                        }
                    }
                })
            })
            .collect();
        while !stop.load(Relaxed) {
            conntrack.sweep(Millis(0), &timeouts(), 512, &mut |_| closed += 1);
            stop.store(workers.iter().all(|worker| worker.is_finished()), Relaxed);
        }
    });
    closed += sweep(&conntrack, Millis(5000)).len();
    assert_eq!(closed, opened.load(Relaxed), "every connection that was opened is closed once");
    assert_eq!(conntrack.count(), 0);
    let mut listed = 0;
    conntrack.for_each(&timeouts(), &mut |_| listed += 1);
    assert_eq!(listed, 0);
}

#[test]
fn an_entry_is_used_again_only_when_nobody_can_see_it() {
    let conntrack = Conntrack::new(64).unwrap();
    let (mut worker, reader) = (conntrack.walker().unwrap(), conntrack.walker().unwrap());
    for client in 1..=64 {
        open(&conntrack, &mut worker, client, client, Millis(0)).unwrap();
    }
    assert!(open(&conntrack, &mut worker, 65, 65, Millis(0)).is_none(), "full");
    let inside = reader.reader.enter();
    assert_eq!(sweep(&conntrack, Millis(5000)).len(), 64);
    sweep(&conntrack, Millis(5000));
    assert!(open(&conntrack, &mut worker, 66, 66, Millis(5000)).is_none(), "the reader may still look at all of them");
    drop(inside);
    sweep(&conntrack, Millis(5000));
    open(&conntrack, &mut worker, 66, 66, Millis(5000)).unwrap();
}

#[test]
fn a_table_costs_at_most_96_bytes_a_connection() {
    let table = Table::<V4>::new(1_000_000, HashKey::random()).unwrap();
    let bytes = table.bytes();
    assert!(bytes.total() as f64 / 1e6 <= 96.0, "{bytes:?}");
}

#[test]
fn ten_full_tables_of_random_tuples_find_room() {
    // The index is made for twice as many tuples as there are entries: a full table must not run into chains that are too long.
    for _ in 0..10 {
        let key = HashKey::random();
        let index = Index::new(20_000).unwrap();
        for number in 1..=20_000u32 {
            let hash = key.hash([u64::from(number), 0]);
            assert_eq!(index.insert(hash, Handle::new(number, false), |_| false), Inserted::Placed, "{number}");
        }
    }
}

#[test]
fn an_account_counts_past_32_bits_and_measures_the_handshake() {
    let conntrack = Conntrack::new(8).unwrap().with_accounts().unwrap();
    let mut walker = conntrack.walker().unwrap();
    open(&conntrack, &mut walker, 1, 1, Millis(0)).unwrap();
    let table: &Table<V4> = conntrack.table();
    let found = table.look_up(table.hash(&original(1)), &original(1)).unwrap();
    let account = table.account(&found).unwrap();
    for _ in 0..3 {
        account.count(Direction::Reply, u32::MAX as usize);
    }
    account.asked_again(Micros(u32::MAX - 100));
    account.answered(Micros(199));
    let (view, _) = conntrack.find(UDP, original(1).view().source, original(1).view().destination, &timeouts()).unwrap();
    assert_eq!(view.account.unwrap().handshake, None, "it is not over");
    account.established(Micros(1199));
    let (view, _) = conntrack.find(UDP, original(1).view().source, original(1).view().destination, &timeouts()).unwrap();
    let handshake = Some(Handshake { backend: 300, client: 1000 });
    let expected = AccountView { packets: [0, 3], bytes: [0, 3 * u64::from(u32::MAX)], opened: Millis(0), handshake };
    assert_eq!(view.account, Some(expected));
}
