//! The FTP helper on the packet's way: what lines become, what they make expected, and every number behind them.

use super::packet::{ACK, BACKEND_ISN, CLIENT_ISN, FIN_ACK, PSH_ACK, Packet, RST_ACK, SYN, SYN_ACK, Transport, tcp};
use super::world::{BACK, FAMILIES, FRONT, Family, Outcome, Setup, World, peer_mac, weir_mac};
use std::net::SocketAddr;
use weir::conntrack::{ConnectionView, Direction, EXPECT_TIMEOUT};
use weir::datapath::{DropReason, Fate, PortId};
use weir::service::{Helper, Protocol};

/// A control connection, and how far each side has sent and seen the other one's stream.
pub(super) struct Session {
    world: World,
    client: SocketAddr,
    vip: SocketAddr,
    backend: SocketAddr,
    pub(super) snat: SocketAddr,
    /// Bytes that client and backend have sent, and bytes that were received of them.
    pub(super) sent: [u32; 2],
    pub(super) heard: [u32; 2],
}

pub(super) const CLIENT: usize = 0;
pub(super) const BACKEND: usize = 1;

fn ftp() -> Setup {
    Setup { ftp: Some(Some(Helper::Ftp)), ..Setup::default() }
}

impl Session {
    pub(super) fn new(family: Family) -> Self {
        Self::of(World::new(ftp()), family, family.client())
    }

    /// Lines have been exchanged, so that it is known where they begin.
    fn of(mut world: World, family: Family, client: SocketAddr) -> Self {
        let (vip, backend) = (SocketAddr::new(family.vip().ip(), 21), family.backend());
        let snat = world.established(client, vip, backend);
        let mut session = Self { world, client, vip, backend, snat, sent: [0; 2], heard: [0; 2] };
        session.says(BACKEND, "220 welcome\r\n", "220 welcome\r\n");
        session.says(CLIENT, "USER anonymous\r\n", "USER anonymous\r\n");
        session
    }

    /// What `who` sends next, as it comes in.
    pub(super) fn segment(&self, who: usize, flags: u8, text: &str) -> Packet {
        let (from, to) = if who == CLIENT { (self.client, self.vip) } else { (self.backend, self.snat) };
        let mut packet = tcp(from, to, flags).carrying(text.as_bytes());
        number(&mut packet, self.sent[who], self.heard[1 - who]);
        packet
    }

    /// That segment as it shall leave.
    fn leaving(&self, who: usize, flags: u8, text: &str) -> (PortId, Packet) {
        let (port, isns) = if who == CLIENT { (BACK, [CLIENT_ISN, BACKEND_ISN]) } else { (FRONT, [BACKEND_ISN, CLIENT_ISN]) };
        let (from, to) = if who == CLIENT { (self.snat, self.backend) } else { (self.vip, self.client) };
        let mut packet = Packet { ttl: 63, to_mac: peer_mac(port), from_mac: weir_mac(port), ..tcp(from, to, flags) };
        let Transport::Tcp { sequence, acknowledgment, .. } = &mut packet.transport else { panic!("not TCP") };
        *sequence = isns[0].wrapping_add(1);
        *acknowledgment = isns[1].wrapping_add(1);
        number(&mut packet, self.heard[who], self.sent[1 - who]);
        (port, packet.carrying(text.as_bytes()))
    }

    pub(super) fn send(&mut self, who: usize, packet: &Packet) -> Outcome {
        let port = if who == CLIENT { FRONT } else { BACK };
        let frame = self.world.arriving(port, packet).frame();
        self.world.send(port, &frame)
    }

    /// A segment comes in and leaves with this text, and with all numbers and checksums right.
    #[track_caller]
    fn passes(&mut self, who: usize, flags: u8, text: &str, leaves: &str) -> Outcome {
        let (port, expected) = self.leaving(who, flags, leaves);
        let segment = self.segment(who, flags, text);
        let outcome = self.send(who, &segment);
        assert_eq!(outcome.fate, Fate::Transmit(port), "{text:?}");
        assert_eq!(outcome.sent, Some((port, expected.frame())), "{text:?} is not {leaves:?}");
        outcome
    }

    /// As [`Session::passes`], and the other side acknowledges it.
    #[track_caller]
    fn says(&mut self, who: usize, text: &str, leaves: &str) -> Outcome {
        let outcome = self.passes(who, PSH_ACK, text, leaves);
        self.sent[who] += text.len() as u32;
        self.heard[who] += leaves.len() as u32;
        self.passes(1 - who, ACK, "", "");
        outcome
    }

