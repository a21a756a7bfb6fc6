//! What would become of a packet, in sentences: the decisions of the packet path, asked for without a packet.

use super::daemon::Daemon;
use super::desk::protocol_name;
use super::status::write_mac;
use crate::admin::{Answer, Explanation, Flow};
use crate::conntrack::{ConnectionView, Direction, Expectation};
use crate::datapath::{DropReason, Next, Preview, Why};
use crate::service::{Backend, Protocol, Service, Shown};
use crate::worker::Monotonic;
use crate::xdp::FIRST_DATA_PORT;
use std::net::{IpAddr, SocketAddr};

const FORWARD: &str = "forward";
const PASS: &str = "pass";

/// Says it.
pub(super) fn explain(daemon: &Daemon, flow: Flow) -> Answer {
    let Some(protocol) = Protocol::from_number(flow.protocol) else {
        return Answer::Error {
            message: format!("protocol {} is not one that weir forwards: allowed are {}", flow.protocol, protocols()),
        };
    };
    let mut story = Story::new(flow);
    if story.steered(daemon, protocol) {
        match daemon.datapath.preview(protocol, flow.source, flow.destination, Monotonic::now().millis()) {
            Preview::Known(connection, direction) => story.known(daemon, &connection, direction),
            Preview::Opens { service, backend, why, target, next } => {
                story.opens(daemon, (&service, &backend), why, target, next)
            }
            Preview::Expected(expectation, next) => story.expected(daemon, &expectation, next),
            Preview::Dropped(reason) => story.dropped(reason),
            Preview::Rejected(reason) => story.rejected(reason, protocol),
        }
    }
    Answer::Explained(story.told)
}

struct Story {
    flow: Flow,
    told: Explanation,
}

impl Story {
    fn new(flow: Flow) -> Self {
        let told = Explanation {
            steps: Vec::new(),
            verdict: PASS.to_owned(),
            service: None,
            backend: None,
            snat: None,
            next_hop: None,
            interface: None,
        };
        Self { flow, told }
    }

    fn say(&mut self, step: String) {
        self.told.steps.push(step);
    }

    /// The XDP program's decision, by the same targets.
    fn steered(&mut self, daemon: &Daemon, protocol: Protocol) -> bool {
        let (address, port) = (self.flow.destination.ip(), self.flow.destination.port());
        let targets = daemon.targets();
        let of_service =
            targets.services.contains(&(address, Some(port), protocol)) || targets.services.contains(&(address, None, protocol));
        // Replies are taken of TCP and UDP, and of what there is a service of.
        let replies =
            |(vip, _, served): &(IpAddr, Option<u16>, Protocol)| vip.is_ipv4() == address.is_ipv4() && *served == protocol;
        let is_taken = matches!(protocol, Protocol::Tcp | Protocol::Udp) || targets.services.iter().any(replies);
        let is_snat = targets.snat.contains(&address) && is_taken;
        let is_data = protocol == Protocol::Tcp && port >= FIRST_DATA_PORT && targets.data.contains(&address);
        let what = match (is_snat, of_service) {
            (true, _) => "is a SNAT address: the packet is taken for a backend's reply",
            (false, true) => "is a service",
            (false, false) if is_data => "is a port to which data connections of a helper may come",
            (false, false) => "is no service and no SNAT address: the kernel gets the packet, untouched",
        };
        let key = self.flow.key().map(|key| format!(" with key {key}")).unwrap_or_default();
        self.say(format!("steering: {protocol} to {}{key} {what}", self.flow.ends().1));
        if let [_, _, ..] = daemon.workers[..] {
            let workers = daemon.workers.len();
            self.say(format!("worker: that of the queue which the network card chooses, one of {workers}"));
        }
        is_snat || of_service || is_data
    }

    fn expected(&mut self, daemon: &Daemon, expectation: &Expectation, next: Next) {
        let (control, target) = (expectation.control, expectation.target);
        self.say(format!(
            "conntrack: expected, as the control connection {} -> {} has announced",
            control.source, control.destination
        ));
        self.say(format!("nat: from an address {} to {target}", expectation.seen_from));
        self.route(daemon, target.ip(), next);
    }

    fn known(&mut self, daemon: &Daemon, connection: &ConnectionView, direction: Direction) {
        let (protocol, original, reply) = (protocol_name(connection.protocol), connection.original, connection.reply);
        let inside = connection.inside();
        let state = connection.state.map(|state| format!(" {state}")).unwrap_or_default();
        let key = connection.key.map(|key| format!(" with key {key}")).unwrap_or_default();
        let (client, vip) = (Shown(original.source), Shown(original.destination));
        self.say(format!("conntrack: known {protocol} connection{state}{key}, {client} -> {vip}"));
        let (source, destination) = match direction {
            Direction::Original => (reply.destination, reply.source),
            Direction::Reply => (original.destination, original.source),
        };
        let which = if direction == Direction::Original { "original" } else { "reply" };
        self.say(format!("nat: {which} direction, rewritten to {} -> {}", Shown(source), Shown(destination)));
        self.told.backend = Some(inside.source);
        self.told.snat = Some(inside.destination);
        let snapshot = daemon.datapath.snapshot.load();
        self.told.service =
            snapshot.services.iter().find(|service| service.id.0 == connection.service).map(|service| service.name.clone());
        self.route(daemon, destination.ip(), daemon.datapath.next(destination.ip()));
    }

