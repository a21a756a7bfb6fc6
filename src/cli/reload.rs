//! `weir reload`: apply the file on disk, or say why not.

use super::daemon::{Daemon, print_json, unexpected};
use crate::admin::{Answer, Request};
use std::io::Write;

/// Apply the config file of the running daemon as it is now on disk
#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    #[command(flatten)]
    daemon: Daemon,
    /// Also if it resets more connections than `reload.max_reset` in the running config allows
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Reload {
    /// Asks for it and prints what was done.
    ///
    /// # Errors
    /// When the file is refused, with the reason; nothing was changed then.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.daemon.ask(&Request::Reload { force: self.force })? {
            answer @ Answer::Reloaded { .. } if self.json => Ok(print_json(out, &answer)?),
            Answer::Reloaded { plan, generation } if plan.is_empty() => {
                Ok(writeln!(out, "the file changes nothing, generation {generation} stays")?)
            }
            Answer::Reloaded { plan, generation } => {
                plan.iter().try_for_each(|step| writeln!(out, "{step}"))?;
                Ok(writeln!(out, "generation {generation} is in force")?)
            }
            other => unexpected(&other),
        }
    }
}
