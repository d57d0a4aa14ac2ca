//! A reply of the Messages API, folded back into a turn as it streams past.

use bottle_policy::budget::Tokens;
use serde_json::{Map, Value};

use crate::cassette::Turn;
use crate::messages::status_of;

/// A line above this length is no event of the API; the reply is then not recorded.
const LONGEST_LINE: usize = 16 << 20;

/// Takes the bytes of an event stream in any pieces; knows the turn once the message has ended.
#[derive(Debug, Default)]
pub struct Fold {
    line: Vec<u8>,
    turn: Turn,
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
    /// The next bytes of the stream.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if self.broken {
            return;
        }
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.line(&line);
        }
        self.line.extend_from_slice(bytes);
        if self.line.len() > LONGEST_LINE {
            self.broken = true;
            self.line = vec![];
        }
    }

    /// What the reply has cost so far, and whether that is an estimate, because its end has not come. Nothing where it has
    /// not begun.
    pub fn spent(&self) -> Option<(Tokens, bool)> {
        let mut tokens = Tokens::of(self.turn.usage.as_ref()?);
        // The last count comes with the end; until then about four bytes are a token.
        if !self.done {
            tokens.output = tokens.output.max(self.said / 4);
        }
        Some((tokens, !self.done))
    }

    /// The turn, where the stream was whole.
    pub fn finish(mut self) -> Option<Turn> {
        if self.broken || !self.done {
            return None;
        }
        self.turn.content = self.blocks.into_iter().map(|block| block.value).collect();
        Some(self.turn)
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(data) = line.strip_prefix(b"data:") else { return };
        if let Ok(event) = serde_json::from_slice::<Value>(data.trim_ascii()) {
            self.event(&event);
        } else {
            self.broken = true;
        }
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
            Some("message_stop") => self.done = true,
            Some("error") => {
                let error = &event["error"];
                self.turn = Turn {
                    status: Some(status_of(error["type"].as_str().unwrap_or_default())),
                    text: error["message"].as_str().map(str::to_owned),
                    ..Turn::default()
                };
                self.blocks.clear();
                self.done = true;
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
        let known = self.turn.usage.get_or_insert_with(|| Value::Object(Map::new()));
        if let Some(known) = known.as_object_mut() {
            known.extend(
                new.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())),
            );
        }
    }
}

/// The turn that a whole reply is: an event stream, a JSON message or an API error; nothing where it is none of these.
pub fn turn_of(status: u16, body: &[u8]) -> Option<Turn> {
    if status != 200 {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = value["error"]["message"].as_str().map(str::to_owned);
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
    let mut fold = Fold::default();
    fold.push(body);
    fold.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ModelRequest, reply};
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

    fn request(stream: bool) -> ModelRequest {
        ModelRequest { after: 0, model: "asked-for".into(), stream, size: 100, most: 0 }
    }

    proptest! {
        #[test]
        fn a_rendered_turn_folds_back_from_any_pieces(cuts in proptest::collection::vec(1usize..200, 1..40)) {
            let body = reply(&turn(), 3, &request(true)).body;
            let mut rest = body.as_bytes();
            let mut fold = Fold::default();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                fold.push(piece);
                rest = after;
            }
            prop_assert_eq!(fold.finish(), Some(turn()));
        }
    }

    #[test]
    fn a_whole_message_and_an_error_are_turns_too() {
        assert_eq!(turn_of(200, reply(&turn(), 0, &request(false)).body.as_bytes()), Some(turn()));
        let error = Turn { status: Some(529), text: Some("Overloaded".into()), ..Turn::default() };
        let sent = reply(&error, 0, &request(true));
        assert_eq!((sent.status, turn_of(529, sent.body.as_bytes())), (529, Some(error)));
    }

    #[test]
    fn a_stream_that_breaks_off_is_no_turn() {
        let body = reply(&turn(), 0, &request(true)).body;
        let cut = body.find("event: message_stop").expect("an end");
        assert_eq!(turn_of(200, &body.as_bytes()[..cut]), None);
        let mut error = body[..cut].to_owned();
        error.push_str(
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
        );
        assert_eq!(turn_of(200, error.as_bytes()).and_then(|turn| turn.status), Some(529));
    }
}
