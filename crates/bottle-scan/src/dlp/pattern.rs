//! A rule's regular expression.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

/// A regular expression that is known to be right and compiled where it is needed: of a hundred rules few ever are, and
/// all of them together take megabytes and ten milliseconds.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    compiled: OnceLock<Regex>,
}

impl Pattern {
    /// One that a person has written; an error says what is wrong with it.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        match Self::compile(text) {
            Ok(_) => Ok(Self::builtin(text)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// One of a file that comes with the program; a test compiles them all.
    pub(super) fn builtin(text: &str) -> Self {
        Self { text: text.to_owned(), compiled: OnceLock::new() }
    }

    pub(super) fn compiled(&self) -> &Regex {
        self.compiled.get_or_init(|| Self::compile(&self.text).expect("it has been compiled before, or by a test"))
    }

    fn compile(text: &str) -> Result<Regex, regex::Error> {
        RegexBuilder::new(text).unicode(false).build()
    }
}
