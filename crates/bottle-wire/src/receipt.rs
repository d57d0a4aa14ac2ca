//! `outputs.jsonl`: what became of each output, a line before each write at the forge and a line behind it.

use bottle_policy::outputs::OutputKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::proposal::ProposalId;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// When, as RFC 3339 in UTC.
    pub time: String,
    /// The output's number in `proposals.jsonl`.
    pub id: ProposalId,
    /// Of what kind it is.
    pub kind: OutputKind,
    /// What has become of it.
    pub step: ReceiptStep,
}

/// What has become of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ReceiptStep {
    /// The forge is asked for it now. Without a line behind it, it may have been written or not: its key tells.
    Begun {
        /// The mark that it bears at the forge; another run for the same ask has the same.
        key: String,
    },
    /// It is at the forge.
    Done {
        /// Its number at the forge; none where it has no number of its own, and in a dry run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u64>,
        /// Its page.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        url: String,
        /// Whether an earlier try has written it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        was_there: bool,
    },
    /// It was not written, because it may not go out.
    Refused {
        /// Why.
        reason: String,
    },
    /// The forge has refused it, or could not be asked.
    Failed {
        /// Why.
        reason: String,
    },
}
