//! `claude-bottle.yml`: its types, one to one with the keys that people write.
//!
//! [`ManifestSource`] is the only way in from text, with the policies that hold for a manifest (`narrow`); [`parse`] is for one that has none. It reads (`read`), checks what no single value can show (`check`), and says
//! what is wrong with file, line and column (`error`, `position`; `positions` for those who speak of what is right). [`offer`] writes into one what was asked for, by `edit`. [`schema`] gives the JSON Schema of the same types.
//! A `Manifest` that `parse` has returned names only bottles that exist, and its upstreams are usable as they stand.

mod attachments;
mod budget;
mod cache;
mod check;
mod commits;
mod credential;
mod edit;
mod error;
mod extends;
mod forge;
mod model;
mod narrow;
mod offer;
mod origin;
mod plain_http;
mod position;
mod positions;
mod proxy;
mod pull_request;
mod read;
mod service;
mod signing;
mod source;
mod tools;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;

use bottle_policy::artifacts::ArtifactRules;
use bottle_policy::budget::{Budget, Price};
use bottle_policy::gate::exemptions::FindingExemption;
use bottle_policy::gate::hold::HoldRules;
use bottle_policy::gate::{HostKey, PushRules, RepoName, Upstream, UpstreamUrl};
use bottle_policy::limits;
use bottle_policy::outputs::OutputRules;
use bottle_policy::pipelock::{Action, Exemption};
use bottle_policy::route::Route;
use bottle_policy::supervise::{Approval, AutoRule, SupervisePolicy};
use bottle_scan::dlp::{DataKind, TokenPattern};
use bottle_types::host::{HostName, HostPattern};
use bottle_types::secret::SecretName;
use bottle_types::units::{ByteSize, Seconds};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use attachments::AttachmentRules;
pub use budget::{BudgetEntry, Period};
pub use cache::{AUTO, Cache};
pub(crate) use check::keyscan;
pub use commits::{CommitTrailer, CommitsEntry, RunIdentity};
pub(crate) use credential::at_home;
pub use credential::{CredentialEntry, Credentials};
pub(crate) use edit::{Addition, Part, add, flow};
pub use error::ManifestError;
pub use extends::Extends;
pub use forge::ForgeEntry;
pub(crate) use forge::THIS;
pub(crate) use model::ModelEndpoint;
pub use model::{ModelEntry, Provider};
pub use offer::offer;
pub use origin::{Place, PolicyOrigin, RuleOrigins, RuleRef};
pub use plain_http::PlainHttpError;
pub(crate) use plain_http::warning as plain_http_warning;
pub use position::LineColumn;
pub(crate) use position::dotted;
pub use positions::Positions;
pub use proxy::ProxyEntry;
pub(crate) use pull_request::LONGEST_BRANCH;
pub use pull_request::PullRequestRules;
pub use read::parse;
pub(crate) use read::read;
pub use service::Service;
pub use signing::{SigningEntry, SshSigning};
pub(crate) use source::LayeredManifest;
pub use source::{ManifestSource, PolicyText};
pub(crate) use tools::ClaudeSettings;
pub use tools::{Hook, HookEvent, HookKind, HookMatcher, Hooks, McpServer};
pub use verify::{Verify, VerifyCommandRules, VerifyEntry, VerifyRules};

use crate::name::{Name, ServiceName};
use crate::registry::Preset;

/// The file names that are looked for in the base branch, in this order.
pub const FILE_NAMES: [&str; 4] =
    ["claude-bottle.yml", ".github/claude-bottle.yml", "claude-bottle.json", ".github/claude-bottle.json"];

/// The agent of a manifest that has no `agents` section.
pub const DEFAULT_AGENT: &str = "default";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format version: 1.
    pub version: u32,
    /// The policy of another repository that holds for this one: what this manifest leaves out is the policy's, and what it says may not
    /// allow more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<Extends>,
    /// What agents run in, by name; the policy's where there is one.
    #[serde(default)]
    pub bottles: BTreeMap<Name, BottleEntry>,
    /// Who does the work, by name; none: one agent named `default` in the only bottle.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<Name, Agent>,
    /// What starts a run, and who may.
    #[serde(default)]
    pub triggers: Triggers,
    /// Where credentials come from that are no variables of the environment, by the name that `from`, `bearer` and `token_from` have
    /// for them; a name that is not here is that of a variable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, CredentialEntry>")]
    pub credentials: Credentials,
    /// Git servers and forges that may be reached without TLS, `host` or `host:port` as in their address; anybody on the way can read
    /// the token and change the code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plain_http: Vec<String>,
    /// The company's proxy through which the doors reach everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyEntry>,
    /// What all runs of the repository together may spend on the model in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetEntry>,
}

