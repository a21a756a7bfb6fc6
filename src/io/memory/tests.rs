use super::*;
use crate::datapath::Fate;

const A: PortId = PortId(0);
const B: PortId = PortId(1);

fn ports(sizes: MemorySizes) -> (MemoryPorts, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (MemoryPorts::new(sizes, Arc::clone(&counters)), counters)
}

fn send_all(to: PortId) -> impl FnMut(&mut [Frame<'_>]) {
    move |frames| frames.iter_mut().for_each(|frame| frame.fate = Fate::Transmit(to))
}

#[test]
fn frames_come_out_as_they_were_left() {
    let (mut ports, counters) = ports(MemorySizes::default());
    assert!(ports.push(A, b"one") && ports.push(A, b"two"));
    let received = ports.receive(A, &mut |frames| {
        assert_eq!(frames[0].bytes(), b"one");
        frames[0].buffer[3] = b'!';
        frames[0].length = 4;
        frames[0].fate = Fate::Transmit(B);
        frames[1].fate = Fate::Drop(DropReason::NotIp);
    });
    assert_eq!(received, 2);
    assert!(ports.transmitting());
    ports.flush().unwrap();
    assert_eq!(ports.take_sent(B), [b"one!"]);
    assert_eq!(ports.free_frames(), 1024);
    assert_eq!((counters.rx.get(), counters.rx_bytes.get()), (2, 6));
    assert_eq!((counters.tx.get(), counters.tx_bytes.get()), (1, 4));
    assert_eq!((counters.drops(DropReason::NotIp).get(), counters.dropped()), (1, 1));
}

#[test]
fn what_the_tx_ring_cannot_hold_is_counted() {
    let (mut ports, counters) = ports(MemorySizes { tx_ring: 4, ..Default::default() });
    ports.stall(B);
    (0..6).for_each(|_| assert!(ports.push(A, b"x")));
    assert_eq!(ports.receive(A, &mut send_all(B)), 6);
    ports.flush().unwrap();
    assert_eq!((counters.tx.get(), counters.drops(DropReason::TxRingFull).get()), (4, 2));
    ports.restore(B);
    ports.flush().unwrap();
    assert_eq!((ports.take_sent(B).len(), ports.free_frames()), (4, 1024));
}

#[test]
fn what_is_sent_to_a_port_that_is_gone_is_counted() {
    let (mut ports, counters) = ports(MemorySizes::default());
    ports.unplug(B);
    assert!(ports.push(A, b"x") && ports.push(A, b"y"));
    ports.receive(A, &mut |frames| {
        frames[0].fate = Fate::Transmit(B);
        frames[1].fate = Fate::Transmit(PortId(9));
    });
    assert_eq!((counters.drops(DropReason::PortDown).get(), ports.free_frames()), (2, 1024));
}

#[test]
fn an_undecided_frame_is_a_drop_when_received_and_nothing_when_lent() {
    let (mut ports, counters) = ports(MemorySizes { frames: 3, ..Default::default() });
    assert!(ports.push(A, b"x"));
    ports.receive(A, &mut |_| {});
    assert_eq!((counters.rx.get(), counters.drops(DropReason::Hook).get()), (1, 1));
    assert_eq!(ports.originate(8, &mut |frames| assert!(frames.iter().all(|frame| frame.length == 0))), 3);
    assert_eq!((counters.dropped(), ports.free_frames()), (1, 3));
}
