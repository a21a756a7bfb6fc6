//! What is sent is what etherparse reads, from user space and from the kernel alike; what comes is counted anew in every trial; the kernel's
//! generator on files that stand for its own.

use super::bench::{Trial, check_cpu};
use super::end::{Counts, Duty, Outgoing};
use super::frame::Writer;
use super::kernel::{KernelGenerator, progress_in};
use super::live::LiveFrames;
use super::pace::Profile;
use super::stamp::{PKTGEN, STAMP, tag};
use super::watch::Progress;
use super::*;
use crate::packet::tcp::flag;
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use std::collections::BTreeSet;
use std::net::IpAddr;

const OUT: Outgoing = Outgoing { index: 1, to: [2, 0, 0, 0, 0, 1], from: [2, 0, 0, 0, 0, 2] };
const SECOND: Profile = Profile { from: 1000, to: 1000, nanos: 1_000_000_000 };

fn plan(protocol: Protocol, ipv6: bool, sizes: Sizes, flood: bool) -> Plan {
    let (vip, clients) = if ipv6 { ("[fd00::100]:80", "2001:2::/48") } else { ("10.0.0.100:80", "198.18.0.0/15") };
    Plan::new(protocol, vip.parse().unwrap(), clients.parse().unwrap(), 100, sizes, flood).unwrap()
}

fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for ipv6 in [false, true] {
        for sizes in [Sizes::Smallest, Sizes::Fixed(1518), Sizes::Imix] {
            plans.extend([Protocol::Udp, Protocol::Tcp].map(|protocol| plan(protocol, ipv6, sizes, false)));
            plans.push(plan(Protocol::Tcp, ipv6, sizes, true));
        }
    }
    plans
}

fn order(flags: u8, opening: bool) -> Order {
    Order { profile: SECOND, limit: 1000, deadline: SECOND.deadline(), tag: tag(77, 5), flags, opening }
}

/// Checks lengths, checksums and stamp, and returns the client.
fn check(frame: &[u8], plan: &Plan, order: &Order, sequence: u64) -> (IpAddr, u16) {
    let headers = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let link = headers.link.unwrap().ethernet2().unwrap();
    assert_eq!((link.destination, link.source), (OUT.to, OUT.from));
    let payload = headers.payload.slice();
    let mut transport = headers.transport.clone().unwrap();
    let (source, destination): (IpAddr, IpAddr) = match headers.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(usize::from(ip.total_len), frame.len() - 14);
            transport.update_checksum_ipv4(&ip, payload).unwrap();
            (ip.source.into(), ip.destination.into())
        }
        NetHeaders::Ipv6(ip, _) => {
            transport.update_checksum_ipv6(&ip, payload).unwrap();
            (ip.source.into(), ip.destination.into())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(headers.transport, Some(transport.clone()), "{plan}");
    assert!(plan.clients.contains(&source) && destination == plan.vip.ip());
    let (port, to) = match transport {
        TransportHeader::Udp(udp) => (udp.source_port, udp.destination_port),
        TransportHeader::Tcp(tcp) => {
            assert_eq!((tcp.syn, tcp.ack), (order.flags & flag::SYN != 0, order.flags & flag::ACK != 0));
            (tcp.source_port, tcp.destination_port)
        }
        other => panic!("{other:?}"),
    };
    assert!(port >= 1024 && to == plan.vip.port());
    let (stamp, rest) = payload.split_at(STAMP);
    assert_eq!(stamp[..4], order.tag.to_be_bytes());
    assert_eq!(stamp[4..10], sequence.to_be_bytes()[2..]);
    let age = now() - u64::from_be_bytes(stamp[10..18].try_into().unwrap());
    assert!(age < 60_000_000_000, "{age} ns old");
    assert!(rest.iter().all(|byte| *byte == 0));
    (source, port)
}

fn length(plan: &Plan, order: &Order, sequence: u64) -> usize {
    if order.opening { plan.smallest() as usize } else { plan.pattern()[(sequence % 12) as usize] as usize }
}

