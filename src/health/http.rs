//! The probe `type = "http"`: GET, and the status line decides. Headers and body are not waited for.

use super::connection::Connection;
use super::{Failure, StatusSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

/// Bytes of the answer in which the status line must be; interim answers (RFC 9110, section 15.2) count too.
const LONGEST_ANSWER: usize = 16 << 10;
/// Headers of an interim answer.
const HEADERS: usize = 64;

/// One request and its answer, as far as they have come.
#[derive(Debug)]
pub(super) struct Exchange {
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

impl Exchange {
    /// Nothing sent yet.
    pub(super) fn new(path: &str, host: Option<&str>, address: SocketAddr) -> Self {
        let host = host.map_or_else(|| address.to_string(), str::to_owned);
        let version = env!("CARGO_PKG_VERSION");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        Self { request: request.into_bytes(), sent: 0, answer: Vec::new() }
    }

    /// After an event: goes on until the socket would block. `Some` when the probe is over.
    pub(super) fn advance(&mut self, connection: &mut Connection, good: &StatusSet) -> Option<Result<(), Failure>> {
        match self.try_advance(connection) {
            Ok(Some(status)) if good.contains(status) => Some(Ok(())),
            Ok(Some(status)) => Some(Err(Failure::Status(status))),
            Ok(None) => None,
            Err(failure) => Some(Err(failure)),
        }
    }

    fn try_advance(&mut self, connection: &mut Connection) -> Result<Option<u16>, Failure> {
        if !connection.is_established()? || !self.send(connection)? {
            return Ok(None);
        }
        let mut buffer = [0; 2048];
        loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => return Err(Failure::Closed),
                Ok(length) => self.answer.extend_from_slice(&buffer[..length]),
                Err(error) if is_passing(&error) => return Ok(None),
                Err(error) => return Err(Failure::Broken(error)),
            }
            if let Some(status) = find_status(&mut self.answer)? {
                return Ok(Some(status));
            }
        }
    }

    /// Whether the whole request is on its way.
    fn send(&mut self, connection: &mut Connection) -> Result<bool, Failure> {
        while self.sent < self.request.len() {
            match connection.stream.write(&self.request[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if is_passing(&error) => return Ok(false),
                Err(error) => return Err(Failure::Broken(error)),
            }
        }
        Ok(true)
    }
}

/// The socket has no more for now; an interrupted call is made again at the next event or given up in time.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The status of the final answer, once it can be read. Interim answers before it are taken off.
fn find_status(answer: &mut Vec<u8>) -> Result<Option<u16>, Failure> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(answer);
        match (response.code, parsed) {
            // The status line could be read; more headers than fit here may follow.
            (Some(status), Ok(_) | Err(httparse::Error::TooManyHeaders)) if status >= 200 => return Ok(Some(status)),
            (Some(_), Ok(httparse::Status::Complete(length))) => drop(answer.drain(..length)),
            (_, Ok(_)) if answer.len() > LONGEST_ANSWER => return Err(Failure::NotHttp("no status line in 16 KiB")),
            (_, Ok(_)) => return Ok(None),
            (_, Err(error)) => return Err(Failure::NotHttp(describe(error))),
        }
    }
}

fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::Version => "it does not begin with HTTP/1",
        httparse::Error::Status => "its status is not one",
        _ => "its head is malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(answer: &str) -> Result<Option<u16>, String> {
        find_status(&mut answer.as_bytes().to_vec()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn reads_the_status_as_soon_as_it_is_there() {
        assert_eq!(status_of(""), Ok(None));
        assert_eq!(status_of("HTTP/1.1 20"), Ok(None));
        assert_eq!(status_of("HTTP/1.1 204 No Content\r\n"), Ok(Some(204)));
        assert_eq!(status_of("HTTP/1.0 503 Service Unavailable\r\nServer: x\r\n\r\nsorry"), Ok(Some(503)));
        let many = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(HEADERS + 1));
        assert_eq!(status_of(&many), Ok(Some(200)));
    }

    #[test]
    fn interim_answers_are_not_the_answer() {
        assert_eq!(status_of("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), Ok(None));
        assert_eq!(status_of("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"), Ok(Some(200)));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert!(status_of("SSH-2.0-OpenSSH_9.2\r\n").is_err());
        assert!(status_of("HTTP/1.1 2xx Fine\r\n").is_err());
        assert!(status_of("\u{16}\u{3}\u{1}").is_err());
        assert!(status_of(&format!("HTTP/1.1 100 {}", "x".repeat(LONGEST_ANSWER))).is_err());
    }
}
