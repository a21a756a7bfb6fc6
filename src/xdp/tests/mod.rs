//! The program under BPF_PROG_TEST_RUN, and on interfaces of private namespaces. Root is needed for all of it.

mod attach;
mod packets;
mod verdicts;

use super::maps::Maps;
use super::steering::{load, program};
use super::targets::{Entries, Targets};
use super::{SteerCounters, XdpError};
use crate::service::Protocol;
use aya::{Ebpf, TestRun as _, TestRunOptions};
use std::net::IpAddr;

/// What the program decided about a frame. Without a socket in the map, even what is weir's passes: the counters tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Ours,
    Kernels,
}

struct Loaded {
    ebpf: Ebpf,
    maps: Maps,
}

const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

impl Loaded {
    fn new() -> Option<Self> {
        let mut ebpf = match load() {
            Err(XdpError::NoPrivilege { .. }) => {
                println!("SKIP: not root, so no XDP program can be loaded");
                return None;
            }
            loaded => loaded.unwrap(),
        };
        let maps = Maps::new(&mut ebpf).unwrap();
        Some(Self { ebpf, maps })
    }

    fn with(targets: &Targets) -> Option<Self> {
        let mut loaded = Self::new()?;
        loaded.maps.apply(Entries::new(targets).unwrap()).unwrap();
        Some(loaded)
    }

    fn run(&mut self, frame: &[u8]) -> u32 {
        run(&mut self.ebpf, frame)
    }

    fn decide(&mut self, frame: &[u8]) -> Decision {
        let before = self.maps.counters().unwrap();
        assert_eq!(self.run(frame), XDP_PASS, "no socket is set");
        let after = self.maps.counters().unwrap();
        if after == (SteerCounters { unserved: before.unserved + 1, ..before }) {
            Decision::Ours
        } else {
            assert_eq!(after, SteerCounters { passed: before.passed + 1, ..before });
            Decision::Kernels
        }
    }
}

fn run(ebpf: &mut Ebpf, frame: &[u8]) -> u32 {
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
    program(ebpf).unwrap().test_run(options).unwrap().return_value
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service(vip: &str, port: impl Into<Option<u16>>, protocol: Protocol) -> (IpAddr, Option<u16>, Protocol) {
    (address(vip), port.into(), protocol)
}
