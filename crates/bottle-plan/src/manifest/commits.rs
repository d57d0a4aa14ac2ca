//! `push.commits`: whose the commits of a push are, what their messages say, and which trailers they have.

use bottle_policy::gate::commits::CommitRules;
use bottle_policy::gate::signing::GitIdentity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The word for this run's identity in the list of authors.
const THIS_RUN: &str = "run";

/// What each new commit has to be like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Commits")]
pub struct CommitsEntry {
    /// Who may be author, committer and a tag's tagger: `run` (this run's own identity), or globs of e-mail addresses; none: anybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// `conventional` (Conventional Commits 1.0.0), or a regular expression that all of a message's first line has to match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the committer has to sign off: `git commit --signoff`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sign_off: bool,
    /// Trailers that a hook in the guest adds, and without which nothing is pushed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<CommitTrailer>,
}

/// A trailer by rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CommitTrailer {
    /// `Co-authored-by: LOGIN <ADDRESS>`: whoever asked.
    CoAuthoredBy,
    /// `Run: NAME`: the run's name, which its record has, too.
    Run,
}

/// What the rules of a run are made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunIdentity {
    /// Who commits.
    pub committer: GitIdentity,
    /// Who asked; none: nobody at a forge.
    pub asker: Option<GitIdentity>,
    /// The run's name.
    pub run: String,
}

impl CommitsEntry {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a trailer is asked for.
    pub fn wants(&self, trailer: CommitTrailer) -> bool {
        self.trailers.contains(&trailer)
    }

    /// The gate's rules for a run.
    pub(super) fn rules(&self, run: &RunIdentity) -> CommitRules {
        CommitRules {
            authors: self.authors.iter().filter(|author| *author != THIS_RUN).cloned().collect(),
            own: self.authors.iter().any(|author| author == THIS_RUN).then(|| run.committer.clone()),
            message: self.message.clone(),
            sign_off: self.sign_off,
            co_authored_by: run.asker.clone().filter(|_| self.wants(CommitTrailer::CoAuthoredBy)),
            run: self.wants(CommitTrailer::Run).then(|| run.run.clone()),
        }
    }
}

impl RunIdentity {
    /// One of no run, to look at rules where there is none.
    pub fn of_no_run() -> Self {
        Self { committer: GitIdentity::of_the_bottle(), asker: None, run: "run".to_owned() }
    }
}

/// What is wrong with an entry of `authors`, if it is neither the word nor something that could match an address.
pub(super) fn odd_author(author: &str) -> bool {
    author != THIS_RUN && !author.contains(['@', '*'])
}
