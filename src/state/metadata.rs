//! `metadata.json`: which run this was, and how it ended.

use bottle_types::backend::Backend;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    /// Format version, 1.
    pub(crate) schema: u32,
    pub(crate) slug: String,
    /// The task in a line.
    pub(crate) title: String,
    pub(crate) backend: Backend,
    pub(crate) compose_project: String,
    pub(crate) started: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<String>,
    pub(crate) dry_run: bool,
    /// The version of bottle-runner.
    pub(crate) runner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<Outcome>,
    /// SHA-256 of `proposals.jsonl` as the run left it: a chain alone does not show that its end is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proposals_sha256: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outcome {
    /// The exit code.
    pub(crate) code: u8,
    /// In a line: what was done, or what failed and why.
    pub(crate) summary: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) turns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost_usd: Option<f64>,
    /// The pull request that the work is proposed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pull_request: Option<PullRequestLink>,
}

/// A pull request at the forge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PullRequestLink {
    pub(crate) number: u64,
    pub(crate) url: String,
}
