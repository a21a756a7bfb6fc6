//! The table over millions of random operations: against a map, with evictions; and under threads that open, use, delete, flush, expire and
//! list at the same time. The operations follow from seeds, so what fails once fails again, as far as threads allow.

use super::*;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;

const UDP: u8 = 17;
const TIMEOUT: u32 = 1000;

fn timeouts() -> TimeoutPolicy {
    Timeouts { udp: TIMEOUT, udp_stream: 3 * TIMEOUT, ..Timeouts::default() }.into()
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(end)) >> 32) as u32
    }
}

fn original(client: u32) -> Tuple<V4> {
    let source = SocketAddr::from(([192, 0, 2 + (client >> 16) as u8, 1], client as u16));
    Tuple::new(UDP, source, SocketAddr::from(([10, 9, 9, 9], 53))).unwrap()
}

fn reply(port: u16) -> Tuple<V4> {
    let source = SocketAddr::from(([10, 1, 0, 1], 53));
    Tuple::new(UDP, source, SocketAddr::from(([10, 2, 0, 1], port))).unwrap()
}

fn port_of(view: &ConnectionView) -> u16 {
    assert_eq!(view.reply, reply(view.backend).view(), "{view:?}: half of another connection");
    view.backend
}

/// What became of an attempt to open.
#[derive(Debug, PartialEq)]
enum Opened {
    Placed,
    PortTaken,
    Clash,
    NoRoom,
}

/// Opens a connection with a SNAT port, which is also its backend; where room was made for it, how.
fn open(conntrack: &Conntrack, visit: &mut Visit<'_>, (client, port): (u32, u16), now: Millis) -> (Opened, Room) {
    let table: &Table<V4> = conntrack.table();
    let tuple = original(client);
    let hash = table.hash(&tuple);
    let mut room = Room::None;
    if !table.has_room(visit.hoard_v4) {
        room = table.early_drop(visit.hoard_v4, hash, Spared::Established, (now, &timeouts()), &mut |_| {});
        conntrack.ended(u64::from(matches!(room, Room::Evicted(_))));
    }
    let owner = Owner { service: 1, backend: port };
    let state = State::new(UDP, TcpState::None);
    let Some(connection) = table.open(visit.hoard_v4, &tuple, hash, owner, state, now) else {
        return (Opened::NoRoom, room);
    };
    if table.reserve(&connection, &reply(port)) != Reserved::Taken {
        table.discard(visit.hoard_v4, connection);
        return (Opened::PortTaken, room);
    }
    match table.confirm(connection) {
        Confirmed::Placed(_) => {
            conntrack.opened(1);
            (Opened::Placed, room)
        }
        Confirmed::Clash | Confirmed::Full => (Opened::Clash, room),
    }
}

/// A packet of this tuple: the connection is alive, and assured if the packet is a reply. Its port, if there is one.
fn packet(conntrack: &Conntrack, tuple: &Tuple<V4>, now: Millis) -> Option<u16> {
    let table: &Table<V4> = conntrack.table();
    let found = table.look_up(table.hash(tuple), tuple)?;
    let port = found.entry.owner().backend;
    assert_eq!(found.entry.tuple(Direction::Reply).view(), reply(port).view(), "half of another connection");
    if found.direction == Direction::Reply {
        let mut seen = found.entry.state();
        while seen.is_live() {
            match found.entry.change_state(seen, seen.with(State::SEEN_REPLY | State::ASSURED)) {
                Ok(()) => break,
                Err(now) => seen = now,
            }
        }
    }
    found.entry.touch(now);
    Some(port)
}

fn list(conntrack: &Conntrack) -> Vec<ConnectionView> {
    let mut listed = Vec::new();
    conntrack.for_each(&timeouts(), &mut |view| listed.push(view.clone()));
    listed
}

fn sweep(conntrack: &Conntrack, now: Millis, closed: &mut dyn FnMut(&ConnectionView)) {
    while !conntrack.sweep(now, &timeouts(), 1 << 20, closed).wrapped {}
}

/// What the table should be.
#[derive(Default)]
struct Model {
    live: HashMap<u32, Known>,
    /// Ports of what was deleted or lost a clash and was not swept yet.
    leaving: HashSet<u16>,
    taken: HashSet<u16>,
}

#[derive(Clone, Copy)]
struct Known {
    port: u16,
    seen: Millis,
    assured: bool,
}

