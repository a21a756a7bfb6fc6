//! The Toeplitz hash by which a network card spreads received packets over its queues (receive side scaling).
//!
//! For each bit of the input that is set, the 32 bits of the key that begin at the same place are put together by exclusive or. So the hash of
//! a packet is that of the same packet with port 0, exclusive or what the port alone gives ([`Toeplitz::destination_port`]).
//!
//! Source: Microsoft, "RSS hashing functions" and "Verifying the RSS hash calculation".

use std::net::{IpAddr, SocketAddr};

/// Bytes of a key: enough for two addresses of IPv6 and two ports, and the 32 bits behind the last one.
pub const KEY: usize = 40;
/// Bits of the longest input.
const BITS: usize = 8 * (KEY - 4);

/// What of a packet is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hashed {
    /// Source and destination address.
    Addresses,
    /// And source and destination port behind them.
    AddressesAndPorts,
}

/// The hash under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toeplitz {
    /// The 32 bits of the key that begin at each bit.
    windows: [u32; BITS],
}

impl Toeplitz {
    /// `None`: the key is shorter than [`KEY`]. What is behind that many bytes no input of these reaches.
    pub fn new(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY] = key.first_chunk()?;
        let window = |bit: usize| {
            let bytes = (0..5).fold(0u64, |bytes, at| bytes << 8 | u64::from(key.get(bit / 8 + at).copied().unwrap_or(0)));
            (bytes >> (8 - bit % 8)) as u32
        };
        Some(Self { windows: std::array::from_fn(window) })
    }

    /// The hash of a packet of TCP or UDP; `None`: its addresses are of two families.
    pub fn hash(&self, source: SocketAddr, destination: SocketAddr, hashed: Hashed) -> Option<u32> {
        let (of_addresses, ports) = match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (self.of(0, &from.octets()) ^ self.of(4, &to.octets()), 8),
            (IpAddr::V6(from), IpAddr::V6(to)) => (self.of(0, &from.octets()) ^ self.of(16, &to.octets()), 32),
            _ => return None,
        };
        Some(match hashed {
            Hashed::Addresses => of_addresses,
            Hashed::AddressesAndPorts => {
                let source = self.of(ports, &source.port().to_be_bytes());
                of_addresses ^ source ^ self.of(ports + 2, &destination.port().to_be_bytes())
            }
        })
    }

    /// What the source port adds to the hash of a packet from this address whose ports are hashed.
    pub fn source_port(&self, source: SocketAddr) -> u32 {
        let at = if source.is_ipv4() { 8 } else { 32 };
        self.of(at, &source.port().to_be_bytes())
    }

    /// What the destination port adds to the hash of a packet to this address whose ports are hashed.
    pub fn destination_port(&self, destination: SocketAddr) -> u32 {
        let at = if destination.is_ipv4() { 10 } else { 34 };
        self.of(at, &destination.port().to_be_bytes())
    }

    /// What these bytes add, `at` bytes behind the beginning of the input.
    fn of(&self, at: usize, bytes: &[u8]) -> u32 {
        let bits = bytes
            .iter()
            .enumerate()
            .flat_map(|(byte, value)| (0..8).filter(move |bit| value & 0x80 >> bit != 0).map(move |bit| 8 * (at + byte) + bit));
        bits.fold(0, |hash, bit| hash ^ self.windows[bit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the verification suite.
    const SUITE: [u8; KEY] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
        0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Destination, source, hash of the addresses, hash with the ports.
    const VECTORS: [(&str, &str, u32, u32); 8] = [
        ("161.142.100.80:1766", "66.9.149.187:2794", 0x323e_8fc2, 0x51cc_c178),
        ("65.69.140.83:4739", "199.92.111.2:14230", 0xd718_262a, 0xc626_b0ea),
        ("12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0_a5de, 0x5c2b_394a),
        ("209.142.163.6:2217", "38.27.205.30:48228", 0x8298_9176, 0xafc7_327f),
        ("202.188.127.2:1303", "153.39.163.191:44251", 0x5d18_09c5, 0x10e8_28a2),
        ("[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc1_8cd5, 0x4020_7d3d),
        ("[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c_461c, 0xdde5_1bbf),
        ("[fe80::200:f8ff:fe21:67cf]:38024", "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x4b61_e985, 0x02d1_feef),
    ];

    #[test]
    fn gives_the_hashes_that_microsoft_publishes() {
        let toeplitz = Toeplitz::new(&SUITE).unwrap();
        for (destination, source, of_addresses, with_ports) in VECTORS {
            let (source, to) = (source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(toeplitz.hash(source, to, Hashed::Addresses), Some(of_addresses), "{destination}");
            assert_eq!(toeplitz.hash(source, to, Hashed::AddressesAndPorts), Some(with_ports), "{destination}");
        }
    }

    #[test]
    fn the_part_of_a_port_is_put_on_by_exclusive_or() {
        let toeplitz = Toeplitz::new(&SUITE).unwrap();
        for (destination, source, _, _) in VECTORS {
            let (source, to): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
            let fixed = toeplitz.hash(source, SocketAddr::new(to.ip(), 0), Hashed::AddressesAndPorts).unwrap();
            assert_eq!(toeplitz.hash(source, to, Hashed::Addresses).unwrap() ^ toeplitz.source_port(source), fixed);
            for port in (0..=u16::MAX).step_by(7) {
                let to = SocketAddr::new(to.ip(), port);
                let whole = toeplitz.hash(source, to, Hashed::AddressesAndPorts);
                assert_eq!(whole, Some(fixed ^ toeplitz.destination_port(to)), "{to}");
            }
        }
    }

    #[test]
    fn a_short_key_is_none_and_a_longer_one_counts_by_its_beginning() {
        assert_eq!(Toeplitz::new(&SUITE[..KEY - 1]), None);
        let longer = [&SUITE[..], &[0xff; 12]].concat();
        assert_eq!(Toeplitz::new(&longer), Toeplitz::new(&SUITE));
        let (v4, v6) = ("192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap());
        assert_eq!(Toeplitz::new(&SUITE).unwrap().hash(v4, v6, Hashed::Addresses), None);
    }
}
