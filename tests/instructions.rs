//! Instructions that the datapath takes for a packet of an established connection, counted by callgrind: a number that neither clock nor
//! neighbours disturb, so that a change which makes every packet dearer fails here and not in somebody's measurement.
//!
//! `weir bench` runs twice in the build that cargo makes for tests, with more packets the second time; the difference is what those cost.
//! Without valgrind the test prints `SKIP`.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::path::{Path, PathBuf};
use std::process::Command;

/// The only function that is counted, with all that it calls.
const COUNTED: &str = "*bench::subject::process_burst*";
/// Packets of the two runs.
const PACKETS: [u64; 2] = [10 * 64, 110 * 64];

/// Most instructions a packet, of both directions mixed: what was counted with Rust 1.95 and AVX2, and at most 8 % more.
const BOUNDS: [(&str, &str, u64); 4] = [("ipv4", "tcp", 951), ("ipv4", "udp", 896), ("ipv6", "tcp", 1417), ("ipv6", "udp", 1361)];

#[test]
fn a_packet_takes_no_more_instructions_than_it_did() {
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        println!("SKIP a_packet_takes_no_more_instructions_than_it_did: valgrind: {error} (apt-get install valgrind)");
        return;
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let counted = BOUNDS.map(|(family, protocol, bound)| {
        let [few, many] = PACKETS.map(|packets| instructions(directory.path(), family, protocol, packets));
        let each = (many - few) / (PACKETS[1] - PACKETS[0]);
        println!("{family} {protocol}: {each} instructions a packet, at most {bound}");
        (family, protocol, each, bound)
    });
    // So few would mean that something else was counted.
    assert!(counted.iter().all(|(.., each, _)| *each > 100), "{counted:?}");
    assert!(counted.iter().all(|(.., each, bound)| each <= bound), "more than the bound: {counted:?}");
}

/// Of the datapath in one run.
fn instructions(directory: &Path, family: &str, protocol: &str, packets: u64) -> u64 {
    let profile: PathBuf = directory.join(format!("{family}-{protocol}-{packets}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", &format!("--toggle-collect={COUNTED}")])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env!("CARGO_BIN_EXE_weir"))
        .args(["bench", "--flows", "1000", "--rounds", "1", "--replies", "50", "--packets", &packets.to_string()])
        .args(["--family", family, "--protocol", protocol])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let profile = std::fs::read_to_string(profile).unwrap();
    let total = profile.lines().find_map(|line| line.strip_prefix("summary: ")).unwrap_or_else(|| panic!("{profile}"));
    total.trim().parse().unwrap()
}
