//! The states of a proposal that views tell apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a proposal stands, for people and for other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProposalStatus {
    Asked,
    Approved,
    Modified,
    Answered,
    Denied,
    TimedOut,
    Failed,
    Ended,
}

impl ProposalStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Approved => "approved",
            Self::Modified => "approved with changes",
            Self::Answered => "answered",
            Self::Denied => "denied",
            Self::TimedOut => "timed out",
            Self::Failed => "failed",
            Self::Ended => "ended",
        }
    }
}
