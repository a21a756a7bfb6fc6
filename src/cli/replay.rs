//! `weir replay`: the datapath over a capture, in virtual time.

mod capture;
mod machine;

use super::Outcome;
use super::daemon::print_json;
use super::table::Table;
use crate::config::Config;
use anyhow::Context;
use capture::{Reader, Writer};
use machine::{Machine, Report};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Run the datapath over a capture, without a daemon and without privilege
///
/// Every packet of the capture is taken as steered to weir: as having come in at the first interface of the config, at the time that
/// stands beside it. All that leaves goes to the link address 02:00:00:00:00:02, weir's own is 02:00:00:00:00:01, and the MTU is 1500.
/// The tables are swept once a second of the capture's time. The same capture and config give the same answer every time.
#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// The config file, TOML
    #[arg(long, value_name = "F")]
    config: PathBuf,
    /// Ethernet packets, as tcpdump -w writes them (pcap)
    #[arg(value_name = "IN.pcap")]
    input: PathBuf,
    /// Write what leaves to this capture
    #[arg(short, long, value_name = "OUT.pcap")]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Replay {
    /// Replays and prints what was counted.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Outcome> {
        let config = match Config::load(&self.config) {
            Ok(config) => config,
            Err(report) => {
                writeln!(io::stderr(), "{report}")?;
                return Ok(Outcome::BadInput);
            }
        };
        if let Some(what) = self.overwritten() {
            let output = self.output.as_deref().unwrap_or(Path::new("")).display();
            writeln!(io::stderr(), "weir: the output {output} is the same file as the {what}: nothing was read or written")?;
            return Ok(Outcome::BadInput);
        }
        let report = self.replay(&config)?;
        if self.json {
            print_json(out, &report)?
        } else {
            print(&report, out)?
        }
        Ok(Outcome::Fine)
    }

    /// What the output would take the place of while it is still read.
    fn overwritten(&self) -> Option<&'static str> {
        let output = self.output.as_deref()?;
        [("input", &self.input), ("config", &self.config)]
            .into_iter()
            .find(|(_, path)| is_same_file(path, output))
            .map(|(what, _)| what)
    }

    fn replay(&self, config: &Config) -> anyhow::Result<Report> {
        let mut reader = Reader::open(&self.input)?;
        let mut writer = self.output.as_deref().map(Writer::create).transpose()?;
        let mut machine = Machine::new(config)?;
        while let Some(packet) = reader.next()? {
            for sent in machine.receive(packet.time, &packet.bytes) {
                writer
                    .as_mut()
                    .map_or(Ok(()), |writer| writer.write(packet.time, &sent))
                    .context("writing the output capture")?;
            }
        }
        writer.map_or(Ok(()), Writer::finish).context("writing the output capture")?;
        Ok(machine.report())
    }
}

/// By what the names lead to: two names may be one file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(one).is_some_and(|identified| identity(other) == Some(identified))
}

fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Report { packets, sent, answered, established, new_connections, connections, too_large, waiting, .. } = report;
    writeln!(out, "packets {packets}, sent {sent}, of these answered {answered}")?;
    writeln!(out, "connections opened {new_connections}, tracked at the end {connections}, packets of known ones {established}")?;
    if *too_large > 0 {
        writeln!(out, "left out because no frame holds them: {too_large}")?;
    }
    if *waiting > 0 {
        writeln!(out, "fragments that wait still for the first one of their datagram: {waiting}")?;
    }
    if !report.drops.is_empty() {
        let mut table = Table::new(&["DROPPED", "COUNT"]);
        report.drops.iter().for_each(|(reason, count)| table.row([reason.clone(), count.to_string()]));
        table.print(out)?;
    }
    let mut table = Table::new(&["BACKEND", "CONNECTIONS"]);
    report.backends.iter().for_each(|(backend, count)| table.row([backend.clone(), count.to_string()]));
    table.print(out)
}
