//! Who of each pool takes connections, and with how much of its weight: what the pool's rules make of how its backends stand. Pure: time
//! is an argument.
//!
//! **`min_up`.** A backend takes connections if it is fine. If fewer than `min_up` of a pool are, those that were fine once and fell last
//! go on taking connections, until they are `min_up` together; the one that fell first is the first to go when others are fine again.

use super::HealthEvent;
use super::standing::{Handshakes, Passive, Standing};
use crate::service::BackendId;
use std::collections::HashMap;
use std::time::Duration;

/// Between two looks at handshakes.
const LOOK: Duration = Duration::from_millis(200);
/// Steps of a slow start, and the shortest of them: each makes tables of schedulers anew.
const STEPS: u32 = 20;
const SHORTEST_STEP: Duration = Duration::from_millis(250);

/// What a pool does with the standing of its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// As many take connections, whatever is known of them.
    pub min_up: usize,
    /// From being fine again to the whole weight; zero: at once.
    pub slow_start: Duration,
    /// `None`: packets do not speak against anybody.
    pub passive: Option<Passive>,
}

/// A pool as it shall be watched from now on.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What it does.
    pub rules: Rules,
    /// Whether its backends are probed.
    pub probed: bool,
    /// Its backends.
    pub backends: Vec<BackendId>,
}

/// What a backend is to schedulers from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Who.
    pub backend: BackendId,
    /// Whether it takes connections.
    pub serves: bool,
    /// Percent of its weight.
    pub ramp: u32,
}

/// How a backend stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look<'a> {
    /// Its probes pass, and packets do not speak against it.
    pub fine: bool,
    /// It takes connections.
    pub serves: bool,
    /// Packets speak against it, until then.
    pub ejected_until: Option<Duration>,
    /// What changed it last.
    pub why: &'a str,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Of whom.
    pub backend: BackendId,
    /// Whether it is bad news.
    pub bad: bool,
    /// Behind the backend's name.
    pub text: String,
}

#[derive(Debug)]
struct Bed {
    backend: BackendId,
    standing: Standing,
    serves: bool,
    /// As last told; `None`: nothing was told yet.
    fine: Option<bool>,
}

#[derive(Debug)]
struct Room {
    rules: Rules,
    beds: Vec<Bed>,
    /// Something has changed since it was last settled.
    stirred: bool,
    next_step: Option<Duration>,
}

/// All pools.
#[derive(Debug, Default)]
pub struct Ward {
    rooms: Vec<Room>,
    places: HashMap<BackendId, (usize, usize)>,
    next_look: Option<Duration>,
    is_open: bool,
}

impl Ward {
    /// From now on exactly these pools are watched. A backend that stays keeps its standing; one that is new begins with a slow start,
    /// unless all are new.
    pub fn update(&mut self, pools: Vec<Watched>, now: Duration) {
        let beds = std::mem::take(&mut self.rooms).into_iter().flat_map(|room| room.beds);
        let mut known: HashMap<BackendId, Bed> = beds.map(|bed| (bed.backend, bed)).collect();
        let ramp_from = self.is_open.then_some(now);
        self.is_open = true;
        self.places.clear();
        for (at, pool) in pools.into_iter().enumerate() {
            let mut beds = Vec::with_capacity(pool.backends.len());
            for backend in pool.backends {
                self.places.insert(backend, (at, beds.len()));
                let fresh = || Bed { backend, standing: Standing::new(ramp_from), serves: true, fine: None };
                let mut bed = known.remove(&backend).unwrap_or_else(fresh);
                if !pool.probed {
                    bed.standing.forget_probes(now);
                }
                bed.standing.return_if_due(now, pool.rules.passive.is_some());
                beds.push(bed);
            }
            self.rooms.push(Room { rules: pool.rules, beds, stirred: true, next_step: None });
        }
        self.next_look = self.rooms.iter().any(|room| room.rules.passive.is_some()).then_some(now);
    }

    /// Probes say something else of a backend.
    pub fn heed(&mut self, event: &HealthEvent, now: Duration) {
        let Some((room, bed)) = self.places.get(&event.backend) else { return };
        let room = &mut self.rooms[*room];
        room.beds[*bed].standing.set_probed(event.up, &event.why, now);
        room.stirred = true;
    }

    /// When [`Ward::settle`] has something to do though nobody says anything.
    pub fn next(&self) -> Option<Duration> {
        let steps = self.rooms.iter().filter_map(|room| room.next_step);
        steps.chain(self.next_look).min()
    }

