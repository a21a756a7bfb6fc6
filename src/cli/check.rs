//! `weir check F`

use super::Outcome;
use crate::config::{Config, ConfigReport, Place, Problem};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Check a config file and show every mistake in it
///
/// Nothing is opened, bound or changed, and no privilege is needed. Each mistake is shown with its file, line and column, the key, what was
/// found and what is allowed. Exit code 0: the file is fine. 2: it is not.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The config file, TOML
    #[arg(value_name = "F")]
    file: PathBuf,
    /// Answer as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Outcome> {
        let checked = Config::load(&self.file);
        match &checked {
            _ if self.json => writeln!(out, "{}", describe(&self.file, checked.as_ref().err()))?,
            Ok(config) => writeln!(out, "{} is fine: {}", self.file.display(), summarize(config))?,
            Err(report) => complain(report)?,
        }
        Ok(if checked.is_ok() { Outcome::Fine } else { Outcome::BadInput })
    }
}

/// Mistakes go to standard error: standard output is the answer.
fn complain(report: &ConfigReport) -> io::Result<()> {
    let mut err = io::stderr().lock();
    let colours = err.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = if colours { report.render_styled() } else { report.to_string() };
    writeln!(err, "{text}\n\n{} in {}", count(report.problems().len(), "mistake"), report.path().display())
}

fn summarize(config: &Config) -> String {
    let backends = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let counts = [
        count(config.interfaces.len(), "interface"),
        count(config.services.len(), "service"),
        count(config.pools.len(), "pool"),
        count(backends, "backend"),
    ];
    counts.join(", ")
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn describe(file: &Path, report: Option<&ConfigReport>) -> Value {
    let problems = report
        .map_or_else(Vec::new, |report| report.problems().iter().map(|problem| describe_problem(report, problem)).collect());
    json!({ "file": file.display().to_string(), "ok": report.is_none(), "problems": problems })
}

fn describe_problem(report: &ConfigReport, problem: &Problem) -> Value {
    let places: Vec<Value> = problem.places.iter().map(|place| describe_place(report, place)).collect();
    json!({ "key": problem.key, "found": problem.found, "allowed": problem.allowed, "places": places })
}

fn describe_place(report: &ConfigReport, place: &Place) -> Value {
    let (line, column) = report.line_and_column(place);
    json!({ "line": line, "column": column, "label": place.label })
}
