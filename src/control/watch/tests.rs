use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

/// A watched file in a directory of its own.
fn watched() -> (tempfile::TempDir, PathBuf, Watch) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.toml");
    fs::write(&path, "one").unwrap();
    let mut watch = Watch::new(&path).unwrap();
    watch.set(true, at(0));
    (directory, path, watch)
}

const SECOND: u64 = 1_000_000_000;

fn at(tenths: u64) -> Monotonic {
    Monotonic(tenths * SECOND / 10)
}

/// Times of a file move in ticks of the kernel's clock.
fn write_later(path: &Path, text: &str) {
    let before = stamp(path);
    let patience = Instant::now() + Duration::from_secs(10);
    while stamp(path) == before {
        fs::write(path, text).unwrap();
        assert!(Instant::now() < patience, "the file's time does not move");
    }
}

#[test]
fn an_edit_is_due_once_it_has_settled() {
    let (_directory, path, mut watch) = watched();
    assert!(!watch.is_due(at(0)) && watch.due == NEVER);
    write_later(&path, "two");
    watch.look(at(10));
    assert_eq!(watch.next(), at(15));
    assert!(!watch.is_due(at(14)));
    // Somebody goes on writing.
    write_later(&path, "two and a half");
    watch.look(at(14));
    assert!(!watch.is_due(at(15)) && watch.is_due(at(19)));
    watch.reading();
    assert!(!watch.is_due(at(100)));
}

#[test]
fn one_that_was_not_told_of_moves_the_end() {
    let (_directory, path, mut watch) = watched();
    write_later(&path, "two");
    watch.look(at(10));
    write_later(&path, "three");
    assert!(!watch.is_due(at(15)) && watch.is_due(at(20)));
}

#[test]
fn a_file_renamed_over_it_is_an_edit_and_others_beside_it_are_none() {
    let (directory, path, mut watch) = watched();
    let other = directory.path().join("weir.toml.new");
    fs::write(&other, "six").unwrap();
    watch.look(at(10));
    assert_eq!(watch.due, NEVER);
    fs::rename(&other, &path).unwrap();
    watch.look(at(20));
    assert!(watch.is_due(at(25)));
}

#[test]
fn a_file_that_is_away_for_a_moment_is_waited_for() {
    let (_directory, path, mut watch) = watched();
    fs::remove_file(&path).unwrap();
    watch.look(at(10));
    assert_eq!(watch.due, NEVER);
    fs::write(&path, "back").unwrap();
    watch.look(at(20));
    assert!(watch.is_due(at(25)));
}

/// The kernel tells of something within seconds.
fn is_told_soon(watch: &Watch) -> bool {
    let (mut poll, mut events) = (mio::Poll::new().unwrap(), mio::Events::with_capacity(1));
    poll.registry().register(&mut mio::unix::SourceFd(&watch.fd()), mio::Token(0), mio::Interest::READABLE).unwrap();
    poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
    !events.is_empty()
}

/// Told at this moment, and no later, the edit is due when it has settled, and is read.
fn assert_noticed(watch: &mut Watch, tenths: u64) {
    assert!(is_told_soon(watch));
    watch.look(at(tenths));
    assert!(!watch.is_due(at(tenths)) && watch.is_due(at(tenths + 5)));
    watch.reading();
    watch.set(true, at(tenths + 5));
    assert!(!watch.is_due(at(tenths + 5)));
}

/// A watched file two directories down.
fn watched_below() -> (tempfile::TempDir, PathBuf, Watch) {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("etc/weir/weir.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "one").unwrap();
    let mut watch = Watch::new(&path).unwrap();
    watch.set(true, at(0));
    (base, path, watch)
}

#[test]
fn the_target_of_a_link_is_watched_where_it_is() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, target) = (directory.path().join("weir.toml"), elsewhere.path().join("real.toml"));
    fs::write(&target, "one").unwrap();
    symlink(&target, &path).unwrap();
    let mut watch = Watch::new(&path).unwrap();
    watch.set(true, at(0));
    // The kernel tells of it, though nothing happened beside the link.
    write_later(&target, "two");
    assert_noticed(&mut watch, 1);
}

#[test]
fn a_directory_that_is_put_in_the_place_of_another_is_followed() {
    // The file's own directory, and one further up.
    for place in ["etc/weir", "etc"] {
        let (base, path, mut watch) = watched_below();
        let new = base.path().join("new");
        fs::create_dir_all(new.join("weir")).unwrap();
        fs::write(new.join(path.strip_prefix(base.path().join(place)).unwrap()), "another").unwrap();
        fs::rename(base.path().join(place), base.path().join("old")).unwrap();
        fs::rename(&new, base.path().join(place)).unwrap();
        assert_noticed(&mut watch, 1);
        // And from then on it is the new one.
        write_later(&path, "two");
        assert_noticed(&mut watch, 7);
    }
}

