//! `/claude auto-merge`: who may ask, of what, and that nothing which is pushed after the yes is merged by it.

use bottle_testkit::{Double, World, said};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asks::{MAINTAINER, command, comment, job_with};
use super::{both, job};
use crate::RUNNER;
use crate::job::ended_with;
use crate::place::{Place, on};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "both")]
    forges: Vec<String>,
    /// The comment.
    #[serde(default = "auto_merge")]
    words: String,
    #[serde(default)]
    asker: Option<(String, u64)>,
    /// Lines of the manifest below `triggers`.
    #[serde(default = "allowed")]
    rules: String,
    #[serde(default)]
    pull: Value,
    #[serde(default)]
    state: Value,
    /// Whether Gitea's history says that the merge is scheduled.
    #[serde(default)]
    scheduled: bool,
    /// More of Gitea's history: what, and when.
    #[serde(default)]
    history: Vec<(String, String)>,
    #[serde(default)]
    there: Value,
    /// The event itself says that the comment was changed.
    #[serde(default)]
    edited: bool,
    #[serde(default)]
    issue: bool,
    #[serde(default)]
    code: i32,
    says: String,
    /// In the output as well, or on the pull request.
    #[serde(default)]
    told: Option<String>,
    #[serde(default)]
    on: bool,
    #[serde(default)]
    calls: usize,
}

fn auto_merge() -> String {
    "/claude auto-merge".to_owned()
}

fn allowed() -> String {
    "auto_merge: true".to_owned()
}

const EARLY: &str = "2026-03-02T09:00:00Z";
const ASKED: &str = "2026-03-02T09:20:35Z";

fn us(kind: &str) -> &'static str {
    if kind == "github" { "github-actions[bot]" } else { "bottle" }
}

/// A value with these keys in place of its own.
fn with(mut value: Value, more: &Value) -> Value {
    for (key, other) in more.as_object().into_iter().flatten() {
        value[key] = other.clone();
    }
    value
}

fn entry(kind: &str, at: &str) -> Value {
    json!({"number": 9, "type": kind, "author": "octo-admin", "created_at": at})
}

/// How often auto-merge was turned on or off, or that was tried.
fn calls(double: &Double) -> usize {
    let is_call = |line: &&Value| {
        let query = line["body"]["query"].as_str().unwrap_or_default();
        let path = line["path"].as_str().unwrap_or_default();
        line["method"] != "GET" && (path.ends_with("/pulls/9/merge") || query.contains("PullRequestAutoMerge"))
    };
    double.log().iter().filter(is_call).count()
}

/// Pull request 9, which a run has opened.
fn nine(kind: &str) -> Value {
    let body = "Closes #7.\n\n<!-- claude-bottle: begin -->\ncard\n<!-- claude-bottle: end -->\n";
    json!({
        "number": 9, "title": "A change", "body": body, "head": "bottle/issue-7-x", "base": "main", "sha": "a".repeat(40),
        "author": us(kind),
    })
}

fn state(case: &Case, kind: &str, (login, _): (&str, u64)) -> Value {
    let number = if case.issue { 7 } else { 9 };
    let there = json!({"id": 900, "number": number, "author": login, "body": case.words, "created_at": ASKED, "updated_at": ASKED});
    let mut comments = vec![with(there, &case.there)];
    if let Some(number) = case.state["lease"].as_u64() {
        let line =
            "<!-- claude-bottle: run issue-7-1a2b running 2026-03-02T09:10:00Z 4 https://git.bottle.test/run -->";
        let body = format!("<!-- claude-bottle: status -->\n{line}\n### x");
        comments.push(json!({"id": 30, "number": number, "author": us(kind), "body": body, "created_at": EARLY, "updated_at": EARLY}));
    }
    let mut history: Vec<Value> = case.history.iter().map(|(kind, at)| entry(kind, at)).collect();
    if case.scheduled {
        history.push(entry("pull_scheduled_merge", EARLY));
    }
    let rule = json!({"rule_name": "main", "enable_status_check": true, "status_check_contexts": ["ci"]});
    let users = json!({
        "octo-maintainer": {"id": 5_550_108, "permission": "write"}, "octo-reader": {"id": 5_550_107, "permission": "read"},
        "octo-admin": {"id": 5_550_109, "permission": "admin"}, "helper[bot]": {"id": 41, "permission": "write", "type": "Bot"},
    });
    let merge = json!({"allow_squash_merge": true, "allow_merge_commits": true, "allow_rebase": true});
    let repository = if kind == "gitea" { with(merge, &case.state["repository"]) } else { json!({}) };
    let mut more = case.state.clone();
    if let Some(more) = more.as_object_mut() {
        more.remove("repository");
    }
    with(
        json!({
            "pulls": [with(nine(kind), &case.pull)], "comments": comments, "timeline": history, "protections": [rule],
            "users": users, "repository": repository,
        }),
        &more,
    )
}

