//! A reply of the Messages API, folded back into a turn as it streams past: server-sent events, or the same events in Amazon's framing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_policy::budget::Tokens;
use serde_json::{Map, Value};

use crate::cassette::Turn;
use crate::event_stream::{Decoder, Message};
use crate::messages::{EVENT_STREAM, status_of};

/// A line above this length is no event of the API; the reply is then not recorded.
const LONGEST_LINE: usize = 16 << 20;

/// What a reply says of its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metered {
    /// All of it.
    Whole(Tokens),
    /// So much until it broke off; of its output about four bytes are a token.
    Partly(Tokens),
    /// Nothing.
    Silent,
    /// It can't be read.
    Unreadable,
}

impl Metered {
    /// Reads the `usage` of a whole message.
    pub fn of_usage(usage: Option<&Value>) -> Self {
        usage.and_then(Tokens::read).map_or(Self::Silent, Self::Whole)
    }

    /// The same where a second count says that it was at least so much.
    pub fn at_least(self, second: Tokens) -> Self {
        match self {
            Self::Whole(tokens) => Self::Whole(tokens.at_least(second)),
            Self::Partly(tokens) => Self::Partly(tokens.at_least(second)),
            other => other,
        }
    }
}

/// How a stream's events are told apart.
#[derive(Debug)]
enum Framing {
    /// By lines, of which this one has not ended.
    Lines(Vec<u8>),
    /// As Amazon does.
    Messages(Decoder),
}

impl Default for Framing {
    fn default() -> Self {
        Self::Lines(vec![])
    }
}

/// Takes the bytes of a stream of events in any pieces; knows the turn once the message has ended.
#[derive(Debug, Default)]
pub struct Fold {
    framing: Framing,
    turn: Turn,
    usage: Option<Value>,
    /// A second count of the tokens, which Bedrock adds at the end.
    counted_again: Tokens,
    blocks: Vec<Block>,
    /// Bytes of what the model has said.
    said: u64,
    done: bool,
    broken: bool,
}

#[derive(Debug)]
struct Block {
    value: Value,
    /// Pieces of a tool's input, which is JSON only when all of them are there.
    json: String,
}

impl Fold {
    /// A fold of a reply with this content type; none where it is no stream.
    pub fn of_kind(content_type: &[u8]) -> Option<Self> {
        let framing = match content_type {
            kind if kind.starts_with(b"text/event-stream") => Framing::Lines(vec![]),
            kind if kind.starts_with(EVENT_STREAM.as_bytes()) => Framing::Messages(Decoder::default()),
            _ => return None,
        };
        Some(Self { framing, ..Self::default() })
    }

