//! What a reload changes, in sentences.

use super::departure;
use crate::config::{Backend, Config, Overrides, Pool, Service, brief};
use crate::conntrack::l4proto::{self, Verify};
use crate::conntrack::{Spared, Timeouts};
use crate::service::{Helper, Shown};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::time::Duration;

/// Whose connections do not simply go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// Those of the service with this name, as far as no other one takes its place.
    Service(String),
    /// Those with this backend of this pool.
    Backend(String, SocketAddr),
    /// Those with backends of this pool that take no new connections now.
    Leaving(String),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What changes.
    pub(super) sentence: String,
    /// Whom it is felt by; nobody: new connections alone.
    pub(super) subjects: Vec<Subject>,
}

/// Changes, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Steps(Vec<Step>);

impl Steps {
    /// One more, felt by nobody.
    pub(super) fn push(&mut self, sentence: String) {
        self.push_felt_by(Vec::new(), sentence);
    }

    fn push_felt_by(&mut self, subjects: Vec<Subject>, sentence: String) {
        self.0.push(Step { sentence, subjects });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Step> {
        self.0.iter()
    }

    /// What changes, one sentence a step.
    pub(super) fn sentences(&self) -> Vec<String> {
        self.iter().map(|step| step.sentence.clone()).collect()
    }
}

/// What an operator has set for a backend at run time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// It takes no new connections.
    pub(super) is_drained: bool,
    /// In the place of the config's.
    pub(super) weight: Option<u32>,
}

/// The same of all backends, by pool and address; those that are missing are as the config says.
pub(super) type SetAtRunTime = HashMap<(String, SocketAddr), Set>;

/// The difference between what is in force, the config and what was set at run time, and a new config; empty when it changes nothing.
pub(super) fn plan(old: &Config, new: &Config, set: &SetAtRunTime) -> Steps {
    let mut steps = Steps::default();
    plan_services(old, new, &mut steps);
    plan_quorums(old, new, &mut steps);
    plan_pools((old, new), set, &mut steps);
    plan_snat(old, new, &mut steps);
    plan_access(old, new, &mut steps);
    plan_timeouts(old, new, &mut steps);
    if old.spared != new.spared {
        let whose = if new.spared == Spared::Nobody { "may" } else { "do not" };
        steps.push(format!("conntrack: established connections {whose} give way when the table is full"));
    }
    plan_tracking(&old.tracking, &new.tracking, &mut steps);
    if old.reload.watch != new.reload.watch {
        let what = if new.reload.watch { "applied once it has settled" } else { "applied when asked for" };
        steps.push(format!("reload: an edit of the file is {what}"));
    }
    if old.reload.max_reset != new.reload.max_reset {
        let limit = new.reload.max_reset.map_or("any number of".to_owned(), |limit| limit.to_string());
        steps.push(format!("reload: the next one may reset {limit} connections"));
    }
    if old.reload.overrides != new.reload.overrides {
        let become_of = if new.reload.overrides == Overrides::Keep { "stay" } else { "are dropped" };
        steps.push(format!("reload: drains and weights set at run time {become_of} from the next one on"));
    }
    plan_orders(old, new, &mut steps);
    steps
}

/// What is listed as before, in another order.
fn plan_orders(old: &Config, new: &Config, steps: &mut Steps) {
    if is_reordered(old.services.iter().map(|service| &service.name), new.services.iter().map(|service| &service.name)) {
        steps.push("services: their order, which status follows".to_owned());
    }
    if is_reordered(old.pools.iter().map(|pool| &pool.name), new.pools.iter().map(|pool| &pool.name)) {
        steps.push("pools: their order, which nothing follows".to_owned());
    }
    for (before, now) in new.pools.iter().filter_map(|pool| Some((old.pool(&pool.name)?, pool))) {
        if is_reordered(before.backends.iter().map(|backend| backend.address), now.backends.iter().map(|backend| backend.address))
        {
            steps.push(format!("pool {}: the order of its backends, for new connections", now.name));
        }
    }
    if is_reordered(old.snat.addresses(), new.snat.addresses()) {
        steps.push("snat: the order of the addresses, for new connections".to_owned());
    }
}