    fn opens(&mut self, daemon: &Daemon, (service, backend): (&Service, &Backend), why: Why, target: SocketAddr, next: Next) {
        self.say("conntrack: no connection is known; this packet would open one (TCP: if it is a SYN)".to_owned());
        self.say(format!("service: {}", service.name));
        self.chosen(service, backend, why, target);
        self.told.service = Some(service.name.clone());
        self.told.backend = Some(target);
        self.sources(daemon, service.protocol, target);
        self.route(daemon, target.ip(), next);
    }

    fn chosen(&mut self, service: &Service, backend: &Backend, why: Why, target: SocketAddr) {
        let target = Shown(target);
        let (scheduler, pool, member) = (service.scheduler.name(), &backend.pool, &backend.member);
        match why {
            Why::Scheduled => {}
            Why::Persists(left) => {
                let seconds = left.div_ceil(1000);
                return self.say(format!(
                    "persistence: {target} of pool {pool}, where this client's last connection went; remembered for {seconds} s more"
                ));
            }
            Why::Backup => {
                self.say(format!("backup: no backend of pool {} can be chosen, pool {pool} serves", service.pool.name))
            }
            Why::Over(limit) => self.say(format!("limits: {} is struck, pool {pool} serves", limit.name())),
        }
        let (weight, connections, reason) = (member.weight(), member.connections(), service.scheduler.kind().reason());
        self.say(format!(
            "scheduler: {scheduler} would now choose {target} of pool {pool} (weight {weight}, {connections} connections): {reason}"
        ));
    }

    /// Which port it would be is decided by who else opens a connection at that moment.
    fn sources(&mut self, daemon: &Daemon, protocol: Protocol, target: SocketAddr) {
        let snat = daemon.datapath.snapshot.load().snat.clone();
        let addresses = snat.addresses().filter(|address| address.is_ipv4() == target.is_ipv4());
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        let (first, last) = snat.ports.into_inner();
        let what = match protocol {
            Protocol::Icmp | Protocol::Icmpv6 => format!("with the next identifier that is free toward {}", target.ip()),
            Protocol::Gre => {
                let which = self.flow.key().map_or("without a key".to_owned(), |key| format!("with key {key}"));
                format!("if no other client has a tunnel {which} by it to {}", target.ip())
            }
            _ => format!("with the next of the ports {first}-{last} that is free toward {}", Shown(target)),
        };
        self.say(format!("nat: source {} {what}", addresses.join(" or ")));
    }

    fn route(&mut self, daemon: &Daemon, destination: IpAddr, next: Next) {
        match next {
            Next::Hop(hop) => {
                let route = daemon.datapath.next_hops.route(destination);
                let neighbour = route.and_then(|route| route.gateway).unwrap_or(destination);
                let interface = daemon.interfaces.get(usize::from(hop.port.0)).map(|interface| interface.name.clone());
                let vlan = if hop.vlan == 0 { String::new() } else { format!(" with VLAN id {}", hop.vlan) };
                let out = interface.as_deref().unwrap_or("-");
                self.say(format!("route: out of {out}{vlan} to {neighbour} at {}", write_mac(hop.mac)));
                self.told.next_hop = Some(neighbour);
                self.told.interface = interface;
                self.told.verdict = FORWARD.to_owned();
            }
            Next::Unresolved(neighbour) => self.unresolved(neighbour),
            Next::NoRoute => self.dropped(DropReason::NoRoute),
        }
    }

    fn unresolved(&mut self, neighbour: IpAddr) {
        self.say(format!("route: next hop {neighbour} is not resolved; the packet waits a second for it, then it is dropped"));
        self.told.next_hop = Some(neighbour);
        self.told.verdict = DropReason::NeighbourUnresolved.label().to_owned();
    }

    fn rejected(&mut self, reason: DropReason, protocol: Protocol) {
        let how = if protocol == Protocol::Tcp { "a RST" } else { "an ICMP error" };
        self.say(format!("rejected by {how}: {}", reason.sentence()));
        self.told.verdict = reason.label().to_owned();
    }

    fn dropped(&mut self, reason: DropReason) {
        self.say(format!("dropped: {}", reason.sentence()));
        self.told.verdict = reason.label().to_owned();
    }
}

/// Names of all protocols.
fn protocols() -> String {
    Protocol::ALL.iter().map(|protocol| protocol.name()).collect::<Vec<_>>().join(", ")
}
