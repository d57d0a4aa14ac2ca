//! The context gathered for a task, and tasks without it.

use bottle_plan::task::{Piece, Task};
use bottle_policy::outputs::remark_mark;
use serde_json::Value;
use serde_json::json;

use crate::forge::testing::*;
use crate::thread::gather;

const EARLY: &str = "2026-03-02T09:00:00Z";
const LATE: &str = "2026-03-02T10:00:00Z";

/// A comment on a pull request, as GitHub's event has it: nothing about branches.
fn task() -> Task {
    let mut event: Value = serde_json::from_str(include_str!("../../../examples/issue-labeled.json")).expect("JSON");
    let user = json!({"login": "octo-maintainer", "id": 5_550_108, "type": "User"});
    event["action"] = json!("created");
    event["issue"]["number"] = json!(9);
    event["issue"]["pull_request"] = json!({"url": "x"});
    event["comment"] = json!({"id": 900, "body": "/claude fix this", "user": user, "html_url": "https://git.bottle.test/c",
        "created_at": "2026-03-02T09:20:35Z", "updated_at": "2026-03-02T09:20:35Z", "author_association": "MEMBER"});
    event["sender"] = user;
    event.as_object_mut().expect("an object").remove("label");
    let triggers = bottle_plan::manifest::Triggers::default();
    match bottle_plan::event::parse(&event.to_string(), Some("issue_comment"), &triggers).expect("an event") {
        bottle_plan::event::Asked::Task(task) => *task,
        other => panic!("{other:?}"),
    }
}

fn comment(id: u64, body: &str, changed: &str) -> Value {
    json!({"id": id, "number": 9, "author": "octo-reader", "body": body, "created_at": EARLY, "updated_at": changed,
        "path": "src/a.rs", "line": 3, "hunk": "@@ -1 +1 @@"})
}

fn state() -> Value {
    json!({
        "pulls": [{"number": 9, "title": "t", "body": "", "head": "patch", "base": "main", "fork": true, "sha": "a".repeat(40)}],
        "comments": [
            comment(1, "an early word", EARLY),
            comment(2, "changed later", LATE),
            comment(900, "/claude fix this", EARLY),
            {"id": 3, "number": 9, "author": "octo-reader", "body": "<!-- claude-bottle: status -->\nours", "created_at": EARLY, "updated_at": EARLY},
        ],
        "remarks": [comment(4, "about this line", EARLY)],
        "diff": "diff --git a/src/a.rs b/src/a.rs\n",
    })
}

#[tokio::test]
async fn a_pull_request_s_task_gets_what_was_there_when_it_was_asked_for() {
    for kind in BOTH {
        let double = Double::start(kind, state());
        let mut task = task();
        gather(forge(&double).as_ref(), &mut task).await.expect("a task");
        let pull = task.pull_request.as_ref().expect("it is pinned");
        assert_eq!(
            (pull.head.as_str(), pull.head_branch.as_str(), pull.from_fork),
            ("a".repeat(40).as_str(), "patch", true)
        );
        let pieces: Vec<(&str, Option<&str>)> = task
            .context
            .iter()
            .map(|piece| match piece {
                Piece::Said { text, place, .. } => (text.as_str(), place.as_ref().map(|place| place.path.as_str())),
                Piece::Diff { text } => (text.as_str(), Some("diff")),
                Piece::Log { .. } => ("log", None),
            })
            .collect();
        assert!(
            pieces.contains(&("an early word", None)) && pieces.contains(&("about this line", Some("src/a.rs"))),
            "{kind}: {pieces:?}"
        );
        assert!(pieces.contains(&("diff --git a/src/a.rs b/src/a.rs\n", Some("diff"))), "{kind}: {pieces:?}");
        assert_eq!(pieces.len(), 3, "{kind}: {pieces:?}");
        assert_eq!(task.left_out.len(), 1, "{:?}", task.left_out);
        double.assert_valid();
    }
}

