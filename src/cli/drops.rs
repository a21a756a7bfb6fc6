//! `weir drops`: why packets were dropped, and how many.

use super::daemon::{Daemon, print_json, unexpected};
use super::table::Table;
use crate::admin::{Answer, Drop, Request};
use std::io::{self, Write};

/// Show drop reasons with counts
#[derive(Debug, clap::Args)]
pub(super) struct Drops {
    #[command(flatten)]
    daemon: Daemon,
    /// Also the reasons that never happened
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Drops {
    /// Asks and prints.
    ///
    /// # Errors
    /// When the daemon can not be asked or `out` fails.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.daemon.ask(&Request::Drops {})? {
            Answer::Drops(mut drops) => {
                drops.retain(|drop| self.all || drop.count > 0);
                if self.json {
                    print_json(out, &drops)?
                } else {
                    print(&drops, out)?
                }
                Ok(())
            }
            other => unexpected(&other),
        }
    }
}

fn print(drops: &[Drop], out: &mut dyn Write) -> io::Result<()> {
    if drops.is_empty() {
        return writeln!(out, "nothing was dropped");
    }
    let mut table = Table::new(&["REASON", "COUNT", "MEANING"]);
    for drop in drops {
        table.row([drop.reason.clone(), drop.count.to_string(), drop.sentence.clone()]);
    }
    table.print(out)
}