/// Whether those that both lists have stand in another order.
fn is_reordered<T: Eq + Hash>(old: impl Iterator<Item = T>, new: impl Iterator<Item = T>) -> bool {
    let places: HashMap<T, usize> = old.enumerate().map(|(place, item)| (item, place)).collect();
    let kept: Vec<usize> = new.filter_map(|item| places.get(&item).copied()).collect();
    !kept.is_sorted()
}

fn plan_services(old: &Config, new: &Config, steps: &mut Steps) {
    for service in &new.services {
        match old.services.iter().find(|known| known.name == service.name) {
            None => steps.push(format!("service {}: added at {}, pool {}", service.name, destination(service), service.pool)),
            Some(known) => plan_service(known, service, new, steps),
        }
    }
    for gone in old.services.iter().filter(|known| new.services.iter().all(|service| service.name != known.name)) {
        let sentence = format!("service {}: removed, {}", gone.name, served_still(gone, new));
        steps.push_felt_by(vec![Subject::Service(gone.name.clone())], sentence);
    }
}

/// Who serves from now on what a service that goes has served.
fn served_still(gone: &Service, new: &Config) -> String {
    let others: Vec<&Service> =
        new.services.iter().filter(|service| (service.vip, service.protocol) == (gone.vip, gone.protocol)).collect();
    let same = others.iter().find(|service| service.port == gone.port);
    let (what, ports) = (destination(gone), others.iter().filter_map(|service| service.port));
    match same.or_else(|| others.iter().find(|service| service.port.is_none())) {
        Some(service) => format!("{what} is served by service {}", service.name),
        None if gone.port.is_none() && !others.is_empty() => {
            let ports: Vec<String> = ports.map(|port| port.to_string()).collect();
            format!("{what} is not served any more but for {}", ports.join(", "))
        }
        None => format!("{what} is not served any more"),
    }
}

fn plan_service(old: &Service, new: &Service, all: &Config, steps: &mut Steps) {
    let name = &new.name;
    let (was, is) = (destination(old), destination(new));
    if was != is {
        let sentence = format!("service {name}: moves from {was} to {is}, {}", served_still(old, all));
        steps.push_felt_by(vec![Subject::Service(name.clone())], sentence);
    }
    if old.helper != new.helper {
        let names = [new.helper, old.helper].map(|helper| helper.map_or("none", Helper::name));
        steps.push(format!("service {name}: helper {} for new connections, before {}", names[0], names[1]));
    }
    if old.limits != new.limits {
        // Sources are counted only while there is something to compare with.
        let is_first = old.limits.source.connections.is_none() && new.limits.source.connections.is_some();
        let uncounted = if is_first { "; those of a source that are open now do not count" } else { "" };
        steps.push(format!("service {name}: limits changed, for new connections{uncounted}"));
    }
    if old.persistence != new.persistence {
        let how = if new.persistence.is_some() { "persist as it says now" } else { "do not persist" };
        steps.push(format!("service {name}: new connections {how}"));
    }
    if old.backup != new.backup {
        let [now, before] = [&new.backup, &old.backup].map(|pool| pool.as_deref().unwrap_or("none"));
        steps.push(format!("service {name}: backup pool {now}, before {before}"));
    }
    if old.pool != new.pool {
        steps.push(format!("service {name}: new connections go to pool {}, no more to {}", new.pool, old.pool));
    }
    if old.scheduler != new.scheduler {
        steps.push(format!("service {name}: scheduler {}, before {}", new.scheduler.name(), old.scheduler.name()));
    }
    let [was, is] = [&old.scheduler_settings, &new.scheduler_settings];
    let settings = [
        ("maglev_table_size", was.maglev_table_size, is.maglev_table_size),
        ("hash_balance_factor", was.hash_balance_factor, is.hash_balance_factor),
    ];
    for (key, before, now) in settings.iter().filter(|(_, before, now)| before != now) {
        steps.push(format!("service {name}: {key} {now}, before {before}, for new connections"));
    }
}

