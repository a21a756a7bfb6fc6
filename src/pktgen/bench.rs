//! Both ends together: flows are opened, trials are made.

use super::arrived::Arrived;
use super::end::{Duty, End, Outgoing};
use super::kernel::KernelGenerator;
use super::live::LiveFrames;
use super::pace::Profile;
use super::stamp::{OPENING, PKTGEN, tag};
use super::standing::Standing;
use super::watch::{Progress, Watch};
use super::xsk::AfXdp;
use super::{Order, PktgenError, Place, Plan, Protocol, Sender, Sent, Way, now};
use crate::kernel::{allowed_cpus, check_privileges, servable_link};
use crate::packet::tcp::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What a bench is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where packets are sent from, and replies come back to.
    pub source: Place,
    /// Where they arrive.
    pub sink: Place,
    /// Who gets the frames.
    pub to: [u8; 6],
    /// How they are sent.
    pub way: Way,
    /// The sink sends everything back.
    pub echo: bool,
    /// The sender's core.
    pub cpu: Option<usize>,
}

/// Both ends, set up.
pub struct Bench {
    source: Option<End>,
    sink: End,
    sender: Box<dyn Sender>,
    standing: [Standing; 2],
    plan: Plan,
    way: Way,
    echo: bool,
    run: u32,
    trials: u8,
    stop: Arc<AtomicBool>,
}

/// What a trial was.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What was asked for.
    pub profile: Profile,
    /// What was sent.
    pub sent: Sent,
    /// What came to the sink.
    pub arrived: Arrived,
    /// What the sink sent back and came to the source.
    pub replies: Arrived,
    /// Parts of it, in the order of time.
    pub rows: Vec<Row>,
    /// It was ended by a signal.
    pub interrupted: bool,
}

impl Trial {
    /// Whether the load was offered: of what was due in the time that the sender took, it sent 98 % at least. `None` where it was to send as
    /// fast as it goes, and where it never began.
    pub fn kept_up(&self) -> Option<bool> {
        let Sent { frames, nanos, .. } = self.sent;
        let due = self.profile.due(nanos).filter(|_| nanos > 0)?;
        Some(frames as f64 >= due * 0.98)
    }
}

/// A part of a trial. What was under way at its borders is counted where it arrived.
#[derive(Debug, Clone)]
pub struct Row {
    /// Nanoseconds from the trial's beginning to this part's, by the sender's clock.
    pub begin: u64,
    /// Nanoseconds that it took.
    pub nanos: u64,
    /// Frames sent.
    pub sent: u64,
    /// What came to the sink.
    pub arrived: Arrived,
    /// What came back.
    pub replies: Arrived,
}

/// Packets a second that open flows: slower than any forwarder opens them.
const OPENING_RATE: u32 = 100_000;
/// RFC 2544, section 23: how long residual frames are waited for.
const RESIDUAL: Duration = Duration::from_secs(2);
/// Nothing came for so long behind what did: nothing will. On a busy machine whoever forwards may not have its core for half a second.
const QUIET: Duration = Duration::from_secs(1);
/// Between two looks at how far the sender is.
const LOOK: Duration = Duration::from_millis(2);
/// Between two looks at whether the interfaces are there.
const CHECK: Duration = Duration::from_millis(500);

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("plan", &self.plan).field("way", &self.way).finish_non_exhaustive()
    }
}

