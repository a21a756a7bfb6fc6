//! A walk: messages that follow from each other, through both machines, compared after each.

use super::kernel::Kernel;
use super::machine::{Machine, Shown, Step};
use super::message::Message;
use super::requirement;
use super::subject::Subject;
use super::weir::Weir;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::time::{Duration, Instant};
use weir::conntrack::Timeouts;
use weir::conntrack::l4proto::Settings;

/// What both did.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) weir: Step,
    pub(crate) kernel: Step,
}

/// A message and all that is known when it has been through.
pub(crate) struct Seen<'a> {
    pub(crate) message: &'a Message,
    pub(crate) both: &'a Both,
    /// The connection before it, in which both agreed.
    pub(crate) before: Option<&'a Shown>,
    /// How long the kernel has had the connection, by its clock.
    pub(crate) age: Duration,
    pub(crate) timeouts: &'a Timeouts,
}

impl Seen<'_> {
    /// Nothing but the time that is left is another one.
    pub(crate) fn only_timeouts_differ(&self) -> bool {
        let (Some(weir), Some(kernel)) = (&self.both.weir.shown, &self.both.kernel.shown) else { return false };
        let but_for_it = Shown { left: weir.left, ..kernel.clone() };
        self.both.weir.forwarded == self.both.kernel.forwarded && *weir == but_for_it
    }

    /// State after it, in weir and in the kernel.
    pub(crate) fn states(&self) -> (&str, &str) {
        let name = |step: &Step| step.shown.as_ref().map_or("", |shown| shown.state);
        (name(&self.both.weir), name(&self.both.kernel))
    }

    /// Seconds that are left, in weir and in the kernel; 0 without connection.
    pub(crate) fn left(&self) -> (u32, u32) {
        let left = |step: &Step| step.shown.as_ref().map_or(0, |shown| shown.left);
        (left(&self.both.weir), left(&self.both.kernel))
    }

    pub(crate) fn was(&self, states: &[&str]) -> bool {
        self.before.is_some_and(|before| states.contains(&before.state))
    }
}

/// How a walk goes on after a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The kernel is given weir's timeout.
    SetTimeout,
    /// The kernel gets a connection with all that weir has forwarded and nothing else, and must agree with weir about it.
    Forwarded,
    /// The same without this message.
    Without,
    /// The kernel gets a connection with this message alone, and must agree with weir about it.
    Alone,
    /// Nothing makes them agree again: another connection.
    Leave,
}

