//! Why a plan can't be made.

use bottle_policy::gate::refs::RefRefusal;
use bottle_types::backend::Backend;

use crate::name::{Name, ServiceName};

/// Why a plan can't be made: what is wrong, and by [`PlanError::hint`] what to try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// What anybody may have proposed would be reviewed beside a credential.
    #[error("a change from another repository is reviewed though nobody has asked, beside a credential: {0}")]
    CredentialBesideFork(String),
    /// No agent of that name.
    #[error("no agent `{name}` in the manifest")]
    NoSuchAgent {
        /// The name asked for.
        name: Name,
        /// Those that are there.
        known: Vec<Name>,
    },
    /// Several agents and none was named.
    #[error("the manifest has several agents and the task names none")]
    WhichAgent(Vec<Name>),
    /// Neither the event nor the agent says what is to be done.
    #[error("nothing says what is to be done: the event has no task, and the agent `{0}` has no `prompt`")]
    NoTask(Name),
    /// The agent names no bottle that is there; a manifest that was read from text has no such agent.
    #[error("the agent `{0}` has no bottle")]
    NoBottle(Name),
    /// The repository's address can't be used.
    #[error("the repository can't be put behind the gate: {problem}")]
    Upstream {
        /// Why.
        problem: String,
        /// What to add to the manifest.
        hint: String,
    },
    /// The gate would refuse the branch of this run.
    #[error("the branch `{branch}` of this run could not be pushed: {refusal}")]
    Push {
        /// Its name.
        branch: String,
        /// Why.
        refusal: RefRefusal,
    },
    /// A run that was asked to rewrite a branch that it may not push to.
    #[error("the pull request's branch can't be rebased: work on it goes to the new branch `{0}`")]
    NotOurs(String),
    /// A package manager on the host does not say where it fetches from.
    #[error("the preset `{preset}`: {problem}")]
    Preset {
        /// Its name.
        preset: &'static str,
        /// Why.
        problem: String,
        /// What to try.
        hint: String,
    },
    /// More tools were granted for the image, and this backend makes none.
    #[error("a run on {} can't be resumed with what was granted for its image", .0.name())]
    NoImage(Backend),
    /// A service has nothing that this backend could run.
    #[error("the service `{name}` can't run on {}: {}", .backend.name(), lack(*.key))]
    Service {
        /// Its name.
        name: ServiceName,
        /// Where.
        backend: Backend,
        /// What the manifest does not say; none: this backend has no services at all.
        key: Option<&'static str>,
    },
    /// The file with the schema of an answer is not there, or can't be kept.
    #[error("agents.{agent}.outputs.json: `{path}` of the base branch: {problem}")]
    AnswerSchema {
        /// The agent.
        agent: Name,
        /// The file.
        path: String,
        /// Why.
        problem: String,
    },
    /// An agent's settings are not there, or have what is not for a bottle.
    #[error("agents.{agent}.settings: {problem}")]
    Settings {
        /// The agent.
        agent: Name,
        /// Why.
        problem: String,
        /// What to try.
        hint: Option<String>,
    },
    /// The workflow whose steps a setup runs is not there, or has what a bottle can't do.
    #[error("the setup's steps `{path}` of the base branch: {problem}")]
    SetupSteps {
        /// The file.
        path: String,
        /// Why.
        problem: String,
    },
    /// The proxy can't be used.
    #[error("{problem}")]
    Proxy {
        /// Why.
        problem: String,
    },
    /// The forge can't be read as the manifest says.
    #[error("forge: {problem}")]
    Forge {
        /// Why.
        problem: String,
    },
    /// A credential has the name that the canary has.
    #[error("the name BOTTLE_CANARY is taken by the run's canary, and {used_by} has a credential of that name")]
    CanarysName {
        /// What uses it.
        used_by: String,
    },
    /// A fact that the runner gathered can't be right.
    #[error("{0}")]
    Facts(String),
}

/// Why a service can't run.
fn lack(key: Option<&'static str>) -> String {
    key.map_or_else(|| "it has no services".to_owned(), |key| format!("it has no `{key}`"))
}

impl PlanError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        let list = |names: &[Name]| names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Self::CredentialBesideFork(_) => Some(
                "give the agent of `triggers.pull_requests` a bottle without it, or have a person ask for the review".to_owned(),
            ),
            Self::NoSuchAgent { known, .. } => Some(format!("it has {}", list(known))),
            Self::WhichAgent(known) => Some(format!("name one with --agent: {}", list(known))),
            Self::Upstream { hint, .. } | Self::Preset { hint, .. } => Some(hint.clone()),
            Self::NoImage(_) => {
                Some("give --backend docker, or bring the tools into the image or onto the machine by hand".to_owned())
            }
            Self::Push { .. } => {
                Some("let `push.refs` in the manifest allow it, such as `refs/heads/bottle/**`; with `refs: []` nothing is pushed".to_owned())
            }
            Self::Service { key: Some(key), .. } => Some(format!("add `{key}:` to it, or choose another --backend")),
            Self::Service { key: None, .. } => Some("give --backend docker or --backend bubblewrap".to_owned()),
            Self::AnswerSchema { .. } => Some(
                "commit a JSON Schema (2020-12) there: what an answer has to be is always read from the base branch".to_owned(),
            ),
            Self::Settings { hint, .. } => hint.clone(),
            Self::SetupSteps { .. } => {
                Some("write the commands under `setup.run`; what a setup runs is always read from the base branch".to_owned())
            }
            Self::Proxy { .. } => Some(
                "docs/guide/proxy.md says what a proxy has to be; a host of NO_PROXY, or of `proxy.no_proxy`, is reached without one"
                    .to_owned(),
            ),
            Self::NotOurs(_) => Some(
                "a branch of this repository that `push.refs` allow, such as `refs/heads/bottle/**`, can be; rebase another one by hand".to_owned(),
            ),
            Self::Forge { .. } => Some("docs/guide/read-the-forge.md says what may be read, and how".to_owned()),
            Self::CanarysName { .. } => Some("give the credential another name".to_owned()),
            Self::NoTask(_) => Some("give the agent a `prompt`, or the dispatch an input `task`".to_owned()),
            Self::NoBottle(_) | Self::Facts(_) => None,
        }
    }
}
