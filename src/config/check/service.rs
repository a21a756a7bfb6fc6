//! `[[service]]`

use super::access::check_access;
use super::helped::check_helper;
use super::limits::check_limits;
use super::persistence::check_persistence;
use super::problems::{Located, Problems};
use super::settings::check_timeouts_of_service;
use crate::config::raw::{self, Raw};
use crate::config::value::{self, Endpoint, endpoint, one_of, quoted, refuse, whole};
use crate::config::{Place, Problem, Quorum, Service};
use crate::conntrack::Timeouts;
use crate::schedule::{BoundedHash, Kind, Maglev, Settings};
use crate::service::{Helper, Protocol};
use serde_spanned::Spanned;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

/// A service whose own values were looked at. `checked` stands in for what was refused; it is used only if nothing was.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) checked: Service,
    pub(super) vip: Option<Located<Endpoint>>,
    pub(super) pool: Option<Located<String>>,
    pub(super) backup: Option<Located<String>>,
    pub(super) group: Option<Located<String>>,
    /// `None`: there is none.
    pub(super) quorum: Option<Located<Quorum>>,
    pub(super) table_size: Option<Located<u32>>,
    /// `None`: the scheduler was refused.
    pub(super) uses: Option<Kind>,
    name: Option<Located<String>>,
    destination: Option<Located<(Endpoint, Protocol)>>,
}

/// `icmp` is that of the VIP's family.
const PROTOCOLS: &[(&str, Protocol)] = &[
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("sctp", Protocol::Sctp),
    ("dccp", Protocol::Dccp),
    ("gre", Protocol::Gre),
    ("icmp", Protocol::Icmp),
];

pub(super) fn check_services(raw: &Raw, timeouts: Timeouts, problems: &mut Problems) -> Vec<Checked> {
    let services: Vec<_> = raw.service.iter().map(|service| check_service(service, timeouts, problems)).collect();
    let names = services.iter().flat_map(|service| &service.name);
    problems.unique("service.name", names, |name| format!("the service {name:?} is defined twice"));
    let destinations = services.iter().flat_map(|service| &service.destination);
    problems.unique("service.vip", destinations, |(vip, protocol)| match vip.port {
        Some(_) => format!("{} {protocol} is served twice", vip.socket()),
        None => format!("{} {protocol} on every port is served twice", vip.address),
    });
    services
}

fn check_service(raw: &Spanned<raw::Service>, common: Timeouts, problems: &mut Problems) -> Checked {
    let service = raw.get_ref();
    let name = problems.required("service.name", &service.name, raw.span(), "a name for lists and commands");
    let name = problems.value("service.name", name, |text| value::name(text));
    let vip =
        problems.required("service.vip", &service.vip, raw.span(), "such as \"10.0.0.100:443\", or an address for every port");
    let vip = problems.value("service.vip", vip, |text| endpoint(text));
    let protocol =
        problems.required("service.protocol", &service.protocol, raw.span(), &quoted(PROTOCOLS.iter().map(|(name, _)| *name)));
    let protocol = problems.value("service.protocol", protocol, |text| one_of("protocol", text, PROTOCOLS));
    let protocol = protocol.map(|protocol| Located { value: of_family(protocol.value, vip.as_ref()), span: protocol.span });
    check_port(vip.as_ref(), protocol.as_ref(), problems);
    let helper = problems.value("service.helper", service.helper.as_ref(), |text| one_of("helper", text, Helper::NAMES));
    check_helper(helper.as_ref(), vip.as_ref(), protocol.as_ref(), problems);
    let (allow, deny) = check_access(service, vip.as_ref(), problems);
    let timeouts = check_timeouts_of_service(service, common, protocol.as_ref().map(|protocol| protocol.value), problems);
    let pool = problems.required("service.pool", &service.pool, raw.span(), "the name of a [[pool]]");
    let pool = pool.map(|pool| Located { value: pool.get_ref().clone(), span: pool.span() });
    let backup = service.backup.as_ref().map(|pool| Located { value: pool.get_ref().clone(), span: pool.span() });
    let limits = check_limits(service, problems);
    let persistence = service.persistence.as_ref().map(|persistence| check_persistence(persistence.get_ref(), problems));
    let (persistence, group) = persistence.unzip();
    let scheduler = problems.value("service.scheduler", service.scheduler.as_ref(), |text| {
        text.parse::<Kind>()
            .or_else(|_| refuse(format!("there is no scheduler {text:?}"), quoted(Kind::ALL.iter().map(|kind| kind.name()))))
    });
    let (table_size, factor) = check_settings(service, scheduler.as_ref(), problems);
    let defaults = Settings::default();
    let scheduler_refused = service.scheduler.is_some() && scheduler.is_none();
    let destination = vip.as_ref().zip(protocol.as_ref());
    let quorum = check_quorum(service, problems);
    Checked {
        checked: Service {
            name: name.as_ref().map(|name| name.value.clone()).unwrap_or_default(),
            vip: vip.as_ref().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |vip| vip.value.address),
            port: vip.as_ref().and_then(|vip| vip.value.port),
            protocol: protocol.as_ref().map_or(Protocol::Tcp, |protocol| protocol.value),
            helper: helper.map(|helper| helper.value),
            allow,
            deny,
            scheduler: scheduler.as_ref().map(|scheduler| scheduler.value).unwrap_or_default(),
            scheduler_settings: Settings {
                maglev_table_size: table_size.as_ref().map_or(defaults.maglev_table_size, |size| size.value),
                hash_balance_factor: factor.map_or(defaults.hash_balance_factor, |factor| factor.value),
                ..defaults
            },
            timeouts,
            limits,
            persistence,
            backup: backup.as_ref().map(|backup| backup.value.clone()),
            quorum: quorum.as_ref().map(|quorum| quorum.value).unwrap_or_default(),
            pool: pool.as_ref().map(|pool| pool.value.clone()).unwrap_or_default(),
        },
        destination: destination.map(|(vip, protocol)| Located { value: (vip.value, protocol.value), span: vip.span.clone() }),
        vip,
        quorum,
        pool,
        backup,
        group: group.flatten(),
        table_size,
        uses: if scheduler_refused { None } else { Some(scheduler.map(|scheduler| scheduler.value).unwrap_or_default()) },
        name,
    }
}

