//! RST segments that weir itself sends (RFC 9293, section 3.5.2): in the place of a segment that is refused, or out of nothing.
//!
//! ```text
//! | Ethernet, tag | IP header | TCP header |
//!                   20 or 40    20
//! ```

use super::icmp_error::{Refused, is_between_hosts, swap_stations};
use crate::packet::tcp::{Segment, flag};
use crate::packet::{Headers, Payload, checksum, ethernet, ipv4, ipv6, tcp};
use std::net::{IpAddr, SocketAddr};

/// RSTs a second that one worker answers with. They are no larger than what they answer, so that nobody gains by asking for them.
pub const RATE: u32 = 10_000;
/// RSTs that it sends at once after it was silent.
pub const BURST: u32 = 1000;
/// TTL and hop limit of a RST.
const TTL: u8 = 64;
/// The largest frame that [`TcpReset::write_frame`] makes: IPv6 without a tag.
pub const LONGEST_FRAME: usize = ethernet::HEADER + ipv6::HEADER + tcp::HEADER;

/// A RST segment. Both addresses are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpReset {
    /// Who is to have sent it.
    pub source: SocketAddr,
    /// Who gets it.
    pub destination: SocketAddr,
    /// Its sequence number: its receiver believes it if that is the next one it expects (RFC 5961, section 3.2).
    pub sequence: u32,
    /// What it acknowledges; `None`: without ACK.
    pub acknowledgment: Option<u32>,
}

impl TcpReset {
    /// The answer to a segment for which there is no connection (RFC 9293, section 3.10.7.1).
    ///
    /// # Errors
    /// When none may be sent: about a RST, and about what is not TCP or not all of its packet.
    ///
    /// # Panics
    /// When `headers` are not those of the frame in `bytes`.
    pub fn answer_to(bytes: &[u8], headers: &Headers) -> Result<Self, Refused> {
        if !matches!(headers.payload, Payload::Tcp(_)) {
            return Err(Refused::NotTcp);
        }
        let transport = &bytes[headers.l4()..usize::from(headers.end)];
        let (segment, ports) = (Segment::read(transport), headers.ports(bytes));
        // "An incoming segment containing a RST is discarded."
        if segment.has(flag::RST) {
            return Err(Refused::AboutReset);
        }
        // "If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
        //  If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>."
        let (sequence, acknowledgment) = match segment.has(flag::ACK) {
            true => (segment.acknowledgment, None),
            false => (0, Some(segment.end)),
        };
        Ok(Self {
            source: SocketAddr::new(headers.destination(bytes), ports as u16),
            destination: SocketAddr::new(headers.source(bytes), (ports >> 16) as u16),
            sequence,
            acknowledgment,
        })
    }

    /// Bytes of the IP packet.
    pub fn packet_length(&self) -> usize {
        let header = if self.source.is_ipv4() { ipv4::HEADER } else { ipv6::HEADER };
        header + tcp::HEADER
    }

    /// Writes a frame: untagged, with stations of zeroes, for whoever sends it to put in. Its length; `None`: `buffer` is too short
    /// ([`LONGEST_FRAME`] is enough), or the addresses are of two families.
    pub fn write_frame(&self, buffer: &mut [u8]) -> Option<usize> {
        let ether_type = if self.source.is_ipv4() { ethernet::IPV4 } else { ethernet::IPV6 };
        let (link, packet) = buffer.split_at_mut_checked(ethernet::HEADER)?;
        self.write_packet(packet)?;
        link[..12].fill(0);
        put16(link, 12, ether_type);
        Some(ethernet::HEADER + self.packet_length())
    }

    /// Writes the IP packet. `None`: as above.
    fn write_packet(&self, buffer: &mut [u8]) -> Option<()> {
        let packet = buffer.get_mut(..self.packet_length())?;
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (header, segment) = packet.split_at_mut(ipv4::HEADER);
                write_ipv4(header, source.octets(), destination.octets());
                let addresses = checksum::sum(&header[ipv4::ADDRESSES..]);
                self.write_segment(segment, addresses);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (header, segment) = packet.split_at_mut(ipv6::HEADER);
                write_ipv6(header, source.octets(), destination.octets());
                let addresses = checksum::sum(&header[ipv6::ADDRESSES..]);
                self.write_segment(segment, addresses);
            }
            _ => return None,
        }
        Some(())
    }

    /// `addresses` is their part of the pseudo header's sum. The window is 0: nothing may follow.
    fn write_segment(&self, segment: &mut [u8], addresses: u64) {
        segment.fill(0);
        put16(segment, 0, self.source.port());
        put16(segment, 2, self.destination.port());
        put32(segment, tcp::SEQUENCE, self.sequence);
        put32(segment, tcp::ACKNOWLEDGMENT, self.acknowledgment.unwrap_or(0));
        // In units of 4 bytes, in the upper half.
        segment[tcp::DATA_OFFSET] = (tcp::HEADER << 2) as u8;
        segment[tcp::FLAGS] = flag::RST | if self.acknowledgment.is_some() { flag::ACK } else { 0 };
        let sum = checksum::sum(segment) + addresses + checksum::pseudo_header(TCP, segment.len());
        put16(segment, tcp::CHECKSUM, !checksum::fold(sum));
    }
}