    #[track_caller]
    fn refuses(&mut self, who: usize, text: &str, reason: DropReason) {
        let segment = self.segment(who, PSH_ACK, text);
        assert_eq!(self.send(who, &segment).fate, Fate::Drop(reason), "{text:?}");
    }

    /// The first packet of a data connection; where it leaves for, and from.
    #[track_caller]
    fn opens(&mut self, from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
        let port = if to.ip() == self.vip.ip() { FRONT } else { BACK };
        let frame = self.world.arriving(port, &tcp(from, to, SYN)).frame();
        let outcome = self.world.send(port, &frame);
        assert_eq!(outcome.moved.get("expected"), Some(&1), "{from} -> {to}: {outcome:?}");
        assert_eq!(outcome.moved.get("new_connections"), Some(&1));
        let (view, direction) = self.world.find(Protocol::Tcp, from, to).unwrap();
        assert_eq!(direction, Direction::Original);
        let (source, target) = (view.reply.destination, view.reply.source);
        let out = if port == FRONT { BACK } else { FRONT };
        let sequence = if port == FRONT { CLIENT_ISN } else { BACKEND_ISN };
        let mut leaving = Packet { ttl: 63, to_mac: peer_mac(out), from_mac: weir_mac(out), ..tcp(source, target, SYN) };
        if let Transport::Tcp { sequence: first, .. } = &mut leaving.transport {
            *first = sequence;
        }
        assert_eq!(outcome.sent, Some((out, leaving.frame())));
        // And the way back.
        let frame = self.world.arriving(out, &tcp(target, source, SYN_ACK)).frame();
        assert_eq!(self.world.send(out, &frame).fate, Fate::Transmit(port));
        (source, target)
    }

    #[track_caller]
    fn opens_nothing(&mut self, from: SocketAddr, to: SocketAddr) {
        let port = if to.ip() == self.vip.ip() { FRONT } else { BACK };
        self.world.drops(port, &tcp(from, to, SYN), DropReason::NoService);
    }

    fn expected(&self) -> Vec<SocketAddr> {
        self.world.datapath.conntrack.list_expectations().into_iter().map(|expected| expected.destination).collect()
    }

    fn at_vip(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip.ip(), port)
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    pub(super) fn at_client(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.client.ip(), port)
    }

    fn view(&self, from: SocketAddr, to: SocketAddr) -> ConnectionView {
        self.world.find(Protocol::Tcp, from, to).unwrap().0
    }
}

fn number(packet: &mut Packet, by: u32, acknowledging: u32) {
    let Transport::Tcp { sequence, acknowledgment, .. } = &mut packet.transport else { panic!("not TCP") };
    *sequence = sequence.wrapping_add(by);
    *acknowledgment = acknowledgment.wrapping_add(acknowledging);
}

/// An address and a port as PORT writes them.
fn commas(address: SocketAddr) -> String {
    let port = address.port();
    format!("{},{},{}", address.ip().to_string().replace('.', ","), port >> 8, port & 0xff)
}

pub(super) fn bars(address: SocketAddr) -> String {
    format!("|{}|{}|{}|", if address.is_ipv4() { 1 } else { 2 }, address.ip(), address.port())
}

fn reply_227(address: SocketAddr) -> String {
    format!("227 Entering Passive Mode ({}).\r\n", commas(address))
}

pub(super) fn reply_229(port: u16) -> String {
    format!("229 Entering Extended Passive Mode (|||{port}|)\r\n")
}

pub(super) fn in_place(address: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.ip(), port)
}

/// A control connection, and a line of its backend that makes a data connection expected, with the port it comes in at.
pub(super) fn announcement(family: Family) -> (World, PortId, Packet) {
    let mut session = Session::new(family);
    session.says(CLIENT, "EPSV\r\n", "EPSV\r\n");
    let packet = session.segment(BACKEND, PSH_ACK, &reply_229(40001));
    (session.world, BACK, packet)
}

