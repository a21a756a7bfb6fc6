//! Data connections: announced by a control connection, then opened past the scheduler, to where the control connection goes
//! (`nf_ct_expect_related`, `nf_nat_follow_master`).

use super::admission::Seats;
use super::prerouting::Opening;
use super::process::Context;
use super::tracked::Tracked;
use crate::conntrack::ftp::{Endpoint, Form};
use crate::conntrack::{Announced, Direction, Expectation, Expecting, Extension, Found, State, TupleView, Unconfirmed};
use crate::nat::{Allocation, Home, Sources, first_free_tuple, unique_tuple};
use crate::service::{BackendId, Protocol, Service, ServiceId, data_port};
use std::net::SocketAddr;

/// Ports that are tried for one data connection (the kernel's `NF_NAT_MAX_ATTEMPTS`).
const TRIES: u32 = 128;
/// Data connections come to a VIP's ports from here on: these are steered to weir (`FIRST_DATA_PORT` of `xdp`).
const FIRST_PORT: u16 = 1024;

/// Makes the connection that a line names expected, and no other one of this control connection. The port to name instead; `None`: none is free,
/// or too many connections are expected.
#[inline(never)]
pub(super) fn announce<F: Tracked, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    (found, record): (&Found<'_, F>, &Extension),
    service: &Service,
    endpoint: &Endpoint,
) -> Option<u16> {
    let table = F::table(&context.datapath.conntrack);
    let expectations = context.datapath.conntrack.expectations();
    let (outside, inside) = (found.entry.tuple(Direction::Original).view(), found.entry.tuple(Direction::Reply).view());
    let from_backend = matches!(endpoint.form, Form::Port | Form::Eprt);
    // Who opens it, where it comes to, where it goes on to, and whom it comes from there.
    let (opener, reached, target, seen_from) = if from_backend {
        (inside.source, inside.destination, outside.source, outside.destination)
    } else {
        (outside.source, outside.destination, inside.source, inside.destination)
    };
    let expectation = |port: u16| Expectation {
        source: opener.ip(),
        destination: SocketAddr::new(reached.ip(), port),
        target: SocketAddr::new(target.ip(), endpoint.port),
        seen_from: seen_from.ip(),
        from_backend,
        owner: found.entry.owner(),
        control: outside,
        master: table.life(found),
        since: context.now,
    };
    if let Some(Expecting { from_backend, port }) = record.expecting() {
        let (source, reached) =
            if from_backend { (inside.source, inside.destination) } else { (outside.source, outside.destination) };
        expectations.forget(source.ip(), SocketAddr::new(reached.ip(), port), table.life(found));
    }
    let is_free = |port: &u16| match from_backend {
        // The backend cannot connect from its port for data to where such a connection of it still is.
        true => data_port(inside.source.port()).is_none_or(|from| {
            let tuple = crate::conntrack::Tuple::new(
                Protocol::Tcp.number(),
                SocketAddr::new(inside.source.ip(), from),
                SocketAddr::new(inside.destination.ip(), *port),
            );
            tuple.is_none_or(|tuple| table.look_up(table.hash(&tuple), &tuple).is_none())
        }),
        false => !context.snapshot.services.has_port(service.vip, *port, Protocol::Tcp),
    };
    let range = if from_backend { context.snapshot.snat.ports.clone() } else { FIRST_PORT..=u16::MAX };
    for port in ports_from(endpoint.port, range).filter(is_free) {
        match expectations.announce(expectation(port)) {
            Announced::Expected => {
                record.set_expecting(Expecting { from_backend, port });
                return Some(port);
            }
            Announced::Clash => {}
            Announced::Full => return None,
        }
    }
    None
}

/// Ports of a range, in a circle from `first` on if it is in there.
fn ports_from(first: u16, range: std::ops::RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let (low, count) = (u32::from(*range.start()), range.len() as u32);
    let skipped = if range.contains(&first) { u32::from(first) - low } else { 0 };
    (0..count.min(TRIES)).map(move |tried| (low + (skipped + tried) % count) as u16)
}

/// What a first packet of `source` to `destination` opens, if that is expected.
#[cold]
#[inline(never)]
pub(super) fn find<'a, const HOOKED: bool>(
    context: &Context<'a, HOOKED>,
    source: SocketAddr,
    destination: SocketAddr,
) -> Option<Opening<'a>> {
    let expectation = context.datapath.conntrack.find_expectation(source.ip(), destination, context.now)?;
    // Neither without the service that had the control connection, nor to a backend that nobody knows any more.
    let service = context.snapshot.services.with_helper(ServiceId(expectation.owner.service))?;
    let backend = context.snapshot.backend(BackendId(expectation.owner.backend))?;
    let seats = Seats::announced(context.datapath.conntrack.conncount(), service, &backend.member);
    Some(Opening { service, backend, target: expectation.target, expected: Some(expectation), seats })
}

/// The state bits of an announced connection.
pub(super) fn status(expectation: &Expectation) -> u32 {
    State::EXPECTED | if expectation.from_backend { State::FROM_BACKEND } else { 0 }
}

/// Gives an announced connection its reply tuple: toward the backend the SNAT address of its master, for servers ask that both come from one
/// address; toward the client the VIP and the backend's port.
pub(super) fn allocate<F: Tracked, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    connection: &Unconfirmed<'_, F>,
    opening: &Opening<'_>,
    (expectation, home): (&Expectation, Option<Home<'_>>),
) -> Allocation {
    let table = F::table(&context.datapath.conntrack);
    let Expectation { target, seen_from, from_backend, .. } = *expectation;
    if !from_backend {
        let sources = Sources::only(&seen_from, &context.snapshot.snat.ports);
        return unique_tuple(table, connection, (opening.backend, target), (sources, home), context.now);
    }
    let TupleView { source, .. } = connection.entry.tuple(Direction::Original).view();
    let own = own_data_port(expectation.control.destination.port(), opening.backend.address().port(), source.port());
    let is_free = |port: &u16| !context.snapshot.services.has_port(seen_from, *port, Protocol::Tcp);
    let ports = own.into_iter().chain(ports_from(source.port(), FIRST_PORT..=u16::MAX)).filter(is_free);
    first_free_tuple(table, connection, target, seen_from, ports)
}

/// The VIP's own port for data, if the backend comes from its own.
fn own_data_port(vip_port: u16, backend_port: u16, source: u16) -> Option<u16> {
    data_port(vip_port).filter(|_| data_port(backend_port) == Some(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_was_asked_for_is_tried_first() {
        let ports = |first, range| ports_from(first, range).take(4).collect::<Vec<_>>();
        assert_eq!(ports(40000, 1024..=65535), [40000, 40001, 40002, 40003]);
        assert_eq!(ports(65534, 1024..=65535), [65534, 65535, 1024, 1025]);
        assert_eq!(ports(21, 1024..=65535), [1024, 1025, 1026, 1027]);
        assert_eq!(ports(7, 7..=8), [7, 8]);
        assert_eq!(ports_from(2000, 1024..=65535).count(), TRIES as usize);
    }

    #[test]
    fn data_comes_from_the_port_before_that_of_control() {
        assert_eq!(own_data_port(21, 2121, 2120), Some(20));
        assert_eq!(own_data_port(21, 2121, 40000), None);
        assert_eq!(own_data_port(1, 21, 20), None);
    }
}
