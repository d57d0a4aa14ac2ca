//! Orders in comments: what is done again, and what a stop says where nothing runs.

use bottle_testkit::{Double, World, said};
use serde_json::{Value, json};

use super::{labeled, output, run};
use crate::RUNNER;

const EARLY: &str = "2026-03-02T09:00:00Z";
const ASKED: &str = "2026-03-02T09:20:35Z";

fn comment(login: &str, id: u64, body: &str) -> Value {
    let mut event = labeled(login, id);
    event["action"] = json!("created");
    event["comment"] = json!({
        "id": 900, "body": body, "user": event["sender"], "html_url": "https://git.bottle.test/c", "created_at": ASKED,
        "updated_at": ASKED, "author_association": "MEMBER",
    });
    event.as_object_mut().expect("an object").remove("label");
    event
}

fn said_before(id: u64, author: &str, body: &str, changed: &str) -> Value {
    json!({"id": id, "number": 7, "author": author, "body": body, "created_at": EARLY, "updated_at": changed})
}

#[test]
fn the_last_command_of_one_who_may_is_done_again() {
    for kind in ["github", "gitea"] {
        let comments = json!([
            said_before(1, "octo-maintainer", "/claude the first", EARLY),
            said_before(2, "octo-admin", "Hello,\n/claude agent=implementer the second", EARLY),
            said_before(3, "octo-reader", "/claude what a reader wants", EARLY),
            said_before(4, "helper[bot]", "/claude what a bot wants", EARLY),
            said_before(5, "octo-maintainer", "/claude stop", EARLY),
            said_before(6, "octo-maintainer", "> /claude quoted", EARLY),
            said_before(901, "octo-maintainer", "/claude later", ASKED),
        ]);
        let double = Double::start(kind, json!({"comments": comments}));
        let world = World::new(RUNNER);
        let event = comment("octo-maintainer", 5_550_108, "/claude retry");
        let out = run(&world, &double, &["plan", "--format", "json"], "issue_comment", &event);
        assert!(out.status.success(), "{kind}: {}", said(&out));
        let plan: Value = serde_json::from_slice(&out.stdout).expect("a plan");
        assert_eq!(plan["task"]["instruction"], "the second", "{kind}");
        assert_eq!(plan["task"]["asked_by"]["id"], 5_550_109, "{kind}");
        assert_eq!(plan["task"]["asked_at"], ASKED, "{kind}");
        assert!(double.writes().is_empty());
        double.assert_valid();
    }
}

#[test]
fn what_was_changed_is_not_done_again_nor_what_nobody_asked_for() {
    for (comments, asker, id, code, says) in [
        (
            json!([
                said_before(1, "octo-maintainer", "/claude first", EARLY),
                said_before(2, "octo-maintainer", "/claude second", ASKED)
            ]),
            "octo-maintainer",
            5_550_108,
            3,
            "the last command, by octo-maintainer, was changed after it was written",
        ),
        (
            json!([said_before(1, "octo-reader", "/claude first", EARLY)]),
            "octo-maintainer",
            5_550_108,
            2,
            "nothing to do again in issue #7",
        ),
        (
            json!([said_before(1, "octo-maintainer", "/claude first", EARLY)]),
            "octo-reader",
            5_550_107,
            // Anybody can write a comment: no job is red for it.
            0,
            "write is needed",
        ),
        (json!([]), "octo-maintainer", 5_550_108, 2, "nothing to do again in issue #7"),
    ] {
        let double = Double::start("github", json!({"comments": comments}));
        let world = World::new(RUNNER);
        let out = run(&world, &double, &["run"], "issue_comment", &comment(asker, id, "/claude retry"));
        assert_eq!(out.status.code(), Some(code), "{}", said(&out));
        assert!(said(&out).contains(says), "{}", said(&out));
        assert!(double.writes().is_empty() && world.slugs().is_empty());
    }
}

#[test]
fn what_a_label_or_a_schedule_has_had_done_is_done_again() {
    let line = "<!-- claude-bottle: asked 00112233/12/2026-03-02T09:10:00Z -->";
    let status = format!(
        "<!-- claude-bottle: status -->\n<!-- claude-bottle: run issue-7-x ended {EARLY} 4 https://x -->\n{line}\ndone"
    );
    for kind in ["github", "gitea"] {
        let us = if kind == "github" { "github-actions[bot]" } else { "bottle" };
        for (comments, again) in [
            (json!([said_before(1, us, &status, EARLY)]), true),
            (json!([said_before(1, us, &status, EARLY), said_before(2, "octo-reader", "Thank you!", EARLY)]), true),
            // Somebody else's is no run's.
            (json!([said_before(1, "octo-reader", &status, EARLY)]), false),
            // What the last run was asked for was perhaps this.
            (json!([said_before(1, us, &status, EARLY), said_before(2, "octo-reader", "/claude that", EARLY)]), false),
        ] {
            let double = Double::start(kind, json!({"comments": comments}));
            let event = comment("octo-maintainer", 5_550_108, "/claude retry");
            let out = run(&World::new(RUNNER), &double, &["plan", "--format", "json"], "issue_comment", &event);
            assert_eq!(out.status.code(), Some(if again { 0 } else { 2 }), "{kind}: {}", said(&out));
            if again {
                let plan: Value = serde_json::from_slice(&out.stdout).expect("a plan");
                assert_eq!(
                    (&plan["task"]["instruction"], &plan["task"]["source"]["comment_id"]),
                    (&json!(""), &json!(900))
                );
                assert_eq!(plan["task"]["asked_by"]["id"], 5_550_108, "{kind}");
            } else {
                assert!(said(&out).contains("nothing to do again in issue #7"), "{kind}: {}", said(&out));
            }
            assert!(double.writes().is_empty());
            double.assert_valid();
        }
    }
}

#[test]
fn a_stop_where_nothing_runs_says_so() {
    for kind in ["github", "gitea"] {
        let double = Double::start(kind, json!({}));
        let world = World::new(RUNNER);
        let out =
            run(&world, &double, &["run"], "issue_comment", &comment("octo-maintainer", 5_550_108, "/claude stop"));
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(said(&out).contains("no run is going on for issue #7"), "{}", said(&out));
        assert_eq!(output(&world, "conclusion"), "success");
        let world = World::new(RUNNER);
        let out = run(&world, &double, &["run"], "issue_comment", &comment("octo-reader", 5_550_107, "/claude stop"));
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(said(&out).contains("::notice title=claude-bottle::refused: octo-reader"), "{}", said(&out));
        assert_eq!(output(&world, "conclusion"), "refused");
        assert!(double.writes().is_empty());
        double.assert_valid();
    }
}
