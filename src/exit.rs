//! How a command ends: documented exit codes, and failures that say what, why and what to do.

use std::fmt;

use bottle_types::address::without_userinfo;
pub(crate) use bottle_wire::run_record::Code;

/// A failure that ends a command: its exit code, what failed and why, and what to try. Addresses in it come without passwords.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
    /// Whether somebody else brought it about, who may not: it says nothing about the repository, and makes none of its jobs red.
    pub(crate) by_stranger: bool,
}

impl Failure {
    pub(crate) fn new(code: Code, what: impl fmt::Display) -> Self {
        Self { code, what: without_userinfo(&what.to_string()), hint: None, by_stranger: false }
    }

    /// Bad usage, manifest or event.
    pub(crate) fn input(what: impl fmt::Display) -> Self {
        Self::new(Code::Input, what)
    }

    /// Something on this machine is missing or does not work.
    pub(crate) fn machine(what: impl fmt::Display) -> Self {
        Self::new(Code::Machine, what)
    }

    /// Says that somebody who may not brought it about.
    pub(crate) fn by_stranger(self) -> Self {
        Self { by_stranger: true, ..self }
    }

    /// Adds what to try.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(without_userinfo(&hint.to_string()));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)
    }
}