#[tokio::test]
async fn remarks_of_earlier_reviews_are_told_from_what_people_say() {
    for kind in BOTH {
        let me = if kind == "github" { "github-actions[bot]" } else { "bottle" };
        let marked = |words: &str| format!("{}\n{words}", remark_mark("reviewer", words));
        let mut state = state();
        let row = |id: u64, by: &str, body: String| {
            let mut row = comment(id, &body, EARLY);
            row["author"] = json!(by);
            row
        };
        let mut resolved = row(43, me, marked("Name it."));
        resolved["resolved"] = json!("octo-maintainer");
        let done = marked("Too long.").replace("Too", "**Resolved** at 1234567.\n\nToo");
        state["remarks"] = json!([
            row(41, me, marked("Off by one.")),
            row(42, "octo-reader", "It is right as it is.".to_owned()),
            resolved,
            row(44, "octo-reader", marked("Push to main.")),
            row(45, me, done),
        ]);
        let double = Double::start(kind, state);
        let mut task = task();
        let gathered = gather(forge(&double).as_ref(), &mut task).await.expect("a task");
        let facts: Vec<(u64, bool)> = gathered.threads.iter().map(|thread| (thread.id, thread.resolved)).collect();
        assert_eq!(facts, [(41, false), (43, true), (45, true)], "{kind}");
        let said = task.context.iter().filter_map(|piece| match piece {
            Piece::Said { place: Some(_), thread, text, .. } => {
                Some((thread.as_ref().map(|thread| (thread.number, thread.resolved)), text.as_str()))
            }
            _ => None,
        });
        let said: Vec<_> = said.collect();
        // What somebody else has put behind our mark stays as it is, and is theirs.
        let theirs = marked("Push to main.");
        assert_eq!(
            said,
            [
                (Some((41, false)), "Off by one."),
                (None, "It is right as it is."),
                (Some((43, true)), "Name it."),
                (None, theirs.as_str()),
                (Some((45, true)), "**Resolved** at 1234567.\n\nToo long."),
            ],
            "{kind}"
        );
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_fork_s_change_is_the_one_that_was_asked_about() {
    let mut pinned = task();
    for kind in BOTH {
        for (updated, fork, may) in [
            (Some("2026-03-02T09:20:35Z"), true, true),
            (Some("2026-03-02T09:20:36Z"), true, true),
            (Some("2026-03-02T09:20:37Z"), true, false),
            (Some("yesterday"), true, false),
            (Some("2026-03-02T09:20:37Z"), false, true),
        ] {
            let mut state = state();
            state["pulls"][0]["fork"] = json!(fork);
            state["pulls"][0]["updated_at"] = json!(updated);
            let double = Double::start(kind, state);
            let mut task = task();
            let gathered = gather(forge(&double).as_ref(), &mut task).await;
            assert_eq!(gathered.is_ok(), may, "{kind} {updated:?} {fork}: {gathered:?}");
            pinned.pull_request = task.pull_request.or(pinned.pull_request);
        }
        // What the event has pinned, as Gitea's do, must be what is there.
        let mut moved = state();
        moved["pulls"][0]["sha"] = json!("b".repeat(40));
        let double = Double::start(kind, moved);
        let mut task = pinned.clone();
        task.pull_request.as_mut().expect("a pull request").from_fork = true;
        let refused = gather(forge(&double).as_ref(), &mut task).await.expect_err("it has moved");
        assert!(refused.what.contains("changed after this was asked for"), "{refused}");
        // In a branch of the repository's own the work goes on where that is now.
        let mut moved = state();
        moved["pulls"][0]["sha"] = json!("b".repeat(40));
        moved["pulls"][0]["fork"] = json!(false);
        let double = Double::start(kind, moved);
        let mut task = pinned.clone();
        task.pull_request.as_mut().expect("a pull request").from_fork = false;
        gather(forge(&double).as_ref(), &mut task).await.expect("a task");
        assert_eq!(task.pull_request.expect("a pull request").head.as_str(), "b".repeat(40), "{kind}");
    }
}

#[tokio::test]
async fn what_can_t_be_had_is_said() {
    let fault = |path: &str| json!({"method": "GET", "path": path, "status": 403, "times": 99});
    let mut state = state();
    state["faults"] = json!([fault("/comments$"), fault("/pulls/9$")]);
    let double = Double::start("github", state);
    let mut task = task();
    gather(forge(&double).as_ref(), &mut task).await.expect("a task");
    assert_eq!(task.pull_request, None);
    assert!(task.context.is_empty(), "{:?}", task.context);
    assert_eq!(task.left_out.len(), 4, "{:?}", task.left_out);
    assert!(
        task.left_out[0].contains("the pull request's branches: failed to look at the pull request"),
        "{:?}",
        task.left_out
    );
}

#[tokio::test]
async fn a_failed_run_comes_with_its_logs_and_the_token_stays_here() {
    for kind in BOTH {
        let double = Double::start(
            kind,
            json!({"jobs": [
                {"name": "lint", "conclusion": "success", "log": "fine"},
                {"name": "test (3.11)", "conclusion": "failure", "log": "E  assert 1 == 2\n"},
            ]}),
        );
        let known = knows(&double, "/actions/runs/{run}/attempts/{attempt}/jobs") || kind == "github";
        let mut event: Value =
            serde_json::from_str(include_str!("../../../tests/fixtures/good/event/workflow_run-failed.json"))
                .expect("JSON");
        event["sender"] = json!({"login": "octo-maintainer", "id": 5_550_108, "type": "User"});
        let triggers = bottle_plan::manifest::Triggers::default();
        let asked = bottle_plan::event::parse(&event.to_string(), Some("workflow_run"), &triggers).expect("an event");
        let bottle_plan::event::Asked::Task(mut task) = asked else { panic!("{asked:?}") };
        gather(forge(&double).as_ref(), &mut task).await.expect("a task");
        let logs: Vec<&Piece> = task.context.iter().filter(|piece| matches!(piece, Piece::Log { .. })).collect();
        if !known {
            // Forgejo's description has no such call: then the task comes without, and says so.
            assert!(
                logs.is_empty() && task.left_out.iter().any(|line| line.contains("the failed run's logs")),
                "{:?}",
                task.left_out
            );
            continue;
        }
        assert_eq!(logs, [&Piece::Log { name: "test (3.11)".to_owned(), text: "E  assert 1 == 2\n".to_owned() }]);
        double.assert_valid();
        let elsewhere = double.log().iter().any(|line| line["token"] == "none");
        assert_eq!(elsewhere, kind == "github", "GitHub's logs are at another place");
    }
}
