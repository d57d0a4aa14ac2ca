//! How the runner and the bundle talk: `bottle-sidecars control VERB`, run in the bundle by `exec`, JSON in and out.
//!
//! | verb | stdin | stdout |
//! | --- | --- | --- |
//! | `watch` | | an [`Update`] a line: first every proposal that is open, then each change; ends when the door ends |
//! | `list` | | one [`Listing`] |
//! | `decide` | one [`Decide`] | one [`Decided`] |
//! | `apply --door NAME --user NAME` | a policy file | one [`Applied`] |
//! | `credentials` | a list of [`CredentialUpdate`]s | one [`CredentialsTaken`] |
//! | `metrics` | | what the outgoing doors have counted, in the format of Prometheus |
//!
//! A verb exits with 0 when its answer is good, with 1 when it was refused (the answer says why), with 2 when nobody
//! answered. All but `credentials`, which the supervisor takes, are supervise's to answer. The same types go over the control socket, a line a message; the guest never sees that socket.

use std::collections::BTreeMap;

use bottle_policy::supervise::{Approval, Held, HeldPush};
use bottle_types::door::Door;
use bottle_types::secret::{Secret, SecretName};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::proposal::{Decide, PolicyFile, ProposalId, Standing, State};

/// The control socket of supervise, in the internal directory.
pub const SUPERVISE_SOCKET: &str = "supervise-control.sock";
/// The control socket of the supervisor, in the internal directory.
pub const SUPERVISOR_SOCKET: &str = "supervisor-control.sock";

/// What the runner wants of supervise; the first line on its control socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// Updates, until one side goes.
    Watch,
    /// All that was asked so far.
    List,
    /// A person's decision.
    Decide(Box<Decide>),
    /// A policy file by hand.
    Apply(Apply),
    /// From pipelock: a request that it holds. The answers are [`Holding`]s, a line each; whoever closes the connection
    /// before the last of them takes the question back.
    Hold(Held),
    /// From the gate: a push that it holds. The answer is one [`Holding`]; the question stays when the connection closes.
    HoldPush(HeldPush),
}

/// What becomes of what is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Holding {
    /// A person is asked.
    Waits {
        /// By this proposal.
        id: ProposalId,
    },
    /// It may go: the last line.
    Approved {
        /// By this proposal.
        id: ProposalId,
        /// Who said so.
        by: String,
    },
    /// It may not: the last line.
    Refused {
        /// The proposal, if there is one.
        id: Option<ProposalId>,
        /// Who said so and why, in words for the agent.
        why: String,
    },
}

/// One line of `watch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Update {
    /// A proposal is new, or its state has changed. An open one that comes again was changed: its policy is another now,
    /// and with it both hashes.
    Proposal(Box<Standing>),
    /// The agent tells how far it is; nothing to decide.
    Progress {
        /// Which one.
        id: ProposalId,
        /// When.
        time: String,
        /// One line.
        line: String,
    },
}

/// The answer of `list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// The run's slug.
    pub run: String,
    /// Who decides in this run.
    pub approval: Approval,
    /// The SHA-256 of each policy file in force, by its name.
    pub policies: BTreeMap<String, String>,
    /// Every proposal of the run, in their order; lines of progress are not among them.
    pub proposals: Vec<Standing>,
}

/// What came of a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Decided {
    /// It counts, and this is how the proposal stands now: [`State::InForce`] or [`State::Granted`] for a yes,
    /// [`State::Denied`] for a no, [`State::Failed`] for a yes that could not be applied.
    Taken(Box<State>),
    /// It counts for nothing, and why.
    Refused {
        /// For people, exact.
        reason: String,
    },
}

/// A whole policy for one door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// Whose policy: `egress` (`routes.yaml`, which pipelock reads too), `pipelock` or `git-gate`. supervise has none that
    /// could change in a run.
    pub door: Door,
    /// The file.
    pub text: String,
    /// Who gives it.
    pub user: String,
}

/// What came of a new policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Applied {
    /// Every door that reads the file has confirmed it.
    InForce {
        /// The file.
        file: PolicyFile,
        /// SHA-256 of what was in force.
        before: String,
        /// SHA-256 of what is in force.
        after: String,
    },
    /// What was in force before still is, or is again.
    Kept {
        /// Why, in words for people and the agent.
        reason: String,
    },
}

/// What has changed about a credential of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialUpdate {
    /// Which one: it was there when the bundle was started.
    pub name: SecretName,
    /// The value; the one before stays known to the scanners. None: it is as it was.
    #[serde(default, serialize_with = "exposed", deserialize_with = "hidden", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub value: Option<Secret<String>>,
    /// From when on it is not used any more, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<u64>,
    /// Why the last renewal failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What came of new credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CredentialsTaken {
    /// Every door that has credentials goes by them.
    InForce,
    /// The ones before are in force.
    Kept {
        /// Why, without a value.
        reason: String,
    },
}

/// Writes a value out, on its way over the control socket.
fn exposed<S: Serializer>(value: &Option<Secret<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(Secret::expose).serialize(serializer)
}

fn hidden<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}