#[test]
fn frames_of_user_space_are_what_they_say() {
    for plan in plans() {
        for order in [order(flag::ACK, false), order(flag::SYN, true)] {
            let mut writer = Writer::new(plan.clone(), OUT.to, OUT.from, 1);
            for sequence in (0..24).chain([0xffff_ffff_ffff]) {
                let mut frame = vec![0; writer.length(&order, sequence)];
                assert_eq!(frame.len(), length(&plan, &order, sequence));
                writer.write(&mut frame, &order, sequence, now());
                check(&frame, &plan, &order, sequence);
            }
        }
    }
}

#[test]
fn frames_of_the_kernel_are_the_same() {
    let place = Place { namespace: None, interface: "lo".into() };
    for plan in plans() {
        let mut sender = match LiveFrames::new(&place, &plan, &OUT, None) {
            Err(PktgenError::Xdp(crate::xdp::XdpError::NoPrivilege { .. })) => {
                println!("SKIP: not root, so no XDP program can be loaded");
                return;
            }
            made => made.unwrap(),
        };
        for order in [order(flag::ACK, false), order(flag::SYN, true)] {
            for sequence in 0..12 {
                let frame = sender.sample(&order, sequence).unwrap();
                assert_eq!(frame.len(), length(&plan, &order, sequence), "{plan}");
                let of_kernel = check(&frame, &plan, &order, sequence);
                if order.opening && !plan.flood {
                    let mut writer = Writer::new(plan.clone(), OUT.to, OUT.from, 1);
                    let mut same = vec![0; frame.len()];
                    writer.write(&mut same, &order, sequence, now());
                    assert_eq!(of_kernel, check(&same, &plan, &order, sequence), "the flows that are opened");
                }
            }
        }
    }
}

#[test]
fn opening_goes_through_every_flow_once() {
    let plan =
        Plan::new(Protocol::Udp, "10.0.0.1:80".parse().unwrap(), "10.9.0.0/29".parse().unwrap(), 100, Sizes::Smallest, false)
            .unwrap();
    let mut writer = Writer::new(plan.clone(), OUT.to, OUT.from, 1);
    let mut clients = BTreeSet::new();
    for sequence in 0..100 {
        let mut frame = vec![0; 60];
        let order = order(0, true);
        writer.write(&mut frame, &order, sequence, now());
        clients.insert(check(&frame, &plan, &order, sequence));
    }
    assert_eq!(clients.len(), 100);
    let addresses: BTreeSet<_> = clients.iter().map(|(address, _)| address.to_string()).collect();
    let wanted: BTreeSet<_> = (1..=6).map(|host| format!("10.9.0.{host}")).collect();
    assert_eq!(addresses, wanted, "neither the network's own nor the broadcast address");
}

#[test]
fn nonsense_is_refused_with_what_is_allowed() {
    let refused = |protocol, vip: &str, clients: &str, flows, sizes, flood| {
        let plan = Plan::new(protocol, vip.parse().unwrap(), clients.parse().unwrap(), flows, sizes, flood);
        plan.unwrap_err().to_string()
    };
    let (udp, tcp) = (Protocol::Udp, Protocol::Tcp);
    let small = Sizes::Smallest;
    assert!(refused(udp, "10.0.0.1:80", "fd00::/64", 1, small, false).contains("both must be of one"));
    assert!(refused(udp, "10.0.0.1:0", "10.0.0.0/8", 1, small, false).contains("1 to 65535"));
    assert!(refused(udp, "10.0.0.1:80", "10.1.0.1/32", 64_513, small, false).contains("1 to 64512"));
    assert!(refused(udp, "10.0.0.1:80", "10.0.0.0/8", 0, small, false).contains("--flows 0"));
    assert!(refused(udp, "10.0.0.1:80", "10.0.0.0/8", 1, small, true).contains("--protocol tcp"));
    let size = refused(tcp, "[fd00::1]:80", "fd00::/64", 1, Sizes::Fixed(64), false);
    assert!(size.contains("TCP over IPv6: 96 (headers and stamp) to 1518"), "{size}");
    assert!(refused(udp, "10.0.0.1:80", "10.0.0.0/8", 1, Sizes::Fixed(1519), false).contains("to 1518"));
    let plan = tests::plan(udp, false, Sizes::Fixed(1518), false);
    assert!(plan.check_mtu("eth0", 1500).is_ok());
    assert!(plan.check_mtu("eth0", 1400).unwrap_err().to_string().contains("up to 1418"));
}

