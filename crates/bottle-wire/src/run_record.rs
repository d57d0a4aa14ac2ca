//! `metadata.json` of a run record: which run this was, and how it ended.

use bottle_types::backend::Backend;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Format version, 1.
    pub schema: u32,
    /// The run's short unique name.
    pub slug: String,
    /// The task in a line.
    pub title: String,
    /// Where it ran.
    pub backend: Backend,
    /// The Compose project, or what stands for it on another backend.
    pub compose_project: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended; none: it goes on, or did not end in good order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Whether nothing left.
    pub dry_run: bool,
    /// The version of bottle-runner.
    pub runner: String,
    /// How it ended; none likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// SHA-256 of `proposals.jsonl` as the run left it: a chain alone does not show that its end is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposals_sha256: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The exit code.
    pub code: u8,
    /// In a line: what was done, or what failed and why.
    pub summary: String,
    /// The branch that was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that the branch is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Claude Code's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Turns of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    /// US dollars, as Claude Code counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// The pull request that the work is proposed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequestLink>,
}

/// A pull request at the forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PullRequestLink {
    /// Its number in the repository.
    pub number: u64,
    /// Its address for people.
    pub url: String,
}
