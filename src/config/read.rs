//! From TOML to [`Raw`]. serde stops at the first key or type that does not fit; so that one is told, taken out of the document, and the rest
//! is read again, until all that do not fit are told.

use super::raw::Raw;
use super::report::{Place, Problem};
use serde::Deserialize;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

/// Misfits that are looked for: more than are shown.
const MOST: usize = 100;

/// What could be read.
#[derive(Debug)]
pub(super) struct Document {
    /// Without what did not fit.
    pub(super) raw: Raw,
    misfits: Vec<Misfit>,
}

/// A key or a value that did not fit and was taken out.
#[derive(Debug)]
struct Misfit {
    problem: Problem,
    /// Its key with its tables.
    path: Vec<String>,
    /// The table or list that it was in.
    table: Range<usize>,
    is_unknown_key: bool,
}

/// Where something was in the document.
struct Found {
    path: Vec<String>,
    table: Range<usize>,
    /// The name of the service, pool or interface that it belongs to.
    owner: Option<String>,
}

/// Reads TOML.
///
/// # Errors
/// Why it is not TOML, or what does not fit when too much does not.
pub(super) fn read(source: &str) -> Result<Document, Vec<Problem>> {
    let mut document = DeTable::parse(source).map_err(|error| vec![describe_syntax(&error, source)])?;
    let mut misfits: Vec<Misfit> = Vec::new();
    loop {
        let error = match Raw::deserialize(Deserializer::from(document.clone())) {
            Ok(raw) => return Ok(Document { raw, misfits }),
            Err(error) => error,
        };
        let whole = document.span();
        let found = error.span().and_then(|span| take_out(document.get_mut(), &whole, &span));
        let Some(Found { path, table, owner }) = found.filter(|_| misfits.len() < MOST) else {
            let problems = misfits.into_iter().map(|misfit| misfit.problem);
            return Err(problems.chain([describe(&error, source, "TOML", None)]).collect());
        };
        let problem = describe(&error, source, &path.join("."), owner.map(|owner| format!("of {} {owner:?}", path[0])));
        misfits.push(Misfit { problem, path, table, is_unknown_key: is_unknown_key(&error) });
    }
}

impl Document {
    /// What did not fit, and `others`, which the check has found in the rest, as far as they do not follow from that.
    pub(super) fn problems(self, others: Vec<Problem>) -> Vec<Problem> {
        let others = if self.misfits.iter().any(Misfit::hides_others) { Vec::new() } else { others };
        let others = others.into_iter().filter(|other| !self.misfits.iter().any(|misfit| misfit.explains(other)));
        let others: Vec<Problem> = others.collect();
        self.misfits.into_iter().map(|misfit| misfit.problem).chain(others).collect()
    }
}

impl Misfit {
    /// Whether everything else may refer to it: a table of the first level, or a list of backends that others count.
    fn hides_others(&self) -> bool {
        self.path.len() == 1 || !self.is_unknown_key && self.path == ["pool", "backends"]
    }

    /// Whether the other one follows from it: that a key is missing, or of a list, that it is empty. The key that is missing may be the one
    /// that was misspelt.
    fn explains(&self, other: &Problem) -> bool {
        let Some(place) = other.places.first().filter(|place| place.span == self.table) else { return false };
        if self.is_unknown_key { place.label == MISSING_HERE } else { other.key == self.path.join(".") }
    }
}

/// What stands at the place of a table in which a key is missing.
pub(super) const MISSING_HERE: &str = "in here";

/// Takes the innermost key, value or element out that has this place.
fn take_out(table: &mut DeTable<'_>, own: &Range<usize>, span: &Range<usize>) -> Option<Found> {
    let name = table.iter().find(|(key, _)| key.get_ref() == "name").and_then(|(_, name)| name.get_ref().as_str());
    let name = name.map(str::to_owned);
    let inner = table.iter_mut().find_map(|(key, value)| {
        let whole = value.span();
        let mut found = take_out_of_value(value.get_mut(), &whole, span)?;
        found.path.insert(0, key.get_ref().to_string());
        Some(found)
    });
    if let Some(mut found) = inner {
        found.owner = name.or(found.owner);
        return Some(found);
    }
    let is_it =
        |key: &Spanned<_>, value: &Spanned<_>| key.span() == *span || value.span() == *span || is_listed(value.get_ref(), span);
    let key = table.iter().find(|(key, value)| is_it(key, value)).map(|(key, _)| key.get_ref().to_string())?;
    table.remove(key.as_str());
    Some(Found { path: vec![key], table: own.clone(), owner: name })
}