#[test]
fn a_passive_connection_goes_where_its_control_connection_goes() {
    let mut session = Session::new(Family::V4);
    session.says(CLIENT, "PASV\r\n", "PASV\r\n");
    let (backend, vip) = (in_place(session.backend, 40001), session.at_vip(40001));
    let outcome = session.says(BACKEND, &reply_227(backend), &reply_227(vip));
    assert_eq!(outcome.moved.get("expectations"), Some(&1));
    assert_eq!(session.expected(), [vip]);
    // Not another port, and not another client.
    session.opens_nothing(session.at_client(50000), session.at_vip(40002));
    session.opens_nothing(Family::V4.far_client(), vip);
    let (source, target) = session.opens(session.at_client(50001), vip);
    assert_eq!((source.ip(), target), (session.snat.ip(), backend));
    // One announcement is one connection.
    assert!(session.expected().is_empty());
    session.opens_nothing(session.at_client(50002), vip);
    let data = session.view(session.at_client(50001), vip);
    assert!(data.status().any(|bit| bit == "EXPECTED"), "{data:?}");
    let master = data.master.unwrap();
    assert_eq!((master.source, master.destination), (session.client, session.vip));
    let control = session.view(session.client, session.vip);
    assert!(control.status().any(|bit| bit == "HELPER") && control.master.is_none());
    // The control connection goes on, with what its stream has lost or got.
    session.says(BACKEND, "150 here it comes\r\n", "150 here it comes\r\n");
    session.says(CLIENT, "NOOP\r\n", "NOOP\r\n");
}

#[test]
fn an_extended_passive_reply_keeps_its_port() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        session.says(CLIENT, "EPSV\r\n", "EPSV\r\n");
        session.says(BACKEND, &reply_229(40001), &reply_229(40001));
        let (_, target) = session.opens(session.at_client(50001), session.at_vip(40001));
        assert_eq!(target, in_place(session.backend, 40001));
    }
}

#[test]
fn a_port_that_is_a_service_or_below_1024_becomes_another_one() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        session.says(BACKEND, &reply_229(80), &reply_229(1024));
        let (_, target) = session.opens(session.at_client(50001), session.at_vip(1024));
        assert_eq!(target, in_place(session.backend, 80));
    }
}

#[test]
fn an_active_connection_comes_back_to_the_client() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        // A port of the SNAT range is kept, another one is not.
        for (port, kept) in [(25000, 25000), (40001, 20000)] {
            let (client, snat) = (session.at_client(port), in_place(session.snat, kept));
            session.says(CLIENT, &format!("EPRT {}\r\n", bars(client)), &format!("EPRT {}\r\n", bars(snat)));
            assert_eq!(session.expected(), [snat]);
            session.opens_nothing(in_place(family.second_backend(), 8079), snat);
            let (source, target) = session.opens(in_place(session.backend, 8079), snat);
            assert_eq!((source, target), (session.at_vip(20), client), "from the port for data of the VIP");
            session.opens_nothing(in_place(session.backend, 8079), in_place(session.snat, kept + 1));
            let data = session.view(in_place(session.backend, 8079), snat);
            assert!(data.status().any(|bit| bit == "EXPECTED"), "{data:?}");
            assert_eq!((data.outside().source, data.outside().destination), (client, session.at_vip(20)));
            assert_eq!((data.inside().source, data.inside().destination), (in_place(session.backend, 8079), snat));
            let master = data.master.unwrap();
            assert_eq!((master.source, master.destination), (session.client, session.vip));
        }
        session.says(BACKEND, "200 fine\r\n", "200 fine\r\n");
    }
}

#[test]
fn port_is_rewritten_and_an_ephemeral_source_is_kept() {
    let mut session = Session::new(Family::V4);
    let (client, snat) = (session.at_client(25000), in_place(session.snat, 25000));
    session.says(CLIENT, &format!("PORT {}\r\n", commas(client)), &format!("PORT {}\r\n", commas(snat)));
    let (source, target) = session.opens(in_place(session.backend, 33333), snat);
    assert_eq!((source, target), (session.at_vip(33333), client));
}

