//! SCTP, DCCP, GRE and echoes: what each tells apart, how it is rewritten, and what it refuses.

use super::packet::{Packet, Transport};
use super::transports::{Crc, Other, chunk, dccp, gre, init, reply, request, sctp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World};
use std::net::SocketAddr;
use weir::conntrack::l4proto::STREAM_AFTER;
use weir::conntrack::l4proto::{Settings, Verify};
use weir::datapath::DropReason;
use weir::service::Protocol;

fn world() -> World {
    World::new(Setup { all_protocols: true, ..Setup::default() })
}

fn at(address: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.ip(), port)
}

/// The VIP of services without a port.
fn vip(family: Family) -> SocketAddr {
    family.any_port_vip(0)
}

fn icmp_of(family: Family) -> Protocol {
    if family == Family::V4 { Protocol::Icmp } else { Protocol::Icmpv6 }
}

#[test]
fn echoes_are_told_apart_by_their_identifier() {
    for family in FAMILIES {
        let (mut world, backend) = (world(), at(family.backend(), 0));
        // Two clients with the same identifier, one with two, and one with an identifier that looks like type and code of an echo.
        let clients = [
            at(family.client(), 1000),
            at(family.far_client(), 1000),
            at(family.client(), 1001),
            at(family.client(), 0x0800),
            at(family.client(), 0x8000),
            at(family.client(), 0),
        ];
        let mut given = Vec::new();
        for client in clients {
            // The far client is reached through a gateway, whose link address `comes_back` does not expect.
            let snat = world.opens(&request(client, vip(family)), backend);
            assert!(!given.contains(&snat), "{snat} twice");
            given.push(snat);
        }
        for (client, snat) in clients.into_iter().zip(&given).filter(|(client, _)| client.ip() == family.client().ip()) {
            world.comes_back(&reply(backend, *snat), vip(family), client);
            world.goes_on(&request(client, vip(family)).carrying(&[9; 1000]), *snat, backend);
            let (view, _) = world.find(icmp_of(family), client, vip(family)).expect("a connection");
            assert!(view.seen_reply);
            assert_eq!((view.original.source, view.reply.destination), (client, *snat));
            assert_eq!(view.timeout, world.timeouts().icmp);
        }
        assert_eq!(world.datapath.conntrack.count(), clients.len());
        world.pass(world.timeouts().icmp);
        assert_eq!(world.sweep().len(), clients.len());
    }
}

#[test]
fn echoes_that_belong_nowhere() {
    for family in FAMILIES {
        let (mut world, backend) = (world(), at(family.backend(), 0));
        let client = at(family.client(), 0x0800);
        let looks_like_one = at(family.client(), if family == Family::V4 { 0x0800 } else { 0x8000 });
        world.drops(FRONT, &reply(client, at(vip(family), 5)), DropReason::IcmpUnrequested);
        let snat = world.opens(&request(looks_like_one, vip(family)), backend);
        world.drops(FRONT, &reply(client, at(vip(family), looks_like_one.port())), DropReason::IcmpUnrequested);
        world.drops(BACK, &reply(backend, at(snat, snat.port() ^ 1)), DropReason::NoService);
        world.drops(BACK, &request(at(backend, snat.port()), at(snat, 0)), DropReason::NoService);
        world.drops(FRONT, &request(client, at(family.vip(), 0)), DropReason::NoService);
        for (packet, port) in [(request(client, vip(family)), FRONT), (reply(backend, snat), BACK)] {
            let mut frame = world.arriving(port, &packet).frame();
            *frame.last_mut().unwrap() ^= 1;
            let outcome = world.send(port, &frame);
            assert_eq!(outcome.moved.get("drop icmp_checksum"), Some(&1), "{outcome:?}");
        }
        assert_eq!(world.datapath.conntrack.count(), 1);
    }
}

const KEY: u16 = 0x2000;
const CHECKSUM: u16 = 0x8000;
const SEQUENCE: u16 = 0x1000;

