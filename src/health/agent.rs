//! The probe `type = "agent"`: a line of text that the backend's agent sends to whoever connects, as HAProxy's agent-check reads it.
//!
//! Words stand between spaces, tabs or commas, up to the end of the line or of the connection; what comes behind `#` is a comment.
//!
//! | word | meaning |
//! |---|---|
//! | `75%` | this part of the weight from now on |
//! | `up` | it passes; the part stays |
//! | `ready` | it passes, with its whole weight again |
//! | `drain`, `maint` | it passes, with no weight: no new connections until `ready` or a percentage |
//! | `down`, `failed`, `stopped` | it fails |
//! | `maxconn:N` | passed over |

use super::tls::Wire;
use super::{Failure, is_passing};
use crate::service::Weight;

/// Bytes of the line.
const LONGEST: usize = 1024;

/// A line that is being read.
#[derive(Debug)]
pub(super) struct Report {
    wire: Wire,
    line: Vec<u8>,
}

impl Report {
    /// Over a connection that is being made.
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, line: Vec::new() }
    }

    /// The connection.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Gives the connection back.
    pub(super) fn into_wire(self) -> Wire {
        self.wire
    }

    /// After an event: `Some` when the probe is over, with the percentage if there was one.
    pub(super) fn advance(&mut self) -> Option<Result<Option<u32>, Failure>> {
        self.try_advance().transpose()
    }

    fn try_advance(&mut self) -> Result<Option<Option<u32>>, Failure> {
        if !self.wire.connection.is_established()? {
            return Ok(None);
        }
        let mut buffer = [0; LONGEST];
        loop {
            let ended = match self.wire.read(&mut buffer) {
                Ok(length) => {
                    self.line.extend_from_slice(&buffer[..length]);
                    length == 0
                }
                Err(error) if is_passing(&error) => return Ok(None),
                Err(error) => return Err(self.wire.failure(error)),
            };
            if let Some(line) = whole_line(&self.line, ended) {
                return read(line).map(Some);
            }
        }
    }
}

/// The line, once it is whole.
fn whole_line(bytes: &[u8], ended: bool) -> Option<&[u8]> {
    match bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        Some(end) => Some(&bytes[..end]),
        None => (ended || bytes.len() >= LONGEST).then_some(bytes),
    }
}

/// What a line says: the percentage, if it has one.
fn read(line: &[u8]) -> Result<Option<u32>, Failure> {
    let text = String::from_utf8_lossy(line);
    let said = || Failure::Agent(text.chars().take(80).collect());
    let (words, _) = text.split_once('#').unwrap_or((&text, ""));
    let mut words = words.split([' ', '\t', ',']).filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return Err(Failure::Closed);
    }
    let mut share = None;
    for word in words {
        match word.to_ascii_lowercase().as_str() {
            "up" => {}
            "ready" => share = Some(100),
            "drain" | "maint" => share = Some(0),
            other if other.starts_with("maxconn:") => {}
            other => share = Some(percent(other).ok_or_else(said)?),
        }
    }
    Ok(share)
}

fn percent(word: &str) -> Option<u32> {
    let digits = word.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|percent| *percent <= Weight::MOST_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_haproxy_says() {
        for (line, share) in [
            ("up", None),
            ("ready", Some(100)),
            ("75%", Some(75)),
            ("up 0%", Some(0)),
            ("UP,\t50%,maxconn:30 # half", Some(50)),
            ("drain", Some(0)),
            ("maint", Some(0)),
        ] {
            assert_eq!(read(line.as_bytes()).unwrap(), share, "{line}");
        }
        for line in ["down", "failed #disk", "stopped", "75", "%", "+5%", "1001%", "99999999999%", "hello", "up down"] {
            assert!(matches!(read(line.as_bytes()), Err(Failure::Agent(_))), "{line}");
        }
        assert!(matches!(read(b"# nothing"), Err(Failure::Closed)));
    }

    #[test]
    fn a_line_cut_at_any_byte_is_not_read_before_its_end() {
        let line = b"up 75%\n";
        for length in 0..line.len() {
            assert_eq!(whole_line(&line[..length], false), None, "{length} bytes");
        }
        assert_eq!(whole_line(line, false), Some(&b"up 75%"[..]));
        assert_eq!(whole_line(b"up 7", true), Some(&b"up 7"[..]));
        assert!(whole_line(&[b'x'; LONGEST], false).is_some());
    }
}
