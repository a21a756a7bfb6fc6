//! Rules of the code base that the compiler does not hold: who may import whom, where unsafe code may stand, how large a file may
//! get and what it may be called, and that nothing tells on which machine it was written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rooms of `src/`, from the bottom up. A room may import from those above it in this list, never from its own line or below.
const LEVELS: &[&[&str]] = &[
    &["packet"],                     // L0: bytes
    &["schedule"],                   // L1: state
    &["conntrack"],                  //
    &["service"],                    //
    &["nat"],                        // L2: translation
    &["datapath"],                   // L3: the whole way of a packet, and where packets come from
    &["kernel"],                     //
    &["io", "xdp"],                  //
    &["worker", "health", "pktgen"], // L4: what runs
    &["config"],                     // L5: what steers
    &["metrics"],                    //
    &["admin"],                      //
    &["control"],                    //
    &["cli"],                        // L6: the face
];

/// Files that may hold unsafe code, and why each must.
const UNSAFE: &[(&str, &str)] = &[
    ("src/conntrack/account.rs", "a promise that it is all atomics, so that zeroed memory is an empty one"),
    ("src/conntrack/entry.rs", "the same promise for an entry"),
    ("src/conntrack/extension.rs", "the same promise for a record, and for the owners of sixteen"),
    ("src/conntrack/floor.rs", "the same promise for a cache line of the benchmark"),
    ("src/conntrack/hash.rs", "calls functions compiled for wider vectors after asking the CPU"),
    ("src/conntrack/index.rs", "the same promise for a bucket of the index"),
    ("src/conntrack/prefetch.rs", "the prefetch instruction"),
    ("src/conntrack/region.rs", "mmap, and views of the mapping as slices of atomics"),
    ("src/conntrack/region_modelled.rs", "the trait of the same promise, where loom stands in for memory"),
    ("src/io/xsk/options.rs", "socket options and system calls that xsk-rs leaves out, on raw descriptors"),
    ("src/io/xsk/socket.rs", "ring calls of xsk-rs: the caller answers for who holds which frame"),
    ("src/io/xsk/umem.rs", "frames are slices of the UMEM, which xsk-rs can only hand out unsafely"),
    ("src/kernel/affinity.rs", "CPU sets are structures of C"),
    ("src/kernel/announce.rs", "the address of a raw packet socket has no safe constructor"),
    ("src/kernel/channels.rs", "the promise that its structures are what the ethtool ioctl copies"),
    ("src/kernel/ethtool.rs", "an ioctl that takes a pointer to a structure of its own for each command"),
    ("src/kernel/namespace.rs", "unshare and setns, for its own tests"),
    ("src/kernel/privileges.rs", "getrlimit"),
    ("src/kernel/rss.rs", "the promise that its structures are what the ethtool ioctl copies"),
    ("src/pktgen/live.rs", "bpf(2) has no wrapper for running a program on live frames, nor has pthread_kill"),
    ("tests/zero_copy/comparison/wire.rs", "the address of a raw packet socket has no safe constructor"),
    ("tests/zero_copy/clock.rs", "the time-stamp counter is read by an instruction"),
    ("tests/support/namespace.rs", "unshare, setns and prctl have no safe wrapper in the dependencies"),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];

