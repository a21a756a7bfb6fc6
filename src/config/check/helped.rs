//! `[[service]] helper`: a helper reads a byte stream, and must know which connections are its own.

use super::problems::{Located, Problems};
use super::service;
use crate::config::value::Endpoint;
use crate::config::{Place, Problem};
use crate::service::{Helper, Protocol, data_port};
use std::collections::HashMap;

/// What a service must be for its helper.
pub(super) fn check_helper(
    helper: Option<&Located<Helper>>,
    vip: Option<&Located<Endpoint>>,
    protocol: Option<&Located<Protocol>>,
    problems: &mut Problems,
) {
    let Some(helper) = helper else { return };
    let name = helper.value.name();
    if let Some(protocol) = protocol.filter(|protocol| protocol.value != Protocol::Tcp) {
        let found = format!("the helper {name:?} reads TCP, and this service is on {}", protocol.value);
        problems.add(
            Problem::new("service.helper", found, "only with protocol = \"tcp\"")
                .at(Place::new(helper.span.clone(), "the helper"))
                .at(Place::new(protocol.span.clone(), "the protocol")),
        );
        return;
    }
    let Some(vip) = vip else { return };
    let (found, label) = match vip.value.port {
        None => {
            (format!("the helper {name:?} reads control connections, and this service is on every port"), "every port".to_owned())
        }
        Some(port) if data_port(port).is_none() => {
            let found = format!(
                "the helper {name:?} has data come from the port before that of control, and before {port} there is none"
            );
            (found, format!("port {port}"))
        }
        Some(_) => return,
    };
    let allowed = "only with the port of control connections in `vip`, such as \"10.0.0.100:21\"";
    problems.add(
        Problem::new("service.helper", found, allowed)
            .at(Place::new(helper.span.clone(), "the helper"))
            .at(Place::new(vip.span.clone(), label)),
    );
}

/// RFC 959, section 3.2: active data connections come from the port before that of control, so no service can be there: to a client, they
/// would be connections of that one.
pub(super) fn check_data_ports(services: &[service::Checked], problems: &mut Problems) {
    let on_tcp = || services.iter().filter(|service| service.checked.protocol == Protocol::Tcp);
    let ends = on_tcp().filter_map(|service| service.vip.as_ref());
    let by_place: HashMap<_, _> = ends.filter_map(|vip| Some(((vip.value.address, vip.value.port?), vip))).collect();
    for service in on_tcp().filter(|service| service.checked.helper.is_some()) {
        let Some(vip) = &service.vip else { continue };
        let from = vip.value.port.and_then(data_port);
        let taken = from.and_then(|from| Some((from, by_place.get(&(vip.value.address, from))?)));
        if let Some((from, other)) = taken {
            let found = format!("active data connections of this service come from port {from}, which another service is on");
            problems.add(
                Problem::new("service.helper", found, "a port that has no TCP service of this VIP before it")
                    .at(Place::new(vip.span.clone(), "its control connections"))
                    .at(Place::new(other.span.clone(), "the other service")),
            );
        }
    }
}
