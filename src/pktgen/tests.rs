//! What is sent is what etherparse reads, from user space and from the kernel alike; the arithmetic of the histogram; the kernel's generator
//! on files that stand for its own.

use super::end::{BUCKETS, Outgoing, middle};
use super::frame::Writer;
use super::kernel::{KernelGenerator, packets_so_far};
use super::live::LiveFrames;
use super::pace::Profile;
use super::stamp::{STAMP, tag};
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

#[test]
fn buckets_hold_what_they_say() {
    let mut last = None;
    for bucket in 0..BUCKETS {
        let value = middle(bucket);
        assert!(last.is_none_or(|last| value > last), "bucket {bucket}");
        last = Some(value);
        // The formula of ends.bpf.c.
        let shift = (value >> 6).checked_ilog2().map_or(0, u64::from);
        let index = if value < 64 { value } else { ((shift + 1) << 6) + ((value >> shift) & 63) };
        assert_eq!(index, bucket as u64);
    }
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
    assert_eq!(packets_so_far(sofar), Some(1000));
    assert_eq!(packets_so_far("nothing"), None);
}
