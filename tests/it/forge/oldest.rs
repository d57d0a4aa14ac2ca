//! `--oldest-issue`: which issue is taken, and by whom it is asked for (the cases of `oldest.toml`); many issues; runs at once.

use std::process::Output;

use bottle_testkit::{Double, Running, World, commands, judge_all, said};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::asks::{at_work, command, job_with};
use super::{output, run};
use crate::RUNNER;
use crate::job::{Job, ended_with};
use crate::place::{Place, on};

const GIVEN: &str = "2026-03-02T09:20:00Z";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "super::both")]
    forge: Vec<String>,
    #[serde(default = "label")]
    label: String,
    #[serde(default = "schedule")]
    event: String,
    /// Login and id of who set off the job.
    sender: Option<(String, u64)>,
    #[serde(default)]
    issues: Vec<Value>,
    #[serde(default)]
    pulls: Vec<Value>,
    #[serde(default)]
    timeline: Vec<Value>,
    /// `US` wrote ours.
    #[serde(default)]
    comments: Vec<Value>,
    #[serde(default)]
    faults: Vec<Value>,
    #[serde(default)]
    users: Map<String, Value>,
    largest_page: Option<u64>,
    #[serde(default)]
    no_totals: bool,
    /// How often every issue's text was changed, where it does not say so itself.
    content_version: Option<u64>,
    /// A line of the manifest's triggers.
    #[serde(default)]
    manifest: String,
    /// The issue that is taken; none: nothing, with this exit code.
    takes: Option<u64>,
    #[serde(default)]
    code: i32,
    #[serde(default)]
    says: Vec<String>,
    /// Parts of the plan; `a.b` is `b` in `a`.
    #[serde(default)]
    plan: Map<String, Value>,
    /// Whether the forge was asked about issues.
    #[serde(default = "super::yes")]
    asks: bool,
}

fn label() -> String {
    "claude".to_owned()
}

