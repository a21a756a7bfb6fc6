//! `weir check` as a user runs it.

use assert_cmd::Command;
use std::path::{Path, PathBuf};

fn weir() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weir"))
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_example_is_fine() {
    let output = weir().arg("check").arg(repository("config/weir.toml")).assert().code(0).get_output().clone();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("is fine: 1 interface, 3 services, 3 pools, 8 backends\n"), "{said}");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_bad_config_is_exit_code_2_and_told_on_standard_error() {
    let output =
        weir().arg("check").arg(repository("tests/bad_config/everything_at_once.toml")).assert().code(2).get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty());
    assert!(said.contains("everything_at_once.toml:10:7") && said.contains("6 mistakes in"), "{said}");
}

#[test]
fn json_tells_the_same() {
    let output =
        weir().args(["check", "--json"]).arg(repository("tests/bad_config/vip_twice.toml")).assert().code(2).get_output().clone();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["ok"], false);
    let [problem] = &answer["problems"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!((problem["key"].as_str(), problem["places"].as_array().unwrap().len()), (Some("service.vip"), 2));
    assert_eq!((problem["places"][0]["line"].as_u64(), problem["places"][0]["column"].as_u64()), (Some(22), Some(7)));
    assert!(output.stderr.is_empty());

    let output = weir().args(["check", "--json"]).arg(repository("config/weir.toml")).assert().code(0).get_output().clone();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["ok"], answer["problems"].as_array().unwrap().len()), (&true.into(), 0));
}

#[test]
fn bad_usage_is_exit_code_2() {
    weir().assert().code(2);
    weir().arg("check").assert().code(2);
    weir().args(["chekc", "weir.toml"]).assert().code(2);
    weir().arg("--help").assert().code(0);
    weir().args(["check", "--help"]).assert().code(0);
}

#[test]
fn a_closed_pipe_is_success() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    let status = check.args(["check", "--json"]).arg(repository("config/weir.toml")).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("weir.toml");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for command in ["check", "plan"] {
        let output =
            weir().arg(command).arg(&fifo).timeout(std::time::Duration::from_secs(10)).assert().failure().get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("it is a FIFO; allowed: a regular file"), "{command}: {said}");
    }
}
