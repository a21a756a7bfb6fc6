//! The probes `type = "http"` and `"https"`: GET, and the answer's status decides, its header and its body where they are asked for. What
//! is not asked for is not waited for.

use super::body::Body;
use super::settings::Http;
use super::tls::Wire;
use super::{Failure, is_passing};
use mio::event::Event;
use std::net::SocketAddr;

/// Bytes of the answer in which its head must be; interim answers (RFC 9110, section 15.2) count too.
const LONGEST_HEAD: usize = 16 << 10;
/// Headers of one answer.
const HEADERS: usize = 64;

/// One request and its answer, as far as they have come.
#[derive(Debug)]
pub(super) struct Exchange {
    request: Vec<u8>,
    sent: usize,
    /// What was not understood yet.
    answer: Vec<u8>,
    body: Option<Body>,
}

/// What the head of an answer says.
enum Head {
    /// Not all of what is asked for is there yet.
    Partial,
    /// It is good, and nothing else is asked for.
    Good,
    /// It is good, and the body decides.
    Undecided(Body),
}

impl Exchange {
    /// Nothing sent yet.
    pub(super) fn new(http: &Http, address: SocketAddr) -> Self {
        let host = http.host.clone().unwrap_or_else(|| address.to_string());
        let (path, version) = (&http.path, env!("CARGO_PKG_VERSION"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        Self { request: request.into_bytes(), sent: 0, answer: Vec::new(), body: None }
    }

    /// After an event: goes on until the socket would block. `Some` when the probe is over.
    pub(super) fn advance(&mut self, wire: &mut Wire, http: &Http, event: &Event) -> Option<Result<(), Failure>> {
        self.try_advance(wire, http, event).transpose()
    }

    fn try_advance(&mut self, wire: &mut Wire, http: &Http, event: &Event) -> Result<Option<()>, Failure> {
        if !wire.connection.is_established()? {
            return Ok(None);
        }
        wire.heed(event);
        let has_sent = self.sent < self.request.len();
        if !self.send(wire)? {
            return Ok(None);
        }
        // What comes from now on is another event: asking at once would be in vain.
        if has_sent && wire.is_plain() && !event.is_readable() {
            return Ok(None);
        }
        let mut buffer = [0; 4096];
        loop {
            match wire.read(&mut buffer) {
                Ok(0) if self.body.is_some() => return Err(Failure::Body(http.body.clone().unwrap_or_default())),
                Ok(0) => return Err(Failure::Closed),
                Ok(length) => self.answer.extend_from_slice(&buffer[..length]),
                Err(error) if is_passing(&error) => return Ok(None),
                Err(error) => return Err(wire.failure(error)),
            }
            if self.judge(http)? {
                return Ok(Some(()));
            }
        }
    }

    /// Whether the whole request is on its way.
    fn send(&mut self, wire: &mut Wire) -> Result<bool, Failure> {
        while self.sent < self.request.len() {
            match wire.write(&self.request[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if is_passing(&error) => return Ok(false),
                Err(error) => return Err(wire.failure(error)),
            }
        }
        Ok(true)
    }

    /// Whether enough has come, and all of it is good.
    fn judge(&mut self, http: &Http) -> Result<bool, Failure> {
        if self.body.is_none() {
            match read_head(&mut self.answer, http)? {
                Head::Partial => return Ok(false),
                Head::Good => return Ok(true),
                Head::Undecided(body) => self.body = Some(body),
            }
        }
        let (Some(body), Some(wanted)) = (&mut self.body, &http.body) else { return Ok(true) };
        let is_over = body.take(&mut self.answer)?;
        match body.find(wanted.as_bytes()) {
            true => Ok(true),
            false if is_over => Err(Failure::Body(wanted.clone())),
            false => Ok(false),
        }
    }
}

/// Judges the head of the final answer. Interim answers before it are taken off, and so is the head where the body decides.
fn read_head(answer: &mut Vec<u8>, http: &Http) -> Result<Head, Failure> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(answer);
        // The status of a line that is not over may not be all of it.
        let line_is_over = answer.trim_ascii_start().contains(&b'\n');
        match (response.code.filter(|_| line_is_over), parsed) {
            (Some(status), Ok(_) | Err(httparse::Error::TooManyHeaders)) if status >= 200 && !http.status.contains(status) => {
                return Err(Failure::Status(status));
            }
            // The status line could be read; more headers than fit here may follow.
            (Some(200..), Ok(_) | Err(httparse::Error::TooManyHeaders)) if http.header.is_none() && http.body.is_none() => {
                return Ok(Head::Good);
            }
            (Some(200..), Ok(httparse::Status::Complete(length))) => {
                check_header(response.headers, http)?;
                if http.body.is_none() {
                    return Ok(Head::Good);
                }
                let body = Body::of(response.headers);
                answer.drain(..length);
                return Ok(Head::Undecided(body));
            }
            (Some(_), Ok(httparse::Status::Complete(length))) => drop(answer.drain(..length)),
            (_, Ok(_)) if answer.len() > LONGEST_HEAD => return Err(Failure::NotHttp("no head in 16 KiB")),
            (_, Ok(_)) => return Ok(Head::Partial),
            (_, Err(error)) => return Err(Failure::NotHttp(describe(error))),
        }
    }
}

fn check_header(headers: &[httparse::Header<'_>], http: &Http) -> Result<(), Failure> {
    let Some((name, wanted)) = &http.header else { return Ok(()) };
    let fits = |header: &httparse::Header<'_>| {
        header.name.eq_ignore_ascii_case(name)
            && wanted.as_ref().is_none_or(|wanted| header.value.trim_ascii() == wanted.as_bytes())
    };
    match headers.iter().any(fits) {
        true => Ok(()),
        false => Err(Failure::Header(wanted.as_ref().map_or_else(|| name.clone(), |wanted| format!("{name}: {wanted}")))),
    }
}

fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::Version => "it does not begin with HTTP/1",
        httparse::Error::Status => "its status is not one",
        httparse::Error::TooManyHeaders => "more than 64 headers",
        _ => "its head is malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::StatusSet;

