//! Tracking of TCP on the packet's way: windows, resets, pick-up, tuples used again, packets that wait. The rules themselves are tested at
//! the protocol, and against the kernel in `tests/differential`.

use super::packet::{ACK, BACKEND_ISN, FIN_ACK, PSH_ACK, Packet, RST, SYN, SYN_ACK, Transport, tcp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World, peer_mac};
use weir::conntrack::TcpState;
use weir::conntrack::l4proto::Settings;
use weir::datapath::{DropReason, Fate, NextHop};
use weir::service::Protocol;

/// The segment, so much further in the numbers of its sender and of its receiver.
fn further(mut packet: Packet, by: u32, acknowledging: u32) -> Packet {
    let Transport::Tcp { sequence, acknowledgment, .. } = &mut packet.transport else { panic!("not TCP") };
    *sequence = sequence.wrapping_add(by);
    *acknowledgment = acknowledgment.wrapping_add(acknowledging);
    packet
}

fn state(world: &World, family: Family) -> Option<TcpState> {
    world.find(Protocol::Tcp, family.client(), family.vip())?.0.tcp_state
}

#[test]
fn segments_beyond_the_window_are_dropped() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.established(client, vip, backend);
        world.drops(FRONT, &further(tcp(client, vip, PSH_ACK), 1 << 20, 0).carrying(b"far"), DropReason::TcpWindow);
        world.drops(BACK, &further(tcp(backend, snat, ACK), 0, 1), DropReason::TcpWindow);
        world.drops(FRONT, &further(tcp(client, vip, FIN_ACK), 1 << 20, 0), DropReason::TcpWindow);
        assert_eq!(state(&world, family), Some(TcpState::Established));
        world.goes_on(&tcp(client, vip, PSH_ACK).carrying(b"near"), snat, backend);
        world.comes_back(&further(tcp(backend, snat, ACK), 0, 4), vip, client);
    }
}

#[test]
fn liberal_lets_them_through_but_no_reset_from_the_past() {
    for family in FAMILIES {
        let tracking = Settings { tcp_be_liberal: true, ..Default::default() };
        let mut world = World::new(Setup { tracking, ..Setup::default() });
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.established(client, vip, backend);
        world.goes_on(&further(tcp(client, vip, PSH_ACK), 1 << 20, 0).carrying(b"far"), snat, backend);
        world.drops(BACK, &further(tcp(backend, snat, RST), u32::MAX, 0), DropReason::TcpReset);
    }
}

#[test]
fn a_reset_that_is_not_exact_leaves_the_connection() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.established(client, vip, backend);
        // Also two of them: how long the connection lasts is not theirs to say.
        let timeout = world.timeouts().tcp_established;
        world.pass(timeout - 20_000);
        for ahead in [50, 60] {
            world.goes_on(&further(tcp(client, vip, RST), ahead, 0), snat, backend);
            assert_eq!(state(&world, family), Some(TcpState::Established));
        }
        world.pass(19_999);
        assert_eq!(world.sweep(), []);
        world.drops(FRONT, &further(tcp(client, vip, RST), u32::MAX, 0), DropReason::TcpReset);
        world.goes_on(&tcp(client, vip, RST), snat, backend);
        assert_eq!(state(&world, family), Some(TcpState::Close));
    }
}

#[test]
fn the_middle_of_a_connection_opens_one_if_asked_to() {
    for family in FAMILIES {
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        World::default().drops(FRONT, &tcp(client, vip, ACK), DropReason::TcpNotSyn);
        let tracking = Settings { tcp_loose: true, ..Default::default() };
        let mut world = World::new(Setup { tracking, ..Setup::default() });
        for flags in [FIN_ACK, RST, SYN_ACK] {
            world.drops(FRONT, &tcp(client, vip, flags), DropReason::TcpNotSyn);
        }
        let snat = world.opens(&tcp(client, vip, ACK), backend);
        world.comes_back(&further(tcp(backend, snat, PSH_ACK), 123_456, 0).carrying(b"somewhere"), vip, client);
        world.goes_on(&further(tcp(client, vip, ACK), 0, 123_465), snat, backend);
        assert_eq!(state(&world, family), Some(TcpState::Established));
    }
}

