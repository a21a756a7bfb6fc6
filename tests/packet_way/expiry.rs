//! How long connections live, in virtual time, and what comes after.

use super::packet::{ACK, FIN_ACK, RST, SYN, SYN_ACK, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, World};
use weir::conntrack::l4proto::STREAM_AFTER;
use weir::conntrack::{TcpState, Timeouts};
use weir::datapath::DropReason;
use weir::service::Protocol;

/// Who sends: the client or the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Client,
    Backend,
}
use Sender::{Backend, Client};

/// Segments that lead to each state, each behind those above it, and the timeout of the state.
type Leg = (TcpState, &'static [(Sender, u8)], fn(&Timeouts) -> u32);

const STATES: &[Leg] = &[
    (TcpState::SynSent, &[(Client, SYN)], |timeouts| timeouts.tcp_syn_sent),
    (TcpState::SynSent2, &[(Client, SYN), (Backend, SYN)], |timeouts| timeouts.tcp_syn_sent),
    (TcpState::SynRecv, &[(Client, SYN), (Backend, SYN_ACK)], |timeouts| timeouts.tcp_syn_recv),
    (TcpState::Established, &[(Client, SYN), (Backend, SYN_ACK), (Client, ACK)], |timeouts| timeouts.tcp_established),
    (TcpState::FinWait, &[(Client, SYN), (Backend, SYN_ACK), (Client, ACK), (Client, FIN_ACK)], |timeouts| timeouts.tcp_fin_wait),
    (TcpState::CloseWait, &[(Client, SYN), (Backend, SYN_ACK), (Client, ACK), (Client, FIN_ACK), (Backend, ACK)], |timeouts| {
        timeouts.tcp_close_wait
    }),
    (
        TcpState::LastAck,
        &[(Client, SYN), (Backend, SYN_ACK), (Client, ACK), (Client, FIN_ACK), (Backend, ACK), (Backend, FIN_ACK)],
        |timeouts| timeouts.tcp_last_ack,
    ),
    (
        TcpState::TimeWait,
        &[(Client, SYN), (Backend, SYN_ACK), (Client, ACK), (Client, FIN_ACK), (Backend, FIN_ACK), (Client, ACK)],
        |timeouts| timeouts.tcp_time_wait,
    ),
    (TcpState::Close, &[(Client, SYN), (Backend, SYN_ACK), (Client, ACK), (Backend, RST)], |timeouts| timeouts.tcp_close),
];

/// Brings a fresh connection of `family` to a state. Returns its SNAT address and port.
fn bring(world: &mut World, family: Family, segments: &[(Sender, u8)]) -> std::net::SocketAddr {
    let (client, vip, backend) = (family.client(), family.vip(), family.backend());
    let snat = world.opens(&tcp(client, vip, segments[0].1), backend);
    for (from, flags) in &segments[1..] {
        world.pass(10);
        match from {
            Client => world.goes_on(&tcp(client, vip, *flags), snat, backend),
            Backend => world.comes_back(&tcp(backend, snat, *flags), vip, client),
        }
    }
    snat
}

#[test]
fn each_tcp_state_lasts_as_long_as_its_timeout() {
    for family in FAMILIES {
        for (state, segments, timeout) in STATES {
            let mut world = World::default();
            let snat = bring(&mut world, family, segments);
            let (client, vip) = (family.client(), family.vip());
            let timeout = timeout(&world.timeouts());
            let (view, _) = world.find(Protocol::Tcp, client, vip).unwrap();
            assert_eq!((view.tcp_state, view.timeout), (Some(*state), timeout));

            world.pass(timeout - 1);
            assert_eq!(world.sweep(), []);
            world.pass(1);
            let closed = world.sweep();
            assert_eq!(closed.len(), 1, "{state:?}");
            assert_eq!((closed[0].tcp_state, closed[0].reply.destination), (Some(*state), snat));
            assert_eq!(world.datapath.conntrack.count(), 0);
            assert_eq!(world.find(Protocol::Tcp, client, vip), None);
            world.drops(FRONT, &tcp(client, vip, ACK), DropReason::TcpNotSyn);
            world.drops(BACK, &tcp(family.backend(), snat, ACK), DropReason::NoService);
            assert_eq!(world.sweep(), [], "it leaves once");
        }
    }
}

#[test]
fn udp_lasts_longer_if_the_client_goes_on_two_seconds_after_it_began() {
    for family in FAMILIES {
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let mut world = World::default();
        let timeouts = world.timeouts();
        let snat = world.opens(&udp(client, vip), backend);
        world.pass(timeouts.udp - 1);
        assert_eq!(world.sweep(), []);
        world.comes_back(&udp(backend, snat), vip, client);
        world.pass(timeouts.udp - 1);
        assert_eq!(world.sweep(), []);
        world.goes_on(&udp(client, vip), snat, backend);
        world.pass(timeouts.udp_stream - 1);
        assert_eq!(world.sweep(), []);
        world.pass(1);
        assert_eq!(world.sweep().len(), 1);
        world.drops(BACK, &udp(backend, snat), DropReason::NoService);

        world.opens(&udp(client, vip), backend);
        world.pass(timeouts.udp);
        assert_eq!(world.sweep().len(), 1);

        // Three datagrams at once are a forger's, who is answered, too; two seconds later somebody must still be there.
        let snat = world.opens(&udp(client, vip), backend);
        for wait in [0, STREAM_AFTER - 1] {
            world.pass(wait);
            world.comes_back(&udp(backend, snat), vip, client);
            world.goes_on(&udp(client, vip), snat, backend);
            assert!(!world.find(Protocol::Udp, client, vip).unwrap().0.assured);
        }
        world.pass(1);
        world.comes_back(&udp(backend, snat), vip, client);
        assert!(!world.find(Protocol::Udp, client, vip).unwrap().0.assured, "the backend alone");
        world.goes_on(&udp(client, vip), snat, backend);
        assert!(world.find(Protocol::Udp, client, vip).unwrap().0.assured);
        world.pass(timeouts.udp_stream);
        assert_eq!(world.sweep().len(), 1);

        // Whatever the backend says, the client may be a forged one.
        let snat = world.opens(&udp(client, vip), backend);
        world.comes_back(&udp(backend, snat), vip, client);
        world.comes_back(&udp(backend, snat), vip, client);
        world.pass(timeouts.udp);
        assert_eq!(world.sweep().len(), 1);
    }
}

#[test]
fn every_packet_begins_the_time_anew_whichever_way_it_goes() {
    let mut world = World::default();
    let (client, vip, backend) = (Family::V4.client(), Family::V4.vip(), Family::V4.backend());
    let snat = world.established(client, vip, backend);
    let almost = world.timeouts().tcp_established - 1;
    for _ in 0..10 {
        world.pass(almost);
        world.goes_on(&tcp(client, vip, ACK), snat, backend);
        world.pass(almost);
        world.comes_back(&tcp(backend, snat, ACK), vip, client);
        assert_eq!(world.sweep(), []);
    }
}

/// Silence is over only when the sweep says so: a packet that comes before it keeps the connection.
#[test]
fn a_packet_before_the_sweep_keeps_the_connection() {
    let mut world = World::default();
    let (client, vip, backend) = (Family::V4.client(), Family::V4.vip(), Family::V4.backend());
    let snat = world.established(client, vip, backend);
    world.pass(world.timeouts().tcp_established + 5);
    world.goes_on(&tcp(client, vip, ACK), snat, backend);
    assert_eq!(world.sweep(), []);
}

#[test]
fn a_new_syn_over_an_ended_connection_opens_another_one() {
    for family in FAMILIES {
        for (state, segments, _) in STATES.iter().filter(|(state, ..)| matches!(state, TcpState::TimeWait | TcpState::Close)) {
            let mut world = World::default();
            let (client, vip, backend) = (family.client(), family.vip(), family.backend());
            let old = bring(&mut world, family, segments);
            let new = world.opens(&tcp(client, vip, SYN), backend);
            assert_ne!(old, new, "{state:?}: the backend may still hold the old one in TIME_WAIT");
            assert_eq!(world.find(Protocol::Tcp, client, vip).unwrap().0.tcp_state, Some(TcpState::SynSent));
            world.drops(BACK, &tcp(backend, old, ACK), DropReason::NoService);
            world.comes_back(&tcp(backend, new, SYN_ACK), vip, client);

            let closed = world.sweep();
            assert_eq!(closed.iter().map(|view| view.reply.destination).collect::<Vec<_>>(), [old], "the old one leaves, once");
            assert_eq!(world.datapath.conntrack.count(), 1);
            world.goes_on(&tcp(client, vip, ACK), new, backend);
        }
    }
}

#[test]
fn a_syn_over_a_living_connection_changes_nothing() {
    for family in FAMILIES {
        for (state, segments, _) in STATES.iter().filter(|(state, ..)| !matches!(state, TcpState::TimeWait | TcpState::Close)) {
            let mut world = World::default();
            let (client, vip, backend) = (family.client(), family.vip(), family.backend());
            let snat = bring(&mut world, family, segments);
            world.goes_on(&tcp(client, vip, SYN), snat, backend);
            assert_eq!(world.find(Protocol::Tcp, client, vip).unwrap().0.tcp_state, Some(*state));
            assert_eq!(world.datapath.conntrack.count(), 1);
        }
    }
}

#[test]
fn a_deleted_connection_is_found_by_no_packet() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.established(client, vip, backend);
        assert!(world.datapath.conntrack.delete((Protocol::Tcp.number(), client, vip), world.now, &world.policy()));
        world.drops(FRONT, &tcp(client, vip, ACK), DropReason::TcpNotSyn);
        world.drops(BACK, &tcp(backend, snat, ACK), DropReason::NoService);
        assert_eq!(world.sweep().len(), 1);
        world.established(client, vip, backend);
    }
}
