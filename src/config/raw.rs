//! The config as the user typed it: every value with its place in the file, nothing judged but keys and TOML types.
//!
//! Values that the language requires are optional here too, so that the check can name all that are missing and not only the first.

use serde::Deserialize;
use serde_spanned::Spanned;
use std::collections::BTreeMap;

/// A value and its place, perhaps.
pub(super) type Maybe<T> = Option<Spanned<T>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    #[serde(default)]
    pub(super) interface: Vec<Spanned<Interface>>,
    #[serde(default)]
    pub(super) worker: Worker,
    #[serde(default)]
    pub(super) conntrack: Conntrack,
    #[serde(default)]
    pub(super) fragments: Fragments,
    #[serde(default)]
    pub(super) admin: Admin,
    #[serde(default)]
    pub(super) reload: Reload,
    #[serde(default)]
    pub(super) sources: Sources,
    pub(super) snat: Maybe<Snat>,
    #[serde(default)]
    pub(super) timeouts: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub(super) service: Vec<Spanned<Service>>,
    #[serde(default)]
    pub(super) pool: Vec<Spanned<Pool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interface {
    pub(super) name: Maybe<String>,
    pub(super) mode: Maybe<String>,
    pub(super) checksum: Maybe<String>,
    pub(super) queues: Maybe<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Worker {
    pub(super) cpus: Option<Vec<Spanned<i64>>>,
    pub(super) idle: Maybe<String>,
    pub(super) busy_poll: Maybe<toml::Value>,
    pub(super) frames: Maybe<i64>,
    pub(super) frame_size: Maybe<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conntrack {
    pub(super) max_connections: Maybe<i64>,
    pub(super) preallocate: Maybe<bool>,
    pub(super) accounting: Maybe<bool>,
    pub(super) evict_established: Maybe<bool>,
    pub(super) tcp_be_liberal: Maybe<bool>,
    pub(super) tcp_loose: Maybe<bool>,
    pub(super) checksum: Maybe<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fragments {
    pub(super) timeout: Maybe<String>,
    pub(super) datagrams: Maybe<i64>,
    pub(super) per_datagram: Maybe<i64>,
    pub(super) held: Maybe<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) socket: Maybe<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reload {
    pub(super) watch: Maybe<bool>,
    pub(super) max_reset: Maybe<i64>,
    pub(super) overrides: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snat {
    pub(super) addresses: Maybe<Vec<Spanned<String>>>,
    pub(super) ports: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) name: Maybe<String>,
    pub(super) vip: Maybe<String>,
    pub(super) protocol: Maybe<String>,
    pub(super) helper: Maybe<String>,
    pub(super) allow: Maybe<Vec<Spanned<String>>>,
    pub(super) deny: Maybe<Vec<Spanned<String>>>,
    pub(super) scheduler: Maybe<String>,
    pub(super) maglev_table_size: Maybe<i64>,
    pub(super) hash_balance_factor: Maybe<i64>,
    #[serde(default)]
    pub(super) timeouts: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(super) limits: Maybe<Limits>,
    pub(super) persistence: Maybe<Persistence>,
    pub(super) quorum: Maybe<i64>,
    pub(super) quorum_hysteresis: Maybe<i64>,
    pub(super) pool: Maybe<String>,
    pub(super) backup: Maybe<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sources {
    pub(super) prefix_v4: Maybe<i64>,
    pub(super) prefix_v6: Maybe<i64>,
    pub(super) limited: Maybe<i64>,
    pub(super) persistent: Maybe<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) connections: Maybe<i64>,
    pub(super) rate: Maybe<i64>,
    pub(super) burst: Maybe<i64>,
    pub(super) source_connections: Maybe<i64>,
    pub(super) source_rate: Maybe<i64>,
    pub(super) source_burst: Maybe<i64>,
    pub(super) over: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Persistence {
    pub(super) timeout: Maybe<String>,
    pub(super) prefix_v4: Maybe<i64>,
    pub(super) prefix_v6: Maybe<i64>,
    pub(super) group: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) name: Maybe<String>,
    pub(super) health: Maybe<Health>,
    pub(super) min_up: Maybe<i64>,
    pub(super) slow_start: Maybe<String>,
    pub(super) passive: Maybe<Passive>,
    pub(super) drain: Maybe<Drain>,
    pub(super) backends: Maybe<Vec<Spanned<Backend>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    pub(super) deadline: Maybe<String>,
    pub(super) failed_deadline: Maybe<String>,
    pub(super) tcp: Maybe<String>,
    pub(super) udp: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Passive {
    pub(super) failures: Maybe<i64>,
    pub(super) percent: Maybe<i64>,
    pub(super) window: Maybe<String>,
    pub(super) eject: Maybe<String>,
    pub(super) max_eject: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backend {
    pub(super) address: Maybe<String>,
    pub(super) weight: Maybe<i64>,
    pub(super) priority: Maybe<i64>,
    pub(super) overflow_at: Maybe<i64>,
    pub(super) max_connections: Maybe<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    #[serde(rename = "type")]
    pub(super) kind: Maybe<String>,
    pub(super) path: Maybe<String>,
    pub(super) host: Maybe<String>,
    pub(super) status: Maybe<String>,
    pub(super) header: Maybe<String>,
    pub(super) body: Maybe<String>,
    pub(super) sni: Maybe<String>,
    pub(super) verify: Maybe<bool>,
    pub(super) ca_file: Maybe<String>,
    pub(super) full_handshake: Maybe<String>,
    pub(super) send: Maybe<String>,
    pub(super) expect: Maybe<String>,
    pub(super) query: Maybe<String>,
    pub(super) record: Maybe<String>,
    pub(super) rcode: Maybe<String>,
    pub(super) answer: Maybe<String>,
    pub(super) command: Maybe<Vec<Spanned<String>>>,
    pub(super) interval: Maybe<String>,
    pub(super) jitter: Maybe<String>,
    pub(super) timeout: Maybe<String>,
    pub(super) rise: Maybe<i64>,
    pub(super) fall: Maybe<i64>,
    pub(super) start: Maybe<String>,
    pub(super) port: Maybe<i64>,
}