    /// The next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken {
            return;
        }
        match std::mem::take(&mut self.framing) {
            Framing::Lines(line) => self.push_lines(line, bytes),
            Framing::Messages(decoder) => self.push_messages(decoder, bytes),
        }
    }

    fn push_lines(&mut self, mut line: Vec<u8>, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.line(&line);
            line.clear();
        }
        line.extend_from_slice(bytes);
        if line.len() > LONGEST_LINE {
            self.broken = true;
            line = vec![];
        }
        self.framing = Framing::Lines(line);
    }

    fn push_messages(&mut self, mut decoder: Decoder, bytes: &[u8]) {
        decoder.push(bytes);
        loop {
            match decoder.message() {
                Ok(Some(message)) => self.message(&message),
                Ok(None) => break,
                Err(_) => self.broken = true,
            }
            if self.broken {
                return;
            }
        }
        self.framing = Framing::Messages(decoder);
    }

    /// What the reply says of its cost so far.
    pub fn spent(&self) -> Metered {
        if self.broken && !self.done {
            return Metered::Unreadable;
        }
        let metered = match (&self.usage, self.done && self.turn.error_status().is_none()) {
            (usage, true) => Metered::of_usage(usage.as_ref()),
            // The last count comes with the end.
            (Some(usage), false) => {
                let tokens = Tokens::of(usage);
                Metered::Partly(Tokens { output: tokens.output.max(self.said / 4), ..tokens })
            }
            (None, false) => Metered::Silent,
        };
        metered.at_least(self.counted_again)
    }

    /// The turn, where the stream was whole.
    pub fn finish(mut self) -> Option<Turn> {
        if self.broken || !self.done {
            return None;
        }
        if self.turn.error_status().is_none() {
            self.turn.content = self.blocks.into_iter().map(|block| block.value).collect();
            self.turn.usage = self.usage;
        }
        Some(self.turn)
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Some gateways say something after the end.
        if self.done {
            return;
        }
        let Some(data) = line.strip_prefix(b"data:") else { return };
        if let Ok(event) = serde_json::from_slice::<Value>(data.trim_ascii()) {
            self.event(&event);
        } else {
            self.broken = true;
        }
    }

    fn message(&mut self, message: &Message) {
        if self.done {
            return;
        }
        match (message.header(":message-type"), message.header(":event-type")) {
            (Some("event"), Some("chunk")) => {
                let payload: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
                let bytes = payload["bytes"].as_str().and_then(|bytes| STANDARD.decode(bytes).ok());
                match bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) {
                    Some(event) => self.event(&event),
                    None => self.broken = true,
                }
            }
            // Clients pass over it, too.
            (Some("event"), Some(_)) => {}
            (Some("exception"), _) => {
                let payload: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
                let kind = message.header(":exception-type").unwrap_or_default();
                self.fail(status_of_exception(kind), payload["message"].as_str());
            }
            (Some("error"), _) => self.fail(500, message.header(":error-message")),
            _ => self.broken = true,
        }
    }

    /// Ends the turn with an error.
    fn fail(&mut self, status: u16, text: Option<&str>) {
        self.turn = Turn { status: Some(status), text: text.map(str::to_owned), ..Turn::default() };
        self.done = true;
    }

    fn event(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("message_start") => {
                let message = &event["message"];
                self.turn.model = message["model"].as_str().map(str::to_owned);
                self.take_usage(&message["usage"]);
            }
            Some("content_block_start") => {
                self.blocks.push(Block { value: event["content_block"].clone(), json: String::new() });
            }
            Some("content_block_delta") => {
                let delta = &event["delta"];
                let texts = ["text", "thinking", "partial_json"].map(|key| delta[key].as_str().map_or(0, str::len));
                self.said += texts.iter().sum::<usize>() as u64;
                self.delta(delta);
            }
            Some("content_block_stop") => {
                if let Some(block) = self.blocks.last_mut().filter(|block| !block.json.is_empty()) {
                    match serde_json::from_str(&block.json) {
                        Ok(input) => block.value["input"] = input,
                        Err(_) => self.broken = true,
                    }
                }
            }
            Some("message_delta") => {
                self.turn.stop_reason = event["delta"]["stop_reason"].as_str().map(str::to_owned);
                self.take_usage(&event["usage"]);
            }
            Some("message_stop") => {
                self.counted_again = Tokens::of_bedrock(&event["amazon-bedrock-invocationMetrics"]);
                self.done = true;
            }
            Some("error") => {
                let error = &event["error"];
                self.fail(status_of(error["type"].as_str().unwrap_or_default()), error["message"].as_str());
            }
            _ => {}
        }
    }

    fn delta(&mut self, delta: &Value) {
        let Some(block) = self.blocks.last_mut() else {
            self.broken = true;
            return;
        };
        for (kind, key) in [("text_delta", "text"), ("thinking_delta", "thinking"), ("signature_delta", "signature")] {
            if delta["type"] == kind {
                let mut text = block.value[key].as_str().unwrap_or_default().to_owned();
                text.push_str(delta[key].as_str().unwrap_or_default());
                block.value[key] = text.into();
            }
        }
        if delta["type"] == "input_json_delta" {
            block.json.push_str(delta["partial_json"].as_str().unwrap_or_default());
        }
        if delta["type"] == "citations_delta" {
            match block.value["citations"].as_array_mut() {
                Some(list) => list.push(delta["citation"].clone()),
                None => block.value["citations"] = vec![delta["citation"].clone()].into(),
            }
        }
    }

    /// Later counts replace earlier ones, key by key.
    fn take_usage(&mut self, usage: &Value) {
        let Some(new) = usage.as_object() else { return };
        let known = self.usage.get_or_insert_with(|| Value::Object(Map::new()));
        if let Some(known) = known.as_object_mut() {
            known.extend(
                new.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())),
            );
        }
    }
}

