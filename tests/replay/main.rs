//! Golden captures: `weir replay` over a capture must send what it sent before and count what it counted before.
//!
//! Each case is a folder below `tests/replay/golden`: `weir.toml`, `in.pcap`, `out.pcap` and `expected.json`. The captures that go in are made
//! by [`cases`]; `WEIR_REGENERATE=1 cargo test --test replay` writes all of them anew, and `git diff` shows what became different.

mod cases;
mod protocols;

use assert_cmd::Command;
use cases::{CASES, Case};
use std::path::{Path, PathBuf};

#[test]
fn captures_come_out_as_before() {
    for case in CASES {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/golden").join(case.name);
        if std::env::var_os("WEIR_REGENERATE").is_some() {
            regenerate(case, &directory);
        }
        assert_eq!(read(&directory.join("weir.toml")), case.config.as_bytes(), "{}: the config on disk is another", case.name);
        let made = cases::write_capture(&(case.packets)());
        assert_eq!(read(&directory.join("in.pcap")), made, "{}: the capture on disk is another", case.name);
        check(case, &directory);
    }
}

#[test]
fn an_output_that_is_an_input_is_refused() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/golden").join(CASES[0].name);
    let scratch = tempfile::tempdir().expect("a directory");
    let (config, capture) = (scratch.path().join("weir.toml"), scratch.path().join("in.pcap"));
    std::fs::copy(directory.join("weir.toml"), &config).expect("the config");
    std::fs::copy(directory.join("in.pcap"), &capture).expect("the capture");
    let other_name = scratch.path().join("other.pcap");
    std::fs::hard_link(&capture, &other_name).expect("a second name");
    for (output, what) in [(&capture, "input"), (&other_name, "input"), (&config, "config")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["replay", "--config"]).arg(&config).arg(&capture).arg("-o").arg(output);
        let done = command.assert().code(2);
        let said = String::from_utf8(done.get_output().stderr.clone()).expect("text");
        assert!(said.contains(&format!("is the same file as the {what}")), "{said}");
        assert_eq!(read(&capture), read(&directory.join("in.pcap")), "{what}");
        assert_eq!(read(&config), read(&directory.join("weir.toml")), "{what}");
    }
}

/// `tcpdump -s`: the header names a length that packets were longer than.
#[test]
fn a_capture_with_a_snap_length_is_read() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/golden").join(CASES[0].name);
    let mut capture = read(&directory.join("in.pcap"));
    capture[16..20].copy_from_slice(&40u32.to_le_bytes());
    std::fs::write(scratch.path().join("in.pcap"), capture).expect("the capture");
    std::fs::copy(directory.join("weir.toml"), scratch.path().join("weir.toml")).expect("the config");
    let report = replay(scratch.path(), &scratch.path().join("out.pcap"));
    assert_eq!(report, String::from_utf8(read(&directory.join("expected.json"))).expect("text"));
}

fn regenerate(case: &Case, directory: &Path) {
    std::fs::create_dir_all(directory).expect("the case's directory");
    std::fs::write(directory.join("weir.toml"), case.config).expect("the config");
    std::fs::write(directory.join("in.pcap"), cases::write_capture(&(case.packets)())).expect("the capture");
    let report = replay(directory, &directory.join("out.pcap"));
    std::fs::write(directory.join("expected.json"), report).expect("the counts");
}

fn check(case: &Case, directory: &Path) {
    let scratch = tempfile::tempdir().expect("a directory");
    let sent = scratch.path().join("out.pcap");
    let report = replay(directory, &sent);
    let expected = String::from_utf8(read(&directory.join("expected.json"))).expect("text");
    assert_eq!(report, expected, "{}: counts", case.name);
    assert_eq!(dump(&sent), dump(&directory.join("out.pcap")), "{}: packets sent", case.name);
}

/// Runs the command; what it counted.
fn replay(directory: &Path, output: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["replay", "--json", "--config"]).arg(directory.join("weir.toml"));
    command.arg(directory.join("in.pcap")).arg("-o").arg(output);
    let done = command.assert().success();
    String::from_utf8(done.get_output().stdout.clone()).expect("text")
}

/// Packets as text, so that a difference can be read.
fn dump(capture: &Path) -> String {
    let file = std::fs::File::open(capture).unwrap_or_else(|error| panic!("{}: {error}", capture.display()));
    let mut reader = pcap_file::pcap::PcapReader::new(file).expect("a capture");
    let mut text = String::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.expect("a packet");
        text += &format!("{:?} ", packet.timestamp);
        packet.data.iter().for_each(|byte| text += &format!("{byte:02x}"));
        text.push('\n');
    }
    text
}

fn read(path: &PathBuf) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}; WEIR_REGENERATE=1 makes it", path.display()))
}
