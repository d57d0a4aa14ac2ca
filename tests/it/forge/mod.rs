//! A job as the forges give it: who may ask, what is refused, and what a step hands on. Needs the stand-in, no engine.

mod action;
mod answer;
mod asks;
mod attachments;
mod auto_merge;
mod base;
mod branch;
mod budget;
mod company;
mod deploy_key;
mod events;
mod extends;
mod files;
mod mend;
mod oldest;
mod orders;
mod outputs;
mod split;
mod workflows;

use std::path::Path;
use std::process::{Command, Output};

use bottle_testkit::{Double, World, python, said, sh};
use serde_json::{Value, json};

use crate::RUNNER;

const MANIFEST: &str = "version: 1
bottles:
  default:
    git: [{ name: origin, upstream: \"https://git.bottle.test/octo-org/textstats.git\", token_from: GITHUB_TOKEN }]
agents:
  implementer: { bottle: default }
triggers:
  labels: { claude: implementer }
";

/// The variables of a job at this forge, in this world. The job is for the default branch, and its checkout, in the command's
/// directory, is at that: one is made of the manifest where there is none.
pub(crate) fn job(world: &World, double: &Double, command: &mut Command, event: &str, payload: &Value) {
    variables(world, double, command, event, payload);
    let dir = command.get_current_dir().expect("a directory").to_owned();
    if !dir.join(".git").exists() {
        git(&dir, &["init", "--quiet"]);
        git(&dir, &["add", "claude-bottle.yml"]);
        git(&dir, &["commit", "--quiet", "-m", "Rules"]);
    }
    let head = git(&dir, &["rev-parse", "HEAD"]);
    double.say(&json!({"branch": "main", "now": head}));
    command.env("GITHUB_REF", "refs/heads/main").env("GITHUB_SHA", head);
}

/// The variables that every job has.
fn variables(world: &World, double: &Double, command: &mut Command, event: &str, payload: &Value) {
    let path = world.write("event.json", &payload.to_string());
    command
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_SERVER_URL", &double.server)
        .env("GITHUB_API_URL", double.api())
        .env("GITHUB_REPOSITORY", "octo-org/textstats")
        .env("GITHUB_RUN_ID", "77")
        .env("GITHUB_TOKEN", &double.token)
        .env("GITHUB_EVENT_NAME", event)
        .env("GITHUB_EVENT_PATH", path)
        .env("GITHUB_OUTPUT", world.path("outputs"))
        .env("SSL_CERT_FILE", double.ca());
}

/// The forges of a case that names none.
fn both() -> Vec<String> {
    vec!["github".to_owned(), "gitea".to_owned()]
}

fn yes() -> bool {
    true
}

/// git at this place; what it printed.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let dir = dir.display().to_string();
    let name = ["-c", "user.name=Sample", "-c", "user.email=sample@bottle.test", "-c", "init.defaultBranch=main"];
    sh(&[&["git", "-C", &dir], &name[..], args].concat())
}

/// A step's outputs as the job's runner reads them: a name twice is an error.
pub(crate) fn outputs(text: &str) -> Vec<(String, String)> {
    let mut lines = text.lines();
    let mut outputs: Vec<(String, String)> = vec![];
    while let Some(line) = lines.next() {
        let (name, mark) = line.split_once("<<").unwrap_or_else(|| panic!("no output: {line}"));
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != mark).collect();
        assert!(outputs.iter().all(|(seen, _)| seen != name), "{name} is there twice");
        outputs.push((name.to_owned(), value.join("\n")));
    }
    outputs
}

fn output(world: &World, name: &str) -> String {
    let text = std::fs::read_to_string(world.path("outputs")).expect("the outputs");
    outputs(&text).into_iter().find(|(at, _)| at == name).map(|(_, value)| value).expect("the output")
}

pub(crate) fn labeled(sender: &str, id: u64) -> Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/issue-labeled.json"))
        .expect("the event");
    let mut event: Value = serde_json::from_str(&text).expect("JSON");
    event["sender"] = json!({"login": sender, "id": id, "type": "User"});
    event
}

fn run(world: &World, double: &Double, args: &[&str], event: &str, payload: &Value) -> Output {
    world.write("claude-bottle.yml", MANIFEST);
    let mut command = world.runner();
    command.args(args);
    job(world, double, &mut command, event, payload);
    command.output().expect("the runner")
}

#[test]
fn in_a_job_only_who_may_is_planned_for() {
    for kind in ["github", "gitea"] {
        let double = Double::start(kind, json!({}));
        for (login, id, code, says) in [
            ("octo-maintainer", 5_550_108, 0, ""),
            ("octo-reader", 5_550_107, 3, "octo-reader (id 5550107) has read on this repository, and write is needed"),
            ("octo-maintainer", 5, 3, "is now the user with the id 5550108, and the event came from 5"),
            ("nobody", 9, 3, "the forge knows no permission of nobody"),
        ] {
            let world = World::new(RUNNER);
            let output = run(&world, &double, &["plan"], "issues", &labeled(login, id));
            assert_eq!(output.status.code(), Some(code), "{kind} {login}: {}", said(&output));
            assert!(said(&output).contains(says), "{kind} {login}: {}", said(&output));
        }
        double.assert_valid();
    }
}

