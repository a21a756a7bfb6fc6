//! Against the kernel, in private network namespaces: root is needed. What needs no kernel runs for everyone.

mod announce;
mod interfaces;
mod messages;
mod mirror;
mod netlink;

use super::namespace::Namespace;
use super::{Event, Monitor, usable_link};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

/// Two namespaces with a veth pair between them: 10.0.0.1 and fd00::1 on `wire` here, 10.0.0.2 and fd00::2 on `wire` in the peer.
fn pair() -> Option<(Namespace, Namespace)> {
    let (here, peer) = (Namespace::new()?, Namespace::new()?);
    here.veth("wire", &peer, "wire", "");
    for (namespace, number) in [(&here, 1), (&peer, 2)] {
        namespace.ip(&format!("address add 10.0.0.{number}/24 dev wire"));
        namespace.ip(&format!("address add fd00::{number}/64 dev wire nodad"));
    }
    Some((here, peer))
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
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut poll = Poll::new().unwrap();
    let fd = monitor.as_raw_fd();
    poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE).unwrap();
    loop {
        let events = monitor.events().unwrap();
        events.iter().for_each(&mut each);
        if let Some(event) = events.into_iter().find(|event| wanted(event)) {
            return event;
        }
        let left = deadline.checked_duration_since(Instant::now()).expect("the event did not come");
        poll.poll(&mut Events::with_capacity(1), Some(left)).unwrap();
    }
}
