//! The same segments through weir's datapath and through the kernel's nf_conntrack: whether each goes on, and the state, the status bits
//! and the timeout of the connection after it, must be the same.
//!
//! Where weir differs on purpose, `differences.rs` says how, docs/conntrack.md why. Needs root, iproute2 and nftables; without them each
//! test prints `SKIP` and says why.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod differences;
mod kernel;
mod machine;
#[path = "../support/namespace.rs"]
#[allow(dead_code, unreachable_pub)] // shared with the network tests, which use more of it
mod namespace;
#[path = "../packet_way/packet.rs"]
#[allow(dead_code)] // shared with the packet-way tests, which use more of it
mod packet;
#[path = "../support/program.rs"]
#[allow(dead_code, unreachable_pub)] // shared with the network tests, which use more of it
mod program;
#[path = "../support/requirement.rs"]
#[allow(unreachable_pub)] // shared with the network tests
mod requirement;
mod script;
mod segment;
#[path = "../packet_way/transports.rs"]
#[allow(dead_code)] // shared with the packet-way tests, which use more of it
mod transports;
mod weir;
#[path = "../packet_way/world.rs"]
#[allow(dead_code)] // shared with the packet-way tests, which use more of it
mod world;

use ::weir::conntrack::Timeouts;
use ::weir::conntrack::l4proto::Settings;
use kernel::Kernel;
use machine::{Machine, Step};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use script::{Walk, moves};
use segment::Segment;
use std::cell::RefCell;
use std::collections::BTreeMap;
use weir::Weir;

/// Of the segments of the tests; everything else over TCP is an answer of the namespaces themselves.
const TTL: u8 = 77;

/// Both machines, side by side.
pub(crate) struct Pair {
    pub(crate) weir: Weir,
    pub(crate) kernel: Kernel,
    port: u16,
}

impl Pair {
    /// Set up alike; `None`: this machine cannot, and says why.
    pub(crate) fn new(settings: Settings) -> Option<Self> {
        if let Some(reason) = requirement::missing() {
            println!("SKIP differential: {reason}");
            return None;
        }
        let timeouts = Timeouts::default();
        let mut sysctls = vec![
            format!("nf_conntrack_tcp_be_liberal={}", u8::from(settings.tcp_be_liberal)),
            format!("nf_conntrack_tcp_loose={}", u8::from(settings.tcp_loose)),
            // Retransmissions are not counted by weir: see docs/conntrack.md.
            "nf_conntrack_tcp_max_retrans=255".to_owned(),
            format!("nf_conntrack_tcp_timeout_max_retrans={}", timeouts.tcp_established / 1000),
        ];
        for (name, milliseconds) in [
            ("syn_sent", timeouts.tcp_syn_sent),
            ("syn_recv", timeouts.tcp_syn_recv),
            ("established", timeouts.tcp_established),
            ("fin_wait", timeouts.tcp_fin_wait),
            ("close_wait", timeouts.tcp_close_wait),
            ("last_ack", timeouts.tcp_last_ack),
            ("time_wait", timeouts.tcp_time_wait),
            ("close", timeouts.tcp_close),
            ("unacknowledged", timeouts.tcp_unacknowledged),
        ] {
            sysctls.push(format!("nf_conntrack_tcp_timeout_{name}={}", milliseconds / 1000));
        }
        let kernel = Kernel::new(&sysctls.iter().map(String::as_str).collect::<Vec<_>>());
        Some(Self { weir: Weir::new(settings), kernel, port: 1023 })
    }

    /// A new connection.
    pub(crate) fn begin(&mut self) {
        self.port += 1;
        self.weir.begin(self.port);
        self.kernel.begin(self.port);
    }

    pub(crate) fn step(&mut self, segment: &Segment) -> Both {
        Both { weir: self.weir.step(segment), kernel: self.kernel.step(segment) }
    }
}

/// What both did.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) weir: Step,
    pub(crate) kernel: Step,
}

impl Both {
    /// `before`: what the kernel's timeout was before the segment.
    pub(crate) fn agree(&self, before: Option<u32>) -> bool {
        let (weir, kernel) = (&self.weir, &self.kernel);
        if weir.forwarded != kernel.forwarded {
            return false;
        }
        match (&weir.shown, &kernel.shown) {
            (None, None) => true,
            (Some(weir), Some(kernel)) => {
                // The kernel's clock runs meanwhile, and what is left is cut to seconds. What it has dropped or ignored does not begin
                // the time anew.
                let ran_on = before.is_some_and(|before| kernel.timeout <= before && kernel.timeout + 2 >= before);
                let same_timeout = ran_on || kernel.timeout <= weir.timeout && weir.timeout <= kernel.timeout + 2;
                (&weir.state, weir.seen_reply, weir.assured) == (&kernel.state, kernel.seen_reply, kernel.assured) && same_timeout
            }
            _ => false,
        }
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Tally {
    segments: u32,
    differences: BTreeMap<&'static str, u32>,
}

fn compare(settings: Settings, cases: u32) {
    let Some(pair) = Pair::new(settings) else { return };
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 400, ..Default::default() };
    let (pair, tally) = (RefCell::new(pair), RefCell::new(Tally::default()));
    // The same walks each time; others with WEIR_RANDOM=1.
    let mut runner = match std::env::var_os("WEIR_RANDOM") {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let result = runner.run(&moves(), |moves| {
        let (mut pair, mut tally) = (pair.borrow_mut(), tally.borrow_mut());
        pair.begin();
        let (mut walk, mut told) = (Walk::default(), Vec::new());
        for step in &moves {
            let segment = walk.next(step);
            let before = walk.known();
            let both = pair.step(&segment);
            walk.note(&segment, &both);
            tally.segments += 1;
            told.push(format!("{segment:?}\n  weir   {:?}\n  kernel {:?}", both.weir, both.kernel));
            if !both.agree(before.timeout) {
                match differences::name(&before, &segment, &both) {
                    Some(name) => {
                        *tally.differences.entry(name).or_insert(0u32) += 1;
                        // From here on they know different things.
                        return Ok(());
                    }
                    None => return Err(TestCaseError::fail(format!("they differ:\n{}", told.join("\n")))),
                }
            }
        }
        Ok(())
    });
    println!("{:?}", tally.borrow());
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn strict() {
    compare(Settings::default(), 400);
}

#[test]
fn liberal() {
    compare(Settings { tcp_be_liberal: true, ..Settings::default() }, 200);
}

#[test]
fn loose() {
    compare(Settings { tcp_loose: true, ..Settings::default() }, 200);
}
