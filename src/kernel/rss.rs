//! How a network card spreads received packets over its queues: key, indirection table, and what it hashes, by the ethtool ioctl.
#![allow(unsafe_code)] // promises about structures of <linux/ethtool.h>, see `ethtool`

use super::ethtool::{Request, ioctl};
use crate::packet::rss::Rss;
use crate::packet::toeplitz::{Hashed, KEY, Toeplitz};
use std::fmt;
use std::io;

/// Why the queue of a packet cannot be foretold.
#[derive(Debug, thiserror::Error)]
pub enum RssError {
    /// The driver or the kernel refused to tell.
    #[error("its driver does not tell key and table ({0})")]
    Refused(#[source] io::Error),
    /// Nothing is spread: there is no table.
    #[error("it has no indirection table")]
    NoTable,
    /// A table without a key, as igb's driver answers.
    #[error("its driver does not tell its key")]
    NoKey,
    /// One that is too short for IPv6, or longer than any card has.
    #[error("its key has {0} bytes, {KEY} to {LONGEST_KEY} are needed")]
    KeyLength(usize),
    /// The table's index is not some bits of the hash.
    #[error("its indirection table has {0} entries, not a power of two up to {TABLE}")]
    OddTable(u32),
    /// The driver says another hash, or none.
    #[error("its hash function is {0}, not Toeplitz")]
    Function(Function),
    /// Source and destination are mixed before they are hashed.
    #[error("it hashes symmetrically (input transformation {0:#x})")]
    Symmetric(u8),
}

/// Hash functions of a card, a bit for each (`ETH_RSS_HASH_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function(pub u8);

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("not told"),
            TOEPLITZ => f.write_str("Toeplitz"),
            2 => f.write_str("XOR"),
            4 => f.write_str("CRC32"),
            other => write!(f, "{other:#x}"),
        }
    }
}

// Of <linux/ethtool.h>.
const GET_HASH: u32 = 0x46;
const GET_HASHED: u32 = 0x29;
const TOEPLITZ: u8 = 1;
const TCP_V4: u32 = 1;
const UDP_V4: u32 = 2;
const TCP_V6: u32 = 5;
const UDP_V6: u32 = 6;
const ADDRESSES: u64 = 1 << 4 | 1 << 5;
const PORTS: u64 = 1 << 6 | 1 << 7;

/// Most entries of an indirection table. The largest that drivers of Linux have is 2048.
const TABLE: u32 = 4096;
/// Most bytes of a key; most cards have 40 or 52.
const LONGEST_KEY: u32 = 256;
/// Words that table and key fit in.
const WORDS: usize = (TABLE + LONGEST_KEY / 4) as usize;

/// `struct ethtool_rxfh`: the table, a word an entry, and behind it the key.
#[repr(C)]
#[derive(Clone)]
struct RawHash {
    command: u32,
    context: u32,
    table_size: u32,
    key_size: u32,
    function: u8,
    transformation: u8,
    reserved: [u8; 6],
    config: [u32; WORDS],
}

impl RawHash {
    const fn asking(table_size: u32, key_size: u32) -> Self {
        Self {
            command: GET_HASH,
            context: 0,
            table_size,
            key_size,
            function: 0,
            transformation: 0,
            reserved: [0; 6],
            config: [0; WORDS],
        }
    }
}

/// The beginning of `struct ethtool_rxnfc`: all of it that the kernel reads and writes for this command.
#[repr(C)]
struct RawHashed {
    command: u32,
    flow: u32,
    fields: u64,
}

// SAFETY: as in <linux/ethtool.h>, which never changes; the kernel copies as much behind the head as the two sizes say, which
// `read` holds below `WORDS` words.
unsafe impl Request for RawHash {}
// SAFETY: as above; for this command the kernel copies 16 bytes (`ethtool_rxnfc_copy_struct`).
unsafe impl Request for RawHashed {}

const _: () = assert!(size_of::<RawHash>() == 24 + 4 * WORDS && size_of::<RawHashed>() == 16);

/// How an interface spreads packets over its queues, if that can be foretold. Not every driver tells: EOPNOTSUPP.
pub fn rss(interface: &str) -> Result<Rss, RssError> {
    let (toeplitz, table) = understand(&read(interface)?)?;
    let hashed = |flow| hashed(interface, flow);
    let [tcp_v4, udp_v4, tcp_v6, udp_v6] = [TCP_V4, UDP_V4, TCP_V6, UDP_V6].map(hashed);
    Ok(Rss { toeplitz, table, tcp_v4, udp_v4, tcp_v6, udp_v6 })
}