fn plan_quorums(old: &Config, new: &Config, steps: &mut Steps) {
    for service in &new.services {
        let known = old.services.iter().find(|known| known.name == service.name);
        if let Some(known) = known.filter(|known| known.quorum != service.quorum) {
            let (before, now) = (known.quorum, service.quorum);
            let keys = [("quorum", before.least, now.least), ("quorum_hysteresis", before.hysteresis, now.hysteresis)];
            for (key, before, now) in keys.iter().filter(|(_, before, now)| before != now) {
                steps.push(format!("service {}: {key} {now}, before {before}", service.name));
            }
        }
    }
}

fn plan_access(old: &Config, new: &Config, steps: &mut Steps) {
    for service in &new.services {
        let known = old.services.iter().find(|known| known.name == service.name);
        if known.is_some_and(|known| (&known.allow, &known.deny) != (&service.allow, &service.deny)) {
            let (allowed, denied) = (service.allow.len(), service.deny.len());
            steps.push(format!("service {}: {allowed} prefixes allowed and {denied} denied, for new connections", service.name));
        }
    }
}

/// Those of all, then those of services that do not just go with them.
fn plan_timeouts(old: &Config, new: &Config, steps: &mut Steps) {
    if old.timeouts != new.timeouts {
        let changed = changed_timeouts(old.timeouts, new.timeouts);
        let some_differ = new.services.iter().any(|service| keeps_own(service.timeouts, old.timeouts, new.timeouts));
        let unless = if some_differ { ", but for services that have their own" } else { "" };
        steps.push(format!("timeouts: {changed}, for all connections from now on{unless}"));
    }
    for service in &new.services {
        let known = old.services.iter().find(|known| known.name == service.name);
        let Some(known) = known.filter(|known| follow(known.timeouts, old.timeouts, new.timeouts) != service.timeouts) else {
            continue;
        };
        let changed = changed_timeouts(known.timeouts, service.timeouts);
        if !changed.is_empty() {
            steps.push(format!("service {}: timeouts {changed}, for all its connections from now on", service.name));
        }
    }
}

/// Whether a service has another timeout than all where theirs changes from `old` to `new`.
fn keeps_own(mut service: Timeouts, mut old: Timeouts, mut new: Timeouts) -> bool {
    let differs = |key: &&str| {
        let (own, before, now) = (service.get_mut(key).copied(), old.get_mut(key).copied(), new.get_mut(key).copied());
        before != now && own != now
    };
    Timeouts::KEYS.iter().any(differs)
}

/// The timeouts of a service when those of all change from `old` to `new`: its own stay.
fn follow(mut service: Timeouts, mut old: Timeouts, mut new: Timeouts) -> Timeouts {
    for key in Timeouts::KEYS {
        if let (Some(own), Some(before), Some(now)) = (service.get_mut(key), old.get_mut(key), new.get_mut(key))
            && own == before
        {
            *own = *now;
        }
    }
    service
}

/// Each that is another one now.
fn changed_timeouts(mut old: Timeouts, mut new: Timeouts) -> String {
    let written = |timeout: u32| brief(Duration::from_millis(timeout.into()));
    let changed = Timeouts::KEYS.iter().filter_map(|key| {
        let (before, now) = (*old.get_mut(key)?, *new.get_mut(key)?);
        (before != now).then(|| format!("{key} {} (before {})", written(now), written(before)))
    });
    changed.collect::<Vec<_>>().join(", ")
}

fn plan_tracking(old: &l4proto::Settings, new: &l4proto::Settings, steps: &mut Steps) {
    let verified = |verify: Verify| Verify::NAMES.iter().find(|(_, known)| *known == verify).map_or("", |(name, _)| *name);
    let keys = |settings: &l4proto::Settings| {
        let switches = [settings.tcp_be_liberal, settings.tcp_loose].map(|is_on| is_on.to_string());
        let [liberal, loose] = switches;
        [("tcp_be_liberal", liberal), ("tcp_loose", loose), ("checksum", verified(settings.checksum).to_owned())]
    };
    for ((key, before), (_, now)) in keys(old).iter().zip(&keys(new)).filter(|(before, now)| before != now) {
        steps.push(format!("conntrack: {key} {now}, before {before}, for all connections from now on"));
    }
}

