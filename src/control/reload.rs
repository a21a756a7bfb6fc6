//! A new config for the running daemon: checked whole, planned, applied so that no packet of a service that stays is lost.
//!
//! The order, and why:
//!
//! 1. Whatever may be refused is done first, and only adds: the targets of both configs are steered, and the new addresses are put on
//!    interfaces, but for VIPs that wait for a quorum: these come when it is known to be reached. If a step fails, the ones before are taken back and nothing has changed for any packet of the old config.
//! 2. The snapshot is swapped in one store. From here on new connections follow the new config. A packet for a new service that comes
//!    between 1 and 2 is dropped, as if lost on the wire; before 1 nobody could know of the service.
//! 3. What only the old config had goes: targets, then addresses. A backend that was removed keeps its connections, and a SNAT address
//!    stays steered and on its interface for as long as connections use it. A service that was removed is cut at once, and both ends of
//!    its TCP connections are told by a RST: its VIP may be somebody else's now.

use super::daemon::Daemon;
use super::overrides::set_at_run_time;
use super::plan::{Steps, Subject};
use super::{StartError, effects, plan, targets};
use crate::config::Config;
use crate::worker::Monotonic;
use crate::xdp::Targets;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tracing::{info, warn};

/// Whether a reload happens that resets more connections than the config allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    /// It is refused.
    No,
    /// It happens.
    Yes,
}

impl Daemon {
    /// Applies the file on disk, and logs what became of it. What was done, in sentences; nothing if the file means the same as before.
    ///
    /// # Errors
    /// Why it is refused, perhaps over several lines; the config in force stays.
    pub(super) fn reload(&mut self, force: Force) -> Result<Vec<String>, String> {
        self.watch.reading();
        let done = self.apply_file(force);
        self.watch.set(self.config.reload.watch, Monotonic::now());
        if let Err(message) = &done {
            warn!("reload refused, the config in force stays:\n{message}");
        }
        done
    }

    fn apply_file(&mut self, force: Force) -> Result<Vec<String>, String> {
        let new = Config::load(&self.path).map_err(|report| report.to_string())?;
        let fixed = self.config.needs_restart(&new);
        if !fixed.is_empty() {
            return Err(format!("only a restart can change {}; nothing was applied", fixed.join(", ")));
        }
        let steps = plan::plan(&self.config, &new, &set_at_run_time(&self.datapath.snapshot.load()));
        if steps.is_empty() {
            info!("reload: the file changes nothing");
            return Ok(Vec::new());
        }
        if force == Force::No {
            self.check_resets(&steps, &new)?;
        }
        self.change_to(new).map_err(|error| format!("{error}; nothing was applied"))?;
        let steps = steps.sentences();
        log_steps(&steps).iter().for_each(|line| info!("reload: {line}"));
        Ok(steps)
    }

    /// Whether the reload resets more connections than the config in force allows. The table is looked at only if it may reset any.
    fn check_resets(&self, steps: &Steps, new: &Config) -> Result<(), String> {
        let Some(limit) = self.config.reload.max_reset else { return Ok(()) };
        let ends_services = steps.iter().flat_map(|step| &step.subjects).any(|subject| matches!(subject, Subject::Service(_)));
        let reset = if ends_services { effects::survey(steps, &self.config, new, &self.datapath).all.reset } else { 0 };
        if reset <= limit {
            return Ok(());
        }
        Err(format!(
            "it would reset {reset} connections, and reload.max_reset is {limit}; nothing was applied (`weir plan` says which, `weir reload --force` does it)"
        ))
    }