/// A box, and its doors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Bottle")]
pub struct BottleEntry {
    /// The guest's image: any with glibc, git and sh; the agent image of this version where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Variables that the agent sees; never a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where the model is; Anthropic's API, by a route of `egress`, where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelEntry>,
    /// The guest's share of the machine.
    #[serde(default)]
    pub resources: Resources,
    /// Where the guest may go.
    #[serde(default)]
    pub egress: Egress,
    /// What may be read at a forge; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<ForgeEntry>,
    /// What may leave.
    #[serde(default)]
    pub pipelock: Pipelock,
    /// The git repositories at the gate; none: in Actions the repository itself, elsewhere the checkout's `origin`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git: Vec<GitEntry>,
    /// How the gate judges what is pushed.
    #[serde(default, skip_serializing_if = "Gate::is_default")]
    pub gate: Gate,
    /// How the run's commits are signed; none: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningEntry>,
    /// Who decides when the agent asks for more.
    #[serde(default)]
    pub supervise: Supervise,
    /// The directory of the repository in which the setup, the agent and the verify commands start, such as that of a project in a
    /// monorepo; its top where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Commands that prepare the repository before the agent starts, such as an installation of dependencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
    /// What runs beside the agent, such as a database, by the name of the host at which the agent finds it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Service>")]
    pub services: BTreeMap<ServiceName, Service>,
}

impl BottleEntry {
    /// What the guest may reach while its setup runs: what the setup asks for, and the agent's own ways out. The model is no part of
    /// that: a command that an installation runs must not spend money.
    pub(crate) fn egress_with_setup(&self) -> Egress {
        let mut egress = self.egress.clone();
        if let Some(setup) = &self.setup {
            egress.routes.extend(setup.egress.routes.iter().cloned());
            egress.presets.extend(&setup.egress.presets);
        }
        egress
    }

    /// Every package manager of which the bottle has a preset.
    pub fn presets(&self) -> impl Iterator<Item = Preset> + '_ {
        let of_setup = self.setup.iter().flat_map(|setup| &setup.egress.presets);
        self.egress.presets.iter().chain(of_setup).copied()
    }
}

/// Commands that prepare the repository before the agent starts. They run in the sealed guest; one that fails ends the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Setup {
    /// A program of the base branch that is run first, in the repository; a pull request can't change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// A workflow of the base branch with a job `copilot-setup-steps`, whose `run` steps are run next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Shell commands, run one after the other in the repository.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<String>,
    /// Ways out for the setup alone; they are closed before the agent starts.
    #[serde(skip_serializing_if = "Egress::is_default")]
    pub egress: Egress,
    /// How long all of it may take.
    pub time: Seconds,
    /// Directories that a later run's setup finds as this one left them: `auto`, `~/` and a path in the agent's home, or a path in the
    /// repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// The most that is kept; 2GiB where nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_max_size: Option<ByteSize>,
    /// Runs no command where the cache has an entry and the work starts with the lock files that it was made by.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_on_hit: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            script: None,
            from: None,
            run: vec![],
            egress: Egress::default(),
            time: Seconds(1800),
            cache: None,
            cache_max_size: None,
            skip_on_hit: false,
        }
    }
}

/// How the gate judges what is pushed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Findings in files that are no secrets; none of them lets a secret of the bottle's own through.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<FindingExemption>,
    /// Whether the allowlists of `.gitleaks.toml` and `.gitleaksignore` in the repository's default branch count for what gitleaks
    /// finds; a pushed one never does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub base_allowlists: bool,
}

impl Gate {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The guest's share of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Processors; parts of one are possible.
    pub cpus: f64,
    /// Memory.
    pub memory: ByteSize,
    /// Processes and threads.
    pub pids: u32,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: 2.0, memory: ByteSize(4 << 30), pids: 512 }
    }
}

