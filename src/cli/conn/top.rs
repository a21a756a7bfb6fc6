//! `weir conn top`: who fills the table.

use super::Filter;
use crate::admin::{self, Answer, Request, Share};
use crate::cli::daemon::{Daemon, print_json, unexpected};
use crate::cli::table::Table;
use std::io::{self, Write};

#[derive(Debug, clap::Args)]
pub(super) struct Top {
    #[command(flatten)]
    filter: Filter,
    /// So many clients, services and backends
    #[arg(long, value_name = "N", default_value_t = Request::default_top())]
    limit: u16,
    /// Count IPv4 clients of one prefix of this length together
    #[arg(long, value_name = "BITS", default_value_t = Request::default_prefix_v4(), value_parser = clap::value_parser!(u8).range(0..=32))]
    prefix: u8,
    /// Count IPv6 clients of one prefix of this length together
    #[arg(long, value_name = "BITS", default_value_t = Request::default_prefix_v6(), value_parser = clap::value_parser!(u8).range(0..=128))]
    prefix6: u8,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Top {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let (filter, limit) = (self.filter.to_request(), self.limit);
        let request = Request::ConnectionTop { filter, limit, prefix_v4: self.prefix, prefix_v6: self.prefix6 };
        match self.daemon.ask(&request)? {
            Answer::Top(top) if self.json => Ok(print_json(out, &top)?),
            Answer::Top(top) => Ok(print(&top, out)?),
            other => unexpected(&other),
        }
    }
}

fn print(top: &admin::Top, out: &mut dyn Write) -> io::Result<()> {
    let admin::Top { connections, unreplied, capacity, .. } = top;
    writeln!(out, "{connections} connections, {unreplied} unreplied; room for {capacity} of each family")?;
    for (title, shares) in [("CLIENT", &top.clients), ("SERVICE", &top.services), ("BACKEND", &top.backends)] {
        let mut table = Table::new(&[title, "CONNECTIONS", "SHARE", "UNREPLIED"]);
        shares.iter().for_each(|share| table.row(cells(share)));
        writeln!(out)?;
        table.print(out)?;
    }
    Ok(())
}

fn cells(share: &Share) -> [String; 4] {
    let Share { name, connections, percent, unreplied, may_be_more } = share.clone();
    let connections = if may_be_more > 0 { format!("{connections} (+{may_be_more})") } else { connections.to_string() };
    [name, connections, format!("{percent:.2} %"), unreplied.to_string()]
}
