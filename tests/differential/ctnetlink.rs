//! The kernel's table of connections, by netlink (`nfnetlink_conntrack.h`): one is read, deleted, or given another time to live.

use super::machine::Shown;
use super::namespace::Namespace;
use super::subject::Subject;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

/// The kernel's names of states, by number.
const TCP_STATES: [&str; 10] =
    ["NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"];
const SCTP_STATES: [&str; 9] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
];

const NEW: u16 = 0;
const GET: u16 = 1;
const DELETE: u16 = 2;
const CONNTRACK: u16 = 1 << 8;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const ERROR: u16 = 2;
const NESTED: u16 = 1 << 15;

const TUPLE_ORIG: u16 = 1;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
const TIMEOUT: u16 = 7;

const SEEN_REPLY: u32 = 1 << 1;
const ASSURED: u32 = 1 << 2;

pub(crate) struct Table {
    socket: Socket,
    subject: Subject,
}

impl Table {
    pub(crate) fn new(namespace: &Namespace, subject: Subject) -> Self {
        let socket = namespace.inside(|| {
            let (netlink, netfilter) = (Domain::from(libc::AF_NETLINK), Protocol::from(libc::NETLINK_NETFILTER));
            Socket::new(netlink, Type::from(libc::SOCK_RAW), Some(netfilter)).expect("a netlink socket")
        });
        Self { socket, subject }
    }

    /// The connection that `client` has opened.
    pub(crate) fn get(&mut self, client: SocketAddr) -> Option<Shown> {
        let answer = self.ask(GET, &self.tuple(client))?;
        let attributes = attributes(&answer[20..]);
        let find = |kind: u16| attributes.iter().find(|(of, _)| *of == kind).map(|(_, value)| *value);
        let number = |value: &[u8]| u32::from_be_bytes(value.try_into().expect("four bytes"));
        let status = number(find(STATUS).expect("its status"));
        Some(Shown {
            state: find(PROTOINFO).map_or("", |info| self.state(info)),
            seen_reply: status & SEEN_REPLY != 0,
            assured: status & ASSURED != 0,
            left: number(find(TIMEOUT).expect("its timeout")),
        })
    }

    /// From now on it lives for so many seconds if nothing comes.
    pub(crate) fn set_left(&mut self, client: SocketAddr, seconds: u32) {
        let body = [self.tuple(client), attribute(TIMEOUT, &seconds.to_be_bytes())].concat();
        let answer = self.ask(NEW, &body);
        assert!(answer.is_some(), "the kernel has no connection of {client}");
    }

    pub(crate) fn delete(&mut self, client: SocketAddr) {
        self.ask(DELETE, &self.tuple(client));
    }

    fn state(&self, info: &[u8]) -> &'static str {
        // CTA_PROTOINFO_TCP or _SCTP, and in it the state.
        let (kind, info) = attributes(info)[0];
        let states = if kind == 1 { &TCP_STATES[..] } else { &SCTP_STATES };
        let state = attributes(info).into_iter().find(|(kind, _)| *kind == 1).expect("the state").1[0];
        states.get(usize::from(state)).copied().unwrap_or("?")
    }

    fn tuple(&self, client: SocketAddr) -> Vec<u8> {
        let vip = self.subject.vip();
        let (source, destination): (u16, u16) = if client.is_ipv4() { (1, 2) } else { (3, 4) };
        let addresses = [attribute(source, &octets(client)), attribute(destination, &octets(vip))].concat();
        let port = client.port().to_be_bytes();
        let ports = match self.subject.protocol {
            weir::service::Protocol::Icmp => [attribute(4, &port), attribute(5, &[8]), attribute(6, &[0])].concat(),
            weir::service::Protocol::Icmpv6 => [attribute(7, &port), attribute(8, &[128]), attribute(9, &[0])].concat(),
            _ => [attribute(2, &port), attribute(3, &vip.port().to_be_bytes())].concat(),
        };
        let protocol = [attribute(1, &[self.subject.protocol.number()]), ports].concat();
        let parts = [attribute(NESTED | 1, &addresses), attribute(NESTED | 2, &protocol)].concat();
        attribute(NESTED | TUPLE_ORIG, &parts)
    }

    /// The answer to a request; `None`: there is no such connection.
    fn ask(&mut self, what: u16, body: &[u8]) -> Option<Vec<u8>> {
        let family = if self.subject.vip().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let flags = if what == GET { REQUEST } else { REQUEST | ACK };
        let mut request = (20 + body.len() as u32).to_ne_bytes().to_vec();
        request.extend([(CONNTRACK | what).to_ne_bytes(), flags.to_ne_bytes()].concat());
        request.extend([0; 8]);
        request.extend([family as u8, 0, 0, 0]);
        request.extend(body);
        self.socket.write_all(&request).expect("netlink takes it");
        let mut answer = vec![0; 8192];
        let length = self.socket.read(&mut answer).expect("netlink answers");
        answer.truncate(length);
        if u16::from_ne_bytes([answer[4], answer[5]]) == ERROR {
            let error = i32::from_ne_bytes(answer[16..20].try_into().expect("four bytes"));
            assert!(error == 0 || error == -libc::ENOENT, "netlink: {}", std::io::Error::from_raw_os_error(-error));
            return (error == 0).then_some(answer);
        }
        Some(answer)
    }
}

fn octets(address: SocketAddr) -> Vec<u8> {
    match address.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        found.push((u16::from_ne_bytes([bytes[2], bytes[3]]) & !NESTED, &bytes[4..length]));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}