/// Where the guest may go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// The rules; the first that matches decides, and what none matches is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Package managers whose registries may be read: hosts are taken from each tool's own configuration on the host.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub presets: BTreeSet<Preset>,
}

impl Egress {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What may leave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pipelock {
    /// What a secret in a request leads to.
    pub dlp: Action,
    /// Networks that may be reached although they are private, such as `10.0.0.0/24`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub allow_private: Vec<IpNet>,
    /// Networks that may not be reached although they are public, such as a company's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub internal: Vec<IpNet>,
    /// Hosts whose TLS is not ended at the door.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passthrough: Vec<HostPattern>,
    /// The largest request body.
    pub max_request_bytes: ByteSize,
    /// What words that talk an agent into something, or what looks like a secret, lead to in answers (not the model's).
    #[serde(skip_serializing_if = "Pipelock::is_off")]
    pub responses: Action,
    /// The largest answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_response_bytes: Option<ByteSize>,
    /// How much may leave in one run.
    #[serde(skip_serializing_if = "limits::Limits::is_default")]
    pub limits: limits::Limits,
    /// In a bottle without routes: hosts that may be reached over https, any method and path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_allowlist: Vec<HostPattern>,
    /// Token formats of this project's own, looked for in what leaves and in what is pushed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<TokenPattern>,
    /// Kinds of data that are no token, looked for in what leaves (but to the model), in what is pushed and in what a run writes at the
    /// forge. A finding is what one of a token is.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub detect: BTreeSet<DataKind>,
    /// Single DLP rules that are not looked for in what goes to a host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<Exemption>,
}

impl Pipelock {
    fn is_off(action: &Action) -> bool {
        *action == Action::Off
    }
}

impl Default for Pipelock {
    fn default() -> Self {
        Self {
            dlp: Action::Block,
            allow_private: vec![],
            internal: vec![],
            passthrough: vec![],
            max_request_bytes: ByteSize(10 << 20),
            responses: Action::Off,
            max_response_bytes: None,
            limits: limits::Limits::default(),
            api_allowlist: vec![],
            patterns: vec![],
            detect: BTreeSet::new(),
            exemptions: vec![],
        }
    }
}

/// A git repository behind the gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitEntry {
    /// Its name at the gate; `origin` is the one that the guest works in, else the first.
    #[serde(alias = "Name")]
    pub name: RepoName,
    /// Where it is: `ssh://user@host[:port]/path`, `user@host:path` or `https://host[:port]/path`; by http only if `plain_http` has the
    /// host.
    #[serde(alias = "Upstream")]
    pub upstream: UpstreamUrl,
    /// ssh: the private key's file on the host; `~/` is the home directory.
    #[serde(default, alias = "IdentityFile", skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<String>,
    /// ssh, in place of `identity_file`: whether the runner makes a key for each run, registers it at the job's forge as a deploy key of
    /// the job's own repository, and removes it at the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deploy_key: bool,
    /// ssh: the host's public key, `ssh-ed25519 AAAA…`, as `ssh-keyscan` prints it without the host.
    #[serde(default, alias = "KnownHostKey", skip_serializing_if = "Option::is_none")]
    pub known_host_key: Option<HostKey>,
    /// Addresses of hosts that name service does not know.
    #[serde(default, alias = "ExtraHosts", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub extra_hosts: BTreeMap<HostName, IpAddr>,
    /// https: the name of the token's credential, or of the host's variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_from: Option<SecretName>,
    /// The largest Git LFS object that a fetch may bring; 0: none.
    #[serde(default = "Upstream::default_max_lfs", skip_serializing_if = "Upstream::is_default_max_lfs")]
    pub max_lfs_bytes: ByteSize,
    /// So many generations of commits are fetched, of the branches alone that the run is about; without it all of everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<NonZeroU32>,
    /// The directories that are checked out, besides the files at the top and `.claude`; without it all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<String>,
    /// What may be pushed.
    #[serde(default)]
    pub push: Push,
}