#[test]
fn tunnels_are_told_apart_by_their_key() {
    for family in FAMILIES {
        let (mut world, backend) = (world(), at(family.backend(), 0));
        let (client, other) = (at(family.client(), 0), at(family.far_client(), 0));
        let keyed = |from, to, key: u32| gre(from, to, KEY, &[&key.to_be_bytes(), b"inner packet".as_slice()].concat());
        let plain = |from, to| gre(from, to, 0, b"inner");
        let pptp = |from, to, call: u16| {
            gre(from, to, KEY | SEQUENCE | 1, &[&[0, 4], &call.to_be_bytes()[..], &[0, 0, 0, 1], b"ppp!"].concat())
        };
        let snat = world.opens(&keyed(client, vip(family), 7), backend);
        world.opens(&keyed(client, vip(family), 0xdead_beef), backend);
        // One such client a SNAT address and backend; there is one SNAT address.
        world.drops(FRONT, &keyed(other, vip(family), 7), DropReason::GreClash);
        world.opens(&keyed(other, vip(family), 8), backend);
        world.comes_back(&keyed(backend, snat, 7), vip(family), client);
        world.drops(BACK, &keyed(backend, snat, 9), DropReason::NoService);
        // The key stands behind a checksum, which covers nothing that is rewritten.
        let summed = |from, to| gre(from, to, KEY | CHECKSUM | SEQUENCE, &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 5]).summed();
        world.goes_on(&summed(client, vip(family)), snat, backend);
        // Without a key: by addresses. So is PPTP, whose call ids are different in the two directions.
        world.opens(&plain(client, vip(family)), backend);
        world.goes_on(&pptp(client, vip(family), 77), snat, backend);
        world.comes_back(&pptp(backend, snat, 33), vip(family), client);
        world.drops(FRONT, &plain(other, vip(family)), DropReason::GreClash);
        let keys: Vec<Option<u32>> = {
            let mut keys = Vec::new();
            world.datapath.conntrack.for_each(&world.policy(), &mut |view| keys.push(view.key));
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys, [None, Some(7), Some(8), Some(0xdead_beef)]);
        // One that goes on after it was answered lasts longer.
        world.pass(STREAM_AFTER);
        world.goes_on(&keyed(client, vip(family), 7), snat, backend);
        world.goes_on(&plain(client, vip(family)), snat, backend);
        world.pass(world.timeouts().gre);
        assert_eq!(world.sweep().len(), 2, "those with the keys 8 and 0xdeadbeef");
        world.opens(&keyed(other, vip(family), 8), backend);
    }
}

/// RFC 2784, section 2.4: over header and payload. Every packet of a tunnel is looked at, since each one renews it.
#[test]
fn a_checksum_of_a_tunnel_is_verified_where_there_is_one() {
    for family in FAMILIES {
        let backend = at(family.backend(), 0);
        let (client, any) = (at(family.client(), 0), vip(family));
        for length in [0, 1, 2, 7, 1000] {
            let summed = |from, to| gre(from, to, CHECKSUM, &vec![0; 4 + length]).summed();
            let damaged = |from, to| {
                let packet = summed(from, to);
                let last = packet.payload.len() - 1;
                let payload: Vec<u8> = packet.payload.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == last)).collect();
                packet.carrying(&payload)
            };
            let mut world = world();
            world.drops(FRONT, &damaged(client, any), DropReason::GreChecksum);
            assert_eq!(world.datapath.conntrack.count(), 0);
            let snat = world.opens(&summed(client, any), backend);
            world.comes_back(&summed(backend, snat), any, client);
            world.drops(FRONT, &damaged(client, any), DropReason::GreChecksum);
            world.drops(BACK, &damaged(backend, snat), DropReason::GreChecksum);
            // Without the flag there is none, whatever stands there.
            world.goes_on(&gre(client, any, 0, &vec![7; length]), snat, backend);
        }
        // Who looks at no checksums does not look at this one, nor is it looked at where it may be partial.
        let tracking = Settings { checksum: Verify::None, ..Settings::default() };
        for setup in [Setup { tracking, ..Setup::default() }, Setup { recompute: true, ..Setup::default() }] {
            let mut world = World::new(Setup { all_protocols: true, ..setup });
            world.opens(&gre(client, any, CHECKSUM, &[1, 2, 0, 0, 5]), backend);
        }
    }
}

#[test]
fn a_second_backend_is_a_second_place_for_a_tunnel() {
    let mut world = World::new(Setup { all_protocols: true, backends: 2, ..Setup::default() });
    let (one, two) = (at(Family::V4.client(), 0), at(Family::V4.far_client(), 0));
    world.opens(&gre(one, vip(Family::V4), 0, b"a"), at(Family::V4.backend(), 0));
    world.opens(&gre(two, vip(Family::V4), 0, b"b"), at(Family::V4.second_backend(), 0));
}

#[test]
fn no_tunnel_sends_these() {
    let client = at(Family::V4.client(), 0);
    for (flags, behind) in [
        (0x0002, vec![0; 8]),
        (0x4000, vec![0; 8]),
        (0x0001, vec![0; 8]),
        (0xa001, vec![0; 8]),
        (KEY, vec![0; 3]),
        (KEY | CHECKSUM | SEQUENCE, vec![0; 11]),
    ] {
        world().drops(FRONT, &gre(client, vip(Family::V4), flags, &behind), DropReason::GreHeader);
    }
}

