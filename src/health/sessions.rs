//! TLS sessions of one backend, kept from probe to probe.
//!
//! A handshake that resumes a session costs a third of a whole one, but shows no certificate. So there is a whole one whenever something
//! speaks against the backend, and at least every [`super::Tls::full_handshake`].

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Sessions with one backend, by one way of checking it: nobody else's ticket is ever shown to it.
#[derive(Debug)]
pub(super) struct Sessions {
    client: Arc<ClientConfig>,
    memory: Arc<Memory>,
    /// Whole handshakes are due at moments this far apart, the first one after `phase`: so those of many backends do not come together.
    period: Duration,
    phase: Duration,
    began: Duration,
    whole_from: Option<Duration>,
}

impl Sessions {
    /// None yet. `random`: any number, of which follows when whole handshakes are due.
    pub(super) fn new(base: &ClientConfig, period: Duration, random: u64) -> Self {
        let memory = Arc::new(Memory::default());
        let store = Arc::clone(&memory) as Arc<dyn ClientSessionStore>;
        let mut client = base.clone();
        client.resumption = Resumption::store(store);
        let phase = period.mul_f64(random as f64 / u64::MAX as f64);
        Self { client: Arc::new(client), memory, period, phase, began: Duration::ZERO, whole_from: None }
    }

    /// A probe begins. `is_trusted`: nothing speaks against the backend. Otherwise, or if it is time, its handshake will be a whole one.
    pub(super) fn begin(&mut self, now: Duration, is_trusted: bool) -> Arc<ClientConfig> {
        self.began = now;
        if !is_trusted || self.whole_from.is_none_or(|from| from <= now) {
            self.memory.forget();
        }
        Arc::clone(&self.client)
    }

    /// The probe that began last has passed, with a whole handshake.
    pub(super) fn note_whole(&mut self) {
        let since_due = |period| (self.began.as_nanos() + u128::from(period) - self.phase.as_nanos()) % u128::from(period);
        let period = self.period.as_nanos() as u64;
        let wait = if period == 0 { 0 } else { period - since_due(period) as u64 };
        self.whole_from = Some(self.began + Duration::from_nanos(wait));
    }
}

/// What rustls is given to remember; the name of the server is always the same.
#[derive(Debug, Default)]
struct Memory(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The group that the server takes; it may be known also where a handshake has to be whole.
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// The newest one; servers may send several, and may take each only once (RFC 8446, appendix C.4).
    tls13: Option<Tls13ClientSessionValue>,
}

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self) {
        let mut kept = self.kept();
        (kept.tls12, kept.tls13) = (None, None);
    }
}

impl ClientSessionStore for Memory {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.kept().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.kept().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept().tls13 = Some(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept().tls13.take()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Trust;
    use super::super::tls::client;
    use super::*;

    fn sessions(period: u64, random: u64) -> Sessions {
        Sessions::new(&client(&Trust::Anybody).unwrap(), Duration::from_secs(period), random)
    }

    #[test]
    fn whole_handshakes_are_due_once_a_period_and_spread() {
        let mut firsts = Vec::new();
        for random in [0, u64::MAX / 3, u64::MAX / 2, u64::MAX] {
            let mut sessions = sessions(30, random);
            let mut due = Vec::new();
            for second in 0..300 {
                sessions.begin(Duration::from_secs(second), true);
                if sessions.whole_from.is_none_or(|from| from <= Duration::from_secs(second)) {
                    due.push(second);
                    sessions.note_whole();
                }
            }
            assert!(due.windows(2).all(|pair| pair[1] - pair[0] <= 30), "{due:?}");
            assert!(due[1..].windows(2).all(|pair| pair[1] - pair[0] >= 29) && due.len() <= 12, "{due:?}");
            firsts.push(due[1]);
        }
        firsts.sort_unstable();
        firsts.dedup();
        assert!(firsts.len() >= 3, "{firsts:?}");
    }

    #[test]
    fn with_a_period_of_zero_each_one_is_whole() {
        let mut sessions = sessions(0, 7);
        for second in 0..3 {
            sessions.begin(Duration::from_secs(second), true);
            sessions.note_whole();
            assert_eq!(sessions.whole_from, Some(Duration::from_secs(second)));
        }
    }
}
