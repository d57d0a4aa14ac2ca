//! What is wrong with a manifest, and where.

use std::fmt;

use bottle_types::address::without_userinfo;

/// One thing that is wrong with a manifest: `claude-bottle.yml:12:5: unknown key …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    pub(super) file: String,
    /// Line and column, from 1.
    pub(super) at: Option<(u64, u64)>,
    pub(super) problem: String,
    pub(super) hint: Option<String>,
}

impl ManifestError {
    /// What is wrong is often quoted, and may have a password in it.
    pub(crate) fn new(file: &str, at: Option<(u64, u64)>, problem: String, hint: Option<String>) -> Self {
        Self {
            file: file.to_owned(),
            at,
            problem: without_userinfo(&problem),
            hint: hint.map(|hint| without_userinfo(&hint)),
        }
    }

    /// What to try.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Line and column, from 1.
    pub fn position(&self) -> Option<(u64, u64)> {
        self.at
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ManifestError {}
