//! The plan's types. Paths are texts: most of them are the guest's, not this machine's.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use bottle_policy::artifacts::ArtifactPolicy;
use bottle_policy::bundle::Bundle;
use bottle_policy::gate::{GatePolicy, RepoName};
use bottle_policy::outputs::OutputRules;
use bottle_policy::pipelock::PipelockPolicy;
use bottle_policy::route::{BaseUrl, RoutesPolicy};
use bottle_policy::supervise::SupervisePolicy;
use bottle_types::backend::Backend;
use bottle_types::door::{Door, STATE_DIR};
use bottle_types::git::ObjectId;
use bottle_types::host::HostName;
use bottle_types::secret::SecretName;
use bottle_types::units::Seconds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::exchange::TokenExchange;
use super::verify::VerifyPlan;
use crate::facts::ForgeKind;
use crate::manifest::{AgentLimits, BudgetEntry, Hooks, Provider, PullRequestRules, Resources, RuleOrigins, Who};
use crate::name::{Name, ServiceName, Slug};
use crate::prose::Removed;
use crate::registry::Preset;
use crate::task::Task;

/// What was asked for on the command line, beside the task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The agent; goes before the one that the task names.
    pub agent: Option<Name>,
    /// Where to run; none: what is best on this machine.
    pub backend: Option<Backend>,
    /// Nothing leaves.
    pub dry_run: bool,
    /// A run record or a cassette file on the host that answers the model.
    pub replay: Option<String>,
    /// A run record on the host whose work is pushed; no agent runs.
    pub publish: Option<String>,
    /// Bring the host's checkout instead of cloning through the gate.
    pub bring_checkout: bool,
    /// Goes before the bottle's image.
    pub image: Option<String>,
    /// Lines for the Dockerfile of the guest's image, each granted by a person in the run that this one resumes.
    pub capabilities: Vec<String>,
    /// Goes before the bundle's image of this version.
    pub sidecars_image: Option<String>,
    /// Goes before the agent image of this version, as where Claude and the link come from.
    pub tools_image: Option<String>,
}

/// Everything decided about a run before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BottlePlan {
    /// Format version, 1.
    pub version: u32,
    /// The run's short unique name.
    pub slug: Slug,
    /// When the run began, RFC 3339.
    pub started_at: String,
    /// Where it runs.
    pub backend: Backend,
    /// Whether nothing leaves.
    pub dry_run: bool,
    /// The host's file or directory that answers the model.
    pub replay: Option<String>,
    /// Another job's run record whose work is pushed; no agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<String>,
    /// The run record's directory on the host.
    pub state_dir: String,
    /// What is to be done.
    pub task: Task,
    /// Who may ask for it.
    pub who: Who,
    /// What a line of a comment begins with to be a command.
    pub mention: String,
    /// The job that this is part of.
    pub ci: Option<CiPlan>,
    /// Where the model is, where the manifest's bottle says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelPlan>,
    /// The manifest's agent and bottle.
    pub agent: AgentPlan,
    /// The policies that hold for the manifest, and where each rule of this run stands; none: the manifest has no policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins: Option<RuleOrigins>,
    /// Container images.
    pub images: Images,
    /// What things of this run are called.
    pub names: Names,
    /// On every container, volume and network of the run.
    pub labels: BTreeMap<String, String>,
    /// The doors of this bottle, in starting order.
    pub doors: Vec<Door>,
    /// The agent's environment.
    pub guest: GuestPlan,
    /// The files that the bundle obeys.
    pub policies: Policies,
    /// Where each secret comes from and who may use it.
    pub secrets: Vec<SecretPlan>,
    /// What the presets stand for; their routes come after the manifest's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<PresetPlan>,
    /// Addresses in the bundle's `/etc/hosts`.
    pub extra_hosts: BTreeMap<HostName, IpAddr>,
    /// The host's CA bundle file that the doors trust upstream; copied into the bundle at [`HOST_CA_FILE`].
    pub host_ca_bundle: Option<String>,
    /// The repository that the guest works in; none where there is none.
    pub git: Option<GitPlan>,
    /// What Claude is told.
    pub prompt: PromptPlan,
    /// The session of Claude Code's that the run goes on with and leaves behind; none: it begins one, which ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionPlan>,
    /// Skills brought in.
    pub skills: Vec<SkillPlan>,
    /// The MCP server that Claude is told about.
    pub mcp: McpPlan,
    /// The owner's tools.
    #[serde(default, skip_serializing_if = "ToolsPlan::is_none")]
    pub tools: ToolsPlan,
    /// The command that is the agent.
    pub command: Vec<String>,
    /// When to stop it.
    pub limits: AgentLimits,
    /// What all runs of the repository together may spend in a period; of it the run reserves its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetEntry>,
    /// What is run in the guest before the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<SetupPlan>,
    /// What runs beside the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServicePlan>,
    /// What is run in the guest afterwards.
    pub verify: VerifyPlan,
    /// Test reports of the project's own that are taken out of the workspace then, into `junit.xml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_reports: Option<ArtifactPolicy>,
    /// Files of the workspace that are taken into the run record then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactPolicy>,
    /// What a person should know before the run: what this version does otherwise than the manifest says.
    pub notes: Vec<String>,
}