const CLIENT_TAG: u32 = 0xc11e_0001;
const BACKEND_TAG: u32 = 0xbac0_0002;

/// Packets of an association: from the client, or from its backend.
struct Association {
    world: World,
    client: SocketAddr,
    vip: SocketAddr,
    backend: SocketAddr,
    snat: SocketAddr,
}

impl Association {
    /// INIT has been sent on.
    fn opened(family: Family) -> Self {
        let (mut world, client, vip, backend) = (world(), family.client(), family.vip(), family.backend());
        let snat = world.opens(&sctp(client, vip, 0, &[init(1, CLIENT_TAG)]), backend);
        Self { world, client, vip, backend, snat }
    }

    fn established(family: Family) -> Self {
        let mut it = Self::opened(family);
        it.backend(CLIENT_TAG, &[init(2, BACKEND_TAG)]);
        it.client(BACKEND_TAG, &[chunk(10, 0, b"cookie"), chunk(0, 3, b"bundled data")]);
        it.backend(CLIENT_TAG, &[chunk(11, 0, b""), chunk(3, 0, &[0; 12])]);
        assert_eq!(it.state(), "ESTABLISHED");
        it
    }

    fn client(&mut self, tag: u32, chunks: &[Vec<u8>]) {
        self.world.goes_on(&sctp(self.client, self.vip, tag, chunks), self.snat, self.backend);
    }

    fn backend(&mut self, tag: u32, chunks: &[Vec<u8>]) {
        self.world.comes_back(&sctp(self.backend, self.snat, tag, chunks), self.vip, self.client);
    }

    fn client_drops(&mut self, tag: u32, chunks: &[Vec<u8>], reason: DropReason) {
        self.world.drops(FRONT, &sctp(self.client, self.vip, tag, chunks), reason);
    }

    fn backend_drops(&mut self, tag: u32, chunks: &[Vec<u8>], reason: DropReason) {
        self.world.drops(BACK, &sctp(self.backend, self.snat, tag, chunks), reason);
    }

    fn state(&self) -> &'static str {
        self.world.find(Protocol::Sctp, self.client, self.vip).and_then(|(view, _)| view.state).unwrap_or("none")
    }
}

#[test]
fn an_association_lives_and_ends() {
    for family in FAMILIES {
        let mut it = Association::opened(family);
        assert_eq!(it.state(), "CLOSED");
        it.client(0, &[init(1, CLIENT_TAG)]);
        it.backend(CLIENT_TAG, &[init(2, BACKEND_TAG)]);
        assert_eq!(it.state(), "COOKIE_WAIT");
        it.client(BACKEND_TAG, &[chunk(10, 0, b"cookie")]);
        assert_eq!(it.state(), "COOKIE_ECHOED");
        it.backend(CLIENT_TAG, &[chunk(11, 0, b"")]);
        assert_eq!(it.state(), "ESTABLISHED");
        it.client(BACKEND_TAG, &[chunk(0, 3, &[1; 1000]), chunk(0, 3, b"odd")]);
        it.backend(CLIENT_TAG, &[chunk(4, 0, &[0; 20])]);
        it.client(BACKEND_TAG, &[chunk(5, 0, &[0; 20])]);
        it.client(BACKEND_TAG, &[chunk(7, 0, &[0; 4])]);
        assert_eq!(it.state(), "SHUTDOWN_SENT");
        it.backend(CLIENT_TAG, &[chunk(8, 0, b"")]);
        assert_eq!(it.state(), "SHUTDOWN_ACK_SENT");
        it.client(BACKEND_TAG, &[chunk(14, 0, b"")]);
        assert_eq!(it.state(), "CLOSED");
        // The same ports again: another association.
        let before = it.world.find(Protocol::Sctp, it.client, it.vip).unwrap().0.reply;
        let snat = it.world.opens(&sctp(it.client, it.vip, 0, &[init(1, 5)]), it.backend);
        assert_ne!(snat, before.destination);
    }
}

