//! `weir bench health`: what probing many backends costs the control thread, and whether expiry waits for it.
//!
//! The backends are addresses of 127.0.0.0/8, all served by two threads of this process, over real TCP connections. A thread does what the
//! control thread does: it waits in poll, starts and follows probes, and sweeps a connection table. Its share of a core is its own CPU
//! time, which has the kernel's work for both ends of the loopback interface in it: more than probes of other machines cost.

use super::flows::datapath;
use super::shape::Shape;
use crate::control::Expiry;
use crate::datapath::Datapath;
use crate::health::{Checker, Http, Probe, Settings, Start, StatusSet, Target, Tls, Trust};
use crate::service::BackendId;
use crate::worker::Monotonic;
use clap::Args;
use hdrhistogram::Histogram;
use mio::{Events, Poll};
use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::Serialize;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What probes cost the control thread
#[derive(Debug, Args)]
pub(super) struct HealthBench {
    /// Backends, each probed once an interval.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u16).range(1..))]
    backends: u16,
    /// From one probe of a backend to the next, in milliseconds.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    interval: u64,
    /// Seconds of each part.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Room in the connection table that is swept beside it.
    #[arg(long, default_value = "1M", value_parser = super::parse_count)]
    connections: usize,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    probe: &'static str,
    probes_per_second: f64,
    passed_percent: f64,
    /// Share of its core that the thread needs.
    core_percent: f64,
    /// Share of TLS handshakes in which the server showed its certificate, where there were any; the others resumed a session.
    whole_percent: Option<f64>,
    /// By how many microseconds the sweep began after it was due.
    late_p50: u64,
    late_p99: u64,
    late_max: u64,
}

/// Probes that are started or given up between two looks at everything else, as the daemon does.
const A_TURN: usize = 64;

impl HealthBench {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut all = Vec::new();
        for (name, probe, port) in parts()? {
            all.push(self.measure(name, probe, port)?);
        }
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(&all)?)?);
        }
        writeln!(out, "{} backends, each probed every {} ms\n", self.backends, self.interval)?;
        writeln!(out, "PROBE  PROBES/S  PASSED  CORE    WHOLE HANDSHAKES     EXPIRY LATE BY µs: p50  p99    max")?;
        for figures in &all {
            let Figures { probe, probes_per_second, passed_percent, core_percent, whole_percent, late_p50, late_p99, late_max } =
                figures;
            let whole = whole_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1} %"));
            writeln!(
                out,
                "{probe:<6} {probes_per_second:<9.0} {passed_percent:>5.1} % {core_percent:>5.2} % {whole:>16} {late_p50:>22} {late_p99:>5} {late_max:>6}"
            )?;
        }
        Ok(())
    }

    fn targets(&self, probe: &Probe, port: u16) -> Vec<Target> {
        let interval = Duration::from_millis(self.interval);
        let settings = Settings {
            probe: probe.clone(),
            interval,
            jitter: Duration::ZERO,
            timeout: interval,
            rise: 1,
            fall: 1,
            start: Start::Down,
            port: None,
        };
        let settings = Arc::new(settings);
        let address = |id: u16| SocketAddr::new(Ipv4Addr::from_bits(0x7f01_0000 + u32::from(id)).into(), port);
        (0..self.backends)
            .map(|id| Target { backend: BackendId(id), address: address(id), settings: Arc::clone(&settings) })
            .collect()
    }

    fn measure(&self, name: &'static str, probe: Option<Probe>, port: u16) -> anyhow::Result<Figures> {
        let mut part = self.part(probe.as_ref(), port)?;
        // First every backend has its turn: then they are spread as they stay.
        let from = part.began.0 + self.interval * 2_000_000;
        part.run(|_, now| now.0 >= from, from)?;
        part.late.reset();
        let (cpu, started, before) = (cpu_time(), part.checker.probes(), part.checker.tls_handshakes());
        let until = from + self.seconds * 1_000_000_000;
        part.run(|_, now| now.0 >= until, until)?;
        let (seconds, after) = (self.seconds as f64, part.checker.tls_handshakes());
        let (whole, resumed) = (after.whole - before.whole, after.resumed - before.resumed);
        Ok(Figures {
            probe: name,
            probes_per_second: (part.checker.probes() - started) as f64 / seconds,
            passed_percent: if probe.is_some() { part.passing() as f64 * 100.0 / f64::from(self.backends) } else { 100.0 },
            core_percent: (cpu_time() - cpu).as_secs_f64() * 100.0 / seconds,
            whole_percent: (whole + resumed > 0).then(|| whole as f64 * 100.0 / (whole + resumed) as f64),
            late_p50: part.late.value_at_quantile(0.5),
            late_p99: part.late.value_at_quantile(0.99),
            late_max: part.late.max(),
        })
    }

    /// A thread's work, about to begin.
    fn part(&self, probe: Option<&Probe>, port: u16) -> anyhow::Result<Part> {
        let poll = Poll::new()?;
        let mut checker = Checker::new(poll.registry().try_clone()?, 0..usize::from(self.backends));
        let targets = probe.into_iter().flat_map(|probe| self.targets(probe, port)).collect();
        let datapath = datapath(Shape::default(), self.connections)?;
        let began = Monotonic::now();
        checker.update(targets, HashSet::new(), Duration::from_nanos(began.0));
        let (expiry, late) = (Expiry::new(began), Histogram::new_with_bounds(1, 60_000_000, 3)?);
        Ok(Part { poll, checker, datapath, expiry, late, began, backends: self.backends })
    }
}

