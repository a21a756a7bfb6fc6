//! The config as the user typed it: every value with its place in the file, nothing judged but keys and TOML types.
//!
//! Values that the language requires are optional here too, so that the check can name all that are missing and not only the first.

use super::report::{Place, Problem};
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
    pub(super) admin: Admin,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) socket: Maybe<String>,
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
    pub(super) scheduler: Maybe<String>,
    pub(super) maglev_table_size: Maybe<i64>,
    pub(super) pool: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) name: Maybe<String>,
    pub(super) health: Maybe<Health>,
    pub(super) backends: Maybe<Vec<Spanned<Backend>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backend {
    pub(super) address: Maybe<String>,
    pub(super) weight: Maybe<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    #[serde(rename = "type")]
    pub(super) kind: Maybe<String>,
    pub(super) path: Maybe<String>,
    pub(super) host: Maybe<String>,
    pub(super) status: Maybe<String>,
    pub(super) interval: Maybe<String>,
    pub(super) timeout: Maybe<String>,
    pub(super) rise: Maybe<i64>,
    pub(super) fall: Maybe<i64>,
    pub(super) start: Maybe<String>,
    pub(super) port: Maybe<i64>,
}

impl Raw {
    /// Reads TOML. The reader stops at the first key or type that does not fit, so there is one problem at most.
    pub(super) fn parse(source: &str) -> Result<Self, Problem> {
        toml::from_str(source).map_err(|error| describe(&error, source))
    }
}

/// serde's sentence, in the words of this config language.
fn describe(error: &toml::de::Error, source: &str) -> Problem {
    let place = error.span().unwrap_or(source.len()..source.len());
    let message = error.message();
    match message.strip_prefix("unknown field ").and_then(|rest| rest.split_once(", expected ")) {
        Some((key, allowed)) => {
            let allowed = allowed.trim_start_matches("one of ").replace('`', "");
            Problem::new("unknown key", format!("there is no key {key} here"), allowed).at(Place::new(place, "unknown key"))
        }
        None => Problem::new("not valid", message.to_owned(), "").at(Place::new(place, "")),
    }
}