    fn http() -> Http {
        Http { path: "/".into(), host: None, status: StatusSet::parse("200-599").unwrap(), header: None, body: None, tls: None }
    }

    /// How a probe is judged that gets this answer in pieces of `size` bytes, and then nothing more. `None`: it waits.
    fn judged(answer: &[u8], size: usize, http: &Http) -> Option<Result<(), String>> {
        let mut exchange = Exchange::new(http, "10.0.0.1:80".parse().unwrap());
        for piece in answer.chunks(size) {
            exchange.answer.extend_from_slice(piece);
            match exchange.judge(http) {
                Ok(false) => {}
                other => return Some(other.map(drop).map_err(|failure| failure.to_string())),
            }
        }
        None
    }

    fn judge(answer: &str) -> Option<Result<(), String>> {
        judged(answer.as_bytes(), usize::MAX, &http())
    }

    #[test]
    fn the_status_line_is_enough_where_nothing_else_is_asked_for() {
        assert_eq!(judge(""), None);
        assert_eq!(judge("HTTP/1.1 20"), None);
        assert_eq!((judge("HTTP/1.1 200"), judge("HTTP/1.1 200 OK"), judge("\r\nHTTP/1.1 200 OK")), (None, None, None));
        assert_eq!(judge("HTTP/1.1 204 No Content\r\n"), Some(Ok(())));
        assert_eq!(judge("HTTP/1.0 503 Service Unavailable\r\nServer: x\r\n\r\nsorry"), Some(Ok(())));
        let many = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(HEADERS + 1));
        assert_eq!(judge(&many), Some(Ok(())));
        let good = Http { status: StatusSet::parse("200").unwrap(), ..http() };
        assert_eq!(judged(b"HTTP/1.1 404 Not\r\n", 99, &good), Some(Err("answered with status 404".to_owned())));
    }

    #[test]
    fn interim_answers_are_not_the_answer() {
        assert_eq!(judge("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), None);
        assert_eq!(judge("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"), Some(Ok(())));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for answer in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 2xx Fine\r\n", "\u{16}\u{3}\u{1}"] {
            assert!(judge(answer).is_some_and(|judged| judged.is_err()), "{answer}");
        }
        assert!(judge(&format!("HTTP/1.1 100 {}", "x".repeat(LONGEST_HEAD))).is_some_and(|judged| judged.is_err()));
    }

    #[test]
    fn the_header_must_be_there() {
        let answer = b"HTTP/1.1 200 OK\r\nx-state:  ready \r\nX-Other: 1\r\n\r\n";
        let with = |name: &str, value: Option<&str>| {
            judged(answer, 7, &Http { header: Some((name.to_owned(), value.map(str::to_owned))), ..http() })
        };
        assert_eq!(with("X-State", Some("ready")), Some(Ok(())));
        assert_eq!(with("X-Other", None), Some(Ok(())));
        assert_eq!(with("X-State", Some("read")), Some(Err("answered without the header `X-State: read`".to_owned())));
        assert_eq!(with("X-None", None), Some(Err("answered without the header `X-None`".to_owned())));
    }

    #[test]
    fn the_body_must_have_it_however_it_is_framed_and_cut() {
        let wanted = Http { body: Some("all is well".into()), ..http() };
        let refused = Some(Err("answered without \"all is well\" in the body".to_owned()));
        for (head, body, expected) in [
            ("Content-Length: 13\r\n", "! all is well", Some(Ok(()))),
            ("Content-Length: 5\r\n", "! all is well", refused.clone()),
            ("Transfer-Encoding: chunked\r\n", "5\r\nall i\r\n6;x=y\r\ns well\r\n0\r\n\r\n", Some(Ok(()))),
            ("Transfer-Encoding: chunked\r\n", "5\r\nall i\r\n0\r\n\r\n", refused),
            ("", "so far all is wel", None),
            ("", "so far all is well", Some(Ok(()))),
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
            for size in 1..=answer.len() {
                assert_eq!(judged(answer.as_bytes(), size, &wanted), expected, "{answer:?} in pieces of {size}");
            }
        }
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
        let malformed = "the answer is not HTTP: a chunk of its body is malformed";
        assert_eq!(judged(chunks, 99, &wanted), Some(Err(malformed.to_owned())));
    }

    #[test]
    fn a_cut_answer_never_passes_nor_fails() {
        let wanted = Http { body: Some("ok".into()), header: Some(("A".into(), None)), ..http() };
        let answer = b"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n-ok\r\n0\r\n\r\n";
        let needed = answer.windows(2).position(|window| window == b"ok").unwrap() + 2;
        for length in 0..needed {
            assert_eq!(judged(&answer[..length], 3, &wanted), None, "{length} bytes");
        }
        assert_eq!(judged(&answer[..needed], 3, &wanted), Some(Ok(())));
    }
}
