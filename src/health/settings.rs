//! How the backends of a pool are probed.

use super::StatusSet;
use super::dns::Dns;
use crate::service::BackendId;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One backend that is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who is meant in [`super::HealthEvent`].
    pub backend: BackendId,
    /// Where probes go; the port is not 0, but for probes that need none.
    pub address: SocketAddr,
    /// How; shared by the backends of a pool.
    pub settings: Arc<Settings>,
}

/// The `health` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What is asked of a backend.
    pub probe: Probe,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// By how much each start is put off, at most and by chance, so that many weirs do not probe at the same moment.
    pub jitter: Duration,
    /// How long a probe may take; never above `interval`, so a backend has at most one probe under way.
    pub timeout: Duration,
    /// Successes in a row after which a backend that is down is up.
    pub rise: u32,
    /// Failures in a row after which a backend that is up is down.
    pub fall: u32,
    /// Whether a backend that was never probed takes connections.
    pub start: Start,
    /// Probe this port instead of the one that connections go to; needed when backends have none.
    pub port: Option<u16>,
}

impl Settings {
    /// `interval` unless set.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
    /// `timeout` unless set, if `interval` is not shorter.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
    /// `rise` unless set.
    pub const DEFAULT_RISE: u32 = 2;
    /// `fall` unless set.
    pub const DEFAULT_FALL: u32 = 3;

    /// How backends are spoken to over TLS, where they are.
    pub fn tls(&self) -> Option<&Tls> {
        match &self.probe {
            Probe::Http(http) => http.tls.as_ref(),
            _ => None,
        }
    }
}

/// What is asked of a backend, and which answer is a good one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The connection is accepted.
    Tcp,
    /// A request is answered well, perhaps over TLS.
    Http(Box<Http>),
    /// A datagram is answered, or at least not refused.
    Udp {
        /// What is sent.
        send: Vec<u8>,
        /// What the answer must have; `None`: none is needed.
        expect: Option<Vec<u8>>,
    },
    /// A query is answered well.
    Dns(Dns),
    /// An echo is answered.
    Icmp,
    /// A program exits with 0.
    Exec {
        /// Its path and its arguments.
        command: Vec<String>,
    },
    /// An agent says so, and which part of the weight it wants.
    Agent,
}

impl Probe {
    /// Whether it goes to a port.
    pub fn needs_port(&self) -> bool {
        !matches!(self, Self::Icmp | Self::Exec { .. })
    }
}

/// `GET path` is answered with a good status, and with what else is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Path and query, begins with `/`.
    pub path: String,
    /// The `Host` header; `None`: the address and port that are probed.
    pub host: Option<String>,
    /// Good statuses.
    pub status: StatusSet,
    /// A header that must be there, and its value if that matters.
    pub header: Option<(String, Option<String>)>,
    /// What must be in the first [`super::SEARCHED`] bytes of the body.
    pub body: Option<String>,
    /// `None`: without TLS.
    pub tls: Option<Tls>,
}

/// How the backend is spoken to over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The name that is asked for (SNI) and that the certificate must be for; `None`: the backend's address, and no SNI.
    pub name: Option<ServerName<'static>>,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// At least so often a handshake is a whole one, in which the certificate is seen; 0: each is.
    pub full_handshake: Duration,
}

impl Tls {
    /// `full_handshake` unless set.
    pub const DEFAULT_FULL_HANDSHAKE: Duration = Duration::from_secs(30);
}

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Everybody's, whatever name they are for and however old they are.
    Anybody,
    /// Those signed by the authorities that the host trusts.
    System,
    /// Those signed by these authorities.
    Only(Vec<CertificateDer<'static>>),
}

/// What is believed of a backend before its first probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// It takes connections until `fall` probes failed: a restart of weir refuses nobody.
    #[default]
    Up,
    /// It takes none until `rise` probes succeeded.
    Down,
}

impl Start {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Start)] = &[("up", Start::Up), ("down", Start::Down)];

    /// Whether that means up.
    pub fn is_up(self) -> bool {
        self == Self::Up
    }
}
