//! What happens to connections, told to whoever listens: a stream that is bounded everywhere and that nobody waits for.
//!
//! Every thread that changes connections has a queue of its own (all threads that are no workers share one). It puts an event there only
//! while somebody listens; when the queue is full the event is lost and counted. Listeners empty the queues, each for all of them, into
//! rings of their own; one that reads too slowly loses what its ring has no room for, and is told how much that was. So a listener costs
//! a worker one copy a state change, whatever the listener does.

use super::{ConnectionView, Millis};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Events that wait for a listener to come by, of one thread.
const QUEUE: usize = 8192;
/// Events that wait for one listener.
const RING: usize = 32_768;
/// Listeners at a time.
const LISTENERS: usize = 8;

macro_rules! destroy_reasons {
    ($($variant:ident $label:literal $sentence:literal,)*) => {
        /// Why a connection left the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DestroyReason { $(#[doc = $sentence] $variant,)* }

        impl DestroyReason {
            /// The stable name.
            pub const fn label(self) -> &'static str {
                match self { $(DestroyReason::$variant => $label,)* }
            }
        }
    };
}

destroy_reasons! {
    Timeout "timeout" "It was silent for longer than its state allows.",
    Closed "closed" "Both sides had closed it, and the time in which late packets may come was over or its tuple was used again.",
    Reset "reset" "One side had reset it, and the time in which late packets may come was over or its tuple was used again.",
    EarlyDrop "early_drop" "The table was full and another connection needed the room.",
    Deleted "deleted" "Somebody asked for it: `weir conn delete`.",
    Drained "drained" "Its backend takes no new connections: the deadline of the drain was over, or it moved to another backend.",
    Unserved "unserved" "A reload took its service, or its VIP, port or protocol, away.",
    BackendRemoved "backend_removed" "Its backend is in no pool any more and never answered.",
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was confirmed: its first packet left.
    New,
    /// Its state changed.
    Update,
    /// Its state changed to one that is not given up first when the table is full.
    Assured,
    /// It left the table.
    Destroy(DestroyReason),
}

impl EventKind {
    /// The names of all kinds.
    pub const LABELS: &'static [&'static str] = &["new", "update", "assured", "destroy"];

    /// The stable name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Update => "update",
            Self::Assured => "assured",
            Self::Destroy(_) => "destroy",
        }
    }
}

/// An event: the connection as it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When, on the clock of connections.
    pub at: Millis,
    /// To whom.
    pub connection: ConnectionView,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // nearly all are events, and nobody keeps many
pub enum Heard {
    /// An event. They come in the order in which they happened; of different threads, but for a thread that was stopped while it told.
    Event(Event),
    /// That many events before the next one are missing: the listener was too slow.
    Lost(u64),
}

/// Where events go through.
#[derive(Debug)]
pub(super) struct Hub {
    listening: CachePadded<AtomicBool>,
    /// Events told up to now: their order, over all threads.
    told: CachePadded<AtomicU64>,
    channels: Mutex<Vec<Arc<Channel>>>,
    audience: Mutex<Audience>,
}

