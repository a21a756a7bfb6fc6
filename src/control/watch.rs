//! The config file, watched: tells when an edit has settled.
//!
//! Editors write a new file and rename it over the old one, `cp` truncates and writes in pieces, others swap a symbolic link somewhere
//! above the file. So it is directories that are watched, the file's own and that of what it points to, and any event in them only makes us look
//! at the file: an edit is that it is another file, or of another size or time, than the one that was read last.

use crate::worker::Monotonic;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Nanoseconds without a further change after which an edit has settled.
const SETTLED_AFTER: u64 = 500_000_000;
const NEVER: Monotonic = Monotonic(u64::MAX);

/// Which file it is and what its content was when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// Watches one file.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    inotify: OwnedFd,
    /// Directories that the kernel tells of, by its number for each.
    watched: BTreeSet<i32>,
    /// As of the last reading.
    known: Option<Stamp>,
    /// As of the last event.
    seen: Option<Stamp>,
    due: Monotonic,
}

impl Watch {
    /// Nothing is watched yet; the file counts as read.
    ///
    /// # Errors
    /// When the kernel has no inotify instance left.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let known = stamp(path);
        Ok(Self { path: path.to_owned(), inotify, watched: BTreeSet::new(), known, seen: known, due: NEVER })
    }

    /// Readable when [`Watch::look`] is to be called.
    pub(super) fn fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }

    /// From now on, or no more. Called after each reading, as the file may have been moved below another directory. An edit since the reading
    /// counts.
    pub(super) fn set(&mut self, on: bool, now: Monotonic) {
        let directories = if on { directories(&self.path) } else { BTreeSet::new() };
        let of_interest = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        let mut watched = BTreeSet::new();
        for directory in directories {
            // The same directory has the same number again.
            match inotify::add_watch(&self.inotify, &directory, of_interest) {
                Ok(number) => drop(watched.insert(number)),
                Err(error) => warn!("{} cannot be watched: {error}", directory.display()),
            }
        }
        for number in self.watched.difference(&watched) {
            // Refused for a directory that is gone: nothing is watched then either.
            let _ = inotify::remove_watch(&self.inotify, *number);
        }
        self.watched = watched;
        match on {
            true => self.compare(now),
            false => self.due = NEVER,
        }
    }

    /// The file is about to be read: what it is like now is no edit any more.
    pub(super) fn reading(&mut self) {
        self.known = stamp(&self.path);
        self.seen = self.known;
        self.due = NEVER;
    }

    /// Something happened in a directory.
    pub(super) fn look(&mut self, now: Monotonic) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        // Ends with EAGAIN; which events they were does not matter.
        while events.next().is_ok() {}
        self.compare(now);
    }

    /// Whether an edit has settled: the file is to be read. Also looks, since a link above the directory may have been swapped.
    pub(super) fn is_due(&mut self, now: Monotonic) -> bool {
        if now < self.due {
            return false;
        }
        self.compare(now);
        now >= self.due
    }

    /// When to ask [`Watch::is_due`].
    pub(super) fn next(&self) -> Monotonic {
        self.due
    }

    fn compare(&mut self, now: Monotonic) {
        let stamp = stamp(&self.path);
        if stamp.is_none() || stamp == self.known {
            // Being replaced, or as it was read: nothing to do until the next event.
            self.due = NEVER;
        } else if stamp != self.seen || self.due == NEVER {
            self.due = Monotonic(now.0 + SETTLED_AFTER);
        }
        self.seen = stamp;
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some(Stamp { device: file.dev(), inode: file.ino(), size: file.size(), modified: (file.mtime(), file.mtime_nsec()) })
}

/// Where the file is, and where the file is that it points to.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let own = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let target = std::fs::canonicalize(path).ok().and_then(|target| target.parent().map(Path::to_owned));
    own.map(Path::to_owned).into_iter().chain(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
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
        assert!(!watch.is_due(at(0)) && watch.next() == NEVER);
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
        assert_eq!(watch.next(), NEVER);
        fs::rename(&other, &path).unwrap();
        watch.look(at(20));
        assert!(watch.is_due(at(25)));
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_is_waited_for() {
        let (_directory, path, mut watch) = watched();
        fs::remove_file(&path).unwrap();
        watch.look(at(10));
        assert_eq!(watch.next(), NEVER);
        fs::write(&path, "back").unwrap();
        watch.look(at(20));
        assert!(watch.is_due(at(25)));
    }

    #[test]
    fn the_target_of_a_link_is_watched_where_it_is() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, target) = (directory.path().join("weir.toml"), elsewhere.path().join("real.toml"));
        fs::write(&target, "one").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let mut watch = Watch::new(&path).unwrap();
        watch.set(true, at(0));
        write_later(&target, "two");
        // The kernel tells of it, though nothing happened beside the link.
        let (mut poll, mut events) = (mio::Poll::new().unwrap(), mio::Events::with_capacity(1));
        poll.registry().register(&mut mio::unix::SourceFd(&watch.fd()), mio::Token(0), mio::Interest::READABLE).unwrap();
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert!(!events.is_empty());
        watch.look(at(10));
        assert!(watch.is_due(at(15)));
    }

    #[test]
    fn switched_off_it_is_silent() {
        let (_directory, path, mut watch) = watched();
        write_later(&path, "two");
        watch.look(at(10));
        watch.set(false, at(10));
        assert!(!watch.is_due(at(100)));
    }
}
