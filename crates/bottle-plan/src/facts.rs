//! Everything from outside that planning needs, looked up by the runner beforehand: names and places, never a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bottle_policy::outputs::DiffSide;
use bottle_types::backend::Backend;
use bottle_types::git::ObjectId;
use bottle_types::host::HostName;
use schemars::JsonSchema;
use serde_json::Value;

use crate::manifest::RuleOrigins;
use crate::registry::{Preset, ToolAnswer};

/// What is so on this machine, at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Four to eight hex digits that make this run's names unique.
    pub seed: String,
    /// When the run began, RFC 3339 in UTC.
    pub started_at: String,
    /// The directory that holds a directory for each run; absolute.
    pub state_root: String,
    /// What `~` means in an identity file's path.
    pub home: Option<String>,
    /// The names of the environment's variables that are set and not empty; never a value.
    pub variables: BTreeSet<String>,
    /// The checkout that the run starts from: of `--cwd`, or of the current directory.
    pub checkout: Option<CheckoutFacts>,
    /// The Actions job that this is.
    pub ci: Option<Ci>,
    /// The best backend that this machine has; which one a run takes that names none.
    pub backend: Backend,
    /// The backends that would come before it, each with the reason why this machine can't run it.
    pub passed_over: Vec<String>,
    /// The host's CA bundle, where the doors' own upstream trust needs it (a company's TLS-inspecting proxy).
    pub host_ca_bundle: Option<String>,
    /// The proxy that the environment names.
    pub proxy: Option<ProxyFacts>,
    /// The branch of an earlier run's open pull request about the same issue or pull request.
    pub earlier_branch: Option<String>,
    /// The change of the pull request that the task is about, whole, as `git diff` prints it.
    pub diff: Option<String>,
    /// The threads at lines of that change that begin with a remark of ours, of whichever agent.
    pub remarks: Vec<RemarkFacts>,
    /// The names of this machine's hosts file, but those of its own loopback.
    pub hosts: BTreeMap<HostName, IpAddr>,
    /// Where the package managers fetch from that a bottle of the manifest has presets for.
    pub registries: BTreeMap<Preset, ToolAnswer>,
    /// The lock files of the base revision, each with its id in git, where a setup of the manifest has a cache.
    pub lock_files: BTreeMap<String, String>,
    /// The base revision's files with schemas of answers that the manifest names.
    pub answer_schemas: BTreeMap<String, String>,
    /// The base revision's files with settings of Claude Code's that the manifest names.
    pub claude_settings: BTreeMap<String, String>,
    /// The base revision's workflows whose steps a setup of the manifest runs.
    pub setup_workflows: BTreeMap<String, String>,
    /// This machine's tools beside its system's.
    pub tools: HostTools,
    /// The policies that hold for the manifest, and what is written of each rule; none: it has no policy.
    pub origins: Option<RuleOrigins>,
}

/// A thread at lines of a change that begins with a remark of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemarkFacts {
    /// The remark's number at the forge.
    pub id: u64,
    /// The remark as the forge has it.
    pub text: String,
    /// The file's path.
    pub path: String,
    /// The line, or the last of several, in the change as it is now; none where that is not known.
    pub line: Option<u64>,
    /// The side that the line is on.
    pub side: DiffSide,
    /// Whether the thread is resolved.
    pub resolved: bool,
}

/// What the environment says about a proxy; never its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyFacts {
    /// The variable with its address: `https_proxy`, else `HTTPS_PROXY`.
    pub variable: String,
    /// The address, without a user and a password.
    pub url: String,
    /// The user before its host.
    pub user: Option<String>,
    /// Whether a password is there, too.
    pub has_password: bool,
    /// The value of `no_proxy`, else of `NO_PROXY`.
    pub no_proxy: String,
}

/// Tools of this machine beside its system's, for a guest that has this machine's system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTools {
    /// The directories that the guest gets, read-only; real and absolute paths.
    pub directories: Vec<String>,
    /// The directories of the `PATH` that the guest has, too, in their order.
    pub path: Vec<String>,
    /// The variables that name one tool's directory, such as `JAVA_HOME`, where the guest has it.
    pub variables: BTreeMap<String, String>,
    /// What is to be said of them.
    pub notes: Vec<String>,
}

/// A git working tree on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckoutFacts {
    /// Its top directory; absolute.
    pub path: String,
    /// The URL of the remote `origin`, as the configuration has it.
    pub origin: Option<String>,
    /// The branch that is checked out; none on a detached head.
    pub branch: Option<String>,
    /// The commit that is checked out; none where there is none yet.
    pub head: Option<ObjectId>,
}

/// A job of GitHub Actions, or of Gitea's or Forgejo's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ci {
    /// Whose job.
    pub forge: ForgeKind,
    /// The forge's address, such as `https://github.com`.
    pub server_url: String,
    /// The repository's owner and name.
    pub repository: String,
    /// The run's number at the forge.
    pub run_id: String,
    /// The run's page at the forge.
    pub run_url: String,
    /// The ref that the job was started for, such as `refs/heads/main` or `refs/tags/v1`.
    pub started_for: Option<String>,
    /// The base branch: the repository's default one, whose rules hold, and from which work starts that is about no other.
    pub base: Option<String>,
}

/// Which forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// github.com or GitHub Enterprise Server.
    Github,
    /// Gitea or Forgejo.
    Gitea,
}

/// What a job's runner says it was started for. The runner writes these; nobody who proposes a change can.
#[derive(Debug, Clone, Copy)]
pub struct JobStart<'a> {
    /// `GITHUB_REPOSITORY`.
    pub repository: &'a str,
    /// `GITHUB_REF`: `refs/heads/…`, `refs/pull/9/merge`, …
    pub reference: Option<&'a str>,
    /// `GITHUB_SHA`: the commit that it was at.
    pub commit: Option<&'a str>,
    /// The payload of the job's own event.
    pub payload: &'a Value,
}

impl<'a> JobStart<'a> {
    /// The default branch and a commit of it, where the job was started for that branch. None: only the forge knows.
    ///
    /// Jobs for issues, comments and schedules are started so. One for a pull request is started for the merge or the head of
    /// what is proposed, and one by hand for any branch that was chosen.
    pub fn on_the_default_branch(&self) -> Option<(&'a str, ObjectId)> {
        let repository = &self.payload["repository"];
        let name = repository["full_name"].as_str()?;
        let default = repository["default_branch"].as_str().filter(|branch| !branch.is_empty())?;
        let commit = self.commit_on(default).filter(|_| name.eq_ignore_ascii_case(self.repository))?;
        Some((default, commit))
    }

    /// The commit that the job was started for, where that was this branch of its repository.
    pub fn commit_on(&self, branch: &str) -> Option<ObjectId> {
        let started_for = self.reference?.strip_prefix("refs/heads/")?;
        ObjectId::parse(self.commit?).ok().filter(|_| started_for == branch)
    }
}
