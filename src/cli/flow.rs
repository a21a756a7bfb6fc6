//! A packet on the command line: `SRC[:PORT] DST[:PORT] PROTOCOL`.

use crate::admin;
use crate::service::Protocol;
use std::net::{IpAddr, SocketAddr};

/// Source, destination and protocol.
#[derive(Debug, clap::Args)]
pub(super) struct Flow {
    /// Sender: an address, with or without a port (10.0.0.1, 10.0.0.1:1234, [2001:db8::1]:1234)
    #[arg(value_name = "SRC[:PORT]", value_parser = parse_address)]
    source: SocketAddr,
    /// Receiver: an address with a port; of gre and icmp, an address alone
    #[arg(value_name = "DST[:PORT]", value_parser = parse_address)]
    destination: SocketAddr,
    /// tcp, udp, sctp, dccp, gre, icmp or icmpv6; the source port of icmp is the identifier of the echo
    #[arg(value_name = "PROTOCOL", value_parser = parse_protocol)]
    protocol: Protocol,
    /// Key of a GRE tunnel
    #[arg(long, value_name = "KEY")]
    key: Option<u32>,
}

impl Flow {
    /// As the daemon is asked about it.
    ///
    /// # Errors
    /// When source and destination are of different families, and for ports and keys that the protocol lacks or has not.
    pub(super) fn to_request(&self) -> anyhow::Result<admin::Flow> {
        let (mut source, mut destination, protocol) = (self.source, self.destination, self.protocol);
        if source.is_ipv4() != destination.is_ipv4() {
            anyhow::bail!("{} and {} are of different address families", source.ip(), destination.ip());
        }
        if protocol.has_ports() && destination.port() == 0 {
            anyhow::bail!("{} has no port: a {protocol} packet goes to one", destination.ip());
        }
        match self.key {
            Some(_) if protocol != Protocol::Gre => anyhow::bail!("{protocol} packets have no key: only those of gre do"),
            // In the place of the ports that there are none of.
            Some(key) => {
                source.set_port((key >> 16) as u16);
                destination.set_port(key as u16);
            }
            None => {}
        }
        Ok(admin::Flow { source, destination, protocol: protocol.number() })
    }
}

/// Port 0 stands for one that was not said.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    address.or_else(|_| text.parse()).map_err(|_| "allowed are an address, or an address with a port".to_owned())
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    let names = || Protocol::ALL.iter().map(|protocol| protocol.name()).collect::<Vec<_>>().join(", ");
    Protocol::ALL.iter().copied().find(|protocol| protocol.name() == text).ok_or_else(|| format!("allowed are {}", names()))
}
