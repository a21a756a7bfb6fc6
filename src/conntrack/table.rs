//! The table of one family: entries, the index over their tuples, and the free list.

use super::account::{Account, AccountView};
use super::agenda::Agenda;
use super::departed::Departed;
use super::entry::{Direction, Entry, Owner, State};
use super::extension::Extensions;
use super::family::{Family, V6};
use super::free_list::{BATCH, FreeList, Hoard};
use super::hash::HashKey;
use super::ignored_syns::IgnoredSyns;
use super::index::{Handle, Index, Inserted, MAX_NUMBER};
use super::prefetch::prefetch;
use super::region::Region;
use super::table_bytes::TableBytes;
use super::{ConnectionView, Now, TimeoutPolicy, Tuple, expire};
use crossbeam_utils::CachePadded;
use std::io;
// Not one of loom's: a hint that nothing hangs on.
use std::sync::atomic::AtomicUsize;

/// Connections of one address family.
#[derive(Debug)]
pub struct Table<F: Family> {
    entries: Region<Entry<F>>,
    accounts: Option<Region<Account>>,
    pub(super) ignored_syns: IgnoredSyns,
    pub(super) extensions: Extensions,
    index: Index,
    free: FreeList,
    /// When the control thread looks at which part of the entries.
    pub(super) agenda: Agenda,
    /// Connections that have ended and whose places are not free yet.
    pub(super) departed: Departed,
    /// Connections that were reset and are still in the index.
    pub(super) drained: CachePadded<AtomicUsize>,
    key: HashKey,
}

/// What a lookup found, before the entry was looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Guess(Handle);

/// A live connection and the direction of the packet that led to it.
#[derive(Debug)]
pub struct Found<'a, F: Family> {
    /// The connection.
    pub entry: &'a Entry<F>,
    /// The packet's direction.
    pub direction: Direction,
    number: u32,
}

impl<F: Family> Found<'_, F> {
    /// The number of the connection's entry.
    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

/// An entry that one worker fills in; nobody else knows it.
#[derive(Debug)]
pub struct Unconfirmed<'a, F: Family> {
    /// The entry.
    pub entry: &'a Entry<F>,
    pub(super) number: u32,
    original_hash: u64,
}

/// What became of confirming.
#[derive(Debug)]
pub enum Confirmed<'a, F: Family> {
    /// The connection is in the table; its first packet is of the original direction.
    Placed(Found<'a, F>),
    /// Another worker confirmed the same connection first: that is the one that counts.
    Clash,
    /// The index has no room near the tuple's home.
    Full,
}

/// What became of taking a reply tuple.
#[derive(Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It is this connection's now.
    Taken,
    /// It is another connection's.
    InUse,
    /// The index has no room near the tuple's home.
    Full,
}

impl Table<V6> {
    /// Pass 2, later: asks for the second line of the entry, which those of IPv6 have.
    #[inline(always)]
    pub fn prefetch_second_line(&self, guess: Guess) {
        prefetch(self.entry(guess.0.number()).second_line());
    }
}

