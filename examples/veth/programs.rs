//! Loading the programs of traffic.bpf.c, in the namespace where they belong.

use anyhow::{Context, Result, anyhow};
use aya::maps::PerCpuArray;
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};
use std::fs::File;
use std::os::fd::AsFd;

/// A constant of the program.
pub(crate) enum Constant {
    /// 32 bits.
    Word(u32),
    /// 48 bits.
    Mac([u8; 6]),
}

/// Moves the calling thread into a namespace made by `ip netns add`.
pub(crate) fn enter(namespace: &str) -> Result<()> {
    let path = format!("/run/netns/{namespace}");
    let file = File::open(&path).with_context(|| path.clone())?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context(path)
}

/// Keeps the calling thread on a core.
pub(crate) fn stay_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("core {core}"))
}

/// Loads the object with these constants.
pub(crate) fn load(object: &[u8], constants: &[(&str, Constant)]) -> Result<Ebpf> {
    let words: Vec<u64> = constants.iter().map(|(_, constant)| constant.bits()).collect();
    let halves: Vec<u32> = words.iter().map(|word| *word as u32).collect();
    let mut loader = EbpfLoader::new();
    for (index, (name, constant)) in constants.iter().enumerate() {
        match constant {
            Constant::Word(_) => loader.override_global(name, &halves[index], true),
            Constant::Mac(_) => loader.override_global(name, &words[index], true),
        };
    }
    Ok(loader.load(object)?)
}

impl Constant {
    fn bits(&self) -> u64 {
        match self {
            Self::Word(word) => u64::from(*word),
            Self::Mac(mac) => mac.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)),
        }
    }
}

/// The program of this name, not loaded yet.
pub(crate) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// Loads one and attaches it to an interface of the thread's namespace, in native mode.
pub(crate) fn attach(ebpf: &mut Ebpf, name: &str, interface: &str) -> Result<()> {
    let program = program(ebpf, name)?;
    program.load()?;
    program.attach(interface, XdpMode::Driver).with_context(|| format!("attach {name} to {interface}"))?;
    Ok(())
}

/// Frames that the object's program counted, on all cores.
pub(crate) fn counted(ebpf: &Ebpf) -> Result<u64> {
    let state: PerCpuArray<_, [u64; 3]> = PerCpuArray::try_from(ebpf.map("STATE").context("no map STATE")?)?;
    Ok(state.get(&0, 0)?.iter().map(|state| state[0]).sum())
}

/// Six bytes from their usual notation.
pub(crate) fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>().context(text.to_owned())?;
    bytes.try_into().map_err(|_| anyhow!("{text} is no MAC address"))
}
