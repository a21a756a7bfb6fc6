//! `weir pktgen`: sends traffic with known numbers, counts and times what arrives.

mod arguments;
mod report;

use super::Outcome;
use crate::pktgen::pace::Profile;
use crate::pktgen::search::{Search, Verdict};
use crate::pktgen::{Bench, PktgenError, Place, Plan, Protocol, Setup, Sizes, Trial, Way, next_hop};
use arguments::{
    Mac, Ramp, Rate, parse_clients, parse_cpu, parse_duration, parse_flows, parse_loss, parse_resolution, parse_vip,
};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use report::Report;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Generate traffic, and count and time what arrives of it
///
/// Packets go out of --interface, and out of no other, to the VIP. At the interface --sink they are counted, timed and swallowed, or with
/// --echo sent back as a server would, and then counted where they started, too. Each carries a stamp with its sequence number and the
/// time, so both interfaces must be of one machine, in whatever namespaces. Flows are opened beforehand. What is not of this run is left
/// to the kernel. It all ends after --duration, and everything is taken down however it ends.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  weir pktgen --interface eth1 --sink eth2 --vip 10.0.0.100:80 --rate 500k --echo\n  weir pktgen --interface eth1 --sink eth2 --vip 10.0.0.100:80 --size imix --search --rate 2M\n  weir pktgen --interface eth1 --sink eth2 --vip 10.0.0.100:443 --syn-flood --rate 1M --duration 30"
)]
pub(super) struct Pktgen {
    /// Interface that packets leave by
    #[arg(long, value_name = "IF")]
    interface: String,
    /// Interface that they arrive at; the same one unless named
    #[arg(long, value_name = "IF")]
    sink: Option<String>,
    /// Network namespace of --interface, as `ip netns` names it or a path; the current one unless named
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Network namespace of --sink; that of --interface unless named
    #[arg(long, value_name = "NAME")]
    sink_namespace: Option<String>,
    /// Address and port that packets are sent to, IPv4 or [IPv6]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_vip)]
    vip: SocketAddr,
    /// Link address that frames are sent to; unless given, that of the next hop by the kernel's routes and neighbours
    #[arg(long, value_name = "MAC")]
    to: Option<Mac>,
    /// Addresses that packets are from; unless given 198.18.0.0/15 (RFC 2544) or 2001:2::/48 (RFC 5180)
    #[arg(long, value_name = "PREFIX", value_parser = parse_clients)]
    clients: Option<IpNet>,
    /// Number of flows: different clients' addresses first, then ports from 1024 on
    #[arg(long, value_name = "N", default_value = "1024", value_parser = parse_flows)]
    flows: u32,
    /// udp unless given; tcp opens each flow by SYN, SYN/ACK and ACK, then sends data
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Bytes on the wire with FCS, up to 1518, or imix (7 of 64, 4 of 594, 1 of 1518); unless given the smallest that hold the stamp
    #[arg(long, value_name = "N|imix")]
    size: Option<Sizes>,
    /// Packets a second, such as 500, 10k, 1.5M, or max; with --search the highest that is tried, 2M unless given
    #[arg(long, value_name = "PPS")]
    rate: Option<Rate>,
    /// Rises or falls evenly, such as 10k:1M:20, and says how it went in ten parts
    #[arg(long, value_name = "FROM:TO:SECONDS", conflicts_with_all = ["rate", "search", "duration"])]
    ramp: Option<Ramp>,
    /// SYNs of sources at random out of all of --clients, which no flow follows
    #[arg(long, conflicts_with = "flows")]
    syn_flood: bool,
    /// Seconds, 0.1 to 3600; with --search those of each trial
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_duration)]
    duration: Duration,
    /// How packets are sent
    #[arg(long, value_enum, default_value = "live-frames")]
    sender: SenderName,
    /// Look for the highest rate without loss (RFC 2544, section 26.1), by bisection
    #[arg(long)]
    search: bool,
    /// Packets a second to which --search finds the rate; a hundredth of the highest unless given
    #[arg(long, value_name = "PPS", requires = "search", value_parser = parse_resolution)]
    resolution: Option<u32>,
    /// Percentage of lost packets that --search bears, 0 to 50
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = parse_loss, requires = "search")]
    loss: u64,
    /// The sink sends everything back, so that replies travel, too; what does not come back is lost
    #[arg(long)]
    echo: bool,
    /// CPU that the sender stays on
    #[arg(long, value_name = "N", value_parser = parse_cpu)]
    cpu: Option<usize>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// As the command line calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SenderName {
    /// The kernel makes the frames: XDP live frames, Linux 5.18
    LiveFrames,
    /// Over the TX ring of an AF_XDP socket
    AfXdp,
    /// The kernel's pktgen module, where it is loaded; UDP of one size at one rate
    Kernel,
}

impl SenderName {
    fn name(self) -> &'static str {
        match self {
            Self::LiveFrames => "live-frames",
            Self::AfXdp => "af-xdp",
            Self::Kernel => "kernel",
        }
    }
}

