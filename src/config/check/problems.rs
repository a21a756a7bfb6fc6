//! The list that checks write to.

use crate::config::read::MISSING_HERE;
use crate::config::value::Complaint;
use crate::config::{Place, Problem};
use serde_spanned::Spanned;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// A value that has passed its own check, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub(super) fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Checks the value of a key, if it is there. What is refused becomes a problem at its place, and `None`.
    pub(super) fn value<T, U>(
        &mut self,
        key: impl Into<Cow<'static, str>>,
        raw: Option<&Spanned<T>>,
        check: impl FnOnce(&T) -> Result<U, Complaint>,
    ) -> Option<Located<U>> {
        let raw = raw?;
        match check(raw.get_ref()) {
            Ok(value) => Some(Located { value, span: raw.span() }),
            Err(complaint) => {
                self.add(Problem::new(key, complaint.found, complaint.allowed).at(Place::new(raw.span(), "")));
                None
            }
        }
    }

    /// The same for a key that has a default.
    pub(super) fn value_or<T, U>(
        &mut self,
        key: &'static str,
        raw: Option<&Spanned<T>>,
        default: U,
        check: impl FnOnce(&T) -> Result<U, Complaint>,
    ) -> U {
        self.value(key, raw, check).map_or(default, |located| located.value)
    }

    /// A key that must be there, in the table at `table`.
    pub(super) fn required<'a, T>(
        &mut self,
        key: &'static str,
        raw: &'a Option<Spanned<T>>,
        table: Range<usize>,
        allowed: &str,
    ) -> Option<&'a Spanned<T>> {
        if raw.is_none() {
            let last = key.rsplit('.').next().unwrap_or(key);
            self.add(Problem::new(key, format!("the key `{last}` is missing"), allowed).at(Place::new(table, MISSING_HERE)));
        }
        raw.as_ref()
    }

    /// Every second value that equals an earlier one is a problem that points at both.
    pub(super) fn unique<'a, T: Eq + Hash + 'a>(
        &mut self,
        key: &'static str,
        values: impl Iterator<Item = &'a Located<T>>,
        found: impl Fn(&T) -> String,
    ) {
        let mut first_places: HashMap<&T, Range<usize>> = HashMap::new();
        for located in values {
            match first_places.get(&located.value) {
                None => drop(first_places.insert(&located.value, located.span.clone())),
                Some(first) => self.add(
                    Problem::new(key, found(&located.value), "")
                        .at(Place::new(located.span.clone(), "again here"))
                        .at(Place::new(first.clone(), "first here")),
                ),
            }
        }
    }

    /// `config`, if there was no problem.
    pub(super) fn none_or<T>(self, config: T) -> Result<T, Vec<Problem>> {
        if self.0.is_empty() { Ok(config) } else { Err(self.0) }
    }
}
