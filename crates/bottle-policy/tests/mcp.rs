//! What a guest may try at the door to an MCP server, and what a server may try with its answers: the cases of `mcp.toml`.

use bottle_policy::mcp::{McpJudge, McpRules, SeenTools};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestCase {
    name: String,
    body: String,
    says: Option<String>,
    goes: Option<String>,
    #[serde(default)]
    id: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerCase {
    name: String,
    asks: Option<String>,
    #[serde(default)]
    lists: Vec<String>,
    body: String,
    says: Option<String>,
    comes: Option<String>,
    #[serde(default)]
    stops: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    request: Vec<RequestCase>,
    answer: Vec<AnswerCase>,
}

const RULES: &str = r#"{"server": "notes", "methods": ["resources/read"], "tools": {"allow": ["read_note", "find", "send"], "deny": ["send"],
    "arguments": {"find": {"repo": "team/*", "limit?": "*"}}}}"#;

fn judge(descriptions: Option<&str>) -> McpJudge {
    let rules: McpRules = serde_json::from_str(RULES).expect("rules");
    McpJudge::new(&McpRules { descriptions: descriptions.map(str::to_owned), ..rules }).expect("rules that can be kept")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn cases() -> Cases {
    toml::from_str(include_str!("mcp.toml")).expect("cases")
}

#[test]
fn each_message_of_the_agents_is_judged() {
    let (judge, cases) = (judge(None), cases());
    let mut wrong = vec![];
    for case in &cases.request {
        let (found, right) = match judge.request(case.body.as_bytes()) {
            Ok(outgoing) => {
                let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
                (body.to_string(), case.goes.as_ref().is_some_and(|goes| json(goes) == body))
            }
            Err(refusal) => {
                let right = case.says.as_ref() == Some(&refusal.message) && refusal.id.is_some() == case.id;
                (format!("{refusal:?}"), right)
            }
        };
        if !right {
            wrong.push(format!("{}: {found}", case.name));
        }
    }
    assert!(wrong.is_empty() && cases.request.len() >= 40, "{}", wrong.join("\n"));
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#, "x".repeat(1 << 20));
    assert!(judge.request(large.as_bytes()).is_err());
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(judge.request(deep.as_bytes()).is_err());
}

/// A request with the id 1.
fn asked(judge: &McpJudge, method: &str) -> bottle_policy::mcp::Outgoing {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{}}}}"#);
    judge.request(body.as_bytes()).expect("what may be asked")
}

#[test]
fn each_message_of_the_servers_is_judged() {
    let (judge, cases) = (judge(None), cases());
    let mut wrong = vec![];
    for case in &cases.answer {
        let mut seen = SeenTools::default();
        for list in &case.lists {
            let _ = judge.answer(&mut asked(&judge, "tools/list"), &mut seen, list.as_bytes());
        }
        let mut outgoing = asked(&judge, case.asks.as_deref().unwrap_or("tools/list"));
        let (found, right) = match judge.answer(&mut outgoing, &mut seen, case.body.as_bytes()) {
            Ok(messages) => {
                let comes = case.comes.as_ref().map(|text| match text.as_str() {
                    "" => vec![],
                    text => vec![json(text)],
                });
                (format!("{messages:?}"), comes == Some(messages))
            }
            Err(refusal) => {
                let right = case.says.as_ref().is_some_and(|says| refusal.message.starts_with(says));
                (format!("{refusal:?}"), right)
            }
        };
        if !right || seen.check().is_err() != case.stops {
            wrong.push(format!("{}: {found}", case.name));
        }
    }
    assert!(wrong.is_empty() && cases.answer.len() >= 20, "{}", wrong.join("\n"));
}

#[test]
fn a_pin_of_the_manifests_is_told_by_the_refusal_and_holds_from_the_first_list_on() {
    let list = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read_note","description":"r"}]}}"#;
    let other = format!("sha256:{}", "0".repeat(64));
    let (pinned, mut seen) = (judge(Some(&other)), SeenTools::default());
    let refusal = pinned.answer(&mut asked(&pinned, "tools/list"), &mut seen, list.as_bytes()).expect_err("a refusal");
    let told = refusal.message.split("described by ").nth(1).and_then(|rest| rest.split(',').next());
    let told = told.expect("the digest");
    assert!(refusal.message.ends_with(&format!("the manifest has {other}")) && seen.check().is_err());
    let (pinned, mut seen) = (judge(Some(told)), SeenTools::default());
    assert!(pinned.answer(&mut asked(&pinned, "tools/list"), &mut seen, list.as_bytes()).is_ok());
    let more = list.replace("\"r\"", "\"q\"");
    assert!(pinned.answer(&mut asked(&pinned, "tools/list"), &mut seen, more.as_bytes()).is_err());
}

#[test]
fn rules_that_can_t_be_kept_are_none() {
    for (from, to, says) in [
        (r#"["read_note", "find", "send"]"#, "[]", "tools.allow: no tool could be called"),
        (r#"["read_note", "find", "send"]"#, r#"["*", "find"]"#, "tools.allow.0: `*` is not the name of a tool"),
        (r#""deny": ["send"]"#, r#""deny": ["*"]"#, "tools.deny.0: `*` is not the name of a tool"),
        (r#""find": {"repo""#, r#""send": {"repo""#, "tools.arguments.send: the tool `send` is not allowed"),
        (r#""limit?""#, r#""?""#, "tools.arguments.find.?: expected the name of an argument"),
        (
            "team/*",
            "team/[",
            "tools.arguments.find.repo: error parsing glob 'team/[': unclosed character class; missing ']'",
        ),
    ] {
        assert!(RULES.contains(from), "{from}");
        let rules: McpRules = serde_json::from_str(&RULES.replace(from, to)).expect("rules");
        assert_eq!(McpJudge::new(&rules).err().as_deref(), Some(says));
    }
    let rules: McpRules = serde_json::from_str(RULES).expect("rules");
    let rules = McpRules { descriptions: Some("sha256:ABC".to_owned()), ..rules };
    assert!(McpJudge::new(&rules).is_err());
}
