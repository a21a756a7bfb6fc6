//! What a scheduler may know of one backend.

use arc_swap::ArcSwapOption;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Weak};

/// Its health checks failed.
const UNHEALTHY: u8 = 1;
/// Somebody drains it.
const DRAINED: u8 = 2;

/// One backend as schedulers see it. Shared between the snapshot that workers read and the control thread, and by all services of a pool.
///
/// All fields are independent numbers, none of them publishes memory: who only reads them does so `Relaxed`. Who follows a member's
/// changes ([`Watch`]) must not miss one, and so must not read a number that is older than the call that told of its change: writes, and
/// the reads of [`Member::standing`], are `SeqCst`.
#[derive(Debug)]
pub struct Member {
    /// Address and port of the backend; hashing schedulers know it by this.
    pub address: SocketAddr,
    weight: AtomicU32,
    /// Why it may not be chosen, a bit for each reason; 0: it may.
    refusals: AtomicU8,
    connections: AtomicU32,
    priority: AtomicU32,
    overflow_at: AtomicU32,
    max_connections: AtomicU32,
    /// Whether `watchers` was ever filled: most members have none, and a look at this costs them nothing.
    watched: AtomicBool,
    watchers: ArcSwapOption<Vec<Watcher>>,
}

/// Numbers of a member by which it is ranked, all at least as new as the call that asks for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) connections: u32,
    /// 0: it may not be chosen, or is at its limit.
    pub(super) weight: u32,
    pub(super) overflow_at: u32,
    pub(super) priority: u32,
}

/// Who keeps something that follows from the numbers of members.
pub(super) trait Watch: Send + Sync {
    /// A number of the member at this index has changed. Called by whoever changed it: workers and the control thread, several at once.
    fn changed(&self, index: usize, member: &Member);
}

/// Held weakly: a watcher dies with its scheduler.
#[derive(Debug, Clone)]
struct Watcher {
    who: Weak<dyn Watch>,
    /// What the watcher knows the member by.
    index: usize,
}

impl Member {
    /// A member without connections. `weight` is 0 to 65535; 0 takes no new connections.
    pub fn new(address: SocketAddr, weight: u32, eligible: bool) -> Self {
        Self {
            address,
            weight: AtomicU32::new(weight),
            refusals: AtomicU8::new(if eligible { 0 } else { UNHEALTHY }),
            connections: AtomicU32::new(0),
            priority: AtomicU32::new(0),
            overflow_at: AtomicU32::new(u32::MAX),
            max_connections: AtomicU32::new(u32::MAX),
            watched: AtomicBool::new(false),
            watchers: ArcSwapOption::empty(),
        }
    }

    /// The weight in force, 0 for a member that may not be chosen (down, draining or weight 0). One at its limit keeps its weight.
    pub fn weight(&self) -> u32 {
        if self.refusals.load(Relaxed) == 0 { self.weight.load(Relaxed) } else { 0 }
    }

