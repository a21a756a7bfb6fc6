//! The way of a burst: three passes, so that the cache lines of many packets are on their way while others are worked on.
//!
//! 1. Group by group: parse each frame, hash its tuple; then ask for the lines of the index.
//! 2. One group before its turn: read those lines; then ask for the lines of the entries.
//! 3. Packet by packet: the short way ([`super::express`]) as long as packets fit it, else PREROUTING, FORWARD, POSTROUTING.
//!
//! Lines are asked for one right after the other, a whole [`GROUP`] at a time: where the translation of the address misses, too, a
//! prefetch holds up what comes behind it, and only prefetches side by side wait together (docs/performance.md).

use super::burst::BURST;
use super::hook::Hooks;
use super::passage::run_hooks;
use super::tally::Tally;
use super::tracked::Tracked;
use super::tuples::{GROUP, Lookup, Tuples};
use super::verdict::{Verdict, Way};
use super::{Counters, DropReason, Fate, Frame, NextHops, PortId, PortState, answer, defrag, express, local_in, related};
use crate::conntrack::l4proto::{self, Verify, is_tracked};
use crate::conntrack::{Conntrack, EventKind, Found, Guess, Micros, Millis, Now, Tables, Teller, Tuple, V4, V6, Visit, Walker};
use crate::nat::icmp_limit::{self, IcmpLimit};
use crate::nat::tcp_reset;
use crate::nat::{Homes, Manip};
use crate::packet::{Headers, Ip, Malformed, Payload, parse};
use crate::service::Snapshot;
use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

/// What all workers share.
#[derive(Debug)]
pub struct Datapath {
    /// Tracked connections.
    pub conntrack: Conntrack,
    /// Routes, neighbours, interfaces.
    pub next_hops: NextHops,
    /// The config; swapped whole by the control thread.
    pub snapshot: ArcSwap<Snapshot>,
    /// Handlers registered by a user of the library; before the first burst.
    pub hooks: Hooks,
    /// Where the queues of the cards are known, whose SNAT ports are whose; swapped whole by the control thread.
    pub homes: ArcSwapOption<Homes>,
}

/// What one worker keeps from burst to burst. Not shared.
#[derive(Debug)]
pub struct Lane {
    walker: Walker,
    teller: Teller,
    icmp_limit: IcmpLimit,
    reset_limit: IcmpLimit,
    worker: u8,
    scratch: Box<Scratch>,
    /// What this worker counts.
    pub counters: Arc<Counters>,
}

/// What the passes hand on to each other; kept so that it need not be made anew for each burst.
#[derive(Debug)]
struct Scratch {
    v4: Tuples<V4>,
    v6: Tuples<V6>,
    /// Of those that are not plain.
    headers: [Result<Headers, Malformed>; BURST],
}

/// What the steps of one packet need besides the packet.
pub(super) struct Context<'a, const HOOKED: bool> {
    pub datapath: &'a Datapath,
    pub snapshot: &'a Snapshot,
    /// Loaded when a first packet asks.
    homes: &'a OnceCell<Guard<Option<Arc<Homes>>>>,
    /// Which one this is.
    pub worker: u8,
    pub epoch: u16,
    pub now: Millis,
    pub micros: Micros,
    /// Where it is told what happens to connections.
    pub teller: &'a Teller,
    pub icmp_limit: &'a mut IcmpLimit,
    pub reset_limit: &'a mut IcmpLimit,
    /// Of the interface that the last packet was too big for.
    pub mtu: u32,
    pub tally: Tally,
}

impl<'a, const HOOKED: bool> Context<'a, HOOKED> {
    /// Where replies come in, if that is known.
    pub(super) fn homes(&self) -> Option<&'a Homes> {
        self.homes.get_or_init(|| self.datapath.homes.load()).as_deref()
    }
}

/// How often a packet may begin anew; a handler that always says REPEAT must not hold up the worker.
const REPEATS: usize = 4;

impl Datapath {
    /// What worker 0, who counts in `counters`, needs; `None` when there are 128 of them already.
    pub fn lane(&self, counters: Arc<Counters>) -> Option<Lane> {
        let scratch = Scratch { v4: Tuples::new(), v6: Tuples::new(), headers: [Err(Malformed::NotIp); BURST] };
        let icmp_limit = IcmpLimit::new(icmp_limit::RATE, icmp_limit::BURST, Millis::default());
        let reset_limit = IcmpLimit::new(tcp_reset::RATE, tcp_reset::BURST, Millis::default());
        let (walker, teller) = (self.conntrack.walker()?, self.conntrack.teller());
        Some(Lane { walker, teller, icmp_limit, reset_limit, worker: 0, scratch: Box::new(scratch), counters })
    }

