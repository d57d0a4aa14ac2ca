//! Model traffic, recorded or written by hand: a list of turns, each the content of one reply of the Messages API.
//!
//! A cassette file is YAML (`version`, `turns`) or JSON lines, a turn a line; [`Cassette::parse`] reads both. Turns
//! written by hand go by position: turn `n` answers every request that carries `n` messages of role `assistant`.
//! Recorded turns say so themselves (`after`), and several may say the same (retries, side requests): each answers one
//! request, that of the same body (`request_sha256`) if there is one, else they go in the order of the recording, and
//! the last one repeats. A cassette is either all of one kind or all of the other.

use std::collections::HashMap;

use bottle_types::yaml;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A whole cassette.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cassette {
    /// Format version, 1.
    pub version: u32,
    /// The replies, in order.
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

/// A text that is no cassette; says where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CassetteError {
    /// Not YAML, or not of this shape.
    #[error("{0}")]
    Yaml(#[from] yaml::YamlError),
    /// A line that is not a turn.
    #[error("line {line}: {reason}")]
    Line {
        /// Which one, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A format that this program does not know.
    #[error("version {0} is not known: 1 is")]
    Version(u32),
    /// A turn that can't be played.
    #[error("turn {turn}: {reason}")]
    Turn {
        /// Which one, from 0.
        turn: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Some turns say `after`, others don't.
    #[error("turn {0} has no `after` and others have: give it to all turns or to none")]
    Mixed(usize),
}

impl Cassette {
    /// Reads either form. JSON lines are told by their first line: a JSON object without `turns`.
    pub fn parse(text: &str) -> Result<Self, CassetteError> {
        let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let is_lines =
            matches!(serde_json::from_str(first), Ok(Value::Object(object)) if !object.contains_key("turns"));
        let cassette: Self = if is_lines {
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let turns = lines.map(|(index, line)| {
                serde_json::from_str(line)
                    .map_err(|error| CassetteError::Line { line: index + 1, reason: error.to_string() })
            });
            Self { version: 1, turns: turns.collect::<Result<_, _>>()? }
        } else {
            yaml::from_str(text)?
        };
        cassette.check()?;
        Ok(cassette)
    }

    fn check(&self) -> Result<(), CassetteError> {
        if self.version != 1 {
            return Err(CassetteError::Version(self.version));
        }
        for (turn, entry) in self.turns.iter().enumerate() {
            entry.check().map_err(|reason| CassetteError::Turn { turn, reason })?;
        }
        let recorded = self.turns.iter().any(|turn| turn.after.is_some());
        match self.turns.iter().position(|turn| recorded && turn.after.is_none()) {
            Some(turn) => Err(CassetteError::Mixed(turn)),
            None => Ok(()),
        }
    }
}

impl Turn {
    fn check(&self) -> Result<(), &'static str> {
        let short = self.text.is_some() || !self.tools.is_empty();
        if let Some(status) = self.status {
            return match status {
                200 | 400..=599 => Ok(()),
                _ => Err("`status` is neither 200 nor an error (400 to 599)"),
            };
        }
        if short && !self.content.is_empty() {
            return Err("it has `content`, so `text` and `tools` have no place beside it");
        }
        if !short && self.content.is_empty() && self.after.is_none() {
            return Err("it says nothing: give `text`, `tools` or `content`");
        }
        if self.tools.iter().any(|tool| !tool.input.is_object()) {
            return Err("the `input` of a tool is not a mapping");
        }
        if self.content.iter().any(|block| !block["type"].is_string()) {
            return Err("a block of `content` has no `type`");
        }
        Ok(())
    }

    /// The error's status, where the turn is an API error.
    pub fn error_status(&self) -> Option<u16> {
        self.status.filter(|status| *status != 200)
    }

    /// The content blocks of the reply; `index` makes the ids of tool uses, the same each time.
    pub fn blocks(&self, index: usize) -> Vec<Value> {
        if !self.content.is_empty() {
            return self.content.clone();
        }
        let text = self.text.as_ref().map(|text| json!({ "type": "text", "text": text }));
        let tools = self.tools.iter().enumerate().map(|(tool, ToolUse { name, input })| {
            json!({ "type": "tool_use", "id": format!("toolu_bottle{index:04}x{tool:02}"), "name": name, "input": input })
        });
        text.into_iter().chain(tools).collect()
    }

    /// Why the model stopped: as given, else by what it said.
    pub fn stop_reason(&self) -> &str {
        let uses_tools = !self.tools.is_empty() || self.content.iter().any(|block| block["type"] == "tool_use");
        self.stop_reason.as_deref().unwrap_or(if uses_tools { "tool_use" } else { "end_turn" })
    }
}

/// A cassette being played.
#[derive(Debug, Clone)]
pub struct Player {
    cassette: Cassette,
    /// Recorded turns that have answered.
    used: Vec<bool>,
    /// The last turn that answered after so many assistant messages.
    last: HashMap<u32, usize>,
}

impl Player {
    /// Begins at the beginning.
    pub fn new(cassette: Cassette) -> Self {
        Self { used: vec![false; cassette.turns.len()], last: HashMap::new(), cassette }
    }

    /// How many turns there are.
    pub fn turns(&self) -> usize {
        self.cassette.turns.len()
    }

    /// The turn that answers a request with `after` assistant messages, and its index; nothing where there is none.
    pub fn next(&mut self, after: u32, request_sha256: &str) -> Option<(usize, &Turn)> {
        let turns = &self.cassette.turns;
        let by_position = turns.iter().all(|turn| turn.after.is_none());
        let index = if by_position {
            usize::try_from(after).ok().filter(|index| *index < turns.len())?
        } else {
            let free = |index: &usize| !self.used[*index] && turns[*index].after == Some(after);
            let same = |index: &usize| turns[*index].request_sha256.as_deref() == Some(request_sha256);
            let mut candidates = (0..turns.len()).filter(free);
            let exact = candidates.clone().find(same);
            exact.or_else(|| candidates.next()).or_else(|| self.last.get(&after).copied())?
        };
        self.used[index] = true;
        self.last.insert(after, index);
        Some((index, &self.cassette.turns[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Cassette::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn both_forms_are_read() {
        let yaml = "version: 1\nturns:\n  - text: hello\n    tools:\n      - { name: Bash, input: { command: ls } }\n  - text: bye\n";
        let lines = concat!(
            r#"{"text":"hello","tools":[{"name":"Bash","input":{"command":"ls"}}]}"#,
            "\n\n",
            r#"{"text":"bye"}"#,
            "\n"
        );
        let cassette = Cassette::parse(yaml).expect("YAML");
        assert_eq!(Cassette::parse(lines), Ok(cassette.clone()));
        let json = serde_json::to_string(&cassette).expect("JSON");
        assert_eq!(Cassette::parse(&json), Ok(cassette.clone()));
        assert_eq!(cassette.turns[0].stop_reason(), "tool_use");
        assert_eq!(cassette.turns[1].stop_reason(), "end_turn");
        assert_eq!(cassette.turns[0].blocks(7)[1]["id"], "toolu_bottle0007x00");
    }

    #[test]
    fn errors_say_where_and_why() {
        assert_eq!(error("version: 2\nturns: []\n"), "version 2 is not known: 1 is");
        assert_eq!(error("version: 1\nturns: [{}]\n"), "turn 0: it says nothing: give `text`, `tools` or `content`");
        assert_eq!(
            error("version: 1\nturns: [{text: a}, {tools: [{name: Bash, input: ls}]}]\n"),
            "turn 1: the `input` of a tool is not a mapping"
        );
        assert_eq!(
            error("{\"text\":\"a\"}\n{\"txt\":1}\n").split(", expected").next(),
            Some("line 2: unknown field `txt`")
        );
        assert_eq!(
            error("version: 1\nturns: [{status: 302}]\n"),
            "turn 0: `status` is neither 200 nor an error (400 to 599)"
        );
        assert_eq!(
            error("{\"text\":\"a\",\"after\":0}\n{\"text\":\"b\"}\n"),
            "turn 1 has no `after` and others have: give it to all turns or to none"
        );
        assert!(error("version: 1\nturns:\n  - text: a\n    tool: []\n").contains("tool"), "an unknown key is named");
    }

    #[test]
    fn turns_by_hand_go_by_position() {
        let cassette = Cassette::parse("version: 1\nturns: [{text: a}, {text: b}]\n").expect("a cassette");
        let mut player = Player::new(cassette);
        for (after, index) in [(0, Some(0)), (0, Some(0)), (1, Some(1)), (2, None)] {
            assert_eq!(player.next(after, "").map(|(index, _)| index), index);
        }
    }

    #[test]
    fn recorded_turns_go_by_body_then_by_order_and_the_last_repeats() {
        let turn = |after, sha: &str| Turn {
            text: Some("x".into()),
            after: Some(after),
            request_sha256: Some(sha.into()),
            ..Turn::default()
        };
        let turns = vec![turn(0, "a"), turn(0, "b"), turn(0, "c"), turn(1, "d")];
        let mut player = Player::new(Cassette { version: 1, turns });
        for (after, sha, index) in [
            (0, "b", Some(1)),
            (0, "?", Some(0)),
            (0, "?", Some(2)),
            (0, "?", Some(2)),
            (1, "?", Some(3)),
            (2, "?", None),
        ] {
            assert_eq!(player.next(after, sha).map(|(index, _)| index), index, "{after} {sha}");
        }
    }
}
