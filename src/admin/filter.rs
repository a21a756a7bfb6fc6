//! Which connections a list is about.

use crate::conntrack::ConnectionView;
use crate::conntrack::l4proto::{self, ASSURED, REPLIED, STREAM, UNREPLIED};
use crate::service::Protocol;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An address or a prefix, with or without a port: `10.0.0.1`, `10.0.0.0/8`, `10.0.0.1:80`, `2001:db8::/32`, `[2001:db8::1]:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressFilter {
    prefix: IpNet,
    port: Option<u16>,
}

impl AddressFilter {
    /// Whether the address is in the prefix and the port, if one was given, is the same.
    pub fn matches(&self, address: SocketAddr) -> bool {
        self.prefix.contains(&address.ip()) && self.port.is_none_or(|port| port == address.port())
    }
}

/// What was written is no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no address: allowed are an address, a prefix (10.0.0.0/8), or an address with a port (10.0.0.1:80, [2001:db8::1]:80)"
)]
pub struct NoAddress(String);

impl FromStr for AddressFilter {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { prefix: address.into(), port: None });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { prefix: address.ip().into(), port: Some(address.port()) });
        }
        let prefix = text.parse::<IpNet>().map_err(|_| NoAddress(text.to_owned()))?;
        Ok(Self { prefix: prefix.trunc(), port: None })
    }
}

impl fmt::Display for AddressFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.prefix.addr(), port).fmt(f),
            None => self.prefix.fmt(f),
        }
    }
}

impl TryFrom<String> for AddressFilter {
    type Error = NoAddress;

    fn try_from(text: String) -> Result<Self, NoAddress> {
        text.parse()
    }
}

impl From<AddressFilter> for String {
    fn from(filter: AddressFilter) -> String {
        filter.to_string()
    }
}

/// Every condition that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionFilter {
    /// The client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<AddressFilter>,
    /// The VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<AddressFilter>,
    /// A protocol by its name, such as `tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// A state by the kernel's name, such as `ESTABLISHED`; or `UNREPLIED`, `REPLIED` or `ASSURED` of any protocol, `STREAM` of one
    /// without states. Upper or lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<AddressFilter>,
    /// The name of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A filter that no connection can ever match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    /// No such protocol.
    #[error("there is no protocol `{found}`: allowed are {allowed}")]
    Protocol {
        /// As asked for.
        found: String,
        /// All of them.
        allowed: String,
    },
    /// No such state of this protocol, or of any.
    #[error("{whose} no state `{found}`: allowed are {allowed}")]
    State {
        /// Whose states were meant.
        whose: String,
        /// As asked for.
        found: String,
        /// Those that there are.
        allowed: String,
    },
    /// No such service.
    #[error("there is no service `{found}`: allowed are {allowed}, and `-` for all that are in no config any more")]
    Service {
        /// As asked for.
        found: String,
        /// Those that there are.
        allowed: String,
    },
}

/// Of services that were removed while they had connections.
const GONE: &str = "-";

impl ConnectionFilter {
    /// Whether there is what is named; `services` are those in force.
    ///
    /// # Errors
    /// What there is not.
    pub fn check(&self, services: &[&str]) -> Result<(), BadFilter> {
        let protocol = self.protocol.as_deref().map(find_protocol).transpose()?;
        if let Some(found) = &self.state {
            check_state(protocol, found)?;
        }
        match &self.service {
            Some(found) if found != GONE && !services.contains(&found.as_str()) => {
                Err(BadFilter::Service { found: found.clone(), allowed: list(services.iter().copied()) })
            }
            _ => Ok(()),
        }
    }

    /// Whether a connection of `service` is asked for.
    pub fn matches(&self, connection: &ConnectionView, protocol: &str, service: &str) -> bool {
        let given = |filter: &Option<AddressFilter>, address| filter.is_none_or(|filter| filter.matches(address));
        given(&self.source, connection.outside().source)
            && given(&self.destination, connection.outside().destination)
            && given(&self.backend, connection.inside().source)
            && self.protocol.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(protocol))
            && self.service.as_ref().is_none_or(|wanted| wanted == service)
            && self.state.as_ref().is_none_or(|wanted| is_state(connection, wanted))
    }
}

/// By the state, by what lists say in its place, or by what is true of any protocol's connections.
fn is_state(connection: &ConnectionView, wanted: &str) -> bool {
    let is = |name: &str| name.eq_ignore_ascii_case(wanted);
    let &ConnectionView { state, seen_reply, assured, .. } = connection;
    state.is_some_and(is)
        || seen_reply && assured && (is(ASSURED) || state.is_none() && is(STREAM))
        || seen_reply && !assured && is(REPLIED)
        || !seen_reply && is(UNREPLIED)
}

