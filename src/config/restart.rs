//! What a reload cannot change.

use super::Config;

impl Config {
    /// The tables and keys in which `self` and `new` differ and that only a restart changes; empty: a reload can apply `new`.
    pub fn needs_restart(&self, new: &Config) -> Vec<&'static str> {
        let fixed = [
            ("interface", self.interfaces != new.interfaces),
            ("worker", self.worker != new.worker),
            ("conntrack.max_connections", self.max_connections != new.max_connections),
            ("admin.socket", self.admin_socket != new.admin_socket),
        ];
        fixed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }
}
