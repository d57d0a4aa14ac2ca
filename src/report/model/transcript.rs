//! Claude Code's event stream as turns: what was said, each tool with its input and its output, and what its edits changed.
//!
//! The stream is the guest's own: nothing in it is believed, and a line that is not understood is shown as it is.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::texts::{Text, Texts};
use super::visible::without_lone_surrogates;

/// Turns, their parts, and edits that are shown.
const MAX_TURNS: usize = 20_000;
const MAX_BLOCKS: usize = 100_000;
const MAX_EDITS: usize = 20_000;
/// Bytes of what was said that are shown without a click.
const SAID_BYTES: usize = 2000;
/// Bytes of the line that stands for a tool's input.
const BRIEF_BYTES: usize = 160;
/// Bytes of an id.
const ID_BYTES: usize = 200;
/// Inputs by which a person knows what a tool was used for, the first that is there.
const BRIEF_KEYS: [&str; 10] =
    ["command", "file_path", "notebook_path", "url", "pattern", "query", "path", "description", "prompt", "text"];

/// A message of the model's, or what came to it from outside.
#[derive(Debug, Serialize)]
pub(in crate::report) struct Turn {
    /// The message's id; empty: it has none.
    #[serde(skip)]
    pub(in crate::report) id: String,
    /// When its first and its last part came, in milliseconds of Unix time, by the guest's clock.
    pub(in crate::report) from: Option<i64>,
    pub(in crate::report) to: Option<i64>,
    /// Whether a sub-agent's.
    pub(in crate::report) sub: bool,
    pub(in crate::report) model: String,
    pub(in crate::report) blocks: Vec<Block>,
}

impl Turn {
    /// Whether the model has said it.
    pub(in crate::report) fn is_the_models(&self) -> bool {
        !self.model.is_empty()
    }
}

/// A part of a turn.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(in crate::report) enum Block {
    Said {
        text: Text,
    },
    Thought {
        text: Text,
    },
    /// What the agent was told.
    Told {
        text: Text,
    },
    Tool(Box<Tool>),
    /// A line that is no event.
    Unread {
        text: Text,
    },
}

/// A use of a tool.
#[derive(Debug, Serialize)]
pub(in crate::report) struct Tool {
    /// The use's id; empty: it has none.
    #[serde(skip)]
    pub(in crate::report) id: String,
    pub(in crate::report) name: String,
    pub(in crate::report) brief: String,
    pub(in crate::report) input: Text,
    pub(in crate::report) from: Option<i64>,
    pub(in crate::report) to: Option<i64>,
    /// None: it never came.
    pub(in crate::report) output: Option<Text>,
    pub(in crate::report) failed: bool,
}

/// What an edit changed, as the tool told it.
#[derive(Debug, Serialize)]
pub(in crate::report) struct Edit {
    pub(in crate::report) at: Option<i64>,
    /// From 0, the turn.
    pub(in crate::report) turn: usize,
    pub(in crate::report) file: String,
    /// Hunks as in a unified diff.
    pub(in crate::report) diff: Text,
    pub(in crate::report) added: usize,
    pub(in crate::report) removed: usize,
}

/// The stream.
#[derive(Debug, Default)]
pub(in crate::report) struct Transcript {
    pub(in crate::report) turns: Vec<Turn>,
    pub(in crate::report) edits: Vec<Edit>,
    /// Turns, parts and edits that are left out.
    pub(in crate::report) left_out: usize,
    blocks: usize,
}

/// Reads `transcript.jsonl`.
pub(in crate::report) fn read(bytes: &[u8], texts: &mut Texts<'_>) -> Transcript {
    let mut reader = Reader { texts, out: Transcript::default(), messages: HashMap::new(), tools: HashMap::new() };
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let line = String::from_utf8_lossy(line);
        let event = serde_json::from_str(&line).or_else(|_| serde_json::from_str(&without_lone_surrogates(&line)));
        match event {
            Ok(event) => reader.event(&event),
            Err(_) => reader.unread(&line),
        }
    }
    reader.out
}

struct Reader<'t, 'm> {
    texts: &'t mut Texts<'m>,
    out: Transcript,
    /// Turns by their message's id.
    messages: HashMap<String, usize>,
    /// Turn and block of each use of a tool by its id.
    tools: HashMap<String, (usize, usize)>,
}

impl Reader<'_, '_> {
    fn event(&mut self, event: &Value) {
        let content = &event["message"]["content"];
        match event["type"].as_str() {
            Some("assistant") => {
                let Some(at) = self.turn_of(event) else { return };
                for block in content.as_array().into_iter().flatten() {
                    self.answered(at, block, time(event));
                }
                self.out.turns[at].to = self.out.turns[at].to.max(time(event));
            }
            Some("user") => match content {
                Value::Array(blocks) => {
                    for block in blocks {
                        self.came(event, block);
                    }
                }
                content => self.told(event, content.as_str().unwrap_or_default()),
            },
            // The stream's own: how it begins and ends, and what the end repeats.
            _ => {}
        }
    }

    /// The turn of this message; an event for each of its blocks.
    fn turn_of(&mut self, event: &Value) -> Option<usize> {
        let id = event["message"]["id"].as_str().unwrap_or_default();
        if let Some(at) = self.messages.get(id) {
            return Some(*at);
        }
        let at = self.new_turn(event)?;
        if !id.is_empty() {
            self.messages.insert(id.to_owned(), at);
        }
        Some(at)
    }