#[test]
fn verification_tags() {
    for family in FAMILIES {
        let data = || [chunk(0, 3, b"data")];
        let mut it = Association::opened(family);
        it.client_drops(7, &[init(1, CLIENT_TAG)], DropReason::SctpTag);
        it.backend_drops(7, &[init(2, BACKEND_TAG)], DropReason::SctpTag);
        it.backend_drops(0, &data(), DropReason::SctpTag);
        it.client_drops(BACKEND_TAG, &[chunk(10, 0, b"cookie")], DropReason::SctpTag);
        it.backend(CLIENT_TAG, &[init(2, BACKEND_TAG)]);
        it.client_drops(BACKEND_TAG ^ 1, &[chunk(10, 0, b"cookie")], DropReason::SctpTag);
        it.client_drops(BACKEND_TAG, &data(), DropReason::SctpTag);
        let mut it = Association::established(family);
        for wrong in [0, CLIENT_TAG, BACKEND_TAG ^ 1] {
            it.client_drops(wrong, &data(), DropReason::SctpTag);
            it.client_drops(wrong, &[chunk(7, 0, &[0; 4])], DropReason::SctpTag);
            it.client_drops(wrong, &[chunk(6, 0, b"")], DropReason::SctpTag);
        }
        it.backend_drops(BACKEND_TAG, &data(), DropReason::SctpTag);
        it.client(BACKEND_TAG, &data());
        // A forged INIT takes nothing from it, nor does the answer that it gets.
        it.client(0, &[init(1, 0x6666)]);
        it.backend(CLIENT_TAG, &data());
        it.backend(0x6666, &[chunk(6, 0, b"")]);
        assert_eq!(it.state(), "ESTABLISHED");
        it.backend_drops(0x6666, &data(), DropReason::SctpTag);
        // A client that has really restarted shows it by the cookie.
        it.backend(0x6666, &[init(2, 0x7777)]);
        it.client(0x7777, &[chunk(10, 0, b"cookie")]);
        it.backend(0x6666, &[chunk(11, 0, b"")]);
        it.client(0x7777, &data());
        it.client_drops(BACKEND_TAG, &data(), DropReason::SctpTag);
        // RFC 9260, section 8.5.1 (B): an ABORT reflects the tag if its sender has none.
        it.backend(0x7777, &[chunk(6, 1, b"")]);
        assert_eq!(it.state(), "CLOSED");
    }
}

/// Whoever forges INITs does not know what the backend answers to them: neither they nor the answers take anything from the handshake.
#[test]
fn a_forged_init_disturbs_no_handshake() {
    let (forged, answer) = (0x6666, 0x7777);
    for family in FAMILIES {
        for (before_ack, before_cookie, after_cookie) in
            [(1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 0, 0), (0, 3, 0), (1, 1, 1), (4, 4, 4)]
        {
            let mut it = Association::opened(family);
            let forge = |it: &mut Association, times: u32| {
                for time in 0..times {
                    it.client(0, &[init(1, forged + time)]);
                    it.backend(forged + time, &[init(2, answer + time)]);
                }
            };
            forge(&mut it, before_ack);
            // The client sends its own again, and the backend offers another tag each time.
            it.client(0, &[init(1, CLIENT_TAG)]);
            it.backend(CLIENT_TAG, &[init(2, BACKEND_TAG)]);
            forge(&mut it, before_cookie);
            it.backend_drops(0x5555, &[init(2, 9)], DropReason::SctpTag);
            it.client(BACKEND_TAG, &[chunk(10, 0, b"cookie")]);
            forge(&mut it, after_cookie);
            it.client(BACKEND_TAG, &[chunk(10, 0, b"cookie")]);
            it.backend(CLIENT_TAG, &[chunk(11, 0, b"")]);
            assert_eq!(it.state(), "ESTABLISHED");
            it.client(BACKEND_TAG, &[chunk(0, 3, b"data")]);
            it.backend(CLIENT_TAG, &[chunk(3, 0, &[0; 12])]);
            it.client_drops(answer, &[chunk(0, 3, b"data")], DropReason::SctpTag);
        }
    }
}

/// A client that begins anew with another tag before its handshake is over gets through, and the tags of the new one hold.
#[test]
fn a_client_that_restarts_within_its_handshake_gets_through() {
    for answers in [0, 1, 2] {
        let mut it = Association::opened(Family::V4);
        for answer in 0..answers {
            it.backend(CLIENT_TAG, &[init(2, BACKEND_TAG + answer)]);
        }
        it.client(0, &[init(1, 0x6666)]);
        it.backend(0x6666, &[init(2, 0x7777)]);
        it.client(0x7777, &[chunk(10, 0, b"cookie")]);
        it.backend(0x6666, &[chunk(11, 0, b"")]);
        it.client(0x7777, &[chunk(0, 3, b"data")]);
        it.client_drops(BACKEND_TAG, &[chunk(0, 3, b"data")], DropReason::SctpTag);
        it.backend_drops(CLIENT_TAG, &[chunk(3, 0, &[0; 12])], DropReason::SctpTag);
        assert_eq!(it.state(), "ESTABLISHED");
    }
    // Of two answers to one INIT the client takes either.
    for taken in [0, 1] {
        let mut it = Association::opened(Family::V4);
        it.backend(CLIENT_TAG, &[init(2, BACKEND_TAG)]);
        it.client(0, &[init(1, CLIENT_TAG)]);
        it.backend(CLIENT_TAG, &[init(2, BACKEND_TAG + 1)]);
        it.client(BACKEND_TAG + taken, &[chunk(10, 0, b"cookie")]);
        it.backend(CLIENT_TAG, &[chunk(11, 0, b"")]);
        it.client(BACKEND_TAG + taken, &[chunk(0, 3, b"data")]);
    }
}