/// What is run in the guest before the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SetupPlan {
    /// A program of the base branch, run first, and where it is in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<FileFromBase>,
    /// Shell commands, one after the other.
    pub run: Vec<String>,
    /// How long all of it may take.
    pub time: Seconds,
    /// What egress goes by until the setup has ended; after that, by the routes of the policies.
    pub routes: RoutesPolicy,
    /// What the presets that only the setup has stand for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<PresetPlan>,
    /// What it finds of an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePlan>,
}

/// What a setup finds of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CachePlan {
    /// Directories of the guest, none below another.
    pub directories: Vec<String>,
    /// The lock files of the base branch, each with its id in git.
    pub lock_files: BTreeMap<String, String>,
    /// The most that is kept, in bytes.
    pub max_size: u64,
    /// Whether an entry stands for the commands, where the work starts with these lock files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_on_hit: bool,
}

/// A program beside the agent, and its way to the agent's loopback interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServicePlan {
    /// Its name, and the host's at which the agent finds it.
    pub name: ServiceName,
    /// What runs.
    pub source: ServiceSource,
    /// Variables that it sees, but for those that are made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its variables with a password that is made for the run, each with the agent's variable that has it too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generated: BTreeMap<String, String>,
    /// Where it listens, and how the agent gets there.
    pub ports: Vec<ServicePort>,
    /// A shell command, run in it, that ends with 0 when it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// How long it may take until then.
    pub time: Seconds,
    /// Its share of the machine.
    pub resources: Resources,
    /// Its container, or sandbox.
    pub container: String,
    /// The container of its link, to which its network belongs; in bubblewrap the link is the sandbox's own first process.
    pub link_container: String,
    /// The process that takes the agent's connections to it.
    pub link: Vec<String>,
    /// The command that waits in the guest until its ports take connections.
    pub wait: Vec<String>,
}

/// What a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceSource {
    /// An image of the engine's.
    Image {
        /// Its name.
        image: String,
        /// The words that its entrypoint gets; none: the image's own.
        command: Vec<String>,
        /// Who it is in there; none: who the image says.
        user: Option<String>,
    },
    /// A program of the host, with its arguments.
    Program(Vec<String>),
}

/// A port of a service, on its own loopback interface and on the agent's, and the socket between the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServicePort {
    /// The TCP port.
    pub port: u16,
    /// The file name of the unix socket in the doors' directory.
    pub socket: String,
}

/// The job that a run is part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CiPlan {
    /// Whose job.
    pub forge: ForgeKind,
    /// The forge's address.
    pub server_url: String,
    /// Owner and name.
    pub repository: String,
    /// The run's number at the forge.
    pub run_id: String,
    /// The run's page at the forge.
    pub run_url: String,
}

/// Where the model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelPlan {
    /// Whose API it is.
    pub provider: Provider,
    /// What stands before the path of each request.
    pub url: BaseUrl,
}

/// A session of Claude Code's that the runs of one issue or pull request go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionPlan {
    /// Whose it is: the repository, the issue or pull request, the agent. No other run takes it.
    pub owner: String,
    /// Where Claude Code keeps it in the guest.
    pub directory: String,
    /// What Claude is told in a session that is gone on with, in place of the prompt.
    pub prompt: String,
}

/// Which agent in which bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentPlan {
    /// The agent's name.
    pub name: Name,
    /// The bottle's name.
    pub bottle: Name,
    /// The model; none: Claude Code's choice.
    pub model: Option<String>,
    /// Labels for its pull requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How its work is proposed.
    #[serde(default, skip_serializing_if = "PullRequestRules::is_default")]
    pub pull_request: PullRequestRules,
    /// What may come of its runs; none: a branch and its pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<OutputRules>,
}

