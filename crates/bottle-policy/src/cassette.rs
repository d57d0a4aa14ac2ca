//! Model traffic, recorded or written by hand: a list of turns, each the content of one reply of the Messages API.
//!
//! A cassette file is YAML (`version`, `turns`) or JSON lines, a turn a line; [`Cassette::parse`] reads both.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A whole cassette.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cassette {
    /// Format version, 1.
    pub version: u32,
    /// The replies, in order: turn `n` answers the request that carries `n` messages of role `assistant`.
    pub turns: Vec<Turn>,
}

/// One reply of the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Text before the tool uses; the short form for cassettes written by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Tools to use; the short form for cassettes written by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolUse>,
    /// The content blocks as the API gave them (recorded turns; used instead of `text` and `tools`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<serde_json::Value>,
    /// Why the model stopped; `tool_use` where there are tool uses and `end_turn` elsewhere, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<String>,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Tokens, as the API counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<serde_json::Value>,
    /// An HTTP status other than 200: the turn is an API error of that status, with `text` as its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Recorded turns: how many messages of role `assistant` the request carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
    /// Recorded turns: SHA-256 of the request's body, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_sha256: Option<String>,
}

/// One use of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolUse {
    /// The tool, such as `Bash`.
    pub name: String,
    /// Its input.
    pub input: serde_json::Value,
}