fn find_protocol(found: &str) -> Result<Protocol, BadFilter> {
    let known = Protocol::ALL.iter().find(|protocol| protocol.name().eq_ignore_ascii_case(found));
    let names = Protocol::ALL.iter().map(|protocol| protocol.name());
    known.copied().ok_or_else(|| BadFilter::Protocol { found: found.to_owned(), allowed: list(names) })
}

fn check_state(protocol: Option<Protocol>, found: &str) -> Result<(), BadFilter> {
    let states = protocol.map_or_else(l4proto::state_names, |protocol| l4proto::states_of(protocol.number()));
    if states.iter().any(|state| state.eq_ignore_ascii_case(found)) {
        return Ok(());
    }
    let found = found.to_owned();
    let whose = protocol.map_or("there is".to_owned(), |protocol| format!("{protocol} has"));
    Err(BadFilter::State { whose, found, allowed: list(states.into_iter()) })
}

/// The first of them, and how many more there are.
fn list<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    const MOST: usize = 32;
    let mut texts: Vec<String> = names.clone().take(MOST).map(|name| format!("`{name}`")).collect();
    if let Some(more) = names.count().checked_sub(MOST + 1) {
        texts.push(format!("{} more", more + 1));
    }
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_filter_reads_what_it_writes() {
        for text in ["10.0.0.1/32", "10.0.0.0/8", "10.0.0.1:80", "2001:db8::/32", "[2001:db8::1]:80"] {
            let filter: AddressFilter = text.parse().unwrap();
            assert_eq!(filter.to_string(), text);
        }
    }

    #[test]
    fn a_prefix_is_cut_to_its_length() {
        let filter: AddressFilter = "10.1.2.3/8".parse().unwrap();
        assert!(filter.matches("10.200.0.1:5".parse().unwrap()));
        assert!(!filter.matches("11.1.2.3:5".parse().unwrap()));
    }

    #[test]
    fn a_port_must_be_the_same() {
        let filter: AddressFilter = "10.0.0.1:80".parse().unwrap();
        assert!(filter.matches("10.0.0.1:80".parse().unwrap()));
        assert!(!filter.matches("10.0.0.1:81".parse().unwrap()));
    }

    #[test]
    fn no_address_is_refused_with_what_is_allowed() {
        for text in ["", "10.0.0", "10.0.0.1:99999", "10.0.0.0/33", "::1:80:x"] {
            let error = text.parse::<AddressFilter>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no address: allowed are")), "{error}");
        }
    }

    fn said(filter: ConnectionFilter, services: &[&str]) -> String {
        filter.check(services).map_or_else(|bad| bad.to_string(), |()| String::new())
    }

    #[test]
    fn what_there_is_not_is_refused_with_what_there_is() {
        let named = |text: &str| Some(text.to_owned());
        let service = |name: &str| ConnectionFilter { service: named(name), ..ConnectionFilter::default() };
        assert_eq!(said(service("web"), &["web", "dns"]), "");
        assert_eq!(said(service("-"), &["web"]), "");
        let told = "there is no service `nope`: allowed are `web`, `dns`, and `-` for all that are in no config any more";
        assert_eq!(said(service("nope"), &["web", "dns"]), told);
        let many: Vec<String> = (0..40).map(|number| format!("s{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(said(service("nope"), &many).contains("`s31`, 8 more, and"), "{}", said(service("nope"), &many));

        let state = |protocol: Option<&str>, state: &str| {
            let (protocol, state) = (protocol.map(str::to_owned), named(state));
            said(ConnectionFilter { protocol, state, ..ConnectionFilter::default() }, &[])
        };
        assert_eq!((state(None, "established"), state(Some("TCP"), "TIME_WAIT")), (String::new(), String::new()));
        assert_eq!(state(Some("sctp"), "COOKIE_WAIT"), "");
        assert!(state(Some("tcp"), "COOKIE_WAIT").starts_with("tcp has no state `COOKIE_WAIT`: allowed are `NONE`, `SYN_SENT`"));
        assert!(
            state(None, "BOGUS").starts_with("there is no state `BOGUS`: allowed are `ASSURED`, `CLOSE`, "),
            "{}",
            state(None, "BOGUS")
        );
        let told = "udp has no state `ESTABLISHED`: allowed are `STREAM`, `UNREPLIED`, `REPLIED`, `ASSURED`";
        assert_eq!(state(Some("udp"), "ESTABLISHED"), told);
        assert_eq!((state(Some("udp"), "stream"), state(None, "UNREPLIED")), (String::new(), String::new()));
        assert!(state(Some("tcp"), "STREAM").starts_with("tcp has no state `STREAM`"));
        assert!(state(Some("quic"), "CLOSE").starts_with("there is no protocol `quic`: allowed are `tcp`, `udp`"));
    }
}
