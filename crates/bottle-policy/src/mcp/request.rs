//! What the agent sends: requests, notifications, and the answer to a server's ping.

use serde_json::{Map, Value, json};

use super::{MAX_BATCH, MAX_REQUEST_BYTES, McpJudge, McpMethod, McpRefusal};
use crate::strict_json;

/// Notifications that a client of tools sends.
const NOTIFICATIONS: [&str; 3] = ["notifications/initialized", "notifications/cancelled", "notifications/progress"];

/// A body that may go, written anew, and the requests in it that the server is to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The JSON that goes.
    pub body: Vec<u8>,
    /// Whether it is a list of messages.
    pub is_batch: bool,
    /// Each request's id, and what it asks for.
    pub(super) requests: Vec<(Value, Asked)>,
}

/// What a request asks for, as far as its answer is looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Initialize,
    ListTools,
    Other,
}

impl Outgoing {
    /// Whether the server is to answer with messages.
    pub fn wants_answer(&self) -> bool {
        !self.requests.is_empty()
    }

    /// The id of the only request.
    pub fn only_id(&self) -> Option<&Value> {
        match self.requests.as_slice() {
            [(id, _)] => Some(id),
            _ => None,
        }
    }
}

impl McpJudge {
    /// Judges a body of the agent's; what is refused of a batch refuses all of it.
    pub fn request(&self, body: &[u8]) -> Result<Outgoing, McpRefusal> {
        if body.len() > MAX_REQUEST_BYTES {
            return Err(McpRefusal::new(format!("a message of more than {MAX_REQUEST_BYTES} bytes")));
        }
        let value = strict_json::parse(body)
            .map_err(|error| McpRefusal::new(format!("not JSON that can be judged: {error}")))?;
        let mut requests = vec![];
        let (is_batch, judged) = match value {
            Value::Array(list) if (1..=MAX_BATCH).contains(&list.len()) => {
                let list = list.into_iter().map(|message| self.message(message, &mut requests));
                (true, Value::Array(list.collect::<Result<_, _>>()?))
            }
            Value::Array(_) => return Err(McpRefusal::new(format!("expected between 1 and {MAX_BATCH} messages"))),
            message => (false, self.message(message, &mut requests)?),
        };
        Ok(Outgoing { body: judged.to_string().into_bytes(), is_batch, requests })
    }

    fn message(&self, message: Value, requests: &mut Vec<(Value, Asked)>) -> Result<Value, McpRefusal> {
        let Value::Object(mut message) = message else {
            return Err(McpRefusal::new("expected a message of JSON-RPC, a mapping"));
        };
        let id = message.get("id").cloned();
        let about = |refusal: McpRefusal| match &id {
            Some(id) if is_id(id) => refusal.about(id),
            _ => refusal,
        };
        only(&message, &["jsonrpc", "id", "method", "params", "result", "error"]).map_err(about)?;
        if message.get("jsonrpc") != Some(&Value::from("2.0")) {
            return Err(about(McpRefusal::new("`jsonrpc` is not \"2.0\"")));
        }
        let method = match message.remove("method") {
            Some(Value::String(method)) => method,
            Some(_) => return Err(about(McpRefusal::new("`method` is not a text"))),
            // The id is the server's.
            None => return answer_to_ping(&message),
        };
        if message.contains_key("result") || message.contains_key("error") {
            return Err(about(McpRefusal::new("a request has no `result` and no `error`")));
        }
        let params = match message.remove("params") {
            None => None,
            Some(Value::Object(params)) => Some(params),
            Some(_) => return Err(about(McpRefusal::new("`params` is not a mapping"))),
        };
        let Some(id) = id.clone() else {
            return notification(&method, params);
        };
        if !is_id(&id) {
            return Err(McpRefusal::new("`id` is neither an integer nor a text of at most 128 bytes"));
        }
        if requests.iter().any(|(other, _)| *other == id) {
            return Err(McpRefusal::new("two requests have the same `id`"));
        }
        let (asked, params) = self.call(&method, params).map_err(|refusal| refusal.about(&id))?;
        requests.push((id.clone(), asked));
        Ok(written(Some(&id), &method, params))
    }