fn destination(service: &Service) -> String {
    let port = service.port.map_or("every port".into(), |port| format!("port {port}"));
    format!("{} {port} {}", service.vip, service.protocol)
}

fn plan_pools((old, new): (&Config, &Config), set: &SetAtRunTime, steps: &mut Steps) {
    let drops = old.reload.overrides == Overrides::Drop;
    for pool in &new.pools {
        match old.pool(&pool.name) {
            None => steps.push(format!("pool {}: added with {} backends", pool.name, pool.backends.len())),
            Some(known) => plan_pool((known, pool), (set, drops), steps),
        }
    }
    for gone in old.pools.iter().filter(|known| new.pool(&known.name).is_none()) {
        let backends = gone.backends.iter().map(|backend| Subject::Backend(gone.name.clone(), backend.address));
        steps.push_felt_by(backends.collect(), format!("pool {}: removed, {}", gone.name, departure::sentence(&gone.drain)));
        for backend in &gone.backends {
            let forgotten = forgotten(set, &gone.name, backend.address);
            if !forgotten.is_empty() {
                steps.push(format!("pool {}: backend {} removed{forgotten}", gone.name, Shown(backend.address)));
            }
        }
    }
}

fn plan_pool((old, new): (&Pool, &Pool), (set, drops): (&SetAtRunTime, bool), steps: &mut Steps) {
    let name = &new.name;
    let find = |pool: &Pool, address: SocketAddr| pool.backends.iter().find(|backend| backend.address == address).copied();
    for backend in &new.backends {
        match find(old, backend.address) {
            None => steps.push(format!("pool {name}: backend {} added, weight {}", Shown(backend.address), backend.weight)),
            Some(known) => {
                let set = if set.is_empty() { None } else { set.get(&(name.clone(), backend.address)) };
                plan_weight(name, (&known, backend), (set.copied().unwrap_or_default(), drops), steps);
                plan_backend(name, &known, backend, steps);
            }
        }
    }
    for gone in old.backends.iter().filter(|backend| find(new, backend.address).is_none()) {
        let (address, forgotten) = (Shown(gone.address), forgotten(set, name, gone.address));
        let sentence = format!("pool {name}: backend {address} removed, {}{forgotten}", departure::sentence(&new.drain));
        steps.push_felt_by(vec![Subject::Backend(name.clone(), gone.address)], sentence);
    }
    let takes = |pool: &Pool| pool.backends.iter().any(|backend| backend.weight > 0);
    if takes(old) && !takes(new) {
        steps.push(format!("pool {name}: no backend takes new connections, for every weight is 0: what moves finds nobody"));
    }
    let rules = [
        ("min_up", old.rules.min_up != new.rules.min_up),
        ("slow_start", old.rules.slow_start != new.rules.slow_start),
        ("passive", old.rules.passive != new.rules.passive),
    ];
    for (rule, _) in rules.iter().filter(|(_, changed)| *changed) {
        steps.push(format!("pool {name}: {rule} changed"));
    }
    if old.health != new.health {
        let how = if new.health.is_some() { "changed" } else { "removed, every backend counts as up" };
        steps.push(format!("pool {name}: health check {how}"));
    }
    if old.drain != new.drain {
        // Unless it is set, that of a planned one: then only a change that this one has not shared is to be told.
        let changed_alone = old.drain.failed_deadline != new.drain.failed_deadline && old.drain.deadline == new.drain.deadline;
        let has_own = new.drain.failed_deadline != new.drain.deadline || changed_alone;
        let failed = has_own.then(|| match new.drain.failed_deadline {
            Some(deadline) => format!("; of one that fails they have {}", brief(deadline)),
            None => "; of one that fails they have no deadline".to_owned(),
        });
        let sentence = departure::sentence(&new.drain).replacen("its connections", "connections of a backend that leaves", 1);
        let sentence = format!("pool {name}: drain changed: {sentence}{}, from this reload on", failed.unwrap_or_default());
        steps.push_felt_by(vec![Subject::Leaving(name.clone())], sentence);
    }
}

