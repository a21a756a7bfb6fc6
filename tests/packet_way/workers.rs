//! Several workers over one table: either may see either direction, and both may see the same first packet.

use super::packet::{ACK, PSH_ACK, SYN, SYN_ACK, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use weir::conntrack::{Millis, SourceLimits};
use weir::datapath::{BURST, Counters, Datapath, DropReason, Fate, Frame, Lane, PortId};
use weir::packet::{be16, parse};
use weir::service::Limits;

/// A worker without ports: bursts in, what they have become out.
struct Worker<'a> {
    datapath: &'a Datapath,
    lane: Lane,
    counters: Arc<Counters>,
}

impl<'a> Worker<'a> {
    fn new(datapath: &'a Datapath) -> Self {
        let counters = Arc::new(Counters::default());
        Self { datapath, lane: datapath.lane(Arc::clone(&counters)).unwrap(), counters }
    }

    fn process(&mut self, port: PortId, frames: &[Vec<u8>], now: Millis) -> Vec<(Fate, Vec<u8>)> {
        let mut rooms: Vec<_> = frames
            .iter()
            .map(|frame| {
                let mut room = frame.clone();
                room.resize(2048, 0);
                room
            })
            .collect();
        let mut burst: Vec<_> = rooms.iter_mut().zip(frames).map(|(room, frame)| Frame::new(room, frame.len(), port)).collect();
        self.datapath.process(&mut self.lane, &mut burst, now);
        burst.iter().map(|frame| (frame.fate, frame.bytes().to_vec())).collect()
    }
}

fn client(family: Family, number: u16) -> SocketAddr {
    SocketAddr::new(family.client().ip(), number + 1)
}

/// The source port that a translated frame has.
fn source_port(frame: &[u8]) -> u16 {
    be16(frame, parse(frame).unwrap().l4())
}

#[test]
fn each_packet_may_come_to_another_worker() {
    for family in FAMILIES {
        let world = World::default();
        let mut workers = [0, 1, 2].map(|_| Worker::new(&world.datapath));
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let frame = |port, packet| world.arriving(port, &packet).frame();
        let (fate, sent) = workers[0].process(FRONT, &[frame(FRONT, tcp(client, vip, SYN))], world.now).remove(0);
        assert_eq!(fate, Fate::Transmit(BACK));
        let snat = SocketAddr::new(family.snat(), source_port(&sent));
        for (worker, port, packet) in [
            (1, BACK, tcp(backend, snat, SYN_ACK)),
            (2, FRONT, tcp(client, vip, ACK)),
            (0, BACK, tcp(backend, snat, PSH_ACK).carrying(b"hello")),
            (1, FRONT, tcp(client, vip, ACK)),
        ] {
            let out = if port == FRONT { BACK } else { FRONT };
            let (fate, sent) = workers[worker].process(port, &[frame(port, packet)], world.now).remove(0);
            assert_eq!(fate, Fate::Transmit(out));
            let (from, to) = if port == FRONT { (snat, backend) } else { (vip, client) };
            let headers = parse(&sent).unwrap();
            assert_eq!(headers.ports(&sent), u32::from(from.port()) << 16 | u32::from(to.port()));
            assert_eq!((headers.source(&sent), headers.destination(&sent)), (from.ip(), to.ip()));
        }
        let established: u64 = workers.iter().map(|worker| worker.counters.established.get()).sum();
        let opened: u64 = workers.iter().map(|worker| worker.counters.new_connections.get()).sum();
        assert_eq!((opened, established), (1, 4));
    }
}

/// Both workers get the same first packets at the same moment. Who confirms second adopts the other one's connection.
#[test]
fn the_same_first_packet_on_two_workers_opens_one_connection() {
    const CLIENTS: u16 = 4096;
    for family in FAMILIES {
        let mut world = World::new(Setup { connections: 2 * usize::from(CLIENTS) + 200, ..Default::default() });
        let frames: Vec<_> =
            (0..CLIENTS).map(|number| world.arriving(FRONT, &tcp(client(family, number), family.vip(), SYN)).frame()).collect();
        let barrier = Barrier::new(2);
        let (datapath, now) = (&world.datapath, world.now);
        let run = || {
            let mut worker = Worker::new(datapath);
            let mut ports = Vec::new();
            for burst in frames.chunks(BURST) {
                barrier.wait();
                for (fate, sent) in worker.process(FRONT, burst, now) {
                    assert_eq!(fate, Fate::Transmit(BACK));
                    ports.push(source_port(&sent));
                }
            }
            (ports, worker.counters.new_connections.get(), worker.counters.established.get())
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(run);
            (run(), other.join().unwrap())
        });
        assert_eq!(one.0, other.0, "both send the packets of one client from one port");
        assert_eq!(one.1 + other.1, u64::from(CLIENTS), "opened once");
        assert_eq!(one.2 + other.2, u64::from(CLIENTS), "and known to the other one");
        assert_eq!(world.datapath.conntrack.count(), usize::from(CLIENTS));
        let backends = world.backends.iter().filter(|backend| backend.address() == family.backend());
        assert_eq!(backends.map(|backend| backend.member.connections()).sum::<u32>(), u32::from(CLIENTS));
        let mut listed = 0;
        world.datapath.conntrack.for_each(&world.policy(), &mut |_| listed += 1);
        assert_eq!(listed, CLIENTS);
        let counted: u32 = (0..8).map(|service| world.datapath.conntrack.conncount().of_service(service)).sum();
        assert_eq!(counted, u32::from(CLIENTS), "who lost a clash has given its place back");
        assert_eq!(world.sweep(), [], "what was given up is freed without being told of");
        assert_eq!(world.datapath.conntrack.count(), usize::from(CLIENTS));
    }
}

