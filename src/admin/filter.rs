//! Which connections a list is about.

use crate::conntrack::ConnectionView;
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
    /// A state by the kernel's name, such as `ESTABLISHED`; upper or lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<AddressFilter>,
    /// The name of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl ConnectionFilter {
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

fn is_state(connection: &ConnectionView, wanted: &str) -> bool {
    connection.state.is_some_and(|state| state.eq_ignore_ascii_case(wanted))
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
}