impl Model {
    fn forget(&mut self, client: u32) -> Known {
        let known = self.live.remove(&client).expect("a connection that the model has");
        self.taken.remove(&known.port);
        known
    }

    fn sweep(&mut self, now: Millis) -> HashSet<u16> {
        let over = |known: &Known| now.since(known.seen) >= if known.assured { 3 * TIMEOUT } else { TIMEOUT };
        let ended: Vec<u32> = self.live.iter().filter(|(_, known)| over(known)).map(|(client, _)| *client).collect();
        let ended = ended.into_iter().map(|client| self.forget(client).port).collect();
        self.leaving.clear();
        ended
    }

    /// The place of one that was leaving was taken, and its port is free, or the newcomer's.
    fn reclaim(&mut self, table: &Table<V4>, newcomers: Option<u16>) {
        let before = self.leaving.len();
        self.leaving.retain(|port| {
            let tuple = reply(*port);
            newcomers != Some(*port) && table.find_any(table.hash(&tuple), |entry, direction| entry.has_tuple(&tuple, direction))
        });
        assert_eq!(before - self.leaving.len(), 1);
    }
}

/// A table for 400 connections, wanted by 5000 clients with 4000 ports: it is full most of the time.
#[test]
fn two_million_operations_are_those_of_a_map() {
    const CLIENTS: u32 = 5000;
    const CAPACITY: usize = 400;
    let conntrack = Conntrack::with_key(CAPACITY, HashKey::new([3, 4])).unwrap();
    let mut walker = conntrack.walker().unwrap();
    let (mut model, mut random, mut now) = (Model::default(), Random(0x1234_5678_9abc_def1), Millis(u32::MAX - 100_000));
    let (mut evictions, mut reclaimed, mut full, mut placed) = (0, 0, 0, 0);
    for operation in 0..2_000_000 {
        let client = random.below(CLIENTS);
        match random.below(1000) {
            0..=499 => {
                let port = 1 + random.below(4000) as u16;
                let mut visit = walker.enter();
                let (opened, room) = open(&conntrack, &mut visit, (client, port), now);
                match &room {
                    Room::Evicted(evicted) => {
                        evictions += 1;
                        let gone = u32::from(evicted.original.source.port());
                        let was = model.forget(gone);
                        assert_eq!(was.port, port_of(evicted));
                        assert!(!was.assured, "an established one gave way");
                        assert!(model.leaving.is_empty(), "there were places that nobody needed");
                    }
                    Room::Reclaimed => {
                        reclaimed += 1;
                        let has_port = matches!(opened, Opened::Placed | Opened::Clash);
                        model.reclaim(conntrack.table(), has_port.then_some(port));
                    }
                    Room::None => {}
                }
                // Who gave way was gone before the newcomer looked for a port.
                let (known, taken) =
                    (model.live.contains_key(&client), model.taken.contains(&port) || model.leaving.contains(&port));
                match opened {
                    Opened::Placed => {
                        assert!(!known && !taken, "{client} {port}");
                        placed += 1;
                    }
                    Opened::PortTaken => assert!(taken, "{port}"),
                    Opened::Clash => {
                        assert!(known && !taken, "{client} {port}");
                        model.leaving.insert(port);
                    }
                    Opened::NoRoom => full += 1,
                }
                if opened == Opened::Placed {
                    model.live.insert(client, Known { port, seen: now, assured: false });
                    model.taken.insert(port);
                }
            }
            500..=799 => {
                let known = model.live.get_mut(&client);
                assert_eq!(packet(&conntrack, &original(client), now), known.as_ref().map(|known| known.port));
                known.into_iter().for_each(|known| known.seen = now);
            }
            800..=899 => {
                if let Some(known) = model.live.get_mut(&client) {
                    assert_eq!(packet(&conntrack, &reply(known.port), now), Some(known.port));
                    (known.seen, known.assured) = (now, true);
                }
            }
            900..=969 => {
                let tuple = original(client).view();
                let deleted = conntrack.delete((UDP, tuple.source, tuple.destination), now, &timeouts());
                assert_eq!(deleted, model.live.contains_key(&client));
                if deleted {
                    let port = model.forget(client).port;
                    model.leaving.insert(port);
                }
            }
            970..=993 => now = now.after(random.below(40)),
            994..=998 => {
                let mut closed = HashSet::new();
                let leaving = model.leaving.clone();
                sweep(&conntrack, now, &mut |view| assert!(closed.insert(port_of(view)), "closed twice: {view:?}"));
                let ended = model.sweep(now);
                assert!(ended.is_subset(&closed) && closed.iter().all(|port| ended.contains(port) || leaving.contains(port)));
            }
            _ if operation % 10 == 0 => {
                let flushed = conntrack.end_where(DestroyReason::Deleted, now, &timeouts(), &mut |view| view.backend % 16 == 5);
                let doomed: Vec<u32> =
                    model.live.iter().filter(|(_, known)| known.port % 16 == 5).map(|(client, _)| *client).collect();
                assert_eq!(flushed, doomed.len() as u64);
                for client in doomed {
                    let port = model.forget(client).port;
                    model.leaving.insert(port);
                }
            }
            _ => {
                let listed: HashMap<u32, u16> =
                    list(&conntrack).iter().map(|view| (u32::from(view.original.source.port()), port_of(view))).collect();
                assert_eq!(listed.len(), model.live.len());
                assert!(model.live.iter().all(|(client, known)| listed.get(client) == Some(&known.port)));
                assert_eq!(conntrack.count(), model.live.len());
                assert!(conntrack.ending() >= model.leaving.len());
            }
        }
    }
    assert!(reclaimed > 10_000, "{reclaimed} were reclaimed");
    assert!(evictions > 10_000 && full > 0 && placed > 100_000, "{evictions} gave way, {full} had no room, {placed} had one");
}

