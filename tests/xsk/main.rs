//! The AF_XDP ports on real interfaces: veth pairs in namespaces that each test makes for itself.
//!
//! ```text
//!   client                     weir                       server
//!  ┌─────────────┐   ┌──────────────────────────┐   ┌─────────────┐
//!  │ c0 10.1.0.1 ├───┤ l0 ═ the ports' frames ═ l1 ├───┤ s0 10.9.9.9 │
//!  └─────────────┘   └──────────────────────────┘   └─────────────┘
//! ```
//!
//! Two queues on each side. Instead of the datapath a pipeline of the test stands between them, which only changes the MAC addresses.
//! Needs root, iproute2 and ethtool; without them each test prints `SKIP` and says why.

#[path = "../support/namespace.rs"]
#[allow(dead_code, unreachable_pub)] // shared with the network tests, which use more of it
mod namespace;
#[path = "../support/program.rs"]
#[allow(dead_code, unreachable_pub)] // shared with the network tests, which use more of it
mod program;
mod wires;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use weir::datapath::{Counters, DropReason, Fate, PortId};
use weir::io::Ports;
use weir::io::xsk::{Attached, Got, Link, Mode, Settings, XskError, XskPorts};
use wires::{CLIENT_SIDE, Forwarder, SERVER_SIDE, Wires, binding, bindings, wires};

/// Small rings, so that a test goes around them often.
fn small() -> Settings {
    Settings { rx_ring: 256, tx_ring: 128, ..Settings::default() }
}

fn open(wires: &Wires, bindings: &[weir::io::xsk::Binding], settings: Settings) -> Result<XskPorts, XskError> {
    wires.weir.inside(|| XskPorts::open(bindings, &settings, Arc::default()))
}

/// Sends `count` numbered packets of `length` bytes to the server's echo in steps that its socket can hold, and checks each answer.
fn exchange(client: &UdpSocket, count: u32, length: usize) {
    let mut packet = vec![0xa5; length];
    let mut answer = vec![0; 2000];
    for step in 0..count.div_ceil(32) {
        let numbers: Vec<u32> = (step * 32..count.min(step * 32 + 32)).collect();
        for number in &numbers {
            packet[..4].copy_from_slice(&number.to_be_bytes());
            client.send(&packet).expect("send");
        }
        let mut seen: Vec<u32> = Vec::new();
        for _ in &numbers {
            let got = receive(client, &mut answer);
            assert_eq!(got, length);
            assert!(answer[4..got].iter().all(|byte| *byte == 0xa5), "changed on the way");
            seen.push(u32::from_be_bytes([answer[0], answer[1], answer[2], answer[3]]));
        }
        seen.sort_unstable();
        assert_eq!(seen, numbers);
    }
}

/// A receive with a time-out is not taken up again by itself when a signal comes between.
fn receive(client: &UdpSocket, answer: &mut [u8]) -> usize {
    loop {
        match client.recv(answer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome.expect("an answer within the time-out"),
        }
    }
}

#[test]
fn frames_go_both_ways_over_two_queues_and_none_is_lost() {
    let Some(wires) = wires("both ways") else { return };
    let forwarder = Forwarder::start(&wires, &bindings(Mode::Auto), small());
    assert!(forwarder.sockets.iter().all(|socket| socket.got == Got::Copy), "veth has no zero-copy: {:?}", forwarder.sockets);
    let _echo = wires.echo();
    // The sender's kernel spreads flows over its queues by a hash: with this many, neither queue stays empty.
    for _ in 0..32 {
        exchange(&wires.client_socket(), 250, 1400);
    }
    let statistics: Vec<_> = forwarder.sockets.iter().map(|socket| Arc::clone(&socket.statistics)).collect();
    let end = forwarder.stop();
    let counters = &end.counters;
    assert_eq!((counters.rx.get(), counters.tx.get(), counters.dropped()), (16_000, 16_000, 0));
    assert_eq!((counters.rx_bytes.get(), counters.tx_bytes.get()), (16_000 * 1442, 16_000 * 1442));
    assert_eq!(counters.bursts.get(), end.timed);
    let (free, held, total) = end.frames;
    assert_eq!((free + held, end.transmitting), (total, false), "every frame that was sent came back");
    for queue in statistics {
        let lost = queue.rx_dropped() + queue.rx_ring_full() + queue.fill_ring_empty() + queue.rx_invalid() + queue.tx_invalid();
        assert_eq!((lost, queue.filling(), queue.link()), (0, 512, Link::Up), "the fill ring is full again");
        assert!(queue.received() > 0);
    }
}

#[test]
fn a_queue_that_is_taken_is_named_and_can_be_had_once_it_is_free() {
    let Some(wires) = wires("taken queue") else { return };
    let one = [binding(CLIENT_SIDE, 1, Mode::Auto)];
    let holder = open(&wires, &one, small()).expect("the first one");
    let refused = open(&wires, &one, small()).expect_err("the second one");
    assert!(matches!(&refused, XskError::Busy { interface, queue: 1, .. } if interface == "l0"), "{refused}");
    // The kernel lets go of a closed socket's queue a moment later: binding again at once is what a restart does.
    drop(holder);
    open(&wires, &one, small()).expect("the third one");
}

