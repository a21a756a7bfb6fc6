//! The probe `type = "dns"`: one query over UDP (RFC 1035, section 4), and the answer's code, and an address in it where one is expected.
//!
//! Written here and not taken from a crate: it is one question and a walk over records, and hickory-proto brings forty crates with it.

use super::Failure;
use std::net::IpAddr;

/// What is asked, and what a good answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The name, as labels with their lengths, ending with the root.
    pub name: Name,
    /// Type of the records.
    pub record: Record,
    /// The code of a good answer.
    pub rcode: Rcode,
    /// An address that must be among the records.
    pub answer: Option<IpAddr>,
}

/// A name as it stands in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// Reads a name in its usual form, with or without a dot at the end. `None`: it has an empty label, one of more than 63 bytes, bytes
    /// that are not printable ASCII, or more than 255 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Vec::new();
        let text = text.strip_suffix('.').unwrap_or(text);
        for label in text.split('.').filter(|_| !text.is_empty()) {
            if !(1..=63).contains(&label.len()) || !label.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        (bytes.len() <= 255).then_some(Self(bytes))
    }
}

/// Types of records that can be asked for (RFC 1035, section 3.2.2; RFC 3596; RFC 2782).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u16)]
pub enum Record {
    /// IPv4 addresses.
    #[default]
    A = 1,
    /// Name servers.
    Ns = 2,
    /// Another name.
    Cname = 5,
    /// The zone.
    Soa = 6,
    /// Names of addresses.
    Ptr = 12,
    /// Mail servers.
    Mx = 15,
    /// Text.
    Txt = 16,
    /// IPv6 addresses.
    Aaaa = 28,
    /// Services.
    Srv = 33,
}

impl Record {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Record)] = &[
        ("A", Record::A),
        ("AAAA", Record::Aaaa),
        ("CNAME", Record::Cname),
        ("MX", Record::Mx),
        ("NS", Record::Ns),
        ("PTR", Record::Ptr),
        ("SOA", Record::Soa),
        ("SRV", Record::Srv),
        ("TXT", Record::Txt),
    ];
}

/// Codes of answers (RFC 1035, section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rcode(u8);

impl Rcode {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Rcode)] = &[
        ("NOERROR", Rcode(0)),
        ("FORMERR", Rcode(1)),
        ("SERVFAIL", Rcode(2)),
        ("NXDOMAIN", Rcode(3)),
        ("NOTIMP", Rcode(4)),
        ("REFUSED", Rcode(5)),
    ];

    fn name(self) -> String {
        let known = Self::NAMES.iter().find(|(_, code)| *code == self);
        known.map_or_else(|| format!("code {}", self.0), |(name, _)| (*name).to_owned())
    }
}

/// Bytes of the header of a message.
const HEADER: usize = 12;
const CLASS_IN: u16 = 1;

/// The query, with recursion desired.
pub(super) fn query(dns: &Dns, id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(&dns.name.0);
    message.extend((dns.record as u16).to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

/// What a datagram says; `None`: it is no answer to this query.
pub(super) fn judge(message: &[u8], dns: &Dns, id: u16) -> Option<Result<(), Failure>> {
    // An answer to the query has its id and its question.
    let question = query(dns, id).split_off(HEADER);
    if word(message, 0)? != id || message.get(2)? & 0xf8 != 0x80 {
        return None;
    }
    let code = Rcode(message.get(3)? & 15);
    if code != dns.rcode {
        return Some(Err(Failure::Rcode(code.name())));
    }
    let Some(wanted) = dns.answer else { return Some(Ok(())) };
    let asked = message.get(HEADER..HEADER + question.len()).is_some_and(|there| there.eq_ignore_ascii_case(&question));
    if word(message, 4)? != 1 || !asked {
        return Some(Err(Failure::Answer("is to another question")));
    }
    Some(match has_address(message, HEADER + question.len(), wanted) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::Answer("does not have the expected address")),
        None => Err(Failure::Answer("is cut short or malformed")),
    })
}

/// Whether one of the answer's records, which begin at `at`, is this address; `None`: they do not end where the message does.
fn has_address(message: &[u8], mut at: usize, wanted: IpAddr) -> Option<bool> {
    let (kind, bytes) = match wanted {
        IpAddr::V4(address) => (Record::A, address.octets().to_vec()),
        IpAddr::V6(address) => (Record::Aaaa, address.octets().to_vec()),
    };
    for _ in 0..word(message, 6)? {
        at = after_name(message, at)?;
        let length = usize::from(word(message, at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        if (word(message, at)?, word(message, at + 2)?) == (kind as u16, CLASS_IN) && data == bytes {
            return Some(true);
        }
        at += 10 + length;
    }
    Some(false)
}

/// The first byte behind a name: labels end with the root or with a pointer (RFC 1035, section 4.1.4), which is not followed.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(answer: Option<&str>) -> Dns {
        let name = Name::parse("www.example.org").unwrap();
        Dns { name, record: Record::A, rcode: Rcode(0), answer: answer.map(|text| text.parse().unwrap()) }
    }

    /// An answer with a CNAME and two addresses.
    fn answer() -> Vec<u8> {
        let mut message = query(&dns(None), 0x1234);
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[7] = 3;
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'a', 0xc0, 16]);
        message.extend([1, b'a', 0xc0, 16, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        message.extend([1, b'a', 0xc0, 16, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 2]);
        message
    }

    fn judged(message: &[u8], dns: &Dns) -> Option<Result<(), String>> {
        judge(message, dns, 0x1234).map(|judged| judged.map_err(|failure| failure.to_string()))
    }

    #[test]
    fn the_code_and_the_address_decide() {
        assert_eq!(judged(&answer(), &dns(None)), Some(Ok(())));
        assert_eq!(judged(&answer(), &dns(Some("192.0.2.2"))), Some(Ok(())));
        let missing = "the answer does not have the expected address";
        assert_eq!(judged(&answer(), &dns(Some("192.0.2.3"))), Some(Err(missing.to_owned())));
        let mut refused = answer();
        refused[3] = 0x85;
        assert_eq!(judged(&refused, &dns(None)), Some(Err("answered with REFUSED".to_owned())));
        assert_eq!(judged(&refused, &Dns { rcode: Rcode(5), ..dns(None) }), Some(Ok(())));
    }

    #[test]
    fn what_is_no_answer_to_the_query_is_passed_over() {
        assert_eq!(judge(&answer(), &dns(None), 0x1235).map(|judged| judged.is_ok()), None);
        assert_eq!(judged(&query(&dns(None), 0x1234), &dns(None)), None);
        let mut other = answer();
        other[HEADER + 1] = b'x';
        assert_eq!(judged(&other, &dns(Some("192.0.2.1"))), Some(Err("the answer is to another question".to_owned())));
    }

    #[test]
    fn an_answer_cut_at_any_byte_passes_only_if_the_address_was_there() {
        let (whole, dns) = (answer(), dns(Some("192.0.2.1")));
        let needed = whole.len() - 18;
        for length in 0..whole.len() {
            let judged = judged(&whole[..length], &dns);
            assert_eq!(judged == Some(Ok(())), length >= needed, "{length} bytes: {judged:?}");
        }
    }

    #[test]
    fn names_are_written_as_labels() {
        assert_eq!(Name::parse("a.bc."), Some(Name(b"\x01a\x02bc\x00".to_vec())));
        assert_eq!(Name::parse("."), Some(Name(vec![0])));
        let long = "x".repeat(64);
        for bad in ["a..b", ".a", "a b", "ä", &long, &"abc.".repeat(64)] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
    }
}
