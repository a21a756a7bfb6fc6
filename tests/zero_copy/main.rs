//! Zero-copy, on drivers that have it: weir between real clients and servers, on the emulated network cards of a virtual machine.
//!
//! `sudo scripts/zero-copy-vm.sh` builds that machine and runs this program in it; anywhere else it only says so. One scenario after
//! the other, for all of them use the same cards; docs/testing.md says what they show and what they cannot.

#[path = "../support/mod.rs"]
#[allow(unreachable_pub, dead_code, unused_imports)] // `pub` means: for the tests, and some of it for those of the other program
mod support;

mod channels;
mod comparison;
mod ends;
mod guest;
mod modes;
mod own_traffic;
mod queues;
mod service;

use guest::Scenario;
use std::process::ExitCode;

/// What runs in each guest, in this order.
fn scenarios(guest: &str) -> Vec<Scenario> {
    let queues = if guest == "igb" { 4 } else { 1 };
    let mut scenarios = Vec::new();
    match guest {
        "virtio" => scenarios.push(modes::without_zero_copy()),
        "igb" => scenarios.push(queues::scenario()),
        "channels" => return vec![channels::scenario()],
        "comparison" => return vec![comparison::scenario()],
        _ => return scenarios,
    }
    scenarios.extend(service::scenarios(queues));
    scenarios.extend([own_traffic::sessions(queues), own_traffic::vlan(queues), modes::others(queues)]);
    scenarios.extend(ends::scenarios(queues));
    scenarios
}

fn main() -> ExitCode {
    match std::env::var("WEIR_GUEST") {
        Ok(guest) => guest::run(&guest, scenarios(&guest)),
        Err(_) => {
            println!("zero_copy: its scenarios run in a virtual machine: sudo scripts/zero-copy-vm.sh");
            ExitCode::SUCCESS
        }
    }
}
