//! Expiry: the control thread walks the entries in steps, ends those that were silent for too long, and frees what nobody sees any more.
//!
//! Parts of the table in which nothing can be over yet are passed over ([`super::agenda`]). What leaves is found first and taken out of the
//! index then, its lines asked for meanwhile.

use super::agenda::Agenda;
use super::cull;
use super::entry::State;
use super::event::{EventKind, Teller};
use super::family::Family;
use super::quiescence::{Quiescence, Reader};
use super::table::Table;
use super::{
    ConnectionView, Conntrack, Entry, Millis, Sweeps, TimeoutPolicy, Tuple, TupleView, l4proto, natural_end, orphan, timeout_of,
};
use std::collections::VecDeque;
use std::sync::PoisonError;

/// What one step of the expiry did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries looked at.
    pub scanned: usize,
    /// Connections removed: silent for too long, or killed before.
    pub expired: usize,
    /// Of them, those whose life this step has ended.
    pub ended: u64,
    /// The step reached the end of the table; the next one begins anew.
    pub wrapped: bool,
    /// Entries that were removed wait to be free: until every worker has finished the burst that it was in.
    pub waiting: bool,
}

impl Conntrack {
    /// Frees what steps of expiry have removed and no worker can see any more. `true`: some of it still waits.
    pub fn free_swept(&self) -> bool {
        let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        let Sweeps { v4, v6, .. } = &mut *sweeps;
        v4.free(&self.v4, &self.quiescence);
        v6.free(&self.v6, &self.quiescence);
        v4.is_waiting() || v6.is_waiting()
    }

    /// One step of expiry, the control thread's alone: looks at up to `budget` entries, removes those whose time is over,
    /// frees what no worker can see any more, and calls `closed` once for every connection that left.
    pub fn sweep(&self, now: Millis, timeouts: &TimeoutPolicy, budget: usize, closed: &mut dyn FnMut(&ConnectionView)) -> Swept {
        let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        let Sweeps { reader, teller, v4, v6, in_v6 } = &mut *sweeps;
        let broom = Broom { quiescence: &self.quiescence, reader, teller, now, timeouts };
        let closed = &mut |view: &ConnectionView| {
            self.conncount.closed(view);
            closed(view);
        };
        let mut swept =
            if *in_v6 { v6.step(&self.v6, &broom, budget, closed) } else { v4.step(&self.v4, &broom, budget, closed) };
        self.ended(swept.ended);
        swept.waiting = v4.is_waiting() || v6.is_waiting();
        if swept.wrapped {
            *in_v6 = !*in_v6;
            swept.wrapped = !*in_v6;
        }
        if swept.wrapped {
            // Their masters' entries are looked at: nobody frees those but this thread, and the workers that evict.
            let _inside = reader.enter();
            self.expectations.sweep(now, |expectation| self.has_master(expectation));
            self.conncount.sweep(now);
            self.templates.sweep(now);
        }
        swept
    }
}

/// What the control thread sweeps with.
#[derive(Debug)]
pub(super) struct Broom<'a> {
    pub(super) quiescence: &'a Quiescence,
    /// Workers reuse what they evict as soon as nobody looks at it: whoever sweeps looks, too.
    pub(super) reader: &'a Reader,
    pub(super) teller: &'a Teller,
    pub(super) now: Millis,
    pub(super) timeouts: &'a TimeoutPolicy,
}

/// Where the walk over one table is, and what waits to be freed.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: u32,
    retired: VecDeque<(u64, Vec<u32>)>,
    /// With which the agenda was made.
    timeouts: Option<TimeoutPolicy>,
    over: Vec<Over>,
}

/// An entry whose time seems to be over, and the hashes of its tuples.
#[derive(Debug)]
struct Over {
    number: u32,
    hashes: [u64; 2],
}

/// What passing over a part costs, in entries looked at.
const PASSED_OVER: usize = 8;

impl Sweep {
    /// Looks at about `budget` entries. `closed` is called once for every connection that was confirmed and leaves.
    pub(super) fn step<F: Family>(
        &mut self,
        table: &Table<F>,
        broom: &Broom<'_>,
        budget: usize,
        closed: &mut dyn FnMut(&ConnectionView),
    ) -> Swept {
        self.free(table, broom.quiescence);
        if self.timeouts.as_ref() != Some(broom.timeouts) {
            table.agenda.urge_all();
            self.timeouts = Some(broom.timeouts.clone());
        }
        if self.next == 0 {
            let _inside = broom.reader.enter();
            table.departed.retain(|number| table.entry(number).state().has_ended());
        }
        let numbers = table.numbers();
        let (mut swept, mut removed, mut cost) = (Swept::default(), Vec::new(), 0);
        self.next = self.next.max(numbers.start).min(numbers.end);
        while self.next < numbers.end && cost < budget {
            let part = Agenda::part(self.next, numbers.end);
            self.next = part.end;
            if table.agenda.is_due(part.start, broom.now) {
                swept.scanned += part.len();
                cost += part.len();
                let inside = broom.reader.enter();
                table.agenda.begin(part.start);
                let next = self.look(table, broom, part.clone());
                let kept = self.remove(table, broom, &mut removed, &mut swept, closed);
                table.agenda.settle(part.start, broom.now.after(if kept { 0 } else { next }));
                drop(inside);
            } else {
                cost += PASSED_OVER;
            }
        }
        if !removed.is_empty() {
            self.retired.push_back((broom.quiescence.retire(), removed));
        }
        swept.wrapped = self.next == numbers.end;
        if swept.wrapped {
            self.next = 0;
        }
        swept
    }

