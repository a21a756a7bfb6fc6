//! The daemon's end: one thread a client, few of them, every wait bounded.

use super::{Answer, Request};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Who knows the answers. Asked by several threads at once.
pub trait Desk: Send + Sync + 'static {
    /// Says every line of the answer; stops when that fails, for then the client is gone.
    ///
    /// # Errors
    /// Those of `output`.
    fn answer(&self, request: Request, output: &mut Output<'_>) -> io::Result<()>;
}

/// Where an answer goes.
#[derive(Debug)]
pub struct Output<'a>(BufWriter<&'a UnixStream>);

impl Output<'_> {
    /// One line.
    ///
    /// # Errors
    /// When the client is gone or takes nothing off.
    pub fn say(&mut self, answer: &Answer) -> io::Result<()> {
        write_line(&mut self.0, answer)
    }

    /// What was said goes out now; at the end of an answer that happens by itself.
    ///
    /// # Errors
    /// As [`Output::say`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What a client may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Clients at once; the next one is told so and turned away.
    pub clients: usize,
    /// Bytes of a request.
    pub request: usize,
    /// For a request to arrive whole, and for each write to be taken off.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clients: 16, request: 32 << 20, patience: Duration::from_secs(10) }
    }
}

/// Serves accepted connections.
pub struct Server {
    desk: Arc<dyn Desk>,
    limits: Limits,
    /// `Relaxed`: a number alone, it guards no memory.
    clients: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("limits", &self.limits).field("clients", &self.clients).finish_non_exhaustive()
    }
}

impl Server {
    /// A server without clients.
    pub fn new(desk: Arc<dyn Desk>, limits: Limits) -> Self {
        Self { desk, limits, clients: Arc::default() }
    }

    /// Clients that are connected now.
    pub fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// Takes a client on, on a thread of its own; never waits.
    ///
    /// # Errors
    /// When the client was turned away because there are too many, or no thread could be made.
    pub fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let seat = Seat::take(&self.clients);
        if seat.number > self.limits.clients {
            return turn_away(&stream);
        }
        let (desk, limits) = (Arc::clone(&self.desk), self.limits);
        thread::Builder::new().name("weir-admin".into()).spawn(move || {
            let _seat = seat;
            // A client that leaves or is too slow is no event: it only loses its connection.
            let _ = converse(&*desk, &stream, limits);
        })?;
        Ok(())
    }
}

/// A client's place, free again when dropped.
struct Seat {
    clients: Arc<AtomicUsize>,
    number: usize,
}

impl Seat {
    fn take(clients: &Arc<AtomicUsize>) -> Self {
        Self { number: clients.fetch_add(1, Relaxed) + 1, clients: Arc::clone(clients) }
    }
}

impl std::ops::Drop for Seat {
    fn drop(&mut self) {
        self.clients.fetch_sub(1, Relaxed);
    }
}

fn turn_away(stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    write_line(&mut &*stream, &refusal("too many clients at the admin socket"))?;
    Err(io::Error::other("too many clients at the admin socket, one was turned away"))
}

fn refusal(message: &str) -> Answer {
    Answer::Error { message: message.to_owned() }
}

fn converse(desk: &dyn Desk, stream: &UnixStream, limits: Limits) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(limits.patience))?;
    let mut input = Lines { stream, bytes: Vec::new(), limits };
    let mut output = Output(BufWriter::with_capacity(64 * 1024, stream));
    while let Some(line) = input.next()? {
        match parse(&line) {
            Ok(request) => desk.answer(request, &mut output)?,
            Err(message) => output.say(&refusal(&message))?,
        }
        output.flush()?;
    }
    Ok(())
}

fn parse(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))
}

fn write_line(output: &mut impl Write, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *output, answer)?;
    output.write_all(b"\n")
}

/// Reads lines of bounded length, each within a bounded time.
struct Lines<'a> {
    stream: &'a UnixStream,
    bytes: Vec<u8>,
    limits: Limits,
}

impl Lines<'_> {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + self.limits.patience;
        let mut searched = 0;
        loop {
            if let Some(end) = self.bytes[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(searched + end + 1);
                return Ok(Some(std::mem::replace(&mut self.bytes, rest)));
            }
            searched = self.bytes.len();
            if searched >= self.limits.request {
                write_line(&mut self.stream, &refusal(&format!("the request is longer than {} bytes", self.limits.request)))?;
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !self.fill(deadline)? {
                return Ok(None);
            }
        }
    }

    /// `false`: the client has nothing more to say.
    fn fill(&mut self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 4096];
        let length = self.stream.read(&mut chunk)?;
        self.bytes.extend_from_slice(&chunk[..length]);
        Ok(length > 0)
    }
}
