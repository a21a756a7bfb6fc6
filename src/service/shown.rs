//! Addresses as people write them.

use std::fmt;
use std::net::SocketAddr;

/// As in the config: port 0 stands for none, and is not shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown(pub SocketAddr);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == 0 { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}
