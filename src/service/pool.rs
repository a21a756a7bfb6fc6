//! A pool: backends that serve the same thing.

use super::{Backend, Weight};
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
    /// Whether backends may get a part of their weight: with slow start, or an agent.
    pub divides_weights: bool,
}

impl Pool {
    /// A pool of these backends.
    pub fn new(name: &str, backends: Vec<Arc<Backend>>) -> Self {
        let members = backends.iter().map(|backend| Arc::clone(&backend.member)).collect();
        Self { name: name.to_owned(), backends, members, divides_weights: false }
    }

    /// In how many parts of one the members' weights are.
    pub fn parts(&self) -> u32 {
        if self.divides_weights { Weight::parts(self.backends.iter().map(|backend| backend.weight().whole())) } else { 1 }
    }

    /// Gives members the weights that follow from what each is made of. Whether one has changed: then the owner calls
    /// [`crate::schedule::Scheduler::refresh`] of every service of the pool.
    pub fn weigh(&self) -> bool {
        let parts = self.parts();
        let mut changed = false;
        for backend in &self.backends {
            let weight = backend.weight().effective(parts);
            if backend.member.configured_weight() != weight {
                backend.member.set_weight(weight);
                changed = true;
            }
        }
        changed
    }
}