/// What may be pushed to a repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Push {
    /// Globs of full ref names; an empty list: nothing may be pushed.
    pub refs: Vec<String>,
    /// Globs of paths that no pushed commit may touch.
    pub protect_paths: Vec<String>,
    /// Whether tags may be pushed.
    pub tags: bool,
    /// The largest single blob.
    pub max_blob_bytes: ByteSize,
    /// All new objects of one push together, unpacked.
    pub max_push_bytes: ByteSize,
    /// So many files at most may the commits of one push change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u64>,
    /// So many lines may they add and remove.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lines: Option<u64>,
    /// So many files may they make that are binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_binaries: Option<u64>,
    /// What each new commit has to be like.
    #[serde(skip_serializing_if = "CommitsEntry::is_none")]
    pub commits: CommitsEntry,
    /// Pushes that wait for a person's yes.
    #[serde(skip_serializing_if = "HoldRules::is_none")]
    pub hold: HoldRules,
}

impl Push {
    /// The same in the gate's words, for a run.
    pub fn rules(&self, run: &RunIdentity) -> PushRules {
        PushRules {
            refs: self.refs.clone(),
            protect_paths: self.protect_paths.clone(),
            tags: self.tags,
            max_blob_bytes: self.max_blob_bytes,
            max_push_bytes: self.max_push_bytes,
            max_files: self.max_files,
            max_lines: self.max_lines,
            max_new_binaries: self.max_new_binaries,
            commits: self.commits.rules(run),
            hold: self.hold.clone(),
            rewrite: None,
        }
    }
}

impl Default for Push {
    /// Branches below `bottle/`, and nothing that runs by itself on the forge or makes these rules.
    fn default() -> Self {
        let rules = PushRules::default();
        let protected =
            [".github/workflows/**", ".gitea/workflows/**", ".forgejo/workflows/**"].into_iter().chain(FILE_NAMES);
        Self {
            refs: vec!["refs/heads/bottle/**".to_owned()],
            protect_paths: protected.map(str::to_owned).collect(),
            tags: false,
            max_blob_bytes: rules.max_blob_bytes,
            max_push_bytes: rules.max_push_bytes,
            max_files: None,
            max_lines: None,
            max_new_binaries: None,
            commits: CommitsEntry::default(),
            hold: HoldRules::default(),
        }
    }
}

/// Who decides when the agent asks for more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Supervise {
    /// `comment`, `local` or `deny`.
    pub approval: Approval,
    /// How long the agent waits for an answer.
    pub timeout: Seconds,
    /// Routes that are granted without a person, whoever decides the rest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub auto: Vec<AutoRule>,
}

impl Default for Supervise {
    fn default() -> Self {
        Self { approval: Approval::Deny, timeout: SupervisePolicy::default_timeout(), auto: vec![] }
    }
}

/// Who does the work, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The bottle it runs in; the only one where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bottle: Option<Name>,
    /// A file of the base branch with standing instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Directories of the base branch, each a skill.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<String>,
    /// MCP servers, by the names that Claude Code has for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, McpServer>")]
    pub mcp: BTreeMap<Name, McpServer>,
    /// A file of the base branch with settings of Claude Code's; with it or `hooks`, no settings of the repository count besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
    /// Hooks of Claude Code's, in the form of its settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: Hooks,
    /// Files and directories of the base branch that servers and hooks find by their paths; whatever a pull request changes of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_files: Vec<String>,
    /// Directories of the base branch, each a plugin of Claude Code's with skills, commands, agents or output styles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<String>,
    /// The model; Claude Code's own choice where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When to stop.
    #[serde(default)]
    pub limits: AgentLimits,
    /// Commands run in the bottle afterwards; each must end with 0.
    #[serde(default, skip_serializing_if = "Verify::is_empty")]
    pub verify: Verify,
    /// Labels for its pull requests; none of them may be one that starts a run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How its work is proposed.
    #[serde(default, skip_serializing_if = "PullRequestRules::is_default")]
    pub pull_request: PullRequestRules,
    /// What may come of its runs; a branch and its pull request where nothing is given. What is not named can't be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<OutputRules>,
    /// Files of the workspace that are taken into the run record when the work is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactRules>,
    /// Pictures and texts that people attach to what they write about a task, as the agent gets them.
    #[serde(default, skip_serializing_if = "AttachmentRules::is_default")]
    pub attachments: AttachmentRules,
    /// Which session of Claude Code's its runs go on with; none: each begins its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

