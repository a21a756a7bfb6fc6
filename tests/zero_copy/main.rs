//! Zero-copy, on drivers that have it: weir between real clients and servers, on the emulated network cards of a virtual machine.
//!
//! `sudo scripts/zero-copy-vm.sh` builds that machine and runs this program in it; anywhere else it only says so. One scenario after
//! the other, for all of them use the same cards; docs/testing.md says what they show and what they cannot. `--list GUEST` names those
//! of a guest, and `--tsc-khz` says how fast a guest's clock is, anywhere.

#[path = "../support/mod.rs"]
#[allow(unreachable_pub, dead_code, unused_imports)] // `pub` means: for the tests, and some of it for those of the other program
mod support;

mod carriers;
mod channels;
mod clock;
mod comparison;
mod ends;
mod generator;
mod guest;
mod homes;
mod modes;
mod own_traffic;
mod queues;
mod service;

use guest::Scenario;
use std::process::ExitCode;

/// What runs in each guest, in this order.
fn scenarios(guest: &str) -> Vec<Scenario> {
    match guest {
        "virtio" => {
            let own = vec![modes::without_zero_copy(), modes::polled(), service::two_arms(1), generator::of_the_kernel(1)];
            own.into_iter().chain(others(1)).collect()
        }
        "virtio-ends" => ends::scenarios(1),
        "igb" => vec![queues::scenario(), service::two_arms(4)],
        "igb-others" => others(4),
        "igb-ends" => ends::scenarios(4),
        "channels" => vec![channels::scenario()],
        "rss" => vec![homes::scenario()],
        "comparison" => vec![comparison::scenario()],
        _ => Vec::new(),
    }
}

/// What else goes on while weir stays, on cards with this many queues.
fn others(queues: u32) -> Vec<Scenario> {
    vec![service::one_arm(queues), own_traffic::sessions(queues), own_traffic::vlan(queues), modes::others(queues)]
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match (std::env::var("WEIR_GUEST"), words.as_slice()) {
        (Ok(guest), _) => guest::run(&guest, scenarios(&guest)),
        (Err(_), [list, guest]) if list == "--list" => {
            scenarios(guest).iter().for_each(|scenario| println!("{}", scenario.name));
            ExitCode::SUCCESS
        }
        (Err(_), [clock]) if clock == "--tsc-khz" => {
            println!("{}", clock::tsc_khz());
            ExitCode::SUCCESS
        }
        (Err(_), _) => {
            println!("zero_copy: its scenarios run in a virtual machine: sudo scripts/zero-copy-vm.sh");
            ExitCode::SUCCESS
        }
    }
}