    /// What follows from all that was said, and from the time: for every backend of each pool in which something changed. `handshakes`
    /// of a backend are asked for where packets may speak against it.
    pub fn settle(&mut self, now: Duration, handshakes: impl Fn(BackendId) -> Handshakes) -> (Vec<Verdict>, Vec<News>) {
        if self.next_look.is_some_and(|next| next <= now) {
            self.next_look = Some(now + LOOK);
            self.rooms.iter_mut().for_each(|room| room.look(now, &handshakes));
        }
        let (mut verdicts, mut news) = (Vec::new(), Vec::new());
        for room in &mut self.rooms {
            if room.stirred || room.next_step.is_some_and(|next| next <= now) {
                room.settle(now, &mut verdicts, &mut news);
            }
        }
        (verdicts, news)
    }

    /// How a backend stands.
    pub fn look(&self, backend: BackendId) -> Option<Look<'_>> {
        let (room, bed) = self.places.get(&backend)?;
        let Bed { standing, serves, .. } = &self.rooms[*room].beds[*bed];
        Some(Look { fine: standing.is_fine(), serves: *serves, ejected_until: standing.ejected_until(), why: standing.why() })
    }
}

impl Room {
    /// Looks at handshakes, and lets those back whose ejection is over.
    fn look(&mut self, now: Duration, handshakes: &impl Fn(BackendId) -> Handshakes) {
        let Some(rule) = &self.rules.passive else { return };
        for bed in &mut self.beds {
            self.stirred |= bed.standing.return_if_due(now, true);
            self.stirred |= bed.standing.observe(handshakes(bed.backend), rule, now);
        }
    }

    fn settle(&mut self, now: Duration, verdicts: &mut Vec<Verdict>, news: &mut Vec<News>) {
        self.stirred = false;
        let held = self.held();
        for bed in &mut self.beds {
            bed.standing.note_fine();
            let (fine, held) = (bed.standing.is_fine(), held.contains(&bed.backend));
            bed.tell(fine, held, now, news);
            (bed.fine, bed.serves) = (Some(fine), fine || held);
            verdicts.push(Verdict {
                backend: bed.backend,
                serves: bed.serves,
                ramp: if fine { bed.standing.ramp(self.rules.slow_start, now) } else { 100 },
            });
        }
        let step = (self.rules.slow_start / STEPS).max(SHORTEST_STEP);
        let steps = now.as_nanos() / step.as_nanos() + 1;
        // At moments that all backends of the pool share: each step is work for every one of them.
        self.next_step = self.beds.iter().any(|bed| bed.standing.is_ramping()).then(|| step * steps as u32);
    }

    /// Who takes connections only so that there are enough.
    fn held(&self) -> Vec<BackendId> {
        let fine = self.beds.iter().filter(|bed| bed.standing.is_fine()).count();
        let mut fallen: Vec<(Duration, BackendId)> =
            self.beds.iter().filter_map(|bed| Some((bed.standing.fell()?, bed.backend))).collect();
        fallen.sort_unstable_by(|one, other| other.cmp(one));
        fallen.into_iter().take(self.rules.min_up.saturating_sub(fine)).map(|(_, backend)| backend).collect()
    }
}

