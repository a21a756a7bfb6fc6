//! Ends connections that the control thread chooses, a slice of the table at a time: those of a backend that drains (`DestroyReason::Drained`).
//!
//! A TCP connection of which both ends are to be told stays in the index for a while after it has ended (DRAINED): no packet is forwarded by it, but
//! whoever still sends is told by the answer to that packet, whose number is the right one whatever was lost or overtaken before.

use super::entry::{Direction, Entry, State};
use super::event::EventKind;
use super::family::Family;
use super::quiescence::Reader;
use super::table::Table;
use super::{ConnectionView, Conntrack, DestroyReason, Millis, Owner, TimeoutPolicy, Tuple, l4proto};
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

/// Milliseconds for which a connection that was reset is remembered: a sender that waits for an ACK has sent again by then, more than once.
pub(super) const LINGER: u32 = 5000;

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentence {
    /// It goes on.
    Spare,
    /// It ends, without a word to either side.
    End(DestroyReason),
    /// It ends, and both sides are to be reset: only TCP.
    Reset(DestroyReason),
}

/// What the sentence is given by.
#[derive(Debug, Clone, Copy)]
pub struct Glimpse {
    /// Protocol, state and status.
    pub state: State,
    /// Service and backend.
    pub owner: Owner,
    /// Where its clients send.
    pub vip: SocketAddr,
    /// Who that is.
    pub client: SocketAddr,
    /// Milliseconds since its last packet.
    pub silence: u32,
}

/// A RST to one side of a connection that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parting {
    /// Who its receiver knows as the other side.
    pub source: SocketAddr,
    /// Its receiver.
    pub destination: SocketAddr,
    /// Behind the last byte that was sent on to the receiver: what it expects next unless something was lost (RFC 5961, section 3.2).
    pub sequence: u32,
    /// Behind the last byte that the receiver has sent; `None`: it has sent nothing.
    pub acknowledgment: Option<u32>,
}

/// A connection that was ended.
#[derive(Debug, Clone)]
pub struct Culled {
    /// As it was.
    pub connection: ConnectionView,
    /// What to tell, if its sentence was [`Sentence::Reset`].
    pub partings: Option<[Parting; 2]>,
}

/// How far a walk has come; the default is its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    in_v6: bool,
    next: u32,
}

/// Who judges, and who is told.
pub type Court<'a> = (&'a mut dyn FnMut(&Glimpse) -> Sentence, &'a mut dyn FnMut(Culled));

impl Conntrack {
    /// One step of a walk, the control thread's: shows up to `budget` entries to `judge` and ends those that it says, each of which `ended`
    /// is called with once. `true`: the walk is over, and `cursor` at its beginning again.
    pub fn cull(
        &self,
        cursor: &mut Cursor,
        budget: u32,
        now: Millis,
        timeouts: &TimeoutPolicy,
        (judge, ended): Court<'_>,
    ) -> bool {
        let sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        let mut tell = |culled: Culled| {
            count += 1;
            self.conncount.closed(&culled.connection);
            ended(culled);
        };
        let when = (now, timeouts);
        let over = match cursor.in_v6 {
            true => self.step(&self.v6, &sweeps.reader, (cursor, budget), when, (judge, &mut tell)),
            false => self.step(&self.v4, &sweeps.reader, (cursor, budget), when, (judge, &mut tell)),
        };
        self.ended(count);
        if over {
            *cursor = Cursor { in_v6: !cursor.in_v6, next: 0 };
        }
        over && !cursor.in_v6
    }

    fn step<F: Family>(
        &self,
        table: &Table<F>,
        reader: &Reader,
        (cursor, budget): (&mut Cursor, u32),
        (now, timeouts): (Millis, &TimeoutPolicy),
        (judge, ended): Court<'_>,
    ) -> bool {
        let numbers = table.numbers();
        let first = cursor.next.max(numbers.start);
        let end = first.saturating_add(budget).min(numbers.end);
        let _inside = reader.enter();
        for number in first..end {
            let entry = table.entry(number);
            let state = entry.state();
            if !state.is_live() {
                continue;
            }
            let by_client = if state.has(State::FROM_BACKEND) { Direction::Reply } else { Direction::Original };
            let sent = entry.tuple(by_client).view();
            let (vip, client) = (sent.destination, sent.source);
            let glimpse = Glimpse { state, owner: entry.owner(), vip, client, silence: entry.silence(now) };
            let (reason, resets) = match judge(&glimpse) {
                Sentence::Spare => continue,
                Sentence::End(reason) => (reason, false),
                Sentence::Reset(reason) => (reason, state.protocol() == super::TCP),
            };
            let killed = if resets { table.kill_drained(number, now) } else { table.kill_culled(number) };
            if !killed {
                continue;
            }
            let connection = table.view(number, timeouts);
            if self.teller.is_heard() {
                self.teller.tell(EventKind::Destroy(reason), now, connection.clone());
            }
            // Read now: what a worker that is in the middle of a burst sends on after this is answered for by `Table::was_drained`.
            let partings = resets.then(|| partings(table, number, entry));
            ended(Culled { connection, partings });
        }
        cursor.next = end;
        end >= numbers.end
    }
}

impl<F: Family> Table<F> {
    /// As [`Table::kill`], by who tells everybody that it has ended.
    pub(super) fn kill_culled(&self, number: u32) -> bool {
        self.kill_as(number, State::DYING | State::CULLED)
    }

    /// As [`Table::kill_culled`], of a TCP connection whose ends are to be told: the sweep leaves it in the index for [`LINGER`] from `now` on. The
    /// control thread's, as the sweep is.
    pub(super) fn kill_drained(&self, number: u32, now: Millis) -> bool {
        // Before anyone can see that it is dying: who looks for it must not pass it over.
        self.drained.fetch_add(1, Relaxed);
        let killed = self.kill_as(number, State::DYING | State::DRAINED);
        match killed {
            true => self.entry(number).touch(now),
            false => self.forget_drained(),
        }
        killed
    }

    /// Tells `closed` of a connection whose place is taken back, which had this state, unless whoever ended it has done so.
    pub(super) fn settle_account(&self, state: State, view: &ConnectionView, closed: &mut dyn FnMut(&ConnectionView)) {
        if state.has(State::DRAINED) {
            self.forget_drained();
        }
        if !state.has(State::CULLED) {
            closed(view);
        }
    }

    /// One that was remembered for its ends is no more.
    pub(super) fn forget_drained(&self) {
        self.drained.fetch_sub(1, Relaxed);
    }

    /// Whether `tuple` is that of a connection that was reset a moment ago. The caller is inside.
    #[cold]
    pub fn was_drained(&self, hash: u64, tuple: &Tuple<F>) -> bool {
        // Relaxed: a hint; a packet that comes at the same moment may be dropped as if it had come before.
        self.drained.load(Relaxed) > 0
            && self.find_any(hash, |entry, direction| {
                entry.has_tuple(tuple, direction) && entry.state().has(State::DYING | State::DRAINED)
            })
    }
}

/// A RST in each direction.
fn partings<F: Family>(table: &Table<F>, number: u32, entry: &Entry<F>) -> [Parting; 2] {
    let numbers = l4proto::tcp::last_numbers(entry, table.extension_of(number));
    [Direction::Original, Direction::Reply].map(|direction| {
        // What packets of this direction leave with is the inverse of the other one's tuple.
        let leaves: Tuple<F> = entry.tuple(direction.turned()).inverted();
        let (view, (sequence, acknowledgment)) = (leaves.view(), numbers[direction as usize]);
        Parting { source: view.source, destination: view.destination, sequence, acknowledgment }
    })
}
