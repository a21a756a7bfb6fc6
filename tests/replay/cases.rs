//! The captures that go in. Each SNAT pool has one port, so that the answers of backends can be written down beforehand.

use super::protocols;
use etherparse::{
    Icmpv4Type, IpFragOffset, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, PacketBuilder, PacketBuilderStep,
    TcpHeader, VlanHeader, VlanId, icmpv4,
};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One folder of golden files.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) config: &'static str,
    pub(crate) packets: fn() -> Capture,
}

/// Packets with the time at which they are seen, in milliseconds.
pub(crate) type Capture = Vec<(u64, Vec<u8>)>;

pub(crate) const CASES: &[Case] = &[
    Case { name: "tcp_session", config: CONFIG, packets: tcp_session },
    Case { name: "tcp_session_ipv6", config: CONFIG, packets: tcp_session_ipv6 },
    Case { name: "tcp_reset", config: CONFIG, packets: tcp_reset },
    Case { name: "udp_expires", config: CONFIG, packets: udp_expires },
    Case { name: "snat_ports_run_out", config: CONFIG, packets: snat_ports_run_out },
    Case { name: "weights", config: CONFIG, packets: weights },
    Case { name: "vlan", config: CONFIG, packets: vlan },
    Case { name: "hop_limit", config: CONFIG, packets: hop_limit },
    Case { name: "too_big", config: CONFIG, packets: too_big },
    Case { name: "refused", config: CONFIG, packets: refused },
    Case { name: "echoes", config: protocols::CONFIG, packets: protocols::echoes },
    Case { name: "gre", config: protocols::CONFIG, packets: protocols::tunnels },
    Case { name: "sctp", config: protocols::CONFIG, packets: protocols::association },
    Case { name: "dccp", config: protocols::CONFIG, packets: protocols::datagrams_with_congestion_control },
    Case { name: "related", config: protocols::CONFIG, packets: protocols::related_error },
    Case { name: "fragments", config: protocols::CONFIG, packets: protocols::pieces },
];

const CONFIG: &str = r#"[[interface]]
name = "eth0"

[conntrack]
max_connections = 1024

[snat]
addresses = ["10.9.0.1", "fd00:9::1"]
ports = "40000-40000"

[[service]]
name = "web"
vip = "10.0.0.100:80"
protocol = "tcp"
scheduler = "round_robin"
pool = "one"

[[service]]
name = "web6"
vip = "[fd00::100]:80"
protocol = "tcp"
scheduler = "round_robin"
pool = "one6"

[[service]]
name = "dns"
vip = "10.0.0.100:53"
protocol = "udp"
scheduler = "round_robin"
pool = "one"

[[service]]
name = "many"
vip = "10.0.0.100:81"
protocol = "tcp"
scheduler = "weighted_round_robin"
pool = "many"

[[pool]]
name = "one"
backends = [{ address = "10.2.0.1:8000" }]

[[pool]]
name = "one6"
backends = [{ address = "[fd00:2::1]:8000" }]

[[pool]]
name = "many"
backends = [
  { address = "10.2.0.11:8000", weight = 3 },
  { address = "10.2.0.12:8000", weight = 1 },
  { address = "10.2.0.13:8000", weight = 0 },
]
"#;

pub(crate) const CLIENT: &str = "192.0.2.7:5000";
const VIP: &str = "10.0.0.100:80";
pub(crate) const SNAT: &str = "10.9.0.1:40000";
const SNAT6: &str = "[fd00:9::1]:40000";
pub(crate) const BACKEND: &str = "10.2.0.1:8000";

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Of whoever sends to weir.
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 2];
const TO: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A packet in the making.
#[derive(Clone, Copy)]
pub(crate) struct Packet<'a> {
    from: SocketAddr,
    to: SocketAddr,
    hops: u8,
    vlan: Option<u16>,
    payload: &'a [u8],
    /// What the sender and the receiver have sent before it, in sequence numbers behind their SYN.
    numbers: (u32, u32),
}

pub(crate) fn packet<'a>(from: &str, to: &str, payload: &'a [u8]) -> Packet<'a> {
    Packet { from: address(from), to: address(to), hops: 64, vlan: None, payload, numbers: (0, 0) }
}

