//! What a look at something has found, as lines for people or as JSON.

use serde::Serialize;

use crate::workflow_commands::plain;

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    Missing,
    /// There, and not as it has to be.
    Wrong,
    /// Not to be found out.
    Unknown,
}

/// One check, in a sentence: what it is; where it is not all right also why that matters, and what to do.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    pub(crate) status: Status,
    pub(crate) what: String,
}

/// The checks of one subject, in the order of their lines.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Survey {
    pub(crate) checks: Vec<Check>,
}

impl Survey {
    pub(crate) fn there(&mut self, what: impl Into<String>) {
        self.add(Status::Ok, what);
    }

    pub(crate) fn missing(&mut self, what: impl Into<String>) {
        self.add(Status::Missing, what);
    }

    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        self.add(Status::Wrong, what);
    }

    pub(crate) fn unknown(&mut self, what: impl Into<String>) {
        self.add(Status::Unknown, what);
    }

    fn add(&mut self, status: Status, what: impl Into<String>) {
        // A forge's words may be in it, and a job's runner takes some lines for commands.
        self.checks.push(Check { status, what: plain(&what.into()) });
    }

    /// Whether nothing is missing or wrong.
    pub(crate) fn usable(&self) -> bool {
        self.first_failed().is_none()
    }

    /// The first check that found something missing or wrong.
    pub(crate) fn first_failed(&self) -> Option<&Check> {
        self.checks.iter().find(|check| matches!(check.status, Status::Missing | Status::Wrong))
    }

    /// A heading, and a line for each check.
    pub(crate) fn page(&self, heading: &str) -> String {
        let mut text = format!("{heading}\n");
        for check in &self.checks {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Missing => "missing",
                Status::Wrong => "wrong",
                Status::Unknown => "unknown",
            };
            text.push_str(&format!("  {status:<7} {}\n", check.what));
        }
        text
    }
}