/// Container images, as the engine names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Images {
    /// The guest's.
    pub guest: String,
    /// The bundle's.
    pub sidecars: String,
    /// Where Claude and the link come from when the guest's image is another.
    pub tools: String,
    /// What the guest's is made of, where a run before was granted more than its image has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeImage>,
}

/// An image that is made for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MadeImage {
    /// The image that is added to.
    pub from: String,
    /// Lines of a Dockerfile, each part as it was granted.
    pub lines: Vec<String>,
}

impl MadeImage {
    /// The whole Dockerfile; it takes no other file. Root puts in tools; whose the guest's processes are is not the image's
    /// to say.
    pub fn dockerfile(&self) -> String {
        let lines = self.lines.iter().map(|lines| format!("USER root\n{}\n", lines.trim_end()));
        std::iter::once(format!("FROM {}\n", self.from)).chain(lines).collect()
    }
}

/// What things of this run are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Names {
    /// The Compose project.
    pub project: String,
    /// The bundle's container.
    pub sidecars: String,
    /// The guest's container, or machine.
    pub agent: String,
    /// The network that the bundle alone is on.
    pub network: String,
    /// The volume with the doors' sockets.
    pub doors_volume: String,
    /// The volume with Claude and the link, shared by runs and never removed with one; none where the guest's image
    /// has them.
    pub tools_volume: Option<String>,
}

/// The agent's environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GuestPlan {
    /// User id of everything the agent does.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Where repositories are; owned by the user.
    pub root: String,
    /// The top of the repository; below `root`.
    pub workdir: String,
    /// Where the setup, the agent and the verify commands start, as a path in the repository; its top where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Variables, in every command; nothing secret, a placeholder for each credential.
    pub env: BTreeMap<String, String>,
    /// Files by their full path, owned by the user: configuration of tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Directories with tools of the host, read-only at their own paths; only in bubblewrap, without an image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_tools: Vec<String>,
    /// Share of the machine.
    pub resources: Resources,
    /// The process that forwards ports to the doors' sockets: the guest's first one; of a guest that is a machine, a
    /// neighbour on the host, the only thing that the machine's monitor can reach.
    pub init: Vec<String>,
    /// The command that tries each way out, to which the backend adds the addresses to try.
    pub selftest: Vec<String>,
    /// How the guest comes to trust its doors.
    pub ca: CaPlan,
}

impl GuestPlan {
    /// Where the setup, the agent and the verify commands start.
    pub fn start(&self) -> String {
        self.directory.as_ref().map_or_else(|| self.workdir.clone(), |directory| self.in_repository(directory))
    }

    /// The directories of the repository from below its top to where the work starts, the last.
    pub fn directories(&self) -> Vec<&str> {
        let Some(directory) = self.directory.as_deref() else { return vec![] };
        directory.match_indices('/').map(|(at, _)| &directory[..at]).chain([directory]).collect()
    }

    /// The guest's path of a path in the repository.
    pub(super) fn in_repository(&self, path: &str) -> String {
        format!("{}/{}", self.workdir, path.trim_end_matches('/'))
    }
}

/// How the guest comes to trust the door that ends its TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaPlan {
    /// Whose CA.
    pub door: Door,
    /// The certificate, in the bundle.
    pub source: String,
    /// Where it goes in an image with `update-ca-certificates`, which is then run as root.
    pub system_file: String,
    /// The file in which that image then has all that it trusts.
    #[serde(default)]
    pub system_bundle: String,
    /// Where it goes in one without.
    pub own_file: String,
    /// The variables that name one or the other in every command.
    pub variables: Vec<String>,
}

/// The files that the bundle obeys, each under its name in the configuration directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Policies {
    /// `routes.yaml`
    pub routes: RoutesPolicy,
    /// `pipelock.yaml`
    pub pipelock: PipelockPolicy,
    /// `gate.yaml`
    pub gate: GatePolicy,
    /// `supervise.yaml`
    pub supervise: SupervisePolicy,
    /// `bundle.yaml`
    pub bundle: Bundle,
}

/// A secret: its name, and where the runner gets the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretPlan {
    /// Its name: the file in the bundle's secrets directory.
    pub name: SecretName,
    /// Where the value is.
    pub source: SecretSource,
    /// What uses it, for people: `egress route api.anthropic.com`, `git upstream origin`.
    pub used_by: Vec<String>,
    /// Whether the variable is set, as far as planning knows; files and commands are looked at later.
    pub present: bool,
}

/// A package manager, and where it fetches from on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresetPlan {
    /// Which.
    pub preset: Preset,
    /// Each place, and which words of the host name it.
    pub registries: Vec<PresetSource>,
}

