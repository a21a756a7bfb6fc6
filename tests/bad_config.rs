//! Every mistake that a config can have, and what is said about it.
//!
//! One file a mistake under `tests/bad_config/`, beside it the message as a human sees it. To write the messages anew after a change of
//! wording, and then to read the difference: `WEIR_BLESS=1 cargo test --test bad_config`.

use std::fs;
use std::path::{Path, PathBuf};
use weir::config::Config;

fn bad_configs() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_config");
    let files = fs::read_dir(directory).expect("tests/bad_config").map(|entry| entry.expect("an entry").path());
    let mut configs: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    configs.sort();
    configs
}

/// The message for a file, with the file's name alone in place of its path.
fn message(config: &Path) -> String {
    let directory = format!("{}/", config.parent().expect("a directory").display());
    match Config::load(config) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(report) => format!("{report}\n").replace(&directory, ""),
    }
}

#[test]
fn every_mistake_is_told_as_expected() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let mut wrong = Vec::new();
    for config in bad_configs() {
        let (said, expected) = (message(&config), config.with_extension("stderr"));
        if bless {
            fs::write(&expected, &said).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", expected.display()));
        }
    }
    assert!(wrong.is_empty(), "said otherwise than the files say:\n{}", wrong.join("\n"));
}

#[test]
fn every_expected_message_has_its_config() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_config");
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("toml").exists(), "{} stands alone", path.display());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    for path in [missing.as_path(), directory.path()] {
        let report = Config::load(path).unwrap_err();
        assert!(report.to_string().contains(&path.display().to_string()), "{report}");
        assert_eq!(report.problems().len(), 1);
    }
}
