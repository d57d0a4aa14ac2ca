//! The Messages API as a replay speaks it: what a request asks, and a turn as a reply, whole or as a stream of events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cassette::Turn;
use crate::event_stream::Message;
use crate::model_call::ModelPath;

/// The form of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyForm {
    /// One message.
    Whole,
    /// Server-sent events.
    Sse,
    /// Events in Amazon's framing.
    EventStream,
}

/// What a replay needs to know of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRequest {
    /// How many messages of role `assistant` it carries.
    pub after: u32,
    /// The model it asks for.
    pub model: String,
    /// The form of its reply.
    pub form: ReplyForm,
    /// The size of its body in bytes.
    pub size: usize,
    /// How many tokens its reply may have at most, as it says.
    pub most: u64,
}

impl ModelRequest {
    /// Reads a body sent to this path; nothing where it is not JSON with `messages`.
    pub fn parse(path: &ModelPath, body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let messages = value.get("messages")?.as_array()?;
        let after = messages.iter().filter(|message| message["role"] == "assistant").count();
        Some(Self {
            after: u32::try_from(after).ok()?,
            model: path.model().or_else(|| value["model"].as_str()).unwrap_or_default().to_owned(),
            form: path.form(value["stream"].as_bool().unwrap_or(false)),
            size: body.len(),
            most: value["max_tokens"].as_u64().unwrap_or_default(),
        })
    }
}

/// The request with a text of ours behind what the user says last, every other byte as it was; nothing where it is not
/// such a request.
pub fn with_notice(body: &[u8], notice: &str) -> Option<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Asked<'a> {
        #[serde(borrow)]
        messages: Vec<&'a RawValue>,
    }
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        role: &'a str,
        #[serde(borrow)]
        content: &'a RawValue,
    }
    let asked: Asked<'_> = serde_json::from_slice(body).ok()?;
    let last = asked.messages.iter().rev().find_map(|message| {
        serde_json::from_str::<Message<'_>>(message.get()).ok().filter(|message| message.role == "user")
    })?;
    let content = last.content.get();
    // It is a part of the body: where, its address says.
    let start = (content.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let block = json!({ "type": "text", "text": notice }).to_string();
    let new = match content.as_bytes() {
        [b'[', .., b']'] if content[1..content.len() - 1].trim().is_empty() => format!("[{block}]"),
        [b'[', .., b']'] => format!("{},{block}]", &content[..content.len() - 1]),
        [b'"', ..] => format!("[{{\"type\":\"text\",\"text\":{content}}},{block}]"),
        _ => return None,
    };
    Some([&body[..start], new.as_bytes(), &body[start + content.len()..]].concat())
}

/// A reply, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `text/event-stream`, `application/json` or Amazon's event stream.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Self {
        Self { status, content_type: "application/json", body: body.to_string().into_bytes() }
    }
}

/// The turn with this index as the answer to a request.
pub fn reply(turn: &Turn, index: usize, request: &ModelRequest) -> Reply {
    if let Some(status) = turn.error_status() {
        return error(status, turn.text.as_deref().unwrap_or("recorded error"));
    }
    let events = || events(turn, index, request).into_iter();
    match request.form {
        ReplyForm::Sse => {
            let lines = events()
                .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()));
            let body = lines.collect::<String>().into_bytes();
            Reply { status: 200, content_type: "text/event-stream; charset=utf-8", body }
        }
        ReplyForm::EventStream => {
            Reply { status: 200, content_type: EVENT_STREAM, body: events().flat_map(|event| chunk(&event)).collect() }
        }
        ReplyForm::Whole => {
            let mut message = head(turn, index, request);
            message["content"] = turn.blocks(index).into();
            message["stop_reason"] = turn.stop_reason().into();
            message["usage"] = usage(turn, index, request);
            Reply::json(200, &message)
        }
    }
}

/// The content type of Amazon's event streams.
pub const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// An event as Amazon Bedrock frames it.
pub fn chunk(event: &Value) -> Vec<u8> {
    let headers = [(":event-type", "chunk"), (":content-type", "application/json"), (":message-type", "event")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let payload = json!({ "bytes": STANDARD.encode(event.to_string()) }).to_string().into_bytes();
    Message { headers, payload }.to_bytes()
}

/// The answer to a request to count tokens: a guess from the size of the body.
pub fn count_tokens(path: &ModelPath, body: &[u8]) -> Reply {
    let key = if matches!(path, ModelPath::Bedrock { .. }) { "inputTokens" } else { "input_tokens" };
    Reply::json(200, &json!({ key: guess(body.len()) }))
}

/// An error as the API words it.
pub fn error(status: u16, message: &str) -> Reply {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    Reply::json(status, &json!({ "type": "error", "error": { "type": kind, "message": message } }))
}

/// The status that an error event inside a stream stands for.
pub fn status_of(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "overloaded_error" => 529,
        _ => 500,
    }
}

