//! `weir conn events`: the stream of what happens to connections.

use super::Filter;
use crate::admin::{Answer, ConnectionEvent, Request};
use crate::cli::daemon::{Daemon, unexpected};
use crate::conntrack::EventKind;
use serde::Serialize;
use std::io::{self, Write};

#[derive(Debug, clap::Args)]
pub(super) struct Events {
    #[command(flatten)]
    filter: Filter,
    /// Only events of this kind; may be given more than once
    #[arg(long = "event", value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(EventKind::LABELS))]
    kinds: Vec<String>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    daemon: Daemon,
}

impl Events {
    /// Prints each event as it comes, and one of the type `lost` where we were too slow.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut client = self.daemon.connect()?;
        let mut answer =
            client.ask(&Request::ConnectionEvents { filter: self.filter.to_request(), kinds: self.kinds.clone() })?;
        let mut left = self.limit.unwrap_or(u64::MAX);
        while left > 0 {
            match &answer {
                Answer::Event(event) => {
                    left -= u64::from(event.kind != ConnectionEvent::LOST);
                    print_line(out, event)?;
                }
                Answer::Idle {} => {}
                other => return unexpected(other),
            }
            if left > 0 {
                answer = client.more()?;
            }
        }
        Ok(())
    }
}

/// Whoever reads the lines shall see each at once.
fn print_line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}
