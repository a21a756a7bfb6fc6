//! Who answers at the admin socket.
//!
//! Walks of the connection table are done on the client's own thread, since the table is shared and a walk of millions takes long;
//! everything else is asked of the control thread, which alone knows the rest.

use super::wall_clock::WallClock;
use super::{audience, effects, top};
use crate::admin::{self, Answer, BadFilter, Connection, ConnectionFilter, Desk, Flow, Output, Request};
use crate::config::Config;
use crate::conntrack::{AccountView, ConnectionView, DestroyReason, Expectation, Millis, TupleView};
use crate::datapath::Datapath;
use crate::service::{Protocol, Snapshot};
use crate::worker::Monotonic;
use arc_swap::ArcSwap;
use mio::Waker;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// The control thread answers between two events; a reload that waits for the kernel takes longest.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request for the control thread.
#[derive(Debug)]
pub(super) struct Question {
    /// What is asked.
    pub(super) request: Request,
    /// Where the answer goes; whoever asked may have given up.
    pub(super) reply: SyncSender<Answer>,
}

/// Answers clients.
pub(super) struct FrontDesk {
    datapath: Arc<Datapath>,
    clock: WallClock,
    in_force: Arc<ArcSwap<Config>>,
    questions: Sender<Question>,
    /// Set when connections were ended, for their room to be free soon.
    ended: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl FrontDesk {
    /// A desk, and where its questions for the control thread come out; `waker` is woken for each.
    pub(super) fn new(datapath: Arc<Datapath>, in_force: Arc<ArcSwap<Config>>, waker: Arc<Waker>) -> (Self, Receiver<Question>) {
        let (questions, asked) = channel();
        (Self { datapath, clock: WallClock::default(), in_force, questions, ended: Arc::default(), waker }, asked)
    }

    /// Set whenever a client has ended connections.
    pub(super) fn ended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ended)
    }

    fn tell_ended(&self) {
        self.ended.store(true, Relaxed);
        // Without it the next pass comes within a second.
        let _ = self.waker.wake();
    }

    fn ask_control(&self, request: Request) -> Answer {
        let (reply, answer) = sync_channel(1);
        let asked = self.questions.send(Question { request, reply }).is_ok() && self.waker.wake().is_ok();
        let answer = asked.then(|| answer.recv_timeout(PATIENCE).ok()).flatten();
        answer.unwrap_or_else(|| Answer::Error { message: "the daemon is stopping or busy; try again".into() })
    }

    /// What matches nothing because it is misspelt must not look like an empty table.
    fn check(&self, filter: &ConnectionFilter) -> Result<(), BadFilter> {
        let snapshot = self.datapath.snapshot.load();
        let names: Vec<&str> = snapshot.services.iter().map(|service| service.name.as_str()).collect();
        filter.check(&names)
    }

    fn list(&self, filter: &ConnectionFilter, limit: Option<u64>, output: &mut Output<'_>) -> io::Result<()> {
        let limit = limit.unwrap_or(u64::MAX);
        let mut count = 0;
        let mut outcome = Ok(());
        self.for_each(filter, &mut |connection| {
            if count < limit && outcome.is_ok() {
                outcome = output.say(&Answer::Connection(connection));
                count += 1;
            }
        });
        outcome?;
        output.say(&Answer::End { count })
    }

    fn list_expectations(&self, output: &mut Output<'_>) -> io::Result<()> {
        let snapshot = self.datapath.snapshot.load_full();
        let (names, now) = (Names::new(&snapshot), Monotonic::now().millis());
        let mut expected = self.datapath.conntrack.list_expectations();
        expected.sort_by_key(|expectation| (expectation.source, expectation.destination));
        for expectation in &expected {
            output.say(&Answer::Expectation(describe_expectation(expectation, &names, now)))?;
        }
        output.say(&Answer::End { count: expected.len() as u64 })
    }

    fn count(&self, filter: &ConnectionFilter) -> u64 {
        if *filter == ConnectionFilter::default() {
            return self.datapath.conntrack.count() as u64;
        }
        let mut count = 0;
        self.for_each(filter, &mut |_| count += 1);
        count
    }

    fn for_each(&self, filter: &ConnectionFilter, each: &mut dyn FnMut(Connection)) {
        let snapshot = self.datapath.snapshot.load_full();
        let names = Names::new(&snapshot);
        self.datapath.conntrack.for_each(&snapshot.timeouts, &mut |view| {
            if names.matches(filter, view) {
                each(describe(view, &names, Monotonic::now().millis()));
            }
        });
    }

    fn show(&self, flow: Flow) -> Answer {
        let snapshot = self.datapath.snapshot.load_full();
        match self.datapath.conntrack.find(flow.protocol, flow.source, flow.destination, &snapshot.timeouts) {
            Some((view, _)) => Answer::Connection(describe(&view, &Names::new(&snapshot), Monotonic::now().millis())),
            None => none_like(flow),
        }
    }

    fn delete(&self, flow: Flow) -> Answer {
        let (now, snapshot) = (Monotonic::now().millis(), self.datapath.snapshot.load());
        let tuple = (flow.protocol, flow.source, flow.destination);
        match self.datapath.conntrack.delete(tuple, now, &snapshot.timeouts) {
            true => {
                self.tell_ended();
                Answer::Count { count: 1 }
            }
            false => none_like(flow),
        }
    }

    fn plan(&self, name: &str, config: &str) -> Answer {
        match effects::foresee(name, config, &self.in_force.load_full(), &self.datapath) {
            Ok(plan) => Answer::Planned(plan),
            Err(message) => Answer::Error { message },
        }
    }

    fn flush(&self, filter: &ConnectionFilter) -> u64 {
        let (now, snapshot) = (Monotonic::now().millis(), self.datapath.snapshot.load_full());
        let names = Names::new(&snapshot);
        let mut doomed = |view: &ConnectionView| names.matches(filter, view);
        let ended = self.datapath.conntrack.end_where(DestroyReason::Deleted, now, &snapshot.timeouts, &mut doomed);
        self.tell_ended();
        ended
    }
}