/// IP protocol number.
const TCP: u8 = 6;

/// Turns the frame in the first `length` bytes of `buffer`, of which `headers` are the parsed headers, into the RST that refuses it. It goes back
/// on the link that the segment came from, to the station that sent it. Returns its length.
///
/// # Errors
/// When none may be sent; the frame is untouched.
///
/// # Panics
/// When `headers` are not those of the frame.
pub fn answer(buffer: &mut [u8], length: usize, headers: &Headers) -> Result<usize, Refused> {
    is_between_hosts(&buffer[..length], headers)?;
    let reset = TcpReset::answer_to(&buffer[..length], headers)?;
    let packet = headers.l3();
    reset.write_packet(&mut buffer[packet..]).ok_or(Refused::NoRoom)?;
    swap_stations(buffer);
    Ok(packet + reset.packet_length())
}

fn write_ipv4(header: &mut [u8], source: [u8; 4], destination: [u8; 4]) {
    header.fill(0);
    header[0] = 0x45;
    put16(header, ipv4::TOTAL_LENGTH, (ipv4::HEADER + tcp::HEADER) as u16);
    // RFC 6864, section 4.1: a packet with DF that is not a fragment needs no identification.
    put16(header, ipv4::FRAGMENT, ipv4::DONT_FRAGMENT);
    header[ipv4::TTL] = TTL;
    header[ipv4::PROTOCOL] = TCP;
    header[ipv4::ADDRESSES..ipv4::ADDRESSES + 4].copy_from_slice(&source);
    header[ipv4::ADDRESSES + 4..].copy_from_slice(&destination);
    let sum = !checksum::fold(checksum::sum(header));
    put16(header, ipv4::CHECKSUM, sum);
}

fn write_ipv6(header: &mut [u8], source: [u8; 16], destination: [u8; 16]) {
    put32(header, 0, 6 << 28);
    put16(header, ipv6::PAYLOAD_LENGTH, tcp::HEADER as u16);
    header[ipv6::NEXT_HEADER] = TCP;
    header[ipv6::HOP_LIMIT] = TTL;
    header[ipv6::ADDRESSES..ipv6::ADDRESSES + 16].copy_from_slice(&source);
    header[ipv6::ADDRESSES + 16..].copy_from_slice(&destination);
}

fn put16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

