//! How a command ends: documented exit codes, and failures that say what, why and what to do.

use std::fmt;

use bottle_types::address::without_userinfo;

/// Every exit code there is. `docs/reference/exit-codes.md` is compared with this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done, or nothing to do.
    Done = 0,
    /// The task failed: the agent or a verify command.
    Task = 1,
    /// Bad usage, manifest or event.
    Input = 2,
    /// This actor may not.
    Refused = 3,
    /// This machine can't: no backend, engine down, image missing, upstream out of reach, the seal has a hole.
    Machine = 4,
    /// The gate refused the push.
    Gate = 5,
    /// A limit was reached.
    Limit = 6,
    /// Ended by SIGINT.
    Interrupted = 130,
    /// Ended by SIGTERM, or by somebody's word at the forge.
    Terminated = 143,
}

impl Code {
    /// All of them with their meaning, for the reference page and `--help`.
    pub(crate) const ALL: [(Self, &'static str); 9] = [
        (
            Self::Done,
            "done, or nothing to do: the event asks for nothing, or `run` in a job was asked by one who may not",
        ),
        (Self::Task, "the task failed (agent or verify)"),
        (Self::Input, "bad usage, manifest or event"),
        (Self::Refused, "refused: this actor may not"),
        (
            Self::Machine,
            "this machine can't: no backend, engine down, image missing, upstream out of reach, a hole in the seal",
        ),
        (Self::Gate, "the gate refused the push"),
        (Self::Limit, "a limit was reached"),
        (Self::Interrupted, "cancelled by SIGINT"),
        (Self::Terminated, "cancelled by SIGTERM, or stopped by a comment"),
    ];
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

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
