//! `weir diff`: what the running daemon does differs how from what its file says?

use super::daemon::{Daemon, print_json, unexpected};
use crate::admin::{Answer, Override, Request};
use crate::service::Shown;
use std::io::Write;

/// Show what was set at run time, and what a reload of the file would change
#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Diff {
    /// Asks and prints.
    ///
    /// # Errors
    /// When the daemon can not be asked, or the file has mistakes.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.daemon.ask(&Request::Diff {})? {
            answer @ Answer::Diff { .. } if self.json => Ok(print_json(out, &answer)?),
            Answer::Diff { overrides, drops, file } => {
                let end = if drops { "until the next reload" } else { "until a restart" };
                overrides.iter().try_for_each(|line| writeln!(out, "set: {}, {end}", describe(line)))?;
                file.iter().try_for_each(|step| writeln!(out, "file: {step}"))?;
                if overrides.is_empty() && file.is_empty() {
                    writeln!(out, "no difference")?;
                }
                Ok(())
            }
            other => unexpected(&other),
        }
    }
}

fn describe(line: &Override) -> String {
    let drained = line.drained_seconds.map(|seconds| format!("drained for {seconds} s"));
    let weight = line.weight.map(|weight| format!("weight {weight}, in the config {}", line.file_weight));
    let both: Vec<String> = drained.into_iter().chain(weight).collect();
    format!("pool {}: backend {} {}", line.pool, Shown(line.backend), both.join(", "))
}