fn holds(case: &Case, kind: &'static str) {
    let name = format!("{kind}: {}", case.name);
    let world = World::new(RUNNER);
    let (login, id) = case.asker.as_ref().map_or(MAINTAINER, |(login, id)| (login.as_str(), *id));
    let mut event = comment((login, id), &case.words, (!case.issue).then_some(9));
    if login.ends_with("[bot]") {
        event["sender"]["type"] = json!("Bot");
        event["comment"]["user"]["type"] = json!("Bot");
    }
    if case.edited {
        event["comment"]["updated_at"] = json!("2026-03-02T09:20:36Z");
    }
    let double = Double::start(kind, state(case, kind, (login, id)));
    let rules = format!("triggers:\n  {}\n", case.rules);
    world.write("claude-bottle.yml", &super::MANIFEST.replace("triggers:\n", &rules));
    let run = |args: &[&str]| {
        let mut command = world.runner();
        command.args(args);
        job(&world, &double, &mut command, "issue_comment", &event);
        command.output().expect("the runner")
    };
    // A plan and a dry run change nothing.
    for args in [&["plan"][..], &["run", "--dry-run"]] {
        let out = run(args);
        assert_eq!(calls(&double), 0, "{name}: {args:?}: {}", said(&out));
        let written = double.writes();
        assert!(written.iter().all(|write| write.ends_with("/graphql")), "{name}: {args:?}: {written:?}");
    }
    let out = run(&["run"]);
    assert_eq!(out.status.code(), Some(case.code), "{name}: {}", said(&out));
    assert!(said(&out).contains(&case.says), "{name}: {}", said(&out));
    let state = double.state();
    assert_eq!(
        !state["pulls"][0]["auto_merge"].is_null() && state["pulls"][0]["auto_merge"] != false,
        case.on,
        "{name}: {state}"
    );
    assert_eq!(calls(&double), case.calls, "{name}: {}", said(&out));
    let comments = state["comments"].as_array().expect("comments");
    let status: Vec<&str> = comments
        .iter()
        .filter(|one| one["id"] != 900 && one["number"] == 9)
        .filter_map(|one| one["body"].as_str())
        .collect();
    if let Some(told) = &case.told {
        let there = said(&out).contains(told) || status.iter().any(|text| text.contains(told));
        assert!(there, "{name}: {status:?}\n{}", said(&out));
    }
    // Whatever was locked is free again, and one comment says what was done.
    assert!(status.len() <= 1, "{name}: {status:?}");
    assert!(!status.iter().any(|text| text.contains(" running ")), "{name}: {status:?}");
    if case.calls > 0 {
        let text = status.first().unwrap_or_else(|| panic!("{name}: nothing is said on the pull request"));
        assert!(
            text.starts_with("<!-- claude-bottle: status -->\n") && text.contains("octo-maintainer asked for"),
            "{name}: {text}"
        );
    }
    assert!(world.slugs().is_empty(), "{name}: a run was started");
    // Of some cases the event alone says enough.
    if !double.log().is_empty() {
        double.assert_valid();
    }
}

#[test]
fn a_merge_is_asked_for_by_a_person_who_may_and_of_what_there_is_to_see() {
    let cases: Cases = toml::from_str(include_str!("auto_merge.toml")).expect("cases");
    let cases = &cases.case;
    std::thread::scope(|scope| {
        for kind in ["github", "gitea"] {
            for part in 0..2 {
                scope.spawn(move || {
                    let mine = cases.iter().skip(part).step_by(2);
                    for case in mine.filter(|case| case.forges.iter().any(|forge| forge == kind)) {
                        holds(case, kind);
                    }
                });
            }
        }
    });
}

#[test]
fn the_yes_is_to_a_commit() {
    for (kind, key) in [("github", "expectedHeadOid"), ("gitea", "head_commit_id")] {
        let cases: Cases = toml::from_str("[[case]]\nname = \"on\"\nsays = \"\"\n").expect("cases");
        let world = World::new(RUNNER);
        let double = Double::start(kind, state(&cases.case[0], kind, MAINTAINER));
        world.write("claude-bottle.yml", &super::MANIFEST.replace("triggers:\n", "triggers:\n  auto_merge: true\n"));
        let mut command = world.runner();
        command.arg("run");
        job(&world, &double, &mut command, "issue_comment", &comment(MAINTAINER, "/claude auto-merge", Some(9)));
        let out = command.output().expect("the runner");
        assert!(out.status.success(), "{}", said(&out));
        assert_eq!(double.state()["pulls"][0]["auto_merge"][key], "a".repeat(40), "{}", double.state());
        double.assert_valid();
    }
}

