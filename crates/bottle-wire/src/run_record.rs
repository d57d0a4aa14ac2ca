//! `metadata.json` of a run record: which run this was, and how it ended, in the exit codes of `bottle-runner`.

use bottle_types::backend::Backend;
use bottle_types::git::ObjectId;
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

/// Every exit code there is. `docs/reference/exit-codes.md` is compared with this list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
#[schemars(with = "u8")]
pub enum Code {
    /// Done, or nothing to do.
    #[default]
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
    pub const ALL: [(Self, &'static str); 9] = [
        (
            Self::Done,
            "done, or nothing to do: the event asks for nothing, or `run` in a job was asked by one who may not",
        ),
        (Self::Task, "the task failed (agent or verify)"),
        (Self::Input, "bad usage, manifest or event"),
        (Self::Refused, "refused: this actor may not"),
        (
            Self::Machine,
            "this machine can't: no backend, engine down, image missing, upstream out of reach, a hole in the seal, a bottle that died",
        ),
        (Self::Gate, "the gate refused the push"),
        (Self::Limit, "a limit was reached"),
        (Self::Interrupted, "cancelled by SIGINT"),
        (Self::Terminated, "cancelled by SIGTERM, or stopped by a comment"),
    ];
}

/// A number that no run ends with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no exit code")]
pub struct CodeError(u8);

impl TryFrom<u8> for Code {
    type Error = CodeError;

    fn try_from(number: u8) -> Result<Self, CodeError> {
        let known = Self::ALL.iter().map(|(code, _)| *code).find(|code| *code as u8 == number);
        known.ok_or(CodeError(number))
    }
}

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", *self as u8)
    }
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The exit code.
    pub code: Code,
    /// In a line: what was done, or what failed and why.
    pub summary: String,
    /// The branch that was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that the branch is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub commit: Option<ObjectId>,
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
