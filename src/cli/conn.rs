//! `weir conn`: tracked connections.

mod events;
mod expected;
mod top;

use super::daemon::{Daemon, print_json, unexpected};
use super::flow::Flow;
use crate::admin::{AddressFilter, Answer, Connection, ConnectionFilter, Request};
use crate::conntrack::l4proto::{progress, state_names};
use crate::service::{Protocol, Shown};
use clap::Parser;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;

/// Look into the connection table of the running daemon
#[derive(Debug, clap::Args)]
pub(super) struct Conn {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print connections, one a line
    List(List),
    /// Print how many there are
    Count(Count),
    /// Print the one that a packet belongs to, in either direction
    Show(Show),
    /// End the one that a packet of the client belongs to, or all that match; neither side is told
    Delete(Delete),
    /// Print what happens to connections, one JSON object a line, until interrupted
    Events(events::Events),
    /// Print which clients, services and backends fill the table
    Top(top::Top),
}

impl Conn {
    /// Asks and prints.
    ///
    /// # Errors
    /// When the daemon can not be asked or `out` fails.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match &self.command {
            Command::List(list) => list.run(out),
            Command::Count(count) => count.run(out),
            Command::Show(show) => show.run(out),
            Command::Delete(delete) => delete.run(out),
            Command::Events(events) => events.run(out),
            Command::Top(top) => top.run(out),
        }
    }
}

/// Every condition that is given must hold.
#[derive(Debug, clap::Args)]
struct Filter {
    /// Client: an address, a prefix, or an address with a port
    #[arg(long, value_name = "ADDRESS")]
    src: Option<AddressFilter>,
    /// VIP: an address, a prefix, or an address with a port
    #[arg(long, value_name = "ADDRESS")]
    dst: Option<AddressFilter>,
    /// Protocol
    #[arg(long, value_parser = protocol_names())]
    proto: Option<String>,
    /// State of TCP, SCTP or DCCP, as the kernel names them; or what is known of any connection
    #[arg(long, value_parser = state_names(), ignore_case = true)]
    state: Option<String>,
    /// Backend: an address, a prefix, or an address with a port
    #[arg(long, value_name = "ADDRESS")]
    backend: Option<AddressFilter>,
    /// Name of the service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

fn protocol_names() -> Vec<&'static str> {
    Protocol::ALL.iter().map(|protocol| protocol.name()).collect()
}

impl Filter {
    fn to_request(&self) -> ConnectionFilter {
        ConnectionFilter {
            source: self.src,
            destination: self.dst,
            protocol: self.proto.clone(),
            state: self.state.clone(),
            backend: self.backend,
            service: self.service.clone(),
        }
    }
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// What helpers expect, instead of connections
    #[arg(long, conflicts_with_all = ["src", "dst", "proto", "state", "backend", "service", "limit"])]
    expected: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl List {
    /// Prints while it reads: a list of millions is never held whole, neither here nor in the daemon.
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.expected {
            return expected::list(&self.daemon, self.json, out);
        }
        let out = &mut BufWriter::with_capacity(64 * 1024, out);
        let mut client = self.daemon.connect()?;
        let mut answer = client.ask(&Request::ConnectionList { filter: self.filter.to_request(), limit: self.limit })?;
        let mut count = 0;
        if !self.json {
            print_header(out)?;
        }
        while let Answer::Connection(connection) = &answer {
            if self.json {
                out.write_all(if count == 0 { b"[\n" } else { b",\n" })?;
                serde_json::to_writer(&mut *out, connection).map_err(io::Error::from)?;
            } else {
                print_line(connection, out)?;
            }
            count += 1;
            answer = client.more()?;
        }
        if self.json {
            out.write_all(if count == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        out.flush()?;
        if matches!(answer, Answer::End { .. }) { Ok(()) } else { unexpected(&answer) }
    }
}

#[derive(Debug, clap::Args)]
struct Count {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Count {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.daemon.ask(&Request::ConnectionCount { filter: self.filter.to_request() })? {
            Answer::Count { count } if self.json => Ok(print_json(out, &serde_json::json!({ "count": count }))?),
            Answer::Count { count } => Ok(writeln!(out, "{count}")?),
            other => unexpected(&other),
        }
    }
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    flow: Flow,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.daemon.ask(&Request::ConnectionShow { flow: self.flow.to_request()? })? {
            Answer::Connection(connection) if self.json => Ok(print_json(out, &connection)?),
            Answer::Connection(connection) => {
                print_header(out)?;
                print_line(&connection, out)?;
                writeln!(out, "status: {}", connection.status.join(" "))?;
                if let Some(master) = connection.master {
                    writeln!(out, "master: {} -> {}", master.source, master.destination)?;
                }
                Ok(())
            }
            other => unexpected(&other),
        }
    }
}

#[derive(Debug, clap::Args)]
struct Delete {
    /// A packet of the client, as for `conn show`
    #[arg(num_args = 3, value_names = ["SRC[:PORT]", "DST[:PORT]", "PROTOCOL"])]
    packet: Vec<String>,
    /// Key of a GRE tunnel
    #[arg(long, value_name = "KEY")]
    key: Option<u32>,
    #[command(flatten)]
    filter: Filter,
    /// Every connection
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    daemon: Daemon,
}

impl Delete {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.daemon.ask(&self.to_request()?)? {
            Answer::Count { count } => Ok(writeln!(out, "{count} deleted")?),
            other => unexpected(&other),
        }
    }