/// About four bytes a token.
fn guess(bytes: usize) -> usize {
    bytes / 4 + 1
}

fn head(turn: &Turn, index: usize, request: &ModelRequest) -> Value {
    json!({
        "id": format!("msg_bottle{index:04}"),
        "type": "message",
        "role": "assistant",
        "model": turn.model.as_deref().unwrap_or(&request.model),
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
    })
}

fn usage(turn: &Turn, index: usize, request: &ModelRequest) -> Value {
    turn.usage.clone().unwrap_or_else(|| {
        let said: usize = turn.blocks(index).iter().map(|block| block.to_string().len()).sum();
        json!({
            "input_tokens": guess(request.size),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": guess(said),
        })
    })
}

fn events(turn: &Turn, index: usize, request: &ModelRequest) -> Vec<Value> {
    let mut events = vec![];
    let mut event = |data: Value| events.push(data);
    let usage = usage(turn, index, request);
    let mut message = head(turn, index, request);
    message["usage"] = usage.clone();
    if message["usage"].is_object() {
        message["usage"]["output_tokens"] = 1.into();
    }
    event(json!({ "type": "message_start", "message": message }));
    for (position, block) in turn.blocks(index).into_iter().enumerate() {
        let (start, deltas) = opened(block);
        event(json!({ "type": "content_block_start", "index": position, "content_block": start }));
        if position == 0 {
            event(json!({ "type": "ping" }));
        }
        for delta in deltas {
            event(json!({ "type": "content_block_delta", "index": position, "delta": delta }));
        }
        event(json!({ "type": "content_block_stop", "index": position }));
    }
    let delta = json!({ "stop_reason": turn.stop_reason(), "stop_sequence": null });
    event(json!({ "type": "message_delta", "delta": delta, "usage": usage }));
    event(json!({ "type": "message_stop" }));
    events
}

/// A block as it begins in a stream, and what follows to fill it; a kind that is not known here comes whole.
fn opened(mut block: Value) -> (Value, Vec<Value>) {
    let mut deltas = vec![];
    match block["type"].as_str() {
        Some("text") => {
            let text = std::mem::replace(&mut block["text"], "".into());
            deltas.push(json!({ "type": "text_delta", "text": text }));
        }
        Some("thinking") => {
            let text = std::mem::replace(&mut block["thinking"], "".into());
            deltas.push(json!({ "type": "thinking_delta", "thinking": text }));
            let signature = std::mem::replace(&mut block["signature"], "".into());
            deltas.push(json!({ "type": "signature_delta", "signature": signature }));
        }
        Some("tool_use" | "server_tool_use") => {
            let input = std::mem::replace(&mut block["input"], json!({}));
            deltas.push(json!({ "type": "input_json_delta", "partial_json": input.to_string() }));
        }
        _ => {}
    }
    (block, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_goes_behind_what_the_user_says_and_moves_nothing_else() {
        let tools = r#"{"zeta": 1, "alpha":[ ], "n": 1e3}"#;
        for (content, expected) in [
            (r#""go \u00e9""#, r#"[{"type":"text","text":"go \u00e9"},{"text":"90%","type":"text"}]"#),
            (r#"[ {"type":"tool_result"} ]"#, r#"[ {"type":"tool_result"} ,{"text":"90%","type":"text"}]"#),
            ("[ ]", r#"[{"text":"90%","type":"text"}]"#),
        ] {
            let whole = |content: &str| {
                format!(
                    r#"{{"tools":{tools}, "messages":[{{"role":"user","content":"a"}}, {{"content":{content},"role":"user"}},{{"role":"system","content":"s"}}]}}"#
                )
            };
            let noticed = with_notice(whole(content).as_bytes(), "90%").expect("a request");
            assert_eq!(String::from_utf8(noticed).as_deref(), Ok(whole(expected).as_str()));
        }
        assert_eq!(with_notice(b"{\"messages\":[]}", "x"), None);
        assert_eq!(with_notice(b"no JSON", "x"), None);
    }
}