/// A place that may be read, and where its address is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresetSource {
    /// The address, without credentials.
    pub url: String,
    /// A file, a variable or a command of the host.
    pub from: String,
}

/// Where a secret's value is on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// A variable of the runner's environment.
    Env(String),
    /// The password in the proxy's address that a variable of the environment has.
    ProxyPassword(String),
    /// A file.
    File(String),
    /// What a program prints.
    Command(CommandSource),
    /// What an exchange gives.
    Exchange(Box<TokenExchange>),
    /// An ssh key that the runner makes for this run, and registers at the job's forge for as long.
    DeployKey,
    /// A value that the runner makes for this run, plants in this file of the guest, and that opens nothing.
    Canary(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${name}"),
            Self::ProxyPassword(name) => write!(f, "the password in ${name}"),
            Self::File(path) => f.write_str(path),
            Self::Command(command) => write!(f, "{command}"),
            Self::Exchange(exchange) => write!(f, "{exchange}"),
            Self::DeployKey => f.write_str("a deploy key of this run alone"),
            Self::Canary(file) => write!(f, "a canary of this run alone, planted in {file}"),
        }
    }
}

/// A program of the host that prints a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandSource {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables named as credentials are that it gets; no others of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pass: Vec<String>,
    /// How long it may take.
    pub time: Seconds,
    /// How long a value is good, where what is printed does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Seconds>,
}

impl fmt::Display for CommandSource {
    /// Writes the command, how long it may take, and how long its value is good.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lifetime = self.lifetime.map(|lifetime| format!(", good for {lifetime}")).unwrap_or_default();
        let pass = if self.pass.is_empty() { String::new() } else { format!(", given ${}", self.pass.join(", $")) };
        write!(f, "`{}` (at most {}{lifetime}{pass})", self.argv.join(" "), self.time)
    }
}

/// The repository that the guest works in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GitPlan {
    /// Its name at the gate.
    pub upstream: RepoName,
    /// Its URL for the guest.
    pub gate_url: String,
    /// Where it is in the guest.
    pub directory: String,
    /// How the guest comes by it.
    pub bring: Bring,
    /// The host's checkout of the same repository: what it has of upstream is put into the gate's mirror beforehand, so
    /// that the first fetch brings only the rest.
    pub seed: Option<String>,
    /// Where the guest reads the gate's mirror, whose objects its clone uses in place of copies; none: all is sent through the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Where guest and bundle read what earlier runs on this machine had of the repository, if there is something; none: nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// So many generations of commits are fetched; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<NonZeroU32>,
    /// The directories of the repository that are checked out; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<String>,
    /// The branch that the work starts from and is proposed to; none: upstream's default. A checkout that is brought
    /// along starts at its own commit.
    pub base: Option<String>,
    /// The commit that the work starts from: the head of the pull request as it was when it was asked for. None: what `base` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<ObjectId>,
    /// The branch that is pushed.
    pub branch: String,
    /// Whether that is the pull request's own branch, so that the work goes on in it.
    #[serde(default)]
    pub goes_on: bool,
    /// The hook `prepare-commit-msg` of the guest's clone, which adds the trailers of `push.commits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_hook: Option<String>,
    /// The guest's `~/.gitconfig`.
    pub gitconfig: String,
}

impl GitPlan {
    /// Where the gate has the mirror that it serves to the guest.
    pub fn gates_mirror(&self) -> String {
        format!("{STATE_DIR}/git/{}.git", self.upstream)
    }
}

/// How the guest comes by the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bring {
    /// It clones through the gate.
    Clone,
    /// The host's checkout is copied in: its directory on the host.
    Checkout(String),
}

/// What Claude is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromptPlan {
    /// Where the prompt is in the guest.
    pub path: String,
    /// The prompt.
    pub text: String,
    /// How many bytes of it are words of the task: what people wrote about it, or its instruction.
    #[serde(default)]
    pub task_bytes: usize,
    /// What people wrote and the prompt does not have, because a reader would not see it either.
    #[serde(default, skip_serializing_if = "Removed::is_empty")]
    pub removed: Removed,
    /// Standing instructions: a file of the base branch and where it goes.
    pub instructions: Option<FileFromBase>,
}

impl PromptPlan {
    /// How many bytes of it are ours: the rules of the bottle, which every request to the model pays for.
    pub fn own_bytes(&self) -> usize {
        self.text.len().saturating_sub(self.task_bytes)
    }
}

