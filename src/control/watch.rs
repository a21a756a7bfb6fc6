//! The config file, watched: tells when an edit has settled.
//!
//! Editors write a new file and rename it over the old one, `cp` truncates and writes in pieces, Kubernetes swaps a symbolic link, others
//! put a new directory in the place of the old one. So what is watched is every directory on the way to the file, links followed, each for the
//! names that are looked up in it. Any event of such a name, and the loss of a directory, makes us go the way anew and look at the
//! file: an edit is that it is another file, or of another size or time, than the one that was read last.

use crate::worker::Monotonic;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use tracing::{info, warn};

/// Nanoseconds without a further change after which an edit has settled.
const SETTLED_AFTER: u64 = 500_000_000;
/// Nanoseconds between two looks without an event: what is lost must come back, and mounts and network file systems tell nothing.
const LOOK_EVERY: u64 = 2_000_000_000;
const NEVER: Monotonic = Monotonic(u64::MAX);
/// Links that are followed, as many as the kernel does (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Which file it is and what its content was when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Nobody can set it, as a copy that keeps the time of the content does with the other one.
    changed: (i64, i64),
}

/// Names that are looked up in directories, by the kernel's number for each directory.
type Names = BTreeMap<i32, BTreeSet<OsString>>;

/// Watches one file.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    inotify: OwnedFd,
    watched: Names,
    /// As of the last reading.
    known: Option<Stamp>,
    /// As of the last event.
    seen: Option<Stamp>,
    due: Monotonic,
    /// When to look though nothing was told; [`NEVER`]: it is switched off.
    look_at: Monotonic,
    /// The way is broken, and that was logged.
    is_lost: bool,
}

impl Watch {
    /// Nothing is watched yet; the file counts as read.
    ///
    /// # Errors
    /// When the kernel has no inotify instance left.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let known = stamp(path);
        let watched = Names::new();
        Ok(Self { path: path.to_owned(), inotify, watched, known, seen: known, due: NEVER, look_at: NEVER, is_lost: false })
    }

    /// Readable when [`Watch::look`] is to be called.
    pub(super) fn fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }

    /// From now on, or no more. An edit since the last reading counts.
    pub(super) fn set(&mut self, on: bool, now: Monotonic) {
        if on {
            // What is wrong with the way is told at the next look if it is still so then.
            let _ = self.follow_way();
            self.look_at = Monotonic(now.0 + LOOK_EVERY);
            self.compare(now);
        } else {
            self.keep_only(Names::new());
            (self.due, self.look_at, self.is_lost) = (NEVER, NEVER, false);
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
        if self.is_told() {
            let _ = self.follow_way();
            self.compare(now);
        }
    }

    /// Whether an edit has settled: the file is to be read. Looks by itself now and then.
    pub(super) fn is_due(&mut self, now: Monotonic) -> bool {
        if now >= self.look_at {
            self.look_at = Monotonic(now.0 + LOOK_EVERY);
            let way = self.follow_way();
            self.tell(way);
            self.compare(now);
        }
        if now < self.due {
            return false;
        }
        self.compare(now);
        now >= self.due
    }

    /// When to ask [`Watch::is_due`].
    pub(super) fn next(&self) -> Monotonic {
        self.due.min(self.look_at)
    }

    /// Reads all events. Whether one of them is about the way to the file.
    fn is_told(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut is_told = false;
        // Ends with EAGAIN.
        while let Ok(event) = events.next() {
            let names = self.watched.get(&event.wd());
            is_told |= match event.file_name() {
                Some(name) => names.is_some_and(|names| names.contains(OsStr::from_bytes(name.to_bytes()))),
                // The directory itself is gone or moved. Of one that we let go of that is no news; an overflow belongs to none.
                None => names.is_some() || event.events().contains(ReadFlags::QUEUE_OVERFLOW),
            };
        }
        is_told
    }

    /// Watches all directories on the way to the file, and no others. Each is watched before anything is looked up in it, so that
    /// whatever changes meanwhile is told of.
    fn follow_way(&mut self) -> io::Result<()> {
        let mut watched = Names::new();
        let whole = watch_way(&self.inotify, &self.path, &mut watched);
        self.keep_only(watched);
        whole
    }

    fn keep_only(&mut self, watched: Names) {
        for number in self.watched.keys().filter(|number| !watched.contains_key(number)) {
            // Refused for a directory that is gone: nothing is watched then either.
            let _ = inotify::remove_watch(&self.inotify, *number);
        }
        self.watched = watched;
    }

    /// Logs once that the way is broken, and once that it is whole again.
    fn tell(&mut self, way: io::Result<()>) {
        let path = self.path.display();
        match way {
            Err(error) if !self.is_lost => {
                let seconds = LOOK_EVERY / 1_000_000_000;
                warn!("{path} cannot be watched, it is looked for every {seconds} s: {error}");
                self.is_lost = true;
            }
            Ok(()) if self.is_lost => {
                info!("{path} is watched again");
                self.is_lost = false;
            }
            _ => {}
        }
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
    let (modified, changed) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    Some(Stamp { device: file.dev(), inode: file.ino(), size: file.size(), modified, changed })
}

/// Goes the way that the kernel goes (path_resolution(7)), and watches each directory on it for the next name, as far as it leads; then the
/// content of the file as well.
fn watch_way(inotify: &OwnedFd, path: &Path, watched: &mut Names) -> io::Result<()> {
    let on_the_way = WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::MOVE_SELF
        | WatchFlags::DELETE_SELF
        | WatchFlags::ONLYDIR;
    let content = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::MASK_ADD | WatchFlags::ONLYDIR;
    let named = |at: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", at.display()));

    let mut directory = PathBuf::from(".");
    let mut ahead: VecDeque<OsString> = parts(path).collect();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == "/" || name == ".." {
            directory.push(name);
            continue;
        }
        let number = inotify::add_watch(inotify, &directory, on_the_way).map_err(|error| named(&directory, error.into()))?;
        watched.entry(number).or_default().insert(name.clone());
        let next = directory.join(name);
        let found = std::fs::symlink_metadata(&next).map_err(|error| named(&next, error))?;
        if found.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(named(&next, io::Error::from_raw_os_error(libc::ELOOP)));
            }
            let target = std::fs::read_link(&next).map_err(|error| named(&next, error))?;
            parts(&target).rev().for_each(|part| ahead.push_front(part));
        } else if ahead.is_empty() {
            inotify::add_watch(inotify, &directory, content).map_err(|error| named(&directory, error.into()))?;
        } else {
            directory = next;
        }
    }
    Ok(())
}

/// `/` for the root, `..`, and names.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter(|part| *part != Component::CurDir).map(|part| part.as_os_str().to_owned())
}

#[cfg(test)]
mod tests;