#[test]
fn what_is_sent_again_becomes_the_same_again() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        let (client, snat) = (session.at_client(40001), in_place(session.snat, 20000));
        let (line, leaves) = (format!("EPRT {}\r\n", bars(client)), format!("EPRT {}\r\n", bars(snat)));
        assert_ne!(line.len(), leaves.len(), "numbers are shifted");
        for _ in 0..3 {
            session.passes(CLIENT, PSH_ACK, &line, &leaves);
        }
        assert_eq!(session.expected(), [snat], "one line announces one connection");
        session.opens(in_place(session.backend, 8079), snat);
        session.passes(CLIENT, PSH_ACK, &line, &leaves);
        assert!(session.expected().is_empty(), "which has come");
        // With what follows, and what is before it.
        session.passes(CLIENT, PSH_ACK, &format!("{line}LIST\r\n"), &format!("{leaves}LIST\r\n"));
        let before = "USER anonymous\r\n";
        session.sent[CLIENT] -= before.len() as u32;
        session.heard[CLIENT] -= before.len() as u32;
        session.passes(CLIENT, PSH_ACK, &format!("{before}{line}LIST\r\n"), &format!("{before}{leaves}LIST\r\n"));
        // A part of what was replaced has no counterpart.
        let whole = format!("{before}{line}");
        session.refuses(CLIENT, &whole[..whole.len() - 6], DropReason::HelperPartial);
        session.sent[CLIENT] += before.len() as u32;
        session.heard[CLIENT] += before.len() as u32;
        session.sent[CLIENT] += line.len() as u32;
        session.heard[CLIENT] += leaves.len() as u32;
        session.passes(CLIENT, PSH_ACK, "LIST\r\n", "LIST\r\n");
    }
}

#[test]
fn many_lines_shift_numbers_again_and_again() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        for round in 0..40u16 {
            let (client, snat) = (session.at_client(30000 + round), in_place(session.snat, 20000));
            session.says(CLIENT, &format!("EPRT {}\r\n", bars(client)), &format!("EPRT {}\r\n", bars(snat)));
            session.says(BACKEND, "200 fine\r\n", "200 fine\r\n");
            session.says(BACKEND, &reply_229(700 + round), &reply_229(1024));
            session.says(CLIENT, "NOOP\r\n", "NOOP\r\n");
        }
        assert_ne!(session.sent, session.heard);
        session.passes(CLIENT, FIN_ACK, "", "");
        session.sent[CLIENT] += 1;
        session.heard[CLIENT] += 1;
        session.passes(BACKEND, FIN_ACK, "", "");
        session.sent[BACKEND] += 1;
        session.heard[BACKEND] += 1;
        session.passes(CLIENT, ACK, "", "");
        let state = session.view(session.client, session.vip).tcp_state;
        assert_eq!(state, Some(weir::conntrack::TcpState::TimeWait), "tracking has followed");
    }
}

#[test]
fn selective_acknowledgments_are_adjusted() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        session.says(BACKEND, &reply_229(99), &reply_229(1024));
        let shift = session.heard[BACKEND] - session.sent[BACKEND];
        assert_eq!(shift, 2);
        // The client lacks the next 100 bytes and has 50 behind them.
        let option = |first: u32| {
            let edges = [first, first + 50].map(u32::to_be_bytes).concat();
            [&[1, 1, 5, 10][..], &edges].concat()
        };
        let own = BACKEND_ISN + 1 + session.sent[BACKEND] + 100;
        let with = |mut packet: Packet, first: u32| {
            if let Transport::Tcp { options, .. } = &mut packet.transport {
                *options = option(first);
            }
            packet
        };
        // So they must have been sent.
        session.sent[BACKEND] += 100;
        session.heard[BACKEND] += 100;
        session.passes(BACKEND, PSH_ACK, &"x".repeat(50), &"x".repeat(50));
        session.sent[BACKEND] -= 100;
        session.heard[BACKEND] -= 100;
        let segment = with(session.segment(CLIENT, ACK, ""), own + shift);
        let (port, leaving) = session.leaving(CLIENT, ACK, "");
        assert_eq!(session.send(CLIENT, &segment).sent, Some((port, with(leaving, own).frame())));
    }
}

#[test]
fn windows_are_judged_by_the_numbers_of_each_side() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        session.says(BACKEND, &reply_229(99), &reply_229(1024));
        let mut too_much = session.segment(CLIENT, ACK, "");
        number(&mut too_much, 0, 1);
        assert_eq!(session.send(CLIENT, &too_much).fate, Fate::Drop(DropReason::TcpWindow), "an ACK of what was not sent");
        let mut far = session.segment(BACKEND, PSH_ACK, "far");
        number(&mut far, 1 << 20, 0);
        assert_eq!(session.send(BACKEND, &far).fate, Fate::Drop(DropReason::TcpWindow));
        session.passes(BACKEND, RST_ACK, "", "");
        let state = session.view(session.client, session.vip).tcp_state;
        assert_eq!(state, Some(weir::conntrack::TcpState::Close), "an exact RST");
    }
}