/// The status that an exception inside one of Bedrock's streams stands for.
fn status_of_exception(kind: &str) -> u16 {
    match kind {
        "validationException" => 400,
        "throttlingException" => 429,
        "modelTimeoutException" => 408,
        "modelStreamErrorException" => 424,
        "serviceUnavailableException" => 503,
        _ => 500,
    }
}

/// The turn that a whole reply is: a stream of events, a JSON message or an API error; nothing where it is none of these.
pub fn turn_of(status: u16, content_type: &[u8], body: &[u8]) -> Option<Turn> {
    if status != 200 {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        // Amazon has no `error` around it.
        let text = value["error"]["message"].as_str().or_else(|| value["message"].as_str()).map(str::to_owned);
        return Some(Turn { status: Some(status), text, ..Turn::default() });
    }
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        return Some(Turn {
            content: value["content"].as_array()?.clone(),
            stop_reason: value["stop_reason"].as_str().map(str::to_owned),
            model: value["model"].as_str().map(str::to_owned),
            usage: value.get("usage").cloned(),
            ..Turn::default()
        });
    }
    let mut fold = Fold::of_kind(content_type)?;
    fold.push(body);
    fold.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ModelRequest, Reply, ReplyForm, chunk, reply};
    use proptest::prelude::*;
    use serde_json::json;

    fn turn() -> Turn {
        Turn {
            content: vec![
                json!({ "type": "thinking", "thinking": "hm\n\u{2028}data: x", "signature": "c2ln" }),
                json!({ "type": "text", "text": "Ich schaue — ok?\r\n\n" }),
                json!({ "type": "tool_use", "id": "toolu_1", "name": "Bash", "input": { "command": "ls \"a\"\n", "n": [1, null] } }),
                json!({ "type": "tool_use", "id": "toolu_2", "name": "Nothing", "input": {} }),
                json!({ "type": "redacted_thinking", "data": "AAAA" }),
            ],
            stop_reason: Some("tool_use".into()),
            model: Some("claude-test".into()),
            usage: Some(json!({ "input_tokens": 12, "output_tokens": 34 })),
            ..Turn::default()
        }
    }

    fn request(form: ReplyForm) -> ModelRequest {
        ModelRequest { after: 0, model: "asked-for".into(), form, size: 100, most: 0 }
    }

    fn kind(reply: &Reply) -> &'static [u8] {
        reply.content_type.as_bytes()
    }

    const SSE: &[u8] = b"text/event-stream";

    proptest! {
        #[test]
        fn a_rendered_turn_folds_back_from_any_pieces(cuts in proptest::collection::vec(1usize..200, 1..40)) {
            for form in [ReplyForm::Sse, ReplyForm::EventStream] {
                let reply = reply(&turn(), 3, &request(form));
                let mut rest = &reply.body[..];
                let mut fold = Fold::of_kind(kind(&reply)).expect("a stream");
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() { break; }
                    let (piece, after) = rest.split_at((*cut).min(rest.len()));
                    fold.push(piece);
                    rest = after;
                }
                let tokens = Tokens { input: 12, output: 34, ..Tokens::default() };
                prop_assert_eq!(fold.spent(), Metered::Whole(tokens));
                prop_assert_eq!(fold.finish(), Some(turn()));
            }
        }
    }

    #[test]
    fn a_whole_message_and_an_error_are_turns_too() {
        let whole = reply(&turn(), 0, &request(ReplyForm::Whole));
        assert_eq!(turn_of(200, kind(&whole), &whole.body), Some(turn()));
        let error = Turn { status: Some(529), text: Some("Overloaded".into()), ..Turn::default() };
        let sent = reply(&error, 0, &request(ReplyForm::EventStream));
        assert_eq!((sent.status, turn_of(529, kind(&sent), &sent.body)), (529, Some(error)));
        let amazons = Turn { status: Some(429), text: Some("Too many".into()), ..Turn::default() };
        assert_eq!(turn_of(429, b"application/json", b"{\"message\":\"Too many\"}"), Some(amazons));
    }

    #[test]
    fn a_stream_that_breaks_off_is_no_turn() {
        let body = String::from_utf8(reply(&turn(), 0, &request(ReplyForm::Sse)).body).expect("text");
        let cut = body.find("event: message_stop").expect("an end");
        assert_eq!(turn_of(200, SSE, &body.as_bytes()[..cut]), None);
        let mut error = body[..cut].to_owned();
        error.push_str(
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
        );
        assert_eq!(turn_of(200, SSE, error.as_bytes()).and_then(|turn| turn.status), Some(529));
        // What it has cost is not forgotten for that.
        let mut fold = Fold::default();
        fold.push(error.as_bytes());
        assert!(matches!(fold.spent(), Metered::Partly(Tokens { input: 12, output: 34, .. })), "{:?}", fold.spent());
    }

    fn bedrocks(messages: &[Vec<u8>]) -> Fold {
        let mut fold = Fold::of_kind(EVENT_STREAM.as_bytes()).expect("a stream");
        fold.push(&messages.concat());
        fold
    }

    fn began(input: u64, output: u64) -> Vec<u8> {
        let usage = json!({ "input_tokens": input, "output_tokens": output });
        chunk(&json!({ "type": "message_start", "message": { "model": "m", "usage": usage } }))
    }

    #[test]
    fn what_bedrock_counts_a_second_time_counts_where_it_is_more() {
        let metrics = json!({ "inputTokenCount": 90, "outputTokenCount": 3, "cacheReadInputTokenCount": 7,
            "cacheWriteInputTokenCount": 5, "invocationLatency": 1, "firstByteLatency": 1 });
        let stop = json!({ "type": "message_stop", "amazon-bedrock-invocationMetrics": metrics });
        let tokens = Tokens { input: 90, output: 20, cache_read: 7, cache_write: 5, ..Tokens::default() };
        assert_eq!(bedrocks(&[began(10, 20), chunk(&stop)]).spent(), Metered::Whole(tokens));
    }

    #[test]
    fn what_can_t_be_read_of_amazons_framing_is_not_taken_for_less() {
        let mut flipped = began(10, 20);
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let frame = |kind: &str, payload: &str| {
            let headers =
                [(":message-type", kind), (":event-type", "chunk"), (":exception-type", "throttlingException")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            Message { headers, payload: payload.as_bytes().to_vec() }.to_bytes()
        };
        for broken in
            [flipped, vec![0xFF; 40], frame("event", "{}"), frame("event", "{\"bytes\":\"e30\"}"), frame("?", "")]
        {
            let fold = bedrocks(&[began(10, 20), broken, chunk(&json!({ "type": "message_stop" }))]);
            assert_eq!(fold.spent(), Metered::Unreadable);
            assert_eq!(fold.finish(), None);
        }
        let fold = bedrocks(&[began(10, 20), frame("exception", "{\"message\":\"slow down\"}")]);
        assert_eq!(fold.spent(), Metered::Partly(Tokens { input: 10, output: 20, ..Tokens::default() }));
        let error = Turn { status: Some(429), text: Some("slow down".into()), ..Turn::default() };
        assert_eq!(fold.finish(), Some(error));
        assert_eq!(bedrocks(&[]).spent(), Metered::Silent);
        let ended = chunk(&json!({ "type": "message_stop" }));
        assert_eq!(bedrocks(&[ended]).spent(), Metered::Silent, "an answer without a usage");
    }
}
