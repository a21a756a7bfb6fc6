//! A packet on the command line: `SRC[:PORT] DST:PORT PROTOCOL`.

use crate::admin;
use crate::service::Protocol;
use std::net::{IpAddr, SocketAddr};

/// Source, destination and protocol.
#[derive(Debug, clap::Args)]
pub(super) struct Flow {
    /// Sender: an address, with or without a port (10.0.0.1, 10.0.0.1:1234, [2001:db8::1]:1234)
    #[arg(value_name = "SRC[:PORT]", value_parser = parse_source)]
    source: SocketAddr,
    /// Receiver: an address with a port
    #[arg(value_name = "DST:PORT")]
    destination: SocketAddr,
    /// tcp or udp
    #[arg(value_name = "PROTOCOL", value_parser = parse_protocol)]
    protocol: Protocol,
}

impl Flow {
    /// As the daemon is asked about it.
    ///
    /// # Errors
    /// When source and destination are of different families.
    pub(super) fn to_request(&self) -> anyhow::Result<admin::Flow> {
        let (source, destination) = (self.source, self.destination);
        if source.is_ipv4() != destination.is_ipv4() {
            anyhow::bail!("{} and {} are of different address families", source.ip(), destination.ip());
        }
        Ok(admin::Flow { source, destination, protocol: self.protocol.number() })
    }
}

/// Port 0 stands for one that was not said.
fn parse_source(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    address.or_else(|_| text.parse()).map_err(|_| "allowed are an address, or an address with a port".to_owned())
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    let known = [Protocol::Tcp, Protocol::Udp];
    known.into_iter().find(|protocol| protocol.name() == text).ok_or_else(|| "allowed are tcp and udp".to_owned())
}