#[test]
fn a_directory_that_is_removed_and_made_again_is_followed() {
    let (_base, path, mut watch) = watched_below();
    let directory = path.parent().unwrap();
    fs::remove_dir_all(directory).unwrap();
    assert!(is_told_soon(&watch));
    watch.look(at(1));
    assert!(!watch.is_due(at(10)), "there is nothing to read");
    fs::create_dir(directory).unwrap();
    assert!(is_told_soon(&watch));
    watch.look(at(11));
    fs::write(&path, "back").unwrap();
    assert_noticed(&mut watch, 12);
}

/// As a volume of a ConfigMap is updated: `weir.toml` → `..data/weir.toml`, `..data` → a directory that is swapped by a rename.
#[test]
fn a_link_in_the_middle_that_is_swapped_is_followed() {
    let base = tempfile::tempdir().unwrap();
    let at_base = |name: &str| base.path().join(name);
    let version = |number: u32| {
        let name = format!("..{number}");
        fs::create_dir(at_base(&name)).unwrap();
        fs::write(at_base(&name).join("weir.toml"), format!("version {number}")).unwrap();
        symlink(name, at_base("..data_tmp")).unwrap();
        fs::rename(at_base("..data_tmp"), at_base("..data")).unwrap();
    };
    version(1);
    symlink("..data/weir.toml", at_base("weir.toml")).unwrap();
    let mut watch = Watch::new(&at_base("weir.toml")).unwrap();
    watch.set(true, at(0));
    for number in 2..5 {
        version(number);
        fs::remove_dir_all(at_base(&format!("..{}", number - 1))).unwrap();
        assert_noticed(&mut watch, u64::from(number) * 6);
    }
    assert_eq!(watch.watched.len(), watch_of(&at_base("weir.toml")), "what is past is let go of");
}

/// Directories on the way to it.
fn watch_of(path: &Path) -> usize {
    let mut watch = Watch::new(path).unwrap();
    watch.set(true, at(0));
    watch.watched.len()
}

#[test]
fn what_was_lost_is_looked_for_until_it_is_back_and_told_of_once() {
    let (base, path, mut watch) = watched_below();
    fs::rename(base.path().join("etc"), base.path().join("away")).unwrap();
    watch.look(at(1));
    assert!(!watch.is_lost, "it may be back in a moment");
    for look in 1..4 {
        assert_eq!(watch.next(), at(20 * look));
        assert!(!watch.is_due(at(20 * look)) && watch.is_lost);
    }
    fs::rename(base.path().join("away"), base.path().join("etc")).unwrap();
    assert!(!watch.is_due(at(80)) && !watch.is_lost);
    assert!(!watch.is_due(at(90)), "it is the one that was read");
    write_later(&path, "two");
    assert_noticed(&mut watch, 91);
}

#[test]
fn what_nobody_tells_of_is_found_by_looking() {
    let (_directory, path, mut watch) = watched();
    write_later(&path, "two");
    watch.is_told();
    assert!(!watch.is_due(at(20)) && watch.is_due(at(25)));
}

#[test]
fn a_watch_that_the_kernel_drops_is_taken_up_again() {
    let (_directory, path, mut watch) = watched();
    for number in watch.watched.keys() {
        inotify::remove_watch(&watch.inotify, *number).unwrap();
    }
    assert!(is_told_soon(&watch));
    watch.look(at(1));
    write_later(&path, "two");
    assert_noticed(&mut watch, 2);
}

#[test]
fn an_edit_among_more_events_than_the_kernel_keeps_is_noticed() {
    let (directory, path, mut watch) = watched();
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let other = directory.path().join("other");
    for _ in 0..=most / 2 {
        fs::write(&other, "").unwrap();
        fs::remove_file(&other).unwrap();
    }
    write_later(&path, "two");
    assert_noticed(&mut watch, 1);
}

#[test]
fn what_happens_beside_the_way_is_not_looked_at() {
    let (base, _path, watch) = watched_below();
    fs::write(base.path().join("etc/weir/other.toml"), "").unwrap();
    fs::create_dir(base.path().join("etc/other")).unwrap();
    assert!(!watch.is_told());
}

#[test]
fn links_in_a_circle_are_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.toml");
    symlink("weir.toml", &path).unwrap();
    let mut watch = Watch::new(&path).unwrap();
    assert!(watch.follow_way().unwrap_err().to_string().contains("weir.toml: Too many levels of symbolic links"));
}

#[test]
fn switched_off_it_is_silent() {
    let (_directory, path, mut watch) = watched();
    write_later(&path, "two");
    watch.look(at(10));
    watch.set(false, at(10));
    assert!(!watch.is_due(at(100)));
}

#[test]
fn an_edit_that_keeps_size_and_time_is_seen() {
    let (_directory, path, _) = watched();
    let (before, modified) = (stamp(&path), fs::metadata(&path).unwrap().modified().unwrap());
    write_later(&path, "two");
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let after = stamp(&path);
    assert_eq!(after.map(|stamp| (stamp.size, stamp.modified)), before.map(|stamp| (stamp.size, stamp.modified)));
    assert_ne!(after, before);
}
