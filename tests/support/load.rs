//! A steady load of short HTTP connections, each outcome kept with the moment it was known.

use super::namespace::Namespace;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest that a request may take unless a test says otherwise, connecting and reading each.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause of one client between two requests: enough load to notice anything, little enough to leave the machine some air.
const PAUSE: Duration = Duration::from_millis(2);

/// How one request ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// When it began.
    pub begun: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Who answered, or what went wrong.
    pub result: Result<String, String>,
}

/// Clients that request `/name` over and over until stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts this many clients against each of `targets`.
    pub fn start(from: &Namespace, targets: &[SocketAddr], clients: usize) -> Self {
        Self::with_patience(from, targets, clients, PATIENCE)
    }

    /// The same with clients that give up sooner or later. A short patience keeps requests coming while nobody serves: TCP by itself
    /// pauses for 1, 2, 4, ... seconds between two SYNs.
    pub fn with_patience(from: &Namespace, targets: &[SocketAddr], clients: usize, patience: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let clients = targets
            .iter()
            .flat_map(|target| std::iter::repeat_n(*target, clients))
            .map(|target| {
                let (stop, outcomes) = (Arc::clone(&stop), Arc::clone(&outcomes));
                from.spawn(move || {
                    // Relaxed: the flag is the whole message.
                    while !stop.load(Relaxed) {
                        let begun = Instant::now();
                        let result = request(target, patience).map_err(|error| format!("{target}: {error}"));
                        outcomes.lock().expect("outcomes").push(Outcome { begun, ended: Instant::now(), result });
                        std::thread::sleep(PAUSE);
                    }
                })
            })
            .collect();
        Self { stop, outcomes, clients }
    }

    /// What happened so far.
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.outcomes.lock().expect("outcomes").clone()
    }

    /// Waits until this many more requests have ended.
    #[track_caller]
    pub fn wait_for(&self, more: usize) {
        let wanted = self.outcomes.lock().expect("outcomes").len() + more;
        let what = format!("{more} more requests");
        super::wait_until(&what, Duration::from_secs(60), || {
            (self.outcomes.lock().expect("outcomes").len() >= wanted).then_some(())
        });
    }

    /// Waits for the last requests and returns everything that happened.
    pub fn stop(mut self) -> Vec<Outcome> {
        self.end();
        self.outcomes()
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked has left fewer outcomes; the test counts them.
            let _ = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// Who answered how often.
pub fn answers<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> BTreeMap<&'a str, u32> {
    let mut counts = BTreeMap::new();
    for name in outcomes.into_iter().filter_map(|outcome| outcome.result.as_deref().ok()) {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// What went wrong.
pub fn failures<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Vec<&'a str> {
    outcomes.into_iter().filter_map(|outcome| outcome.result.as_ref().err().map(String::as_str)).collect()
}

fn request(target: SocketAddr, patience: Duration) -> Result<String, String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let mut stream = TcpStream::connect_timeout(&target, patience).map_err(|error| failed("connect", error))?;
    stream.set_read_timeout(Some(patience)).map_err(|error| failed("timeout", error))?;
    stream.write_all(b"GET /name HTTP/1.0\r\n\r\n").map_err(|error| failed("send", error))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| failed("receive", error))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer:?}"))?;
    if head.starts_with("HTTP/1.1 200") { Ok(body.trim().to_owned()) } else { Err(format!("not 200: {head}")) }
}
