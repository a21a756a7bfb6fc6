//! The command line, one file a subcommand.
//!
//! A subcommand is a struct of its arguments with `run(&self, out)`: it writes its answer to `out`, returns how it went, and leaves the
//! printing of errors to [`main`]. Exit codes: 0 fine, 1 failed, 2 bad usage or config. Whoever reads our answer may stop reading:
//! a broken pipe is success.

mod bench;
mod check;
mod conn;
mod daemon;
mod diff;
mod drain;
mod drops;
mod explain;
mod flow;
mod pktgen;
mod plan;
mod reload;
mod replay;
mod run;
mod status;
mod table;

use clap::{Parser, Subcommand};
use std::io::{self, Write};
use std::process::ExitCode;

/// An L4 load balancer on AF_XDP with connection tracking and full-NAT in user space.
#[derive(Debug, Parser)]
#[command(name = "weir", version, after_help = "Exit codes: 0 fine, 1 failed, 2 bad usage or config.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Plan(plan::Plan),
    Reload(reload::Reload),
    Drain(drain::Drain),
    Undrain(drain::Undrain),
    Weight(drain::Weight),
    Diff(diff::Diff),
    Status(status::Status),
    Conn(conn::Conn),
    Drops(drops::Drops),
    Explain(explain::Explain),
    Replay(replay::Replay),
    Bench(bench::Bench),
    Pktgen(pktgen::Pktgen),
}

/// How a subcommand ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Exit code 0.
    Fine,
    /// Exit code 2: what the user gave is wrong, and the subcommand has said how.
    BadInput,
}

/// Runs the subcommand that the process's arguments ask for.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    let outcome = arguments.command.run(&mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    match outcome {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::BadInput) => ExitCode::from(2),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed too.
            let _ = writeln!(io::stderr(), "weir: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<Outcome> {
        match self {
            Self::Run(run) => return run.run(out),
            Self::Replay(replay) => return replay.run(out),
            Self::Check(check) => return check.run(out),
            Self::Bench(bench) => return bench.run(out),
            Self::Pktgen(pktgen) => return pktgen.run(out),
            Self::Plan(plan) => plan.run(out)?,
            Self::Drain(drain) => return drain.run(out),
            Self::Undrain(undrain) => return undrain.run(out),
            Self::Weight(weight) => return weight.run(out),
            Self::Diff(diff) => diff.run(out)?,
            Self::Reload(reload) => reload.run(out)?,
            Self::Status(status) => status.run(out)?,
            Self::Conn(conn) => conn.run(out)?,
            Self::Drops(drops) => drops.run(out)?,
            Self::Explain(explain) => explain.run(out)?,
        }
        Ok(Outcome::Fine)
    }
}

/// The error and its causes. Many errors tell their cause themselves, for the log: what was said already is not said again.
fn describe(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot bind: {source}; the driver has none")]
        struct TellsItsCause {
            source: io::Error,
        }
        let refused = || io::Error::from_raw_os_error(95);
        let told = describe(&TellsItsCause { source: refused() }.into());
        assert_eq!(told, format!("cannot bind: {}; the driver has none", refused()));
        let silent = anyhow::Error::from(refused()).context("cannot open x").context("reading");
        assert_eq!(describe(&silent), format!("reading: cannot open x: {}", refused()));
    }

    #[test]
    fn a_broken_pipe_is_found_below_other_errors() {
        let broken = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("while listing");
        assert!(is_broken_pipe(&broken));
        assert!(!is_broken_pipe(&anyhow::Error::from(io::Error::from(io::ErrorKind::NotFound))));
    }
}
