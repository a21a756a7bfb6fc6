use super::pending::{ASK_EVERY, PACKETS, PACKETS_A_NEIGHBOUR, PATIENCE};
use super::*;
use crate::conntrack::Now;
use crate::datapath::{BURST, Counters, DropReason, Fate, Frame, PortId};
use crate::io::memory::{MemoryPorts, MemorySizes};
use crate::nat::tcp_reset::TcpReset;
use std::cell::Cell;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const A: PortId = PortId(0);
const B: PortId = PortId(1);

/// Frames say themselves what becomes of them: their first byte is an instruction, the second one an address.
#[derive(Default)]
struct Script {
    resolved: HashSet<IpAddr>,
    processed: usize,
}

const SEND: u8 = 0;
const REFUSE: u8 = 1;
const NEED: u8 = 2;
const FORGET: u8 = 3;
const PANIC: u8 = 4;

fn neighbour(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

impl Pipeline for Script {
    fn process(&mut self, frames: &mut [Frame<'_>], _now: Now) {
        self.processed += frames.len();
        for frame in frames {
            frame.fate = match frame.buffer[0] {
                SEND => Fate::Transmit(B),
                REFUSE => Fate::Drop(DropReason::NotIp),
                NEED if self.resolved.contains(&neighbour(frame.buffer[1])) => Fate::Transmit(B),
                NEED => Fate::Wait(B, neighbour(frame.buffer[1])),
                FORGET => Fate::Undecided,
                _ => panic!("told to"),
            };
        }
    }

    fn originate(&mut self, frame: &mut Frame<'_>, reset: &TcpReset) -> Fate {
        let neighbour = reset.destination.ip();
        if neighbour == self::neighbour(7) && !self.resolved.contains(&neighbour) {
            return Fate::Wait(B, neighbour);
        }
        frame.length = reset.write_frame(frame.buffer).unwrap();
        Fate::Transmit(B)
    }

    fn resolved(&self, port: PortId, neighbour: IpAddr) -> bool {
        assert_eq!(port, B);
        self.resolved.contains(&neighbour)
    }
}

fn counting_resolver(wakes: &Arc<AtomicUsize>) -> Arc<Resolver> {
    let wakes = Arc::clone(wakes);
    Arc::new(Resolver::new(move || {
        wakes.fetch_add(1, SeqCst);
    }))
}

/// Rounds over memory with a clock set by hand.
struct Bench {
    rounds: Rounds<MemoryPorts, Script>,
    shared: Arc<Shared>,
    resolver: Arc<Resolver>,
    wakes: Arc<AtomicUsize>,
    time: Cell<u64>,
    sizes: MemorySizes,
}

fn bench(sizes: MemorySizes) -> Bench {
    let shared = Arc::new(Shared::default());
    let wakes = Arc::new(AtomicUsize::new(0));
    let resolver = counting_resolver(&wakes);
    let ports = MemoryPorts::new(sizes, Arc::clone(&shared.counters));
    let rounds = Rounds::new(ports, Script::default(), Arc::clone(&resolver), Arc::clone(&shared));
    Bench { rounds, shared, resolver, wakes, time: Cell::new(5_000_000_000), sizes }
}

impl Bench {
    fn push(&mut self, bytes: &[u8]) {
        assert!(self.rounds.ports().push(A, bytes));
    }

    fn round_after(&mut self, milliseconds: u64) -> usize {
        self.time.set(self.time.get() + milliseconds * 1_000_000);
        let time = &self.time;
        self.rounds.round(&|| Monotonic(time.get()))
    }

    fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters().drops(reason).get()
    }

    fn assert_conserved(&self) {
        let counters = self.counters();
        let left = counters.rx.get() + counters.originated.get();
        assert_eq!(left, counters.tx.get() + counters.waiting.get() + counters.dropped());
    }

    /// Nothing is under way: every frame is back.
    fn assert_quiet(&mut self) {
        self.assert_conserved();
        assert!(!self.rounds.unfinished());
        assert_eq!(self.rounds.ports().free_frames(), self.sizes.frames);
    }

    fn questions(&self) -> Vec<IpAddr> {
        std::iter::from_fn(|| self.resolver.next()).map(|question| question.neighbour).collect()
    }
}

#[test]
fn a_packet_waits_for_its_neighbour_and_then_leaves_unchanged() {
    let mut bench = bench(MemorySizes::default());
    bench.push(&[NEED, 7, 1]);
    bench.push(&[NEED, 7, 2]);
    bench.push(&[SEND, 0, 3]);
    assert_eq!(bench.round_after(0), 3);
    assert_eq!(bench.rounds.ports().take_sent(B), [[SEND, 0, 3]]);
    assert_eq!(bench.questions(), [neighbour(7)]);
    assert_eq!((bench.counters().waiting.get(), bench.wakes.load(SeqCst)), (2, 1));
    bench.assert_conserved();

    let processed = bench.rounds.pipeline().processed;
    bench.round_after(50);
    assert_eq!(bench.rounds.pipeline().processed, processed, "not processed again before the neighbour is known");

    bench.rounds.pipeline().resolved.insert(neighbour(7));
    bench.round_after(50);
    assert_eq!(bench.rounds.ports().take_sent(B), [[NEED, 7, 1], [NEED, 7, 2]]);
    assert_eq!((bench.counters().rx.get(), bench.counters().tx.get(), bench.counters().originated.get()), (3, 3, 0));
    bench.assert_quiet();
}

#[test]
fn a_packet_waits_no_longer_than_its_time() {
    let mut bench = bench(MemorySizes::default());
    bench.push(&[NEED, 7]);
    bench.round_after(0);
    bench.round_after(u64::from(PATIENCE) - 1);
    assert_eq!(bench.counters().waiting.get(), 1);
    bench.round_after(1);
    assert_eq!((bench.counters().waiting.get(), bench.drops(DropReason::NeighbourUnresolved)), (0, 1));
    bench.assert_quiet();
}

#[test]
fn a_neighbour_is_asked_for_once_in_a_while_however_many_packets_need_it() {
    let mut bench = bench(MemorySizes::default());
    for _ in 0..ASK_EVERY {
        bench.push(&[NEED, 7]);
        bench.push(&[NEED, 8]);
        bench.round_after(1);
    }
    assert_eq!(bench.questions(), [neighbour(7), neighbour(8)]);
    bench.push(&[NEED, 7]);
    bench.round_after(1);
    assert_eq!(bench.questions(), [neighbour(7)]);
}

#[test]
fn one_dead_neighbour_does_not_take_the_room_of_the_others() {
    let mut bench = bench(MemorySizes::default());
    (0..PACKETS).for_each(|_| bench.push(&[NEED, 7]));
    bench.push(&[NEED, 8]);
    while bench.round_after(0) > 0 {}
    assert_eq!(bench.counters().waiting.get() as usize, PACKETS_A_NEIGHBOUR + 1);
    assert_eq!(bench.drops(DropReason::WaitQueueFull) as usize, PACKETS - PACKETS_A_NEIGHBOUR);
    bench.assert_conserved();
    bench.rounds.pipeline().resolved.insert(neighbour(8));
    bench.round_after(10);
    assert_eq!(bench.rounds.ports().take_sent(B), [[NEED, 8]]);
    bench.round_after(u64::from(PATIENCE));
    bench.assert_quiet();
}

#[test]
fn no_more_packets_wait_than_there_is_room_for() {
    let mut bench = bench(MemorySizes::default());
    (0..PACKETS + 40).for_each(|number| bench.push(&[NEED, (number % 100) as u8]));
    while bench.round_after(0) > 0 {}
    assert_eq!(bench.counters().waiting.get() as usize, PACKETS);
    assert_eq!(bench.drops(DropReason::WaitQueueFull), 40);
    bench.round_after(u64::from(PATIENCE));
    assert_eq!(bench.drops(DropReason::NeighbourUnresolved) as usize, PACKETS);
    bench.assert_quiet();
}

#[test]
fn packets_whose_neighbour_is_known_wait_on_while_no_frame_is_free() {
    let mut bench = bench(MemorySizes { frames: 4, ..Default::default() });
    bench.push(&[NEED, 7]);
    bench.round_after(0);
    bench.rounds.ports().stall(B);
    (0..4).for_each(|_| bench.push(&[SEND]));
    bench.rounds.pipeline().resolved.insert(neighbour(7));
    bench.round_after(5);
    assert_eq!(bench.counters().waiting.get(), 1, "all four frames are on the TX ring");
    bench.rounds.ports().restore(B);
    bench.round_after(5);
    bench.round_after(5);
    assert_eq!(bench.counters().waiting.get(), 0);
    bench.assert_quiet();
}

#[test]
fn a_full_tx_ring_costs_packets_but_no_frames() {
    let mut bench = bench(MemorySizes { tx_ring: 10, ..Default::default() });
    bench.rounds.ports().stall(B);
    (0..100).for_each(|_| bench.push(&[SEND]));
    while bench.round_after(0) > 0 {}
    assert_eq!((bench.counters().tx.get(), bench.drops(DropReason::TxRingFull)), (10, 90));
    assert!(bench.rounds.unfinished());
    bench.rounds.ports().restore(B);
    bench.round_after(0);
    bench.assert_quiet();
}

#[test]
fn every_frame_is_counted_once_whatever_becomes_of_it() {
    let mut bench = bench(MemorySizes { frames: 300, tx_ring: 32, ..Default::default() });
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for step in 0..5000 {
        for _ in 0..next() % 90 {
            let instruction = [SEND, SEND, SEND, REFUSE, NEED, NEED, FORGET][(next() % 7) as usize];
            bench.rounds.ports().push(A, &[instruction, (next() % 24) as u8]);
        }
        match next() % 40 {
            0 => bench.rounds.ports().stall(B),
            1 => bench.rounds.ports().unplug(B),
            2..8 => bench.rounds.ports().restore(B),
            8..12 => drop(bench.rounds.pipeline().resolved.insert(neighbour((step % 24) as u8))),
            12..16 => drop(bench.rounds.pipeline().resolved.remove(&neighbour((next() % 24) as u8))),
            _ => {}
        }
        bench.round_after(next() % 60);
        bench.assert_conserved();
        bench.questions();
    }
    bench.rounds.ports().restore(B);
    while bench.rounds.ports().arrived() > 0 {
        bench.round_after(0);
    }
    bench.round_after(u64::from(PATIENCE));
    bench.round_after(1);
    assert_eq!(bench.counters().waiting.get(), 0);
    bench.assert_quiet();
    for reason in [
        DropReason::TxRingFull,
        DropReason::PortDown,
        DropReason::WaitQueueFull,
        DropReason::NeighbourUnresolved,
        DropReason::Hook,
    ] {
        assert!(bench.drops(reason) > 0, "the walk never came to {}", reason.label());
    }
}

#[test]
fn bursts_are_timed() {
    let mut bench = bench(MemorySizes::default());
    bench.push(&[SEND]);
    let time = Cell::new(1_000_000);
    bench.rounds.round(&|| {
        time.set(time.get() + 640);
        Monotonic(time.get())
    });
    let histogram = bench.shared.burst_times.histogram();
    assert_eq!((histogram.len(), histogram.min()), (1, 640));
}

#[test]
fn who_lags_behind_tells_the_kernel_of_four_bursts_at_once() {
    let mut bench = bench(MemorySizes { frames: 8 * BURST, tx_ring: 8 * BURST, ..MemorySizes::default() });
    (0..5 * BURST + 1).for_each(|_| bench.push(&[SEND]));
    assert_eq!(bench.round_after(0), 4 * BURST);
    assert_eq!((bench.counters().bursts.get(), bench.shared.burst_times.histogram().len()), (4, 4));
    assert_eq!(bench.round_after(0), BURST + 1);
    assert_eq!(bench.round_after(0), 0);
    bench.assert_quiet();
}

fn start(frames: &[&[u8]]) -> (Worker, Arc<Shared>, Arc<AtomicUsize>) {
    let shared = Arc::new(Shared::default());
    let mut ports = MemoryPorts::counting(MemorySizes::default(), Arc::clone(&shared.counters));
    frames.iter().for_each(|frame| assert!(ports.push(A, frame)));
    let wakes = Arc::new(AtomicUsize::new(0));
    let resolver = counting_resolver(&wakes);
    let settings = WorkerSettings { id: 0, core: Some(0), when_idle: WhenIdle::Sleep, resolver, shared: Arc::clone(&shared) };
    let (worker, told) = Worker::start(settings, Script::default(), move || Ok::<_, StartError<()>>((ports, "open"))).unwrap();
    assert_eq!(told, "open");
    (worker, shared, wakes)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed().as_secs() < 20, "never happened: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_worker_serves_until_it_is_stopped() {
    let (worker, shared, wakes) = start(&[&[SEND], &[REFUSE], &[SEND]]);
    wait_until("three frames", || shared.counters.rx.get() == 3);
    assert!(!worker.has_died());
    assert_eq!(worker.join(), Ok(()));
    assert_eq!((shared.counters.tx.get(), shared.counters.dropped(), wakes.load(SeqCst)), (2, 1, 1));
}

#[test]
fn a_worker_that_panics_is_noticed() {
    let (worker, _, wakes) = start(&[&[PANIC]]);
    wait_until("the wake call", || wakes.load(SeqCst) == 1);
    wait_until("its end", || worker.has_died());
    assert_eq!(worker.join(), Err("told to".to_owned()));
}

#[test]
fn a_worker_without_ports_does_not_start() {
    let resolver = Arc::new(Resolver::new(|| {}));
    let settings = WorkerSettings { id: 3, core: None, when_idle: WhenIdle::Sleep, resolver, shared: Arc::default() };
    let refused = Worker::start(settings.clone(), Script::default(), || Err::<(MemoryPorts, ()), _>("queue 3 is taken"));
    assert!(matches!(refused, Err(StartError::Ports("queue 3 is taken"))));
    let settings = WorkerSettings { core: Some(100_000), ..settings };
    let refused = Worker::start(settings, Script::default(), || Err::<(MemoryPorts, ()), _>("not reached"));
    assert!(matches!(refused, Err(StartError::Core(3, 100_000, _))));
}

fn order(number: u32) -> TcpReset {
    let address = |last: u8| std::net::SocketAddr::from(([10, 0, 0, last], 80));
    TcpReset { source: address(1), destination: address(2), sequence: number, acknowledgment: None }
}

#[test]
fn orders_are_sent_a_bounded_number_a_round() {
    let mut bench = bench(MemorySizes::default());
    (0..100).for_each(|number| assert!(bench.shared.orders.give(order(number))));
    let mut rounds = Vec::new();
    while rounds.iter().sum::<usize>() < 100 {
        assert_eq!(bench.round_after(0), 0);
        let sent = bench.rounds.ports().take_sent(B);
        rounds.push(sent.len());
        bench.assert_conserved();
    }
    assert_eq!(rounds, [32, 32, 32, 4]);
    assert_eq!((bench.counters().originated.get(), bench.counters().tx.get()), (100, 100));
    bench.round_after(0);
    bench.assert_quiet();
}

#[test]
fn an_order_waits_for_its_neighbour_and_not_for_ever() {
    let mut bench = bench(MemorySizes::default());
    let waits = TcpReset { source: order(0).source, destination: ([10, 0, 0, 7], 1).into(), ..order(0) };
    assert!(bench.shared.orders.give(waits) && bench.shared.orders.give(order(1)));
    bench.round_after(0);
    assert_eq!(bench.rounds.ports().take_sent(B).len(), 1, "the other one does not wait for it");
    assert_eq!(bench.questions(), [neighbour(7)]);
    assert!(bench.rounds.unfinished());
    bench.assert_conserved();
    bench.round_after(200);
    assert_eq!(bench.questions(), [neighbour(7)], "asked again");
    bench.rounds.pipeline().resolved.insert(neighbour(7));
    bench.round_after(20);
    assert_eq!(bench.rounds.ports().take_sent(B).len(), 1);
    bench.assert_quiet();

    bench.rounds.pipeline().resolved.clear();
    assert!(bench.shared.orders.give(waits));
    bench.round_after(0);
    bench.round_after(1000);
    assert_eq!((bench.drops(DropReason::NeighbourUnresolved), bench.counters().originated.get()), (1, 3));
    bench.assert_quiet();
}

#[test]
fn orders_are_bounded_and_wait_for_frames() {
    let mut bench = bench(MemorySizes { frames: 8, ..Default::default() });
    let room = bench.shared.orders.room();
    (0..room as u32).for_each(|number| assert!(bench.shared.orders.give(order(number))));
    assert!(!bench.shared.orders.give(order(0)) && bench.shared.orders.room() == 0);
    bench.rounds.ports().stall(B);
    bench.round_after(0);
    bench.round_after(0);
    assert_eq!(bench.counters().tx.get(), 8, "as many as there are frames");
    bench.rounds.ports().restore(B);
    while bench.counters().tx.get() < room as u64 {
        bench.round_after(0);
        bench.assert_conserved();
    }
    bench.round_after(0);
    bench.assert_quiet();
}

/// As when a backend is gone: those for it wait, those for its clients leave at once.
#[test]
fn orders_that_wait_hold_up_no_others() {
    let mut bench = bench(MemorySizes::default());
    let waits = TcpReset { source: order(0).source, destination: ([10, 0, 0, 7], 1).into(), ..order(0) };
    for number in 0..500 {
        assert!(bench.shared.orders.give(waits) && bench.shared.orders.give(order(number)));
    }
    let mut rounds = 0;
    while bench.counters().tx.get() < 500 {
        bench.round_after(0);
        bench.assert_conserved();
        rounds += 1;
    }
    assert!(rounds <= 1000 / 32 + 1, "{rounds}");
    bench.round_after(0);
    assert_eq!(bench.drops(DropReason::NeighbourUnresolved), 500 - 256, "there is room for so many");
    bench.round_after(1000);
    assert_eq!(bench.drops(DropReason::NeighbourUnresolved), 500);
    bench.assert_quiet();
}