    /// Decides the fate of each frame of a burst and rewrites those that go on.
    ///
    /// Counts established, new_connections, related and answered; `rx`, `tx`, `waiting` and the drops are counted by whoever carries the fates out
    /// ([`crate::io::Ports`] and the worker).
    pub fn process(&self, lane: &mut Lane, frames: &mut [Frame<'_>], now: impl Into<Now>) {
        let now = now.into();
        let snapshot = self.snapshot.load();
        let looks_at_all = snapshot.tracking.checksum == Verify::All;
        if self.hooks.is_empty() && !looks_at_all {
            self.process_bursts::<false>(lane, &snapshot, frames, now);
        } else {
            self.process_bursts::<true>(lane, &snapshot, frames, now);
        }
    }

    fn process_bursts<const HOOKED: bool>(&self, lane: &mut Lane, snapshot: &Snapshot, frames: &mut [Frame<'_>], now: Now) {
        let homes = OnceCell::new();
        for burst in frames.chunks_mut(BURST) {
            let mut context = Context::<HOOKED> {
                datapath: self,
                snapshot,
                homes: &homes,
                worker: lane.worker,
                epoch: self.next_hops.epoch(),
                now: now.millis,
                micros: now.micros,
                teller: &lane.teller,
                icmp_limit: &mut lane.icmp_limit,
                reset_limit: &mut lane.reset_limit,
                mtu: 0,
                tally: Tally::default(),
            };
            let mut visit = lane.walker.enter();
            let count = burst.len();
            lane.scratch.parse_and_hash(&self.conntrack, burst);
            lane.scratch.guess_group(&self.conntrack, 0, count);
            lane.scratch.ask_for_second_lines(&self.conntrack, 0, count);
            for group in (0..count).step_by(GROUP) {
                lane.scratch.guess_group(&self.conntrack, group + GROUP, count);
                lane.scratch.process_group(&mut context, &mut visit, burst, group..count.min(group + GROUP));
                lane.scratch.ask_for_second_lines(&self.conntrack, group + GROUP, count);
            }
            self.conntrack.opened(context.tally.opened);
            self.conntrack.ended(context.tally.ended);
            context.tally.add_to(&lane.counters);
        }
    }
}

impl Lane {
    /// For this worker, below 128: as [`Homes`] number them.
    pub fn of_worker(self, worker: u8) -> Self {
        Self { worker, ..self }
    }
}

impl Scratch {
    /// Pass 1.
    #[inline]
    fn parse_and_hash(&mut self, conntrack: &Conntrack, burst: &[Frame<'_>]) {
        self.v4.clear();
        self.v6.clear();
        for (group, frames) in burst.chunks(GROUP).enumerate() {
            self.parse_group(group * GROUP, frames);
            if self.v6.in_group(group) == 0 {
                self.v4.hash(conntrack.table(), group);
                self.v4.ask_for_buckets(conntrack.table(), group);
            } else {
                self.hash_mixed_group(conntrack, group);
            }
        }
    }

    /// Pass 1 for the frames of a group, which begins at `from`: in runs of plain packets of one family.
    #[inline(always)]
    fn parse_group(&mut self, from: usize, frames: &[Frame<'_>]) {
        let mut parsed = 0;
        while parsed < frames.len() {
            parsed += self.v4.put_while_plain(from + parsed, &frames[parsed..]);
            let of_v6 = self.v6.put_while_plain(from + parsed, &frames[parsed..]);
            parsed += of_v6;
            // Where neither went on, it is neither.
            if of_v6 == 0
                && let Some(frame) = frames.get(parsed)
            {
                self.look_at_any(from + parsed, frame.bytes());
                parsed += 1;
            }
        }
    }

    /// Pass 1 for a frame that is no plain packet.
    #[inline(never)]
    fn look_at_any(&mut self, at: usize, bytes: &[u8]) {
        self.headers[at] = parse(bytes);
        if let Ok(headers) = self.headers[at]
            && is_tracked(&headers)
        {
            match headers.ip {
                Ip::V4 => self.v4.put(at, &tuple(bytes, &headers)),
                Ip::V6 => self.v6.put(at, &tuple(bytes, &headers)),
            }
        }
    }

    #[inline(never)]
    fn hash_mixed_group(&mut self, conntrack: &Conntrack, group: usize) {
        self.v6.hash(conntrack.table(), group);
        if self.v4.in_group(group) == 0 {
            return self.v6.ask_for_buckets(conntrack.table(), group);
        }
        self.v4.hash(conntrack.table(), group);
        self.v4.ask_for_own_buckets(conntrack.table(), group);
        self.v6.ask_for_own_buckets(conntrack.table(), group);
    }

    /// Pass 2 for the group of packets from index `from`, of `count`.
    #[inline(always)]
    fn guess_group(&mut self, conntrack: &Conntrack, from: usize, count: usize) {
        let packets = from.min(count)..count.min(from + GROUP);
        if packets.is_empty() || self.v6.in_group(from / GROUP) == 0 {
            self.v4.guess(conntrack.table(), packets);
        } else {
            self.guess_mixed_group(conntrack, packets);
        }
    }

    #[inline(never)]
    fn guess_mixed_group(&mut self, conntrack: &Conntrack, packets: Range<usize>) {
        if self.v4.in_group(packets.start / GROUP) == 0 {
            return self.v6.guess(conntrack.table(), packets);
        }
        self.v4.guess_own(conntrack.table(), packets.clone());
        self.v6.guess_own(conntrack.table(), packets);
    }

    /// Pass 2 of IPv6, later.
    #[inline(always)]
    fn ask_for_second_lines(&self, conntrack: &Conntrack, from: usize, count: usize) {
        if from < count && self.v6.in_group(from / GROUP) != 0 {
            self.ask_for_second_lines_of_group(conntrack, from..count.min(from + GROUP));
        }
    }

    #[inline(never)]
    fn ask_for_second_lines_of_group(&self, conntrack: &Conntrack, packets: Range<usize>) {
        if self.v4.in_group(packets.start / GROUP) == 0 {
            return self.v6.ask_for_second_lines(conntrack.table(), packets);
        }
        self.v6.ask_for_own_second_lines(conntrack.table(), packets);
    }

    /// Pass 3 for packets of a burst.
    #[inline(always)]
    fn process_group<const HOOKED: bool>(
        &self,
        context: &mut Context<'_, HOOKED>,
        visit: &mut Visit<'_>,
        burst: &mut [Frame<'_>],
        mut group: Range<usize>,
    ) {
        loop {
            if !HOOKED {
                let sent = self.send_while_steady(context, burst, group.clone());
                context.tally.established += sent as u64;
                group.start += sent;
            }
            let Some(at) = group.next() else { return };
            let frame = &mut burst[at];
            frame.fate = match self.process_packet(context, visit, frame, at) {
                Ok(port) => Fate::Transmit(port),
                Err(verdict) => end(context, visit, frame, verdict),
            };
        }
    }

    /// Pass 3, the short way, for packets of a burst up to the first one that does not fit; how many.
    #[inline(always)]
    fn send_while_steady<const HOOKED: bool>(
        &self,
        context: &Context<'_, HOOKED>,
        burst: &mut [Frame<'_>],
        packets: Range<usize>,
    ) -> usize {
        let mut at = packets.start;
        loop {
            let v4 = at..packets.end.min(at + self.v4.plain_from(at));
            let sent = express::send_while_steady(context, burst, &self.v4, v4.clone());
            at += sent;
            if at < v4.end || at == packets.end {
                return at - packets.start;
            }
            let v6 = at..packets.end.min(at + self.v6.plain_from(at));
            at += express::send_while_steady(context, burst, &self.v6, v6.clone());
            if at < v6.end || at == packets.end || v6.is_empty() {
                return at - packets.start;
            }
        }
    }

    /// Pass 3, the whole way, for the packet at index `at`.
    #[inline(never)]
    fn process_packet<const HOOKED: bool>(
        &self,
        context: &mut Context<'_, HOOKED>,
        visit: &mut Visit<'_>,
        frame: &mut Frame<'_>,
        at: usize,
    ) -> Way<PortId> {
        let headers = match self.v4.headers(at).or_else(|| self.v6.headers(at)) {
            Some(headers) => headers,
            None => self.headers[at].map_err(DropReason::from)?,
        };
        // What pass 1 read of the packet is still what it says: nothing has written to it.
        match headers.ip {
            _ if !is_tracked(&headers) => process_untracked(context, visit, frame, &headers),
            Ip::V4 => run_hooks(context, visit, frame, &headers, &self.v4.lookup(at)),
            Ip::V6 => run_hooks(context, visit, frame, &headers, &self.v6.lookup(at)),
        }
    }
}

/// The tuple of a packet that makes connections.
pub(super) fn tuple<F: Manip>(bytes: &[u8], headers: &Headers) -> Tuple<F> {
    let ports = l4proto::pkt_to_tuple(l4proto::Packet { bytes, headers });
    Tuple { addresses: F::read(bytes, headers), ports, protocol: headers.protocol }
}

/// The way of a packet that makes no connection.
#[inline(never)]
fn process_untracked<const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    visit: &mut Visit<'_>,
    frame: &mut Frame<'_>,
    headers: &Headers,
) -> Way<PortId> {
    match headers.payload {
        Payload::Icmp(kind) if related::may_be(headers.ip, kind) => related::process(context, frame, headers),
        Payload::Fragment => defrag::process(context, visit, frame, headers),
        _ => Err(Verdict::Drop(DropReason::IcmpUnrelated)),
    }
}

/// Carries a verdict out that ended the packet's way.
#[cold]
fn end<const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    visit: &mut Visit<'_>,
    frame: &mut Frame<'_>,
    mut verdict: Verdict,
) -> Fate {
    for _ in 0..REPEATS {
        match verdict {
            Verdict::Drop(reason @ (DropReason::TtlExpired | DropReason::TooBig)) => {
                return answer::answer(context, frame, reason);
            }
            Verdict::Drop(reason) if HOOKED && for_us(reason) => match local_in::deliver(context, frame) {
                Ok(()) => return Fate::Drop(reason),
                Err(Verdict::Drop(reason)) => return Fate::Drop(reason),
                Err(other) => verdict = other,
            },
            Verdict::Drop(reason) => return Fate::Drop(reason),
            Verdict::Reject(reason) => return answer::reject(context, frame, reason),
            Verdict::Stolen => {
                context.tally.answered += 1;
                return Fate::Transmit(frame.port);
            }
            Verdict::Queue(port, neighbour) => return Fate::Wait(port, neighbour),
            Verdict::Gather => return Fate::Gather,
            // Accepting is not an end: no step returns it as one.
            Verdict::Accept => break,
            Verdict::Repeat => match begin_anew(context, visit, frame) {
                Ok(port) => return Fate::Transmit(port),
                Err(again) => verdict = again,
            },
        }
    }
    Fate::Drop(DropReason::RepeatLimit)
}

/// Steered to weir but part of no connection and no service: if anyone wants it, it is a handler at LOCAL_IN.
fn for_us(reason: DropReason) -> bool {
    matches!(reason, DropReason::NoService | DropReason::IcmpUnrelated)
}

/// The whole way of a single packet, outside of the passes over the burst.
fn begin_anew<const HOOKED: bool>(
    context: &mut Context<'_, HOOKED>,
    visit: &mut Visit<'_>,
    frame: &mut Frame<'_>,
) -> Way<PortId> {
    let headers = parse(frame.bytes()).map_err(DropReason::from)?;
    match headers.ip {
        _ if !is_tracked(&headers) => process_untracked(context, visit, frame, &headers),
        Ip::V4 => run_hooks(context, visit, frame, &headers, &look_up::<V4, HOOKED>(context, frame, &headers)),
        Ip::V6 => run_hooks(context, visit, frame, &headers, &look_up::<V6, HOOKED>(context, frame, &headers)),
    }
}

/// What the passes would have found out about a packet, but nothing was asked for ahead.
pub(super) fn look_up<F: Tracked, const HOOKED: bool>(
    context: &Context<'_, HOOKED>,
    frame: &Frame<'_>,
    headers: &Headers,
) -> Lookup<F> {
    let tuple = tuple(frame.bytes(), headers);
    Lookup { tuple, hash: F::table(&context.datapath.conntrack).hash(&tuple), guess: Guess::default() }
}

impl<const HOOKED: bool> Context<'_, HOOKED> {
    /// The time of the burst.
    pub(super) fn time(&self) -> Now {
        Now { millis: self.now, micros: self.micros }
    }

    /// Tells whoever listens what has just happened to a connection; costs one load while nobody does.
    #[inline(always)]
    pub(super) fn tell<F: Tracked>(&self, kind: EventKind, found: &Found<'_, F>) {
        if self.teller.is_heard() {
            let table = F::table(&self.datapath.conntrack);
            self.teller.tell(kind, self.now, table.copy(found, &self.snapshot.timeouts));
        }
    }

    /// What is known of an interface.
    #[inline(always)]
    pub(super) fn port(&self, port: PortId) -> &PortState {
        self.datapath.next_hops.port(port)
    }
}
