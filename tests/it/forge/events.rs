//! Payloads that a real Gitea gave its jobs, and those of people's reports, each through `plan` in a job of the stand-in: the cases
//! of `events.toml`.

use std::path::Path;

use bottle_testkit::{Double, World, judge_all, said};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::RUNNER;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// `gitea`, `github` or both.
    forge: Vec<String>,
    /// The event's name in the job.
    event: String,
    /// A file of `fixtures/forge/events`.
    payload: String,
    /// What is put where in the payload; `a.b` is `b` in `a`.
    #[serde(default)]
    set: Map<String, Value>,
    /// What the stand-in holds.
    #[serde(default)]
    state: Map<String, Value>,
    /// The address that the stand-in is at.
    #[serde(default = "loopback")]
    address: String,
    /// More lines of the manifest; AUTHORITY is where the stand-in is.
    #[serde(default)]
    manifest: String,
    /// Whether each agent has limits, as a budget asks for.
    #[serde(default)]
    limits: bool,
    /// Routes of the bottle, between their commas.
    #[serde(default)]
    routes: String,
    #[serde(default)]
    args: Vec<String>,
    /// Variables of the step.
    #[serde(default)]
    env: Map<String, Value>,
    /// `task`, `nothing`, or the exit code.
    comes: Value,
    /// Parts of what is said.
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    says_not: Vec<String>,
    /// Parts of the plan; `a.b` is `b` in `a`.
    #[serde(default)]
    plan: Map<String, Value>,
    /// Whether a token was sent.
    sends_token: Option<bool>,
    /// Whether the forge was asked at all.
    #[serde(default = "super::yes")]
    asks: bool,
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

const MANIFEST: &str = "version: 1
bottles:
  default: {}
agents:
  default: { bottle: default }
  implementer: { bottle: default }
  reviewer: { bottle: default }
triggers:
  labels: { claude: implementer, review: reviewer }
  assignees: { claude-bot: implementer }
";

fn at<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) => &mut value[index],
        Err(_) => &mut value[key],
    })
}

/// A forge with the payload's repository and the people of all payloads.
fn start(case: &Case, kind: &'static str, payload: &Value) -> Double {
    let name = payload["repository"]["full_name"].as_str().expect("a repository");
    let (owner, name) = name.split_once('/').expect("two parts");
    let head = "86d3665d9fad91801a14053b257693c15e9bf261";
    let pull =
        |number: u64| json!({"number": number, "title": "t", "body": "", "head": "topic", "base": "main", "sha": head});
    let mut state = json!({
        "owner": owner, "name": name, "pulls": [pull(2), pull(31)], "issues": [{"number": 4, "title": "t"}, {"number": 31, "title": "t"}],
        "users": {
            "boss": {"id": 1, "permission": "owner"}, "writer": {"id": 2, "permission": "write"},
            "reader": {"id": 9, "permission": "read"}, "tilda": {"id": 2048, "permission": "write"},
        },
    });
    for (key, value) in &case.state {
        state[key] = value.clone();
    }
    Double::start_at(kind, &case.address, None, state)
}

fn judge(case: &Case, kind: &'static str) {
    let name = format!("{kind}: {}", case.name);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/forge/events").join(&case.payload);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {}: {error}", path.display()));
    let mut payload: Value = serde_json::from_str(&text).expect("JSON");
    for (path, value) in &case.set {
        *at(&mut payload, path) = value.clone();
    }
    let (world, double) = (World::new(RUNNER), start(case, kind, &payload));
    let repository = payload["repository"]["full_name"].as_str().expect("a name");
    let mut rules =
        MANIFEST.replace("default: {}\n", &format!("default: {{ egress: {{ routes: [{}] }} }}\n", case.routes));
    if case.limits {
        rules = rules.replace("{ bottle: default }", "{ bottle: default, limits: { requests: 50 } }");
    }
    world.write("claude-bottle.yml", &format!("{rules}{}\n", case.manifest.replace("AUTHORITY", &double.authority)));
    let mut command = world.runner();
    command.args(["plan", "--format", "json"]).args(&case.args);
    super::job(&world, &double, &mut command, &case.event, &payload);
    command.env("GITHUB_REPOSITORY", repository);
    if case.state.contains_key("branches") {
        // It is for a pull request: which branch is the base only the forge knows.
        command.env("GITHUB_REF", "refs/pull/2/head").env("GITHUB_SHA", "86d3665d9fad91801a14053b257693c15e9bf261");
    }
    for (key, value) in &case.env {
        command.env(key, value.as_str().expect("a text"));
    }
    let output = command.output().expect("the runner");
    let (code, text) = (output.status.code(), said(&output));
    match case.comes.as_str() {
        Some("task") => {
            assert_eq!(code, Some(0), "{name}: {text}");
            let plan: Value =
                serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{name}: no plan: {text}"));
            for (path, wanted) in &case.plan {
                let wanted: Value =
                    serde_json::from_str(&wanted.to_string().replace("AUTHORITY", &double.authority)).expect("JSON");
                assert_eq!(*at(&mut plan.clone(), path), wanted, "{name}: {path}: {plan:#}");
            }
        }
        Some("nothing") => {
            assert_eq!(code, Some(0), "{name}: {text}");
            assert!(text.contains("nothing to do"), "{name}: {text}");
        }
        _ => assert_eq!(code.map(i64::from), case.comes.as_i64(), "{name}: {text}"),
    }
    for says in &case.says {
        let says = says.replace("AUTHORITY", &double.authority);
        assert!(text.contains(&says), "{name}: {says}: {text}");
    }
    for says in &case.says_not {
        assert!(!text.contains(says), "{name}: {says}: {text}");
    }
    assert_eq!(!double.log().is_empty(), case.asks, "{name}: {:?}", double.log());
    for line in double.log() {
        assert!(line["invalid"].is_null() && line["bad_answer"].is_null(), "{name}: {line}");
    }
    if let Some(sends) = case.sends_token {
        let sent = double.log().iter().any(|line| line["token"] == "good");
        assert_eq!(sent, sends, "{name}: {:?}", double.log());
    }
    assert!(double.writes().is_empty(), "{name}: {:?}", double.writes());
    assert!(!text.contains(&double.token), "{name}: {text}");
}

#[test]
fn what_forges_really_send_does_as_it_should() {
    let cases: Cases = toml::from_str(include_str!("events.toml")).expect("the cases");
    let places = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/forge/events"));
    for place in places.expect("the payloads") {
        let name = place.expect("a file").file_name().into_string().expect("a name");
        assert!(cases.case.iter().any(|case| case.payload == name), "no case is about {name}");
    }
    let all: Vec<(&Case, &'static str)> = cases
        .case
        .iter()
        .flat_map(|case| ["github", "gitea"].map(|kind| (case, kind)))
        .filter(|(case, kind)| case.forge.iter().any(|forge| forge == kind))
        .collect();
    judge_all(&all, 4, |(case, kind)| judge(case, kind));
}
