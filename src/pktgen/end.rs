//! One end: the program on an interface that counts what comes, and what it counted.

use super::stamp::KINDS;
use super::{PktgenError, Place, Plan};
use crate::kernel;
use crate::xdp::{AttachMode, XdpError, attach_program, load_program, program_named};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::links::FdLink;
use aya::{Ebpf, Pod};
use hdrhistogram::Histogram;

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ends.bpf.o"));

/// Buckets of the kernel's histogram: 64 for each power of two.
pub(super) const BUCKETS: usize = 2560;
/// `struct arrived` of ends.bpf.c.
const NUMBERS: usize = 9;
/// Bytes of `struct traffic`.
const TRAFFIC: usize = 12 * 4 + 8 + 16 * 4 + 32 + 12 + 4;

/// What an end does with what comes, beside counting it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Duty {
    /// Sends everything back, as a server would.
    pub(super) echo: bool,
    /// Answers SYNs.
    pub(super) answer_syn: bool,
    /// Stamps are those of the kernel's pktgen.
    pub(super) kernel: bool,
}

/// What came of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Frames, each sequence number once.
    pub frames: u64,
    /// Bytes of them, without FCS.
    pub bytes: u64,
    /// Frames whose sequence number had come already (among the last 131,072).
    pub duplicates: u64,
    /// Frames with a lower sequence number than one before them, on the same core.
    pub late: u64,
    /// The shortest and the longest time on the way, in nanoseconds; 0 where none came.
    pub fastest: u64,
    /// See `fastest`.
    pub slowest: u64,
    /// Frames by time on the way.
    buckets: Vec<u64>,
}

impl Arrived {
    /// Times on the way in nanoseconds, each to within a 64th: as many values as frames.
    pub fn latency(&self) -> Histogram<u64> {
        // Up to ten hours with three digits: there is such a histogram, and every bucket lies in it.
        let mut histogram = Histogram::new_with_bounds(1, 1 << 45, 3).unwrap_or_else(|error| unreachable!("{error}"));
        for (bucket, count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let value = middle(bucket).clamp(self.fastest.min(self.slowest), self.slowest.max(1));
            histogram.saturating_record_n(value, *count);
        }
        histogram
    }

    /// What came since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let minus = |now: u64, then: u64| now.saturating_sub(then);
        let then = before.buckets.iter().copied().chain(std::iter::repeat(0));
        Self {
            frames: minus(self.frames, before.frames),
            bytes: minus(self.bytes, before.bytes),
            duplicates: minus(self.duplicates, before.duplicates),
            late: minus(self.late, before.late),
            buckets: self.buckets.iter().zip(then).map(|(now, then)| minus(*now, then)).collect(),
            ..*self
        }
    }

    /// From all cores.
    fn sum(cores: &[[u64; NUMBERS]], buckets: &[[u64; BUCKETS]]) -> Self {
        let sum = |number: usize| cores.iter().map(|core| core[number]).sum();
        let seen = || cores.iter().filter(|core| core[0] > 0);
        let mut all = vec![0; if buckets.is_empty() { 0 } else { BUCKETS }];
        for core in buckets {
            all.iter_mut().zip(core).for_each(|(sum, count)| *sum += count);
        }
        Self {
            frames: sum(0),
            bytes: sum(1),
            duplicates: sum(2),
            late: sum(3),
            fastest: seen().map(|core| core[6]).min().unwrap_or(0),
            slowest: seen().map(|core| core[7]).max().unwrap_or(0),
            buckets: all,
        }
    }
}

/// The middle of a bucket, in nanoseconds: the inverse of `bucket` of ends.bpf.c.
pub(super) fn middle(bucket: usize) -> u64 {
    if bucket < 64 {
        return bucket as u64;
    }
    let shift = bucket / 64 - 1;
    ((64 + bucket as u64 % 64) << shift) + ((1 << shift) >> 1)
}