impl<F: Family> Table<F> {
    /// Room for `connections`, at most [`Table::<F>::MAX_CONNECTIONS`].
    pub fn new(connections: usize, key: HashKey) -> io::Result<Self> {
        if connections == 0 || connections > Self::MAX_CONNECTIONS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            entries: Region::new(connections + 1)?,
            accounts: None,
            ignored_syns: IgnoredSyns::new()?,
            extensions: Extensions::new()?,
            index: Index::new(2 * connections)?,
            free: FreeList::new(connections as u32 + 1),
            agenda: Agenda::new(connections as u32 + 1),
            departed: Departed::new(connections),
            drained: CachePadded::default(),
            key,
        })
    }

    /// Most connections that a table can hold.
    pub const MAX_CONNECTIONS: usize = MAX_NUMBER - 1;

    /// From now on connections are counted ([`Account`]). To be called before the first one is opened.
    pub(super) fn keep_accounts(&mut self) -> io::Result<()> {
        self.accounts = Some(Region::new(self.entries.items().len())?);
        Ok(())
    }

    /// Takes the memory of all entries, accounts and the index now.
    pub(super) fn populate(&self) -> io::Result<()> {
        self.accounts.as_ref().map_or(Ok(()), Region::populate)?;
        self.entries.populate()?;
        self.index.populate()
    }

    /// Connections that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.entries.items().len() - 1
    }

    /// Bytes of the index, of the entries and of the accounts when every page of them is in use.
    pub fn bytes(&self) -> TableBytes {
        TableBytes {
            index: self.index.bytes(),
            entries: self.entries.bytes(),
            accounts: self.accounts.as_ref().map_or(0, Region::bytes),
        }
    }

    /// The hash of a tuple, for the lookups below.
    #[inline(always)]
    pub fn hash(&self, tuple: &Tuple<F>) -> u64 {
        tuple.hash(&self.key)
    }

    /// The key of [`Table::hash`].
    pub fn key(&self) -> &HashKey {
        &self.key
    }

    /// Pass 1 over a burst: asks for the line of the index.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Pass 2 over a burst: reads that line.
    #[inline(always)]
    pub fn guess(&self, hash: u64) -> Guess {
        Guess(self.index.guess(hash))
    }

    /// Pass 2 over a burst: asks for the line of the entry. Where nothing was guessed, for one that nobody needs: cheaper than a branch.
    #[inline(always)]
    pub fn prefetch_entry(&self, guess: Guess) {
        let number = guess.0.number();
        prefetch(self.entry(number));
        if let Some(account) = self.account_of(number) {
            prefetch(account);
        }
    }

    /// Pass 3: the connection that was guessed, live or not, if `tuple` is one of its own.
    #[inline(always)]
    pub fn guessed(&self, guess: Guess, tuple: &Tuple<F>) -> Option<Found<'_, F>> {
        // Where nothing was guessed this is entry 0, whose tuple no packet has.
        let found = self.found(guess.0);
        found.entry.has_tuple(tuple, found.direction).then_some(found)
    }

    /// Pass 3: the live connection that `tuple` belongs to.
    #[inline(always)]
    pub fn find(&self, hash: u64, guess: Guess, tuple: &Tuple<F>) -> Option<Found<'_, F>> {
        let live = self.guessed(guess, tuple).filter(|found| found.entry.state().is_live());
        live.or_else(|| self.look_up(hash, tuple))
    }

    /// The live connection that `tuple` belongs to, without a guess.
    pub fn look_up(&self, hash: u64, tuple: &Tuple<F>) -> Option<Found<'_, F>> {
        let handle = self.index.find(hash, |handle| {
            let entry = self.entry(handle.number());
            entry.has_tuple(tuple, direction(handle)) && entry.state().is_live()
        })?;
        Some(self.found(handle))
    }

    /// Whether there is room for a connection without one giving way ([`Table::early_drop`]).
    #[inline]
    pub fn has_room(&self, hoard: &mut Hoard) -> bool {
        self.free.has_free(self.entries.items(), hoard)
    }

    /// Begins a connection; `None`: the table is full, and nothing that gave way can be used yet.
    pub fn open(
        &self,
        hoard: &mut Hoard,
        original: &Tuple<F>,
        original_hash: u64,
        owner: Owner,
        state: State,
        now: impl Into<Now>,
    ) -> Option<Unconfirmed<'_, F>> {
        let now = now.into();
        let number = self.free.take(self.entries.items(), hoard)?;
        self.extensions.release(number);
        let entry = self.entry(number);
        entry.begin(original, owner, state, now.millis);
        if let Some(account) = self.account_of(number) {
            account.begin(now);
        }
        Some(Unconfirmed { entry, number, original_hash })
    }

    /// Asks for the index line of a reply tuple that may be tried soon.
    pub fn prefetch_tuple(&self, tuple: &Tuple<F>) {
        self.index.prefetch(self.hash(tuple));
    }

    /// Takes a reply tuple for a connection, if no other one has it: this is what makes a SNAT port taken.
    pub fn reserve(&self, connection: &Unconfirmed<'_, F>, reply: &Tuple<F>) -> Reserved {
        connection.entry.set_tuple(Direction::Reply, reply);
        let handle = Handle::new(connection.number, true);
        match self.index.insert(self.hash(reply), handle, |other| self.has(other, reply)) {
            Inserted::Placed => Reserved::Taken,
            Inserted::Exists(_) => Reserved::InUse,
            Inserted::Full => Reserved::Full,
        }
    }

    /// Makes the connection visible to everyone. Its reply tuple must have been reserved.
    pub fn confirm<'a>(&'a self, connection: Unconfirmed<'a, F>) -> Confirmed<'a, F> {
        let entry = connection.entry;
        let original = entry.tuple(Direction::Original);
        // Release: before the slot below is published, so that whoever finds the connection finds it confirmed.
        entry.set_state(entry.state().with(State::CONFIRMED));
        let handle = Handle::new(connection.number, false);
        loop {
            match self.index.insert(connection.original_hash, handle, |other| self.has(other, &original)) {
                Inserted::Placed => return Confirmed::Placed(self.found(handle)),
                Inserted::Exists(winner) if self.entry(winner.number()).state().is_live() => {
                    self.abandon(entry, connection.number);
                    return Confirmed::Clash;
                }
                // On its way out: taken from the index here and now, its sweep will not find it there any more.
                Inserted::Exists(leaving) => {
                    self.index.remove(connection.original_hash, leaving);
                }
                Inserted::Full => {
                    self.abandon(entry, connection.number);
                    return Confirmed::Full;
                }
            }
        }
    }

    /// Gives an entry back that no tuple was reserved for.
    pub fn discard(&self, hoard: &mut Hoard, connection: Unconfirmed<'_, F>) {
        connection.entry.set_state(State::default());
        FreeList::put_back(self.entries.items(), hoard, connection.number);
    }

    /// Leaves an entry that others may have seen through its reply tuple; the next sweep frees it. Nobody else ends it meanwhile: only what
    /// is placed is ended ([`Table::kill_number`], early drop, expiry).
    fn abandon(&self, entry: &Entry<F>, number: u32) {
        entry.set_state(entry.state().with(State::CONFIRMED | State::DYING | State::ABANDONED));
        self.depart(number);
    }

    /// Ends a connection: no packet finds it any more, the next sweep frees it. `false`: someone else did.
    pub fn kill(&self, found: &Found<'_, F>) -> bool {
        self.kill_number(found.number)
    }

    /// As [`Table::kill`]. The caller is inside.
    pub(super) fn kill_number(&self, number: u32) -> bool {
        self.kill_as(number, State::DYING)
    }

    /// As [`Table::kill_number`], with these bits set.
    pub(super) fn kill_as(&self, number: u32, bits: u32) -> bool {
        let entry = self.entry(number);
        let mut seen = entry.state();
        // Confirmed a moment before it is placed, it is its opener's still, who may have to give it up: ended here as well, it would be
        // freed twice.
        if seen.is_live() && !self.is_placed(number, self.hash(&entry.tuple(Direction::Original))) {
            return false;
        }
        while seen.is_live() {
            match entry.change_state(seen, seen.with(bits)) {
                // The index slots go with the sweep; lookups skip them because of the state.
                Ok(()) => {
                    self.depart(number);
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    /// The account of a connection, if accounts are kept.
    #[inline(always)]
    pub fn account(&self, found: &Found<'_, F>) -> Option<&Account> {
        self.account_of(found.number)
    }

    #[inline(always)]
    fn account_of(&self, number: u32) -> Option<&Account> {
        self.accounts.as_ref().map(|accounts| &accounts.items()[number as usize])
    }

    /// A copy of the account of an entry, if accounts are kept.
    pub(super) fn account_view(&self, number: u32) -> Option<AccountView> {
        self.account_of(number).map(Account::view)
    }

    /// A copy for events. The caller is inside.
    pub fn copy(&self, found: &Found<'_, F>, timeouts: &TimeoutPolicy) -> ConnectionView {
        self.view(found.number, timeouts)
    }

    /// A copy for lists. The caller is inside.
    pub(super) fn view(&self, number: u32, timeouts: &TimeoutPolicy) -> ConnectionView {
        expire::view(self, number, timeouts)
    }

    /// Numbers of entries that may be in use.
    pub(super) fn numbers(&self) -> std::ops::Range<u32> {
        1..self.free.high_water()
    }

    #[inline(always)]
    pub(super) fn entry(&self, number: u32) -> &Entry<F> {
        &self.entries.items()[number as usize]
    }

    /// Whether a connection is in the index by its original tuple: confirmed to the end, not given up to another one.
    pub(super) fn is_placed(&self, number: u32, original_hash: u64) -> bool {
        self.index.find(original_hash, |handle| handle == Handle::new(number, false)).is_some()
    }

    /// Whether the index has an entry under this hash that is meant, in whatever state; and whether by its reply tuple.
    pub(super) fn find_any(&self, hash: u64, is_meant: impl Fn(&Entry<F>, Direction) -> bool) -> bool {
        self.index.find(hash, |handle| is_meant(self.entry(handle.number()), direction(handle))).is_some()
    }

    /// Numbers of connections that stand in these buckets of the index, counted from the home of `hash`.
    pub(super) fn numbers_near(&self, hash: u64, buckets: std::ops::Range<usize>) -> impl Iterator<Item = u32> {
        self.index.originals_near(hash, buckets)
    }

    /// The hashes of both tuples of an entry, original first, their lines of the index asked for.
    pub(super) fn prefetch_tuples(&self, entry: &Entry<F>) -> [u64; 2] {
        [Direction::Original, Direction::Reply].map(|direction| {
            let hash = self.hash(&entry.tuple(direction));
            self.index.prefetch(hash);
            hash
        })
    }

    /// Takes both tuples of a dying entry out of the index.
    pub(super) fn unlink(&self, number: u32) {
        let hashes = self.prefetch_tuples(self.entry(number));
        self.unlink_hashed(number, hashes);
    }

    /// As [`Table::unlink`], with the hashes of its tuples.
    pub(super) fn unlink_hashed(&self, number: u32, [original, reply]: [u64; 2]) {
        self.index.remove(original, Handle::new(number, false));
        self.index.remove(reply, Handle::new(number, true));
    }

    /// Frees entries that nobody can see any more.
    pub(super) fn free(&self, numbers: &[u32]) {
        numbers.iter().for_each(|number| self.extensions.release(*number));
        self.departed.left(numbers.len());
        for batch in numbers.chunks(BATCH as usize) {
            self.free.push(self.entries.items(), batch);
        }
    }

    /// Whether the index holds nothing.
    #[cfg(all(test, feature = "loom"))]
    pub(super) fn is_clean(&self) -> bool {
        self.index.is_clean()
    }

    /// The number of an entry that is handed out.
    #[cfg(all(test, feature = "loom"))]
    pub(super) fn take_number(&self, hoard: &mut Hoard) -> Option<u32> {
        self.free.take(self.entries.items(), hoard)
    }

    fn has(&self, handle: Handle, tuple: &Tuple<F>) -> bool {
        self.entry(handle.number()).has_tuple(tuple, direction(handle))
    }

    #[inline(always)]
    fn found(&self, handle: Handle) -> Found<'_, F> {
        Found { entry: self.entry(handle.number()), direction: direction(handle), number: handle.number() }
    }
}

/// The direction of the tuple that a slot is under.
#[inline(always)]
fn direction(handle: Handle) -> Direction {
    if handle.is_reply() { Direction::Reply } else { Direction::Original }
}
