//! FTP (RFC 959, RFC 2428): the lines of a control connection that name a port for data (`nf_conntrack_ftp`).
//!
//! Of the client PORT and EPRT, of the server the replies 227 (to PASV) and 229 (to EPSV). What is read is where in a line the address
//! and the port stand, and what they are; whether they may be believed is asked elsewhere.

use super::Direction;
use crate::packet::Ip;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How an address and a port are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// `PORT 10,0,0,5,156,64`
    Port = 1,
    /// `EPRT |1|10.0.0.5|40000|` or `EPRT |2|2001:db8::5|40000|`
    Eprt = 2,
    /// `227 Entering Passive Mode (10,0,0,5,156,64).`
    Pasv = 3,
    /// `229 Entering Extended Passive Mode (|||40000|)`: the port alone.
    Epsv = 4,
}

impl Form {
    /// The one with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Port, Self::Eprt, Self::Pasv, Self::Epsv].into_iter().find(|form| *form as u8 == number)
    }
}

/// An address and a port in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// How they are written.
    pub form: Form,
    /// Bytes of the line before them.
    pub at: usize,
    /// Bytes that they take, delimiters of the extended forms included; at most 56.
    pub length: usize,
    /// `None`: the address of the control connection's other end.
    pub address: Option<IpAddr>,
    /// Not 0.
    pub port: u16,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// One of those that name a port.
    Names(Endpoint),
    /// Perhaps the beginning of one: the rest of it must be seen.
    Partial,
    /// One of those, but what should stand there does not.
    Malformed,
    /// Any other.
    Other,
}

struct Pattern {
    word: &'static [u8],
    form: Form,
}

const OF_CLIENT: [Pattern; 2] = [Pattern { word: b"PORT ", form: Form::Port }, Pattern { word: b"EPRT ", form: Form::Eprt }];
const OF_SERVER: [Pattern; 2] = [Pattern { word: b"227 ", form: Form::Pasv }, Pattern { word: b"229 ", form: Form::Epsv }];

/// Reads a line of this direction, up to its end or to that of the segment.
pub fn read(direction: Direction, ip: Ip, line: &[u8]) -> Line {
    let patterns = if direction == Direction::Original { &OF_CLIENT } else { &OF_SERVER };
    let is_whole = line.ends_with(b"\n");
    for Pattern { word, form } in patterns {
        let same = line.len().min(word.len());
        if !line[..same].eq_ignore_ascii_case(&word[..same]) {
            continue;
        }
        return match line.get(word.len()..).and_then(|rest| endpoint(*form, ip, rest)) {
            Some(found) => Line::Names(Endpoint { at: word.len() + found.at, ..found }),
            None if !is_whole => Line::Partial,
            None => Line::Malformed,
        };
    }
    Line::Other
}

/// What stands behind the word, at its place there.
fn endpoint(form: Form, ip: Ip, rest: &[u8]) -> Option<Endpoint> {
    let found = |at: usize, length: usize, address: Option<IpAddr>, port: u16| {
        (port != 0).then_some(Endpoint { form, at, length, address, port })
    };
    match form {
        Form::Port => {
            let at = rest.iter().position(|byte| *byte != b' ')?;
            let (length, address, port) = host_port(&rest[at..])?;
            // Nothing but the line's end may follow.
            matches!(rest.get(at + length), Some(b'\r' | b'\n')).then(|| found(at, length, Some(address), port))?
        }
        Form::Pasv => {
            // RFC 1123, section 4.1.2.6: they may stand anywhere in the line.
            let at = rest.iter().position(u8::is_ascii_digit)?;
            let (length, address, port) = host_port(&rest[at..])?;
            found(at, length, Some(address), port)
        }
        Form::Eprt => {
            let at = rest.iter().position(|byte| *byte != b' ')?;
            let (length, address, port) = extended(ip, &rest[at..])?;
            found(at, length, Some(address), port)
        }
        Form::Epsv => {
            let at = rest.iter().position(|byte| *byte == b'(')? + 1;
            let text = &rest[at..];
            let delimiter = delimiter(text)?;
            let digits = text.strip_prefix(&[delimiter; 3])?;
            let (length, port) = port_before(digits, delimiter)?;
            found(at, 3 + length, None, port)
        }
    }
}

/// `h1,h2,h3,h4,p1,p2`, and a byte behind it that is none of them (`try_rfc959`).
fn host_port(text: &[u8]) -> Option<(usize, IpAddr, u16)> {
    let mut numbers = [0; 6];
    let mut at = 0;
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 {
            at += text[at..].starts_with(b",").then_some(1)?;
        }
        let (length, value) = decimal(&text[at..], 3)?;
        *number = u8::try_from(value).ok()?;
        at += length;
    }
    let [a, b, c, d, upper, lower] = numbers;
    let ends = text.get(at).is_some_and(|next| *next != b',' && !next.is_ascii_digit());
    ends.then_some((at, Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([upper, lower])))
}

/// Bytes of an address: eight groups of four digits, or six of them and an IPv4 address.
const LONGEST_ADDRESS: usize = 45;

/// `|1|address|port|`, or with 2 over IPv6 (`try_eprt`).
fn extended(ip: Ip, text: &[u8]) -> Option<(usize, IpAddr, u16)> {
    let delimiter = delimiter(text)?;
    let family = if ip == Ip::V4 { b'1' } else { b'2' };
    let rest = text.strip_prefix(&[delimiter, family, delimiter])?;
    let length = rest.iter().take(LONGEST_ADDRESS + 1).position(|byte| *byte == delimiter)?;
    let address = std::str::from_utf8(&rest[..length]).ok()?;
    let address: IpAddr = match ip {
        Ip::V4 => address.parse::<Ipv4Addr>().ok()?.into(),
        Ip::V6 => address.parse::<Ipv6Addr>().ok()?.into(),
    };
    let (port_length, port) = port_before(&rest[length + 1..], delimiter)?;
    Some((3 + length + 1 + port_length, address, port))
}

/// RFC 2428, section 2: any printable character that is no digit.
fn delimiter(text: &[u8]) -> Option<u8> {
    text.first().copied().filter(|byte| byte.is_ascii_graphic() && !byte.is_ascii_digit())
}

/// A port and the delimiter behind it (`get_port`).
fn port_before(text: &[u8], delimiter: u8) -> Option<(usize, u16)> {
    let (length, value) = decimal(text, 5)?;
    (text.get(length) == Some(&delimiter)).then_some((length + 1, u16::try_from(value).ok()?))
}

/// One to `most` digits.
fn decimal(text: &[u8], most: usize) -> Option<(usize, u32)> {
    let digits = text.iter().take(most + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let value = text[..digits].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    (1..=most).contains(&digits).then_some((digits, value))
}

#[cfg(test)]
mod tests;