#[test]
fn an_association_that_is_refused() {
    let mut it = Association::opened(Family::V4);
    it.backend(CLIENT_TAG, &[chunk(6, 0, b"")]);
    assert_eq!(it.state(), "CLOSED");
    it.world.opens(&sctp(it.client, it.vip, 0, &[init(1, 9)]), it.backend);
}

#[test]
fn packets_that_open_no_association() {
    let (client, vip) = (Family::V4.client(), Family::V4.vip());
    for (tag, chunks) in [
        (5, vec![chunk(0, 3, b"data")]),
        (5, vec![chunk(4, 0, &[0; 20])]),
        (5, vec![init(1, 7)]),
        (5, vec![init(2, 7)]),
        (0, vec![chunk(6, 0, b"")]),
        (5, vec![chunk(10, 0, b"cookie")]),
    ] {
        world().drops(FRONT, &sctp(client, vip, tag, &chunks), DropReason::SctpNotInit);
    }
    let mut it = Association::established(Family::V4);
    it.backend_drops(0, &[init(1, 7)], DropReason::SctpInvalid);
    it.client_drops(BACKEND_TAG, &[chunk(11, 0, b"")], DropReason::SctpInvalid);
}

#[test]
fn chunks_that_are_malformed() {
    let (client, vip) = (Family::V4.client(), Family::V4.vip());
    for (chunks, reason) in [
        (vec![], DropReason::SctpLength),
        (vec![vec![0, 0, 0, 3]], DropReason::SctpLength),
        (vec![vec![0, 0, 0, 0]], DropReason::SctpLength),
        (vec![vec![0, 0, 0, 99, 1, 2, 3, 4]], DropReason::SctpLength),
        (vec![vec![0, 0, 0, 8, 1, 2, 3, 4, 5]], DropReason::SctpLength),
        (vec![chunk(1, 0, &[1; 15])], DropReason::SctpLength),
        (vec![init(1, 0)], DropReason::SctpChunks),
        (vec![init(1, 7), chunk(0, 3, b"data")], DropReason::SctpChunks),
        (vec![chunk(0, 3, b"data"), init(2, 7)], DropReason::SctpChunks),
        (vec![chunk(14, 0, b""), chunk(14, 0, b"")], DropReason::SctpChunks),
        (vec![chunk(0, 3, b"data"), chunk(10, 0, b"cookie")], DropReason::SctpChunks),
        (vec![chunk(0, 3, b"data"), chunk(11, 0, b"")], DropReason::SctpChunks),
    ] {
        world().drops(FRONT, &sctp(client, vip, 0, &chunks), reason);
    }
    // The padding of the last chunk may be missing.
    let mut it = Association::established(Family::V4);
    it.client(BACKEND_TAG, &[vec![0, 3, 0, 7, 1, 2, 3]]);
}

#[test]
fn checksums_of_sctp() {
    for family in FAMILIES {
        let mut it = Association::established(family);
        let with = |packet: Packet, checksum| {
            let Transport::Other(Other::Sctp { tag, .. }) = packet.transport else { panic!("not SCTP") };
            Packet { transport: Transport::Other(Other::Sctp { tag, checksum }), ..packet }
        };
        let data = sctp(it.client, it.vip, BACKEND_TAG, &[chunk(0, 3, b"data")]);
        it.world.drops(FRONT, &with(data.clone(), Crc::Wrong), DropReason::SctpChecksum);
        // RFC 9653: none, which stays none.
        let (snat, backend) = (it.snat, it.backend);
        it.world.goes_on(&with(data, Crc::Zero), snat, backend);
        // Where the sender leaves it to its hardware, it is made anew.
        let mut world = World::new(Setup { all_protocols: true, recompute: true, ..Setup::default() });
        let open = sctp(it.client, it.vip, 0, &[init(1, CLIENT_TAG)]);
        let frame = world.arriving(FRONT, &with(open.clone(), Crc::Zero)).frame();
        let (_, sent) = world.send(FRONT, &frame).sent.unwrap();
        let l4 = open.l4();
        let port = u16::from_be_bytes([sent[l4], sent[l4 + 1]]);
        let expected = sctp(at(snat, port), backend, 0, &[init(1, CLIENT_TAG)]).frame();
        assert_eq!(sent[l4..], expected[l4..]);
    }
}

