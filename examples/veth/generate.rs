//! The generator: frames made in the kernel and sent out of an interface, some millions a second on one core.
#![allow(unsafe_code)] // bpf(2) has no wrapper for running a program on live frames

use crate::programs::{self, Constant, counted, enter, stay_on};
use anyhow::{Context, Result, anyhow};
use aya::Ebpf;
use aya::maps::{Array, MapData};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// Frames of one call. A call builds up and takes down a page pool, some 30 ms; below a million that is what it mostly does.
const FRAMES_A_CALL: u32 = 1 << 20;
const LENGTH: usize = 60;

const BPF_PROG_RUN: libc::c_long = 10;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 2;

/// `union bpf_attr` for BPF_PROG_RUN, from linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct ProgramRun {
    program: u32,
    returned: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
}

/// What is sent.
pub(crate) struct Traffic<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) core: usize,
    pub(crate) constants: Vec<(&'a str, Constant)>,
}

/// The generating program, loaded; frames are sent while [`Generator::run`] runs.
pub(crate) struct Generator {
    ebpf: Ebpf,
    namespace: String,
    core: usize,
    stopped: Arc<AtomicBool>,
}

/// Ends a [`Generator::run`]: its loop, and what is left of the call that it is in.
pub(crate) struct Brake {
    calls: Arc<AtomicBool>,
    frames: Array<MapData, u32>,
}

impl Brake {
    pub(crate) fn pull(mut self) -> Result<()> {
        // Read between two calls; nothing but that hangs on it.
        self.calls.store(true, Relaxed);
        self.frames.set(0, 1, 0)?;
        Ok(())
    }
}

impl Generator {
    pub(crate) fn new(object: &[u8], traffic: Traffic<'_>) -> Result<Self> {
        enter(traffic.namespace)?;
        let mut ebpf = programs::load(object, &traffic.constants)?;
        programs::program(&mut ebpf, "generate")?.load()?;
        Ok(Self { ebpf, namespace: traffic.namespace.to_owned(), core: traffic.core, stopped: Arc::default() })
    }

    /// There is one.
    pub(crate) fn brake(&mut self) -> Result<Brake> {
        let frames = Array::try_from(self.ebpf.take_map(".bss").context("no map .bss")?)?;
        Ok(Brake { calls: Arc::clone(&self.stopped), frames })
    }

    /// Sends `frames` frames from a thread of its own, for threads stay where they were put.
    pub(crate) fn send(&mut self, frames: u32) -> Result<()> {
        let sending = |generator: &mut Self| {
            enter(&generator.namespace)?;
            stay_on(generator.core)?;
            while let left @ 1.. = u64::from(frames).saturating_sub(counted(&generator.ebpf)?) {
                generator.call(left as u32)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| scope.spawn(|| sending(self)).join().map_err(|_| anyhow!("the generator panicked"))?)
    }

    /// Sends until the brake is pulled. Returns how many frames a second were offered.
    pub(crate) fn run(&mut self) -> Result<f64> {
        enter(&self.namespace)?;
        stay_on(self.core)?;
        let start = Instant::now();
        while !self.stopped.load(Relaxed) {
            self.call(FRAMES_A_CALL)?;
        }
        Ok(counted(&self.ebpf)? as f64 / start.elapsed().as_secs_f64())
    }

    /// Sends that many, or less: a signal ends the call, also one that stops the process for a while.
    fn call(&mut self, frames: u32) -> Result<()> {
        let program = programs::program(&mut self.ebpf, "generate")?;
        let template = [0u8; LENGTH];
        let mut run = ProgramRun {
            program: program.fd()?.as_fd().as_raw_fd() as u32,
            data_size_in: LENGTH as u32,
            data_in: template.as_ptr() as u64,
            repeat: frames,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: 64,
            ..ProgramRun::default()
        };
        // Without the padding behind the last field, which the kernel wants to be 0 or absent.
        let size = std::mem::offset_of!(ProgramRun, batch_size) + size_of::<u32>();
        // SAFETY: the attribute and the template it points to live through the call; nothing is written back but to the attribute.
        let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_RUN, &raw mut run, size) };
        match io::Error::last_os_error() {
            error if done != 0 && error.kind() != io::ErrorKind::Interrupted => Err(error).context("BPF_PROG_RUN"),
            _ => Ok(()),
        }
    }
}

/// The number of an interface in the thread's namespace.
pub(crate) fn interface_index(name: &str) -> Result<u32> {
    let text = CString::new(name)?;
    // SAFETY: the text lives through the call and ends with 0.
    let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()).context(name.to_owned()) } else { Ok(index) }
}