    /// Judges a request's method and parameters.
    fn call(
        &self,
        method: &str,
        params: Option<Map<String, Value>>,
    ) -> Result<(Asked, Option<Map<String, Value>>), McpRefusal> {
        match method {
            "ping" => Ok((Asked::Other, params)),
            "initialize" => Ok((Asked::Initialize, params.map(without_capabilities))),
            "tools/list" => Ok((Asked::ListTools, params)),
            "tools/call" => {
                let params = params.ok_or_else(|| McpRefusal::new("`tools/call` names no tool"))?;
                self.tool(&params)?;
                Ok((Asked::Other, Some(params)))
            }
            other => match McpMethod::parse(other) {
                Some(method) if self.rules.methods.contains(&method) => Ok((Asked::Other, params)),
                Some(_) => Err(McpRefusal::new(format!(
                    "the manifest lets the method `{other}` of the server `{}` not be called",
                    self.rules.server
                ))),
                None => Err(McpRefusal::new(format!("the method `{}` can't be called", shown(other)))),
            },
        }
    }

    fn tool(&self, params: &Map<String, Value>) -> Result<(), McpRefusal> {
        only(params, &["name", "arguments", "_meta"])?;
        let Some(Value::String(tool)) = params.get("name") else {
            return Err(McpRefusal::new("`tools/call` names no tool"));
        };
        if !self.rules.may_call(tool) {
            let server = &self.rules.server;
            return Err(McpRefusal::new(format!(
                "the manifest lets the tool `{}` of the server `{server}` not be called",
                shown(tool)
            )));
        }
        let empty = Map::new();
        let given = match params.get("arguments") {
            None => &empty,
            Some(Value::Object(given)) => given,
            Some(_) => return Err(McpRefusal::new("`arguments` is not a mapping")),
        };
        let Some(rules) = self.arguments.get(tool) else { return Ok(()) };
        if let Some(name) = given.keys().find(|name| !rules.iter().any(|rule| rule.name == **name)) {
            return Err(McpRefusal::new(format!("the tool `{tool}` may not be given the argument `{}`", shown(name))));
        }
        for rule in rules {
            let Some(value) = given.get(&rule.name) else {
                if rule.is_optional {
                    continue;
                }
                return Err(McpRefusal::new(format!("the tool `{tool}` has to be given the argument `{}`", rule.name)));
            };
            let Some(glob) = &rule.value else { continue };
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(McpRefusal::new(format!(
                        "the argument `{}` of the tool `{tool}` is no single value",
                        rule.name
                    )));
                }
            };
            if !glob.is_match(&text) {
                return Err(McpRefusal::new(format!(
                    "the manifest does not let the argument `{}` of the tool `{tool}` be `{}`",
                    rule.name,
                    shown(&text)
                )));
            }
        }
        Ok(())
    }
}

/// The only answer that a client gives here: nothing else that a server asks for reaches it.
fn answer_to_ping(message: &Map<String, Value>) -> Result<Value, McpRefusal> {
    let is_empty = message.get("result").and_then(Value::as_object).is_some_and(Map::is_empty);
    match message.get("id") {
        Some(id) if is_empty && message.len() == 3 && is_id(id) => {
            Ok(json!({ "jsonrpc": "2.0", "id": id, "result": {} }))
        }
        _ => Err(McpRefusal::new("an answer to something that the server did not ask through this door")),
    }
}

fn notification(method: &str, params: Option<Map<String, Value>>) -> Result<Value, McpRefusal> {
    match NOTIFICATIONS.contains(&method) {
        true => Ok(written(None, method, params)),
        false => Err(McpRefusal::new(format!("the notification `{}` can't be sent", shown(method)))),
    }
}

fn written(id: Option<&Value>, method: &str, params: Option<Map<String, Value>>) -> Value {
    let mut message = Map::from_iter([("jsonrpc".to_owned(), "2.0".into()), ("method".to_owned(), method.into())]);
    if let Some(id) = id {
        message.insert("id".to_owned(), id.clone());
    }
    if let Some(params) = params {
        message.insert("params".to_owned(), params.into());
    }
    message.into()
}

/// A server that hears of none asks for no model's words, no person's answer and no list of directories.
fn without_capabilities(mut params: Map<String, Value>) -> Map<String, Value> {
    params.insert("capabilities".to_owned(), json!({}));
    params
}

fn only(map: &Map<String, Value>, keys: &[&str]) -> Result<(), McpRefusal> {
    match map.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(McpRefusal::new(format!("the key `{}` is not known", shown(key)))),
        None => Ok(()),
    }
}

pub(super) fn is_id(id: &Value) -> bool {
    match id {
        Value::String(text) => text.len() <= 128,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

/// A stranger's word in a message.
pub(super) fn shown(text: &str) -> String {
    crate::prose::name(text, 80)
}