/// A frame as the kernel's generator makes it, made now.
fn of_the_module(sequence: u32) -> Vec<u8> {
    let mut frame = vec![0; 60];
    let plan = tests::plan(Protocol::Udp, false, Sizes::Smallest, false);
    Writer::new(plan, OUT.to, OUT.from, 1).write(&mut frame, &order(0, false), sequence.into(), now());
    let wall = clock(rustix::time::ClockId::Realtime);
    let stamp = [PKTGEN, sequence, (wall / 1_000_000_000) as u32, (wall % 1_000_000_000 / 1000) as u32];
    frame[42..58].copy_from_slice(&stamp.map(u32::to_be_bytes).concat());
    frame
}

#[test]
fn the_module_s_sequence_numbers_are_new_in_every_trial() {
    use aya::{TestRun as _, TestRunOptions};
    let plan = tests::plan(Protocol::Udp, false, Sizes::Smallest, false);
    let (mut ebpf, mut counts) = match Counts::load(&plan, Duty { kernel: true, ..Duty::default() }) {
        Err(PktgenError::Xdp(crate::xdp::XdpError::NoPrivilege { .. })) => {
            println!("SKIP: not root, so no XDP program can be loaded");
            return;
        }
        loaded => loaded.unwrap(),
    };
    let program = crate::xdp::program_named(&mut ebpf, "arrive").unwrap();
    for trial in 1..=3 {
        counts.expect(PKTGEN).unwrap();
        for sequence in (1..=100).chain([7]) {
            let (frame, mut seen) = (of_the_module(sequence), vec![0; 60]);
            let options = TestRunOptions { data_in: Some(&frame), data_out: Some(&mut seen), ..TestRunOptions::new() };
            assert_eq!(program.test_run(options).unwrap().return_value, 1, "swallowed");
        }
        let arrived = counts.arrived(0).unwrap();
        assert_eq!((arrived.frames, arrived.duplicates), (100, 1), "trial {trial}");
    }
}

#[test]
fn a_rate_is_what_was_sent_over_the_time_that_it_was_due_in() {
    // Packets a second, nanoseconds, the last burst's time: packets a second that were offered.
    let offered = |from: u32, nanos, frames, last, elapsed| {
        let profile = Profile { from, to: from, nanos };
        let order = Order { profile, limit: profile.packets(), deadline: profile.deadline(), ..order(0, false) };
        let sent = Sent { frames, bytes: 0, nanos: order.spent(frames, last, elapsed) };
        let none = Arrived::default();
        let trial = Trial { profile, sent, arrived: none.clone(), replies: none, rows: Vec::new(), interrupted: false };
        (sent.frames * 1_000_000_000 / sent.nanos, trial.kept_up())
    };
    let millisecond = 1_000_000;
    assert_eq!(offered(1, 100 * millisecond, 1, 0, 10 * millisecond), (1, Some(true)), "one packet, seen 10 ms later");
    assert_eq!(offered(50, 500 * millisecond, 25, 480 * millisecond, 485 * millisecond), (50, Some(true)));
    assert_eq!(offered(1000, 300 * millisecond, 300, 299 * millisecond, 340 * millisecond), (1000, Some(true)), "seen late");
    assert_eq!(offered(1000, 300 * millisecond, 300, 399 * millisecond, 400 * millisecond), (750, Some(false)), "sent late");
    assert_eq!(offered(1000, 300 * millisecond, 200, 199 * millisecond, 400 * millisecond), (500, Some(false)), "given up");
    // Bursts of 50 every 50 µs, the last one cut short.
    assert_eq!(offered(1_000_000, millisecond, 1000, 950_000, 950_100), (1_000_000, Some(true)));
    assert_eq!(offered(0, 100 * millisecond, 1000, 90 * millisecond, 100 * millisecond), (10_000, None), "as fast as it goes");
}

#[test]
fn a_core_that_is_not_there_is_named_with_those_that_are() {
    assert!(check_cpu(crate::kernel::allowed_cpus().unwrap()[0]).is_ok());
    let refused = check_cpu(1_000_000).unwrap_err();
    assert!(matches!(refused, PktgenError::Plan(_)));
    let words = refused.to_string();
    assert!(words.contains("--cpu 1000000") && words.contains("allowed: "), "{words}");
}

