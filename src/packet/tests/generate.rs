//! Random packets that are right: what a host may send and weir must read.

use crate::packet::{checksum, ethernet};
use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader,
};
use proptest::prelude::*;

/// A packet and what stands around it.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    tag: Option<u16>,
    network: Network,
    transport: Transport,
    payload: Vec<u8>,
    padding: usize,
}

#[derive(Debug, Clone)]
enum Network {
    V4 { source: u32, destination: u32, ttl: u8, tos: u8, identification: u16, fragment: Option<(u16, bool)>, options: Vec<u8> },
    V6 { source: u128, destination: u128, hop_limit: u8, class_and_label: u32, extensions: Vec<Extension> },
}

/// An IPv6 extension header; hop-by-hop options are put first.
#[derive(Debug, Clone)]
enum Extension {
    HopByHop(u8),
    Destination(u8),
    /// Without segments left.
    Routing(u8),
    Fragment {
        offset: u16,
        more: bool,
    },
}

#[derive(Debug, Clone)]
enum Transport {
    Tcp { ports: (u16, u16), flags: u8, numbers: (u32, u32), window: u16, options: Vec<u8> },
    Udp { ports: (u16, u16), without_checksum: bool },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
}

pub(super) fn packets() -> impl Strategy<Value = Packet> {
    let network = prop_oneof![network_v4(), network_v6()];
    (prop::option::of(any::<u16>()), network, transports(), prop::collection::vec(any::<u8>(), 0..120), 0usize..30)
        .prop_map(|(tag, network, transport, payload, padding)| Packet { tag, network, transport, payload, padding })
}

fn network_v4() -> impl Strategy<Value = Network> {
    let source = (1u32..224)
        .prop_filter("loopback", |first| *first != 127)
        .prop_flat_map(|first| (Just(first), 0u32..1 << 24).prop_map(|(first, rest)| first << 24 | rest));
    let fragment = prop_oneof![6 => Just(None), 1 => (0u16..0x2000, any::<bool>()).prop_map(Some)];
    (source, any::<u32>(), any::<u8>(), any::<u8>(), any::<u16>(), fragment, options_v4())
        .prop_filter("source is destination", |(source, destination, ..)| source != destination)
        .prop_map(|(source, destination, ttl, tos, identification, fragment, options)| Network::V4 {
            source,
            destination,
            ttl,
            tos,
            identification,
            fragment,
            options,
        })
}

/// No-operations and options with a length, filled up with end-of-list; never a source route.
fn options_v4() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1]),
        (prop::sample::select(vec![7u8, 68, 82, 130, 136, 148]), prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(kind, data)| [vec![kind, data.len() as u8 + 2], data].concat())
    ];
    let options = prop::collection::vec(option, 0..4).prop_map(|options| {
        let mut bytes = options.concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    });
    prop_oneof![2 => Just(Vec::new()), 1 => options]
}

fn network_v6() -> impl Strategy<Value = Network> {
    let source = (1u128..0xff00, any::<u128>()).prop_map(|(upper, rest)| upper << 112 | rest >> 16);
    let extension = prop_oneof![
        (0u8..4).prop_map(Extension::Destination),
        (0u8..4).prop_map(Extension::Routing),
        (0u16..0x2000, any::<bool>()).prop_map(|(offset, more)| Extension::Fragment { offset, more }),
        Just(Extension::Fragment { offset: 0, more: false }),
    ];
    let chain = (prop::option::of((0u8..4).prop_map(Extension::HopByHop)), prop::collection::vec(extension, 0..10))
        .prop_map(|(first, others)| first.into_iter().chain(others).collect());
    let extensions = prop_oneof![2 => Just(Vec::new()), 1 => chain];
    (source, any::<u128>(), any::<u8>(), 0u32..1 << 28, extensions)
        .prop_filter("source is destination", |(source, destination, ..)| source != destination)
        .prop_map(|(source, destination, hop_limit, class_and_label, extensions)| Network::V6 {
            source,
            destination,
            hop_limit,
            class_and_label,
            extensions,
        })
}