/// A file or directory of the base branch that goes into the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileFromBase {
    /// Its path in the repository.
    pub from: String,
    /// Its path in the guest.
    pub to: String,
}

/// A skill: a directory of the base branch, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillPlan {
    /// Its name.
    pub name: String,
    /// The directory.
    pub directory: FileFromBase,
}

/// The MCP server that Claude is told about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct McpPlan {
    /// The server's name.
    pub name: String,
    /// Its URL for the guest.
    pub url: String,
    /// The command that registers it in an image that has settings of Claude Code's already.
    pub register: Vec<String>,
    /// What that command writes where there are none.
    #[serde(default)]
    pub settings: McpSettings,
}

/// Settings of Claude Code's, as far as they are about servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct McpSettings {
    /// The file, in the agent's home.
    pub file: String,
    /// All of it.
    pub text: String,
}

/// The owner's tools: what of the base branch comes along, and how Claude Code knows of the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolsPlan {
    /// The directory in which servers and hooks start, with the base branch's files; none where there is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Files and directories of the base branch in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_files: Vec<FileFromBase>,
    /// Plugins of the base branch's, each a directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<FileFromBase>,
    /// The servers, each with its command or address as the manifest has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<Name, Vec<String>>,
    /// The file with the servers that Claude Code is started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<ConfigFile>,
    /// The manifest's hooks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: Hooks,
    /// The base branch's file with settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_from: Option<String>,
    /// The file with settings and hooks that Claude Code is started with; with one, it reads no settings of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<ConfigFile>,
}

impl ToolsPlan {
    /// Tells whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The files that the guest gets.
    pub fn files(&self) -> impl Iterator<Item = &ConfigFile> {
        self.mcp.iter().chain(&self.settings)
    }

    /// What Claude Code is told by.
    pub(super) fn arguments(&self) -> Vec<String> {
        let options = [("--mcp-config", &self.mcp), ("--settings", &self.settings)];
        let given = options.into_iter().filter_map(|(option, file)| Some((option, &file.as_ref()?.path)));
        let plugins = self.plugins.iter().map(|plugin| ("--plugin-dir", &plugin.to));
        given.chain(plugins).flat_map(|(option, path)| [option.to_owned(), path.clone()]).collect()
    }
}

/// A file of the guest, with its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigFile {
    /// Its path.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// Where the bundle finds the host's CA bundle, in a run that has one.
pub const HOST_CA_FILE: &str = "/etc/claude-bottle/host-ca.crt";
/// The guest's image where the manifest names none, and where Claude and the link come from.
pub const AGENT_IMAGE: &str = "ghcr.io/claude-bottle/agent:v1";
/// In place of an image's name: the host's own system, read-only.
pub const HOST_SYSTEM: &str = "the host's system";
/// The bundle's image.
pub const SIDECARS_IMAGE: &str = "ghcr.io/claude-bottle/sidecars:v1";
/// Who uses the token of the job's forge, among the users of a secret.
pub const FORGE_USER: &str = "the forge";
/// The home directory of the agent image's user `node`; made in any other image.
pub(super) const HOME: &str = "/home/node";

/// Where the canary is planted: git's own file of passwords, which whoever looks for credentials opens early. git reads it only where
/// a `credential.helper store` is set up, and then for the canary's own host alone, so that no tool works otherwise for it.
pub(super) const CANARY_FILE: &str = "/home/node/.git-credentials";
/// Where repositories are.
pub(super) const ROOT: &str = "/workspace";
/// Where Claude and the link are in the guest.
pub const TOOLS_DIR: &str = "/opt/claude-bottle";
/// The label that every container, volume and network of a run has, with the slug.
pub const LABEL_SLUG: &str = "io.claude-bottle.slug";
/// The label that says what made it: `bottle-runner`.
pub const LABEL_MANAGED: &str = "io.claude-bottle.managed-by";
/// The label with the state directory's path.
pub const LABEL_STATE: &str = "io.claude-bottle.state";
/// Before a secret's name: the variable through which Compose gets its value.
pub const SECRET_VARIABLE_PREFIX: &str = "BOTTLE_SECRET_";
/// Before the name of the agent's variable: the variable through which Compose gets a password that is made for the run.
pub const GENERATED_VARIABLE_PREFIX: &str = "BOTTLE_GENERATED_";

/// The variables of the guest that the plan sets or that would lead round the doors: a manifest can't set them.
pub const RESERVED_VARIABLES: [&str; 23] = [
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "GIT_SSL_NO_VERIFY",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    "IS_SANDBOX",
];
