//! The sender over XDP live frames: BPF_PROG_RUN makes frames in the kernel, and the program redirects them to the interface.
#![allow(unsafe_code)] // bpf(2) has no wrapper for running a program on live frames, nor has pthread_kill

use super::end::{Duty, OBJECT, Outgoing, array, traffic};
use super::watch::Progress;
use super::{Order, PktgenError, Place, Plan, Sender, Sent, Watch, now};
use crate::kernel;
use crate::xdp::{XdpError, load_program, program_named};
use aya::Ebpf;
use aya::maps::{Array, MapData};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

const BPF_PROG_RUN: libc::c_long = 10;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 2;
/// How often the program is asked at most in one call. A call takes some 30 ms to build and to take down, so there is one for all of an order:
/// a signal ends it.
const ASKED: u32 = u32::MAX;
/// Between two looks at how far it is, in which a ramp's rate stands.
const LOOK: Duration = Duration::from_millis(5);

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

/// The generating program, loaded.
pub(super) struct LiveFrames {
    ebpf: Ebpf,
    place: Place,
    cpu: Option<usize>,
    template: usize,
    control: Array<MapData, [u64; 8]>,
    progress: Array<MapData, [u64; 7]>,
}

/// What the program says of itself.
struct Counted {
    frames: u64,
    bytes: u64,
    /// By the monotonic clock, when the first burst was due, which is when the program was called first, for the call takes its time to get
    /// there; 0 before.
    began: u64,
    /// When the last burst was due and sent.
    last: u64,
}

impl Counted {
    /// Nanoseconds from the first burst to `time`.
    fn until(&self, time: u64) -> u64 {
        if self.began == 0 { 0 } else { time.saturating_sub(self.began) }
    }
}

impl LiveFrames {
    pub(super) fn new(place: &Place, plan: &Plan, out: &Outgoing, cpu: Option<usize>) -> Result<Self, PktgenError> {
        // Signals without a handler would end the process.
        let register = signal_hook::flag::register(libc::SIGUSR1, Arc::new(AtomicBool::new(false)));
        register.map_err(|source| PktgenError::System { action: "handle SIGUSR1", source })?;
        let mut ebpf = load_program(OBJECT, "generate", Some(("TRAFFIC", &traffic(plan, out, Duty::default()))))?;
        Ok(Self {
            control: array(&mut ebpf, "CONTROL")?,
            progress: array(&mut ebpf, "PROGRESS")?,
            ebpf,
            place: place.clone(),
            cpu,
            template: plan.largest() as usize,
        })
    }

    /// A frame as the program makes it, without sending it.
    #[cfg(test)]
    pub(super) fn sample(&mut self, order: &Order, sequence: u64) -> Result<Vec<u8>, PktgenError> {
        use aya::{TestRun as _, TestRunOptions};
        self.set(order, 0)?;
        self.progress
            .set(0, [sequence, 0, 0, 0, sequence % 12, 0, 0], 0)
            .map_err(|source| XdpError::Map { action: "set", source })?;
        let (frame, mut made) = (vec![0; self.template], vec![0; self.template]);
        let options = TestRunOptions { data_in: Some(&frame), data_out: Some(&mut made), ..TestRunOptions::new() };
        let result = program_named(&mut self.ebpf, "generate")?.test_run(options).unwrap();
        assert_eq!(result.return_value, 4, "redirected");
        let length = result.data_size_out as usize;
        made.truncate(length);
        Ok(made)
    }

    fn set(&mut self, order: &Order, nanos: u64) -> Result<(), XdpError> {
        let (tag, flags, opening) = (u64::from(order.tag), u64::from(order.flags), u64::from(order.opening));
        let (interval, burst, slack) = (order.profile.interval(nanos), order.profile.burst(), order.profile.slack(nanos));
        let control = [interval, burst, order.limit, tag, flags, opening, opening, slack];
        self.control.set(0, control, 0).map_err(|source| XdpError::Map { action: "set", source })
    }

    fn counted(&self) -> Result<Counted, XdpError> {
        let progress = self.progress.get(&0, 0).map_err(|source| XdpError::Map { action: "read", source })?;
        let [frames, bytes, .., began, last] = progress;
        Ok(Counted { frames, bytes, began, last })
    }

    /// The thread that is in the kernel all the time, until `done` and a signal.
    fn start(&mut self, batch: u32, done: &Arc<AtomicBool>) -> Result<JoinHandle<Result<(), PktgenError>>, PktgenError> {
        let program = program_named(&mut self.ebpf, "generate")?;
        let fd = program.fd().map_err(|error| XdpError::Load(error.to_string()))?.as_fd().as_raw_fd();
        let (place, cpu, template, done) = (self.place.clone(), self.cpu, vec![0u8; self.template], Arc::clone(done));
        Ok(std::thread::spawn(move || {
            place.enter()?;
            if let Some(cpu) = cpu {
                kernel::pin_thread(cpu).map_err(|source| PktgenError::System { action: "stay on that core", source })?;
            }
            while !done.load(Relaxed) {
                run(fd, &template, batch)?;
            }
            Ok(())
        }))
    }
}

/// One call; a signal that ends it is no error.
fn run(program: RawFd, template: &[u8], batch: u32) -> Result<(), PktgenError> {
    let mut run = ProgramRun {
        program: program as u32,
        data_size_in: template.len() as u32,
        data_in: template.as_ptr() as u64,
        repeat: ASKED,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        batch_size: batch,
        ..ProgramRun::default()
    };
    // Without the padding behind the last field, which the kernel wants to be 0 or absent.
    let size = std::mem::offset_of!(ProgramRun, batch_size) + size_of::<u32>();
    // SAFETY: the attribute and the template it points to live through the call; nothing is written back but to the attribute.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_RUN, &raw mut run, size) };
    match io::Error::last_os_error() {
        error if done != 0 && error.kind() != io::ErrorKind::Interrupted => Err(PktgenError::LiveFrames(error)),
        _ => Ok(()),
    }
}

/// Gets a thread out of the kernel until it has ended. A signal that comes between two calls would be lost: so again and again.
fn end(thread: JoinHandle<Result<(), PktgenError>>, done: &AtomicBool) -> Result<(), PktgenError> {
    done.store(true, Relaxed); // read by that thread, and nothing hangs on when
    while !thread.is_finished() {
        // SAFETY: the thread has not been joined, so its handle is valid, also when it has just ended.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
        std::thread::sleep(Duration::from_millis(1));
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Sender for LiveFrames {
    fn send(&mut self, order: &Order, watch: &Watch) -> Result<Sent, PktgenError> {
        self.set(order, 0)?;
        self.progress.set(0, [0; 7], 0).map_err(|source| XdpError::Map { action: "set", source })?;
        let done = Arc::new(AtomicBool::new(false));
        let thread = self.start(order.profile.burst() as u32, &done)?;
        let mut watching = || {
            loop {
                let counted = self.counted()?;
                let (frames, nanos) = (counted.frames, counted.until(now()));
                watch.tell(Progress { frames, nanos });
                if frames >= order.limit || nanos >= order.deadline || watch.is_over() || thread.is_finished() {
                    return Ok::<_, PktgenError>(nanos);
                }
                self.set(order, nanos)?;
                std::thread::sleep(LOOK.min(Duration::from_nanos(order.deadline.saturating_sub(nanos))));
            }
        };
        let watched = watching();
        end(thread, &done)?;
        // What was sent between the last look and the end.
        let counted = self.counted()?;
        let Counted { frames, bytes, last, .. } = counted;
        Ok(Sent { frames, bytes, nanos: order.spent(frames, counted.until(last), watched?) })
    }
}
