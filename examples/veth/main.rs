//! The two ends and the yardstick of scripts/bench-veth.sh, which calls this and says what the figures are.
//!
//! An example and not a bench: the script runs its parts as processes of their own, each on its core, and needs to know their path.
//!
//! - `measure` sends packets out of the client's interface (made in the kernel by BPF_PROG_RUN), counts what arrives at the server's
//!   interface and, where the server sends everything back, at the client's.
//! - `forward` is the yardstick: the least that a program over AF_XDP can do between two interfaces.
//! - `pass` lets the kernel forward.

mod forward;
mod generate;
mod measure;
mod programs;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "The ends and the yardstick of scripts/bench-veth.sh")]
struct Arguments {
    /// traffic.bpf.c, compiled
    #[arg(long)]
    object: std::path::PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends, counts, prints megapackets a second: offered, arrived at the server, come back to the client
    Measure(measure::Measure),
    /// Forwards between two interfaces and does nothing else, until it is killed
    Forward(forward::Forward),
    /// Attaches a program to two interfaces that passes everything to the kernel, until it is killed
    Pass(forward::Pass),
}

fn main() -> anyhow::Result<()> {
    let Arguments { object, command } = Arguments::parse();
    let object = std::fs::read(&object)?;
    match command {
        Command::Measure(measure) => measure.run(&object),
        Command::Forward(forward) => forward.run(&object),
        Command::Pass(pass) => pass.run(&object),
    }
}