    /// The weight as configured, whatever the health.
    pub fn configured_weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Sets the configured weight; the owner calls [`super::Scheduler::refresh`] afterwards.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, SeqCst);
        self.tell();
    }

    /// Whether its health allows new connections.
    pub fn is_eligible(&self) -> bool {
        self.refusals.load(Relaxed) & UNHEALTHY == 0
    }

    /// Its health allows or forbids new connections; the owner calls [`super::Scheduler::refresh`] afterwards.
    pub fn set_eligible(&self, eligible: bool) {
        self.refuse(UNHEALTHY, !eligible);
    }

    /// Whether somebody drains it, whatever its health.
    pub fn is_drained(&self) -> bool {
        self.refusals.load(Relaxed) & DRAINED != 0
    }

    /// Forbids new connections until this is taken back; the owner calls [`super::Scheduler::refresh`] afterwards.
    pub fn set_drained(&self, drained: bool) {
        self.refuse(DRAINED, drained);
    }

    fn refuse(&self, reason: u8, refused: bool) {
        match refused {
            true => self.refusals.fetch_or(reason, SeqCst),
            false => self.refusals.fetch_and(!reason, SeqCst),
        };
        self.tell();
    }

    /// The tier of [`super::Failover`]; lower ones come first.
    pub fn priority(&self) -> u32 {
        self.priority.load(Relaxed)
    }

    /// Sets the tier; the owner calls [`super::Scheduler::refresh`] afterwards.
    pub fn set_priority(&self, priority: u32) {
        self.priority.store(priority, SeqCst);
        self.tell();
    }

    /// Connections at which `first_available` goes on to the next member; `None`: never.
    pub fn overflow_at(&self) -> Option<u32> {
        Some(self.overflow_at.load(Relaxed)).filter(|limit| *limit != u32::MAX)
    }

    /// Sets the connections at which `first_available` goes on to the next member.
    pub fn set_overflow_at(&self, limit: Option<u32>) {
        self.overflow_at.store(limit.unwrap_or(u32::MAX), SeqCst);
        self.tell();
    }

    /// Connections at which it is chosen no more; `None`: never.
    pub fn max_connections(&self) -> Option<u32> {
        Some(self.max_connections.load(Relaxed)).filter(|limit| *limit != u32::MAX)
    }

    /// Sets the connections at which it is chosen no more. The owner makes its schedulers anew afterwards: those of members without limits
    /// do not look at them.
    pub fn set_max_connections(&self, limit: Option<u32>) {
        self.max_connections.store(limit.unwrap_or(u32::MAX), SeqCst);
        self.tell();
    }

    /// Whether it is below its limit.
    pub fn has_room(&self) -> bool {
        self.connections.load(Relaxed) < self.max_connections.load(Relaxed)
    }

    /// Counts a connection that is about to be confirmed. `false`: the member is at its limit, and nothing was counted.
    pub fn enter(&self) -> bool {
        let most = self.max_connections.load(Relaxed);
        if most == u32::MAX {
            self.connection_opened();
            return true;
        }
        let entered = self.connections.fetch_update(SeqCst, Relaxed, |count| (count < most).then_some(count + 1)).is_ok();
        if entered {
            self.tell();
        }
        entered
    }

    /// Connections that are tracked now, and those that are about to be.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// A connection is confirmed or about to be, whatever the limit.
    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, SeqCst);
        self.tell();
    }

    /// A connection left the table, or was not confirmed after all.
    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, SeqCst);
        self.tell();
    }

    pub(super) fn standing(&self) -> Standing {
        let connections = self.connections.load(SeqCst);
        let may_be_chosen = self.refusals.load(SeqCst) == 0 && connections < self.max_connections.load(SeqCst);
        let weight = if may_be_chosen { self.weight.load(SeqCst) } else { 0 };
        Standing { connections, weight, overflow_at: self.overflow_at.load(SeqCst), priority: self.priority.load(SeqCst) }
    }

    /// `who` is told of every change from now on, and once at the end of this call, so that it has missed none before. Watchers that
    /// are dead are forgotten here. Control thread only.
    pub(super) fn watch(&self, who: Weak<dyn Watch>, index: usize) {
        self.watchers.rcu(|list| {
            let alive = list.iter().flat_map(|list| list.iter()).filter(|watcher| watcher.who.strong_count() > 0);
            Some(Arc::new(alive.cloned().chain([Watcher { who: Weak::clone(&who), index }]).collect::<Vec<_>>()))
        });
        // SeqCst: either who changes a number sees the new list, or the number that is read below is the changed one.
        self.watched.store(true, SeqCst);
        if let Some(who) = who.upgrade() {
            who.changed(index, self);
        }
    }

    /// After a number was changed.
    #[inline]
    fn tell(&self) {
        // SeqCst: see `watch`.
        if self.watched.load(SeqCst) {
            self.tell_watchers();
        }
    }

    #[inline(never)]
    fn tell_watchers(&self) {
        let watchers = self.watchers.load();
        for watcher in watchers.iter().flat_map(|list| list.iter()) {
            if let Some(who) = watcher.who.upgrade() {
                who.changed(watcher.index, self);
            }
        }
    }

    /// Watchers that are alive.
    #[cfg(test)]
    pub(super) fn watchers(&self) -> usize {
        self.watchers.load().iter().flat_map(|list| list.iter()).filter(|watcher| watcher.who.strong_count() > 0).count()
    }
}
