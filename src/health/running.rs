//! A probe under way, of any type.

use super::agent::Report;
use super::connection::{Connection, Way};
use super::datagram::Question;
use super::exec::Script;
use super::http::Exchange;
use super::tls::{self, Wire};
use super::{Failure, Probe, Target, dns, icmp, tcp, udp};
use mio::event::Event;
use mio::{Registry, Token};
use rustls::{ClientConfig, HandshakeKind};
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// How a probe ended. One that passed may have told which percentage of its weight the backend asks for.
pub(super) type Outcome = Result<Option<u32>, Failure>;

/// What probes need besides their target.
#[derive(Debug)]
pub(super) struct Means<'a> {
    pub(super) registry: &'a Registry,
    /// Under which readiness is told.
    pub(super) token: Token,
    /// To this backend.
    pub(super) way: Way,
    /// Addresses from which no probe may come.
    pub(super) own: &'a HashSet<IpAddr>,
    /// How to speak to it over TLS; there if its settings say so.
    pub(super) client: Option<Arc<ClientConfig>>,
    /// Another number for each probe, not to be guessed.
    pub(super) random: u64,
}

/// What was sent, and what has come of it so far.
#[derive(Debug)]
pub(super) enum Running {
    Tcp(Connection),
    Http(Wire, Box<Exchange>),
    Udp(Question),
    Dns(Question, u16),
    Icmp(Question, icmp::Mark),
    Exec(Script),
    Agent(Report),
}

impl Running {
    /// Sends what is to be sent.
    pub(super) fn start(target: &Target, means: &Means<'_>) -> Result<Self, Failure> {
        let (registry, token, address) = (means.registry, means.token, target.address);
        let is_own = |address: &IpAddr| means.own.contains(address);
        let connect = || Connection::start(registry, token, (address, means.way), is_own);
        Ok(match &target.settings.probe {
            Probe::Tcp => Self::Tcp(connect()?),
            Probe::Http(http) => {
                let config = || means.client.clone().ok_or_else(|| Failure::Local(io::Error::other("not ready")));
                let session = http.tls.as_ref().map(|tls| tls::connection(config()?, tls, address.ip())).transpose()?;
                Self::Http(Wire::new(connect()?, session), Box::new(Exchange::new(http, address)))
            }
            Probe::Udp { send, .. } => Self::Udp(Question::ask(registry, token, address, is_own, send)?),
            Probe::Dns(dns) => {
                let id = means.random as u16;
                Self::Dns(Question::ask(registry, token, address, is_own, &dns::query(dns, id))?, id)
            }
            Probe::Icmp => {
                let mut mark = [0; 12];
                mark[..8].copy_from_slice(&means.random.to_be_bytes());
                mark[8..].copy_from_slice(b"weir");
                let request = icmp::request(address.ip(), mark);
                Self::Icmp(Question::ask_icmp(registry, token, address.ip(), is_own, &request)?, mark)
            }
            Probe::Exec { command } => Self::Exec(Script::start(registry, token, command, address)?),
            Probe::Agent => Self::Agent(Report::new(Wire::new(connect()?, None))),
        })
    }

    /// After an event: `Some` when the probe is over.
    pub(super) fn advance(&mut self, target: &Target, event: &Event) -> Option<Outcome> {
        let passed = |result: Result<(), Failure>| result.map(|()| None);
        match (self, &target.settings.probe) {
            (Self::Tcp(connection), _) => tcp::advance(connection).map(passed),
            (Self::Http(wire, exchange), Probe::Http(http)) => exchange.advance(wire, http, event).map(passed),
            (Self::Udp(question), Probe::Udp { expect, .. }) => udp::advance(question, expect.as_deref()).map(passed),
            (Self::Dns(question, id), Probe::Dns(dns)) => question.answers(|answer| dns::judge(answer, dns, *id)).map(passed),
            (Self::Icmp(question, mark), _) => icmp::advance(question, target.address.ip(), *mark).map(passed),
            (Self::Exec(script), _) => script.advance().map(passed),
            (Self::Agent(report), _) => report.advance(),
            // Nobody changes the type of a probe under way.
            _ => None,
        }
    }

    /// How its TLS handshake went, once the server has said.
    pub(super) fn handshake(&self) -> Option<HandshakeKind> {
        match self {
            Self::Http(wire, _) => wire.handshake(),
            _ => None,
        }
    }

    /// It has taken as long as it may.
    pub(super) fn give_up(&self, probe: &Probe) -> Outcome {
        let awaited = match self {
            // Silence is as good as an answer where none is expected.
            Self::Udp(_) if matches!(probe, Probe::Udp { expect: None, .. }) => return Ok(None),
            Self::Tcp(connection) => connection.awaited(),
            Self::Http(wire, _) => wire.awaited(),
            Self::Agent(report) => report.wire().awaited(),
            Self::Exec(_) => "end of the script",
            Self::Udp(_) | Self::Dns(..) | Self::Icmp(..) => "answer",
        };
        Err(Failure::Timeout(awaited))
    }

    /// Ends it. What is given back was killed and is to be asked for its end.
    pub(super) fn end(self) -> Option<Script> {
        match self {
            Self::Tcp(connection) => connection.reset(),
            Self::Http(wire, _) => wire.connection.reset(),
            Self::Agent(report) => report.into_wire().connection.reset(),
            Self::Udp(_) | Self::Dns(..) | Self::Icmp(..) => {}
            Self::Exec(mut script) => {
                script.kill();
                return script.reap().is_none().then_some(script);
            }
        }
        None
    }
}
