//! Talking to the daemon, for all commands that do.

use crate::admin::{Answer, Client, DEFAULT_SOCKET, Request};
use anyhow::bail;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// Where the daemon is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Daemon {
    /// The admin socket of the daemon
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(super) socket: PathBuf,
}

impl Daemon {
    /// Connects.
    ///
    /// # Errors
    /// `weir is not running (…)` when there is no socket or nobody listens at it.
    pub(super) fn connect(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(&self.socket)?)
    }

    /// Asks what has an answer of one line.
    ///
    /// # Errors
    /// When the daemon can not be talked to or refuses.
    pub(super) fn ask(&self, request: &Request) -> anyhow::Result<Answer> {
        Ok(self.connect()?.ask(request)?)
    }
}

/// The daemon answered something that was not asked.
pub(super) fn unexpected<T>(answer: &Answer) -> anyhow::Result<T> {
    bail!("the daemon answered something else: {answer:?}")
}

/// Prints one value for programs.
///
/// # Errors
/// Those of `out`.
pub(super) fn print_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}