fn transports() -> impl Strategy<Value = Transport> {
    let ports = || (1u16.., 1u16..);
    // SYN, SYN ACK, RST, RST ACK, FIN ACK, ACK, each with any of PSH, URG, ECE, CWR.
    let flags = (prop::sample::select(vec![0x02u8, 0x12, 0x04, 0x14, 0x11, 0x10]), any::<u8>())
        .prop_map(|(kind, more)| kind | more & 0xe8);
    let options = (0usize..=10).prop_flat_map(|words| prop::collection::vec(any::<u8>(), words * 4));
    prop_oneof![
        3 => (ports(), flags, any::<(u32, u32)>(), any::<u16>(), options)
            .prop_map(|(ports, flags, numbers, window, options)| Transport::Tcp { ports, flags, numbers, window, options }),
        2 => (ports(), any::<bool>()).prop_map(|(ports, without_checksum)| Transport::Udp { ports, without_checksum }),
        1 => any::<(u8, u8, [u8; 4])>()
            // etherparse wants timestamps (13, 14) of one length only.
            .prop_filter("timestamp", |(kind, ..)| !matches!(kind, 13 | 14))
            .prop_map(|(kind, code, rest)| Transport::Icmp { kind, code, rest }),
    ]
}

impl Packet {
    /// The bytes on the wire, all lengths and checksums right.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
        if let Some(tag) = self.tag {
            frame.extend(ethernet::VLAN.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        match &self.network {
            Network::V4 { .. } => self.write_v4(&mut frame),
            Network::V6 { .. } => self.write_v6(&mut frame),
        }
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }

    /// The VLAN id that the frame is tagged with; 0 without tag.
    pub(super) fn vlan(&self) -> u16 {
        self.tag.unwrap_or(0) & ethernet::VLAN_ID
    }

    /// Bytes behind the IP packet.
    pub(super) fn padding(&self) -> usize {
        self.padding
    }

    /// Extension headers, of which weir reads at most eight.
    pub(super) fn extensions(&self) -> usize {
        if let Network::V6 { extensions, .. } = &self.network { extensions.len() } else { 0 }
    }

    fn write_v4(&self, frame: &mut Vec<u8>) {
        let Network::V4 { source, destination, ttl, tos, identification, fragment, options } = &self.network else { return };
        let (source, destination) = (source.to_be_bytes(), destination.to_be_bytes());
        let (protocol, payload) = self.transport_v4(source, destination);
        let mut header = Ipv4Header::new(payload.len() as u16, *ttl, protocol, source, destination).unwrap();
        (header.dscp, header.ecn) = ((tos >> 2).try_into().unwrap(), (tos & 3).try_into().unwrap());
        header.identification = *identification;
        header.options = options.as_slice().try_into().unwrap();
        header.set_payload_len(payload.len()).unwrap();
        if let Some((offset, more)) = *fragment {
            (header.dont_fragment, header.more_fragments) = (false, more);
            header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        }
        header.header_checksum = header.calc_header_checksum();
        frame.extend(ethernet::IPV4.to_be_bytes());
        header.write(frame).unwrap();
        frame.extend(payload);
    }

    fn transport_v4(&self, source: [u8; 4], destination: [u8; 4]) -> (IpNumber, Vec<u8>) {
        match &self.transport {
            Transport::Tcp { .. } => {
                let mut header = self.tcp_header();
                header.checksum = header.calc_checksum_ipv4_raw(source, destination, &self.payload).unwrap();
                (IpNumber::TCP, [&header.to_bytes(), self.payload.as_slice()].concat())
            }
            Transport::Udp { ports, without_checksum } => {
                let mut header =
                    UdpHeader { source_port: ports.0, destination_port: ports.1, length: self.udp_length(), checksum: 0 };
                if !without_checksum {
                    header.checksum = header.calc_checksum_ipv4_raw(source, destination, &self.payload).unwrap();
                }
                (IpNumber::UDP, [header.to_bytes().as_slice(), &self.payload].concat())
            }
            &Transport::Icmp { kind, code, rest } => {
                let message = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
                (
                    IpNumber::ICMP,
                    [&Icmpv4Header::with_checksum(message, &self.payload).to_bytes(), self.payload.as_slice()].concat(),
                )
            }
        }
    }

    fn write_v6(&self, frame: &mut Vec<u8>) {
        let Network::V6 { source, destination, hop_limit, class_and_label, extensions } = &self.network else { return };
        let (source, destination) = (source.to_be_bytes(), destination.to_be_bytes());
        let (protocol, payload) = self.transport_v6(source, destination);
        let (first, chain) = write_extensions(extensions, protocol);
        let mut header = Ipv6Header { next_header: first, hop_limit: *hop_limit, source, destination, ..Default::default() };
        header.traffic_class = (class_and_label >> 20) as u8;
        header.flow_label = (class_and_label & 0xf_ffff).try_into().unwrap();
        header.payload_length = (chain.len() + payload.len()) as u16;
        frame.extend(ethernet::IPV6.to_be_bytes());
        header.write(frame).unwrap();
        frame.extend(chain);
        frame.extend(payload);
    }

    fn transport_v6(&self, source: [u8; 16], destination: [u8; 16]) -> (IpNumber, Vec<u8>) {
        match &self.transport {
            Transport::Tcp { .. } => {
                let mut header = self.tcp_header();
                header.checksum = header.calc_checksum_ipv6_raw(source, destination, &self.payload).unwrap();
                (IpNumber::TCP, [&header.to_bytes(), self.payload.as_slice()].concat())
            }
            Transport::Udp { ports, .. } => {
                let mut header =
                    UdpHeader { source_port: ports.0, destination_port: ports.1, length: self.udp_length(), checksum: 0 };
                header.checksum = header.calc_checksum_ipv6_raw(source, destination, &self.payload).unwrap();
                (IpNumber::UDP, [header.to_bytes().as_slice(), &self.payload].concat())
            }
            &Transport::Icmp { kind, code, rest } => {
                let message = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
                let header = Icmpv6Header::with_checksum(message, source, destination, &self.payload).unwrap();
                (IpNumber::IPV6_ICMP, [&header.to_bytes(), self.payload.as_slice()].concat())
            }
        }
    }

    fn tcp_header(&self) -> TcpHeader {
        let Transport::Tcp { ports, flags, numbers, window, options } = &self.transport else { unreachable!("only for TCP") };
        let mut header = TcpHeader::new(ports.0, ports.1, numbers.0, *window);
        header.acknowledgment_number = numbers.1;
        let flag = |bit: u8| flags >> bit & 1 != 0;
        (header.fin, header.syn, header.rst, header.psh) = (flag(0), flag(1), flag(2), flag(3));
        (header.ack, header.urg, header.ece, header.cwr) = (flag(4), flag(5), flag(6), flag(7));
        header.set_options_raw(options).unwrap();
        header
    }

    fn udp_length(&self) -> u16 {
        8 + self.payload.len() as u16
    }
}

/// The chain in front of `protocol`, and the next header value that begins it.
fn write_extensions(extensions: &[Extension], protocol: IpNumber) -> (IpNumber, Vec<u8>) {
    let mut next = protocol;
    let mut chain = Vec::new();
    for extension in extensions.iter().rev() {
        let (number, bytes) = match *extension {
            Extension::HopByHop(units) => (IpNumber::IPV6_HEADER_HOP_BY_HOP, padded(next, units)),
            Extension::Destination(units) => (IpNumber::IPV6_DESTINATION_OPTIONS, padded(next, units)),
            Extension::Routing(units) => (IpNumber::IPV6_ROUTE_HEADER, routing(next, units)),
            Extension::Fragment { offset, more } => {
                let word = offset << 3 | u16::from(more);
                (IpNumber::IPV6_FRAGMENTATION_HEADER, [[next.0, 0], word.to_be_bytes(), [1, 2], [3, 4]].concat())
            }
        };
        chain = [bytes, chain].concat();
        next = number;
    }
    (next, chain)
}

/// Options that are one PadN (RFC 8200, section 4.2).
fn padded(next: IpNumber, units: u8) -> Vec<u8> {
    let mut bytes = vec![next.0, units, 1, units * 8 + 4];
    bytes.resize(usize::from(units) * 8 + 8, 0);
    bytes
}

fn routing(next: IpNumber, units: u8) -> Vec<u8> {
    let mut bytes = vec![next.0, units, 2, 0];
    bytes.resize(usize::from(units) * 8 + 8, 7);
    bytes
}

/// Makes the IPv4 header checksum right again, if there is a header.
pub(super) fn repair_v4(frame: &mut [u8]) {
    let Ok(link) = ethernet::parse(frame) else { return };
    let header = &mut frame[link.length..];
    let length = header.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
    if link.ether_type != ethernet::IPV4 || length < 20 || length > header.len() {
        return;
    }
    header[10..12].fill(0);
    let sum = !checksum::fold(checksum::sum(&header[..length]));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}
