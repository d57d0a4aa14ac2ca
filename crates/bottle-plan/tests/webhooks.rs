//! Every payload of npm's `@octokit/webhooks-examples` becomes what `webhooks.expected` says, and none a surprise.
//!
//! `scripts/test` fetches the package and says in `BOTTLE_WEBHOOK_EXAMPLES` where it is.

#![expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bottle_plan::event::{self, Asked};
use bottle_plan::facts::HostFacts;
use bottle_plan::manifest::{self, Manifest};
use bottle_plan::plan::{Options, plan};
use pretty_assertions::assert_eq;
use serde_json::Value;

/// The version that `scripts/lib/tools.sh` pins.
const VERSION: &str = "7.6.1";
/// github.com's, and those of GitHub Enterprise Server.
const FOLDERS: [&str; 6] = ["api.github.com", "ghes-31", "ghes-32", "ghes-33", "ghes-34", "ghes-35"];
/// The kinds that tasks are made of.
const KINDS: [&str; 8] = [
    "issue_comment",
    "issues",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "repository_dispatch",
    "workflow_dispatch",
    "workflow_run",
];

fn package() -> PathBuf {
    let named = std::env::var_os("BOTTLE_WEBHOOK_EXAMPLES").map(PathBuf::from);
    let cached = || {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        cache.expect("HOME").join("claude-bottle/webhooks-examples").join(VERSION)
    };
    let dir = named.unwrap_or_else(cached);
    assert!(dir.is_dir(), "{} is not there: run the tests by scripts/test", dir.display());
    dir
}

/// Folder, kind and payload.
fn examples() -> Vec<(&'static str, String, Value)> {
    let package = package();
    let mut all = vec![];
    for folder in FOLDERS {
        let file = package.join(folder).join("index.json");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let kinds: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        for kind in &kinds {
            let name = kind["name"].as_str().expect("a name");
            let payloads = kind["examples"].as_array().expect("examples");
            all.extend(payloads.iter().map(|payload| (folder, name.to_owned(), payload.clone())));
        }
    }
    all
}

fn manifest() -> Manifest {
    let text = "version: 1\nbottles: { default: {} }\nagents: { implementer: { prompt: a.md } }\n\
                triggers: { labels: { bug: implementer }, assignees: { Codertocat: implementer } }\n";
    manifest::parse(text, "claude-bottle.yml").unwrap_or_else(|error| panic!("{error}"))
}

/// What comes of a payload, in a line.
fn outcome(payload: &Value, kind: Option<&str>, manifest: &Manifest) -> String {
    match event::parse(&payload.to_string(), kind, &manifest.triggers) {
        Ok(Asked::Task(task)) => {
            let facts = HostFacts { seed: "1a2b3c".to_owned(), ..HostFacts::default() };
            let plan = plan(&task, manifest, &facts, &Options::default()).unwrap_or_else(|error| panic!("{error}"));
            let mut line = format!("a task on {}", plan.git.map_or("no branch".to_owned(), |git| git.branch));
            if let Some(actor) = &task.asked_by {
                line.push_str(&format!(", by {}", actor.id));
            }
            if let Some(pull) = &task.pull_request {
                let fork = if pull.from_fork { " of a fork" } else { "" };
                line.push_str(&format!(", at {}{fork}", &pull.head.as_str()[..7]));
            }
            task.left_out.iter().for_each(|what| line.push_str(&format!(", without {what}")));
            line
        }
        Ok(Asked::Command(command)) => format!("a command: {:?}", command.order),
        Ok(Asked::Nothing(why)) => format!("nothing: {why}"),
        Ok(Asked::Unclear(unclear)) => format!("unclear: {unclear}"),
        Ok(Asked::Refused(why)) => format!("refused: {why}"),
        Err(error) => format!("error: {error}"),
    }
}

/// The same payload with a command in the text that people wrote; a run of checks as one that failed.
fn changed_to_start(payload: &Value) -> Option<Value> {
    let mut payload = payload.clone();
    if payload["workflow_run"].is_object() {
        payload["workflow_run"]["conclusion"] = "failure".into();
        return Some(payload);
    }
    let said = ["comment", "review", "issue"].into_iter().find(|part| payload[part].is_object())?;
    payload[said]["body"] = "/claude fix this".into();
    Some(payload)
}

#[test]
fn every_payload_becomes_what_it_should() {
    let manifest = manifest();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for (_, kind, payload) in examples().iter().filter(|(_, kind, _)| KINDS.contains(&kind.as_str())) {
        let action = payload["action"].as_str().unwrap_or("-");
        let asked = [("as it is", Some(payload.clone())), ("changed to start", changed_to_start(payload))];
        for (how, payload) in asked.into_iter().filter_map(|(how, payload)| Some((how, payload?))) {
            let outcome = outcome(&payload, Some(kind), &manifest);
            *found.entry(format!("{kind} {action}, {how}: {outcome}")).or_default() += 1;
        }
    }
    let found: String = found.iter().map(|(line, count)| format!("{count:3} {line}\n")).collect();
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/webhooks.expected");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&expected, &found).expect("written");
    }
    assert_eq!(found, fs::read_to_string(&expected).unwrap_or_default(), "{}", expected.display());
}

#[test]
fn a_payload_tells_its_kind_or_nothing_comes_of_it() {
    let manifest = manifest();
    let mut kinds = 0;
    for (folder, kind, payload) in examples() {
        let told = outcome(&payload, None, &manifest);
        if KINDS.contains(&kind.as_str()) {
            kinds += 1;
            assert_eq!(told, outcome(&payload, Some(&kind), &manifest), "{folder} {kind}");
        } else {
            assert!(told.starts_with("error: ") || told.starts_with("nothing: "), "{folder} {kind}: {told}");
        }
    }
    assert!(kinds > 100, "{kinds} payloads");
}

#[test]
fn the_other_kinds_are_named_in_their_message() {
    let manifest = manifest();
    let (mut others, mut unknown) = (0, vec![]);
    for (folder, kind, payload) in examples().iter().filter(|(_, kind, _)| !KINDS.contains(&kind.as_str())) {
        others += 1;
        match event::parse(&payload.to_string(), Some(kind), &manifest.triggers) {
            Ok(Asked::Nothing(why)) if why.starts_with(&format!("`{kind}` starts nothing; ")) => {}
            other => unknown.push(format!("{folder} {kind}: {other:?}")),
        }
    }
    assert_eq!(unknown, [""; 0]);
    assert!(others > 400, "{others} payloads");
}