impl Bench {
    /// Attaches the programs at both ends and opens the sender.
    ///
    /// # Errors
    /// What is lacking: privileges, the kernel's parts, the interfaces.
    pub fn new(setup: &Setup, plan: Plan, stop: Arc<AtomicBool>) -> Result<Self, PktgenError> {
        check_privileges(0)?;
        let kernel = setup.way == Way::Kernel;
        if let Some(cpu) = setup.cpu.filter(|_| !kernel) {
            check_cpu(cpu)?;
        }
        let duty = Duty { echo: setup.echo, answer_syn: plan.protocol == Protocol::Tcp && !plan.flood, kernel };
        let (source, sink) = (&setup.source, &setup.sink);
        let index = source.inside(|| {
            let link = servable_link(&source.interface)?;
            plan.check_mtu(&source.interface, link.mtu)?;
            Ok((link.index, link.mac))
        })?;
        let out = Outgoing { index: index.0, to: setup.to, from: index.1 };
        let sink_end = End::attach(sink, &plan, duty)?;
        let source_end = match source == sink {
            true => None,
            false => Some(End::attach(source, &plan, Duty { kernel, ..Duty::default() })?),
        };
        let sender: Box<dyn Sender> = match setup.way {
            Way::LiveFrames => Box::new(LiveFrames::new(source, &plan, &out, setup.cpu)?),
            Way::AfXdp => {
                let mode = source_end.as_ref().unwrap_or(&sink_end).mode();
                Box::new(AfXdp::new(source, &plan, &out, mode, setup.cpu)?)
            }
            Way::Kernel => Box::new(KernelGenerator::new(source, &plan, &out, setup.cpu)?),
        };
        let standing = [Standing::open(source)?, Standing::open(sink)?];
        let run = now() as u32 & 0x3f_ffff;
        Ok(Self {
            source: source_end,
            sink: sink_end,
            sender,
            standing,
            plan,
            way: setup.way,
            echo: setup.echo,
            run,
            trials: 0,
            stop,
        })
    }

    /// The end that packets arrive at.
    pub fn sink(&self) -> &End {
        &self.sink
    }

    /// Whether a signal has come: nothing is sent any more.
    pub fn interrupted(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Opens every flow, TCP's by a SYN and an ACK; how many were seen at the sink to be open. Nothing is to be opened for a flood, the
    /// kernel's generator cannot be told to, and who is interrupted has opened nobody knows how many: `None`.
    pub fn open(&mut self) -> Result<Option<u32>, PktgenError> {
        if self.plan.flood || self.way == Way::Kernel {
            return Ok(None);
        }
        let passes: &[u8] = match self.plan.protocol {
            Protocol::Udp => &[0],
            Protocol::Tcp => &[flag::SYN, flag::ACK],
        };
        let flows = u64::from(self.plan.flows);
        let mut opened = flows;
        for flags in passes {
            let nanos = flows * 1_000_000_000 / u64::from(OPENING_RATE);
            let profile = Profile { from: OPENING_RATE, to: OPENING_RATE, nanos: nanos.max(1_000_000) };
            let tag = self.next_tag()?;
            let deadline = profile.deadline() + RESIDUAL.as_nanos() as u64;
            let order = Order { profile, limit: flows, deadline, tag: tag | OPENING, flags: *flags, opening: true };
            let (Sent { frames: sent, .. }, _) = self.carry_out(&order, 1)?;
            if self.interrupted() {
                return Ok(None);
            }
            self.settle(|bench| Ok(bench.sink.arrived(OPENING)?.frames), sent)?;
            opened = opened.min(self.sink.arrived(OPENING)?.frames);
        }
        Ok(Some(opened as u32))
    }

    /// Sends by the profile, seen in so many parts, and waits for the last frames.
    pub fn trial(&mut self, profile: Profile, parts: usize) -> Result<Trial, PktgenError> {
        let tag = self.next_tag()?;
        let flags = if self.plan.flood { flag::SYN } else { flag::ACK | flag::PSH };
        let order = Order { profile, limit: profile.packets(), deadline: profile.deadline(), tag, flags, opening: false };
        let (sent, mut looks) = self.carry_out(&order, parts)?;
        self.settle(|bench| Ok(bench.sink.arrived(0)?.frames), sent.frames)?;
        let arrived = self.sink.arrived(0)?;
        let expected = if self.echo { arrived.frames } else { 0 };
        self.settle(|bench| Ok(bench.replies()?.frames), expected)?;
        let replies = self.replies()?;
        let progress = Progress { frames: sent.frames, nanos: sent.nanos };
        looks.push(Look { progress, arrived: arrived.clone(), replies: replies.clone() });
        let interrupted = self.interrupted();
        Ok(Trial { profile, sent, arrived, replies, rows: rows_between(&looks), interrupted })
    }

    /// Has it sent, and looks at what came at the end of every part but the last.
    fn carry_out(&mut self, order: &Order, parts: usize) -> Result<(Sent, Vec<Look>), PktgenError> {
        let Self { source, sink, sender, standing, stop, .. } = self;
        let watch = Watch::new(Arc::clone(stop));
        let (sent, looks) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send(order, &watch));
            let look = |progress| look(sink, source.as_ref(), progress);
            let borders: Vec<u64> = (1..parts as u64).map(|part| order.profile.nanos / parts as u64 * part).collect();
            let looks = oversee(&watch, &borders, look, standing, || sending.is_finished());
            if looks.is_err() {
                watch.give_up();
            }
            (sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), looks)
        });
        // An interface that went is why a sender could not send.
        standing.iter_mut().try_for_each(Standing::check)?;
        Ok((sent?, looks?))
    }

    fn replies(&self) -> Result<Arrived, PktgenError> {
        self.source.as_ref().unwrap_or(&self.sink).arrived(1)
    }

    /// A new trial's tag, which both ends expect from now on.
    fn next_tag(&mut self) -> Result<u32, PktgenError> {
        self.trials = self.trials.wrapping_add(1);
        let tag = if self.way == Way::Kernel { PKTGEN } else { tag(self.run, self.trials) };
        for end in self.source.iter_mut().chain([&mut self.sink]) {
            end.expect(tag)?;
        }
        Ok(tag)
    }

    /// Waits until `expected` have come, or nothing comes any more.
    fn settle(&self, come: impl Fn(&Self) -> Result<u64, PktgenError>, expected: u64) -> Result<(), PktgenError> {
        let start = Instant::now();
        let (mut last, mut changed) = (come(self)?, start);
        while last < expected && start.elapsed() < RESIDUAL && (last == 0 || changed.elapsed() < QUIET) {
            std::thread::sleep(Duration::from_millis(2));
            let now = come(self)?;
            if now != last {
                (last, changed) = (now, Instant::now());
            }
        }
        Ok(())
    }
}