/// Both backends take turns: a connection that begins anew gets the next one, not the one it had.
#[test]
fn a_tuple_used_again_is_a_new_choice_of_backend() {
    for family in FAMILIES {
        let mut world = World::new(Setup { backends: 2, ..Setup::default() });
        let (client, vip) = (family.client(), family.vip());
        let snat = world.established(client, vip, family.backend());
        world.comes_back(&tcp(family.backend(), snat, RST), vip, client);
        let new = world.opens(&further(tcp(client, vip, SYN), 100_000, 0), family.second_backend());
        // A stale SYN/ACK of the old one opens nothing.
        world.drops(BACK, &tcp(family.backend(), snat, SYN_ACK), DropReason::NoService);
        world.comes_back(&further(tcp(family.second_backend(), new, SYN_ACK), 0, 100_000), vip, client);
    }
}

#[test]
fn a_connection_that_was_refused_is_gone() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.opens(&tcp(client, vip, SYN), backend);
        let refusal = further(tcp(backend, snat, super::packet::RST_ACK), BACKEND_ISN.wrapping_add(1).wrapping_neg(), 0);
        world.comes_back(&refusal, vip, client);
        assert_eq!(state(&world, family), None);
        assert_eq!(world.sweep().len(), 1);
        world.opens(&tcp(client, vip, SYN), backend);
    }
}

/// Until a packet that waits for a neighbour goes on, it has not been: a FIN that was sent once is noted once.
#[test]
fn a_segment_that_waits_is_noted_when_it_goes_on() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        world.established(client, vip, backend);
        world.datapath.next_hops.clear_neighbour(backend.ip(), BACK, 0);
        for _ in 0..3 {
            world.waits(FRONT, &tcp(client, vip, FIN_ACK), (BACK, backend.ip()));
            assert_eq!(state(&world, family), Some(TcpState::Established));
        }
        world.datapath.next_hops.set_neighbour(backend.ip(), NextHop { mac: peer_mac(BACK), port: BACK, vlan: 0 });
        let frame = world.arriving(FRONT, &tcp(client, vip, FIN_ACK)).frame();
        assert_eq!(world.send(FRONT, &frame).fate, Fate::Transmit(BACK));
        assert_eq!(state(&world, family), Some(TcpState::FinWait));
    }
}

#[test]
fn the_handshake_is_measured() {
    let mut world = World::default();
    let (client, vip, backend) = (Family::V4.client(), Family::V4.vip(), Family::V4.backend());
    let snat = world.opens(&tcp(client, vip, SYN), backend);
    world.pass(1000);
    world.goes_on(&tcp(client, vip, SYN), snat, backend);
    world.pass(3);
    world.comes_back(&tcp(backend, snat, SYN_ACK), vip, client);
    world.pass(40);
    world.goes_on(&tcp(client, vip, ACK), snat, backend);
    let account = world.find(Protocol::Tcp, client, vip).unwrap().0.account.unwrap();
    let handshake = account.handshake.unwrap();
    assert_eq!((handshake.backend, handshake.client, account.packets), (3_000, 40_000, [3, 1]));
}

/// A forged SYN, old data, and a SYN that is sent again and again go on; the connection ends when it would have without them.
#[test]
fn what_is_only_let_through_keeps_nothing_alive() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.established(client, vip, backend);
        let lasts = world.find(Protocol::Tcp, client, vip).unwrap().0.timeout;
        world.pass(lasts - 1000);
        world.goes_on(&further(tcp(client, vip, SYN), 700_000, 0), snat, backend);
        world.comes_back(&further(tcp(backend, snat, ACK), 0u32.wrapping_sub(200_000), 0), vip, client);
        assert_eq!(world.sweep().len(), 0);
        world.pass(1000);
        assert_eq!(world.sweep().len(), 1);

        let snat = world.opens(&tcp(client, vip, SYN), backend);
        let lasts = world.find(Protocol::Tcp, client, vip).unwrap().0.timeout;
        world.pass(lasts - 1000);
        world.goes_on(&tcp(client, vip, SYN), snat, backend);
        world.pass(1000);
        assert_eq!(world.sweep().len(), 1);
    }
}
