//! When weir's links came back: drivers drop theirs when a program is attached or a socket bound, and an emulated igb takes its time.

use crate::support::Lab;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;
use weir::kernel::{Event, Monitor, Netlink};

const NEWS: Token = Token(0);
const END: Token = Token(1);

/// Listens to the kernel until it is asked.
pub(crate) struct Carriers {
    end: Waker,
    listener: JoinHandle<Option<Instant>>,
}

impl Carriers {
    /// From now on.
    pub(crate) fn watch(lab: &Lab) -> Self {
        let interfaces = lab.layout.interfaces();
        let (listening, begun) = mpsc::channel();
        let listener = lab.node.spawn(move || {
            let poll = Poll::new().expect("epoll");
            let end = Waker::new(poll.registry(), END).expect("a waker");
            let monitor = Monitor::open().expect("a netlink socket");
            poll.registry().register(&mut SourceFd(&monitor.as_raw_fd()), NEWS, Interest::READABLE).expect("epoll");
            listening.send(end).expect("who waits for it");
            listen(poll, monitor, interfaces)
        });
        Self { end: begun.recv().expect("the listener"), listener }
    }

    /// When the last of them came back, if any was away.
    pub(crate) fn last_came_back(self) -> Option<Instant> {
        self.end.wake().expect("the listener");
        self.listener.join().expect("the listener")
    }
}

fn listen(mut poll: Poll, mut monitor: Monitor, interfaces: &[&str]) -> Option<Instant> {
    let links = Netlink::open().and_then(|mut netlink| netlink.links()).expect("links");
    let mut up: Vec<bool> = interfaces.iter().map(|name| links.iter().any(|link| link.name == *name && link.up)).collect();
    let mut since = None;
    let mut events = Events::with_capacity(2);
    loop {
        poll.poll(&mut events, None).expect("epoll");
        for event in monitor.events().expect("netlink") {
            let Event::Link(link) = event else { continue };
            let Some(index) = interfaces.iter().position(|name| *name == link.name) else { continue };
            if !std::mem::replace(&mut up[index], link.up) && link.up {
                since = Some(Instant::now());
            }
        }
        if events.iter().any(|event| event.token() == END) {
            return since;
        }
    }
}