/// Two workers get other clients at the same moment, and there is room for few of them: for exactly so many.
#[test]
fn a_limit_is_exact_though_two_workers_open_at_once() {
    const ROOM: u32 = 700;
    let source = SourceLimits { connections: Some(ROOM), rate: None };
    let few = Limits { connections: Some(ROOM), ..Default::default() };
    for (limits, backend_limit) in [(few, None), (Limits { source, ..Default::default() }, None), (Limits::default(), Some(ROOM))]
    {
        let mut world = World::new(Setup { connections: 5000, limits, backend_limit, ..Default::default() });
        let family = Family::V4;
        let frames: Vec<_> =
            (0..2048).map(|number| world.arriving(FRONT, &tcp(client(family, number), family.vip(), SYN)).frame()).collect();
        let (mine, others) = frames.split_at(frames.len() / 2);
        let barrier = Barrier::new(2);
        let (datapath, now) = (&world.datapath, world.now);
        let run = |frames: &[Vec<u8>]| {
            let mut worker = Worker::new(datapath);
            for burst in frames.chunks(BURST) {
                barrier.wait();
                worker.process(FRONT, burst, now);
            }
            worker.counters.new_connections.get()
        };
        let opened = std::thread::scope(|scope| {
            let other = scope.spawn(|| run(others));
            run(mine) + other.join().unwrap()
        });
        assert_eq!((opened, world.datapath.conntrack.count()), (u64::from(ROOM), ROOM as usize), "{limits:?}");
        world.pass(world.timeouts().tcp_syn_sent + 1);
        assert_eq!(world.sweep().len(), ROOM as usize);
        let counts = world.datapath.conntrack.conncount();
        assert_eq!((counts.of_service(0), world.backends[0].member.connections()), (0, 0));
        world.opens(&tcp(client(family, 1), family.vip(), SYN), family.backend());
    }
}

/// Two workers open and use connections while the control thread ends them: what leaves is translated, and the books balance.
#[test]
fn connections_end_while_workers_run() {
    const CLIENTS: u16 = 600;
    const ENOUGH: u64 = 3000;
    let mut world = World::new(Setup { connections: 2000, ..Default::default() });
    let timeouts = world.policy();
    let clock = AtomicU32::new(world.now.0);
    let (closed, working) = (AtomicU64::new(0), AtomicU32::new(2));
    let datapath = &world.datapath;
    let frames: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let family = FAMILIES[usize::from(number % 2)];
            world.arriving(FRONT, &udp(client(family, number), family.vip())).frame()
        })
        .collect();
    let work = |first: usize| {
        let _leaving = Leaving(&working);
        let mut worker = Worker::new(datapath);
        for round in 0.. {
            if closed.load(Ordering::Relaxed) >= ENOUGH {
                break;
            }
            // Each client is silent for long enough to be ended every few rounds.
            let now = Millis(clock.fetch_add(timeouts.common.udp / 5, Ordering::Relaxed));
            let burst: Vec<_> = (0..BURST).map(|n| frames[(first + round * 37 + n * 5) % frames.len()].clone()).collect();
            for ((fate, sent), frame) in worker.process(FRONT, &burst, now).iter().zip(&burst) {
                // What has ended is not free before the other worker's burst is over; while that one does not get its turn the table fills.
                if *fate == Fate::Drop(DropReason::TableFull) {
                    continue;
                }
                assert_eq!(*fate, Fate::Transmit(BACK));
                let (was, is) = (parse(frame).unwrap(), parse(sent).unwrap());
                let family = if was.source(frame).is_ipv4() { Family::V4 } else { Family::V6 };
                assert_eq!((is.source(sent), is.destination(sent)), (family.snat(), family.backend().ip()));
                assert!(world.setup.snat_ports.contains(&source_port(sent)));
            }
        }
        worker.counters.new_connections.get()
    };
    let opened: u64 = std::thread::scope(|scope| {
        let workers = [0, 300].map(|first| scope.spawn(move || work(first)));
        while working.load(Ordering::Relaxed) > 0 {
            let now = Millis(clock.load(Ordering::Relaxed));
            datapath.conntrack.sweep(now, &timeouts, 100, &mut |_| {
                closed.fetch_add(1, Ordering::Relaxed);
            });
        }
        workers.map(|worker| worker.join().unwrap()).into_iter().sum()
    });
    let closed = closed.into_inner();
    assert_eq!(world.datapath.conntrack.count() as u64, opened - closed);
    world.now = Millis(clock.load(Ordering::Relaxed)).after(timeouts.common.udp);
    // The first round goes on where the control thread stopped.
    assert_eq!((world.sweep().len() + world.sweep().len()) as u64, opened - closed);
    assert_eq!(world.datapath.conntrack.count(), 0);
}

/// Counts a worker out, also one that failed: the control thread waits for all of them.
struct Leaving<'a>(&'a AtomicU32);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
