//! The owner's tools of an agent: MCP servers, hooks, and settings of Claude Code's.

use std::collections::{BTreeMap, BTreeSet};

use bottle_policy::mcp::{McpMethod, McpRules, ToolRules};
use bottle_policy::route::{Auth, BaseUrl, Route};
use bottle_types::host::HostPattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::position::dotted;
use super::read::read;
use super::{ManifestError, Positions};
use crate::name::Name;

/// An MCP server: a program that Claude Code starts in the guest, by `command`, or one that it reaches through the doors, by `url`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct McpServer {
    /// Its program and arguments. A name or an absolute path is a program of the image; a path with a slash, relative to the repository's
    /// top, is a file of the base branch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Variables that its program sees; never a secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its address, over https; a route of its own leads there, at which each message is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<BaseUrl>,
    /// url: the credential that pipelock adds after its scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// url: which tools may be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolRules>,
    /// url: more methods that may be called.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<McpMethod>,
    /// url: `sha256:` and the digest of the tools' descriptions, as a refusal names it; the first list of a run counts where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptions: Option<String>,
}

impl McpServer {
    /// The one way to it; none of a program.
    pub(crate) fn route(&self, name: &Name) -> Option<Route> {
        let base = self.url.as_ref()?;
        let path = if base.path.is_empty() { "/" } else { &base.path };
        let rules = McpRules {
            server: name.to_string(),
            tools: self.tools.clone().unwrap_or_default(),
            methods: self.methods.clone(),
            descriptions: self.descriptions.clone(),
        };
        Some(Route {
            scheme: base.scheme,
            port: base.port,
            auth: self.auth.clone(),
            mcp: Some(rules),
            ..Route::plain(HostPattern::Exact(base.host.clone()), &["POST", "GET", "DELETE"], &[path])
        })
    }
}

/// Hooks by their event, in the form of Claude Code's settings.
pub type Hooks = BTreeMap<HookEvent, Vec<HookMatcher>>;

/// When a hook runs. Claude Code's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum HookEvent {
    /// Before a tool is used.
    PreToolUse,
    /// After one was.
    PostToolUse,
    /// When a prompt was given.
    UserPromptSubmit,
    /// When Claude is to end.
    Stop,
    /// When an agent of Claude's own is to end.
    SubagentStop,
    /// Before a conversation is made shorter.
    PreCompact,
    /// When a session begins.
    SessionStart,
    /// When it ends.
    SessionEnd,
}

impl HookEvent {
    /// Tells whether a hook's exit code 2 keeps Claude from going on. At the end of a session it would only keep it from ending.
    pub(crate) fn can_refuse(self) -> bool {
        matches!(self, Self::PreToolUse | Self::UserPromptSubmit)
    }
}

/// Hooks of an event, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HookMatcher {
    /// A pattern of tools' names; none: every tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matcher: Option<String>,
    /// What runs.
    pub hooks: Vec<Hook>,
}

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: HookKind,
    /// A shell command.
    pub command: String,
    /// How long it may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

/// What a hook is. Those of Claude Code's that ask a model or an address are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HookKind {
    /// A shell command.
    Command,
}

/// The settings of Claude Code's that a file of the base branch may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ClaudeSettings {
    #[serde(default, rename = "$schema", skip_serializing)]
    schema: Option<String>,
    #[serde(default, skip_serializing_if = "Permissions::is_empty")]
    permissions: Permissions,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) hooks: Hooks,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_style: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    always_thinking_enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    include_co_authored_by: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Permissions {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
}

impl Permissions {
    fn is_empty(&self) -> bool {
        self.deny.is_empty()
    }
}

