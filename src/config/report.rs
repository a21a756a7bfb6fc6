//! Mistakes, shown as a compiler shows them: file, line and column, the line itself, the key, what was found and what is allowed.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

/// Mistakes that are shown; the others are counted. Whoever has more mended those first.
const SHOWN: usize = 20;

/// Everything that is wrong with one config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render(Renderer::plain()))]
pub struct ConfigReport {
    path: PathBuf,
    source_text: String,
    problems: Vec<Problem>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key with its tables, such as `pool.backends.weight`, or what kind of mistake it is where no key is meant.
    pub key: Cow<'static, str>,
    /// What was found.
    pub found: String,
    /// What is allowed; may be empty.
    pub allowed: String,
    /// Where; the first is the mistake itself, others belong to it. Empty where no place is meant.
    pub places: Vec<Place>,
}

/// Bytes of the config and what to say about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Offsets in bytes.
    pub span: Range<usize>,
    /// A few words; may be empty.
    pub label: String,
}

impl Place {
    /// These bytes, with a few words.
    pub fn new(span: Range<usize>, label: impl Into<String>) -> Self {
        Self { span, label: label.into() }
    }
}

impl Problem {
    /// A problem that has no place yet.
    pub(super) fn new(key: impl Into<Cow<'static, str>>, found: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { key: key.into(), found: found.into(), allowed: allowed.into(), places: Vec::new() }
    }

    /// Adds a place; the first one is the mistake itself.
    pub(super) fn at(mut self, place: Place) -> Self {
        self.places.push(place);
        self
    }

    fn offset(&self) -> usize {
        self.places.first().map_or(0, |place| place.span.start)
    }

    fn render(&self, path: &str, source: &str, renderer: &Renderer) -> String {
        let title = Level::ERROR.primary_title(&*self.found).id(&*self.key);
        let mut group = Group::with_title(title);
        if self.places.is_empty() {
            group = group.element(Origin::path(path));
        } else {
            let annotations = self.places.iter().enumerate().map(|(index, place)| {
                let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                kind.span(place.span.clone()).label(&*place.label)
            });
            group = group.element(Snippet::source(source).path(path).annotations(annotations));
        }
        if !self.allowed.is_empty() {
            group = group.element(Level::HELP.message(format!("allowed: {}", self.allowed)));
        }
        renderer.render(&[group])
    }
}

impl ConfigReport {
    /// The problems found in a text, in the order in which they stand there.
    pub(super) fn new(path: &Path, source: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::offset);
        Self { path: path.to_owned(), source_text: source.to_owned(), problems }
    }

    /// The file could not be read.
    pub(super) fn unreadable(path: &Path, why: &str) -> Self {
        let problem = Problem::new("config file", format!("cannot be read: {why}"), "a readable TOML file");
        Self::new(path, "", vec![problem])
    }

    /// The file is not text. Shown with the bytes that are none replaced.
    pub(super) fn not_utf8(path: &Path, error: &FromUtf8Error) -> Self {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        let source = String::from_utf8_lossy(error.as_bytes());
        let place = Place::new(at..at + char::REPLACEMENT_CHARACTER.len_utf8(), "not UTF-8 from here");
        let problem = Problem::new("config file", format!("the byte 0x{byte:02x} is not UTF-8 here"), "TOML is UTF-8 text");
        Self::new(path, &source, vec![problem.at(place)])
    }

    /// The file, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All problems, in the order of their places.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Line and column of a place, both from 1; columns count characters.
    pub fn line_and_column(&self, place: &Place) -> (usize, usize) {
        let before = self.source_text.get(..place.span.start).unwrap_or(&self.source_text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// As text for a human, with colours.
    pub fn render_styled(&self) -> String {
        self.render(Renderer::styled())
    }

    fn render(&self, renderer: Renderer) -> String {
        let path = self.path.display().to_string();
        let shown = self.problems.iter().take(SHOWN).map(|problem| problem.render(&path, &self.source_text, &renderer));
        let more = self.problems.len().checked_sub(SHOWN + 1).map(|more| format!("and {} more mistakes", more + 1));
        shown.chain(more).collect::<Vec<_>>().join("\n\n")
    }
}