    /// Ends the process with a usage error when it is not clear what is to go.
    fn to_request(&self) -> anyhow::Result<Request> {
        let filter = self.filter.to_request();
        match (self.packet.is_empty(), filter != ConnectionFilter::default(), self.all) {
            (false, false, false) => {
                let key = self.key.map(|key| format!("--key={key}"));
                let packet = Packet::try_parse_from(self.packet.iter().chain(&key)).unwrap_or_else(|error| error.exit());
                Ok(Request::ConnectionDelete { flow: packet.flow.to_request()? })
            }
            (true, true, false) | (true, false, true) if self.key.is_none() => Ok(Request::ConnectionFlush { filter }),
            _ => clap::Error::raw(
                clap::error::ErrorKind::ArgumentConflict,
                "which connections? Allowed is one of: SRC:PORT DST:PORT PROTOCOL, filters such as --src, or --all\n",
            )
            .exit(),
        }
    }
}

/// The words of a packet alone: clap cannot have them optional where it reads the rest.
#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true)]
struct Packet {
    #[command(flatten)]
    flow: Flow,
}

fn print_header(out: &mut dyn Write) -> io::Result<()> {
    print_columns(out, ["PROTO", "STATE", "CLIENT", "VIP", "BACKEND", "SNAT", "SERVICE", "EXPIRES"])
}

fn print_line(connection: &Connection, out: &mut dyn Write) -> io::Result<()> {
    let state = connection.state.as_deref().unwrap_or(progress(connection.seen_reply, connection.assured));
    // The identifier of an echo may be 0; that of who answers is none.
    let with_identifier = |address: SocketAddr| match connection.protocol.starts_with("icmp") {
        true => address.to_string(),
        false => Shown(address).to_string(),
    };
    let (mut source, snat) = (with_identifier(connection.source), with_identifier(connection.snat));
    let (destination, backend) = (Shown(connection.destination).to_string(), Shown(connection.backend).to_string());
    if let Some(key) = connection.key {
        source += &format!(" key {key}");
    }
    let expires = format!("{}s", connection.expires_in / 1000);
    let cells = [&connection.protocol, state, &source, &destination, &backend, &snat, &connection.service, &expires];
    print_columns(out, cells)
}

/// Fixed widths, for the list is printed as it comes; IPv6 addresses may be wider.
fn print_columns(out: &mut dyn Write, cells: [&str; 8]) -> io::Result<()> {
    let [protocol, state, source, destination, backend, snat, service, expires] = cells;
    write!(out, "{protocol:<6} {state:<11} {source:<21} {destination:<21} ")?;
    writeln!(out, "{backend:<21} {snat:<21} {service:<15} {expires}")
}