/// Keys of Claude Code's settings that a bottle has no use for, each with the reason. Any other that [`ClaudeSettings`] does not have is
/// refused as unknown.
const REFUSED: [(&[&str], &str); 30] = [
    (&["apiKeyHelper"], GIVES_A_CREDENTIAL),
    (&["awsAuthRefresh"], GIVES_A_CREDENTIAL),
    (&["awsCredentialExport"], GIVES_A_CREDENTIAL),
    (&["gcpAuthRefresh"], GIVES_A_CREDENTIAL),
    (&["otelHeadersHelper"], GIVES_A_CREDENTIAL),
    (&["proxyAuthHelper"], GIVES_A_CREDENTIAL),
    (&["forceLoginMethod"], "nobody logs in in a bottle"),
    (&["forceLoginOrgUUID"], "nobody logs in in a bottle"),
    (&["env"], "variables of the agent are those of the bottle's `env`"),
    (&["model"], "the model is the agent's `model`"),
    (&["availableModels"], "the model is the agent's `model`"),
    (&["modelOverrides"], "the model is the agent's `model`"),
    (&["enableAllProjectMcpServers"], SERVERS),
    (&["enabledMcpjsonServers"], SERVERS),
    (&["disabledMcpjsonServers"], SERVERS),
    (&["allowedMcpServers"], SERVERS),
    (&["deniedMcpServers"], SERVERS),
    (&["enabledPlugins"], PLUGINS),
    (&["extraKnownMarketplaces"], PLUGINS),
    (&["strictKnownMarketplaces"], PLUGINS),
    (&["statusLine"], NO_SCREEN),
    (&["subagentStatusLine"], NO_SCREEN),
    (&["fileSuggestion"], NO_SCREEN),
    (&["sandbox"], "the bottle is the sandbox"),
    (&["disableAllHooks"], "an agent's hooks run"),
    (&["allowManagedHooksOnly"], "an agent's hooks run"),
    (&["permissions", "allow"], PERMISSIONS),
    (&["permissions", "ask"], PERMISSIONS),
    (&["permissions", "defaultMode"], PERMISSIONS),
    (&["permissions", "additionalDirectories"], PERMISSIONS),
];
const GIVES_A_CREDENTIAL: &str = "it names a program that gives a credential, and a bottle has none";
const SERVERS: &str = "servers are those of the agent's `mcp`";
const PLUGINS: &str = "a plugin is fetched from elsewhere, and may be another each time";
const NO_SCREEN: &str = "it names a program for a screen, and a run has none";
const PERMISSIONS: &str = "the agent may do everything in a bottle, so only `deny` has an effect";

impl ClaudeSettings {
    /// Reads a settings file, and refuses what is not for a bottle.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Self, ManifestError> {
        if text.trim().is_empty() {
            return Err(ManifestError::new(file, None, "the file is empty".to_owned(), None));
        }
        let positions = Positions::new(text);
        for (keys, why) in REFUSED {
            if let Some(at) = positions.of(keys) {
                let problem = format!("`{}` can't be set: {why}", dotted(keys));
                return Err(ManifestError::new(file, Some(at), problem, None));
            }
        }
        let settings: Self = read(text, file)?;
        check_hooks(&settings.hooks).map_err(|(keys, problem)| {
            let keys: Vec<&str> = ["hooks"].into_iter().chain(keys.iter().map(String::as_str)).collect();
            ManifestError::new(file, positions.of(&keys), format!("{}: {problem}", dotted(&keys)), None)
        })?;
        Ok(settings)
    }
}

/// The longest that a hook may take, in seconds.
const LONGEST_HOOK: u32 = 3600;

/// Checks hooks; an error has the keys below them, and what is wrong there.
pub(super) fn check_hooks(hooks: &Hooks) -> Result<(), (Vec<String>, &'static str)> {
    for (event, matchers) in hooks {
        for (at, matcher) in matchers.iter().enumerate() {
            let keys = |more: &[&str]| {
                let first = [format!("{event:?}"), at.to_string()];
                first.into_iter().chain(more.iter().map(|key| (*key).to_owned())).collect::<Vec<_>>()
            };
            if matcher.hooks.is_empty() {
                return Err((keys(&["hooks"]), "nothing is run"));
            }
            for (at, hook) in matcher.hooks.iter().enumerate() {
                let at = at.to_string();
                if hook.command.trim().is_empty() {
                    return Err((keys(&["hooks", &at, "command"]), "expected a shell command"));
                }
                if hook.command.contains('\0') {
                    return Err((keys(&["hooks", &at, "command"]), "a command can't hold a NUL"));
                }
                if bottle_types::address::has_password(&hook.command) {
                    return Err((
                        keys(&["hooks", &at, "command"]),
                        "there is an address with a password or a token in the command",
                    ));
                }
                if hook.timeout.is_some_and(|seconds| !(1..=LONGEST_HOOK).contains(&seconds)) {
                    return Err((keys(&["hooks", &at, "timeout"]), "expected between 1 and 3600 seconds"));
                }
            }
        }
    }
    Ok(())
}