fn schedule() -> String {
    "schedule".to_owned()
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

fn start(case: &Case, kind: &'static str) -> Double {
    let us = if kind == "github" { "github-actions[bot]" } else { "bottle" };
    let mut state = json!({"pulls": case.pulls, "timeline": case.timeline, "faults": case.faults});
    let issues = case.issues.iter().map(|issue| {
        let mut issue = issue.clone();
        if let Some(version) = case.content_version {
            issue["content_version"] = json!(version);
        }
        issue
    });
    state["issues"] = issues.collect();
    let comments = case.comments.iter().map(|comment| {
        let mut comment = comment.clone();
        if comment["author"] == "US" {
            comment["author"] = json!(us);
        }
        comment["created_at"] = json!("2026-03-02T09:21:00Z");
        comment["updated_at"] = json!("2026-03-02T09:30:00Z");
        comment
    });
    state["comments"] = comments.collect();
    state["users"] = json!({
        "octo-maintainer": {"id": 5_550_108, "permission": "write"},
        "octo-reader": {"id": 5_550_107, "permission": "read"},
        "octo-admin": {"id": 5_550_109, "permission": if kind == "github" { "admin" } else { "owner" }},
    });
    for (login, user) in &case.users {
        state["users"][login] = user.clone();
    }
    if let Some(size) = case.largest_page {
        state["largest_page"] = json!(size);
    }
    state["no_totals"] = json!(case.no_totals);
    Double::start(kind, state)
}

fn payload(case: &Case) -> Value {
    let mut payload = json!({"schedule": "23 * * * *"});
    if let Some((login, id)) = &case.sender {
        payload["sender"] = json!({"login": login, "id": id});
    }
    payload
}

fn judge(case: &Case, kind: &'static str) {
    let name = format!("{kind}: {}", case.name);
    let (world, double) = (World::new(RUNNER), start(case, kind));
    world.write("claude-bottle.yml", &format!("{}{}\n", super::MANIFEST, case.manifest));
    let mut command = world.runner();
    command.args(["plan", "--format", "json", "--oldest-issue", &case.label]);
    super::job(&world, &double, &mut command, &case.event, &payload(case));
    let out = command.output().expect("the runner");
    let text = said(&out);
    assert_eq!(out.status.code(), Some(case.code), "{name}: {text}");
    match case.takes {
        None => assert_eq!(text.contains("nothing to do: "), case.code == 0, "{name}: {text}"),
        Some(number) => {
            let plan: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{name}: no plan: {text}"));
            assert_eq!(plan["task"]["source"]["number"], number, "{name}: {text}");
            for (path, wanted) in &case.plan {
                let found = path.split('.').fold(&plan, |value, key| &value[key]);
                assert_eq!(found, wanted, "{name}: {path}: {plan:#}");
            }
        }
    }
    for says in &case.says {
        assert!(text.contains(says), "{name}: {says}: {text}");
    }
    let asked = double.log().iter().any(|line| line["path"].as_str().is_some_and(|path| path.ends_with("/issues")));
    let by_sender = case.code == 3 && !text.contains("can't be checked: failed");
    assert_eq!(asked, case.asks && !by_sender, "{name}: {:?}", double.log());
    for line in double.log() {
        assert!(line["invalid"].is_null() && line["bad_answer"].is_null(), "{name}: {line}");
    }
    assert!(double.writes().is_empty(), "{name}: {:?}", double.writes());
    assert!(!text.contains(&double.token), "{name}: {text}");
}

#[test]
fn the_oldest_issue_is_taken_that_somebody_who_may_has_labelled() {
    let cases: Cases = toml::from_str(include_str!("oldest.toml")).expect("the cases");
    let all: Vec<(&Case, &'static str)> = cases
        .case
        .iter()
        .flat_map(|case| ["github", "gitea"].map(|kind| (case, kind)))
        .filter(|(case, kind)| case.forge.iter().any(|forge| forge == kind))
        .collect();
    judge_all(&all, 4, |(case, kind)| judge(case, kind));
}

#[test]
fn a_line_says_that_nothing_is_left_and_the_job_is_green() {
    for kind in ["github", "gitea"] {
        let (world, double) = (World::new(RUNNER), Double::start(kind, json!({"issues": []})));
        let out = run(&world, &double, &["run", "--oldest-issue", "claude"], "schedule", &json!({"schedule": "x"}));
        assert_eq!(out.status.code(), Some(0), "{kind}: {}", said(&out));
        assert!(said(&out).contains("nothing to do: no open issue has the label `claude`"), "{kind}: {}", said(&out));
        assert_eq!((output(&world, "conclusion").as_str(), output(&world, "record").as_str()), ("skipped", ""));
        assert!(double.writes().is_empty() && world.slugs().is_empty(), "{kind}");
        double.assert_valid();
    }
}

#[test]
fn one_option_names_the_task() {
    for args in [
        &["plan", "--oldest-issue", "claude", "--issue", "7"][..],
        &["plan", "--oldest-issue", "claude", "--task", "x"],
        &["run", "--oldest-issue", "claude", "--event", "x"],
        &["run", "--oldest-issue", "claude", "--publish", "x"],
    ] {
        let out = World::new(RUNNER).runner().args(args).output().expect("the runner");
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", said(&out));
    }
    let world = World::new(RUNNER);
    world.write("claude-bottle.yml", super::MANIFEST);
    let out = world.runner().args(["plan", "--oldest-issue", "claude"]).output().expect("the runner");
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    assert!(said(&out).contains("--oldest-issue is for a job of a forge, and this is none"), "{}", said(&out));
}

fn given(number: u64, author: &str) -> Value {
    json!({"number": number, "created_at": GIVEN, "author": author, "given": true, "label": {"id": 1, "name": "claude"}})
}

fn issue(number: u64) -> Value {
    json!({"number": number, "title": format!("Issue {number}"), "labels": ["claude"], "content_version": 0})
}

fn plan_of(double: &Double) -> Output {
    let payload = json!({"schedule": "x"});
    run(&World::new(RUNNER), double, &["plan", "--format", "json", "--oldest-issue", "claude"], "schedule", &payload)
}

#[test]
fn of_very_many_issues_a_few_are_looked_at() {
    for kind in ["github", "gitea"] {
        let issues: Vec<Value> = (1..=10_000).map(issue).collect();
        let state = json!({"issues": issues, "timeline": [given(1, "octo-reader"), given(2, "octo-maintainer")]});
        let double = Double::start(kind, state);
        let out = plan_of(&double);
        assert_eq!(out.status.code(), Some(0), "{kind}: {}", said(&out));
        let plan: Value = serde_json::from_slice(&out.stdout).expect("a plan");
        assert_eq!(plan["task"]["source"]["number"], 2, "{kind}: {}", said(&out));
        let lists = double.log().iter().filter(|line| line["path"] == "/repos/octo-org/textstats/issues").count();
        assert!(lists <= 4 && double.log().len() < 30, "{kind}: {lists} of {}", double.log().len());
        double.assert_valid();
        // What strangers have filled goes on to no end.
        let double = Double::start(
            kind,
            json!({
                "issues": (1..=120).map(issue).collect::<Vec<_>>(),
                "timeline": (1..=120).map(|number| given(number, if number > 100 { "octo-maintainer" } else { "octo-reader" })).collect::<Vec<_>>(),
            }),
        );
        let out = plan_of(&double);
        assert_eq!(out.status.code(), Some(0), "{kind}: {}", said(&out));
        let says = [
            "nothing to do: no open issue with the label `claude` is left; issue #1 is passed over",
            " and 95 more; newer ones were not looked at",
        ];
        assert!(says.iter().all(|says| said(&out).contains(says)), "{kind}: {}", said(&out));
        let is_permission = |line: &&Value| line["path"].as_str().is_some_and(|path| path.ends_with("/permission"));
        let asked = double.log().iter().filter(is_permission).count();
        assert_eq!(asked, 1, "{kind}: each user is asked about once");
        double.assert_valid();
    }
}

/// A run of a schedule, with its number.
fn started(job: &Job, double: &Double, number: &str) -> Running {
    let mut command = command(job, double, number, "schedule", &json!({"schedule": "23 * * * *"}));
    Running::new(command.args(["--oldest-issue", "claude"]).spawn().expect("the runner"))
}

fn runs_at_once(kind: &'static str) {
    let cassette = commands(&["date +%N >> README.md; git commit -qam more; sleep 8"]);
    let state = json!({
        "issues": [issue(7), issue(8)], "timeline": [given(7, "octo-maintainer"), given(8, "octo-maintainer")],
    });
    let (job, double) = job_with(kind, &cassette, state, |rules| rules);
    let (first, second) = (started(&job, &double, "77"), started(&job, &double, "78"));
    at_work(&job);
    // What is at work is not waited for.
    let (first, second) = (first.wait(), second.wait());
    ended_with(&first, 0);
    ended_with(&second, 0);
    let all = format!("{}{}", said(&first), said(&second));
    let state = double.state();
    let mut heads: Vec<&str> =
        state["pulls"].as_array().into_iter().flatten().filter_map(|pull| pull["head"].as_str()).collect();
    heads.sort_unstable();
    assert_eq!(heads, ["bottle/issue-7-issue-7", "bottle/issue-8-issue-8"], "{kind}: {all}");
    let of = |number: u64| {
        let comments = state["comments"].as_array().into_iter().flatten();
        comments
            .filter(|comment| {
                comment["number"] == number && comment["body"].as_str().is_some_and(|body| body.contains(" ended "))
            })
            .count()
    };
    assert_eq!((of(7), of(8)), (1, 1), "{kind}: {state}");
    // What was done once is not done again.
    let third = started(&job, &double, "79").wait();
    ended_with(&third, 0);
    assert!(said(&third).contains("runs have taken up #7, #8"), "{kind}: {}", said(&third));
    assert_eq!(job.world.slugs().len(), 2, "{kind}: two runs");
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn two_runs_at_once_take_two_issues() {
    for kind in ["github", "gitea"] {
        on(Place::Bubblewrap, if kind == "github" { || runs_at_once("github") } else { || runs_at_once("gitea") });
    }
}
