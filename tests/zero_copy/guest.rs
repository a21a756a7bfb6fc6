//! Runs the scenarios of a guest and says what became of them, in the words of libtest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// One test.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn FnOnce()>,
}

impl Scenario {
    pub(crate) fn new(name: &'static str, run: impl FnOnce() + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// Runs all of them, whatever becomes of those before. Words after the guest's name on the command line choose scenarios by name.
pub(crate) fn run(guest: &str, scenarios: Vec<Scenario>) -> ExitCode {
    let start = Instant::now();
    let chosen: Vec<String> = std::env::args().skip(2).collect();
    let is_chosen = |scenario: &Scenario| chosen.is_empty() || chosen.iter().any(|word| scenario.name.contains(word.as_str()));
    let (mut passed, mut failed) = (0, Vec::new());
    for scenario in scenarios.into_iter().filter(is_chosen) {
        let begun = Instant::now();
        println!("test {guest}::{} ...", scenario.name);
        // A scenario shares nothing with the others but the cards, which it leaves when it unwinds.
        let outcome = catch_unwind(AssertUnwindSafe(scenario.run));
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {guest}::{} ... {verdict} ({:.1} s)", scenario.name, begun.elapsed().as_secs_f32());
        match outcome {
            Ok(()) => passed += 1,
            Err(_) => failed.push(scenario.name),
        }
    }
    let verdict = if failed.is_empty() && passed > 0 { "ok" } else { "FAILED" };
    failed.iter().for_each(|name| println!("    {guest}::{name}"));
    let seconds = start.elapsed().as_secs_f32();
    println!("test result: {verdict}. {passed} passed; {} failed; 0 ignored; finished in {seconds:.1}s", failed.len());
    if verdict == "ok" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does something and tells how long it took and how busy the guest was: of no meaning but where a run is slow.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (begun, before) = (Instant::now(), ticks());
    let result = work();
    let [busy, all] = [0, 1].map(|column| ticks()[column] - before[column]);
    println!("    {what}: {:.1} s, CPUs {} % busy", begun.elapsed().as_secs_f32(), 100 * busy / all.max(1));
    result
}

/// Ticks of all CPUs since the boot: those that were not idle, and all.
fn ticks() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line = text.lines().next().expect("the sum over all CPUs");
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(|number| number.parse().expect("ticks")).collect();
    let all: u64 = ticks.iter().sum();
    [all - ticks[3] - ticks[4], all]
}
