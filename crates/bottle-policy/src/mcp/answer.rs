//! What the server sends: answers to what was asked, and little else.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::request::{Asked, Outgoing, shown};
use super::{McpJudge, McpRefusal, is_tool_name};
use crate::strict_json;

/// Notifications of a server that a client of tools is told.
const NOTIFICATIONS: [&str; 3] =
    ["notifications/progress", "notifications/message", "notifications/tools/list_changed"];

/// What a run has seen of a server's tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenTools {
    /// The digest of the descriptions that the agent was shown.
    digest: Option<String>,
    /// Why the server may not be asked any more.
    stopped: Option<String>,
}

impl SeenTools {
    /// Refuses everything, once descriptions have changed.
    pub fn check(&self) -> Result<(), McpRefusal> {
        self.stopped.as_ref().map_or(Ok(()), |why| Err(McpRefusal::new(why.clone())))
    }
}

impl McpJudge {
    /// Judges a message of the server's: one that goes on, written anew, or none.
    pub fn answer(
        &self,
        outgoing: &mut Outgoing,
        seen: &mut SeenTools,
        message: &[u8],
    ) -> Result<Vec<Value>, McpRefusal> {
        seen.check()?;
        let value = strict_json::parse(message)
            .map_err(|error| McpRefusal::new(format!("the server's answer is not JSON that can be judged: {error}")))?;
        let messages = match value {
            Value::Array(list) => list,
            message => vec![message],
        };
        let judged = messages.into_iter().map(|message| self.one(outgoing, seen, message));
        Ok(judged.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn one(&self, outgoing: &mut Outgoing, seen: &mut SeenTools, message: Value) -> Result<Option<Value>, McpRefusal> {
        let Value::Object(message) = message else {
            return Err(McpRefusal::new("the server's answer is no message of JSON-RPC"));
        };
        if message.get("jsonrpc") != Some(&Value::from("2.0")) {
            return Err(McpRefusal::new("the server's answer is no message of JSON-RPC 2.0"));
        }
        if let Some(method) = message.get("method") {
            return self.of_its_own(method, &message);
        }
        let id = message.get("id").cloned().unwrap_or_default();
        let Some(at) = outgoing.requests.iter().position(|(asked, _)| *asked == id) else {
            return Err(McpRefusal::new("the server answers what was not asked"));
        };
        let (_, asked) = outgoing.requests.remove(at);
        match (message.get("result"), message.get("error")) {
            (Some(result), None) => {
                let result = self.result(asked, seen, result.clone()).map_err(|refusal| refusal.about(&id))?;
                Ok(Some(json!({ "jsonrpc": "2.0", "id": id, "result": result })))
            }
            (None, Some(Value::Object(error))) => {
                let part = |key: &str| error.get(key).cloned().unwrap_or_default();
                let error = json!({ "code": part("code"), "message": part("message") });
                Ok(Some(json!({ "jsonrpc": "2.0", "id": id, "error": error })))
            }
            _ => Err(McpRefusal::new("the server's answer has neither a result nor an error").about(&id)),
        }
    }

    /// Judges what the server says without having been asked.
    fn of_its_own(&self, method: &Value, message: &Map<String, Value>) -> Result<Option<Value>, McpRefusal> {
        let method = method.as_str().unwrap_or_default();
        match message.get("id") {
            None if NOTIFICATIONS.contains(&method) => {
                let params = message.get("params").cloned().unwrap_or_else(|| json!({}));
                Ok(Some(json!({ "jsonrpc": "2.0", "method": method, "params": params })))
            }
            None => Ok(None),
            Some(id) if method == "ping" && super::request::is_id(id) => {
                Ok(Some(json!({ "jsonrpc": "2.0", "id": id, "method": "ping" })))
            }
            Some(_) => {
                let server = &self.rules.server;
                Err(McpRefusal::new(format!(
                    "the server `{server}` asks for `{}`, which nobody answers here",
                    shown(method)
                )))
            }
        }
    }

    fn result(&self, asked: Asked, seen: &mut SeenTools, result: Value) -> Result<Value, McpRefusal> {
        let Value::Object(mut result) = result else {
            return Err(McpRefusal::new("the server's result is not a mapping"));
        };
        match asked {
            Asked::Initialize => self.welcome(&mut result),
            Asked::ListTools => {
                let tools = self.tools(&result)?;
                self.pin(seen, &tools)?;
                result = Map::from_iter([("tools".to_owned(), Value::Array(tools))]);
            }
            Asked::Other => {}
        }
        Ok(result.into())
    }

    /// Takes out of a server's first answer what nobody has looked at and what can't be asked for.
    fn welcome(&self, result: &mut Map<String, Value>) {
        // They would stand among what the agent is told.
        result.remove("instructions");
        if let Some(Value::Object(capabilities)) = result.get_mut("capabilities") {
            let may =
                |group: &str| self.rules.methods.iter().any(|method| method.name().split('/').next() == Some(group));
            capabilities.retain(|name, _| name == "tools" || may(name));
        }
    }

    /// The tools that may be called, by their names.
    fn tools(&self, result: &Map<String, Value>) -> Result<Vec<Value>, McpRefusal> {
        let Some(Value::Array(listed)) = result.get("tools") else {
            return Err(McpRefusal::new("the server lists no tools"));
        };
        if result.get("nextCursor").is_some_and(|cursor| !cursor.is_null()) {
            return Err(McpRefusal::new("the server lists its tools in parts, which can't be judged as one"));
        }
        let mut names = BTreeSet::new();
        let mut tools = vec![];
        for tool in listed {
            let name = tool["name"].as_str().filter(|name| is_tool_name(name));
            let name = name.ok_or_else(|| McpRefusal::new("the server lists a tool that has no name of a tool's"))?;
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(McpRefusal::new(format!("the server lists two tools of the name `{name}`")));
            }
            if self.rules.may_call(name) {
                tools.push(tool.clone());
            }
        }
        tools.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
        Ok(tools)
    }

    /// Stops the server for this run where its tools are described otherwise than they were, or than the manifest says.
    fn pin(&self, seen: &mut SeenTools, tools: &[Value]) -> Result<(), McpRefusal> {
        let digest = digest(tools);
        let (wanted, whose) = match (&self.rules.descriptions, &seen.digest) {
            (Some(pinned), _) => (pinned, "the manifest has"),
            (None, Some(first)) => (first, "the first list of this run was"),
            (None, None) => {
                seen.digest = Some(digest);
                return Ok(());
            }
        };
        if *wanted == digest {
            seen.digest = Some(digest);
            return Ok(());
        }
        let server = &self.rules.server;
        let why = format!(
            "the server `{server}` is stopped for this run: its tools are described by {digest}, and {whose} {wanted}"
        );
        seen.stopped = Some(why.clone());
        Err(McpRefusal::new(why))
    }
}

/// The digest of tools, each whole. `serde_json` sorts the keys of a mapping, so the order in which a server has them is none of it.
fn digest(tools: &[Value]) -> String {
    let text = Value::Array(tools.to_vec()).to_string();
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}