impl Desk for FrontDesk {
    fn answer(&self, request: Request, output: &mut Output<'_>) -> io::Result<()> {
        if let Some(Err(bad)) = request.filter().map(|filter| self.check(filter)) {
            return output.say(&Answer::Error { message: bad.to_string() });
        }
        match request {
            Request::ConnectionList { filter, limit } => self.list(&filter, limit, output),
            Request::ExpectationList {} => self.list_expectations(output),
            Request::ConnectionCount { filter } => output.say(&Answer::Count { count: self.count(&filter) }),
            Request::ConnectionShow { flow } => output.say(&self.show(flow)),
            Request::ConnectionDelete { flow } => output.say(&self.delete(flow)),
            Request::ConnectionFlush { filter } => output.say(&Answer::Count { count: self.flush(&filter) }),
            Request::ConnectionTop { filter, limit, prefix_v4, prefix_v6 } => {
                output.say(&top::survey(&self.datapath, &filter, usize::from(limit), (prefix_v4, prefix_v6)))
            }
            Request::ConnectionEvents { filter, kinds } => audience::tell(&self.datapath, &self.clock, (&filter, &kinds), output),
            Request::Plan { name, config } => output.say(&self.plan(&name, &config)),
            Request::Status {}
            | Request::Drops {}
            | Request::Reload { .. }
            | Request::Drain { .. }
            | Request::Undrain { .. }
            | Request::Weight { .. }
            | Request::Left { .. }
            | Request::Diff {}
            | Request::Explain { .. } => output.say(&self.ask_control(request)),
        }
    }
}

fn none_like(flow: Flow) -> Answer {
    Answer::Error { message: format!("no connection has this packet: {flow}") }
}

/// Names of services by their index.
pub(super) struct Names<'a>(HashMap<u16, &'a str>);

impl<'a> Names<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        Self(snapshot.services.iter().map(|service| (service.id.0, service.name.as_str())).collect())
    }

    pub(super) fn service(&self, id: u16) -> &'a str {
        self.0.get(&id).copied().unwrap_or("-")
    }

    /// Whether a connection is asked for.
    pub(super) fn matches(&self, filter: &ConnectionFilter, view: &ConnectionView) -> bool {
        filter.matches(view, &protocol_name(view.protocol), self.service(view.service))
    }
}

/// As in lists: the name, or the number of a protocol without one.
pub(super) fn protocol_name(number: u8) -> String {
    Protocol::from_number(number).map_or_else(|| number.to_string(), |protocol| protocol.name().to_owned())
}

pub(super) fn describe(view: &ConnectionView, names: &Names<'_>, now: Millis) -> admin::Connection {
    let silent = now.since(view.last_seen);
    // A worker's clock may be a moment ahead of ours.
    let silent = if silent > u32::MAX / 2 { 0 } else { silent };
    Connection {
        protocol: protocol_name(view.protocol),
        state: view.state.map(str::to_owned),
        source: view.outside().source,
        destination: view.outside().destination,
        backend: view.inside().source,
        snat: view.inside().destination,
        service: names.service(view.service).to_owned(),
        key: view.key,
        status: view.status().map(str::to_owned).collect(),
        seen_reply: view.seen_reply,
        assured: view.assured,
        account: view.account.map(|account| describe_account(&account, now)),
        master: view.master.as_ref().map(describe_control),
        expires_in: view.timeout.saturating_sub(silent),
    }
}

fn describe_control(control: &TupleView) -> admin::Control {
    admin::Control { source: control.source, destination: control.destination }
}

fn describe_expectation(expectation: &Expectation, names: &Names<'_>, now: Millis) -> admin::Expectation {
    admin::Expectation {
        protocol: Protocol::Tcp.name().to_owned(),
        source: expectation.source,
        destination: expectation.destination,
        target: expectation.target,
        master: describe_control(&expectation.control),
        service: names.service(expectation.owner.service).to_owned(),
        expires_in: expectation.left(now),
    }
}

fn describe_account(account: &AccountView, now: Millis) -> admin::Account {
    let ([packets, reply_packets], [bytes, reply_bytes]) = (account.packets, account.bytes);
    admin::Account {
        packets,
        bytes,
        reply_packets,
        reply_bytes,
        duration: now.since(account.opened),
        backend_rtt: account.handshake.map(|handshake| handshake.backend),
        client_rtt: account.handshake.map(|handshake| handshake.client),
    }
}
