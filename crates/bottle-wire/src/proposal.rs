//! A proposal: what an agent asked for, as a person decides on it; who decides, what was decided, what came of it.
//!
//! Map: `change` (what a request makes of the policy files), `record` (`proposals.jsonl`), `ledger` (the state that a record
//! leads to), `verify` (whether it tells the truth). How the runner hands a decision over is in [`crate::control`].

pub mod change;
pub mod ledger;
pub mod record;
pub mod verify;

use std::fmt;

use bottle_policy::supervise::{Approval, Request};
use bottle_types::door::Door;
use bottle_types::record_file::RecordFile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The number of a proposal in its run, written as `P1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ProposalId(u32);

/// A text that is not the id of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the id of a proposal, such as P1")]
pub struct ProposalIdError(String);

impl ProposalId {
    /// The first of a run.
    pub const FIRST: Self = Self(1);

    /// Reads `P1`, with one spelling for each number.
    pub fn parse(text: &str) -> Result<Self, ProposalIdError> {
        let error = || ProposalIdError(text.chars().take(20).collect());
        let number = text.strip_prefix('P').and_then(|digits| digits.parse().ok()).ok_or_else(error)?;
        let id = Self(number);
        if number > 0 && id.to_string() == text { Ok(id) } else { Err(error()) }
    }

    /// The one after this.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}", self.0)
    }
}

impl TryFrom<String> for ProposalId {
    type Error = ProposalIdError;
    fn try_from(text: String) -> Result<Self, ProposalIdError> {
        Self::parse(&text)
    }
}

impl From<ProposalId> for String {
    fn from(id: ProposalId) -> Self {
        id.to_string()
    }
}

/// A policy file that can change while the bottle runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum PolicyFile {
    /// What egress and pipelock go by.
    #[serde(rename = "routes.yaml")]
    Routes,
    /// What pipelock alone goes by.
    #[serde(rename = "pipelock.yaml")]
    Pipelock,
    /// What git-gate goes by.
    #[serde(rename = "gate.yaml")]
    Gate,
}

impl PolicyFile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Routes, Self::Pipelock, Self::Gate];

    /// Its file in the run record.
    pub fn record_file(self) -> RecordFile {
        match self {
            Self::Routes => RecordFile::Routes,
            Self::Pipelock => RecordFile::Pipelock,
            Self::Gate => RecordFile::Gate,
        }
    }

    /// Its name in the configuration directory, and in the run record.
    pub fn name(self) -> &'static str {
        self.record_file().name()
    }

    /// The doors that read it, in the order in which they take a new one: the one behind before the one in front.
    pub fn doors(self) -> &'static [Door] {
        match self {
            Self::Routes => &[Door::Pipelock, Door::Egress],
            Self::Pipelock => &[Door::Pipelock],
            Self::Gate => &[Door::GitGate],
        }
    }

    /// The file that is a door's own; none for supervise.
    pub fn of(door: Door) -> Option<Self> {
        match door {
            Door::Egress => Some(Self::Routes),
            Door::Pipelock => Some(Self::Pipelock),
            Door::GitGate => Some(Self::Gate),
            Door::Supervise => None,
        }
    }
}

impl fmt::Display for PolicyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a proposal would make of a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Which file.
    pub file: PolicyFile,
    /// The file as it is in force.
    pub before: String,
    /// The file as it would be.
    pub after: String,
}

/// A request that waits for a decision, as it is shown to whoever decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Its number in the run.
    pub id: ProposalId,
    /// The run's slug.
    pub run: String,
    /// Made at random for this proposal: 32 hex digits.
    pub nonce: String,
    /// What is asked, normalised; [`Request::why`] is the agent's reason, its own words and not to be trusted.
    pub request: Request,
    /// What a yes changes in the running bottle; none for a question, a capability and a held request.
    pub change: Option<Change>,
    /// SHA-256 of the policy file that would change, as it is in force; of nothing where none would.
    pub policy_hash: String,
    /// [`proposal_hash`] of the above.
    pub hash: String,
    /// When, as RFC 3339 in UTC.
    pub asked_at: String,
    /// When it is refused if nobody has decided.
    pub expires_at: String,
}

impl Proposal {
    /// Whether its hash is the one of what it says, and its change begins at the policy that it names.
    pub fn is_whole(&self) -> bool {
        let before = self.change.as_ref().map_or("", |change| &change.before);
        self.policy_hash == sha256(before)
            && self.hash == proposal_hash(&self.run, self.id, &self.nonce, &self.request, &self.policy_hash)
    }
}

/// What an approval is bound to: SHA-256, in hex, over run, id, nonce, the normalised request as JSON and the policy's
/// hash, each followed by a newline.
pub fn proposal_hash(run: &str, id: ProposalId, nonce: &str, request: &Request, policy_hash: &str) -> String {
    // A request has string keys alone, so this can't fail; an empty text would match no proposal that was shown.
    let request = serde_json::to_string(request).unwrap_or_default();
    sha256(&format!("{run}\n{id}\n{nonce}\n{request}\n{policy_hash}\n"))
}

/// SHA-256 of a text, in hex: the hash of a policy file and of a line of the record.
pub fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// As it was asked.
    Approve,
    /// Not at all.
    Deny {
        /// Why, for the agent.
        why: String,
    },
    /// Something else than was asked: the same kind of request, with other words. The agent is told the difference.
    Modified {
        /// What is granted.
        request: Box<Request>,
    },
    /// The answer to a question.
    Answer {
        /// For the agent.
        text: String,
    },
}

impl Verdict {
    /// Whether something is granted by it.
    pub fn grants(&self) -> bool {
        matches!(self, Self::Approve | Self::Modified { .. })
    }
}

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum By {
    /// A person at the forge.
    Comment {
        /// The login, for people.
        login: String,
        /// The number that the permission was looked up by.
        user_id: u64,
        /// The comment's page.
        url: String,
        /// The comment's number.
        comment_id: u64,
    },
    /// The person at the machine of the run.
    Local {
        /// The account's name.
        user: String,
    },
    /// A rule of `supervise.auto`.
    Auto {
        /// The rule, as the manifest has it.
        rule: String,
    },
    /// Nobody in time.
    Timeout,
    /// Nobody: approval is `deny`, or whoever asked has gone.
    Nobody,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comment { login, .. } => write!(f, "@{login}"),
            Self::Local { user } => f.write_str(user),
            Self::Auto { rule } => write!(f, "the rule {rule}"),
            Self::Timeout => f.write_str("nobody in time"),
            Self::Nobody => f.write_str("nobody"),
        }
    }
}

/// What has become of a proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// It waits.
    Open,
    /// A yes that is being applied.
    Applying {
        /// What was decided.
        verdict: Verdict,
        /// By whom.
        by: By,
    },
    /// A yes, and the doors go by it.
    InForce {
        /// What was decided.
        verdict: Verdict,
        /// By whom.
        by: By,
        /// SHA-256 of the policy file that has it.
        policy_hash: String,
        /// When it ends; none: with the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<String>,
    },
    /// A yes with nothing to change here: an answer, a capability for the next run, a held request that goes on.
    Granted {
        /// What was decided.
        verdict: Verdict,
        /// By whom.
        by: By,
    },
    /// A no.
    Denied {
        /// Why, as the agent was told.
        why: String,
        /// By whom.
        by: By,
    },
    /// A yes that could not be applied: what was in force before still is.
    Failed {
        /// Why.
        reason: String,
    },
    /// It was in force, and its time is up.
    Ended {
        /// SHA-256 of the policy file without it.
        policy_hash: String,
    },
}

impl State {
    /// Whether a decision is still to be made.
    pub fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

/// A proposal and what has become of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// As it is to be shown to whoever decides.
    pub proposal: Proposal,
    /// What has become of it.
    pub state: State,
}

/// A decision on one proposal, bound to exactly what was shown to whoever made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// The run's slug.
    pub run: String,
    /// Which proposal.
    pub id: ProposalId,
    /// [`Proposal::nonce`].
    pub nonce: String,
    /// [`Proposal::hash`].
    pub proposal_hash: String,
    /// [`Proposal::policy_hash`].
    pub policy_hash: String,
    /// What was decided.
    pub verdict: Verdict,
    /// By whom: [`By::Comment`] where approval is `comment`, [`By::Local`] where it is `local`; no other.
    pub by: By,
}

impl Decide {
    /// The decision on a proposal as it was shown.
    pub fn on(shown: &Proposal, verdict: Verdict, by: By) -> Self {
        Self {
            run: shown.run.clone(),
            id: shown.id,
            nonce: shown.nonce.clone(),
            proposal_hash: shown.hash.clone(),
            policy_hash: shown.policy_hash.clone(),
            verdict,
            by,
        }
    }
}

/// Why a decision counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is of another run.
    #[error("it is for the run {given}, and this is {own}")]
    Run {
        /// What it says.
        given: String,
        /// What it should say.
        own: String,
    },
    /// No such proposal.
    #[error("there is no proposal {0} in this run")]
    Unknown(ProposalId),
    /// The nonce is another's.
    #[error("its nonce is not the one of {0}")]
    Nonce(ProposalId),
    /// It was decided already.
    #[error("{0} is decided already")]
    Decided(ProposalId),
    /// Too late.
    #[error("{0} was not decided in time")]
    Late(ProposalId),
    /// The policy is another than the one shown.
    #[error("the policy has changed since {0} was shown: look at it again")]
    Policy(ProposalId),
    /// The proposal is another than the one shown.
    #[error("{0} is not as it was shown: look at it again")]
    Proposal(ProposalId),
    /// The wrong kind of decider.
    #[error("approval is `{approval}` in this run, and this was decided by {by}")]
    By {
        /// Who decides in this run.
        approval: Approval,
        /// Who did.
        by: String,
    },
    /// The wrong kind of decision.
    #[error("{id} is {tool}: {reason}")]
    Verdict {
        /// Which proposal.
        id: ProposalId,
        /// The tool that it came by.
        tool: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Whether a decision counts for this proposal, which is the one that it names; whether it comes in time is up to whoever
/// has a clock.
pub fn check(proposal: &Proposal, state: &State, decide: &Decide, approval: Approval) -> Result<(), Mismatch> {
    let id = proposal.id;
    if decide.run != proposal.run {
        return Err(Mismatch::Run { given: decide.run.clone(), own: proposal.run.clone() });
    }
    if decide.id != id {
        return Err(Mismatch::Unknown(decide.id));
    }
    if decide.nonce != proposal.nonce {
        return Err(Mismatch::Nonce(id));
    }
    if !state.is_open() {
        return Err(Mismatch::Decided(id));
    }
    if decide.policy_hash != proposal.policy_hash {
        return Err(Mismatch::Policy(id));
    }
    if decide.proposal_hash != proposal.hash || !proposal.is_whole() {
        return Err(Mismatch::Proposal(id));
    }
    match (approval, &decide.by) {
        (Approval::Comment, By::Comment { .. }) | (Approval::Local, By::Local { .. }) => {}
        (approval, by) => return Err(Mismatch::By { approval, by: by.to_string() }),
    }
    let tool = proposal.request.tool();
    let wrong = |reason: &str| Err(Mismatch::Verdict { id, tool, reason: reason.to_owned() });
    let question = matches!(proposal.request, Request::Ask { .. });
    match &decide.verdict {
        Verdict::Answer { text } if question && text.trim().is_empty() => wrong("the answer is empty"),
        Verdict::Approve | Verdict::Modified { .. } if question => wrong("a question takes an answer"),
        Verdict::Answer { .. } if !question => wrong("only a question takes an answer"),
        Verdict::Modified { .. } if proposal.request.is_as_it_is() => wrong("it is let through as it is or not at all"),
        Verdict::Modified { request }
            if std::mem::discriminant(&**request) != std::mem::discriminant(&proposal.request) =>
        {
            wrong("it can't become another kind of request")
        }
        Verdict::Modified { request } => match request.check() {
            Ok(()) => Ok(()),
            Err(error) => wrong(&error.to_string()),
        },
        Verdict::Approve | Verdict::Deny { .. } | Verdict::Answer { .. } => Ok(()),
    }
}
