//! `weir plan`: what a config would do to the connections that there are, before it does it.

use super::daemon::{Daemon, print_json, unexpected};
use crate::admin::{Answer, Fates, Plan as Planned, Request};
use crate::config::read_whole;
use anyhow::Context;
use std::io::Write;
use std::path::PathBuf;

/// Say what a reload of FILE would change, and how many live connections it would keep, drain, move and reset
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// The config
    file: PathBuf,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// Asks and prints.
    ///
    /// # Errors
    /// When the file can not be read, the daemon can not be asked, or a reload of the file would be refused.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let name = self.file.display().to_string();
        let config = String::from_utf8(read_whole(&self.file).with_context(|| name.clone())?).with_context(|| name.clone())?;
        match self.daemon.ask(&Request::Plan { name, config })? {
            Answer::Planned(plan) if self.json => Ok(print_json(out, &plan)?),
            Answer::Planned(plan) => print(&plan, out),
            other => unexpected(&other),
        }
    }
}

fn print(plan: &Planned, out: &mut dyn Write) -> anyhow::Result<()> {
    for step in &plan.steps {
        match describe(step.connections) {
            fates if fates.is_empty() => writeln!(out, "{}", step.step)?,
            fates => writeln!(out, "{}: {fates}", step.step)?,
        }
    }
    if plan.steps.is_empty() {
        writeln!(out, "the file changes nothing")?;
    }
    let Fates { kept, drained, moved, reset } = plan.connections;
    writeln!(out, "connections: {kept} kept, {drained} drained, {moved} moved, {reset} reset")?;
    if plan.refused {
        writeln!(out, "a reload would be refused: more than reload.max_reset allows; `weir reload --force` does it")?;
    }
    Ok(())
}

/// Those that there are, such as `12 drained, 3 moved`.
fn describe(fates: Fates) -> String {
    let all = [(fates.kept, "kept"), (fates.drained, "drained"), (fates.moved, "moved"), (fates.reset, "reset")];
    let some = all.iter().filter(|(count, _)| *count > 0);
    some.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}