impl Packet<'_> {
    fn ip(&self) -> PacketBuilderStep<etherparse::IpHeaders> {
        let ethernet = PacketBuilder::ethernet2(FROM, TO);
        let ip = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = Ipv4Header::new(0, self.hops, IpNumber::TCP, from.octets(), to.octets()).expect("a header");
                header.dont_fragment = true;
                etherparse::IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (source, destination, hop_limit) = (from.octets(), to.octets(), self.hops);
                let header = Ipv6Header { source, destination, hop_limit, ..Ipv6Header::default() };
                etherparse::IpHeaders::Ipv6(header, Ipv6Extensions::default())
            }
            families => panic!("mixed families: {families:?}"),
        };
        match self.vlan {
            Some(id) => {
                let vlan_id = VlanId::try_new(id).expect("a VLAN id");
                let header = etherparse::SingleVlanHeader { vlan_id, ..Default::default() };
                ethernet.vlan(VlanHeader::Single(header)).ip(ip)
            }
            None => ethernet.ip(ip),
        }
    }

    /// With these flags: some of S, A, F, R.
    fn tcp(&self, flags: &str) -> Vec<u8> {
        let (own, other) = if [SNAT, SNAT6].map(|snat| address(snat).ip()).contains(&self.to.ip()) {
            (7_000_000, 1000)
        } else {
            (1000, 7_000_000)
        };
        let begun = u32::from(!flags.contains('S'));
        let mut header = TcpHeader::new(self.from.port(), self.to.port(), own + begun + self.numbers.0, 64_000);
        header.acknowledgment_number = if flags.contains('A') { other + 1 + self.numbers.1 } else { 0 };
        (header.syn, header.ack) = (flags.contains('S'), flags.contains('A'));
        (header.fin, header.rst) = (flags.contains('F'), flags.contains('R'));
        let built = self.ip().tcp_header(header);
        let mut bytes = Vec::new();
        built.write(&mut bytes, self.payload).expect("a packet");
        bytes
    }

    pub(crate) fn udp(&self) -> Vec<u8> {
        let built = self.ip().udp(self.from.port(), self.to.port());
        let mut bytes = Vec::new();
        built.write(&mut bytes, self.payload).expect("a packet");
        bytes
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
const ASKED: u32 = REQUEST.len() as u32;
const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nhello";
const ANSWERED: u32 = ANSWER.len() as u32;

/// Handshake, a request and its answer, closed in order by the client first.
fn session(client: &str, vip: &str, snat: &str, backend: &str) -> Capture {
    let up = |payload, numbers| Packet { numbers, ..packet(client, vip, payload) };
    let down = |payload, numbers| Packet { numbers, ..packet(backend, snat, payload) };
    vec![
        (0, up(b"", (0, 0)).tcp("S")),
        (1, down(b"", (0, 0)).tcp("SA")),
        (2, up(b"", (0, 0)).tcp("A")),
        (3, up(REQUEST, (0, 0)).tcp("A")),
        (5, down(ANSWER, (0, ASKED)).tcp("A")),
        (6, up(b"", (ASKED, ANSWERED)).tcp("FA")),
        (7, down(b"", (ANSWERED, ASKED + 1)).tcp("FA")),
        (8, up(b"", (ASKED + 1, ANSWERED + 1)).tcp("A")),
    ]
}

/// Closed connections leave after tcp_time_wait, 60 s: the same client port may come again then.
fn tcp_session() -> Capture {
    let mut capture = session(CLIENT, VIP, SNAT, BACKEND);
    capture.extend(session(CLIENT, VIP, SNAT, BACKEND).into_iter().map(|(at, bytes)| (at + 62_000, bytes)));
    capture
}

fn tcp_session_ipv6() -> Capture {
    session("[2001:db8::7]:5000", "[fd00::100]:80", SNAT6, "[fd00:2::1]:8000")
}

/// After an RST the state is CLOSE, and after 10 s there is no connection: data is no opening.
fn tcp_reset() -> Capture {
    let mut capture = session(CLIENT, VIP, SNAT, BACKEND);
    capture.truncate(4);
    capture.push((10, packet(BACKEND, SNAT, b"").tcp("R")));
    capture.push((12_000, packet(CLIENT, VIP, b"late").tcp("A")));
    capture
}

/// One question without an answer leaves after 30 s, one whose client goes on after the answer after 120 s.
fn udp_expires() -> Capture {
    let (up, down) = (packet(CLIENT, "10.0.0.100:53", b"question"), packet(BACKEND, SNAT, b"answer"));
    vec![
        (0, up.udp()),
        (29_000, up.udp()),
        (58_000, up.udp()),
        (90_000, up.udp()),
        (90_005, down.udp()),
        (92_005, up.udp()),
        (200_000, down.udp()),
        (330_000, down.udp()),
    ]
}

/// One port toward one backend is one connection at a time. A UDP connection may have the same port as a TCP one.
fn snat_ports_run_out() -> Capture {
    vec![
        (0, packet("192.0.2.7:5000", VIP, b"").tcp("S")),
        (1, packet("192.0.2.7:5001", VIP, b"").tcp("S")),
        (2, packet("192.0.2.7:5000", "10.0.0.100:53", b"question").udp()),
        (40_000, packet("192.0.2.7:5001", VIP, b"").tcp("S")),
    ]
}

/// Each backend has the one port for itself; three to one, and the one with weight 0 gets nothing.
fn weights() -> Capture {
    let syn = |(index, port): (u64, u16)| (index * 40_000, packet(&format!("192.0.2.7:{port}"), "10.0.0.100:81", b"").tcp("S"));
    (0..).zip(6000..6012).map(syn).collect()
}

/// The tag comes off: the next hop is on no VLAN.
fn vlan() -> Capture {
    let tagged = Packet { vlan: Some(7), ..packet(CLIENT, VIP, b"") };
    vec![(0, tagged.tcp("S")), (1, packet(BACKEND, SNAT, b"").tcp("SA")), (2, tagged.tcp("A"))]
}

/// The last hop ends here, with an ICMP error to the sender; the one before arrives with nothing left to spare.
fn hop_limit() -> Capture {
    let hops = |hops| Packet { hops, ..packet(CLIENT, VIP, b"") };
    let six = |hops| Packet { hops, ..packet("[2001:db8::7]:5000", "[fd00::100]:80", b"") };
    vec![(0, hops(1).tcp("S")), (1, hops(2).tcp("S")), (2, six(1).tcp("S")), (3, six(2).tcp("S"))]
}

/// MTU 1500: what is larger and must not be fragmented is answered with the MTU.
fn too_big() -> Capture {
    let mut capture = session(CLIENT, VIP, SNAT, BACKEND);
    capture.truncate(3);
    capture.push((10, packet(CLIENT, VIP, &[b'x'; 1460]).tcp("A")));
    capture.push((11, packet(CLIENT, VIP, &[b'x'; 1461]).tcp("A")));
    capture.push((12, packet(BACKEND, SNAT, &[b'y'; 3000]).tcp("A")));
    let six = tcp_session_ipv6();
    capture.extend(six.into_iter().take(3).map(|(at, bytes)| (at + 20, bytes)));
    capture.push((30, packet("[2001:db8::7]:5000", "[fd00::100]:80", &[b'x'; 1440]).tcp("A")));
    capture.push((31, packet("[2001:db8::7]:5000", "[fd00::100]:80", &[b'x'; 1441]).tcp("A")));
    capture
}

/// One packet for each of many reasons.
fn refused() -> Capture {
    let syn = packet(CLIENT, VIP, b"").tcp("S");
    let changed = |at: usize, byte: u8| {
        let mut bytes = syn.clone();
        bytes[at] = byte;
        bytes
    };
    let packets = vec![
        packet(CLIENT, "10.0.0.100:82", b"").tcp("S"),
        packet(CLIENT, VIP, b"").tcp("A"),
        packet(CLIENT, VIP, b"").tcp("SFR"),
        packet(CLIENT, VIP, b"").tcp(""),
        packet("10.0.0.100:5000", VIP, b"").tcp("S"),
        packet("10.9.0.1:5000", VIP, b"").tcp("S"),
        packet("127.0.0.1:5000", VIP, b"").tcp("S"),
        packet("224.0.0.1:5000", VIP, b"").tcp("S"),
        packet("192.0.2.7:0", VIP, b"").tcp("S"),
        packet(CLIENT, "10.0.0.100:0", b"").tcp("S"),
        packet(BACKEND, SNAT, b"").tcp("SA"),
        changed(12, 0x08).into_iter().take(40).collect(),
        changed(13, 0x06),
        changed(14, 0x65),
        changed(14, 0x44),
        changed(17, 0xff),
        changed(24, 0),
        changed(46, 0x10),
        syn[..20].to_vec(),
        Vec::from(&syn[..10]),
        fragment(),
        unrelated_error(),
    ];
    (0..).zip(packets).collect()
}

fn fragment() -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (address(CLIENT).ip(), address(VIP).ip()) else { panic!("IPv4") };
    let mut header = Ipv4Header::new(64, 64, IpNumber::UDP, from.octets(), to.octets()).expect("a header");
    (header.more_fragments, header.fragment_offset) = (true, IpFragOffset::try_new(8).expect("an offset"));
    header.header_checksum = header.calc_header_checksum();
    let mut bytes = syn_ethernet();
    header.write(&mut bytes).expect("a packet");
    bytes.extend([0; 64]);
    bytes
}

fn syn_ethernet() -> Vec<u8> {
    packet(CLIENT, VIP, b"").tcp("S")[..14].to_vec()
}

/// About a packet that weir never sent.
fn unrelated_error() -> Vec<u8> {
    let inner = packet(SNAT, BACKEND, b"").tcp("S");
    let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let mut bytes = Vec::new();
    let built = packet("10.2.0.1:1", "10.9.0.1:1", b"").ip().icmpv4(kind);
    built.write(&mut bytes, &inner[14..]).expect("a packet");
    bytes
}

/// As a pcap file. The first packet is seen at a fixed moment, so that the files come out the same each time.
pub(crate) fn write_capture(capture: &Capture) -> Vec<u8> {
    const BEGAN: Duration = Duration::from_secs(1_700_000_000);
    let header = PcapHeader {
        datalink: pcap_file::DataLink::ETHERNET,
        endianness: pcap_file::Endianness::Little,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(Vec::new(), header).expect("a header");
    for (at, bytes) in capture {
        let length = u32::try_from(bytes.len()).expect("a length");
        let packet = PcapPacket::new(BEGAN + Duration::from_millis(*at), length, bytes);
        writer.write_packet(&packet).expect("a packet");
    }
    writer.into_writer()
}