#[test]
fn nobody_announces_a_third_one() {
    let mut session = Session::new(Family::V4);
    let refused = |session: &mut Session, who: usize, line: &str| {
        let outcome = session.says(who, line, line);
        assert_eq!(outcome.moved.get("refused_expectations"), Some(&1), "{line:?}");
        assert!(session.expected().is_empty(), "{line:?}");
    };
    let other = in_place(Family::V4.far_client(), 25000);
    refused(&mut session, CLIENT, &format!("PORT {}\r\n", commas(other)));
    refused(&mut session, CLIENT, &format!("EPRT {}\r\n", bars(other)));
    let backend = in_place(session.backend, 25000);
    refused(&mut session, CLIENT, &format!("PORT {}\r\n", commas(backend)));
    refused(&mut session, BACKEND, &reply_227(in_place(Family::V4.second_backend(), 40001)));
    let vip = session.at_vip(40001);
    refused(&mut session, BACKEND, &reply_227(vip));
    let mut session = Session::new(Family::V6);
    refused(&mut session, CLIENT, "PORT 10,1,0,5,156,64\r\n");
    refused(&mut session, BACKEND, "227 Entering Passive Mode (10,2,0,11,156,64).\r\n");
}

#[test]
fn what_is_malformed_or_of_the_other_side_announces_nothing() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        for line in ["PORT 1,2,3\r\n", "EPRT |3|x|1|\r\n", "EPSV ALL\r\n", "229 (|||40001|)\r\n", "\r\n"] {
            session.says(CLIENT, line, line);
        }
        for line in ["227 no\r\n", "229 (no)\r\n", "EPRT |1|10.1.0.5|25000|\r\n", "229-(|||40001|)\r\n"] {
            session.says(BACKEND, line, line);
        }
        assert!(session.expected().is_empty());
    }
}

#[test]
fn a_line_in_pieces_is_asked_for_whole() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        let line = reply_229(99);
        for length in [1, 3, 4, 20, line.len() - 6] {
            session.refuses(BACKEND, &line[..length], DropReason::HelperPartial);
        }
        session.says(BACKEND, &line, &reply_229(1024));
        // In the middle of another line there is no beginning of one.
        session.says(CLIENT, "RETR a", "RETR a");
        session.says(CLIENT, "EPRT |1|10.1.0.5|25000|\r\n", "EPRT |1|10.1.0.5|25000|\r\n");
        assert_eq!(session.expected().len(), 1);
    }
}

#[test]
fn lines_behind_others_in_a_segment_are_read() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        session.says(
            BACKEND,
            &format!("200 fine\r\n{}150 now\r\n", reply_229(99)),
            &format!("200 fine\r\n{}150 now\r\n", reply_229(1024)),
        );
        assert_eq!(session.expected(), [session.at_vip(1024)]);
        session.says(BACKEND, "226 done\r\n", "226 done\r\n");
    }
}

#[test]
fn text_that_was_sent_on_once_stays_as_it_was() {
    let mut session = Session::new(Family::V4);
    // The line before it is late, so it is not known to begin one, and not read.
    let (before, line) = ("200 fine\r\n", reply_229(99));
    let ahead = |session: &mut Session, by: i64| {
        for stream in [&mut session.sent, &mut session.heard] {
            stream[BACKEND] = (i64::from(stream[BACKEND]) + by) as u32;
        }
    };
    ahead(&mut session, before.len() as i64);
    session.passes(BACKEND, PSH_ACK, &line, &line);
    // Now it is known, but too late.
    ahead(&mut session, -(before.len() as i64));
    session.passes(BACKEND, PSH_ACK, &format!("{before}{line}"), &format!("{before}{line}"));
    assert!(session.expected().is_empty());
}

#[test]
fn a_later_announcement_takes_the_place_of_an_earlier_one() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        session.says(BACKEND, &reply_229(40001), &reply_229(40001));
        session.says(BACKEND, &reply_229(40002), &reply_229(40002));
        assert_eq!(session.expected(), [session.at_vip(40002)]);
        let snat = in_place(session.snat, 25000);
        session.says(CLIENT, &format!("EPRT {}\r\n", bars(session.at_client(25000))), &format!("EPRT {}\r\n", bars(snat)));
        assert_eq!(session.expected(), [snat]);
        session.opens_nothing(session.at_client(50000), session.at_vip(40002));
    }
}