    fn change_to(&mut self, new: Config) -> Result<(), StartError> {
        self.registry.check(&new)?;
        let retired = retire(&self.config, &new, self.retired.addresses());
        let before = self.targets();
        let after = targets::targets(&new, &retired);
        self.quorums.expect(&self.config, &new);
        if let Err(error) = self.add(&new, &retired, &targets::union(&before, &after)) {
            self.quorums.forget_expected();
            self.steer(&before).unwrap_or_else(|error| warn!("{error}"));
            return Err(error);
        }

        self.drop_overrides(&new);
        let mut snapshot = self.registry.snapshot(&new)?;
        snapshot.own_addresses.extend(&retired);
        self.datapath.snapshot.store(Arc::new(snapshot));
        self.settle_homes();
        self.in_force.store(Arc::new(new.clone()));
        let old = std::mem::replace(&mut self.config, new);
        self.draining.follow(&self.datapath.snapshot.load_full(), &old, &self.config, Monotonic::now());
        if !(before.services.is_subset(&after.services) && before.data.is_subset(&after.data)) {
            self.draining.cut_all_but(after.clone(), Monotonic::now());
        }
        self.retired.replace(retired, Monotonic::now());

        self.drop_all_but(&after);
        self.resolve_backends();
        self.probe_targets();
        Ok(())
    }

    fn add(&mut self, new: &Config, retired: &BTreeSet<IpAddr>, both: &Targets) -> Result<(), StartError> {
        let (there, links) = (self.netlink.addresses()?, self.netlink.links()?);
        self.addresses.check(new, &there, &links)?;
        self.steer(both)?;
        let wanted = self.placements(new, retired, &there);
        // Neighbours are told of new addresses alone.
        self.addresses.add(&self.addresses.missing(&wanted, &there))?;
        self.tell_homeless(&wanted, &there);
        Ok(())
    }

    /// What is steered.
    pub(super) fn targets(&self) -> Targets {
        targets::targets(&self.config, self.retired.addresses())
    }

    fn steer(&mut self, targets: &Targets) -> Result<(), StartError> {
        for interface in &mut self.interfaces {
            interface.steering.apply(targets)?;
        }
        Ok(())
    }

    /// The new config is in force: what fails here leaves something too many, never too few.
    fn drop_all_but(&mut self, targets: &Targets) {
        if let Err(error) = self.steer(targets) {
            warn!("{error}; more is steered than the config says");
        }
        let wanted = targets::addresses(targets);
        let unwanted: Vec<IpAddr> = self.addresses.ours().filter(|address| !wanted.contains(address)).collect();
        self.addresses.remove(unwanted);
    }

    /// No connection uses these retired SNAT addresses any more.
    pub(super) fn release(&mut self, unused: &BTreeSet<IpAddr>) {
        for address in unused {
            info!("SNAT address {address}: its last connection ended, it is not weir's any more");
        }
        let targets = self.targets();
        self.drop_all_but(&targets);
    }
}

/// As many of the lines of each kind, that of services, of pools and so on, as a log is read for, and how many more there are.
fn log_steps(steps: &[String]) -> Vec<String> {
    const MOST: usize = 20;
    let kind = |step: &str| step.split([' ', ':']).next().unwrap_or_default().to_owned();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_logged = |step: &&String| {
        let count = counts.entry(kind(step)).or_default();
        *count += 1;
        *count <= MOST
    };
    let mut lines: Vec<String> = steps.iter().filter(|step| is_logged(step)).cloned().collect();
    let more = counts.iter().filter(|(_, count)| **count > MOST);
    lines.extend(more.map(|(kind, count)| format!("{kind}: {} more lines like these", count - MOST)));
    lines
}

/// SNAT addresses that are in use or were until now, and that the new config has no more.
fn retire(old: &Config, new: &Config, retired: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    let now: BTreeSet<IpAddr> = new.snat.addresses().collect();
    let before: BTreeSet<IpAddr> = old.snat.addresses().chain(retired.iter().copied()).collect();
    &before - &now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_lines_of_a_kind_are_counted() {
        let pools = (0..25).map(|number| format!("pool p: backend 10.0.0.{number} added, weight 1"));
        let steps: Vec<String> = pools.chain(["service a: limits changed, for new connections".to_owned()]).collect();
        let lines = log_steps(&steps);
        assert_eq!((&lines[..20], &lines[20], &lines[21][..]), (&steps[..20], &steps[25], "pool: 5 more lines like these"));
        assert_eq!((lines.len(), log_steps(&steps[..20]).len()), (22, 20));
    }
}
