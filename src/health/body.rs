//! The body of an HTTP answer, taken out of its framing (RFC 9112, section 6) and searched, as far as it is read.

use super::Failure;

/// Bytes of a body that are searched.
pub const SEARCHED: usize = 64 << 10;

/// A body that comes in pieces.
#[derive(Debug)]
pub(super) struct Body {
    framing: Framing,
    bytes: Vec<u8>,
    /// Where the next search begins.
    searched: usize,
}

#[derive(Debug)]
enum Framing {
    /// So many bytes are still to come; until the connection is closed where nothing says how many.
    Plain(usize),
    /// So many bytes of the chunk and the line end behind it; 0: a chunk's size comes.
    Chunked { left: usize },
}

impl Body {
    /// As the head says.
    pub(super) fn of(headers: &[httparse::Header<'_>]) -> Self {
        let value = |name: &str| {
            let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok().map(str::trim)
        };
        let chunked = value("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().ends_with("chunked"));
        let length = || value("content-length").and_then(|length| length.parse().ok()).unwrap_or(usize::MAX);
        let framing = if chunked { Framing::Chunked { left: 0 } } else { Framing::Plain(length()) };
        Self { framing, bytes: Vec::new(), searched: 0 }
    }

    /// Takes what has come. Whether that was all, or all that is searched.
    pub(super) fn take(&mut self, raw: &mut Vec<u8>) -> Result<bool, Failure> {
        let ended = match &mut self.framing {
            Framing::Plain(left) => {
                let length = raw.len().min(*left);
                self.bytes.extend(raw.drain(..length));
                *left -= length;
                *left == 0
            }
            Framing::Chunked { left } => take_chunks(left, raw, &mut self.bytes)?,
        };
        Ok(ended || self.bytes.len() >= SEARCHED)
    }

    /// Whether it has these bytes.
    pub(super) fn find(&mut self, wanted: &[u8]) -> bool {
        let found = self.bytes[self.searched..].windows(wanted.len().max(1)).any(|window| window == wanted);
        self.searched = (self.bytes.len() + 1).saturating_sub(wanted.len().max(1)).min(self.bytes.len());
        found
    }
}

/// Whether the last chunk was met.
fn take_chunks(left: &mut usize, raw: &mut Vec<u8>, bytes: &mut Vec<u8>) -> Result<bool, Failure> {
    const MALFORMED: Failure = Failure::NotHttp("a chunk of its body is malformed");
    loop {
        if *left > 0 {
            // Its last two bytes are the line end.
            let data = raw.len().min(left.saturating_sub(2));
            bytes.extend_from_slice(&raw[..data]);
            let taken = raw.len().min(*left);
            raw.drain(..taken);
            *left -= taken;
            if *left > 0 {
                return Ok(false);
            }
        }
        match httparse::parse_chunk_size(raw) {
            Ok(httparse::Status::Complete((_, 0))) => return Ok(true),
            Ok(httparse::Status::Complete((line, size))) => {
                raw.drain(..line);
                *left = usize::try_from(size).ok().and_then(|size| size.checked_add(2)).ok_or(MALFORMED)?;
            }
            Ok(httparse::Status::Partial) if raw.len() <= SEARCHED => return Ok(false),
            _ => return Err(MALFORMED),
        }
    }
}