/// The highest rate of a search unless told.
const HIGHEST: u32 = 2_000_000;
/// Parts in which a ramp is told.
const PARTS: usize = 10;

impl Pktgen {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Outcome> {
        match self.measure(out) {
            Err(error) if matches!(error.downcast_ref(), Some(PktgenError::Plan(_))) => {
                writeln!(io::stderr(), "weir: {error}")?;
                Ok(Outcome::BadInput)
            }
            result => result.map(|()| Outcome::Fine),
        }
    }

    fn measure(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let plan = self.plan()?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let setup = self.setup()?;
        let mut report = Report::new(self, &plan, &setup);
        let mut bench = Bench::new(&setup, plan, stop)?;
        report.mode = bench.sink().mode().name();
        report.opened = bench.open()?;
        match (bench.interrupted(), self.search) {
            (true, _) => {}
            (false, true) => self.look_for_rate(&mut bench, &mut report, out)?,
            (false, false) => report.trial = Some(bench.trial(self.profile(), if self.ramp.is_some() { PARTS } else { 1 })?),
        }
        let interrupted = bench.interrupted();
        // Programs are gone before anything is said: whoever reads may stop reading.
        drop(bench);
        report.print(out)?;
        match (interrupted, &report.trial) {
            (true, Some(_)) => anyhow::bail!("interrupted: the figures are of what was sent until then"),
            (true, None) => anyhow::bail!("interrupted before anything was measured"),
            (false, _) => report.failure().map_or(Ok(()), |failure| Err(anyhow::anyhow!(failure))),
        }
    }

    fn look_for_rate(&self, bench: &mut Bench, report: &mut Report, out: &mut dyn Write) -> anyhow::Result<()> {
        let highest = self.rate.map_or(HIGHEST, |rate| if rate.0 == 0 { Rate::MOST } else { rate.0 });
        let resolution = self.resolution.unwrap_or(highest / 100);
        let search = Search { highest, resolution, tolerance: self.loss };
        let mut best: Option<(u32, u32, Trial)> = None;
        let found = search.run(|rate| {
            let trial = bench.trial(Profile { from: rate, to: rate, nanos: self.duration.as_nanos() as u64 }, 1)?;
            if trial.interrupted {
                return Ok(None);
            }
            let verdict = self.verdict(&trial);
            let passed = search.passes(verdict);
            report.tell(rate, verdict, passed, &trial, out)?;
            if passed && best.as_ref().is_none_or(|(offered, ..)| *offered <= verdict.offered) {
                best = Some((verdict.offered, rate, trial));
            }
            Ok::<_, anyhow::Error>(Some(verdict))
        })?;
        report.found = Some(found);
        // A sender that could not reach the rate is what was found, not the device: the report says so.
        report.asked = best.as_ref().map(|(_, rate, _)| *rate);
        report.trial = best.map(|(.., trial)| trial);
        Ok(())
    }

    fn verdict(&self, trial: &Trial) -> Verdict {
        let offered = report::per_second(trial.sent.frames, trial.sent.nanos).unwrap_or(0.0);
        Verdict { offered: offered.round() as u32, sent: trial.sent.frames, lost: report::lost(trial, self.echo) }
    }

    fn profile(&self) -> Profile {
        match &self.ramp {
            Some(ramp) => Profile { from: ramp.from, to: ramp.to, nanos: ramp.duration.as_nanos() as u64 },
            None => {
                let rate = self.rate.unwrap_or_default().0;
                Profile { from: rate, to: rate, nanos: self.duration.as_nanos() as u64 }
            }
        }
    }

    fn plan(&self) -> Result<Plan, PktgenError> {
        let default = if self.syn_flood { Protocol::Tcp } else { Protocol::Udp };
        let clients = self.clients.unwrap_or_else(|| arguments::default_clients(self.vip.ip()));
        let size = self.size.unwrap_or_default();
        let flows = if self.syn_flood { 1 } else { self.flows };
        Plan::new(self.protocol.unwrap_or(default), self.vip, clients, flows, size, self.syn_flood)
    }

    fn setup(&self) -> Result<Setup, PktgenError> {
        let source = Place { namespace: self.namespace.clone(), interface: self.interface.clone() };
        let sink = Place {
            namespace: self.sink_namespace.clone().or_else(|| self.namespace.clone()),
            interface: self.sink.clone().unwrap_or_else(|| self.interface.clone()),
        };
        let to = match self.to {
            Some(Mac(mac)) => mac,
            None => next_hop(&source, self.vip.ip())?,
        };
        let way = match self.sender {
            SenderName::LiveFrames => Way::LiveFrames,
            SenderName::AfXdp => Way::AfXdp,
            SenderName::Kernel => Way::Kernel,
        };
        Ok(Setup { source, sink, to, way, echo: self.echo, cpu: self.cpu })
    }
}