/// The queue of one thread, made when somebody listens for the first time.
#[derive(Debug, Default)]
struct Channel {
    queue: OnceLock<ArrayQueue<(u64, Event)>>,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Audience {
    rings: Vec<Ring>,
    next: u64,
    /// Kept for its memory.
    drained: Vec<(u64, Event)>,
}

#[derive(Debug)]
struct Ring {
    listener: u64,
    events: VecDeque<Event>,
    lost: u64,
}

/// The end at which a thread puts events in.
#[derive(Debug)]
pub struct Teller {
    hub: Arc<Hub>,
    channel: Arc<Channel>,
}

/// The end at which they come out. Dropping it ends the listening.
#[derive(Debug)]
pub struct Listener {
    hub: Arc<Hub>,
    id: u64,
}

impl Hub {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            listening: CachePadded::default(),
            told: CachePadded::default(),
            channels: Mutex::default(),
            audience: Mutex::default(),
        })
    }

    /// A queue for one more thread.
    pub(super) fn teller(self: &Arc<Self>) -> Teller {
        let channel = Arc::new(Channel::default());
        let mut channels = lock(&self.channels);
        // A thread that is gone, and whose last events were heard, needs no queue.
        channels.retain(|known| Arc::strong_count(known) > 1 || known.queue.get().is_some_and(|queue| !queue.is_empty()));
        channels.push(Arc::clone(&channel));
        if self.listening.load(Relaxed) {
            channel.open();
        }
        Teller { hub: Arc::clone(self), channel }
    }

    /// From now on a listener hears everything; `None`: there are too many already.
    pub(super) fn listen(self: &Arc<Self>) -> Option<Listener> {
        let mut audience = lock(&self.audience);
        if audience.rings.len() >= LISTENERS {
            return None;
        }
        if audience.rings.is_empty() {
            // What is left over from the last listener is not for this one.
            self.drain(&mut audience);
        }
        audience.next += 1;
        let id = audience.next;
        audience.rings.push(Ring { listener: id, events: VecDeque::new(), lost: 0 });
        let channels = lock(&self.channels);
        channels.iter().for_each(|channel| channel.open());
        // Relaxed: a thread that sees it late tells late. The queues themselves are published by their `OnceLock`.
        self.listening.store(true, Relaxed);
        Some(Listener { hub: Arc::clone(self), id })
    }

    /// Moves what is in the queues into everybody's ring.
    fn drain(&self, audience: &mut Audience) {
        for channel in lock(&self.channels).iter() {
            let Some(queue) = channel.queue.get() else { continue };
            // At most what fits once: a worker that goes on telling must not keep the listener here.
            audience.drained.extend(std::iter::from_fn(|| queue.pop()).take(QUEUE));
            let lost = channel.lost.swap(0, Relaxed);
            audience.rings.iter_mut().for_each(|ring| ring.lost += lost);
        }
        audience.drained.sort_unstable_by_key(|(number, _)| *number);
        for (_, event) in audience.drained.drain(..) {
            audience.rings.iter_mut().for_each(|ring| ring.push(&event));
        }
    }
}

/// A listener that panicked leaves counts and whole events behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel {
    fn open(&self) {
        self.queue.get_or_init(|| ArrayQueue::new(QUEUE));
    }
}

impl Ring {
    fn push(&mut self, event: &Event) {
        if self.events.len() < RING {
            self.events.push_back(event.clone());
        } else {
            self.lost += 1;
        }
    }
}

impl Teller {
    /// Whether there is anyone to tell. Relaxed: nothing follows from it but whether an event is made.
    #[inline(always)]
    pub fn is_heard(&self) -> bool {
        self.hub.listening.load(Relaxed)
    }

    /// Tells. Never waits: what has no room is counted as lost.
    #[cold]
    #[inline(never)]
    pub fn tell(&self, kind: EventKind, at: Millis, connection: ConnectionView) {
        // Relaxed: only its own order counts.
        let number = self.hub.told.fetch_add(1, Relaxed);
        let told = self.channel.queue.get().is_some_and(|queue| queue.push((number, Event { kind, at, connection })).is_ok());
        if !told {
            self.channel.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Listener {
    /// Everything since the last call, appended to `heard`; nothing if nothing happened.
    pub fn take(&mut self, heard: &mut Vec<Heard>) {
        let mut audience = lock(&self.hub.audience);
        self.hub.drain(&mut audience);
        let Some(ring) = audience.rings.iter_mut().find(|ring| ring.listener == self.id) else { return };
        let events = std::mem::take(&mut ring.events);
        let lost = std::mem::take(&mut ring.lost);
        drop(audience);
        heard.extend(events.into_iter().map(Heard::Event));
        // What was lost came after what there was room for.
        if lost > 0 {
            heard.push(Heard::Lost(lost));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut audience = lock(&self.hub.audience);
        audience.rings.retain(|ring| ring.listener != self.id);
        if audience.rings.is_empty() {
            // Relaxed: as in `listen`.
            self.hub.listening.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
