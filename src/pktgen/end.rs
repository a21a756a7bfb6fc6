//! One end: the program on an interface that counts what comes, and what it counted.

use super::arrived::{Arrived, BUCKETS, NUMBERS};
use super::stamp::KINDS;
use super::{PktgenError, Place, Plan};
use crate::kernel;
use crate::xdp::{AttachMode, XdpError, attach_program, load_program, program_named};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::links::FdLink;
use aya::{Ebpf, Pod};

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ends.bpf.o"));

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

/// The program on an interface. Detached when dropped, and by the kernel when the process dies.
pub struct End {
    mode: AttachMode,
    counts: Counts,
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
            let (mut ebpf, counts) = Counts::load(plan, duty)?;
            let program = program_named(&mut ebpf, "arrive")?;
            let (mode, link) = match attach_program(program, interface, AttachMode::Native) {
                Err(error) if error.is_about_native_mode() => {
                    (AttachMode::Generic, attach_program(program, interface, AttachMode::Generic)?)
                }
                attached => (AttachMode::Native, attached?),
            };
            Ok(Self { mode, counts, _link: link })
        })
    }

    /// Where the program runs.
    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// From now on counts, from 0, what carries this tag.
    pub(super) fn expect(&mut self, tag: u32) -> Result<(), PktgenError> {
        self.counts.expect(tag)
    }

    /// What came of a kind (a number below 4: bit 0 replies, bit 1 opening).
    pub(super) fn arrived(&self, kind: u32) -> Result<Arrived, PktgenError> {
        self.counts.arrived(kind)
    }
}

/// What the program and this side have in common.
pub(super) struct Counts {
    tag: Array<MapData, u64>,
    arrived: PerCpuArray<MapData, [u64; NUMBERS]>,
    latency: PerCpuArray<MapData, [u64; BUCKETS]>,
    /// How often they began anew. Sequence numbers are marked with it, for the kernel's generator sends the same tag in every trial.
    round: u32,
}

impl Counts {
    /// The program `arrive`, loaded but not attached, and its counts.
    pub(super) fn load(plan: &Plan, duty: Duty) -> Result<(Ebpf, Self), PktgenError> {
        let traffic = traffic(plan, &Outgoing::default(), duty);
        let mut ebpf = load_program(OBJECT, "arrive", Some(("TRAFFIC", &traffic)))?;
        let tag = array(&mut ebpf, "TAG")?;
        let (arrived, latency) = (per_cpu(&mut ebpf, "ARRIVED")?, per_cpu(&mut ebpf, "LATENCY")?);
        Ok((ebpf, Self { tag, arrived, latency, round: 0 }))
    }

    /// See [`End::expect`].
    pub(super) fn expect(&mut self, tag: u32) -> Result<(), PktgenError> {
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| PktgenError::System { action: "count the CPUs", source })?;
        let failed = |source| XdpError::Map { action: "clear", source };
        self.round = self.round.wrapping_add(1);
        self.tag.set(0, u64::from(self.round) << 32 | u64::from(tag), 0).map_err(failed)?;
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

    /// See [`End::arrived`].
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
