//! Single values: what each may be, and what is said when it is something else.

use ipnet::IpNet;
use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Why a value cannot stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) found: String,
    pub(super) allowed: String,
}

/// Short for `Err(Complaint)`.
pub(super) fn refuse<T>(found: impl Into<String>, allowed: impl Into<String>) -> Result<T, Complaint> {
    Err(Complaint { found: found.into(), allowed: allowed.into() })
}

/// One of some words; `what` they are.
pub(super) fn one_of<T: Copy>(what: &str, text: &str, names: &[(&str, T)]) -> Result<T, Complaint> {
    let found = names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.map_or_else(|| refuse(format!("there is no {what} {text:?}"), quoted(names.iter().map(|(name, _)| *name))), Ok)
}

/// `"a", "b", "c"`.
pub(super) fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// A whole number in a range.
pub(super) fn whole<T: TryFrom<i64>>(number: i64, range: RangeInclusive<i64>) -> Result<T, Complaint> {
    let allowed = || format!("{} to {}", range.start(), range.end());
    match T::try_from(number) {
        Ok(value) if range.contains(&number) => Ok(value),
        _ => refuse(format!("{number} is out of range"), allowed()),
    }
}

/// A name of a service or pool: it stands in command lines, lists and metrics.
pub(super) fn name(text: &str) -> Result<String, Complaint> {
    let allowed = "1 to 64 characters out of A-Z a-z 0-9 . _ -";
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c))) {
        Some(c) => refuse(format!("the name {text:?} has the character {c:?}"), allowed),
        None if text.is_empty() => refuse("the name is empty", allowed),
        None if text.len() > 64 => refuse(format!("the name has {} characters", text.len()), allowed),
        None => Ok(text.to_owned()),
    }
}

/// A name that the kernel accepts for an interface (dev_valid_name in net/core/dev.c).
pub(super) fn interface_name(text: &str) -> Result<String, Complaint> {
    // Of this one it is known what it is without looking; another name of it is refused at the start.
    if text == "lo" {
        return refuse(
            "\"lo\" is the loopback interface: neither clients nor backends are behind it, and it has no AF_XDP of its own",
            "an interface that leads to clients or backends",
        );
    }
    let bad = text.is_empty() || text.len() > 15 || matches!(text, "." | "..");
    if bad || text.contains(|c: char| c.is_whitespace() || c.is_control() || "/:".contains(c)) {
        return refuse(
            format!("{text:?} cannot be an interface"),
            "a name as `ip link` shows it: 1 to 15 bytes, no space, / or :",
        );
    }
    Ok(text.to_owned())
}

/// A duration such as `"1h30m"`, `"15m"`, `"30s"`, `"500ms"`; a day has 24 hours.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Complaint> {
    let allowed =
        || format!("{} to {}, written as \"15m\", \"1h30m\", \"30s\" or \"500ms\"", brief(*range.start()), brief(*range.end()));
    let parsed = SpanParser::new().parse_span(text).and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    match parsed.ok().and_then(|duration| Duration::try_from(duration).ok()) {
        None => refuse(format!("{text:?} is not a duration"), allowed()),
        Some(duration) if range.contains(&duration) => Ok(duration),
        Some(_) => refuse(format!("{text:?} is out of range"), allowed()),
    }
}

/// A duration in the largest unit that divides it.
pub(crate) fn brief(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let unit = units.into_iter().find(|(_, size)| milliseconds >= *size && milliseconds.is_multiple_of(*size));
    unit.map_or_else(|| format!("{milliseconds}ms"), |(name, size)| format!("{}{name}", milliseconds / size))
}

/// A port other than 0.
pub(super) fn port(text: &str) -> Result<u16, Complaint> {
    // `parse` alone would let a plus sign pass.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => nonzero_port(port),
        _ => refuse(format!("{text:?} is not a port"), "1 to 65535"),
    }
}

