//! Claude Code's event stream (`--output-format stream-json`): a JSON object a line.
//!
//! Unknown events and fields are passed over, as the format grows; the transcript keeps every line.

use serde_json::Value;

/// A line longer than this is cut: the stream is the agent's, and memory is ours.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Cuts a byte stream into lines.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    rest: Vec<u8>,
}

impl LineSplitter {
    /// The lines that these bytes complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = vec![];
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE_BYTES.saturating_sub(self.rest.len()).min(piece.len());
            self.rest.extend_from_slice(&piece[..room]);
            if piece.ends_with(b"\n") {
                let mut line = std::mem::take(&mut self.rest);
                while line.last().is_some_and(u8::is_ascii_whitespace) {
                    line.pop();
                }
                if !line.is_empty() {
                    lines.push(line);
                }
            }
        }
        lines
    }
}

/// Tokens of one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TokenUsage {
    /// Fresh, cached and cache-writing input together.
    pub(super) input: u64,
    pub(super) output: u64,
}

/// The `result` event.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AgentEnd {
    pub(super) subtype: String,
    pub(super) is_error: bool,
    pub(super) text: Option<String>,
    pub(super) turns: Option<u64>,
    pub(super) cost_usd: Option<f64>,
    pub(super) session_id: Option<String>,
}

/// The content of a line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AgentEvent {
    Session {
        id: String,
    },
    /// An MCP server that Claude Code could not start.
    NoServer {
        name: String,
    },
    Said(String),
    Tool {
        name: String,
        input: String,
    },
    Usage {
        message: String,
        usage: TokenUsage,
    },
    Result(AgentEnd),
}

/// Reads one line; what is not understood gives nothing.
pub(super) fn parse(line: &[u8]) -> Vec<AgentEvent> {
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return vec![] };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value["type"].as_str() {
        Some("system") if value["subtype"] == "init" => {
            let session = text(&value["session_id"]).map(|id| AgentEvent::Session { id });
            let servers = value["mcp_servers"].as_array().into_iter().flatten();
            let failed =
                servers.filter(|server| server["status"] == "failed").filter_map(|server| text(&server["name"]));
            session.into_iter().chain(failed.map(|name| AgentEvent::NoServer { name })).collect()
        }
        Some("assistant") => assistant(&value["message"]),
        Some("result") => vec![AgentEvent::Result(AgentEnd {
            subtype: text(&value["subtype"]).unwrap_or_default(),
            // A result that does not say is not a success.
            is_error: value["is_error"].as_bool().unwrap_or(true),
            text: text(&value["result"]),
            turns: value["num_turns"].as_u64(),
            cost_usd: value["total_cost_usd"].as_f64(),
            session_id: text(&value["session_id"]),
        })],
        _ => vec![],
    }
}

fn assistant(message: &Value) -> Vec<AgentEvent> {
    let mut events = vec![];
    for block in message["content"].as_array().into_iter().flatten() {
        match block["type"].as_str() {
            Some("text") => events.extend(block["text"].as_str().map(|text| AgentEvent::Said(text.to_owned()))),
            Some("tool_use") => events.push(AgentEvent::Tool {
                name: block["name"].as_str().unwrap_or("?").to_owned(),
                input: tool_input(&block["input"]),
            }),
            _ => {}
        }
    }
    if let Some(id) = message["id"].as_str() {
        let count = |name: &str| message["usage"][name].as_u64().unwrap_or(0);
        let usage = TokenUsage {
            input: count("input_tokens") + count("cache_creation_input_tokens") + count("cache_read_input_tokens"),
            output: count("output_tokens"),
        };
        events.push(AgentEvent::Usage { message: id.to_owned(), usage });
    }
    events
}

/// The part of a tool's input that a person wants to see: the command or the file, else all of it.
fn tool_input(input: &Value) -> String {
    for key in ["command", "file_path", "path", "pattern", "url", "query", "description"] {
        if let Some(text) = input[key].as_str() {
            return text.to_owned();
        }
    }
    input.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let mut lines = LineSplitter::default();
        assert!(lines.push(b"{\"a\"").is_empty());
        assert_eq!(lines.push(b":1}\r\n\n{\"b\":2}\n{"), [b"{\"a\":1}".to_vec(), b"{\"b\":2}".to_vec()]);
    }

    #[test]
    fn a_result_without_its_flag_is_an_error() {
        let events = parse(br#"{"type":"result","subtype":"success","num_turns":2}"#);
        assert!(matches!(&events[..], [AgentEvent::Result(AgentEnd { is_error: true, turns: Some(2), .. })]));
    }

    #[test]
    fn usage_counts_cached_input_too() {
        let events = parse(
            br#"{"type":"assistant","message":{"id":"m","content":[{"type":"tool_use","name":"Bash","input":{"command":"ls"}}],"usage":{"input_tokens":1,"cache_read_input_tokens":2,"output_tokens":3}}}"#,
        );
        assert_eq!(
            events,
            [
                AgentEvent::Tool { name: "Bash".into(), input: "ls".into() },
                AgentEvent::Usage { message: "m".into(), usage: TokenUsage { input: 3, output: 3 } },
            ]
        );
        assert!(parse(b"not json").is_empty());
        assert!(parse(br#"{"type":"something new"}"#).is_empty());
    }
}
