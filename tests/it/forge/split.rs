//! `split`: an issue's task list as issues of their own, each once, however often it is done and wherever it is stopped.

use std::process::{Command, Output, Stdio};

use bottle_testkit::{Double, World, said};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{job, labeled, output, run};
use crate::RUNNER;

const LIST: &str = "The counter is slow.\n\n- [ ] Count right\n  - [ ] and say how\n- [x] Read the file\n- [ ] Count faster\n- [ ] Tell @octocat\n";
const MARK: &str = "<!-- claude-bottle: tasks -->";

/// The event of the label for an issue with this text.
fn event(body: &str) -> Value {
    let mut event = labeled("octo-maintainer", 5_550_108);
    event["issue"]["body"] = json!(body);
    event
}

fn start(kind: &'static str, more: &Value) -> Double {
    let mut state = json!({"issues": [{"number": 7, "title": "Count", "author": "octo-reader"}]});
    for (key, value) in more.as_object().expect("an object") {
        state[key] = value.clone();
    }
    Double::start(kind, state)
}

fn split(double: &Double, args: &[&str], body: &str) -> (World, Output) {
    let world = World::new(RUNNER);
    let out = run(&world, double, &[&["split"], args].concat(), "issues", &event(body));
    (world, out)
}

/// The issues that we have opened, and their texts.
fn opened(double: &Double) -> Vec<Value> {
    let state = double.state();
    let issues = state["issues"].as_array().cloned().unwrap_or_default();
    issues
        .into_iter()
        .filter(|issue| issue["body"].as_str().is_some_and(|body| body.contains("of issue #7.")))
        .collect()
}

fn cards(double: &Double) -> Vec<String> {
    let state = double.state();
    let bodies = state["comments"].as_array().into_iter().flatten().filter_map(|comment| comment["body"].as_str());
    bodies.filter(|body| body.starts_with(MARK)).map(str::to_owned).collect()
}

fn numbers(issues: &[Value]) -> Vec<u64> {
    issues.iter().filter_map(|issue| issue["number"].as_u64()).collect()
}

#[test]
fn each_open_task_gets_an_issue_once_and_the_comment_names_its_pull_request() {
    for kind in ["github", "gitea"] {
        let double = start(kind, &json!({}));
        let (world, out) = split(&double, &[], LIST);
        assert_eq!(out.status.code(), Some(0), "{kind}: {}", said(&out));
        let first = opened(&double);
        let titles: Vec<&str> = first.iter().filter_map(|issue| issue["title"].as_str()).collect();
        assert_eq!(titles[..2], ["Count right", "Count faster"], "{kind}: {titles:?}");
        assert!(titles.len() == 3 && !titles[2].contains("@octocat"), "{kind}: {titles:?}");
        let text = first[0]["body"].as_str().expect("a text");
        for wanted in ["Task 1 of 3 of issue #7.\n\nCount right\n- [ ] and say how\n", "\n> The counter is slow.\n"] {
            assert!(text.contains(wanted), "{kind}: {wanted}: {text}");
        }
        let all = numbers(&first);
        assert_eq!(output(&world, "issues"), json!(all).to_string(), "{kind}");
        assert_eq!(output(&world, "conclusion"), "success", "{kind}");
        assert_eq!(output(&world, "agent"), "implementer", "{kind}");
        assert!(said(&out).contains(&format!("\n  #{} Count right: to be done\n", all[0])), "{kind}: {}", said(&out));
        let [card] = &cards(&double)[..] else { panic!("{kind}: {:?}", cards(&double)) };
        assert!(all.iter().all(|n| card.contains(&format!("- [ ] #{n}: no pull request yet"))), "{kind}: {card}");

        // Once more: nothing is written but the comment, with what has become of each.
        double.say(&json!({"issue": all[1], "now": {"state": "closed"}}));
        let head = format!("bottle/issue-{}-count-right", all[0]);
        double.say(&json!({"new_pull": {"number": 900, "title": "x", "body": "", "head": head, "base": "main"}}));
        let (world, out) = split(&double, &[], &LIST.replace("- [ ] Tell", "- [x] Tell"));
        assert_eq!(out.status.code(), Some(0), "{kind}: {}", said(&out));
        assert_eq!(output(&world, "issues"), "[]", "{kind}");
        assert_eq!(opened(&double).len(), 3, "{kind}");
        let [card] = &cards(&double)[..] else { panic!("{kind}: {:?}", cards(&double)) };
        for wanted in [
            format!("- [ ] #{}: in pull request #900\n", all[0]),
            format!("- [x] #{}: closed\n", all[1]),
            format!("- [ ] #{}: no open task of the list any more", all[2]),
        ] {
            assert!(card.contains(&wanted), "{kind}: {wanted}: {card}");
        }
        double.assert_valid();
    }
}

