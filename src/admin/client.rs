//! The commands' end.

use super::{Answer, Request};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A daemon that has not said anything for so long is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket.
    #[error("weir is not running (no socket at {})", .0.display())]
    NotRunning(PathBuf),
    /// A socket that nobody listens at: a killed daemon leaves it.
    #[error("weir is not running (nobody answers at {})", .0.display())]
    NobodyAnswers(PathBuf),
    /// The socket's mode does not let us in.
    #[error("no permission to talk to weir at {}: be root, or of the group that owns the socket", .0.display())]
    NoPermission(PathBuf),
    /// The daemon refused, with its own words.
    #[error("{0}")]
    Refused(String),
    /// The daemon speaks another version of this language.
    #[error("the daemon's answer is not understood, perhaps it is of another version: {0}")]
    Strange(serde_json::Error),
    /// The daemon went away in the middle of an answer.
    #[error("the daemon closed the connection")]
    Closed,
    /// Anything else.
    #[error("talking to the daemon: {0}")]
    Io(#[from] io::Error),
}

impl Client {
    /// Connects to the daemon that listens at `path`.
    ///
    /// # Errors
    /// When none does, or the file's mode does not allow it.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ClientError::NotRunning(path.to_owned()),
            io::ErrorKind::ConnectionRefused => ClientError::NobodyAnswers(path.to_owned()),
            io::ErrorKind::PermissionDenied => ClientError::NoPermission(path.to_owned()),
            _ => error.into(),
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and reads the first line of the answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the daemon says no, others when it can not be talked to.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
        line.push(b'\n');
        match self.stream.get_mut().write_all(&line) {
            // A daemon that turns us away closes before it reads; what it said is still there to be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        self.more()
    }

    /// The next line of a list.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn more(&mut self) -> Result<Answer, ClientError> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ClientError::Closed);
        }
        match serde_json::from_str(&line).map_err(ClientError::Strange)? {
            Answer::Error { message } => Err(ClientError::Refused(message)),
            answer => Ok(answer),
        }
    }
}