/// Type numbers of DCCP.
const REQUEST: u8 = 0;
const RESPONSE: u8 = 1;
const DATA: u8 = 2;
const DCCP_ACK: u8 = 3;
const DATA_ACK: u8 = 4;
const CLOSE_REQ: u8 = 5;
const CLOSE: u8 = 6;
const RESET: u8 = 7;
const SYNC: u8 = 8;

struct Dccp {
    world: World,
    client: SocketAddr,
    vip: SocketAddr,
    backend: SocketAddr,
    snat: SocketAddr,
    /// The client's last sequence number.
    sequence: u64,
}

impl Dccp {
    fn opened(family: Family) -> Self {
        let (mut world, client, vip, backend) = (world(), family.client(), family.vip(), family.backend());
        let snat = world.opens(&dccp(client, vip, REQUEST, 0x1234_5678_9abc, 0), backend);
        Self { world, client, vip, backend, snat, sequence: 0x1234_5678_9abc }
    }

    fn open(family: Family) -> Self {
        let mut it = Self::opened(family);
        it.backend(RESPONSE, 0xaaaa_0000_0001);
        it.client(DCCP_ACK, 0xaaaa_0000_0001);
        it.backend(DATA_ACK, 0xaaaa_0000_0002);
        assert_eq!(it.state(), "OPEN");
        it
    }

    /// A packet of the client that acknowledges this.
    fn client(&mut self, kind: u8, acknowledgment: u64) {
        self.sequence += 1;
        let packet = dccp(self.client, self.vip, kind, self.sequence, acknowledgment).carrying(b"odd");
        self.world.goes_on(&packet, self.snat, self.backend);
    }

    fn backend(&mut self, kind: u8, sequence: u64) {
        let packet = dccp(self.backend, self.snat, kind, sequence, 0x1234_5678_9abc).carrying(b"data");
        self.world.comes_back(&packet, self.vip, self.client);
    }

    fn client_drops(&mut self, kind: u8) {
        self.world.drops(FRONT, &dccp(self.client, self.vip, kind, 1, 1), DropReason::DccpInvalid);
    }

    fn backend_drops(&mut self, kind: u8) {
        self.world.drops(BACK, &dccp(self.backend, self.snat, kind, 1, 1), DropReason::DccpInvalid);
    }

    fn state(&self) -> &'static str {
        self.world.find(Protocol::Dccp, self.client, self.vip).and_then(|(view, _)| view.state).unwrap_or("none")
    }

    fn assured(&self) -> bool {
        self.world.find(Protocol::Dccp, self.client, self.vip).is_some_and(|(view, _)| view.assured)
    }
}

#[test]
fn a_dccp_connection_lives_and_ends() {
    for family in FAMILIES {
        let mut it = Dccp::opened(family);
        assert_eq!(it.state(), "REQUEST");
        for kind in [DATA, DCCP_ACK, DATA_ACK, CLOSE] {
            it.client_drops(kind);
            it.backend_drops(kind);
        }
        it.backend(RESPONSE, 0xaaaa_0000_0001);
        assert_eq!(it.state(), "RESPOND");
        it.client_drops(DATA);
        it.client(DCCP_ACK, 0xaaaa_0000_0001);
        assert_eq!((it.state(), it.assured()), ("PARTOPEN", true));
        it.client_drops(DATA);
        it.backend(DATA, 0xaaaa_0000_0002);
        assert_eq!(it.state(), "OPEN");
        // Sequence numbers of 24 bits, on types that may have them.
        let short = Other::Dccp { kind: DATA_ACK, short: true, sequence: 77, acknowledgment: 88, coverage: 0 };
        let packet = super::packet::other(it.client, it.vip, short).carrying(b"data");
        let (snat, backend) = (it.snat, it.backend);
        it.world.goes_on(&packet, snat, backend);
        it.client(SYNC, 1);
        assert_eq!(it.state(), "OPEN");
        it.backend(CLOSE_REQ, 0xaaaa_0000_0003);
        assert_eq!(it.state(), "CLOSEREQ");
        it.client(CLOSE, 5);
        assert_eq!(it.state(), "CLOSING");
        it.backend(RESET, 0xaaaa_0000_0004);
        assert_eq!(it.state(), "TIMEWAIT");
        it.client_drops(DATA);
        // The same ports again: another connection.
        let (client, vip) = (it.client, it.vip);
        let snat = it.world.opens(&dccp(client, vip, REQUEST, 1, 0), backend);
        assert_ne!(snat, it.snat);
    }
}

