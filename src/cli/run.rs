//! `weir run`: the daemon.

use super::Outcome;
use crate::control::{self, StartError};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// Run the daemon in the foreground
///
/// READY=1 goes to NOTIFY_SOCKET once packets are served. SIGHUP reloads the config, SIGTERM and SIGINT stop. WEIR_LOG sets what is logged
/// to standard error (error, warn, info, debug; info is the default).
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The config file, TOML
    #[arg(long, value_name = "F")]
    config: PathBuf,
}

impl Run {
    pub(super) fn run(&self, _out: &mut dyn Write) -> anyhow::Result<Outcome> {
        start_log();
        match control::run(&self.config) {
            Ok(()) => Ok(Outcome::Fine),
            Err(StartError::Config(report)) => {
                writeln!(io::stderr(), "{report}")?;
                Ok(Outcome::BadInput)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn start_log() {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(io::stderr);
    builder.with_ansi(io::stderr().is_terminal()).init();
}
