//! Expiry: the control thread walks the entries in steps, ends those that were silent for too long, and frees what nobody sees any more.

use super::entry::State;
use super::family::Family;
use super::quiescence::Quiescence;
use super::table::Table;
use super::{ConnectionView, Entry, Millis, Timeouts, timeout_of};
use std::collections::VecDeque;

/// What one step of the expiry did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries looked at.
    pub scanned: usize,
    /// Connections removed.
    pub expired: usize,
    /// The step reached the end of the table; the next one begins anew.
    pub wrapped: bool,
}

/// Where the walk over one table is, and what waits to be freed.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: u32,
    retired: VecDeque<(u64, Vec<u32>)>,
}

impl Sweep {
    /// Looks at up to `budget` entries. `closed` is called once for every connection that was confirmed and leaves.
    pub(super) fn step<F: Family>(
        &mut self,
        table: &Table<F>,
        quiescence: &Quiescence,
        (now, timeouts): (Millis, &Timeouts),
        budget: usize,
        closed: &mut dyn FnMut(&ConnectionView),
    ) -> Swept {
        self.free(table, quiescence);
        let numbers = table.numbers();
        let first = self.next.max(numbers.start).min(numbers.end);
        let end = first.saturating_add(u32::try_from(budget).unwrap_or(u32::MAX)).min(numbers.end);
        let mut removed = Vec::new();
        let mut expired = 0;
        for number in first..end {
            if let Some(state) = end_if_over(table, number, now, timeouts) {
                table.unlink(number);
                if !state.has(State::ABANDONED) {
                    closed(&view(table, number, timeouts));
                    expired += 1;
                }
                // No longer confirmed: the next walk passes over it until it is used again.
                table.entry(number).set_state(State::default());
                removed.push(number);
            }
        }
        if !removed.is_empty() {
            self.retired.push_back((quiescence.retire(), removed));
        }
        self.next = end;
        let wrapped = end == numbers.end;
        if wrapped {
            self.next = 0;
        }
        Swept { scanned: (end - first) as usize, expired, wrapped }
    }

    /// Frees what was retired before anyone inside entered.
    fn free<F: Family>(&mut self, table: &Table<F>, quiescence: &Quiescence) {
        if self.retired.is_empty() {
            return;
        }
        let oldest = quiescence.oldest();
        while let Some((retired, numbers)) = self.retired.pop_front() {
            if retired >= oldest {
                self.retired.push_front((retired, numbers));
                return;
            }
            table.free(&numbers);
        }
    }
}

/// The state of an entry that is to leave: because its time is over, or because it was killed. It is dying then.
fn end_if_over<F: Family>(table: &Table<F>, number: u32, now: Millis, timeouts: &Timeouts) -> Option<State> {
    let entry = table.entry(number);
    let mut state = entry.state();
    loop {
        if !state.has(State::CONFIRMED) {
            return None;
        }
        if state.has(State::DYING) {
            return Some(state);
        }
        // A worker that was stopped for that long in the middle of confirming goes on with its entry: to give it up, perhaps.
        if !is_over(entry, state, now, timeouts) || !table.is_placed(number) {
            return None;
        }
        match entry.change_state(state, state.with(State::DYING)) {
            Ok(()) => return Some(state),
            Err(now) => state = now,
        }
    }
}

fn is_over<F: Family>(entry: &Entry<F>, state: State, now: Millis, timeouts: &Timeouts) -> bool {
    let silent = now.since(entry.last_seen());
    // A worker's clock may be a little ahead of the one this walk began with: that is not a silence of 49 days.
    silent >= timeout_of(state, timeouts) && silent < u32::MAX / 2
}

/// A copy for lists. The caller made sure that the entry is not used for something else meanwhile.
pub(super) fn view<F: Family>(table: &Table<F>, number: u32, timeouts: &Timeouts) -> ConnectionView {
    use super::entry::Direction::{Original, Reply};
    let entry = table.entry(number);
    let (state, owner) = (entry.state(), entry.owner());
    ConnectionView {
        protocol: state.protocol(),
        original: entry.tuple(Original).view(),
        reply: entry.tuple(Reply).view(),
        tcp_state: (state.protocol() == super::TCP).then(|| state.tcp()),
        seen_reply: state.has(State::SEEN_REPLY),
        assured: state.has(State::ASSURED),
        service: owner.service,
        backend: owner.backend,
        account: table.account_view(number),
        last_seen: entry.last_seen(),
        timeout: timeout_of(state, timeouts),
    }
}