/// Port 0 is in use by nobody: RFC 6335, section 6 reserves it.
pub(super) fn nonzero_port(port: u16) -> Result<u16, Complaint> {
    if port == 0 { refuse("port 0 is reserved", "1 to 65535") } else { Ok(port) }
}

/// An inclusive range of ports such as `"1024-65535"`.
pub(super) fn port_range(text: &str) -> Result<RangeInclusive<u16>, Complaint> {
    let allowed = "\"FIRST-LAST\" with 1 <= FIRST <= LAST <= 65535";
    let parsed = text.split_once('-').map(|(first, last)| (port(first.trim()), port(last.trim())));
    match parsed {
        Some((Ok(first), Ok(last))) if first <= last => Ok(first..=last),
        Some((Ok(first), Ok(last))) => refuse(format!("the range {text:?} is reversed: {first} is above {last}"), allowed),
        Some((Err(complaint), _) | (_, Err(complaint))) => refuse(format!("{} in the range {text:?}", complaint.found), allowed),
        None => refuse(format!("{text:?} is not a range of ports"), allowed),
    }
}

/// An address with or without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

impl Endpoint {
    /// With port 0 where none is given.
    pub(super) fn socket(self) -> SocketAddr {
        SocketAddr::new(self.address, self.port.unwrap_or(0))
    }
}

const ENDPOINTS: &str = "\"10.0.0.1:443\", \"[2001:db8::1]:443\", or an address without a port";

/// An address that one host has, with or without a port.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, Complaint> {
    if let Ok(bare) = text.parse() {
        return Ok(Endpoint { address: usable(bare)?, port: None });
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (address, rest) = match bracketed {
        Some((inside, rest)) => (inside.parse::<Ipv6Addr>().map(IpAddr::V6), rest.strip_prefix(':')),
        None => {
            let (address, port) = text.rsplit_once(':').unwrap_or((text, ""));
            (address.parse().map(IpAddr::V4), Some(port))
        }
    };
    let (Ok(address), Some(rest)) = (address, rest) else {
        return refuse(format!("{text:?} is not an address"), ENDPOINTS);
    };
    Ok(Endpoint { address: usable(address)?, port: Some(port(rest)?) })
}

/// An address alone, that one host has.
pub(super) fn address(text: &str) -> Result<IpAddr, Complaint> {
    match text.parse() {
        Ok(address) => usable(address),
        Err(_) => refuse(format!("{text:?} is not an address"), "an IPv4 or IPv6 address, without port or prefix length"),
    }
}

/// A prefix, or an address, which is the prefix of itself alone.
pub(super) fn prefix(text: &str) -> Result<IpNet, Complaint> {
    let allowed = "such as \"192.0.2.0/24\", \"2001:db8::/32\", or an address";
    let Ok(prefix) = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) else {
        return refuse(format!("{text:?} is not a prefix"), allowed);
    };
    match prefix.trunc() {
        whole if whole == prefix => Ok(prefix),
        whole => refuse(format!("{text:?} has bits behind its prefix"), format!("{whole}, or {}", prefix.addr())),
    }
}

/// Refuses addresses that no packet on the wire between two hosts carries (RFC 6890), and those that need an interface beside them.
fn usable(address: IpAddr) -> Result<IpAddr, Complaint> {
    let kind = match address {
        _ if address.is_unspecified() => "unspecified",
        _ if address.is_loopback() => "loopback",
        _ if address.is_multicast() => "multicast",
        IpAddr::V4(v4) if v4.is_broadcast() => "broadcast",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "\"this network\"",
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => "reserved",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "IPv4-mapped",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "link-local",
        _ => return Ok(address),
    };
    refuse(format!("{address} is {} {kind} address", article(kind)), "a unicast address that other hosts can reach")
}

fn article(word: &str) -> &'static str {
    if word.trim_start_matches('"').starts_with(['a', 'e', 'i', 'o', 'u', 'I']) { "an" } else { "a" }
}

/// "IPv4" or "IPv6".
pub(super) fn family(address: IpAddr) -> impl Display {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