/// What goes with a backend that is removed: another one of that address begins as the config says.
fn forgotten(set: &SetAtRunTime, pool: &str, address: SocketAddr) -> String {
    let set = set.get(&(pool.to_owned(), address)).copied().unwrap_or_default();
    let weight = set.weight.map(|weight| format!("; its weight {weight}, set at run time, is forgotten"));
    let drained = set.is_drained.then(|| "; that it was drained at run time is forgotten".to_owned());
    [weight, drained].into_iter().flatten().collect()
}

/// Weight and drain: what was set at run time has a say.
fn plan_weight(pool: &str, (old, new): (&Backend, &Backend), (set, drops): (Set, bool), steps: &mut Steps) {
    let (now, before) = (new.weight, old.weight);
    let weighed = match set.weight {
        None => (now != before).then(|| format!("weight {now}, before {before}")),
        Some(set) if drops && now == before => Some(format!("weight {now} again, before {set}")),
        Some(set) if drops => Some(format!("weight {now}, before {set}, set at run time")),
        Some(set) => (now != before).then(|| format!("weight {now}, before {before}; {set}, set at run time, stays in force")),
    };
    let undrained = (drops && set.is_drained).then(|| "drained no more".to_owned());
    for change in [weighed, undrained].into_iter().flatten() {
        steps.push(format!("pool {pool}: backend {} {change}", Shown(new.address)));
    }
}

fn plan_backend(pool: &str, old: &Backend, new: &Backend, steps: &mut Steps) {
    let most = |limit: Option<u32>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let limit = |limit: Option<u32>| limit.map_or("never".to_owned(), |limit| limit.to_string());
    let changes = [
        ("priority", new.priority.to_string(), old.priority.to_string()),
        ("overflow_at", limit(new.overflow_at), limit(old.overflow_at)),
        ("max_connections", most(new.max_connections), most(old.max_connections)),
    ];
    for (what, now, before) in changes.iter().filter(|(_, now, before)| now != before) {
        steps.push(format!("pool {pool}: backend {} {what} {now}, before {before}", Shown(new.address)));
    }
}

