//! What a scanner found, in terms of the texts that it was given.

use std::fmt;

use bottle_types::rule::Rule;
use sha2::{Digest as _, Sha256};

/// Who found it; of two that find the same, the earlier one is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FoundBy {
    /// The search for the bottle's own secrets.
    KnownSecrets,
    /// gitleaks.
    Gitleaks,
    /// The rules of `bottle-scan`.
    Rules,
}

/// A finding in a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ScanHit {
    pub(super) text: usize,
    pub(super) rule: Rule,
    pub(super) line: Option<u64>,
    pub(super) by: FoundBy,
    /// The bytes that were found; none where they can't be told to the byte.
    pub(super) matched: Option<Matched>,
}

/// Bytes that a rule found; they do not print.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Matched(Vec<u8>);

impl Matched {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Their SHA-256 in hex, which may be shown.
    pub(super) fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.0))
    }
}

impl fmt::Debug for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
