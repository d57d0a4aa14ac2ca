//! Events by people who mean harm: each case of `hostile.toml` changes a good event in a few places and says what comes of
//! it. Whatever comes of it, nobody gets more rights: the policies, the command and the guest's environment are those of
//! the good event, the asker is the sender, and what people wrote stands in the prompt's data alone.

#![expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]

use std::fs;
use std::path::Path;

use bottle_plan::event::{self, Asked};
use bottle_plan::facts::HostFacts;
use bottle_plan::manifest::{self, Manifest, Permission};
use bottle_plan::plan::{BottlePlan, Options, plan};
use bottle_plan::prose::invisible;
use bottle_plan::render;
use bottle_plan::task::Task;
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// A file of `fixtures/good/event`.
    base: String,
    /// What is put where; `a.b` is `b` in `a`.
    #[serde(default)]
    set: Map<String, Value>,
    #[serde(default)]
    null: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
    /// In the event's text.
    replace: Option<[String; 2]>,
    /// In place of `NEST` in the event's text: this many nested lists, or as many letters.
    nest: Option<usize>,
    long: Option<usize>,
    comes: Comes,
    /// A part of the message.
    #[serde(default)]
    says: String,
    /// The agent that does it.
    agent: Option<String>,
    #[serde(default)]
    prompt_has: Vec<String>,
    #[serde(default)]
    prompt_lacks: Vec<String>,
    /// The least permission that the asker needs, where it is not the manifest's.
    needs: Option<Permission>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Comes {
    Task,
    Command,
    Nothing,
    Refused,
    Error,
}