#[test]
fn two_control_connections_of_a_client_do_not_meet() {
    for family in FAMILIES {
        let mut first = Session::new(family);
        first.says(BACKEND, &reply_229(40001), &reply_229(40001));
        let client = first.at_client(41000);
        let mut second = Session::of(first.world, family, client);
        second.says(BACKEND, &reply_229(40001), &reply_229(40002));
        assert_eq!(second.expected().len(), 2);
        let (_, target) = second.opens(second.at_client(50001), second.at_vip(40002));
        assert_eq!(target, in_place(second.backend, 40001));
    }
}

#[test]
fn an_announcement_ends_with_its_time_its_connection_and_its_service() {
    for family in FAMILIES {
        let expecting = || {
            let mut session = Session::new(family);
            session.says(BACKEND, &reply_229(40001), &reply_229(40001));
            session
        };
        let mut session = expecting();
        session.world.pass(EXPECT_TIMEOUT - 1);
        session.world.sweep();
        assert_eq!(session.expected().len(), 1);
        session.world.pass(1);
        session.opens_nothing(session.at_client(50000), session.at_vip(40001));
        session.world.sweep();
        assert_eq!(session.world.datapath.conntrack.expectations().count(), 0);

        let mut session = expecting();
        let flow = (6, session.client, session.vip);
        assert!(session.world.datapath.conntrack.delete(flow, session.world.now, &session.world.policy()));
        session.opens_nothing(session.at_client(50000), session.at_vip(40001));
        session.world.sweep();
        assert_eq!(session.world.datapath.conntrack.expectations().count(), 0);

        let mut session = expecting();
        session.world.change(Setup { ftp: None, ..ftp() });
        session.opens_nothing(session.at_client(50000), session.at_vip(40001));
        // What was announced while there was a helper keeps its numbers, and nothing else is announced.
        session.world.change(Setup { ftp: Some(None), ..ftp() });
        session.says(BACKEND, &reply_229(99), &reply_229(99));
    }
}

#[test]
fn a_transfer_keeps_its_control_connection() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        session.says(BACKEND, &reply_229(40001), &reply_229(40001));
        let vip = session.at_vip(40001);
        let (client, (source, target)) = (session.at_client(50001), session.opens(session.at_client(50001), vip));
        session.world.goes_on(&tcp(client, vip, ACK), source, target);
        let established = session.world.timeouts().tcp_established;
        for _ in 0..4 {
            session.world.pass(established / 2);
            session.world.goes_on(&tcp(client, vip, ACK), source, target);
            assert_eq!(session.world.sweep().len(), 0);
        }
        session.says(BACKEND, "226 done\r\n", "226 done\r\n");
        session.world.pass(established + 1);
        assert_eq!(session.world.sweep().len(), 2);
    }
}

#[test]
fn without_a_helper_nothing_is_read() {
    for family in FAMILIES {
        let world = World::new(Setup { ftp: Some(None), ..Setup::default() });
        let mut session = Session::of(world, family, family.client());
        session.says(BACKEND, &reply_229(99), &reply_229(99));
        let line = format!("EPRT {}\r\n", bars(session.at_client(25000)));
        session.says(CLIENT, &line, &line);
        assert!(session.expected().is_empty());
        session.opens_nothing(session.at_client(50001), session.at_vip(99));
        session.opens_nothing(in_place(session.backend, 8079), in_place(session.snat, 25000));
    }
}

#[test]
fn a_line_that_grows_too_large_is_answered() {
    let mut session = Session::new(Family::V4);
    let line = format!("{}{}", reply_229(99), "x".repeat(1500 - 40 - reply_229(99).len()));
    let segment = session.segment(BACKEND, PSH_ACK, &line);
    let outcome = session.send(BACKEND, &segment);
    assert_eq!((outcome.fate, outcome.moved.get("answered")), (Fate::Transmit(BACK), Some(&1)));
    let (_, error) = outcome.sent.unwrap();
    assert_eq!(u16::from_be_bytes([error[14 + 20 + 6], error[14 + 20 + 7]]), 1498, "two bytes less than the MTU");
    // Its sender sends less at a time.
    session.says(BACKEND, &line[..1400], &format!("{}{}", reply_229(1024), &line[reply_229(99).len()..1400]));
}

#[test]
fn a_fragment_of_a_control_connection_is_not_read() {
    let mut session = Session::new(Family::V4);
    let mut segment = session.segment(BACKEND, PSH_ACK, "226 some line\r\n1234567890 45");
    segment.dont_fragment = false;
    segment.fragment = Some((0, true));
    let outcome = session.send(BACKEND, &segment);
    assert_eq!(outcome.fate, Fate::Drop(DropReason::Fragment), "{outcome:?}");
}