/// Why they differ, if that is known, and what to do then.
pub(crate) type Difference = (&'static str, Then);

/// What makes messages out of moves.
pub(crate) trait Walk: Default {
    type Move: Debug + Clone;

    /// The moves that any connection begins with.
    fn opening() -> Vec<Self::Move>;

    /// Seconds of silence before the move.
    fn silence(step: &Self::Move) -> u32;

    fn next(&self, step: &Self::Move) -> Message;

    /// The difference that explains what was seen.
    fn explain(&self, seen: &Seen<'_>) -> Option<Difference>;

    /// Whether they know different things from here on although nothing shows it yet.
    fn parts(&self, _: &Seen<'_>) -> bool {
        false
    }

    fn note(&mut self, message: &Message, both: &Both);

    /// The connection has timed out.
    fn expire(&mut self);
}

/// Both machines, side by side.
struct Pair {
    weir: Weir,
    kernel: Kernel,
    port: u16,
    /// When the kernel's connection began, and when its timeout was last known to be weir's.
    began: Instant,
    synced: Instant,
    timeouts: Timeouts,
}

impl Pair {
    /// Set up alike; `None`: this machine cannot, and says why.
    fn new(subject: Subject, settings: Settings) -> Option<Self> {
        if let Some(reason) = requirement::missing() {
            println!("SKIP differential: {reason}");
            return None;
        }
        let weir = Weir::new(subject, settings);
        let timeouts = weir.timeouts();
        let kernel = Kernel::new(subject, &super::sysctls::alike(&settings, &timeouts));
        Some(Self { weir, kernel, port: 1023, began: Instant::now(), synced: Instant::now(), timeouts })
    }

    fn next_port(&mut self) -> u16 {
        self.port += 1;
        (self.began, self.synced) = (Instant::now(), Instant::now());
        self.port
    }

    /// A new connection.
    fn begin(&mut self) {
        let port = self.next_port();
        self.weir.begin(port);
        self.kernel.begin(port);
    }

    fn step(&mut self, message: &Message) -> Both {
        Both { weir: self.weir.step(message), kernel: self.kernel.step(message) }
    }

    /// Seconds of silence. `false`: the connection has not survived them.
    fn pass(&mut self, seconds: u32) -> bool {
        // Not on the last second, where they may differ by the moment.
        let left = self.weir.shown().map(|shown| shown.left);
        let on_the_edge = left.is_some_and(|left| left.abs_diff(seconds) < 2);
        self.weir.pass(if on_the_edge { seconds + 4 } else { seconds });
        self.sync()
    }

    /// The kernel's connection has as long as weir's.
    fn sync(&mut self) -> bool {
        self.synced = Instant::now();
        match self.weir.shown() {
            Some(shown) => self.kernel.set_left(shown.left),
            None => self.kernel.delete(),
        }
        self.weir.shown().is_some()
    }

    /// The kernel's connection is made anew of these messages. What it is then.
    fn remake(&mut self, messages: &[Message]) -> Step {
        let port = self.next_port();
        self.kernel.begin(port);
        let steps: Vec<_> = messages.iter().map(|message| self.kernel.step(message)).collect();
        steps.into_iter().next_back().unwrap_or(Step { forwarded: true, shown: None })
    }

    /// Makes the kernel's connection agree with weir's again, where that can be; `forwarded`: what weir has forwarded. An error: it does not.
    fn settle(&mut self, then: Then, forwarded: &mut Vec<Message>) -> Result<(), String> {
        match then {
            Then::Leave => return Ok(()),
            Then::SetTimeout | Then::Forwarded => {}
            Then::Without => drop(forwarded.pop()),
            Then::Alone => drop(forwarded.drain(..forwarded.len() - 1)),
        }
        if then != Then::SetTimeout {
            let (shown, remade) = (self.weir.shown(), self.remake(forwarded));
            let left = shown.as_ref().map_or(0, |shown| shown.left);
            // All of these messages have gone on through weir, the last one, too.
            if remade.shown.clone().map(|kernel| Shown { left, ..kernel }) != shown || !remade.forwarded {
                return Err(format!("they differ without it, too: weir {shown:?}, kernel {remade:?}"));
            }
        }
        self.sync();
        Ok(())
    }

    fn agree(&self, both: &Both) -> bool {
        both.weir.forwarded == both.kernel.forwarded && self.is_same(both.weir.shown.as_ref(), both.kernel.shown.as_ref())
    }

    fn is_same(&self, weir: Option<&Shown>, kernel: Option<&Shown>) -> bool {
        match (weir, kernel) {
            (None, None) => true,
            (Some(weir), Some(kernel)) => {
                // The kernel's clock runs meanwhile, and what is left is cut to seconds.
                let late = self.synced.elapsed().as_secs() as u32 + 1;
                Shown { left: weir.left, ..kernel.clone() } == *weir
                    && kernel.left <= weir.left
                    && weir.left <= kernel.left + late
            }
            _ => false,
        }
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Tally {
    messages: u32,
    connections: u32,
    differences: BTreeMap<&'static str, u32>,
}

/// Compares walks of these moves.
pub(crate) fn compare<W: Walk>(subject: Subject, settings: Settings, cases: u32, moves: impl Strategy<Value = Vec<W::Move>>) {
    let Some(pair) = Pair::new(subject, settings) else { return };
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 400, ..Default::default() };
    let (pair, tally) = (RefCell::new(pair), RefCell::new(Tally::default()));
    // The same walks each time; others with WEIR_RANDOM=1.
    let mut runner = match std::env::var_os("WEIR_RANDOM") {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let result = runner.run(&moves, |moves| {
        let (mut pair, mut tally) = (pair.borrow_mut(), tally.borrow_mut());
        walk::<W>(&mut pair, &mut tally, moves.into()).map_err(TestCaseError::fail)
    });
    println!("{subject:?} {:?}", tally.borrow());
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn walk<W: Walk>(pair: &mut Pair, tally: &mut Tally, mut moves: VecDeque<W::Move>) -> Result<(), String> {
    // What weir has forwarded of the present connection.
    let (mut walk, mut told, mut forwarded) = (W::default(), Vec::new(), Vec::new());
    pair.begin();
    tally.connections += 1;
    while let Some(step) = moves.pop_front() {
        let silence = W::silence(&step);
        if silence > 0 {
            told.push(format!("{silence} s of silence"));
            if !pair.pass(silence) {
                told.push("no connection is left".to_owned());
                forwarded.clear();
                walk.expire();
            }
        }
        let message = walk.next(&step);
        let before = pair.weir.shown();
        let both = pair.step(&message);
        tally.messages += 1;
        told.push(format!("{message:?}\n  weir   {:?}\n  kernel {:?}", both.weir, both.kernel));
        if both.weir.forwarded {
            forwarded.push(message.clone());
        }
        let (age, timeouts) = (pair.began.elapsed(), pair.timeouts);
        let seen = Seen { message: &message, both: &both, before: before.as_ref(), age, timeouts: &timeouts };
        let leaves = if pair.agree(&both) {
            walk.parts(&seen)
        } else {
            let (name, then) = walk.explain(&seen).ok_or_else(|| format!("they differ:\n{}", told.join("\n")))?;
            *tally.differences.entry(name).or_insert(0u32) += 1;
            told.push(format!("  {name}: {then:?}"));
            pair.settle(then, &mut forwarded).map_err(|why| format!("{name}, but {why}\n{}", told.join("\n")))?;
            if then == Then::Alone {
                walk.expire();
            }
            then == Then::Leave
        };
        walk.note(&message, &both);
        if leaves {
            (walk, told, forwarded) = (W::default(), Vec::new(), Vec::new());
            pair.begin();
            tally.connections += 1;
            W::opening().into_iter().rev().for_each(|step| moves.push_front(step));
        } else if both.weir.shown.is_none() {
            forwarded.clear();
            walk.expire();
        }
    }
    Ok(())
}
