//! What a fate means for the frame's room, and how it is counted: the same for every implementation of [`super::Ports`].

use crate::datapath::{Counters, DropReason, Fate, Frame, PortId};

/// Where a frame goes once its fate is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// To the TX ring of this port, with this many bytes.
    Send(PortId, usize),
    /// Back to where empty frames are kept.
    Back,
}

/// Counts the frames of a burst as received.
pub(super) fn count_received(lengths: impl Iterator<Item = usize>, counters: &Counters) {
    let (frames, bytes) = lengths.fold((0, 0), |(frames, bytes), length| (frames + 1, bytes + length as u64));
    counters.rx.add(frames);
    counters.rx_bytes.add(bytes);
    counters.bursts.add(u64::from(frames > 0));
}

/// Counts `frames` as put on a TX ring.
pub(super) fn count_sent(frames: usize, bytes: usize, counters: &Counters) {
    counters.tx.add(frames as u64);
    counters.tx_bytes.add(bytes as u64);
}

/// The end of a received frame. Undecided ones come from a pipeline that forgot them: still one reason a drop.
pub(super) fn settle_received(frame: &Frame<'_>, counters: &Counters) -> Settled {
    match frame.fate {
        Fate::Undecided => back(DropReason::Hook, counters),
        _ => settle_originated(frame, counters),
    }
}

/// The end of a lent, empty frame: undecided means that it was not used.
pub(super) fn settle_originated(frame: &Frame<'_>, counters: &Counters) -> Settled {
    match frame.fate {
        Fate::Transmit(port) => Settled::Send(port, frame.length),
        Fate::Drop(reason) => back(reason, counters),
        Fate::Wait(..) | Fate::Gather | Fate::Undecided => Settled::Back,
    }
}

fn back(reason: DropReason, counters: &Counters) -> Settled {
    counters.drops(reason).add(1);
    Settled::Back
}