/// A job on pull request 9, of whose auto-merge a person has said yes.
fn pushed(kind: &'static str, fault: Option<Value>, code: i32) {
    let steps = ["date +%N >> README.md; git commit -qam more; git push -q origin HEAD:bottle/issue-7-x"];
    let mut own = nine(kind);
    own["auto_merge"] = json!({"by": "octo-admin"});
    own.as_object_mut().expect("an object").remove("sha");
    let state = json!({
        "pulls": [own], "timeline": [entry("pull_scheduled_merge", EARLY)], "faults": fault.iter().collect::<Vec<_>>(),
    });
    let (job, double) = job_with(kind, &bottle_testkit::commands(&steps), state, |rules| {
        rules.replace("triggers:\n", "triggers:\n  auto_merge: true\n")
    });
    job.upstream.git(&["update-ref", "refs/heads/bottle/issue-7-x", "main"]);
    let at = || job.upstream.git(&["rev-parse", "bottle/issue-7-x"]);
    let before = at();
    let output = command(&job, &double, "77", "issue_comment", &comment(MAINTAINER, "/claude more", Some(9)))
        .output()
        .expect("it");
    ended_with(&output, code);
    let state = double.state();
    let is_on = !state["pulls"][0]["auto_merge"].is_null();
    if fault.is_some() {
        let why = "not started: whether the forge would merge by itself what is pushed to bottle/issue-7-x can't be made sure";
        assert!(said(&output).contains(why), "{}", said(&output));
        assert_eq!((at(), is_on), (before, true), "{}", said(&output));
        job.nothing_left();
        return;
    }
    assert_ne!(at(), before, "{}", said(&output));
    assert!(!is_on, "{state}");
    assert_eq!(calls(&double), 1);
    // It was off before the agent began, which pushes by itself.
    let events = job.world.record_file("events.jsonl");
    let place = |words: &str| {
        events.lines().position(|line| line.contains(words)).unwrap_or_else(|| panic!("no {words}: {events}"))
    };
    let off = "auto-merge of pull request #9 was on, and this run has turned it off";
    assert!(place(off) < place("\"phase\":\"agent\""), "{events}");
    let bodies: Vec<String> =
        state["comments"].as_array().expect("comments").iter().map(|one| one["body"].to_string()).collect();
    assert!(bodies.iter().any(|body| body.contains(off)), "{bodies:?}");
    assert!(state["pulls"][0]["body"].as_str().is_some_and(|body| body.contains(off)), "{state}");
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn a_run_turns_auto_merge_off_before_its_agent_can_push() {
    on(Place::Bubblewrap, || pushed("github", None, 0));
    on(Place::Bubblewrap, || pushed("gitea", None, 0));
}

#[test]
fn a_run_that_can_t_turn_it_off_does_not_start() {
    on(Place::Bubblewrap, || {
        let fault = json!({"method": "POST", "path": "/graphql", "query": "disable", "status": 500, "times": 9});
        pushed("github", Some(fault), 4);
    });
    on(Place::Bubblewrap, || {
        let fault = json!({"method": "DELETE", "path": "/pulls/9/merge", "status": 403, "times": 9});
        pushed("gitea", Some(fault), 4);
    });
}

/// A yes while the agent is at work, by the forge's own button: the run's own push waits for nobody.
fn asked_meanwhile(kind: &'static str) {
    let steps = ["date +%N >> README.md; git commit -qam more; sleep 8"];
    let mut own = nine(kind);
    own.as_object_mut().expect("an object").remove("sha");
    let state = json!({"pulls": [own], "timeline": []});
    let (job, double) = job_with(kind, &bottle_testkit::commands(&steps), state, |rules| rules);
    job.upstream.git(&["update-ref", "refs/heads/bottle/issue-7-x", "main"]);
    let mut run = command(&job, &double, "77", "issue_comment", &comment(MAINTAINER, "/claude more", Some(9)));
    let running = std::thread::spawn(move || run.output().expect("the runner"));
    super::asks::at_work(&job);
    double.say(&json!({"pull": 9, "now": {"auto_merge": {"by": "octo-admin"}}}));
    if kind == "gitea" {
        double.say(&json!({"history": entry("pull_scheduled_merge", EARLY)}));
    }
    let output = running.join().expect("the runner");
    ended_with(&output, 0);
    let state = double.state();
    assert!(state["pulls"][0]["auto_merge"].is_null() && calls(&double) == 1, "{state}");
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn a_yes_while_the_agent_is_at_work_is_ended_before_the_push() {
    on(Place::Bubblewrap, || asked_meanwhile("github"));
    on(Place::Bubblewrap, || asked_meanwhile("gitea"));
}

#[test]
fn where_it_is_allowed_a_run_pushes_to_its_own_branch_alone() {
    let double = Double::start("github", json!({}));
    for (rules, refs) in [
        ("", json!(["refs/heads/bottle/**"])),
        ("  auto_merge: true\n", json!(["refs/heads/bottle/issue-7-words-followed-by-punctuation-are"])),
    ] {
        let world = World::new(RUNNER);
        world.write("claude-bottle.yml", &super::MANIFEST.replace("triggers:\n", &format!("triggers:\n{rules}")));
        let mut command = world.runner();
        command.args(["plan", "--format", "json"]);
        job(&world, &double, &mut command, "issues", &super::labeled(MAINTAINER.0, MAINTAINER.1));
        let out = command.output().expect("the runner");
        let plan: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&out)));
        assert_eq!(plan["policies"]["gate"]["upstreams"][0]["push"]["refs"], refs, "{rules}");
    }
    double.assert_valid();
}