/// Probes, by name and with the port that they go to.
type Parts = [(&'static str, Option<Probe>, u16); 4];

fn parts() -> anyhow::Result<Parts> {
    let (plain, sealed) = (serve(None)?, serve(Some(any_identity()?))?);
    let http = |tls| {
        let header = Some(("X-Ready".to_owned(), None));
        let (path, status, body) = ("/".to_owned(), StatusSet::default(), Some("well".to_owned()));
        Some(Probe::Http(Box::new(Http { path, host: None, status, header, body, tls })))
    };
    let anybody = Some(Tls { name: None, trust: Trust::Anybody, full_handshake: Tls::DEFAULT_FULL_HANDSHAKE });
    Ok([("none", None, plain), ("tcp", Some(Probe::Tcp), plain), ("http", http(None), plain), ("https", http(anybody), sealed)])
}

/// What the control thread does, in small.
struct Part {
    poll: Poll,
    checker: Checker,
    datapath: Datapath,
    expiry: Expiry,
    /// By how many microseconds the sweep began after it was due.
    late: Histogram<u64>,
    began: Monotonic,
    backends: u16,
}

impl Part {
    /// Probes and sweeps until it is over; that is asked again at `wake` at the latest, in nanoseconds of the clock.
    fn run(&mut self, is_over: impl Fn(&Self, Monotonic) -> bool, wake: u64) -> io::Result<()> {
        let timeouts = self.datapath.snapshot.load().timeouts.clone();
        let mut events = Events::with_capacity(64);
        loop {
            let now = Monotonic::now();
            if is_over(self, now) {
                return Ok(());
            }
            let deadline = self.checker.next_deadline().map_or(u64::MAX, |next| next.as_nanos() as u64);
            let next = deadline.min(self.expiry.next().0).min(wake);
            match self.poll.poll(&mut events, Some(Duration::from_nanos(next.saturating_sub(now.0)))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                self.checker.ready(event);
            }
            let now = Monotonic::now();
            if now >= self.expiry.next() {
                self.late.saturating_record(now.nanos_since(self.expiry.next()) / 1000);
            }
            let conntrack = &self.datapath.conntrack;
            let sweep = |budget, now: Monotonic| conntrack.sweep(now.millis(), &timeouts, budget, &mut |_| {});
            self.expiry.run(Monotonic::now, sweep, || conntrack.free_swept());
            self.checker.tick(Duration::from_nanos(Monotonic::now().0), A_TURN);
        }
    }

    /// Backends whose probes pass.
    fn passing(&self) -> usize {
        (0..self.backends).filter(|id| self.checker.look(BackendId(*id)).is_some_and(|(up, _)| up)).count()
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Answers on every address of the loopback interface, over TLS or not, until the process ends. At which port.
fn serve(tls: Option<Arc<ServerConfig>>) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    for _ in 0..2 {
        let (listener, tls) = (listener.try_clone()?, tls.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A tcp probe resets the connection: then there is nothing to answer.
                let _ = match &tls {
                    None => answer(stream),
                    Some(config) => ServerConnection::new(Arc::clone(config))
                        .map_err(io::Error::other)
                        .and_then(|session| answer(StreamOwned::new(session, stream))),
                };
            }
        });
    }
    Ok(port)
}

fn answer(mut stream: impl Read + Write) -> io::Result<()> {
    let mut request = [0; 1024];
    if stream.read(&mut request)? > 0 {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX-Ready: 1\r\nContent-Length: 11\r\n\r\nall is well")?;
    }
    stream.flush()
}

/// A server with a certificate that nobody has signed and a key of its own (P-256), made for this run.
fn any_identity() -> anyhow::Result<Arc<ServerConfig>> {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["weir bench".to_owned()])?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_single_cert(vec![cert.der().clone()], key)?;
    // As nginx does unless told otherwise: it keeps nothing, its clients keep tickets.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is fast enough is for a quiet machine to say; here it is enough that it happens.
    #[test]
    fn every_backend_is_probed_and_passes() {
        let bench = HealthBench { backends: 20, interval: 30_000, seconds: 2, connections: 1000, json: false };
        for (name, probe, port) in parts().unwrap() {
            let mut part = bench.part(probe.as_ref(), port).unwrap();
            let (everybody, most) = (if probe.is_some() { 20 } else { 0 }, part.began.0 + 60_000_000_000);
            part.run(|part, now| part.passing() == everybody || now.0 >= most, most).unwrap();
            assert_eq!(part.passing(), everybody, "{name}");
            let whole = if name == "https" { 20 } else { 0 };
            assert_eq!((part.checker.tls_handshakes().whole, part.checker.tls_handshakes().resumed), (whole, 0), "{name}");
        }
    }

    #[test]
    fn most_handshakes_resume_a_session() {
        let bench = HealthBench { backends: 4, interval: 100, seconds: 2, connections: 1000, json: false };
        let [.., (_, probe, port)] = parts().unwrap();
        let mut part = bench.part(probe.as_ref(), port).unwrap();
        let most = part.began.0 + 60_000_000_000;
        let resumed = |part: &Part| part.checker.tls_handshakes().resumed;
        part.run(|part, now| resumed(part) >= 40 || now.0 >= most, most).unwrap();
        assert!(resumed(&part) >= 40, "{:?}", part.checker.tls_handshakes());
    }

    #[test]
    fn figures_have_a_line_for_each_probe() {
        let bench = HealthBench { backends: 5, interval: 100, seconds: 2, connections: 1000, json: false };
        let mut out = Vec::new();
        bench.run(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text.lines().skip(3).map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(),
            ["none", "tcp", "http", "https"]
        );
    }
}