fn of_family(protocol: Protocol, vip: Option<&Located<Endpoint>>) -> Protocol {
    match (protocol, vip) {
        (Protocol::Icmp, Some(vip)) if vip.value.address.is_ipv6() => Protocol::Icmpv6,
        _ => protocol,
    }
}

fn check_port(vip: Option<&Located<Endpoint>>, protocol: Option<&Located<Protocol>>, problems: &mut Problems) {
    let (Some(vip), Some(protocol)) = (vip, protocol) else { return };
    if let Some(port) = vip.value.port.filter(|_| !protocol.value.has_ports()) {
        let found = format!("{} has no ports, and here is port {port}", protocol.value);
        problems.add(
            Problem::new("service.vip", found, "an address without a port")
                .at(Place::new(vip.span.clone(), "with a port"))
                .at(Place::new(protocol.span.clone(), "the protocol")),
        );
    }
}

/// What the scheduler is told. Keys that it has no use for are refused.
fn check_settings(
    service: &raw::Service,
    scheduler: Option<&Located<Kind>>,
    problems: &mut Problems,
) -> (Option<Located<u32>>, Option<Located<u32>>) {
    let size = service.maglev_table_size.as_ref();
    // A scheduler that was refused says nothing about what it would use.
    let lacks = |uses: fn(Kind) -> bool| service.scheduler.is_none() || scheduler.is_some_and(|scheduler| !uses(scheduler.value));
    if let Some(size) = size.filter(|_| lacks(Kind::has_table)) {
        let kinds = Kind::ALL.iter().filter(|kind| kind.has_table()).map(|kind| kind.name());
        let unused = Unused { key: "service.maglev_table_size", found: "this service's scheduler has no table" };
        problems.add(unused.at(size.span(), kinds, scheduler));
    }
    let factor = service.hash_balance_factor.as_ref();
    if let Some(factor) = factor.filter(|_| lacks(|kind| kind == Kind::BoundedHash)) {
        let unused = Unused { key: "service.hash_balance_factor", found: "this service's scheduler has no bound" };
        problems.add(unused.at(factor.span(), [Kind::BoundedHash.name()].into_iter(), scheduler));
    }
    let size = problems.value("service.maglev_table_size", size, |size| {
        Maglev::check_table_size(*size).or_else(|bad| {
            let range = format!("a prime from {} to {}", Maglev::LEAST_TABLE_SIZE, Maglev::MOST_TABLE_SIZE);
            refuse(bad.to_string(), range)
        })
    });
    let factors = i64::from(BoundedHash::LEAST_FACTOR)..=i64::from(BoundedHash::MOST_FACTOR);
    let factor = problems.value("service.hash_balance_factor", factor, |factor| whole(*factor, factors));
    (size, factor)
}

/// A key of a scheduler that the service does not have.
struct Unused {
    key: &'static str,
    found: &'static str,
}

impl Unused {
    fn at<'a>(&self, span: Range<usize>, uses: impl Iterator<Item = &'a str>, scheduler: Option<&Located<Kind>>) -> Problem {
        let allowed = format!("only with scheduler = {}", quoted(uses).replace(", ", " or "));
        let problem = Problem::new(self.key, self.found, allowed).at(Place::new(span, "not used"));
        match scheduler {
            Some(scheduler) => problem.at(Place::new(scheduler.span.clone(), "the scheduler")),
            None => problem,
        }
    }
}

/// The most that fit the largest pool.
const MOST_QUORUM: i64 = 32_768;

fn check_quorum(service: &raw::Service, problems: &mut Problems) -> Option<Located<Quorum>> {
    let least = problems.value("service.quorum", service.quorum.as_ref(), |number| whole(*number, 0..=MOST_QUORUM));
    let hysteresis = problems.value("service.quorum_hysteresis", service.quorum_hysteresis.as_ref(), |number| {
        whole::<usize>(*number, 0..=MOST_QUORUM)
    });
    if let Some(unused) = hysteresis.as_ref().filter(|_| service.quorum.is_none()) {
        problems.add(
            Problem::new("service.quorum_hysteresis", "there is no quorum that is to be exceeded", "only with quorum")
                .at(Place::new(unused.span.clone(), "not used")),
        );
    }
    let hysteresis = hysteresis.map_or(0, |hysteresis| hysteresis.value);
    least.map(|least| Located { value: Quorum { least: least.value, hysteresis }, span: least.span })
}
