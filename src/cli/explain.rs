//! `weir explain`: what would happen to a packet, and why.

use super::daemon::{Daemon, print_json, unexpected};
use super::flow::Flow;
use crate::admin::{Answer, Request};
use std::io::Write;

/// Say what the running daemon would do with a packet, and why
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    #[command(flatten)]
    flow: Flow,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    /// Asks and prints.
    ///
    /// # Errors
    /// When the daemon can not be asked or `out` fails.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.daemon.ask(&Request::Explain { flow: self.flow.to_request()? })? {
            Answer::Explained(explanation) if self.json => Ok(print_json(out, &explanation)?),
            Answer::Explained(explanation) => {
                explanation.steps.iter().try_for_each(|step| writeln!(out, "{step}"))?;
                Ok(writeln!(out, "verdict: {}", explanation.verdict)?)
            }
            other => unexpected(&other),
        }
    }
}