/// Asked with sizes of 0 the kernel tells the sizes; the second time they must be those.
fn read(interface: &str) -> Result<RawHash, RssError> {
    let mut sizes = RawHash::asking(0, 0);
    ioctl(interface, &mut sizes).map_err(RssError::Refused)?;
    check_sizes(&sizes)?;
    let mut raw = RawHash::asking(sizes.table_size, sizes.key_size);
    ioctl(interface, &mut raw).map_err(RssError::Refused)?;
    Ok(raw)
}

fn check_sizes(raw: &RawHash) -> Result<(), RssError> {
    let RawHash { table_size, key_size, .. } = *raw;
    match table_size {
        0 => Err(RssError::NoTable),
        size if size > TABLE || !size.is_power_of_two() => Err(RssError::OddTable(size)),
        _ if key_size == 0 => Err(RssError::NoKey),
        _ if !(KEY as u32..=LONGEST_KEY).contains(&key_size) => Err(RssError::KeyLength(key_size as usize)),
        _ => Ok(()),
    }
}

fn understand(raw: &RawHash) -> Result<(Toeplitz, Box<[u32]>), RssError> {
    check_sizes(raw)?;
    if raw.function != TOEPLITZ {
        return Err(RssError::Function(Function(raw.function)));
    }
    if raw.transformation != 0 {
        return Err(RssError::Symmetric(raw.transformation));
    }
    let (table, behind) = raw.config.split_at(raw.table_size as usize);
    let key: Vec<u8> = behind.iter().flat_map(|word| word.to_ne_bytes()).take(raw.key_size as usize).collect();
    let toeplitz = Toeplitz::new(&key).ok_or(RssError::KeyLength(key.len()))?;
    Ok((toeplitz, table.into()))
}

/// What is hashed of a kind of packets. A driver that does not tell leaves that open.
fn hashed(interface: &str, flow: u32) -> Option<Hashed> {
    let mut raw = RawHashed { command: GET_HASHED, flow, fields: 0 };
    ioctl(interface, &mut raw).ok()?;
    hashed_of(raw.fields)
}

/// Of the bits `RXH_*`. Other fields, or one side alone, are not foretold.
fn hashed_of(fields: u64) -> Option<Hashed> {
    const BOTH: u64 = ADDRESSES | PORTS;
    match fields {
        ADDRESSES => Some(Hashed::Addresses),
        BOTH => Some(Hashed::AddressesAndPorts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a card with 128 entries over 4 queues and a key of 40 bytes answers.
    fn answer() -> RawHash {
        let mut raw = RawHash { function: TOEPLITZ, ..RawHash::asking(128, 40) };
        for (at, word) in raw.config.iter_mut().enumerate().take(138) {
            *word = if at < 128 { at as u32 % 4 } else { u32::from_ne_bytes([at as u8, 1, 2, 3]) };
        }
        raw
    }

    #[test]
    fn key_and_table_are_read_from_behind_the_head() {
        let (toeplitz, table) = understand(&answer()).unwrap();
        let key: Vec<u8> = (128..138).flat_map(|at| [at, 1, 2, 3]).collect();
        assert_eq!(Some(toeplitz), Toeplitz::new(&key));
        assert_eq!(*table, std::array::from_fn::<u32, 128, _>(|entry| entry as u32 % 4));
    }

    #[test]
    fn what_cannot_be_foretold_says_why() {
        let why = |change: fn(&mut RawHash)| {
            let mut raw = answer();
            change(&mut raw);
            understand(&raw).unwrap_err().to_string()
        };
        assert_eq!(why(|raw| raw.function = 2), "its hash function is XOR, not Toeplitz");
        assert_eq!(why(|raw| raw.function = 0), "its hash function is not told, not Toeplitz");
        assert_eq!(why(|raw| raw.transformation = 1), "it hashes symmetrically (input transformation 0x1)");
        assert_eq!(why(|raw| raw.key_size = 0), "its driver does not tell its key");
        assert_eq!(why(|raw| raw.key_size = 16), "its key has 16 bytes, 40 to 256 are needed");
        assert_eq!(why(|raw| raw.key_size = 257), "its key has 257 bytes, 40 to 256 are needed");
        assert_eq!(why(|raw| raw.table_size = 0), "it has no indirection table");
        assert_eq!(why(|raw| raw.table_size = 100), "its indirection table has 100 entries, not a power of two up to 4096");
        assert_eq!(why(|raw| raw.table_size = 8192), "its indirection table has 8192 entries, not a power of two up to 4096");
    }

    #[test]
    fn hashed_fields_are_two_addresses_with_or_without_two_ports() {
        assert_eq!(hashed_of(0x30), Some(Hashed::Addresses));
        assert_eq!(hashed_of(0xf0), Some(Hashed::AddressesAndPorts));
        // Nothing, one address, one port, the VLAN too.
        assert!([0, 0x10, 0x70, 0xf4].into_iter().all(|fields| hashed_of(fields).is_none()));
    }
}
