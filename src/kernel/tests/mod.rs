//! Against the kernel, in private network namespaces: root is needed. What needs no kernel runs for everyone.

mod announce;
mod interfaces;
mod messages;
mod mirror;
mod netlink;

use super::namespace::Namespace;
use super::{Event, Monitor, Netlink, usable_link};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

/// Far longer than anything here takes.
const WAIT: Duration = Duration::from_secs(20);

/// Two namespaces with a veth pair between them: 10.0.0.1, fd00::1 and fe80::1 on `wire` here, 10.0.0.2, fd00::2 and fe80::2 on `wire`
/// in the peer. All are in use: without a link-local address the kernel would resolve no IPv6 neighbour, and the one that it makes itself is
/// looked for on the link for a second or two before, in which it may have given up already.
fn pair() -> Option<(Namespace, Namespace)> {
    let (here, peer) = (Namespace::new()?, Namespace::new()?);
    here.veth("wire", &peer, "wire", "");
    for (namespace, number) in [(&here, 1), (&peer, 2)] {
        namespace.ip(&format!("address add 10.0.0.{number}/24 dev wire"));
        for network in ["fd00", "fe80"] {
            namespace.ip(&format!("address add {network}::{number}/64 dev wire nodad"));
            namespace.run(|| wait_for_route(&format!("{network}::{number}/128")));
        }
    }
    Some((here, peer))
}

/// The kernel puts an IPv6 address into service a moment after it was added; its local route is there when that is done.
fn wait_for_route(prefix: &str) {
    let (prefix, mut netlink) = (prefix.parse().unwrap(), Netlink::open().unwrap());
    let deadline = Instant::now() + WAIT;
    while !netlink.routes().unwrap().iter().any(|route| route.prefix == prefix) {
        assert!(Instant::now() < deadline, "no route to {prefix}");
        std::thread::yield_now();
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A setting of `wire` under /proc/sys/net, in the namespace of the calling thread.
fn set(family: &str, key: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{family}/neigh/wire/{key}"), value).unwrap();
}

fn index() -> u32 {
    usable_link("wire").unwrap().index
}

/// Waits, as the control thread does, until an event satisfies `wanted`; gives every event to `each`.
fn wait_for(monitor: &mut Monitor, mut each: impl FnMut(&Event), wanted: impl Fn(&Event) -> bool) -> Event {
    let deadline = Instant::now() + WAIT;
    let mut seen = Vec::new();
    let mut poll = Poll::new().unwrap();
    let fd = monitor.as_raw_fd();
    poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE).unwrap();
    loop {
        let events = monitor.events().unwrap();
        events.iter().for_each(&mut each);
        seen.extend(events.iter().cloned());
        if let Some(event) = events.into_iter().find(|event| wanted(event)) {
            return event;
        }
        let left = deadline.checked_duration_since(Instant::now()).unwrap_or_else(|| panic!("not among {seen:#?}"));
        match poll.poll(&mut Events::with_capacity(1), Some(left)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => other.unwrap(),
        }
    }
}
