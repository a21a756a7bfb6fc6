//! What a reload cannot change.

use super::{Config, Interface, Worker};

impl Config {
    /// The interfaces and keys in which `self` and `new` differ and that only a restart changes; empty: a reload can apply `new`.
    pub fn needs_restart(&self, new: &Config) -> Vec<String> {
        let mut fixed = changed_interfaces(&self.interfaces, &new.interfaces);
        fixed.extend(changed_worker(&self.worker, &new.worker));
        let others = [
            ("conntrack.max_connections", self.max_connections != new.max_connections),
            ("conntrack.preallocate", self.preallocate != new.preallocate),
            ("conntrack.accounting", self.accounting != new.accounting),
            ("fragments.timeout", self.fragments.timeout != new.fragments.timeout),
            ("fragments.datagrams", self.fragments.datagrams != new.fragments.datagrams),
            ("fragments.per_datagram", self.fragments.per_datagram != new.fragments.per_datagram),
            ("fragments.held", self.fragments.held != new.fragments.held),
            ("sources.prefix_v4", self.sources.prefix_v4 != new.sources.prefix_v4),
            ("sources.prefix_v6", self.sources.prefix_v6 != new.sources.prefix_v6),
            ("sources.limited", self.sources.entries != new.sources.entries),
            ("sources.persistent", self.sources.templates != new.sources.templates),
            ("admin.socket", self.admin_socket != new.admin_socket),
        ];
        fixed.extend(changed(&others).map(str::to_owned));
        fixed
    }
}

/// Those keys that are marked.
fn changed(keys: &[(&'static str, bool)]) -> impl Iterator<Item = &'static str> {
    keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| *key)
}

fn changed_interfaces(old: &[Interface], new: &[Interface]) -> Vec<String> {
    let is_in = |list: &[Interface], name: &str| list.iter().any(|interface| interface.name == name);
    let mut fixed = Vec::new();
    for interface in new {
        match old.iter().find(|known| known.name == interface.name) {
            None => fixed.push(format!("interface {} (added)", interface.name)),
            Some(known) => fixed.extend(changed_interface(known, interface)),
        }
    }
    let removed = old.iter().filter(|known| !is_in(new, &known.name));
    fixed.extend(removed.map(|known| format!("interface {} (removed)", known.name)));
    if fixed.is_empty() && old != new {
        fixed.push("the order of the interfaces".to_owned());
    }
    fixed
}

fn changed_interface(old: &Interface, new: &Interface) -> Option<String> {
    let keys = [("mode", old.mode != new.mode), ("checksum", old.checksum != new.checksum), ("queues", old.queues != new.queues)];
    let keys: Vec<&str> = changed(&keys).collect();
    (!keys.is_empty()).then(|| format!("interface {} ({})", new.name, keys.join(", ")))
}

fn changed_worker(old: &Worker, new: &Worker) -> Vec<String> {
    let keys = [
        ("worker.cpus", old.cpus != new.cpus),
        ("worker.idle", old.idle != new.idle),
        ("worker.busy_poll", old.busy_poll != new.busy_poll),
        ("worker.frames", old.frames != new.frames),
        ("worker.frame_size", old.frame_size != new.frame_size),
    ];
    changed(&keys).map(str::to_owned).collect()
}
