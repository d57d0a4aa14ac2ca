//! `supervise.yaml`: who decides what the agent asks for, and the form of a proposal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Seconds;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SupervisePolicy {
    /// Format version, 1.
    pub version: u32,
    /// The run's slug: a proposal of another run means nothing here.
    pub run: String,
    /// Who decides.
    #[serde(default)]
    pub approval: Approval,
    /// How long a proposal waits.
    #[serde(default = "SupervisePolicy::default_timeout")]
    pub timeout: Seconds,
}

impl SupervisePolicy {
    /// Fifteen minutes.
    pub fn default_timeout() -> Seconds {
        Seconds(900)
    }
}

/// Who decides on a proposal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A person with write permission, by a comment on the issue or pull request.
    Comment,
    /// The person at this machine, by `bottle-runner proposals`.
    Local,
    /// Nobody: everything is refused and collected for the report.
    #[default]
    Deny,
}