#[test]
fn a_division_that_is_stopped_anywhere_opens_nothing_twice() {
    let comments = "/issues/(7/comments|comments/)";
    for kind in ["github", "gitea"] {
        for (name, fault) in [
            ("before the comment", json!({"method": "POST", "path": comments, "status": 403})),
            ("after the comment, unheard", json!({"method": "POST", "path": comments, "drop": "after"})),
            ("before an issue", json!({"method": "POST", "path": "/issues$", "status": 403})),
            ("after an issue, unheard", json!({"method": "POST", "path": "/issues$", "drop": "after", "times": 3})),
            ("before the first issue is named", json!({"method": "PATCH", "path": comments, "status": 403})),
            ("after it, unheard", json!({"method": "PATCH", "path": comments, "drop": "after", "times": 3})),
        ] {
            let double = start(kind, &json!({"faults": [fault]}));
            let first = split(&double, &[], LIST).1;
            let then = split(&double, &[], LIST).1;
            assert_eq!(then.status.code(), Some(0), "{kind}, {name}: {}{}", said(&first), said(&then));
            let titles: Vec<Value> = opened(&double).iter().map(|issue| issue["title"].clone()).collect();
            assert_eq!(titles.len(), 3, "{kind}, {name}: {titles:?}");
            assert_eq!(cards(&double).len(), 1, "{kind}, {name}: {:?}", cards(&double));
        }
    }
}

#[test]
fn two_at_once_leave_one_issue_a_task() {
    for kind in ["github", "gitea"] {
        let double = start(kind, &json!({}));
        let worlds = [World::new(RUNNER), World::new(RUNNER)];
        let started = worlds.iter().map(|world| {
            world.write("claude-bottle.yml", super::MANIFEST);
            let mut command: Command = world.runner();
            job(world, &double, command.arg("split"), "issues", &event(LIST));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the runner")
        });
        // Both go on before one is waited for.
        let started: Vec<_> = started.collect();
        for one in started {
            let out = one.wait_with_output().expect("the runner");
            assert_eq!(out.status.code(), Some(0), "{kind}: {}", said(&out));
        }
        let (_, out) = split(&double, &[], LIST);
        assert_eq!(out.status.code(), Some(0), "{kind}: {}", said(&out));
        let open: Vec<Value> = opened(&double).into_iter().filter(|issue| issue["state"] != "closed").collect();
        assert_eq!(open.len(), 3, "{kind}: {open:?}");
        let [card] = &cards(&double)[..] else { panic!("{kind}: {:?}", cards(&double)) };
        assert!(numbers(&open).iter().all(|n| card.contains(&format!("#{n}:"))), "{kind}: {card}");
        double.assert_valid();
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "list")]
    body: String,
    /// How often the text is there.
    #[serde(default = "once")]
    times: usize,
    /// Login and id of who gave the label.
    sender: Option<(String, u64)>,
    #[serde(default)]
    args: Vec<String>,
    /// `US` wrote ours.
    #[serde(default)]
    comments: Vec<Value>,
    #[serde(default)]
    issues: Vec<Value>,
    #[serde(default)]
    code: i32,
    says: String,
    /// How many issues are opened.
    #[serde(default)]
    opens: usize,
}

fn list() -> String {
    LIST.to_owned()
}

fn once() -> usize {
    1
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[test]
fn what_is_no_list_of_somebody_who_may_is_not_divided() {
    let cases: Cases = toml::from_str(include_str!("split.toml")).expect("the cases");
    for case in &cases.case {
        for kind in ["github", "gitea"] {
            let name = format!("{kind}, {}", case.name);
            let us = if kind == "github" { "github-actions[bot]" } else { "bottle" };
            let ours = |rows: &[Value]| -> Vec<Value> {
                rows.iter()
                    .map(|row| {
                        let mut row = row.clone();
                        if row["author"] == "US" {
                            row["author"] = json!(us);
                        }
                        row["created_at"] = json!("2026-03-02T09:21:00Z");
                        row["updated_at"] = json!("2026-03-02T09:30:00Z");
                        row
                    })
                    .collect()
            };
            let mut issues = vec![json!({"number": 7, "title": "Count", "author": "octo-reader"})];
            issues.extend(ours(&case.issues));
            let double = start(kind, &json!({"issues": issues, "comments": ours(&case.comments)}));
            let before = opened(&double).len();
            let world = World::new(RUNNER);
            let mut payload = event(&case.body.repeat(case.times).replace("{n}", "1"));
            if case.times > 1 {
                let all: String = (0..case.times).map(|n| case.body.replace("{n}", &n.to_string())).collect();
                payload["issue"]["body"] = json!(all);
            }
            if let Some((login, id)) = &case.sender {
                payload["sender"] = json!({"login": login, "id": id, "type": "User"});
            }
            let args: Vec<&str> = ["split"].into_iter().chain(case.args.iter().map(String::as_str)).collect();
            let out = run(&world, &double, &args, "issues", &payload);
            assert_eq!(out.status.code(), Some(case.code), "{name}: {}", said(&out));
            assert!(said(&out).contains(&case.says), "{name}: {}", said(&out));
            assert_eq!(opened(&double).len() - before, case.opens, "{name}: {:?}", opened(&double));
            assert_eq!(double.writes().is_empty(), case.opens == 0, "{name}: {:?}", double.writes());
            let issues: Vec<u64> = serde_json::from_str(&output(&world, "issues")).expect("numbers");
            assert_eq!(issues.len(), case.opens, "{name}");
            let text = said(&out);
            let shows_token =
                |line: &str| line.contains(&double.token) && line != format!("::add-mask::{}", double.token);
            assert!(!text.lines().any(shows_token), "{name}: {text}");
            double.assert_valid();
        }
    }
}