impl Bed {
    fn tell(&self, fine: bool, held: bool, now: Duration, news: &mut Vec<News>) {
        let why = self.standing.why();
        let stays = if held { "; it goes on taking connections, for min_up" } else { "" };
        let ejection = self.standing.ejected_until().map(|until| until.saturating_sub(now).as_secs_f32());
        // What a backend begins with is no news.
        let Some(before) = self.fine else { return };
        let text = match (before, fine, ejection) {
            (false, true, _) => format!("is up: {why}"),
            (true, false, Some(seconds)) => format!("is ejected for {seconds:.0} s: {why}{stays}"),
            (true, false, None) => format!("is down: {why}{stays}"),
            (false, false, _) if self.serves && !held => format!("takes no connections any more, enough others are up: {why}"),
            (false, false, _) if !self.serves && held => format!("takes connections again, for min_up, though it is down: {why}"),
            _ => return,
        };
        news.push(News { backend: self.backend, bad: !fine, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: fn(BackendId) -> Handshakes = |_| Handshakes { answered: 0, failed: 0 };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ward(rules: Rules, backends: u16) -> Ward {
        let mut ward = Ward::default();
        ward.update(vec![watched(rules, backends)], s(0));
        ward
    }

    fn watched(rules: Rules, backends: u16) -> Watched {
        Watched { rules, probed: true, backends: (0..backends).map(BackendId).collect() }
    }

    fn heed(ward: &mut Ward, backend: u16, up: bool, at: u64) {
        let why = if up { "probes pass" } else { "refused" }.to_owned();
        ward.heed(&HealthEvent { backend: BackendId(backend), up, share: 100, why }, s(at));
    }

    /// Who takes connections, and what is told.
    fn settled(ward: &mut Ward, at: u64) -> (Vec<u16>, Vec<String>) {
        let (_, news) = ward.settle(s(at), NONE);
        let backends = ward.rooms.iter().flat_map(|room| &room.beds);
        let serve = backends.filter(|bed| bed.serves).map(|bed| bed.backend.0).collect();
        (serve, news.into_iter().map(|news| format!("{} {}", news.backend.0, news.text)).collect())
    }

    #[test]
    fn who_is_not_fine_takes_none() {
        let mut ward = ward(Rules::default(), 3);
        assert_eq!(settled(&mut ward, 0), (vec![0, 1, 2], vec![]));
        heed(&mut ward, 1, false, 1);
        assert_eq!(settled(&mut ward, 1), (vec![0, 2], vec!["1 is down: refused".to_owned()]));
        assert_eq!(ward.settle(s(2), NONE), (vec![], vec![]), "nothing changed");
        heed(&mut ward, 1, true, 3);
        assert_eq!(settled(&mut ward, 3), (vec![0, 1, 2], vec!["1 is up: probes pass".to_owned()]));
    }

    #[test]
    fn those_that_fell_last_stay_so_that_there_are_enough() {
        let mut ward = ward(Rules { min_up: 2, ..Rules::default() }, 4);
        heed(&mut ward, 3, false, 0);
        assert_eq!(settled(&mut ward, 0).0, [0, 1, 2], "never up: it is not held");
        heed(&mut ward, 0, false, 1);
        assert_eq!(settled(&mut ward, 1).0, [1, 2]);
        heed(&mut ward, 1, false, 2);
        let stays = "1 is down: refused; it goes on taking connections, for min_up".to_owned();
        assert_eq!(settled(&mut ward, 2), (vec![1, 2], vec![stays]));
        heed(&mut ward, 2, false, 3);
        assert_eq!(settled(&mut ward, 3).0, [1, 2]);
        heed(&mut ward, 3, true, 4);
        let told = ["1 takes no connections any more, enough others are up: refused", "3 is up: probes pass"].map(str::to_owned);
        assert_eq!(settled(&mut ward, 4), (vec![2, 3], told.to_vec()));
        heed(&mut ward, 3, false, 5);
        let again = "3 is down: refused; it goes on taking connections, for min_up".to_owned();
        assert_eq!(settled(&mut ward, 5), (vec![2, 3], vec![again]));
    }

    #[test]
    fn ejections_come_and_go_by_themselves() {
        let rules = Rules { passive: Some(Passive::default()), ..Rules::default() };
        let mut ward = ward(rules, 2);
        ward.settle(s(0), NONE);
        let failing = |backend: BackendId| Handshakes { answered: 0, failed: if backend.0 == 1 { 9 } else { 0 } };
        assert_eq!(ward.next(), Some(LOOK));
        let (verdicts, news) = ward.settle(s(1), failing);
        assert_eq!(verdicts.iter().map(|verdict| verdict.serves).collect::<Vec<_>>(), [true, false]);
        assert_eq!(news[0].text, "is ejected for 30 s: 9 of 9 handshakes failed");
        assert_eq!(ward.settle(s(30), failing), (vec![], vec![]));
        assert_eq!(ward.settle(s(31), failing).1[0].text, "is up: its ejection is over");
        // min_up is for ejected ones, too; and without the rule nobody stays ejected.
        ward.update(vec![watched(Rules { min_up: 2, ..rules }, 2)], s(40));
        ward.settle(s(40), failing);
        let worse = |_| Handshakes { answered: 0, failed: 30 };
        assert_eq!(ward.settle(s(41), worse).0.iter().filter(|verdict| verdict.serves).count(), 2);
        assert!(!ward.look(BackendId(1)).unwrap().fine);
        ward.update(vec![watched(Rules::default(), 2)], s(42));
        assert!(ward.look(BackendId(1)).unwrap().fine);
    }

    #[test]
    fn a_slow_start_is_told_in_steps_and_goes_on_over_a_reload() {
        let rules = Rules { slow_start: s(20), ..Rules::default() };
        let mut ward = ward(rules, 2);
        let ramps = |ward: &mut Ward, at| ward.settle(s(at), NONE).0.iter().map(|verdict| verdict.ramp).collect::<Vec<_>>();
        assert_eq!(ramps(&mut ward, 0), [100, 100], "at the start everybody has all of it");
        heed(&mut ward, 1, false, 1);
        ramps(&mut ward, 1);
        heed(&mut ward, 1, true, 10);
        assert_eq!(ramps(&mut ward, 10), [100, 1]);
        assert_eq!(ward.next(), Some(s(11)));
        assert_eq!(ramps(&mut ward, 11), [100, 5]);
        ward.update(vec![watched(rules, 3)], s(15));
        assert_eq!(ramps(&mut ward, 15), [100, 25, 1], "who is new begins");
        assert_eq!(ramps(&mut ward, 30), [100, 100, 75]);
        assert_eq!(ramps(&mut ward, 36), [100, 100, 100]);
        assert_eq!(ward.next(), None);
    }
}