impl Agent {
    /// The routes to its servers.
    pub(crate) fn mcp_routes(&self) -> impl Iterator<Item = Route> + '_ {
        self.mcp.iter().filter_map(|(name, server)| server.route(name))
    }

    /// Takes its tools away, for a run in which no agent is.
    pub(crate) fn without_tools(&mut self) {
        self.mcp.clear();
        self.settings = None;
        self.hooks.clear();
        self.base_files.clear();
        self.plugins.clear();
    }
}

/// The session that a run goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// That of this agent's last run about the same issue or pull request.
    Thread,
}

/// When to stop; a limit that is not given is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub struct AgentLimits {
    /// Replies of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u32>,
    /// Time from the agent's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Seconds>,
    /// US dollars, as egress counts them from the model's replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Tokens in and out together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Requests to the model, those of Claude Code's own making too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// What models cost, before the prices that come with the program.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, Price>,
}

impl AgentLimits {
    /// What egress keeps of them.
    pub fn budget(&self) -> Budget {
        Budget {
            tokens: self.tokens,
            requests: self.requests,
            time: self.time,
            cost_usd: self.cost_usd,
            prices: self.prices.clone(),
        }
    }
}

/// What starts a run, and who may.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Triggers {
    /// What a line of a comment begins with to be a command; begins itself with `/` or `@`.
    pub mention: String,
    /// Labels that start a run, each with its agent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Name>,
    /// Login names that start a run when an issue is assigned to them, each with its agent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub assignees: BTreeMap<String, Name>,
    /// Whether a person may have the forge merge a run's pull request when its required checks are green. Each run then pushes to its
    /// own branch alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub auto_merge: bool,
    /// Reviews of pull requests that nobody asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_requests: Option<AutomaticReviews>,
    /// Who may ask.
    pub who: Who,
}

impl Default for Triggers {
    fn default() -> Self {
        Self {
            mention: "/claude".to_owned(),
            labels: BTreeMap::new(),
            assignees: BTreeMap::new(),
            auto_merge: false,
            pull_requests: None,
            who: Who::default(),
        }
    }
}

/// Reviews of pull requests as they are proposed and changed. Nothing is pushed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutomaticReviews {
    /// The agent.
    pub agent: Name,
    /// When.
    pub on: BTreeSet<PullRequestAct>,
    /// Whether drafts are reviewed, too.
    #[serde(default)]
    pub drafts: bool,
    /// Whether those from other repositories are, which anybody can open; needs a `budget`.
    #[serde(default)]
    pub forks: bool,
}

/// What was done with a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullRequestAct {
    /// It was opened.
    Opened,
    /// It was closed, and is open again.
    Reopened,
    /// It is no draft any more. Gitea has no such event.
    ReadyForReview,
    /// Commits were pushed.
    Synchronize,
}

impl PullRequestAct {
    /// By the name that a forge gives it.
    pub(crate) fn named(action: &str) -> Option<Self> {
        Some(match action {
            "opened" => Self::Opened,
            "reopened" => Self::Reopened,
            "ready_for_review" => Self::ReadyForReview,
            // Gitea's word is the second.
            "synchronize" | "synchronized" => Self::Synchronize,
            _ => return None,
        })
    }
}

impl Triggers {
    /// The agent of a label. Case counts only between labels that differ in nothing else: forges show and compare labels without it.
    pub fn agent_of(&self, label: &str) -> Option<&Name> {
        self.labels.get(label).or_else(|| {
            let mut alike = self.labels.iter().filter(|(name, _)| name.to_lowercase() == label.to_lowercase());
            alike.next().filter(|_| alike.next().is_none()).map(|(_, agent)| agent)
        })
    }
}

/// Who may ask.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Who {
    /// The least permission on the repository.
    pub permission: Permission,
    /// Bots that may ask all the same, by user id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bots: Vec<u64>,
}

/// A permission on a repository, from the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// May read.
    Read,
    /// May label and close.
    Triage,
    /// May push.
    #[default]
    Write,
    /// May change settings.
    Maintain,
    /// May do all.
    Admin,
}

/// The manifest's JSON Schema, as `bottle-runner schema` prints it.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Manifest).to_value()
}