const MANIFEST: &str = "
version: 1
bottles:
  default:
    git: [{ name: origin, upstream: https://git.example.org/team/app.git, token_from: APP_TOKEN }]
  narrow:
    git: [{ name: origin, upstream: https://git.example.org/team/app.git, token_from: APP_TOKEN, push: { refs: [] } }]
agents:
  default: { bottle: default, prompt: agents/default.md }
  implementer: { bottle: default, verify: [make test], limits: { turns: 5 } }
  reviewer: { bottle: narrow }
triggers:
  labels: { claude: implementer, review: reviewer }
  assignees: { claude-bot: implementer }
  who: { permission: triage, bots: [41898282] }
";

fn manifest() -> Manifest {
    manifest::parse(MANIFEST, "claude-bottle.yml").unwrap_or_else(|error| panic!("{error}"))
}

fn base(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/good/event").join(name);
    let path = path.with_extension("json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn at<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) => &mut value[index],
        Err(_) => &mut value[key],
    })
}

impl Case {
    fn payload(&self) -> String {
        let mut event = base(&self.base);
        for (path, value) in &self.set {
            *at(&mut event, path) = value.clone();
        }
        for path in &self.null {
            *at(&mut event, path) = Value::Null;
        }
        for path in &self.remove {
            let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
            let parent = if parent.is_empty() { &mut event } else { at(&mut event, parent) };
            let gone = parent.as_object_mut().and_then(|parent| parent.remove(key));
            assert!(gone.is_some(), "{}: there is no {path}", self.name);
        }
        let mut text = event.to_string();
        if let Some([from, to]) = &self.replace {
            assert!(text.contains(from), "{}: there is no {from}", self.name);
            text = text.replacen(from, to, 1);
        }
        if let Some(depth) = self.nest {
            text = text.replace("\"NEST\"", &format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        }
        if let Some(length) = self.long {
            text = text.replace("NEST", &"x ".repeat(length / 2));
        }
        text
    }

    fn kind(&self) -> &str {
        self.base.split('-').next().unwrap_or_default()
    }
}

fn planned(task: &Task, manifest: &Manifest) -> BottlePlan {
    let facts = HostFacts { seed: "1a2b3c".to_owned(), ..HostFacts::default() };
    plan(task, manifest, &facts, &Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// What of a plan says what the agent may do.
fn rights(plan: &BottlePlan) -> Value {
    let policies = &plan.policies;
    serde_json::json!([
        policies.routes,
        policies.pipelock,
        policies.gate,
        policies.bundle,
        plan.secrets,
        plan.command,
        plan.guest,
        plan.images,
        plan.skills,
        plan.mcp,
        plan.tools,
        plan.limits,
        plan.verify,
        plan.doors,
        plan.extra_hosts,
        plan.prompt.instructions,
        plan.agent,
    ])
}

/// The prompt outside the data.
fn ours(plan: &BottlePlan) -> String {
    // As the prompt itself says, before any data.
    let said = plan.prompt.text.split_once("lines that begin with ").map_or("", |(_, rest)| rest);
    let mark = said.split_once(',').map_or("no data", |(mark, _)| mark);
    let mut inside = false;
    let mut out = String::new();
    for line in plan.prompt.text.lines() {
        match line.strip_prefix(mark) {
            Some(rest) if inside => {
                assert!(rest.starts_with(" end of "), "{line}");
                inside = false;
            }
            Some(_) => inside = true,
            None if !inside => out.push_str(&format!("{line}\n")),
            None => {}
        }
    }
    assert!(!inside, "the data has no end:\n{}", plan.prompt.text);
    out
}

fn check_task(case: &Case, task: &Task, sender: &Value, manifest: &Manifest) {
    let name = &case.name;
    let made = planned(task, manifest);
    assert_eq!(Some(made.agent.name.as_str()), case.agent.as_deref().or(Some("default")), "{name}");

    // The same agent for a plain text of the same kind has the same rights.
    let plain = Task { agent: task.agent.clone(), work: task.work, ..Task::text("x") };
    let mut plain = planned(&plain, manifest);
    let workdir = |plan: &BottlePlan| plan.guest.workdir.clone();
    assert_eq!(workdir(&made), workdir(&plain), "{name}");
    plain.policies.gate.dry_run = made.policies.gate.dry_run;
    assert_eq!(rights(&made), rights(&plain), "{name}");

    if let Some(actor) = &task.asked_by {
        assert_eq!(sender["id"].as_u64(), Some(actor.id), "{name}");
    }
    assert_eq!(task.needs(Permission::Triage), case.needs.unwrap_or(Permission::Triage), "{name}");

    let prompt = &made.prompt.text;
    assert!(!prompt.contains(invisible), "{name}");
    // A name of the branch is made of a title's words, and of nothing but letters, digits and dashes.
    let branch = made.git.as_ref().map(|git| git.branch.clone()).unwrap_or_default();
    let ours = ours(&made).replace(&branch, "");
    assert!(!ours.to_lowercase().contains("pwned"), "{name}:\n{ours}");
    assert!(!render::compose(&made).contains("PWNED"), "{name}");
    let beginning: String = prompt.chars().take(5000).collect();
    for part in &case.prompt_has {
        assert!(prompt.contains(part), "{name}: no {part:?} in\n{beginning}");
    }
    for part in &case.prompt_lacks {
        assert!(!prompt.contains(part), "{name}: {part:?} in\n{beginning}");
    }
}

#[test]
fn nobody_gets_more_rights() {
    let text = include_str!("hostile.toml");
    let file: File = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    assert!(file.case.len() >= 50, "{} cases", file.case.len());
    let manifest = manifest();
    for case in &file.case {
        let payload = case.payload();
        let asked = event::parse(&payload, Some(case.kind()), &manifest.triggers);
        let (came, said) = match &asked {
            Ok(Asked::Task(_)) => (Comes::Task, String::new()),
            Ok(Asked::Command(command)) => (Comes::Command, format!("{:?}", command.order)),
            Ok(Asked::Nothing(why)) => (Comes::Nothing, why.clone()),
            Ok(Asked::Unclear(unclear)) => (Comes::Nothing, unclear.to_string()),
            Ok(Asked::Refused(why)) => (Comes::Refused, why.clone()),
            Err(error) => (Comes::Error, error.to_string()),
        };
        assert_eq!(came, case.comes, "{}: {said} {asked:?}", case.name);
        assert!(said.contains(&case.says), "{}: {said}", case.name);
        assert!(!said.contains(|c| invisible(c) || c == '\n') && said.len() < 1000, "{}: {said}", case.name);
        if let Ok(Asked::Task(task)) = &asked {
            let event: Value = serde_json::from_str(&payload).expect("JSON");
            let starter = &event["workflow_run"]["triggering_actor"];
            let sender = if starter.is_object() { starter } else { &event["sender"] };
            check_task(case, task, sender, &manifest);
        }
    }
}