#[test]
fn the_kernel_s_generator_is_told_what_to_send() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place { namespace: None, interface: "eth7".into() };
    let plan = tests::plan(Protocol::Udp, false, Sizes::Fixed(512), false);
    let missing = KernelGenerator::at(&directory.path().join("none"), &place, &plan, &OUT, None).err().unwrap().to_string();
    assert!(missing.contains("no pktgen") && missing.contains("--sender live-frames"), "{missing}");
    let tcp = tests::plan(Protocol::Tcp, false, Sizes::Smallest, false);
    assert!(
        KernelGenerator::at(directory.path(), &place, &tcp, &OUT, None).err().unwrap().to_string().contains("cannot send TCP")
    );

    let sofar = "Params: count 1000  min_pkt_size: 508\nCurrent:\n     pkts-sofar: 1000  errors: 0\n";
    for (file, text) in [("pgctrl", ""), ("kpktgend_3", ""), ("eth7", sofar)] {
        std::fs::write(directory.path().join(file), text).unwrap();
    }
    let generator = KernelGenerator::at(directory.path(), &place, &plan, &OUT, Some(3)).unwrap();
    let commands = generator.commands(&order(0, false));
    for wanted in ["count 1000", "pkt_size 508", "dst_mac 02:00:00:00:00:01", "dst 10.0.0.100", "udp_dst_min 80", "ratep 1000"] {
        assert!(commands.iter().any(|command| command == wanted), "{wanted}: {commands:?}");
    }
    let six = tests::plan(Protocol::Udp, true, Sizes::Smallest, false);
    let commands = KernelGenerator::at(directory.path(), &place, &six, &OUT, None).unwrap().commands(&order(0, false));
    assert!(commands.iter().any(|command| command.starts_with("src6 ")), "the module has no src6_min: {commands:?}");
    assert!(commands.iter().all(|command| !command.starts_with("src_min") && !command.starts_with("src_max")), "{commands:?}");
    let no_thread = KernelGenerator::at(directory.path(), &place, &plan, &OUT, Some(7)).err().unwrap().to_string();
    assert!(no_thread.contains("--cpu 7") && no_thread.ends_with("allowed: 3"), "{no_thread}");
    let began = format!("{sofar}     started: 5000000us  stopped: 6000001us idle: 900us\nResult: Idle\n");
    assert_eq!(progress_in(&began), Progress { frames: 1000, nanos: 1_000_001_000 });
    assert_eq!(progress_in("nothing"), Progress::default());
}

/// The files of a module whose CPU 3 sends out of eth7, as far as `files` says.
fn module(files: &[&str]) -> (tempfile::TempDir, KernelGenerator) {
    let directory = tempfile::tempdir().unwrap();
    for file in files.iter().chain(&["kpktgend_3"]) {
        std::fs::write(directory.path().join(file), "").unwrap();
    }
    let place = Place { namespace: None, interface: "eth7".into() };
    let plan = tests::plan(Protocol::Udp, false, Sizes::Smallest, false);
    if !files.contains(&"pgctrl") {
        // Nothing can be written to it.
        std::fs::create_dir(directory.path().join("pgctrl")).unwrap();
    }
    let generator = KernelGenerator::at(directory.path(), &place, &plan, &OUT, Some(3)).unwrap();
    (directory, generator)
}

#[test]
fn the_kernel_s_generator_lets_go_of_an_interface_that_it_could_not_start() {
    let (directory, mut generator) = module(&["pgctrl"]);
    std::fs::create_dir(directory.path().join("eth7")).unwrap(); // nothing can be written to that
    let failed = generator.send(&order(0, false), &Watch::new(std::sync::Arc::default())).unwrap_err().to_string();
    assert!(failed.contains("refuses \"count 1000\""), "{failed}");
    assert_eq!(std::fs::read_to_string(directory.path().join("kpktgend_3")).unwrap(), "rem_device_all\n");
}

#[test]
fn a_generator_that_cannot_be_told_to_stop_is_not_waited_for() {
    let (_directory, generator) = module(&["eth7"]);
    let watch = Watch::new(std::sync::Arc::default());
    watch.give_up();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let sending = std::thread::spawn(move || {
        ended.recv().unwrap_err(); // as long as the test
        Ok(())
    });
    let failed = generator.wait(sending, u64::MAX, &watch).unwrap_err().to_string();
    assert!(failed.contains("refuses \"stop\""), "{failed}");
    drop(end);
}