#[test]
fn nothing_starts_for_an_actor_who_may_not() {
    let (world, double) = (World::new(RUNNER), Double::start("github", json!({})));
    let output_of = run(&world, &double, &["run"], "issues", &labeled("octo-reader", 5_550_107));
    // Anybody can write a comment: that is one neutral line, and no red job.
    assert_eq!(output_of.status.code(), Some(0), "{}", said(&output_of));
    let all = said(&output_of);
    let lines: Vec<&str> = all.lines().filter(|line| !line.starts_with("::add-mask::") && !line.is_empty()).collect();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.starts_with("::notice title=claude-bottle::refused: octo-reader (id 5550107) has read"), "{line}");
    assert!(world.slugs().is_empty(), "a run was started");
    assert_eq!(output(&world, "conclusion"), "refused");
    assert_eq!(output(&world, "record"), "");
    assert!(double.writes().is_empty(), "{:?}", double.writes());
}

#[test]
fn a_task_in_words_is_asked_for_by_somebody_too() {
    let double = Double::start("github", json!({}));
    let sender = |login: &str, id: u64| json!({"sender": {"login": login, "id": id}});
    for (event, payload, code, says) in [
        ("workflow_dispatch", sender("octo-maintainer", 5_550_108), 0, ""),
        ("workflow_dispatch", sender("octo-reader", 5_550_107), 3, "write is needed"),
        ("issue_comment", sender("octo-reader", 5_550_107), 3, "write is needed"),
        ("issue_comment", json!({}), 3, "the event names no sender"),
        ("schedule", json!({"schedule": "17 5 * * 1"}), 0, ""),
    ] {
        let world = World::new(RUNNER);
        let output = run(&world, &double, &["plan", "--task", "Tidy up"], event, &payload);
        assert_eq!(output.status.code(), Some(code), "{event}: {}", said(&output));
        assert!(said(&output).contains(says), "{event}: {}", said(&output));
    }
}

#[test]
fn an_issue_by_its_number_is_asked_of_the_forge() {
    for kind in ["github", "gitea"] {
        let double = Double::start(kind, json!({}));
        let payload = json!({"sender": {"login": "octo-maintainer", "id": 5_550_108}});
        let world = World::new(RUNNER);
        let output = run(&world, &double, &["plan", "--issue", "7", "--format", "json"], "workflow_dispatch", &payload);
        assert!(output.status.success(), "{}", said(&output));
        let plan: Value = serde_json::from_slice(&output.stdout).expect("a plan");
        assert_eq!(plan["task"]["source"]["title"], "Words followed by punctuation are counted wrong");
        assert_eq!(plan["task"]["asked_by"]["id"], 5_550_108);
        assert!(plan["git"]["branch"].as_str().expect("a branch").starts_with("bottle/issue-7-"), "{}", plan["git"]);
        let output = run(&World::new(RUNNER), &double, &["plan", "--issue", "404"], "workflow_dispatch", &payload);
        assert_eq!(output.status.code(), Some(4), "{}", said(&output));
        double.assert_valid();
    }
    let output =
        World::new(RUNNER).runner().args(["plan", "--issue", "7", "--manifest", "x"]).output().expect("the runner");
    assert_eq!(output.status.code(), Some(2), "outside of a job: {}", said(&output));
}

#[test]
fn an_event_that_asks_for_nothing_is_skipped() {
    let (world, double) = (World::new(RUNNER), Double::start("github", json!({})));
    let mut event = labeled("octo-reader", 5_550_107);
    event["label"]["name"] = json!("bug\n##[add-mask]x");
    let output_of = run(&world, &double, &["run"], "issues", &event);
    assert_eq!(output_of.status.code(), Some(0), "{}", said(&output_of));
    assert_eq!(output(&world, "conclusion"), "skipped");
    assert!(!said(&output_of).contains("##["), "{}", said(&output_of));
    assert!(double.log().is_empty(), "nobody is asked about nothing");
}

#[test]
fn secrets_are_told_to_the_job_s_runner_first() {
    let (world, double) = (World::new(RUNNER), Double::start("github", json!({})));
    let output = run(&world, &double, &["run"], "issues", &labeled("octo-reader", 5_550_107));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let masks: Vec<&str> = told.lines().take_while(|line| line.starts_with("::add-mask::")).collect();
    for secret in [world.secret(), &double.token] {
        assert!(masks.iter().any(|line| *line == format!("::add-mask::{secret}")), "{told}");
        let rest: String = told.lines().skip(masks.len()).collect();
        assert!(!rest.contains(secret), "{rest}");
    }
}

#[test]
fn a_forge_that_does_not_tell_its_name_is_asked() {
    for (kind, code) in [("gitea", 0), ("github", 3)] {
        let double = Double::start(kind, json!({}));
        let world = World::new(RUNNER);
        world.write("claude-bottle.yml", MANIFEST);
        let mut command = world.runner();
        command.arg("plan");
        job(&world, &double, &mut command, "issues", &labeled("octo-maintainer", 5_550_108));
        // Of the address nothing can be told; GitHub's stand-in has its API elsewhere, and so can't be asked.
        command.env("GITHUB_API_URL", format!("https://{}/", double.authority));
        let output = command.output().expect("the runner");
        assert_eq!(output.status.code(), Some(code), "{kind}: {}", said(&output));
        if kind == "gitea" {
            let log = double.log();
            assert_eq!((&log[0]["path"], &log[0]["token"]), (&json!("/version"), &json!("none")), "{log:?}");
        }
    }
}

#[test]
fn the_stand_in_answers_as_gitea_s_own_client_wants_it() {
    let double = Double::start("gitea", json!({}));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/forge/gitea_client.py");
    let output = python().args([script, &double.api(), &double.token]).arg(double.ca()).output().expect("python");
    assert!(output.status.success(), "{}", said(&output));
    double.assert_valid();
}
