//! Where rules come from: a manifest, or a policy that holds for it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file, a line and a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The manifest or its policy, as messages call it.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
}

/// A rule of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleRef {
    /// Its keys and indices: `bottles.default.egress.routes[0]`.
    pub path: String,
    /// Where it stands; none: it is what holds where the manifest says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// The rule in a line.
    pub text: String,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(Place { file, line, column }) => write!(f, "{file}:{line}:{column}: {}", self.path),
            None => write!(f, "{} (as it is where the manifest does not say)", self.path),
        }
    }
}

/// The policies that hold for a manifest, and where each rule of a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleOrigins {
    /// The policies, the machine's first.
    pub policies: Vec<PolicyOrigin>,
    /// What is written of the triggers and of the run's agent and bottle, in the policies and in the manifest.
    pub rules: Vec<RuleRef>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyOrigin {
    /// Its path on this machine, or its repository, commit and path.
    pub name: String,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
}
