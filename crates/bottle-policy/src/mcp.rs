//! An MCP server behind a route (Streamable HTTP, JSON-RPC 2.0): what may be asked of it, and what of its answers comes back.
//!
//! Map: [`McpRules`] (the manifest's words), `request` (from the agent), `answer` (from the
//! server, with [`SeenTools`]).
//!
//! Always: a message is read, judged, and written anew: what goes on is what was judged. A method, a key or a kind of message that is not
//! known here is refused.

mod answer;
mod request;

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobMatcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use answer::SeenTools;
pub use request::Outgoing;

/// The largest message of the agent's.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;
/// The largest answer of the server's, whole.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;
/// More messages than these are no batch of a client's.
const MAX_BATCH: usize = 32;

/// What may be asked of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpRules {
    /// The server's name, as the agent knows it.
    pub server: String,
    /// Which tools may be called.
    pub tools: ToolRules,
    /// More methods that may be called, besides those that every client needs and those of tools.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<McpMethod>,
    /// `sha256:` and the digest of the tools' descriptions, as a refusal names it; the first list of the run counts where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptions: Option<String>,
}

/// Which tools of a server may be called, and with what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolRules {
    /// Names of tools; `*` alone: every one that `deny` does not name.
    pub allow: Vec<String>,
    /// Names of tools that may not be called whatever `allow` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// The arguments that a tool may be given, by the tool's name: each with a glob of its value. A name that ends in `?` may be left
    /// out; one that is not here may not be given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, BTreeMap<String, String>>,
}

/// A method that a server is asked for only where the manifest says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum McpMethod {
    /// What the server has to read.
    #[serde(rename = "resources/list")]
    ResourcesList,
    /// The forms of their addresses.
    #[serde(rename = "resources/templates/list")]
    ResourcesTemplatesList,
    /// One of them.
    #[serde(rename = "resources/read")]
    ResourcesRead,
    /// The server's prompts.
    #[serde(rename = "prompts/list")]
    PromptsList,
    /// One of them.
    #[serde(rename = "prompts/get")]
    PromptsGet,
}

impl McpMethod {
    const ALL: [Self; 5] =
        [Self::ResourcesList, Self::ResourcesTemplatesList, Self::ResourcesRead, Self::PromptsList, Self::PromptsGet];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResourcesList => "resources/list",
            Self::ResourcesTemplatesList => "resources/templates/list",
            Self::ResourcesRead => "resources/read",
            Self::PromptsList => "prompts/list",
            Self::PromptsGet => "prompts/get",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

/// Why a message does not go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct McpRefusal {
    /// For the agent and the log.
    pub message: String,
    /// The request that it is about; none: it can't be answered as one.
    pub id: Option<Value>,
}

impl McpRefusal {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), id: None }
    }

    fn about(self, id: &Value) -> Self {
        Self { id: Some(id.clone()), ..self }
    }
}

/// Rules that are ready to judge.
#[derive(Debug, Clone)]
pub struct McpJudge {
    rules: McpRules,
    arguments: BTreeMap<String, Vec<ArgumentRule>>,
}

/// What an argument may be.
#[derive(Debug, Clone)]
struct ArgumentRule {
    name: String,
    is_optional: bool,
    /// None: anything.
    value: Option<GlobMatcher>,
}

/// Characters of a tool's name that no client writes otherwise, and how long one may be.
fn is_tool_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'))
}

impl McpRules {
    /// What is wrong with the rules: the keys, and why.
    pub fn check(&self) -> Result<(), (Vec<String>, String)> {
        let at = |keys: &[&str], problem: String| Err((keys.iter().map(|key| (*key).to_owned()).collect(), problem));
        if self.tools.allow.is_empty() {
            return at(&["tools", "allow"], "no tool could be called".to_owned());
        }
        for (key, names) in [("allow", &self.tools.allow), ("deny", &self.tools.deny)] {
            for (index, name) in names.iter().enumerate() {
                let is_all = key == "allow" && name == "*" && names.len() == 1;
                if !is_all && !is_tool_name(name) {
                    return at(&["tools", key, &index.to_string()], format!("`{name}` is not the name of a tool"));
                }
            }
        }
        for (tool, arguments) in &self.tools.arguments {
            if !self.may_call(tool) {
                return at(&["tools", "arguments", tool], format!("the tool `{tool}` is not allowed"));
            }
            for (name, pattern) in arguments {
                if let Err(problem) = argument_rule(name, pattern) {
                    return at(&["tools", "arguments", tool, name], problem);
                }
            }
        }
        let is_digest = |text: &str| {
            text.strip_prefix("sha256:")
                .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        };
        match &self.descriptions {
            Some(text) if !is_digest(text) => {
                at(&["descriptions"], "expected `sha256:` and 64 hexadecimal digits in small letters".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Tells whether a tool of this very name may be called.
    fn may_call(&self, tool: &str) -> bool {
        let is_allowed = self.tools.allow.iter().any(|name| name == "*" || name == tool);
        is_tool_name(tool) && is_allowed && !self.tools.deny.iter().any(|name| name == tool)
    }
}

fn argument_rule(name: &str, pattern: &str) -> Result<ArgumentRule, String> {
    let (name, is_optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
    if name.is_empty() {
        return Err("expected the name of an argument".to_owned());
    }
    let value = match pattern {
        "*" => None,
        _ => {
            // A `/` is a character like any other in a value.
            let glob = GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build();
            Some(glob.map_err(|error| error.to_string())?.compile_matcher())
        }
    };
    Ok(ArgumentRule { name: name.to_owned(), is_optional, value })
}

impl McpJudge {
    /// Makes rules ready; an error says what is wrong with them.
    pub fn new(rules: &McpRules) -> Result<Self, String> {
        rules.check().map_err(|(keys, problem)| format!("{}: {problem}", keys.join(".")))?;
        let mut arguments = BTreeMap::new();
        for (tool, of_tool) in &rules.tools.arguments {
            let of_tool = of_tool.iter().map(|(name, pattern)| argument_rule(name, pattern));
            arguments.insert(tool.clone(), of_tool.collect::<Result<_, _>>()?);
        }
        Ok(Self { rules: rules.clone(), arguments })
    }

    /// The server's name.
    pub fn server(&self) -> &str {
        &self.rules.server
    }
}
