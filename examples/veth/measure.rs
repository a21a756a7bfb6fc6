//! One measurement: sends through a forwarder, counts at both ends.

use crate::generate::{Generator, Traffic, interface_index};
use crate::programs::{self, Constant, counted, enter};
use anyhow::{Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

#[derive(Args)]
pub(crate) struct Measure {
    /// Namespace and interface that packets are sent from
    #[arg(long)]
    client: String,
    #[arg(long, default_value = "c0")]
    client_interface: String,
    /// Namespace and interface that they arrive at
    #[arg(long)]
    server: String,
    #[arg(long, default_value = "s0")]
    server_interface: String,
    /// MAC address of the forwarder on the client's side
    #[arg(long)]
    to: String,
    /// Where they are sent
    #[arg(long)]
    vip: Ipv4Addr,
    /// The first client address; each has 16384 flows
    #[arg(long)]
    clients: Ipv4Addr,
    #[arg(long, default_value_t = 1024)]
    flows: u32,
    #[arg(long, value_enum, default_value = "udp")]
    protocol: Protocol,
    /// Packets a second that are offered; 0 for as many as possible
    #[arg(long, default_value_t = 1_500_000)]
    rate: u32,
    /// The server sends everything back
    #[arg(long)]
    two_way: bool,
    /// The flows are open: a measurement before this one has opened them
    #[arg(long)]
    opened: bool,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Core of the generator and of all that follows from a packet up to the forwarder's RX ring
    #[arg(long, default_value_t = 0)]
    core: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Udp,
    /// Flows are opened by a SYN and then carry ACKs
    Tcp,
}

const SYN: u32 = 0x02;
const ACK: u32 = 0x10;
/// Packets a second at which flows are opened: slower than any forwarder opens them.
const OPENING_RATE: u32 = 100_000;
/// Between the start of the traffic and the first count.
const SETTLE: Duration = Duration::from_millis(200);

impl Measure {
    pub(crate) fn run(&self, object: &[u8]) -> Result<()> {
        ensure!(self.flows > 0, "--flows must be at least 1");
        enter(&self.server)?;
        let mut answering = programs::load(object, &[("REFLECT", Constant::Word(u32::from(self.two_way)))])?;
        programs::attach(&mut answering, "answer", &self.server_interface)?;
        enter(&self.client)?;
        let mut swallowing = programs::load(object, &[])?;
        programs::attach(&mut swallowing, "swallow", &self.client_interface)?;

        if !self.opened {
            self.generator(object, Phase::Open)?.send(self.flows)?;
        }
        let mut generator = self.generator(object, Phase::Load)?;
        let brake = generator.brake()?;
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| generator.run());
            std::thread::sleep(SETTLE);
            let counts = || -> Result<_> { Ok((Instant::now(), counted(&answering)?, counted(&swallowing)?)) };
            let before = counts()?;
            std::thread::sleep(Duration::from_secs_f64(self.seconds));
            let after = counts()?;
            brake.pull()?;
            let offered = sending.join().map_err(|_| anyhow!("the generator panicked"))??;
            let rate = |frames: u64| frames as f64 / (after.0 - before.0).as_secs_f64() / 1e6;
            println!("{:.4} {:.4} {:.4}", offered / 1e6, rate(after.1 - before.1), rate(after.2 - before.2));
            Ok(())
        })
    }

    fn generator(&self, object: &[u8], phase: Phase) -> Result<Generator> {
        enter(&self.client)?;
        let (rate, flags, in_order) = match phase {
            Phase::Open => (OPENING_RATE, SYN, 1),
            Phase::Load => (self.rate, ACK, 0),
        };
        let protocol = match self.protocol {
            Protocol::Udp => libc::IPPROTO_UDP,
            Protocol::Tcp => libc::IPPROTO_TCP,
        };
        let out = interface_index(&self.client_interface)?;
        let constants = vec![
            ("OUT", Constant::Word(out)),
            ("FLOWS", Constant::Word(self.flows)),
            ("IN_ORDER", Constant::Word(in_order)),
            ("INTERVAL", Constant::Word(1_000_000_000u32.checked_div(rate).unwrap_or(0))),
            ("PROTOCOL", Constant::Word(protocol as u32)),
            ("TCP_FLAGS", Constant::Word(flags)),
            ("CLIENTS", Constant::Word(self.clients.to_bits())),
            ("VIP", Constant::Word(self.vip.to_bits())),
            ("FROM", Constant::Mac([2, 0, 0, 0, 0, 0x11])),
            ("TO", Constant::Mac(programs::parse_mac(&self.to)?)),
        ];
        Generator::new(object, Traffic { namespace: &self.client, core: self.core, constants })
    }
}

#[derive(Clone, Copy)]
enum Phase {
    Open,
    Load,
}