/// The program on an interface. Detached when dropped, and by the kernel when the process dies.
pub struct End {
    mode: AttachMode,
    tag: Array<MapData, u64>,
    arrived: PerCpuArray<MapData, [u64; NUMBERS]>,
    latency: PerCpuArray<MapData, [u64; BUCKETS]>,
    _link: FdLink,
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl End {
    /// Attaches it, in native mode where the driver has that.
    pub(super) fn attach(place: &Place, plan: &Plan, duty: Duty) -> Result<Self, PktgenError> {
        place.inside(|| {
            let interface = &place.interface;
            let link = kernel::servable_link(interface)?;
            plan.check_mtu(interface, link.mtu)?;
            kernel::use_all_channels(interface)?;
            let traffic = traffic(plan, &Outgoing::default(), duty);
            let mut ebpf = load_program(OBJECT, "arrive", Some(("TRAFFIC", &traffic)))?;
            let program = program_named(&mut ebpf, "arrive")?;
            let (mode, link) = match attach_program(program, interface, AttachMode::Native) {
                Err(error) if error.is_about_native_mode() => {
                    (AttachMode::Generic, attach_program(program, interface, AttachMode::Generic)?)
                }
                attached => (AttachMode::Native, attached?),
            };
            Ok(Self {
                mode,
                tag: array(&mut ebpf, "TAG")?,
                arrived: per_cpu(&mut ebpf, "ARRIVED")?,
                latency: per_cpu(&mut ebpf, "LATENCY")?,
                _link: link,
            })
        })
    }

    /// Where the program runs.
    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// From now on counts, from 0, what carries this tag.
    pub(super) fn expect(&mut self, tag: u32) -> Result<(), PktgenError> {
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| PktgenError::System { action: "count the CPUs", source })?;
        let failed = |source| XdpError::Map { action: "clear", source };
        self.tag.set(0, u64::from(tag), 0).map_err(failed)?;
        let zeros = |what| PktgenError::System { action: what, source: std::io::ErrorKind::InvalidData.into() };
        for kind in 0..KINDS as u32 {
            let values = vec![[0; NUMBERS]; cpus].try_into().map_err(|_| zeros("clear the counts"))?;
            self.arrived.set(kind, values, 0).map_err(failed)?;
        }
        for kind in 0..2 {
            let values = vec![[0; BUCKETS]; cpus].try_into().map_err(|_| zeros("clear the times"))?;
            self.latency.set(kind, values, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// What came of a kind (a number below 4: bit 0 replies, bit 1 opening).
    pub(super) fn arrived(&self, kind: u32) -> Result<Arrived, PktgenError> {
        let failed = |source| XdpError::Map { action: "read", source };
        let cores = self.arrived.get(&kind, 0).map_err(failed)?;
        let buckets = if kind < 2 { self.latency.get(&kind, 0).map_err(failed)?.to_vec() } else { Vec::new() };
        Ok(Arrived::sum(&cores, &buckets))
    }
}

pub(super) fn array<V: Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Array<MapData, V>, XdpError> {
    let map = ebpf.take_map(name).ok_or(XdpError::NoMap(name))?;
    Array::try_from(map).map_err(|source| XdpError::Map { action: "open", source })
}

fn per_cpu<V: Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<PerCpuArray<MapData, V>, XdpError> {
    let map = ebpf.take_map(name).ok_or(XdpError::NoMap(name))?;
    PerCpuArray::try_from(map).map_err(|source| XdpError::Map { action: "open", source })
}

/// Where generated frames go: the interface's number, and both link addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outgoing {
    pub(super) index: u32,
    pub(super) to: [u8; 6],
    pub(super) from: [u8; 6],
}

/// `struct traffic` of ends.bpf.c.
pub(super) fn traffic(plan: &Plan, out: &Outgoing, duty: Duty) -> [u8; TRAFFIC] {
    use std::net::IpAddr;
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    };
    let (first, addresses) = plan.addresses();
    let words = [
        out.index,
        u32::from(plan.is_ipv6()),
        u32::from(plan.number()),
        u32::from(plan.flood),
        plan.flows,
        addresses,
        u32::from(plan.vip.port()),
        plan.smallest(),
        plan.largest(),
        u32::from(duty.echo),
        u32::from(duty.answer_syn),
        u32::from(duty.kernel),
    ];
    let monotonic = super::now();
    let ahead = super::clock(rustix::time::ClockId::Realtime).wrapping_sub(monotonic);
    let mut sizes = [0; 16];
    sizes[..12].copy_from_slice(&plan.pattern());
    let mut bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    bytes.extend(ahead.to_ne_bytes());
    bytes.extend(sizes.iter().flat_map(|size: &u32| size.to_ne_bytes()));
    bytes.extend(octets(first));
    bytes.extend(octets(plan.vip.ip()));
    bytes.extend(out.to);
    bytes.extend(out.from);
    let mut all = [0; TRAFFIC];
    all[..bytes.len()].copy_from_slice(&bytes);
    all
}
