//! What must be known after a kill: who runs, and which addresses weir put on interfaces.
//!
//! The file lies beside the admin socket and is locked for as long as the daemon lives; the lock goes with the process, however
//! it ends. So a locked file means a live daemon, and an unlocked one holds what a killed daemon could not clean up: its addresses
//! are taken for our own, used again where the config still has them and removed otherwise.

use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tracing::warn;

/// An address that weir put on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Placed {
    /// Name of the interface.
    pub interface: String,
    /// The address, as /32 or /128.
    pub address: IpAddr,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    pid: u32,
    addresses: Vec<Placed>,
}

/// The locked file. Dropping it removes it, and the directories that were made for it, unless it holds addresses that are still to be
/// taken off.
#[derive(Debug)]
pub struct StateFile {
    file: File,
    path: PathBuf,
    held: usize,
    /// Dropped last: with the file in it no directory can be removed.
    _directories: MadeDirectories,
}

/// Directories that were made for the file, the deepest first. Dropping this removes those that are empty.
#[derive(Debug)]
struct MadeDirectories(Vec<PathBuf>);

impl MadeDirectories {
    /// Makes `directory` and those above it that are missing.
    fn make(directory: &Path) -> io::Result<Self> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = Self(directory.ancestors().take_while(is_missing).map(Path::to_owned).collect());
        fs::create_dir_all(directory)?;
        Ok(made)
    }
}

impl Drop for MadeDirectories {
    fn drop(&mut self) {
        for directory in &self.0 {
            // Whoever else put something there keeps it.
            if fs::remove_dir(directory).is_err() {
                return;
            }
        }
    }
}

/// Why there is no state file.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another daemon holds the lock.
    #[error("weir is already running with this admin socket (pid {pid}, {} is locked)", path.display())]
    Running {
        /// Of the other daemon.
        pid: u32,
        /// The file.
        path: PathBuf,
    },
    /// It can not be made or read.
    #[error("the state file {} beside the admin socket: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

impl StateFile {
    /// Makes or opens the file beside `socket` and locks it. Also returns the addresses that a killed daemon left.
    ///
    /// # Errors
    /// [`StateError::Running`] when another daemon lives, else when the directory can not be written.
    pub fn lock(socket: &Path) -> Result<(Self, Vec<Placed>), StateError> {
        let path = socket.with_extension("state");
        let failed = |error| StateError::Io { path: path.clone(), error };
        let directories = MadeDirectories::make(path.parent().unwrap_or(Path::new(""))).map_err(failed)?;
        loop {
            let file = open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(StateError::Running { pid: read(&file).pid, path }),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // A daemon that stopped just now removed the file between our open and our lock: then we hold a file without a name.
            if is_at(&file, &path) {
                let left = read(&file).addresses;
                let mut state = Self { file, path, held: left.len(), _directories: directories };
                state.record(&left).map_err(|error| StateError::Io { path: state.path.clone(), error })?;
                return Ok((state, left));
            }
        }
    }

    /// Writes down which addresses are ours. To be called before they are put on the interface and after they are taken off, so that
    /// the file never knows too few.
    ///
    /// # Errors
    /// When the file can not be written.
    pub fn record(&mut self, addresses: &[Placed]) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Content { pid: std::process::id(), addresses: addresses.to_vec() })?;
        text.push(b'\n');
        self.held = addresses.len();
        // Cut only after the write: a kill in between leaves the new line whole, and only the first one is read.
        self.file.write_all_at(&text, 0)?;
        self.file.set_len(text.len() as u64)
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if self.held == 0
            && let Err(error) = fs::remove_file(&self.path)
        {
            warn!("the state file {} could not be removed: {error}", self.path.display());
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)
}

/// A file that is empty or damaged knows of no addresses.
fn read(mut file: &File) -> Content {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    text.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(address: &str) -> Placed {
        Placed { interface: "eth0".into(), address: address.parse().unwrap() }
    }

    #[test]
    fn the_next_daemon_reads_what_a_killed_one_left() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("deep/er/weir.sock");
        let (mut state, left) = StateFile::lock(&socket).unwrap();
        assert_eq!(left, []);
        state.record(&[placed("10.0.0.1"), placed("2001:db8::1")]).unwrap();
        state.record(&[placed("10.0.0.1")]).unwrap();
        drop(state);
        let (state, left) = StateFile::lock(&socket).unwrap();
        assert_eq!(left, [placed("10.0.0.1")]);
        drop(state);
        let (_state, left) = StateFile::lock(&socket).unwrap();
        assert_eq!(left, [placed("10.0.0.1")], "a daemon killed before it did anything forgets nothing");
    }

    #[test]
    fn a_live_daemon_is_refused_by_pid() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("weir.sock");
        let (_state, _) = StateFile::lock(&socket).unwrap();
        let error = StateFile::lock(&socket).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    }

    #[test]
    fn a_file_without_addresses_goes_with_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("weir.sock");
        let (mut state, _) = StateFile::lock(&socket).unwrap();
        state.record(&[placed("10.0.0.1")]).unwrap();
        state.record(&[]).unwrap();
        drop(state);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(StateFile::lock(&socket).unwrap().1, []);
    }

    #[test]
    fn directories_that_were_made_for_the_file_go_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("deep/er/weir.sock");
        drop(StateFile::lock(&socket).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let (state, _) = StateFile::lock(&socket).unwrap();
        fs::write(directory.path().join("deep/somebody"), "else's").unwrap();
        drop(state);
        assert!(!directory.path().join("deep/er").exists());
        fs::create_dir(directory.path().join("deep/er")).unwrap();
        drop(StateFile::lock(&socket).unwrap());
        assert!(directory.path().join("deep/er").exists(), "one that was there stays");
    }

    #[test]
    fn a_damaged_file_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("weir.sock");
        fs::write(directory.path().join("weir.state"), [0xff, 0, b'{']).unwrap();
        assert_eq!(StateFile::lock(&socket).unwrap().1, []);
    }
}
