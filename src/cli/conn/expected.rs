//! `weir conn list --expected`: connections that control connections have announced.

use crate::admin::{Answer, Expectation, Request};
use crate::cli::daemon::{Daemon, print_json, unexpected};
use crate::cli::table::Table;
use std::io::Write;

/// Asks and prints.
pub(super) fn list(daemon: &Daemon, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut client = daemon.connect()?;
    let mut answer = client.ask(&Request::ExpectationList {})?;
    let mut expected = Vec::new();
    while let Answer::Expectation(expectation) = answer {
        expected.push(expectation);
        answer = client.more()?;
    }
    if !matches!(answer, Answer::End { .. }) {
        return unexpected(&answer);
    }
    if json { Ok(print_json(out, &expected)?) } else { Ok(print(&expected, out)?) }
}

fn print(expected: &[Expectation], out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = Table::new(&["PROTO", "FROM", "TO", "TARGET", "MASTER", "SERVICE", "EXPIRES"]);
    for expectation in expected {
        let Expectation { protocol, source, destination, target, master, service, expires_in } = expectation.clone();
        let master = format!("{} -> {}", master.source, master.destination);
        let (source, destination, target) = (source.to_string(), destination.to_string(), target.to_string());
        table.row([protocol, source, destination, target, master, service, format!("{}s", expires_in / 1000)]);
    }
    table.print(out)
}