#[test]
fn a_queue_listed_twice_is_refused() {
    let Some(wires) = wires("listed twice") else { return };
    let twice = [binding(CLIENT_SIDE, 0, Mode::Auto), binding(CLIENT_SIDE, 0, Mode::Auto)];
    let refused = open(&wires, &twice, small()).expect_err("the same queue twice");
    assert!(matches!(refused, XskError::Busy { queue: 0, .. }), "{refused}");
}

#[test]
fn what_cannot_be_bound_is_named() {
    let Some(wires) = wires("refusals") else { return };
    let refused = |change: &dyn Fn(&mut weir::io::xsk::Binding)| {
        let mut one = [binding(CLIENT_SIDE, 0, Mode::Auto)];
        change(&mut one[0]);
        open(&wires, &one, small()).expect_err("a refusal").to_string()
    };
    let insists = refused(&|binding| binding.mode = Mode::ZeroCopy);
    assert!(insists.starts_with("interface l0 queue 0: zero-copy was refused: "), "{insists}");
    let queue = refused(&|binding| binding.queue = 77);
    assert!(queue.starts_with("interface l0 queue 77: cannot bind an AF_XDP socket: "), "{queue}");
    let missing = refused(&|binding| binding.interface = "nowhere0".to_owned());
    assert!(missing.starts_with("interface nowhere0 queue 0: ") && missing.ends_with("there is no such interface"), "{missing}");
    let mtu = refused(&|binding| binding.mtu = 9000);
    assert!(mtu.starts_with("interface l0: MTU 9000 is above 3822"), "{mtu}");
}

#[test]
fn a_program_in_generic_mode_is_told_apart() {
    let Some(wires) = wires("generic") else { return };
    let mut one = binding(CLIENT_SIDE, 0, Mode::Generic);
    one.attached = Attached::Generic;
    let ports = open(&wires, &[one], small()).expect("a socket");
    assert_eq!(ports.sockets().expect("sockets")[0].got, Got::Generic);
}

/// Sends one frame out of `port` and reports whether it was counted as sent.
fn send_one(ports: &mut XskPorts, port: PortId) {
    let lent = ports.originate(1, &mut |frames| {
        frames[0].buffer[..60].fill(0xff);
        frames[0].length = 60;
        frames[0].fate = Fate::Transmit(port);
    });
    assert_eq!(lent, 1);
}

#[test]
fn an_interface_that_goes_down_costs_packets_until_it_is_up_again() {
    let Some(wires) = wires("link down") else { return };
    let counters = Arc::new(Counters::default());
    let all = bindings(Mode::Auto);
    let mut ports = wires.weir.inside(|| XskPorts::open(&all, &small(), Arc::clone(&counters))).expect("sockets");
    let down = || counters.drops(DropReason::PortDown).get();
    wires.weir.ip("link set l1 down");
    // The first one finds out.
    send_one(&mut ports, SERVER_SIDE);
    ports.flush().expect("down is not gone");
    send_one(&mut ports, SERVER_SIDE);
    assert_eq!((counters.tx.get(), down()), (1, 1));
    let links: Vec<Link> = ports.sockets().expect("sockets").iter().map(|socket| socket.statistics.link()).collect();
    assert_eq!(links.iter().filter(|link| **link == Link::Down).count(), 1, "{links:?}");
    wires.weir.ip("link set l1 up");
    ports.flush().expect("up again");
    send_one(&mut ports, SERVER_SIDE);
    assert_eq!((counters.tx.get(), down()), (2, 1));
    program::wait_until("both frames sent", Duration::from_secs(5), || {
        ports.flush().expect("flush");
        (!ports.transmitting()).then_some(())
    });
}

#[test]
fn an_interface_that_is_deleted_is_told_once_and_the_others_go_on() {
    let Some(wires) = wires("deleted") else { return };
    let counters = Arc::new(Counters::default());
    let all = bindings(Mode::Auto);
    let mut ports = wires.weir.inside(|| XskPorts::open(&all, &small(), Arc::clone(&counters))).expect("sockets");
    wires.weir.ip("link del l1");
    let mut told = Vec::new();
    for _ in 0..20 {
        send_one(&mut ports, SERVER_SIDE);
        told.extend(ports.flush().err());
        told.extend(ports.wait(Duration::from_millis(1)).err());
        send_one(&mut ports, CLIENT_SIDE);
    }
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert!(told.iter().all(|error| error.starts_with("interface l1 queue ") && error.contains(" is gone")), "{told:?}");
    assert!((1..=2).contains(&told.len()), "once for each queue: {told:?}");
    assert!(counters.drops(DropReason::PortDown).get() >= 19);
    assert_eq!(counters.originated.get(), 0);
    assert_eq!(counters.tx.get() + counters.dropped(), 40);
    let (free, held, total) = ports.frames();
    assert_eq!(free + held, total);
}