#[test]
fn dccp_roles() {
    let mut it = Dccp::open(Family::V4);
    it.client_drops(CLOSE_REQ);
    it.client_drops(RESPONSE);
    it.backend_drops(REQUEST);
    // A Request that is out of place goes on, and the server's Response brings the state along.
    it.client(REQUEST, 0);
    assert_eq!(it.state(), "OPEN");
    it.backend(RESPONSE, 9);
    assert_eq!(it.state(), "RESPOND");
    let mut it = Dccp::open(Family::V6);
    it.backend(RESPONSE, 9);
    assert_eq!(it.state(), "OPEN", "a late one");
    // An acknowledgment of another Response shows nothing.
    let mut it = Dccp::opened(Family::V4);
    it.backend(RESPONSE, 0xaaaa_0000_0001);
    it.client(DCCP_ACK, 0xaaaa_0000_0002);
    assert_eq!((it.state(), it.assured()), ("PARTOPEN", false));
    // What opens none.
    for kind in [RESPONSE, DATA, DCCP_ACK, CLOSE, RESET, SYNC] {
        let packet = dccp(Family::V4.client(), Family::V4.vip(), kind, 1, 1);
        world().drops(FRONT, &packet, DropReason::DccpNotRequest);
    }
}

/// RFC 4340, section 7.5.3: they are valid just ahead of what their sender has sent.
#[test]
fn a_dccp_reset_or_close_of_any_number_ends_nothing() {
    for family in FAMILIES {
        let mut it = Dccp::open(family);
        let (client, last) = (it.sequence, 0xaaaa_0000_0002);
        for forged in [0, 1, last, last - 1, last + (1 << 16) + 1, last ^ 1 << 47] {
            for kind in [RESET, CLOSE, CLOSE_REQ] {
                it.backend(kind, forged);
                assert_eq!(it.state(), "OPEN", "{kind} of the backend, {forged:#x}");
            }
        }
        for forged in [0, 1, client - 1, client - 2, client + (1 << 16), client ^ 1 << 47] {
            for kind in [RESET, CLOSE] {
                it.sequence = forged;
                it.client(kind, last);
                assert_eq!(it.state(), "OPEN", "{kind} of the client, {forged:#x}");
            }
        }
        // Data far ahead does not bring the number along; data that follows does, also with numbers of 24 bits.
        it.backend(DATA, last + (1 << 20));
        it.backend(RESET, last + (1 << 20) + 1);
        assert_eq!(it.state(), "OPEN");
        for sent in 1..4u64 {
            it.backend(DATA, last + sent * 60_000);
        }
        let sequence = ((last + 4 * 60_000) & 0xff_ffff) as u32;
        let short = Other::Dccp { kind: DATA, short: true, sequence: sequence.into(), acknowledgment: 0, coverage: 0 };
        let packet = super::packet::other(it.backend, it.snat, short).carrying(b"data");
        it.world.comes_back(&packet, it.vip, it.client);
        it.backend(RESET, last + 4 * 60_000 + 9);
        assert_eq!(it.state(), "TIMEWAIT");

        // A Request is refused by a Reset that acknowledges it.
        let mut it = Dccp::opened(family);
        let reset = |it: &mut Dccp, acknowledgment: u64| {
            let packet = dccp(it.backend, it.snat, RESET, 0, acknowledgment);
            it.world.comes_back(&packet, it.vip, it.client);
        };
        reset(&mut it, 5);
        assert_eq!(it.state(), "REQUEST");
        let request = it.sequence;
        reset(&mut it, request);
        assert_eq!(it.state(), "TIMEWAIT");
    }
}