/// Most lines of a file of `src/`, its tests not counted.
const LINES: usize = 450;

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let Some(room) = room_of(&file) else { continue };
        let level = level_of(room).unwrap_or_else(|| panic!("{}: the room {room} has no level", file.display()));
        for (line, target) in rooms_named(&code_of(&file), &file) {
            let below = level_of(&target).is_some_and(|other| other < level);
            if target != room && !below {
                wrong.push(format!("{}:{line}: {room} must not import from {target}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_has_a_level() {
    let mut rooms: BTreeSet<String> = LEVELS.concat().iter().map(|room| (*room).to_owned()).collect();
    for entry in std::fs::read_dir(root().join("src")).expect("src") {
        let name = entry.expect("an entry of src").file_name().to_string_lossy().into_owned();
        let room = name.trim_end_matches(".rs");
        assert!(rooms.remove(room) || ["lib", "main"].contains(&room), "src/{name} has no level");
    }
    // A level may wait for its room: `metrics` comes with the exporter.
    rooms.remove("metrics");
    assert!(rooms.is_empty(), "levels without a room: {rooms:?}");
}

#[test]
fn unsafe_code_stands_where_the_list_says() {
    let allowed: BTreeSet<String> = UNSAFE.iter().map(|(file, _)| (*file).to_owned()).collect();
    let mut found = BTreeSet::new();
    // This file names the attribute.
    for file in ["src", "tests", "benches"]
        .iter()
        .flat_map(|directory| rust_files(directory))
        .filter(|file| !file.ends_with("architecture.rs"))
    {
        if code_of(&file).contains("(unsafe_code)") {
            found.insert(file.to_string_lossy().into_owned());
        }
    }
    let unlisted: Vec<_> = found.difference(&allowed).collect();
    assert!(unlisted.is_empty(), "allow unsafe code without a reason in UNSAFE: {unlisted:?}");
    let stale: Vec<_> = allowed.difference(&found).collect();
    assert!(stale.is_empty(), "listed in UNSAFE, but allow none: {stale:?}");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    assert!(manifest.contains("unsafe_code = \"deny\""), "unsafe code is denied everywhere else");
}

#[test]
fn files_are_small_and_named_by_what_they_hold() {
    for file in rust_files("src").into_iter().chain(rust_files("tests")).chain(rust_files("benches")) {
        let stem = file.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(!EMPTY_NAMES.contains(&stem.as_str()), "{}: a name that says nothing", file.display());
        let text = std::fs::read_to_string(root().join(&file)).expect("a source file");
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        let only_tests = stem == "tests" || file.components().any(|part| part.as_os_str() == "tests");
        assert!(only_tests || lines <= LINES, "{}: {lines} lines without its tests, at most {LINES}", file.display());
    }
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let Some(tracked) = git(&["ls-files"]) else {
        println!("SKIP no_file_names_the_machine_it_was_written_on: this is not a git checkout");
        return;
    };
    // Where this checkout, the one that it was branched from, and the user's own files are.
    let origin = git(&["rev-parse", "--path-format=absolute", "--git-common-dir"]).unwrap_or_default();
    let places = [root().display().to_string(), origin.trim().trim_end_matches("/.git").to_owned()];
    let homes =
        ["HOME", "CARGO_HOME", "RUSTUP_HOME"].iter().filter_map(|name| std::env::var(name).ok()).map(|home| format!("{home}/"));
    let telling: Vec<String> = places.into_iter().chain(homes).filter(|place| place.len() > 4).collect();
    for file in tracked.lines() {
        // Captures and other bytes that are not text name nothing that a reader would see.
        let Ok(text) = std::fs::read_to_string(root().join(file)) else { continue };
        for place in &telling {
            assert!(!text.contains(place.as_str()), "{file} names a place of this machine: {place}");
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn git(arguments: &[&str]) -> Option<String> {
    // The owner of the checkout need not be who runs the tests.
    let output = Command::new("git").args(["-c", "safe.directory=*"]).args(arguments).current_dir(root()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// All Rust files below a directory of the package, relative to it; none if there is no such directory.
fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from(directory)];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(root().join(&directory)) else { continue };
        for entry in entries {
            let entry = entry.expect("a directory entry");
            let path = directory.join(entry.file_name());
            if entry.file_type().expect("a file type").is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The room that a file of `src/` belongs to; `lib.rs` and `main.rs` belong to none.
fn room_of(file: &Path) -> Option<&str> {
    let first = file.iter().nth(1)?.to_str()?;
    let room = first.trim_end_matches(".rs");
    (!["lib", "main"].contains(&room)).then_some(room)
}

fn level_of(room: &str) -> Option<usize> {
    LEVELS.iter().position(|rooms| rooms.contains(&room))
}

/// A file without its comments, the lines where they were.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(root().join(file)).expect("a source file");
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Rooms that code names by a path from the root, and in which line: `crate::room`, `crate::{a, b}`, or enough times `super::`.
fn rooms_named(code: &str, file: &Path) -> Vec<(usize, String)> {
    // `src/a/b.rs` is two modules below the root, `src/a/mod.rs` one.
    let depth = file.iter().count() - 1 - usize::from(file.ends_with("mod.rs"));
    let mut rooms = Vec::new();
    for way in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (start, _) in code.match_indices(&way) {
            let line = 1 + code[..start].matches('\n').count();
            let rest = &code[start + way.len()..];
            let names = rest.strip_prefix('{').map_or_else(|| vec![identifier(rest)], heads);
            rooms.extend(names.into_iter().filter(|name| level_of(name).is_some()).map(|name| (line, name)));
        }
    }
    rooms
}

/// The first names of `a::x, b::{y, z}, c}`, the inside of a group.
fn heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut item = String::new();
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(identifier(std::mem::take(&mut item).trim())),
            _ if depth == 0 => item.push(letter),
            _ => (),
        }
    }
    heads.push(identifier(item.trim()));
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn paths_from_the_root_are_found_in_every_spelling() {
    let file = Path::new("src/nat/icmp_error/mod.rs");
    let io = |line| vec![(line, "io".to_owned())];
    for code in [
        "use crate::io::Ports;",
        "use crate::{io::{Ports, x}, nope};",
        "x(super::super::io::y)",
        "use crate::{\n    nope,\n    io,\n};",
    ] {
        assert_eq!(rooms_named(code, file), io(1), "{code}");
    }
    assert_eq!(rooms_named("\n\nuse crate::io;", file), io(3));
    assert_eq!(rooms_named("use super::io;", file), [], "a module of its own room");
}