    /// Collects what seems to be over. In how many milliseconds something else may be.
    fn look<F: Family>(&mut self, table: &Table<F>, broom: &Broom<'_>, part: std::ops::Range<u32>) -> u32 {
        let mut next = broom.timeouts.shortest();
        for number in part {
            let entry = table.entry(number);
            let state = entry.state();
            if !state.has(State::CONFIRMED) {
                continue;
            }
            let left = left(entry, state, broom);
            if left > 0 {
                if state.has(State::EXPECTED) && !state.has(State::DYING) {
                    table.keep_master(number);
                }
                next = next.min(left);
            } else {
                self.over.push(Over { number, hashes: table.prefetch_tuples(entry) });
            }
        }
        next
    }

    /// Takes out of the index what is over. `true`: something that seemed to be over stays.
    fn remove<F: Family>(
        &mut self,
        table: &Table<F>,
        broom: &Broom<'_>,
        removed: &mut Vec<u32>,
        swept: &mut Swept,
        closed: &mut dyn FnMut(&ConnectionView),
    ) -> bool {
        let before = self.over.len() + removed.len();
        for over in self.over.drain(..) {
            let Some(state) = end_if_over(table, &over, broom) else { continue };
            table.unlink_hashed(over.number, over.hashes);
            if !state.is_abandoned() {
                swept.expired += 1;
                let view = ConnectionView { bits: state.with(State::DYING), ..table.view(over.number, broom.timeouts) };
                table.settle_account(state, &view, closed);
                // Who killed it has counted and told it.
                if !state.has(State::DYING) {
                    swept.ended += 1;
                    table.departed.expect(1);
                    if broom.teller.is_heard() {
                        broom.teller.tell(EventKind::Destroy(natural_end(state)), broom.now, view);
                    }
                }
            }
            removed.push(over.number);
        }
        removed.len() < before
    }

    /// Whether entries wait to be free.
    pub(super) fn is_waiting(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Frees what was retired before anyone inside entered.
    pub(super) fn free<F: Family>(&mut self, table: &Table<F>, quiescence: &Quiescence) {
        if !self.is_waiting() {
            return;
        }
        let oldest = quiescence.oldest();
        while let Some((_, numbers)) = self.retired.pop_front_if(|(retired, _)| *retired < oldest) {
            table.free(&numbers);
        }
    }
}

/// The state of an entry that is to leave: because its time is over, or because it was killed. It is the caller's from then on.
fn end_if_over<F: Family>(table: &Table<F>, over: &Over, broom: &Broom<'_>) -> Option<State> {
    let entry = table.entry(over.number);
    let mut state = entry.state();
    loop {
        if !state.has(State::CONFIRMED) {
            return None;
        }
        // A worker that was stopped for that long in the middle of confirming goes on with its entry: to give it up, perhaps.
        let is_over = state.has(State::DYING) || table.is_placed(over.number, over.hashes[0]);
        if !is_over || left(entry, state, broom) > 0 {
            return None;
        }
        // No longer confirmed: the next walk passes over it until it is used again.
        match entry.change_state(state, state.taken_out()) {
            Ok(()) => return Some(state),
            Err(now) => state = now,
        }
    }
}

/// Milliseconds until the connection is over if nothing more comes.
fn left<F: Family>(entry: &Entry<F>, state: State, broom: &Broom<'_>) -> u32 {
    if state.has(State::DYING) {
        return if state.has(State::DRAINED) { cull::LINGER.saturating_sub(entry.silence(broom.now)) } else { 0 };
    }
    let (owner, policy) = (entry.owner(), broom.timeouts);
    let left = timeout_of(entry, state, policy).saturating_sub(entry.silence(broom.now));
    if policy.has_left(owner.service, owner.backend) && l4proto::is_connectionless(state.protocol()) {
        return left.min(orphan::left(entry, state, policy.of(owner.service), broom.now));
    }
    left
}

/// The control connection that has announced this one, client → VIP.
fn master_of<F: Family>(table: &Table<F>, number: u32) -> Option<TupleView> {
    use super::entry::Direction::{Original, Reply};
    let (_, ports) = table.extension_of(number)?.master();
    let entry = table.entry(number);
    let by_client = if entry.state().has(State::FROM_BACKEND) { Reply } else { Original };
    Some(Tuple { ports, ..entry.tuple(by_client) }.view())
}

/// A copy for lists. The caller made sure that the entry is not used for something else meanwhile.
pub(super) fn view<F: Family>(table: &Table<F>, number: u32, timeouts: &TimeoutPolicy) -> ConnectionView {
    use super::entry::Direction::{Original, Reply};
    let entry = table.entry(number);
    let (state, owner) = (entry.state(), entry.owner());
    ConnectionView {
        protocol: state.protocol(),
        original: entry.tuple(Original).view(),
        reply: entry.tuple(Reply).view(),
        tcp_state: (state.protocol() == super::TCP).then(|| state.tcp()),
        state: l4proto::state_name(state),
        key: l4proto::key(entry.tuple(Original).protocol, entry.tuple(Original).ports),
        bits: state,
        seen_reply: state.has(State::SEEN_REPLY),
        assured: state.has(State::ASSURED),
        service: owner.service,
        backend: owner.backend,
        account: table.account_view(number),
        master: if state.has(State::EXPECTED) { master_of(table, number) } else { None },
        last_seen: entry.last_seen(),
        timeout: timeout_of(entry, state, timeouts),
    }
}
