//! Moving a thread into a network namespace.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A network namespace cannot be entered.
#[derive(Debug, thiserror::Error)]
#[error("network namespace {name}: {}: {source}; `ip netns list` shows those that have names", path.display())]
pub struct NamespaceError {
    name: String,
    path: PathBuf,
    source: io::Error,
}

/// Moves the calling thread, for the rest of its life, into a network namespace: one made by `ip netns add`, or a path such as /proc/PID/ns/net.
pub fn enter_namespace(name: &str) -> Result<(), NamespaceError> {
    let path = if name.contains('/') { PathBuf::from(name) } else { Path::new("/run/netns").join(name) };
    let enter = || {
        let file = File::open(&path)?;
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    };
    enter().map_err(|source| NamespaceError { name: name.to_owned(), path: path.clone(), source })
}
