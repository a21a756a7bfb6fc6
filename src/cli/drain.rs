//! `weir drain`, `weir undrain`, `weir weight`: what an operator sets at run time.

use super::Outcome;
use super::daemon::{Daemon, print_json, unexpected};
use crate::admin::{Answer, Request};
use crate::service::Shown;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Which backends: `POOL BACKEND…` or `POOL/BACKEND…`.
const WHICH: &str = "a pool and its backends (web 10.1.0.11:8443 10.1.0.12:8443), or both in one (web/10.1.0.11:8443)";

/// Give a backend no new connections, and run the deadline of those that it has
///
/// Several are drained one after the other; where one is refused, those before it stay drained.
#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    #[command(flatten)]
    which: Which,
    /// Return when no connection is left; fail when the backend is drained no more before that
    #[arg(long)]
    wait: bool,
}

/// Give a drained backend new connections again
#[derive(Debug, clap::Args)]
pub(super) struct Undrain {
    #[command(flatten)]
    which: Which,
}

/// Set the weight of a backend until the next restart, or a reload that drops it
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "weir weight [OPTIONS] <POOL> <BACKEND>... <WEIGHT>\n       weir weight [OPTIONS] <POOL/BACKEND>... <WEIGHT>"
)]
pub(super) struct Weight {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// A pool and its backends (web 10.1.0.11:8443), or both in one (web/10.1.0.11:8443); a port may be left out where the address is clear
    #[arg(value_name = "POOL BACKEND", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Drain {
    /// Asks for it and prints what was done.
    ///
    /// # Errors
    /// When the daemon can not be asked or refuses; then backends before the one that it names are drained.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Outcome> {
        let Some(targets) = read(&self.which.words) else { return misuse() };
        let drained = self.which.ask_each(&targets, out, |pool, backend| Request::Drain { pool, backend })?;
        while self.wait && self.left(&drained)? > 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(Outcome::Fine)
    }

    /// Connections of those that are drained. An error when one of them is so no more: it may get new ones.
    fn left(&self, drained: &[(String, SocketAddr)]) -> anyhow::Result<u64> {
        let mut sum = 0;
        for (pool, backend) in drained {
            match self.which.daemon.ask(&Request::Left { pool: pool.clone(), backend: *backend })? {
                Answer::Left { connections, leaving: true } => sum += u64::from(connections),
                Answer::Left { connections, leaving: false } => {
                    let backend = Shown(*backend);
                    anyhow::bail!("backend {backend} of pool {pool} is drained no more; connections left: {connections}")
                }
                other => return unexpected(&other),
            }
        }
        Ok(sum)
    }
}

impl Undrain {
    /// As [`Drain::run`].
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Outcome> {
        let Some(targets) = read(&self.which.words) else { return misuse() };
        self.which.ask_each(&targets, out, |pool, backend| Request::Undrain { pool, backend })?;
        Ok(Outcome::Fine)
    }
}

impl Weight {
    /// As [`Drain::run`].
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Outcome> {
        let split = self.which.words.split_last();
        let read = split.and_then(|(weight, which)| Some((weight.parse().ok()?, read(which)?)));
        let Some((weight, targets)) = read else {
            writeln!(io::stderr(), "weir: expected {WHICH}, and a weight from 0 to 65535")?;
            return Ok(Outcome::BadInput);
        };
        self.which.ask_each(&targets, out, |pool, backend| Request::Weight { pool, backend, weight })?;
        Ok(Outcome::Fine)
    }
}

impl Which {
    /// Pool and address of each, as the daemon understood them.
    fn ask_each(
        &self,
        targets: &[(String, String)],
        out: &mut dyn Write,
        request: impl Fn(String, String) -> Request,
    ) -> anyhow::Result<Vec<(String, SocketAddr)>> {
        let mut meant = Vec::new();
        for (pool, backend) in targets {
            let answer = self.daemon.ask(&request(pool.clone(), backend.clone()))?;
            let Answer::Done { sentence, backend } = &answer else { return unexpected(&answer) };
            match self.json {
                true => print_json(out, &answer)?,
                false => writeln!(out, "{sentence}")?,
            }
            meant.push((pool.clone(), *backend));
        }
        Ok(meant)
    }
}

fn misuse() -> anyhow::Result<Outcome> {
    writeln!(io::stderr(), "weir: expected {WHICH}")?;
    Ok(Outcome::BadInput)
}

/// Pool and backend of each that is meant; `None`: one of them is missing.
fn read(words: &[String]) -> Option<Vec<(String, String)>> {
    let pair =
        |pool: &str, backend: &str| (!pool.is_empty() && !backend.is_empty()).then(|| (pool.to_owned(), backend.to_owned()));
    match words {
        [] => None,
        [first, ..] if first.contains('/') => {
            words.iter().map(|word| word.split_once('/').and_then(|(pool, backend)| pair(pool, backend))).collect()
        }
        [pool, backends @ ..] if !backends.is_empty() => backends.iter().map(|backend| pair(pool, backend)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_named_in_two_ways() {
        let read_all = |words: &str| read(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let pair = |pool: &str, backend: &str| (pool.to_owned(), backend.to_owned());
        assert_eq!(read_all("web 10.0.0.1:80"), Some(vec![pair("web", "10.0.0.1:80")]));
        assert_eq!(read_all("web [fd00::1]:80 10.0.0.2"), Some(vec![pair("web", "[fd00::1]:80"), pair("web", "10.0.0.2")]));
        assert_eq!(read_all("web/10.0.0.1:80 dns/10.0.0.2"), Some(vec![pair("web", "10.0.0.1:80"), pair("dns", "10.0.0.2")]));
        for wrong in ["", "web", "web/", "/10.0.0.1", "web/10.0.0.1 10.0.0.2"] {
            assert_eq!(read_all(wrong), None, "{wrong}");
        }
    }
}
