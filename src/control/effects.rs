//! What a reload does to the connections that there are: counted before it happens, one by one.

use super::overrides::set_at_run_time;
use super::plan::{self, Steps, Subject};
use super::{registry, targets};
use crate::admin::{self, Fates, PlannedStep};
use crate::config::{Config, Overrides};
use crate::conntrack::l4proto::is_connectionless;
use crate::conntrack::{ConnectionView, TcpState};
use crate::datapath::Datapath;
use crate::service::{Datagrams, Drain, Snapshot};
use crate::xdp::Targets;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    /// It has until the deadline of its pool.
    Drained,
    /// Its next datagram goes to another backend.
    Moved,
    /// Nobody serves its VIP any more.
    Reset,
}

fn count(fates: &mut Fates, fate: Fate) {
    *match fate {
        Fate::Kept => &mut fates.kept,
        Fate::Drained => &mut fates.drained,
        Fate::Moved => &mut fates.moved,
        Fate::Reset => &mut fates.reset,
    } += 1;
}

/// The fates of all connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Of all.
    pub(super) all: Fates,
    /// Of those that a step of the plan is felt by, in the order of the steps.
    pub(super) by_step: Vec<Fates>,
    /// Of those whose backend was removed by a reload before this one.
    pub(super) removed_before: Fates,
}

/// Closed: nobody misses it. TCP and DCCP alone have such states that last.
fn is_over(connection: &ConnectionView) -> bool {
    match connection.tcp_state {
        Some(state) => matches!(state, TcpState::TimeWait | TcpState::Close),
        None => connection.state == Some("TIMEWAIT"),
    }
}

/// Looks at every connection that is not over.
pub(super) fn survey(steps: &Steps, old: &Config, new: &Config, datapath: &Datapath) -> Effects {
    let snapshot = datapath.snapshot.load_full();
    let judge = Judge::new(steps, old, new, &snapshot);
    let mut effects = Effects { by_step: vec![Fates::default(); steps.len()], ..Effects::default() };
    datapath.conntrack.for_each(&snapshot.timeouts, &mut |connection| {
        if is_over(connection) {
            return;
        }
        let (fate, step) = judge.fate(connection);
        count(&mut effects.all, fate);
        match step {
            Some(step) => count(&mut effects.by_step[step], fate),
            None if fate != Fate::Kept => count(&mut effects.removed_before, fate),
            None => {}
        }
    });
    effects
}

/// What a reload of `new` would do now; `text` is what it was written as.
///
/// # Errors
/// Why it would be refused.
pub(super) fn foresee(name: &str, text: &str, old: &Config, datapath: &Datapath) -> Result<admin::Plan, String> {
    let new = Config::parse(Path::new(name), text).map_err(|report| report.to_string())?;
    let fixed = old.needs_restart(&new);
    if !fixed.is_empty() {
        return Err(format!("a reload would be refused: only a restart can change {}", fixed.join(", ")));
    }
    let steps = plan::plan(old, &new, &set_at_run_time(&datapath.snapshot.load()));
    let effects = survey(&steps, old, &new, datapath);
    let step = |step: String, connections| PlannedStep { step, connections };
    let mut planned: Vec<_> = steps.sentences().into_iter().zip(effects.by_step).map(|(text, fates)| step(text, fates)).collect();
    if effects.removed_before != Fates::default() {
        planned.push(step("backends that an earlier reload removed: as before".into(), effects.removed_before));
    }
    let refused = old.reload.max_reset.is_some_and(|limit| effects.all.reset > limit);
    Ok(admin::Plan { steps: planned, connections: effects.all, refused })
}

/// By which rules a backend loses its connections.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// Removed or drained.
    Planned(Drain),
    /// Its health checks failed.
    Failed(Drain),
}

/// What the new config says about services and backends, by their numbers.
struct Judge {
    targets: Targets,
    /// Which step ends the service.
    services: HashMap<u16, usize>,
    /// Backends that no pool has any more, and those that leave under other rules; which step does that, none: an earlier reload did.
    backends: HashMap<u16, (Leave, Option<usize>)>,
}

impl Judge {
    fn new(steps: &Steps, old: &Config, new: &Config, snapshot: &Snapshot) -> Self {
        let by_subject: HashMap<&Subject, usize> =
            steps.iter().enumerate().flat_map(|(at, step)| step.subjects.iter().map(move |subject| (subject, at))).collect();
        let services = snapshot
            .services
            .iter()
            .filter_map(|service| Some((service.id.0, *by_subject.get(&Subject::Service(service.name.clone()))?)));
        let (wanted, stay) = (registry::keys(new), old.reload.overrides == Overrides::Keep);
        let backends = snapshot.backends.iter().flatten().filter_map(|backend| {
            let pool = new.pool(&backend.pool).or_else(|| old.pool(&backend.pool));
            let (drain, member) = (pool.map(|pool| pool.drain).unwrap_or_default(), &backend.member);
            let changed = by_subject.get(&Subject::Leaving(backend.pool.clone())).copied();
            let removed = by_subject.get(&Subject::Backend(backend.pool.clone(), backend.address())).copied();
            let leave = match (wanted.contains(&registry::key(backend)), changed) {
                (false, _) => (Leave::Planned(drain), removed.or(changed)),
                (true, Some(_)) if member.is_drained() && stay => (Leave::Planned(drain), changed),
                (true, Some(_)) if !member.is_eligible() => (Leave::Failed(drain), changed),
                (true, _) => return None,
            };
            Some((backend.id.0, leave))
        });
        Self { targets: targets::targets(new, &BTreeSet::new()), services: services.collect(), backends: backends.collect() }
    }

    fn fate(&self, connection: &ConnectionView) -> (Fate, Option<usize>) {
        let vip = connection.outside().destination;
        if !self.targets.serve(vip, connection.protocol) {
            return (Fate::Reset, self.services.get(&connection.service).copied());
        }
        match self.backends.get(&connection.backend) {
            None => (Fate::Kept, None),
            Some((leave, step)) => (leave.fate(connection.protocol), *step),
        }
    }
}

impl Leave {
    fn fate(&self, protocol: u8) -> Fate {
        match self {
            Self::Planned(drain) | Self::Failed(drain) if is_connectionless(protocol) && drain.udp == Datagrams::Rehash => {
                Fate::Moved
            }
            Self::Failed(Drain { failed_deadline: None, .. }) => Fate::Kept,
            _ => Fate::Drained,
        }
    }
}