fn put32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse;
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeaderSlice, TransportSlice, VlanId};
    use proptest::prelude::*;

    const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const WEIR: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn client(v6: bool) -> SocketAddr {
        if v6 { "[fd00::1]:40000" } else { "10.1.0.1:40000" }.parse().unwrap()
    }

    fn vip(v6: bool) -> SocketAddr {
        if v6 { "[fd00::9]:80" } else { "10.9.9.9:80" }.parse().unwrap()
    }

    /// A segment from the client to the VIP, and `change` made to its header.
    fn segment(v6: bool, tag: Option<u16>, payload: usize, change: impl FnOnce(&mut etherparse::TcpHeader)) -> Vec<u8> {
        let mut tcp = etherparse::TcpHeader::new(40000, 80, 1000, 5000);
        change(&mut tcp);
        let payload = vec![7; payload];
        let mut frame = Vec::new();
        let link = PacketBuilder::ethernet2(STATION, WEIR);
        let (from, to) = (client(v6).ip(), vip(v6).ip());
        let link = match tag {
            Some(id) => return tagged(link.single_vlan(VlanId::try_new(id).unwrap()), from, to, tcp, &payload),
            None => link,
        };
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                link.ipv4(from.octets(), to.octets(), 9).tcp_header(tcp).write(&mut frame, &payload)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                link.ipv6(from.octets(), to.octets(), 9).tcp_header(tcp).write(&mut frame, &payload)
            }
            _ => unreachable!(),
        }
        .unwrap();
        frame
    }

    fn tagged(
        link: etherparse::PacketBuilderStep<etherparse::VlanHeader>,
        from: IpAddr,
        to: IpAddr,
        tcp: etherparse::TcpHeader,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut frame = Vec::new();
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                link.ipv4(from.octets(), to.octets(), 9).tcp_header(tcp).write(&mut frame, payload)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                link.ipv6(from.octets(), to.octets(), 9).tcp_header(tcp).write(&mut frame, payload)
            }
            _ => unreachable!(),
        }
        .unwrap();
        frame
    }

    /// The RST about a frame.
    fn answered(frame: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut buffer = frame.to_vec();
        buffer.resize(2048, 0xee);
        let before = buffer.clone();
        match answer(&mut buffer, frame.len(), &parse(frame).unwrap()) {
            Ok(length) => {
                buffer.truncate(length);
                Ok(buffer)
            }
            Err(refused) => {
                assert_eq!(buffer, before, "a refused frame is untouched");
                Err(refused)
            }
        }
    }

    /// The TCP header of a RST frame, after all that holds for each of them was looked at.
    fn header(frame: &[u8], from: SocketAddr, to: SocketAddr) -> etherparse::TcpHeader {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        let tcp: TcpHeaderSlice<'_> = TcpHeaderSlice::from_slice(tcp.slice()).unwrap();
        match sliced.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert!(header.dont_fragment && header.time_to_live == 64 && header.total_len == 40);
                assert_eq!((IpAddr::from(header.source), IpAddr::from(header.destination)), (from.ip(), to.ip()));
                assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv4_raw(header.source, header.destination, &[]).unwrap());
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header().to_header();
                assert!(header.hop_limit == 64 && header.payload_length == 20);
                assert_eq!((IpAddr::from(header.source), IpAddr::from(header.destination)), (from.ip(), to.ip()));
                assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv6_raw(header.source, header.destination, &[]).unwrap());
            }
            other => panic!("{other:?}"),
        }
        let header = tcp.to_header();
        assert_eq!((header.source_port, header.destination_port, header.window_size), (from.port(), to.port(), 0));
        assert!(header.rst && !header.syn && !header.fin);
        header
    }

    proptest! {
        #[test]
        fn a_syn_is_refused_with_its_own_number_acknowledged(v6: bool, tag in prop::option::of(1u16..4095), number: u32, payload in 0usize..600) {
            let frame = segment(v6, tag, payload, |tcp| (tcp.syn, tcp.sequence_number) = (true, number));
            let rst = answered(&frame).unwrap();
            prop_assert_eq!((&rst[..6], &rst[6..12]), (&frame[6..12], &frame[..6]));
            let l3 = parse(&frame).unwrap().l3();
            prop_assert_eq!(&rst[12..l3], &frame[12..l3], "EtherType and tag stay");
            let header = header(&rst, vip(v6), client(v6));
            // SYN counts one, and so does each byte of data.
            prop_assert_eq!((header.sequence_number, header.ack, header.acknowledgment_number), (0, true, number.wrapping_add(1 + payload as u32)));
        }

        #[test]
        fn an_acknowledging_segment_is_refused_at_the_number_that_it_expects(v6: bool, ack: u32) {
            let frame = segment(v6, None, 3, |tcp| (tcp.ack, tcp.acknowledgment_number) = (true, ack));
            let header = header(&answered(&frame).unwrap(), vip(v6), client(v6));
            prop_assert_eq!((header.sequence_number, header.ack, header.acknowledgment_number), (ack, false, 0));
        }

        #[test]
        fn one_out_of_nothing_is_whole(v6: bool, sequence: u32, acknowledgment: Option<u32>) {
            let reset = TcpReset { source: vip(v6), destination: client(v6), sequence, acknowledgment };
            let mut frame = [0xee; LONGEST_FRAME];
            let length = reset.write_frame(&mut frame).unwrap();
            let header = header(&frame[..length], vip(v6), client(v6));
            prop_assert_eq!((header.sequence_number, header.ack, header.acknowledgment_number), (sequence, acknowledgment.is_some(), acknowledgment.unwrap_or(0)));
            prop_assert!(frame[..12] == [0; 12] && parse(&frame[..length]).is_ok());
            prop_assert_eq!(reset.write_frame(&mut frame[..length - 1]), None);
        }
    }

    #[test]
    fn a_rst_is_never_answered_nor_is_what_was_sent_to_many() {
        for v6 in [false, true] {
            for ack in [false, true] {
                let frame = segment(v6, None, 0, |tcp| (tcp.rst, tcp.ack) = (true, ack));
                assert_eq!(answered(&frame), Err(Refused::AboutReset));
            }
            let mut frame = segment(v6, None, 0, |tcp| tcp.syn = true);
            frame[0] |= 1;
            assert_eq!(answered(&frame), Err(Refused::NotOneHost));
        }
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(STATION, WEIR).ipv4([10, 1, 0, 1], [10, 9, 9, 9], 9).udp(1, 2).write(&mut frame, &[]).unwrap();
        assert_eq!(answered(&frame), Err(Refused::NotTcp));
    }

    #[test]
    fn two_families_make_no_packet() {
        let reset = TcpReset { source: vip(true), destination: client(false), sequence: 1, acknowledgment: None };
        assert_eq!(reset.write_frame(&mut [0; 128]), None);
    }
}
