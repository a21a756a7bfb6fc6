//! The sender by the kernel's pktgen module, driven by its files (Documentation/networking/pktgen.rst).

use super::end::Outgoing;
use super::{Order, PktgenError, Place, Plan, Protocol, Sender, Sent, Sizes, Watch, now};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Those of the namespace that the thread is in.
const FILES: &str = "/proc/thread-self/net/pktgen";

/// One thread of the generator with one interface.
pub(super) struct KernelGenerator {
    files: PathBuf,
    place: Place,
    thread: String,
    plan: Plan,
    out: Outgoing,
}

impl KernelGenerator {
    pub(super) fn new(place: &Place, plan: &Plan, out: &Outgoing, cpu: Option<usize>) -> Result<Self, PktgenError> {
        Self::at(Path::new(FILES), place, plan, out, cpu)
    }

    /// `files` is where the generator's are.
    pub(super) fn at(files: &Path, place: &Place, plan: &Plan, out: &Outgoing, cpu: Option<usize>) -> Result<Self, PktgenError> {
        if plan.protocol == Protocol::Tcp {
            return Err(PktgenError::KernelCannot { what: "TCP" });
        }
        if plan.sizes() == Sizes::Imix {
            return Err(PktgenError::KernelCannot { what: "an IMIX that its stamps survive" });
        }
        let found = place.inside(|| Ok(std::fs::metadata(files.join("pgctrl"))))?;
        found.map_err(|source| PktgenError::NoKernelGenerator { path: files.display().to_string(), source })?;
        let thread = format!("kpktgend_{}", cpu.unwrap_or(0));
        Ok(Self { files: files.to_owned(), place: place.clone(), thread, plan: plan.clone(), out: *out })
    }

    fn tell(&self, file: &str, command: &str) -> Result<(), PktgenError> {
        let refused = |source: io::Error| PktgenError::KernelRefuses { command: command.to_owned(), source };
        std::fs::write(self.files.join(file), format!("{command}\n")).map_err(refused)
    }

    /// What the interface is told before it starts.
    pub(super) fn commands(&self, order: &Order) -> Vec<String> {
        let plan = &self.plan;
        let (first, addresses) = plan.addresses();
        let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let six = if plan.is_ipv6() { "6" } else { "" };
        // Of each address as many ports as there are flows for; the module draws both at random, and never the last. In IPv6 it has one source.
        let used = if plan.is_ipv6() { 1 } else { plan.flows.min(addresses) };
        let behind = (1024 + plan.flows.div_ceil(used).max(1)).min(65535);
        let mut commands = vec![
            format!("count {}", if order.limit == u64::MAX { 0 } else { order.limit }),
            format!("pkt_size {}", plan.largest()),
            format!("dst_mac {}", mac(self.out.to)),
            format!("src_mac {}", mac(self.out.from)),
            format!("dst{six} {}", plan.vip.ip()),
            "udp_src_min 1024".to_owned(),
            format!("udp_src_max {behind}"),
            format!("udp_dst_min {}", plan.vip.port()),
            format!("udp_dst_max {}", plan.vip.port()),
            "flag UDPSRC_RND".to_owned(),
            "flag UDPCSUM".to_owned(),
        ];
        match first {
            IpAddr::V4(first) => {
                let behind = Ipv4Addr::from_bits(first.to_bits().saturating_add(used));
                commands.extend([format!("src_min {first}"), format!("src_max {behind}"), "flag IPSRC_RND".to_owned()]);
            }
            IpAddr::V6(first) => commands.push(format!("src6 {first}")),
        }
        if let Some(rate) = order.profile.rate(0) {
            commands.push(format!("ratep {}", rate as u64));
        }
        commands
    }

    fn start(&self, order: &Order) -> Result<(), PktgenError> {
        self.tell(&self.thread, "rem_device_all")?;
        self.tell(&self.thread, &format!("add_device {}", self.place.interface))?;
        for command in self.commands(order) {
            self.tell(&self.place.interface, &command)?;
        }
        // Returns when all is sent, or `stop` was written.
        self.tell("pgctrl", "start")
    }

    fn sent(&self) -> u64 {
        std::fs::read_to_string(self.files.join(&self.place.interface)).ok().and_then(|text| packets_so_far(&text)).unwrap_or(0)
    }
}

/// "pkts-sofar: N" of an interface's file.
pub(super) fn packets_so_far(text: &str) -> Option<u64> {
    text.split("pkts-sofar:").nth(1)?.split_whitespace().next()?.parse().ok()
}

impl Sender for KernelGenerator {
    fn send(&mut self, order: &Order, watch: &Watch) -> Result<Sent, PktgenError> {
        if order.profile.from != order.profile.to {
            return Err(PktgenError::KernelCannot { what: "a ramp" });
        }
        let generator = &*self;
        generator.place.inside(|| {
            let begin = now();
            std::thread::scope(|scope| {
                let starting = scope.spawn(|| generator.place.inside(|| generator.start(order)));
                let deadline = order.deadline;
                while !starting.is_finished() {
                    watch.sent.store(generator.sent(), Relaxed);
                    if now() - begin >= deadline || watch.stop.load(Relaxed) {
                        generator.tell("pgctrl", "stop")?;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                let nanos = now() - begin;
                starting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                let frames = generator.sent();
                generator.tell(&generator.thread, "rem_device_all")?;
                watch.sent.store(frames, Relaxed);
                Ok(Sent { frames, bytes: frames * u64::from(generator.plan.largest()), nanos })
            })
        })
    }
}
