//! The sender by the kernel's pktgen module, driven by its files (Documentation/networking/pktgen.rst).

use super::end::Outgoing;
use super::watch::Progress;
use super::{Order, PktgenError, Place, Plan, Protocol, Sender, Sent, Sizes, Watch, now};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

/// Those of the namespace that the thread is in.
const FILES: &str = "/proc/thread-self/net/pktgen";
/// The file for all of it.
const CONTROL: &str = "pgctrl";
/// How the file of a CPU's thread begins, behind which its number is.
const THREAD: &str = "kpktgend_";
/// A thread's command to let go of its interfaces.
const REMOVE: &str = "rem_device_all";

/// One thread of the generator with one interface.
#[derive(Clone)]
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
        let (found, cpus) = place.inside(|| Ok((std::fs::metadata(files.join(CONTROL)), cpus(files))))?;
        found.map_err(|source| PktgenError::NoKernelGenerator { path: files.display().to_string(), source })?;
        if let Some(cpu) = cpu.filter(|cpu| !cpus.contains(cpu)) {
            let allowed: Vec<String> = cpus.iter().map(usize::to_string).collect();
            let text = format!("--cpu {cpu}: the kernel's pktgen has no thread there; allowed: {}", allowed.join(", "));
            return Err(PktgenError::Plan(text));
        }
        let thread = format!("{THREAD}{}", cpu.unwrap_or(0));
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
        self.tell(&self.thread, REMOVE)?;
        self.tell(&self.thread, &format!("add_device {}", self.place.interface))?;
        for command in self.commands(order) {
            self.tell(&self.place.interface, &command)?;
        }
        // Returns when all is sent, or `stop` was written.
        self.tell(CONTROL, "start")
    }

    /// Until all is sent; told to stop when it is over. Who cannot be told is not waited for.
    pub(super) fn wait(
        &self,
        starting: JoinHandle<Result<(), PktgenError>>,
        deadline: u64,
        watch: &Watch,
    ) -> Result<(), PktgenError> {
        let begin = now();
        while !starting.is_finished() {
            watch.tell(self.progress());
            // Again and again: what is told before it has begun is forgotten.
            if now() - begin >= deadline || watch.is_over() {
                self.tell(CONTROL, "stop")?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        starting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn progress(&self) -> Progress {
        let text = std::fs::read_to_string(self.files.join(&self.place.interface)).unwrap_or_default();
        progress_in(&text)
    }

    fn run(&self, order: &Order, watch: &Watch) -> Result<Sent, PktgenError> {
        let (starter, order) = (self.clone(), *order);
        let starting = std::thread::spawn(move || {
            starter.place.enter()?;
            starter.start(&order)
        });
        self.wait(starting, order.deadline, watch)?;
        let Progress { frames, nanos } = self.progress();
        let bytes = frames * u64::from(self.plan.largest());
        Ok(Sent { frames, bytes, nanos: order.spent(frames, nanos, nanos) })
    }
}

/// How far it is by an interface's file: "pkts-sofar: N", and "started: Nus  stopped: Nus", which is the present while it runs.
pub(super) fn progress_in(text: &str) -> Progress {
    let number = |word: &str| -> Option<u64> {
        let behind = text.split(word).nth(1)?.trim_start();
        behind.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    };
    let time = |word| number(word).unwrap_or(0);
    Progress { frames: number("pkts-sofar:").unwrap_or(0), nanos: time("stopped:").saturating_sub(time("started:")) * 1000 }
}

/// The CPUs that the module has threads for.
fn cpus(files: &Path) -> Vec<usize> {
    let entries = std::fs::read_dir(files).into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix(THREAD)?.parse().ok();
    let mut cpus: Vec<usize> = entries.filter_map(number).collect();
    cpus.sort_unstable();
    cpus
}

impl Sender for KernelGenerator {
    fn send(&mut self, order: &Order, watch: &Watch) -> Result<Sent, PktgenError> {
        if order.profile.from != order.profile.to {
            return Err(PktgenError::KernelCannot { what: "a ramp" });
        }
        let generator = &*self;
        generator.place.inside(|| {
            let sent = generator.run(order, watch);
            // However it ended: an interface that stays would send on where it could not be stopped, and be in the way of the next.
            let removed = generator.tell(&generator.thread, REMOVE);
            sent.and_then(|sent| removed.map(|()| sent))
        })
    }
}