/// Inserters, a deleter, a flusher and the control thread change the table while it is listed: residents appear in every list exactly once,
/// nothing appears twice.
#[test]
fn lists_are_whole_while_everything_changes() {
    const CAPACITY: usize = 6000;
    const RESIDENTS: u32 = 2000;
    const LISTS: usize = 150;
    let conntrack = Conntrack::new(CAPACITY).unwrap();
    let mut walker = conntrack.walker().unwrap();
    for client in 0..RESIDENTS {
        let port = 60_000 - client as u16;
        assert_eq!(open(&conntrack, &mut walker.enter(), (client, port), Millis(0)).0, Opened::Placed);
        packet(&conntrack, &reply(port), Millis(0));
        // Others between them, so that residents are everywhere in the table.
        open(&conntrack, &mut walker.enter(), (RESIDENTS + client, 1 + client as u16), Millis(0));
    }
    let (stop, changes) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    let change = |seed: u64| {
        let (conntrack, stop, changes) = (&conntrack, &stop, &changes);
        move || {
            let (mut walker, mut random) = (conntrack.walker().unwrap(), Random(seed));
            while !stop.load(Relaxed) {
                let mut visit = walker.enter();
                for _ in 0..32 {
                    let client = RESIDENTS + random.below(8000);
                    if random.below(3) == 0 {
                        let tuple = original(client).view();
                        conntrack.delete((UDP, tuple.source, tuple.destination), Millis(0), &timeouts());
                    } else {
                        open(conntrack, &mut visit, (client, 1 + random.below(20_000) as u16), Millis(0));
                    }
                    changes.fetch_add(1, Relaxed);
                }
            }
        }
    };
    /// Also when an assertion fails: else the others would go on for ever.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for seed in [0x1111_2222_3333_4444, 0x5555_6666_7777_8888] {
            scope.spawn(change(seed));
        }
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                sweep(&conntrack, Millis(0), &mut |view| assert!(port_of(view) <= 20_000, "a resident: {view:?}"));
                let mut doomed = |view: &ConnectionView| view.backend <= 20_000 && view.backend % 50 == 7;
                conntrack.end_where(DestroyReason::Deleted, Millis(0), &timeouts(), &mut doomed);
            }
        });
        for _ in 0..LISTS {
            let listed = list(&conntrack);
            let pairs: HashSet<_> = listed.iter().map(|view| (view.original, view.reply)).collect();
            assert_eq!(pairs.len(), listed.len(), "a connection was listed twice");
            let residents = listed.iter().filter(|view| port_of(view) > 20_000).count();
            assert_eq!(residents, RESIDENTS as usize, "residents are missing or doubled");
        }
    });
    assert!(changes.into_inner() > 1000);
    let listed = list(&conntrack);
    let tuples: HashSet<_> = listed.iter().map(|view| view.original).collect();
    assert_eq!((listed.len(), listed.len()), (conntrack.count(), tuples.len()), "list = count = unique at rest");
}
