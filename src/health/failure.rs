//! Why a probe did not pass.

use std::io;
use std::net::IpAddr;

/// What went wrong with a probe.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The connection was refused, reset, or there is no way to the backend.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// No connection or no answer within the timeout.
    #[error("no {0} in time")]
    Timeout(&'static str),
    /// The connection broke before the answer was there.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The backend closed the connection before its answer was there.
    #[error("closed the connection without an answer")]
    Closed,
    /// The TLS handshake failed, or the certificate is not one that is trusted for this name.
    #[error("TLS: {0}")]
    Tls(String),
    /// The answer is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(&'static str),
    /// The answer has another status than those that are good ones.
    #[error("answered with status {0}")]
    Status(u16),
    /// The answer has not the header that it must have.
    #[error("answered without the header `{0}`")]
    Header(String),
    /// The answer's body, or as much of it as is read, has not what it must have.
    #[error("answered without {0:?} in the body")]
    Body(String),
    /// An ICMP error came back.
    #[error("unreachable: {0}")]
    Unreachable(io::Error),
    /// A datagram came back that is not the answer.
    #[error("the answer {0}")]
    Answer(&'static str),
    /// A name server answered with another code.
    #[error("answered with {0}")]
    Rcode(String),
    /// The script exited with a code other than 0.
    #[error("the script exited with {0}")]
    Exit(i32),
    /// A signal ended the script.
    #[error("signal {0} ended the script")]
    Signal(i32),
    /// The agent says that the backend is down.
    #[error("the agent says {0:?}")]
    Agent(String),
    /// The kernel chose one of weir's own addresses as the source: the answer would not come back to the kernel.
    #[error("the host has no address of its own toward the backend, only {0}, which is weir's")]
    OwnSource(IpAddr),
    /// This host could not send the probe, which says nothing about the backend.
    #[error("could not be sent: {0}")]
    Local(io::Error),
}

impl Failure {
    /// Sorts an error of connect(2).
    pub(super) fn of_connect(error: io::Error) -> Self {
        let local = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::EAGAIN];
        match error.raw_os_error() {
            Some(code) if local.contains(&code) => Self::Local(error),
            _ => Self::Connect(error),
        }
    }

    /// Sorts an error of a datagram socket, which is told of ICMP errors.
    pub(super) fn of_datagram(error: io::Error) -> Self {
        match Self::of_connect(error) {
            Self::Connect(error) => Self::Unreachable(error),
            other => other,
        }
    }

    /// Whether it says something about the backend.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Local(_))
    }
}