/// RFC 4340, section 9.2: the checksum covers the header and so many words of data.
#[test]
fn dccp_checksums_cover_what_they_say() {
    for family in FAMILIES {
        for coverage in [0, 1, 2, 3] {
            let mut it = Dccp::open(family);
            let transport = Other::Dccp { kind: DATA, short: false, sequence: 9, acknowledgment: 0, coverage };
            let packet = super::packet::other(it.client, it.vip, transport).carrying(b"twelve bytes");
            let (snat, backend) = (it.snat, it.backend);
            it.world.goes_on(&packet, snat, backend);
            let mut frame = it.world.arriving(FRONT, &packet).frame();
            let (l4, end) = (packet.l4(), frame.len());
            // Damaged in the last byte of data: seen only where everything is covered.
            frame[end - 1] ^= 1;
            let damaged = it.world.send(FRONT, &frame);
            assert_eq!(damaged.moved.contains_key("drop dccp_checksum"), coverage == 0, "{damaged:?}");
            if let Some((_, sent)) = damaged.sent {
                assert_eq!(sent[end - 1], frame[end - 1], "it goes on as it came");
            }
            frame[end - 1] ^= 1;
            frame[l4 + 10] ^= 1;
            let damaged = it.world.send(FRONT, &frame);
            assert!(damaged.moved.contains_key("drop dccp_checksum"), "{damaged:?}");
            // Made anew where the interface leaves it out, over as much as before.
            let mut world = World::new(Setup { all_protocols: true, recompute: true, ..Setup::default() });
            let transport = Other::Dccp { kind: REQUEST, short: false, sequence: 9, acknowledgment: 0, coverage };
            let packet = super::packet::other(it.client, it.vip, transport).carrying(b"twelve bytes");
            let mut frame = world.arriving(FRONT, &packet).frame();
            frame[l4 + 6..l4 + 8].fill(0);
            let (_, sent) = world.send(FRONT, &frame).sent.unwrap();
            let port = u16::from_be_bytes([sent[l4], sent[l4 + 1]]);
            let expected = Packet { from: at(snat, port), to: backend, ..packet }.frame();
            assert_eq!(sent[l4..], expected[l4..]);
        }
    }
}

#[test]
fn dccp_headers_that_are_malformed() {
    let (client, vip) = (Family::V4.client(), Family::V4.vip());
    let packet = |kind, short, coverage| {
        super::packet::other(client, vip, Other::Dccp { kind, short, sequence: 1, acknowledgment: 1, coverage })
    };
    for (packet, reason) in [
        (packet(REQUEST, true, 0), DropReason::DccpType),
        (packet(RESET, true, 0), DropReason::DccpType),
        (packet(10, false, 0), DropReason::DccpType),
        (packet(15, false, 0), DropReason::DccpType),
        (Packet { payload: vec![0; 7], ..packet(REQUEST, false, 0) }, DropReason::DccpLength),
    ] {
        let mut frame = world().arriving(FRONT, &packet).frame();
        if reason == DropReason::DccpLength {
            // The data offset, past the end.
            frame[packet.l4() + 4] = 8;
        }
        let mut world = world();
        let outcome = world.send(FRONT, &frame);
        assert_eq!(outcome.moved.get(&format!("drop {}", reason.label())), Some(&1), "{packet:?}: {outcome:?}");
    }
    let whole = packet(REQUEST, false, 0);
    let mut frame = world().arriving(FRONT, &whole).frame();
    // Two words of data are covered, and there are none.
    frame[whole.l4() + 5] = 3;
    assert_eq!(world().send(FRONT, &frame).moved.get("drop dccp_coverage"), Some(&1));
}

/// Errors about echoes, associations and the others come to whom they are for.
#[test]
fn related_errors() {
    for family in FAMILIES {
        let backend = at(family.backend(), 0);
        let packets = [
            request(at(family.client(), 1000), vip(family)),
            gre(at(family.client(), 0), vip(family), KEY, &[0, 0, 0, 7, 1, 2, 3, 4]),
            sctp(family.client(), family.vip(), 0, &[init(1, CLIENT_TAG)]),
            dccp(family.client(), family.vip(), REQUEST, 1, 0),
        ];
        for packet in packets {
            for length in [8, 1000] {
                let mut world = world();
                let frame = world.arriving(FRONT, &packet).frame();
                let sent = world.send(FRONT, &frame).sent.expect("it was sent").1;
                let l3 = 14;
                let quoted = &sent[l3..sent.len().min(packet.l4() + length)];
                let kind = if family == Family::V4 { 3 } else { 1 };
                let error = super::packet::icmp(backend, at(SocketAddr::new(family.snat(), 0), 0), kind).carrying(quoted);
                let frame = world.arriving(BACK, &error).frame();
                let outcome = world.send(BACK, &frame);
                assert_eq!(outcome.moved.get("related"), Some(&1), "{packet:?}: {outcome:?}");
                let told = outcome.sent.unwrap().1;
                let inner = error.l4() + 8;
                let original = packet.clone().with_ttl(63).frame();
                let (header, l4) = (packet.l4() - l3, packet.l4());
                let words =
                    if matches!(packet.transport, Transport::Other(Other::Sctp { .. })) { 8 } else { quoted.len() - header };
                assert_eq!(told[inner..inner + header + words], original[l3..l4 + words], "{packet:?}");
            }
        }
    }
}