fn plan_snat(old: &Config, new: &Config, steps: &mut Steps) {
    let addresses = |config: &Config| config.snat.addresses().collect::<Vec<_>>();
    let (before, now) = (addresses(old), addresses(new));
    for address in now.iter().filter(|address| !before.contains(address)) {
        steps.push(format!("snat: address {address} added"));
    }
    for address in before.iter().filter(|address| !now.contains(address)) {
        steps.push(format!("snat: address {address} takes no new connections and is removed once its last one ended"));
    }
    if old.snat.ports != new.snat.ports {
        let (from, to) = new.snat.ports.clone().into_inner();
        steps.push(format!("snat: ports {from}-{to} for new connections"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const BEFORE: &str = r#"
        [[interface]]
        name = "eth0"
        [snat]
        addresses = ["10.0.0.200", "10.0.0.201"]
        [[service]]
        name = "web"
        vip = "10.0.0.100:80"
        protocol = "tcp"
        scheduler = "maglev"
        pool = "web"
        [[pool]]
        name = "web"
        backends = [{ address = "10.1.0.1:80", weight = 2 }, { address = "10.1.0.2:80" }]
    "#;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("weir.toml"), text).unwrap()
    }

    /// Nothing is set at run time.
    fn plan_file(old: &str, new: &str) -> Steps {
        plan(&config(old), &config(new), &SetAtRunTime::new())
    }

    /// The plan of a reload that replaces these pieces of the text.
    fn plan_of(changes: &[(&str, &str)]) -> Vec<String> {
        let mut text = BEFORE.to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        plan_file(BEFORE, &text).sentences()
    }

    #[test]
    fn what_means_the_same_changes_nothing() {
        assert_eq!(plan_of(&[]), [""; 0]);
        assert_eq!(plan_of(&[("{ address = \"10.1.0.2:80\" }", "{ weight = 1, address = \"10.1.0.2:80\" }")]), [""; 0]);
    }

    #[test]
    fn backends_come_go_and_change_weight() {
        let plan = plan_of(&[("weight = 2 }, { address = \"10.1.0.2:80\" }", "weight = 5 }, { address = \"10.1.0.3:80\" }")]);
        assert_eq!(
            plan,
            [
                "pool web: backend 10.1.0.1:80 weight 5, before 2",
                "pool web: backend 10.1.0.3:80 added, weight 1",
                "pool web: backend 10.1.0.2:80 removed, its connections go on until they end",
            ]
        );
    }

    #[test]
    fn backends_change_their_place() {
        let before = BEFORE.replace("maglev", "failover").replace("weight = 2", "priority = 1");
        let after = before
            .replace("priority = 1 }, { address = \"10.1.0.2:80\"", "priority = 2 }, { address = \"10.1.0.2:80\", priority = 3");
        assert_eq!(
            plan_file(&before, &after).sentences(),
            ["pool web: backend 10.1.0.1:80 priority 2, before 1", "pool web: backend 10.1.0.2:80 priority 3, before 0"]
        );
        let before = BEFORE.replace("maglev", "first_available");
        let after = before.replace("weight = 2", "weight = 2, overflow_at = 100");
        let told = ["pool web: backend 10.1.0.1:80 overflow_at 100, before never"];
        assert_eq!(plan_file(&before, &after).sentences(), told);
    }

    #[test]
    fn services_move_and_change_their_scheduler() {
        let plan = plan_of(&[("10.0.0.100:80", "10.0.0.100:81"), ("maglev", "round_robin")]);
        assert_eq!(
            plan,
            [
                "service web: moves from 10.0.0.100 port 80 tcp to 10.0.0.100 port 81 tcp, 10.0.0.100 port 80 tcp is not served any more",
                "service web: scheduler round_robin, before maglev",
            ]
        );
    }

    #[test]
    fn what_stands_elsewhere_is_told() {
        let swapped = "backends = [{ address = \"10.1.0.2:80\" }, { address = \"10.1.0.1:80\", weight = 2 }]";
        let backends = "backends = [{ address = \"10.1.0.1:80\", weight = 2 }, { address = \"10.1.0.2:80\" }]";
        assert_eq!(plan_of(&[(backends, swapped)]), ["pool web: the order of its backends, for new connections"]);
        let addresses = ("\"10.0.0.200\", \"10.0.0.201\"", "\"10.0.0.201\", \"10.0.0.200\"");
        assert_eq!(plan_of(&[addresses]), ["snat: the order of the addresses, for new connections"]);
        let added = ("\"10.0.0.200\", \"10.0.0.201\"", "\"10.0.0.202\", \"10.0.0.200\", \"10.0.0.201\"");
        assert_eq!(plan_of(&[added]), ["snat: address 10.0.0.202 added"], "the others follow each other as before");
    }

    #[test]
    fn timeouts_of_all_and_of_one_service_are_told_apart() {
        let own = |seconds: u32| {
            ("scheduler = \"maglev\"", format!("scheduler = \"maglev\"\ntimeouts = {{ tcp_close = \"{seconds}s\" }}"))
        };
        let common = ("[snat]", "[timeouts]\ntcp_close = \"20s\"\ntcp_time_wait = \"30s\"\n[snat]");
        let with =
            |changes: &[(&str, &str)]| changes.iter().fold(BEFORE.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
        let (key, five) = own(5);
        let (_, six) = own(6);
        let all = "timeouts: tcp_time_wait 30s (before 1m), tcp_close 20s (before 10s), for all connections from now on";
        assert_eq!(plan_file(BEFORE, &with(&[common])).sentences(), [all]);
        let all = &format!("{all}, but for services that have their own");
        let before = with(&[(key, &five)]);
        assert_eq!(plan_file(&before, &with(&[(key, &five), common])).sentences(), [all.as_str()], "the service keeps its own");
        assert_eq!(
            plan_file(&before, &with(&[(key, &six), common])).sentences(),
            [
                all,
                "service web: timeouts tcp_time_wait 30s (before 1m), tcp_close 6s (before 5s), for all its connections from now on"
            ]
        );
    }

    #[test]
    fn the_deadline_of_failed_backends_is_told_where_it_is_another_one() {
        let with = |drain: &str| {
            BEFORE.replace(
                "name = \"web\"\n        backends",
                &format!("name = \"web\"\n        drain = {{ {drain} }}\n        backends"),
            )
        };
        let told = |before: &str, now: &str| plan_file(&with(before), &with(now)).sentences();
        let planned = |seconds: u32| {
            format!(
                "pool web: drain changed: connections of a backend that leaves have {seconds}s to end, then TCP is reset and UDP moves"
            )
        };
        let failed = "; of one that fails they have 20s, from this reload on";
        let (twenty, both) = ("deadline = \"20s\"", "deadline = \"20s\", failed_deadline = \"5s\"");
        assert_eq!(told(both, twenty), [planned(20) + failed]);
        assert_eq!(told(twenty, "deadline = \"30s\", failed_deadline = \"20s\""), [planned(30) + failed]);
        assert_eq!(told(twenty, "deadline = \"30s\""), [planned(30) + ", from this reload on"]);
    }

    #[test]
    fn settings_of_a_service_are_told_by_their_names() {
        let with = |keys: &str| BEFORE.replace("scheduler = \"maglev\"", &format!("scheduler = \"maglev\"\n{keys}"));
        let told = |before: &str, now: &str| plan_file(&with(before), &with(now)).sentences();
        assert_eq!(
            told("", "maglev_table_size = 251"),
            ["service web: maglev_table_size 251, before 65537, for new connections"]
        );
        assert_eq!(told("quorum = 1", "quorum = 1\nquorum_hysteresis = 1"), ["service web: quorum_hysteresis 1, before 0"]);
        let limits = |keys: &str| format!("limits = {{ {keys} }}");
        let first = "service web: limits changed, for new connections; those of a source that are open now do not count";
        assert_eq!(told("", &limits("source_connections = 5")), [first]);
        let later = told(&limits("source_connections = 5"), &limits("source_connections = 6"));
        assert_eq!(later, ["service web: limits changed, for new connections"]);
    }

    #[test]
    fn a_service_may_be_renamed_with_its_pool() {
        let text = BEFORE.replace("\"web\"", "\"shop\"");
        assert_eq!(
            plan_file(BEFORE, &text).sentences(),
            [
                "service shop: added at 10.0.0.100 port 80 tcp, pool shop",
                "service web: removed, 10.0.0.100 port 80 tcp is served by service shop",
                "pool shop: added with 2 backends",
                "pool web: removed, its connections go on until they end",
            ]
        );
    }

    #[test]
    fn who_serves_from_now_on_is_named() {
        let second = "[[service]]\nname = \"b\"\nvip = \"10.0.0.101:80\"\nprotocol = \"tcp\"\npool = \"web\"\n";
        let before = format!("{BEFORE}\n{second}");
        let swapped = before.replace("10.0.0.100", "x").replace("10.0.0.101", "10.0.0.100").replace("x", "10.0.0.101");
        let swapped = swapped.replace("ma10.0.0.101", "max");
        let told = [
            "service web: moves from 10.0.0.100 port 80 tcp to 10.0.0.101 port 80 tcp, 10.0.0.100 port 80 tcp is served by service b",
            "service b: moves from 10.0.0.101 port 80 tcp to 10.0.0.100 port 80 tcp, 10.0.0.101 port 80 tcp is served by service web",
        ];
        assert_eq!(plan_file(&before, &swapped).sentences(), told);
        let gone = plan_file(&before, BEFORE).sentences();
        assert_eq!(gone, ["service b: removed, 10.0.0.101 port 80 tcp is not served any more"]);
    }

    #[test]
    fn what_was_set_at_run_time_is_told_of_by_the_keys_in_force() {
        let drop = BEFORE.replace("[snat]", "[reload]\noverrides = \"drop\"\n[snat]");
        let heavier = |text: &str| text.replace("weight = 2", "weight = 4");
        let first = ("web".to_owned(), "10.1.0.1:80".parse().unwrap());
        let set = SetAtRunTime::from([(first, Set { is_drained: true, weight: Some(3) })]);
        let sentences = |old: &str, new: &str| plan(&config(old), &config(new), &set).sentences();
        let backend = |change: &str| format!("pool web: backend 10.1.0.1:80 {change}");
        assert_eq!(sentences(&drop, &drop), [backend("weight 2 again, before 3"), backend("drained no more")]);
        let told = [backend("weight 4, before 3, set at run time"), backend("drained no more")];
        assert_eq!(sentences(&drop, &heavier(&drop)), told);
        assert_eq!(sentences(BEFORE, BEFORE), [""; 0]);
        let told = [backend("weight 4, before 2; 3, set at run time, stays in force")];
        assert_eq!(sentences(BEFORE, &heavier(BEFORE)), told);
        let told = ["reload: drains and weights set at run time are dropped from the next one on"];
        assert_eq!(sentences(BEFORE, &drop), told, "not yet by this one");
    }

    #[test]
    fn limits_persistence_and_backups_change() {
        let keys = "pool = \"web\"\nlimits = { rate = 5 }\npersistence = {}\nbackup = \"sorry\"\n";
        let pool = "\n[[pool]]\nname = \"sorry\"\nbackends = [{ address = \"10.1.0.9:80\" }]\n";
        let after = BEFORE.replace("pool = \"web\"\n", keys).replace("weight = 2", "weight = 2, max_connections = 7") + pool;
        assert_eq!(
            plan_file(BEFORE, &after).sentences(),
            [
                "service web: limits changed, for new connections",
                "service web: new connections persist as it says now",
                "service web: backup pool sorry, before none",
                "pool web: backend 10.1.0.1:80 max_connections 7, before unlimited",
                "pool sorry: added with 1 backends",
            ]
        );
    }

    #[test]
    fn snat_and_timeouts() {
        let plan = plan_of(&[("\"10.0.0.201\"]", "\"10.0.0.202\"]\nports = \"2000-3000\"\n[timeouts]\nudp = \"5s\"\n")]);
        assert_eq!(
            plan,
            [
                "snat: address 10.0.0.202 added",
                "snat: address 10.0.0.201 takes no new connections and is removed once its last one ended",
                "snat: ports 2000-3000 for new connections",
                "timeouts: udp 5s (before 30s), for all connections from now on",
            ]
        );
        let plan = plan_of(&[("[snat]", "[conntrack]\nevict_established = true\n[snat]")]);
        assert_eq!(plan, ["conntrack: established connections may give way when the table is full"]);
    }

    #[test]
    fn what_tracking_does_otherwise_is_named() {
        let told = plan_of(&[("[snat]", "[conntrack]\ntcp_loose = true\nchecksum = \"all\"\n[snat]")]);
        assert_eq!(
            told,
            [
                "conntrack: tcp_loose true, before false, for all connections from now on",
                "conntrack: checksum all, before changes, for all connections from now on",
            ]
        );
        let told = plan_of(&[("pool = \"web\"\n", "pool = \"web\"\ntimeouts = { tcp_close = \"2s\" }\n")]);
        assert_eq!(told, ["service web: timeouts tcp_close 2s (before 10s), for all its connections from now on"]);
    }

    #[test]
    fn addresses_without_a_port_are_shown_without_one() {
        let before = BEFORE.replace("100:80", "100").replace(".1:80", ".1").replace(".2:80", ".2");
        let after = before.replace("{ address = \"10.1.0.2\" }", "{ address = \"10.1.0.3\", weight = 7 }");
        let told = plan_file(&before, &after).sentences();
        let gone = "pool web: backend 10.1.0.2 removed, its connections go on until they end";
        assert_eq!(told, ["pool web: backend 10.1.0.3 added, weight 7", gone]);
    }

    #[test]
    fn health_checks_come_and_go() {
        let checked = BEFORE.replace("name = \"web\"\n        backends", "name = \"web\"\nhealth = { type = \"tcp\" }\nbackends");
        assert_eq!(plan_file(BEFORE, &checked).sentences(), ["pool web: health check changed"]);
        let removed = "pool web: health check removed, every backend counts as up";
        assert_eq!(plan_file(&checked, BEFORE).sentences(), [removed]);
    }
}