/// Whether a sender of this process can be on that core.
pub(super) fn check_cpu(cpu: usize) -> Result<(), PktgenError> {
    let allowed = allowed_cpus().map_err(|source| PktgenError::System { action: "list the CPUs", source })?;
    if allowed.contains(&cpu) {
        return Ok(());
    }
    let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
    Err(PktgenError::Plan(format!("--cpu {cpu}: this process cannot run there; allowed: {}", allowed.join(", "))))
}

/// What there was at one moment.
struct Look {
    progress: Progress,
    arrived: Arrived,
    replies: Arrived,
}

fn look(sink: &End, source: Option<&End>, progress: Progress) -> Result<Look, PktgenError> {
    Ok(Look { progress, arrived: sink.arrived(0)?, replies: source.unwrap_or(sink).arrived(1)? })
}

/// Until it is finished: looks, whenever the sender's own clock has passed a border, and checks that the interfaces are there.
fn oversee(
    watch: &Watch,
    borders: &[u64],
    look: impl Fn(Progress) -> Result<Look, PktgenError>,
    standing: &mut [Standing],
    finished: impl Fn() -> bool,
) -> Result<Vec<Look>, PktgenError> {
    let (mut looks, mut passed, mut checked) = (Vec::new(), 0, Instant::now());
    while !finished() {
        std::thread::sleep(LOOK);
        let progress = watch.progress();
        let now_passed = borders.partition_point(|border| *border <= progress.nanos);
        if now_passed > passed {
            looks.push(look(progress)?);
            passed = now_passed;
        }
        if checked.elapsed() >= CHECK {
            standing.iter_mut().try_for_each(Standing::check)?;
            checked = Instant::now();
        }
    }
    Ok(looks)
}

fn rows_between(looks: &[Look]) -> Vec<Row> {
    let nothing = Look { progress: Progress::default(), arrived: Arrived::default(), replies: Arrived::default() };
    let earlier = std::iter::once(&nothing).chain(looks);
    let row = |(before, after): (&Look, &Look)| Row {
        begin: before.progress.nanos,
        nanos: after.progress.nanos.saturating_sub(before.progress.nanos),
        sent: after.progress.frames.saturating_sub(before.progress.frames),
        arrived: after.arrived.since(&before.arrived),
        replies: after.replies.since(&before.replies),
    };
    earlier.zip(looks).map(row).collect()
}
