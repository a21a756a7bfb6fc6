//! A pool: backends that serve the same thing.

use super::Backend;
use crate::schedule::Member;
use std::sync::Arc;

/// Named backends, all of one address family.
#[derive(Debug)]
pub struct Pool {
    /// The name in the config.
    pub name: String,
    /// In the order of the config.
    pub backends: Vec<Arc<Backend>>,
    /// `members[i]` is `backends[i].member`: the slice that schedulers are given.
    pub members: Vec<Arc<Member>>,
}

impl Pool {
    /// A pool of these backends.
    pub fn new(name: &str, backends: Vec<Arc<Backend>>) -> Self {
        let members = backends.iter().map(|backend| Arc::clone(&backend.member)).collect();
        Self { name: name.to_owned(), backends, members }
    }
}