/// Whether it is a table of a list: as such it fits, so it is the list that does not.
fn is_listed(value: &DeValue<'_>, span: &Range<usize>) -> bool {
    let DeValue::Array(list) = value else { return false };
    list.iter().any(|element| element.span() == *span && matches!(element.get_ref(), DeValue::Table(_)))
}

fn take_out_of_value(value: &mut DeValue<'_>, own: &Range<usize>, span: &Range<usize>) -> Option<Found> {
    match value {
        DeValue::Table(table) => take_out(table, own, span),
        DeValue::Array(list) => {
            let inner = list.iter_mut().find_map(|element| {
                let whole = element.span();
                take_out_of_value(element.get_mut(), &whole, span)
            });
            inner.or_else(|| {
                let at =
                    list.iter().position(|element| element.span() == *span && !matches!(element.get_ref(), DeValue::Table(_)))?;
                let all = std::mem::replace(list, DeArray::new()).into_iter().enumerate();
                *list = all.filter(|(number, _)| *number != at).map(|(_, element)| element).collect();
                Some(Found { path: Vec::new(), table: own.clone(), owner: None })
            })
        }
        _ => None,
    }
}

const UNKNOWN_FIELD: &str = "unknown field ";
/// What the reader calls the only key of a date, which it gives as a table to whoever wants one.
const DATE: &str = "$__toml_private_datetime";

fn is_unknown_key(error: &Error) -> bool {
    error.message().starts_with(UNKNOWN_FIELD) && !error.message().contains(DATE)
}

fn describe_syntax(error: &Error, source: &str) -> Problem {
    let span = error.span().unwrap_or(source.len()..source.len());
    Problem::new("TOML", error.message().to_owned(), "").at(Place::new(span, ""))
}

/// The reader's sentence, in the words of this config language.
fn describe(error: &Error, source: &str, key: &str, owner: Option<String>) -> Problem {
    let span = error.span().unwrap_or(source.len()..source.len());
    let message = error.message();
    if message.contains(DATE) {
        let found = format!("found the date or time {}", source.get(span.clone()).unwrap_or_default());
        return Problem::new(key.to_owned(), found, "a table").at(Place::new(span, owner.unwrap_or_default()));
    }
    if let Some((key, expected)) = message.strip_prefix(UNKNOWN_FIELD).and_then(|rest| rest.split_once(", expected ")) {
        let allowed = expected.trim_start_matches("one of ").replace("` or `", ", ").replace('`', "");
        return Problem::new("unknown key", format!("there is no key {key} here"), allowed).at(Place::new(span, "unknown key"));
    }
    if let Some((found, expected)) = message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected ")) {
        let allowed = match source.get(span.start..).unwrap_or_default() {
            at if at.starts_with("[[") => format!("[{key}]: there is one such table"),
            at if at.starts_with('[') && expected == "a sequence" => format!("[[{key}]]: there may be several"),
            _ if is_beyond(found) => "a whole number that 64 bits hold".to_owned(),
            _ => name_type(expected),
        };
        let text = source.get(span.clone()).unwrap_or_default();
        let place = Place::new(span, owner.unwrap_or_default());
        return Problem::new(key.to_owned(), format!("found {}", name_found(found, text)), allowed).at(place);
    }
    describe_syntax(error, source)
}

/// What was found, and stands there as `text`: the reader takes dates for tables, and tells the type of numbers that no whole number holds.
fn name_found(words: &str, text: &str) -> String {
    match words {
        "a map" | "map" if text.starts_with(|first: char| first.is_ascii_digit()) => format!("the date or time {text}"),
        _ if is_beyond(words) => format!("{text}, beyond 64 bits"),
        _ => name_type(words),
    }
}

/// Whether it is a number that the reader needed a wider type for.
fn is_beyond(words: &str) -> bool {
    words.starts_with("integer ") && words.contains(" as ")
}

/// The words for a type, where the reader says it in Rust's.
fn name_type(words: &str) -> String {
    match words {
        "i64" => "a whole number".to_owned(),
        "a sequence" | "sequence" => "a list".to_owned(),
        "a map" | "map" => "a table".to_owned(),
        _ if words.starts_with("struct ") => "a table".to_owned(),
        _ => words.to_owned(),
    }
}