    fn new_turn(&mut self, event: &Value) -> Option<usize> {
        if self.out.turns.len() >= MAX_TURNS {
            self.out.left_out += 1;
            return None;
        }
        let model = self.texts.short(event["message"]["model"].as_str().unwrap_or_default(), 100);
        let sub = event["parent_tool_use_id"].is_string();
        let id = self.texts.short(event["message"]["id"].as_str().unwrap_or_default(), ID_BYTES);
        self.out.turns.push(Turn { id, from: time(event), to: time(event), sub, model, blocks: vec![] });
        Some(self.out.turns.len() - 1)
    }

    fn answered(&mut self, turn: usize, block: &Value, at: Option<i64>) {
        if self.out.blocks >= MAX_BLOCKS {
            self.out.left_out += 1;
            return;
        }
        self.out.blocks += 1;
        let text = |name: &str| block[name].as_str().unwrap_or_default();
        let block = match block["type"].as_str() {
            Some("text") => Block::Said { text: self.texts.long(text("text"), SAID_BYTES) },
            Some("thinking") => Block::Thought { text: self.texts.long(text("thinking"), SAID_BYTES) },
            Some("tool_use" | "server_tool_use" | "mcp_tool_use") => {
                self.tools.insert(text("id").to_owned(), (turn, self.out.turns[turn].blocks.len()));
                let input = &block["input"];
                let brief = BRIEF_KEYS.iter().find_map(|key| input[key].as_str()).unwrap_or_default();
                Block::Tool(Box::new(Tool {
                    id: self.texts.short(text("id"), ID_BYTES),
                    name: self.texts.short(text("name"), BRIEF_BYTES),
                    brief: self.texts.short(brief, BRIEF_BYTES).replace('\n', " ⏎ "),
                    input: self.texts.long(&in_lines(input), 0),
                    from: at,
                    to: None,
                    output: None,
                    failed: false,
                }))
            }
            _ => Block::Unread { text: self.texts.long(&block.to_string(), 0) },
        };
        self.out.turns[turn].blocks.push(block);
    }

    /// What comes to the model: a tool's output, or words.
    fn came(&mut self, event: &Value, block: &Value) {
        if block["type"] != "tool_result" {
            let words = block["text"].as_str().map_or_else(|| block.to_string(), str::to_owned);
            return self.told(event, &words);
        }
        let output = words(&block["content"]);
        let known = block["tool_use_id"].as_str().and_then(|id| self.tools.get(id)).copied();
        let Some((turn, at)) = known else { return self.told(event, &output) };
        let output = self.texts.long(&output, 0);
        let came = time(event);
        self.out.turns[turn].to = self.out.turns[turn].to.max(came);
        if let Some(Block::Tool(tool)) = self.out.turns[turn].blocks.get_mut(at) {
            (tool.output, tool.to, tool.failed) = (Some(output), came, block["is_error"] == true);
        }
        self.edited(turn, came, &event["tool_use_result"]);
    }

    fn told(&mut self, event: &Value, words: &str) {
        let Some(turn) = self.new_turn(event) else { return };
        let text = self.texts.long(words, SAID_BYTES);
        self.out.turns[turn].blocks.push(Block::Told { text });
    }

    fn unread(&mut self, line: &str) {
        if let Some(turn) = self.new_turn(&Value::Null) {
            let text = self.texts.long(line, SAID_BYTES);
            self.out.turns[turn].blocks.push(Block::Unread { text });
        }
    }

    /// What Edit and Write say that they have changed: `structuredPatch`, or the whole of a new file.
    fn edited(&mut self, turn: usize, at: Option<i64>, result: &Value) {
        let Some(file) = result["filePath"].as_str() else { return };
        let Some((diff, added, removed)) = unified(result) else { return };
        if self.out.edits.len() >= MAX_EDITS {
            self.out.left_out += 1;
            return;
        }
        let file = self.texts.short(file, 500);
        let diff = self.texts.diff(&diff);
        self.out.edits.push(Edit { at, turn, file, diff, added, removed });
    }
}

/// Hunks as in a unified diff, with the lines that came and went.
fn unified(result: &Value) -> Option<(String, usize, usize)> {
    let mut diff = String::new();
    let (mut added, mut removed) = (0, 0);
    let hunks = result["structuredPatch"].as_array().map(Vec::as_slice).unwrap_or_default();
    for hunk in hunks {
        let number = |name: &str| hunk[name].as_u64().unwrap_or_default();
        let _ = writeln!(
            diff,
            "@@ -{},{} +{},{} @@",
            number("oldStart"),
            number("oldLines"),
            number("newStart"),
            number("newLines")
        );
        for line in hunk["lines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            added += usize::from(line.starts_with('+'));
            removed += usize::from(line.starts_with('-'));
            let _ = writeln!(diff, "{line}");
        }
    }
    if diff.is_empty() && result["type"] == "create" {
        let content = result["content"].as_str()?;
        added = content.lines().count();
        let _ = writeln!(diff, "@@ -0,0 +1,{added} @@");
        for line in content.lines() {
            let _ = writeln!(diff, "+{line}");
        }
    }
    (!diff.is_empty()).then_some((diff, added, removed))
}

/// When an event came.
fn time(event: &Value) -> Option<i64> {
    super::millis(event["timestamp"].as_str()?)
}

/// An input for people: a line a key, longer texts below it.
fn in_lines(input: &Value) -> String {
    let Some(map) = input.as_object() else { return words(input) };
    let mut text = String::new();
    for (key, value) in map {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let between = if value.contains('\n') { '\n' } else { ' ' };
        let _ = writeln!(text, "{key}:{between}{value}");
    }
    text
}

/// The text of a result: a text, or blocks of which some are texts.
fn words(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(blocks) => {
            let texts = blocks.iter().map(|block| match (&block["type"], block["text"].as_str()) {
                (_, Some(text)) => text.to_owned(),
                (Value::String(kind), None) => format!("[{kind}]"),
                _ => block.to_string(),
            });
            texts.collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}
