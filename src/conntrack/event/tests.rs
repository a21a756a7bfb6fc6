use super::*;
use crate::conntrack::{Conntrack, TupleView};
use std::net::SocketAddr;

fn connection(number: u32) -> ConnectionView {
    let any = SocketAddr::from(([192, 0, 2, 1], 7));
    let tuple = TupleView { source: any, destination: any };
    ConnectionView { last_seen: Millis(number), ..crate::conntrack::view::blank(tuple) }
}

fn tell(teller: &Teller, numbers: std::ops::Range<u32>) {
    for number in numbers {
        if teller.is_heard() {
            teller.tell(EventKind::New, Millis(number), connection(number));
        }
    }
}

/// The numbers of the events and how many were lost.
fn take(listener: &mut Listener) -> (Vec<u32>, u64) {
    let mut heard = Vec::new();
    listener.take(&mut heard);
    let numbers = heard.iter().filter_map(|heard| match heard {
        Heard::Event(event) => Some(event.at.0),
        Heard::Lost(_) => None,
    });
    let lost = heard.iter().filter_map(|heard| if let Heard::Lost(lost) = heard { Some(*lost) } else { None });
    (numbers.collect(), lost.sum())
}

#[test]
fn every_listener_hears_everything_from_its_beginning_on() {
    let hub = Hub::new();
    let tellers = [hub.teller(), hub.teller()];
    tell(&tellers[0], 0..3);
    let mut first = hub.listen().unwrap();
    tell(&tellers[0], 3..5);
    let mut second = hub.listen().unwrap();
    assert_eq!(take(&mut first), (vec![3, 4], 0));
    tell(&tellers[1], 5..6);
    let late = hub.teller();
    tell(&late, 6..8);
    assert_eq!(take(&mut first), (vec![5, 6, 7], 0));
    // What was still in the queue when it came is heard by it, too.
    assert_eq!(take(&mut second), (vec![3, 4, 5, 6, 7], 0));
    assert_eq!(take(&mut second), (vec![], 0));
}

#[test]
fn nothing_is_told_to_nobody() {
    let hub = Hub::new();
    let teller = hub.teller();
    assert!(!teller.is_heard());
    let first = hub.listen().unwrap();
    let mut second = hub.listen().unwrap();
    drop(first);
    assert!(teller.is_heard());
    tell(&teller, 0..2);
    assert_eq!(take(&mut second), (vec![0, 1], 0));
    tell(&teller, 2..4);
    drop(second);
    assert!(!teller.is_heard());
    assert_eq!(take(&mut hub.listen().unwrap()), (vec![], 0), "what nobody took is not for the next one");
}

#[test]
fn what_has_no_room_is_counted() {
    let hub = Hub::new();
    let teller = hub.teller();
    let (mut quick, mut slow) = (hub.listen().unwrap(), hub.listen().unwrap());
    let queue = QUEUE as u32;
    tell(&teller, 0..queue + 10);
    let (heard, lost) = take(&mut quick);
    assert_eq!((heard, lost), ((0..queue).collect(), 10), "nobody came by: the queue was full");
    // Now one comes by and the other does not: its ring fills up.
    let rounds = (RING / QUEUE) as u32;
    for round in 0..rounds {
        tell(&teller, round * queue..(round + 1) * queue);
        assert_eq!(take(&mut quick).1, 0);
    }
    let (heard, lost) = take(&mut slow);
    assert_eq!((heard.len(), lost), (RING, 10 + u64::from(queue)));
}

#[test]
fn there_are_only_so_many_listeners() {
    let conntrack = Conntrack::new(16).unwrap();
    let listeners: Vec<_> = std::iter::from_fn(|| conntrack.listen()).collect();
    assert_eq!(listeners.len(), LISTENERS);
    drop(listeners);
    assert!(conntrack.listen().is_some());
}

#[test]
fn queues_of_threads_that_ended_are_forgotten() {
    let hub = Hub::new();
    for _ in 0..100 {
        drop(hub.teller());
    }
    let _last = hub.teller();
    assert_eq!(lock(&hub.channels).len(), 1);
}
