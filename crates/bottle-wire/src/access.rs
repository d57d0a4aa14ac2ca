//! One line a request, as both outgoing doors write them to the run record.
//!
//! egress writes `egress.jsonl`, pipelock `pipelock.jsonl`: two users can't share one file. The lines of one request
//! share `id`; whoever collects merges both files by `time` into the record's `egress.jsonl`.

mod metrics;
mod table;

use bottle_policy::supervise::Found;
use bottle_types::door::Door;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use metrics::metrics;
pub use table::table;

use crate::proposal::ProposalId;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessVerdict {
    /// It went on.
    Allow,
    /// No rule allows it, or it was malformed.
    Deny,
    /// A scan found something, or the address may not be dialled.
    Block,
    /// It was allowed and failed on the way.
    Error,
    /// It was answered from the cassette.
    Replay,
}

/// One request at one door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// When it came: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// The same at both doors.
    pub id: String,
    /// Who writes.
    pub door: Door,
    /// Its method.
    pub method: String,
    /// The host it is for.
    pub host: String,
    /// The port it is for.
    pub port: u16,
    /// Its path, without the query's text; `(withheld)` where a secret was found in it.
    pub path: String,
    /// The route that allowed it, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<usize>,
    /// How it ended.
    pub verdict: AccessVerdict,
    /// The proposal by which a person was asked about what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<ProposalId>,
    /// Why, unless it was allowed: `no_route`, `dlp`, `address`, `upstream` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a scan found and where, never the value: the rule or the name of a secret, and `url`, `header NAME` or `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Found>,
    /// HTTP status of the answer; 0 where there was none.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_out: u64,
    /// Bytes of the answer's body.
    pub bytes_in: u64,
    /// Milliseconds from the request's head to the answer's.
    #[serde(default)]
    pub first_ms: u64,
    /// Milliseconds from the request's head to the answer's end.
    pub ms: u64,
    /// Whether its TLS was not ended: whatever it was, nobody looked into it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_inspected: bool,
    /// The name of the credential that was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}
