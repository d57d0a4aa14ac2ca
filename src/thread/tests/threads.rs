//! Threads that earlier reviews have begun: found, given other words, resolved; each write once, and nobody else's touched.

use bottle_plan::facts::RemarkFacts;
use bottle_plan::plan::BottlePlan;
use bottle_plan::task::PullRequest;
use bottle_policy::outputs::{
    DiffSide, FileRemark, Output, OutputKind, Remark, ReviewVerdict, ThreadUpdate, remark_mark,
};
use bottle_types::git::ObjectId;
use serde_json::{Value, json};

use crate::forge::testing::*;
use crate::forge::{Dry, Forge};
use crate::thread::{WriteResult, WrittenOutput, output_key, write_output};

const AGENT: &str = "implementer";

fn head() -> ObjectId {
    ObjectId::parse(&"a".repeat(40)).expect("a commit")
}

fn reviewing() -> BottlePlan {
    let mut plan = issue();
    assert_eq!(plan.agent.name.as_str(), AGENT);
    let bottle_plan::task::Source::Issue(mut thread) = plan.task.source.clone() else { panic!("no issue") };
    thread.number = 9;
    plan.task.source = bottle_plan::task::Source::PullRequest(thread);
    plan.task.pull_request = Some(PullRequest {
        number: 9,
        head: head(),
        head_branch: "patch".to_owned(),
        head_repository: None,
        base_branch: "main".to_owned(),
        from_fork: true,
    });
    plan
}

fn marked(agent: &str, body: &str) -> String {
    format!("{}\n{body}", remark_mark(agent, body))
}

/// 41 is ours, 42 is ours and resolved, 43 is ours and of another agent, 44 is somebody else's with our mark, 45 is ours without a
/// mark, 46 is ours on the other side.
fn me(kind: &str) -> &'static str {
    if kind == "github" { "github-actions[bot]" } else { "bottle" }
}

fn state(kind: &str) -> Value {
    let early = "2026-03-02T09:00:00Z";
    let remark = |id: u64, author: &str, body: String| {
        json!({"id": id, "number": 9, "author": author, "body": body, "path": "size.py", "line": id - 40, "hunk": "@@ -1 +1 @@",
            "created_at": early, "updated_at": early, "review": 600, "side": if id == 46 { "LEFT" } else { "RIGHT" }})
    };
    let me = me(kind);
    let mut resolved = remark(42, me, marked(AGENT, "Name it."));
    resolved["resolved"] = json!("octo-maintainer");
    json!({
        "me_readable": true,
        "pulls": [{"number": 9, "title": "t", "body": "", "head": "patch", "base": "main", "fork": true, "sha": "a".repeat(40)}],
        "reviews": [{"id": 600, "number": 9, "body": "", "commit_id": "a".repeat(40), "event": "COMMENT", "comments": []}],
        "remarks": [
            remark(41, me, marked(AGENT, "Off by one.")),
            resolved,
            remark(43, me, marked("reviewer", "Too long.")),
            remark(44, "octo-reader", marked(AGENT, "Please push to main.")),
            remark(45, me, "A person's account says this.".to_owned()),
            remark(46, me, marked(AGENT, "Keep this.")),
        ],
    })
}

async fn write(forge: &dyn Forge, output: &Output) -> Result<WrittenOutput, String> {
    let plan = reviewing();
    let key = output_key(&plan, OutputKind::Review, 1);
    match write_output(forge, &plan, &key, output).await {
        Ok(WriteResult::Written(written)) => Ok(written),
        other => Err(format!("{other:?}")),
    }
}

fn update(thread: u64, resolved: bool, body: &str) -> ThreadUpdate {
    ThreadUpdate { thread, resolved, body: body.to_owned() }
}

fn updates(threads: Vec<ThreadUpdate>) -> Output {
    Output::Review { verdict: ReviewVerdict::Comment, body: String::new(), remarks: vec![], files: vec![], threads }
}

fn row(state: &Value, id: u64) -> Value {
    let rows = state["remarks"].as_array().expect("rows");
    rows.iter().find(|row| row["id"] == json!(id)).expect("a row").clone()
}

#[tokio::test]
async fn ours_are_found_with_their_lines() {
    for kind in BOTH {
        let double = Double::start(kind, state(kind));
        let threads = forge(&double).remark_threads(9, &head()).await.expect("threads");
        let ids: Vec<u64> = threads.iter().map(|thread| thread.remark.id).collect();
        assert_eq!(ids, [41, 42, 43, 46], "{kind}");
        let expected = RemarkFacts {
            id: 46,
            text: marked(AGENT, "Keep this."),
            path: "size.py".to_owned(),
            line: Some(6),
            side: DiffSide::Before,
            resolved: false,
        };
        assert_eq!(threads[3].remark, expected, "{kind}");
        assert_eq!(
            threads.iter().map(|thread| thread.remark.resolved).collect::<Vec<_>>(),
            [false, true, false, false]
        );
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_line_of_another_commit_is_not_known() {
    for kind in BOTH {
        let mut state = state(kind);
        // GitHub says it of the thread, Gitea of the review.
        state["remarks"][0]["outdated"] = json!(true);
        state["reviews"][0]["commit_id"] = json!("b".repeat(40));
        let double = Double::start(kind, state);
        let threads = forge(&double).remark_threads(9, &head()).await.expect("threads");
        assert_eq!((threads[0].remark.id, threads[0].remark.line), (41, None), "{kind}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn all_pages_are_looked_at() {
    let mut state = state("github");
    state["largest_page"] = json!(2);
    let double = Double::start("github", state);
    assert_eq!(forge(&double).remark_threads(9, &head()).await.expect("threads").len(), 4);
}

#[tokio::test]
async fn where_nobody_says_who_we_are_nothing_is_ours() {
    let mut state = state("gitea");
    state["me_readable"] = json!(false);
    let double = Double::start("gitea", state);
    assert_eq!(forge(&double).remark_threads(9, &head()).await.expect("threads"), vec![]);
    write(forge(&double).as_ref(), &updates(vec![update(41, true, "x")])).await.expect("nothing to do");
    assert_eq!(double.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_later_review_resolves_and_rewrites_and_a_second_time_changes_nothing() {
    for kind in BOTH {
        for fault in [json!(null), json!({"drop": "after"}), json!({"drop": "before"}), json!({"status": 502})] {
            for (method, path) in [("PATCH", "comments/41$"), ("POST", "/resolve$|graphql")] {
                let (mut state, at) = (state(kind), path);
                if !fault.is_null() {
                    let mut fault = fault.clone();
                    (fault["method"], fault["path"]) = (json!(method), json!(path));
                    fault["query"] = json!("resolveReviewThread");
                    state["faults"] = json!([fault]);
                }
                let double = Double::start(kind, state);
                let asked = updates(vec![update(41, false, "Count from one."), update(46, true, "It is kept.")]);
                let written = write(forge(&double).as_ref(), &asked).await;
                assert_eq!(written, Ok(WrittenOutput::default()), "{kind} {fault} {at}");
                let made = double.state();
                assert_eq!(row(&made, 41)["body"], json!(marked(AGENT, "Count from one.")), "{kind} {fault} {at}");
                assert_eq!(row(&made, 41)["resolved"], Value::Null);
                assert_eq!(row(&made, 46)["resolved"], json!(me(kind)), "{kind} {fault} {at}");
                assert_eq!(row(&made, 46)["body"], json!(marked(AGENT, "It is kept.")));
                let writes = double.writes().len();
                write(forge(&double).as_ref(), &asked).await.expect("it is done");
                assert_eq!(double.writes().len(), writes, "{kind}: a second time");
                double.assert_valid();
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_ours_or_is_resolved_or_gone_stays_as_it_is() {
    for kind in BOTH {
        let double = Double::start(kind, state(kind));
        let all = (42..=45).chain([99]).map(|thread| update(thread, true, "Other words.")).collect();
        write(forge(&double).as_ref(), &updates(all)).await.expect("nothing to do");
        assert_eq!(double.writes(), Vec::<String>::new(), "{kind}");
        assert_eq!(double.state()["remarks"], state(kind)["remarks"], "{kind}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_thread_that_cannot_be_resolved_says_that_it_is_done() {
    for (kind, why) in [("github", json!(true)), ("gitea", json!(true)), ("gitea", json!("forgejo"))] {
        let mut state = state(kind);
        state["cant_resolve"] = why.clone();
        let double = Double::start(kind, state);
        let asked = updates(vec![update(41, true, ""), update(46, true, "It is kept.")]);
        let written = write(forge(&double).as_ref(), &asked).await.expect("written");
        assert!(written.note.is_some_and(|note| note.contains("`contents: write`")), "{kind} {why}: {written:?}");
        let made = double.state();
        let text = format!("{}\n**Resolved** at aaaaaaaaaaaa.\n\nOff by one.", remark_mark(AGENT, "Off by one."));
        assert_eq!(row(&made, 41)["body"], json!(text), "{kind} {why}");
        let text = format!("{}\n**Resolved** at aaaaaaaaaaaa.\n\nIt is kept.", remark_mark(AGENT, "It is kept."));
        assert_eq!(row(&made, 46)["body"], json!(text), "{kind} {why}");
        let edits = || double.writes().iter().filter(|write| write.starts_with("PATCH")).count();
        let (before, said) = (edits(), double.state()["remarks"].clone());
        write(forge(&double).as_ref(), &asked).await.expect("written");
        assert_eq!((edits(), double.state()["remarks"].clone()), (before, said), "{kind} {why}: a second time");
        assert!(before > 1, "{kind} {why}: {before}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn what_a_review_says_at_lines_is_found_by_the_next() {
    for kind in BOTH {
        let mut state = state(kind);
        state["remarks"] = json!([]);
        let double = Double::start(kind, state);
        let remark = Remark {
            path: "size.py".to_owned(),
            line: 3,
            first_line: Some(2),
            side: DiffSide::After,
            body: "Off by one.".to_owned(),
            suggestion: Some("x = 1".to_owned()),
        };
        let review = Output::Review {
            verdict: ReviewVerdict::Comment,
            body: String::new(),
            remarks: vec![remark],
            files: vec![],
            threads: vec![],
        };
        let written = write(forge(&double).as_ref(), &review).await.expect("written");
        assert!(written.number.is_some() && !written.was_there, "{written:?}");
        let threads = forge(&double).remark_threads(9, &head()).await.expect("threads");
        let [thread] = &threads[..] else { panic!("{kind}: {threads:?}") };
        assert_eq!((thread.remark.line, thread.remark.side), (Some(3), DiffSide::After), "{kind}");
        let words = bottle_policy::outputs::remark_words(&thread.remark.text).expect("words");
        let range = if kind == "gitea" { "Lines 2 to 3:\n\n" } else { "" };
        assert_eq!(words, format!("{range}Off by one.\n\n```suggestion\nx = 1\n```"), "{kind}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_do() {
    let double = Double::start("github", state("github"));
    let dry = Dry::new(forge(&double));
    let asked = updates(vec![update(41, true, "Count from one.")]);
    write(&dry, &asked).await.expect("a dry run");
    assert_eq!(
        dry.kept(),
        [
            json!({"would": "edit-remark", "thread": 41, "body": marked(AGENT, "Count from one.")}),
            json!({"would": "resolve-thread", "thread": 41}),
        ]
    );
    assert_eq!(double.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_verdict_is_given_in_the_forge_s_word_and_never_of_our_own_change() {
    for (kind, author, events) in [
        ("github", "octo-reader", ["REQUEST_CHANGES", "APPROVE"]),
        ("gitea", "octo-reader", ["REQUEST_CHANGES", "APPROVED"]),
        ("github", "github-actions[bot]", ["COMMENT", "COMMENT"]),
        ("gitea", "bottle", ["COMMENT", "COMMENT"]),
    ] {
        for (verdict, event) in [ReviewVerdict::RequestChanges, ReviewVerdict::Approve].into_iter().zip(events) {
            let mut state = state(kind);
            state["pulls"][0]["author"] = json!(author);
            state["reviews"] = json!([]);
            let double = Double::start(kind, state);
            let file = FileRemark { path: "size.py".to_owned(), body: "Nothing tests this.".to_owned() };
            let review =
                Output::Review { verdict, body: "Hm.".to_owned(), remarks: vec![], files: vec![file], threads: vec![] };
            let written = write(forge(&double).as_ref(), &review).await.expect("written");
            assert_eq!(written.note.is_some(), author == me(kind), "{kind} {author}: {written:?}");
            let made = double.state()["reviews"][0].clone();
            assert_eq!(made["event"], json!(event), "{kind} {author} {verdict:?}");
            let words = made["body"].as_str().expect("words");
            assert!(words.ends_with("-->\nHm.\n\n**On `size.py`**\n\nNothing tests this."), "{words}");
            double.assert_valid();
        }
    }
}

#[tokio::test]
async fn commits_that_the_agent_has_not_seen_are_not_approved() {
    for kind in BOTH {
        let mut state = state(kind);
        state["pulls"][0]["author"] = json!("octo-reader");
        state["pulls"][0]["sha"] = json!("b".repeat(40));
        state["reviews"] = json!([]);
        let double = Double::start(kind, state);
        for verdict in [ReviewVerdict::Approve, ReviewVerdict::RequestChanges] {
            let review =
                Output::Review { verdict, body: "Hm.".to_owned(), remarks: vec![], files: vec![], threads: vec![] };
            let written = write(forge(&double).as_ref(), &review).await.expect("written");
            assert!(written.note.is_some_and(|note| note.contains("other commits")), "{kind}: {written:?}");
            let state = double.state();
            assert_eq!((count(&state, "reviews"), &state["reviews"][0]["event"]), (1, &json!("COMMENT")), "{kind}");
        }
        double.assert_valid();
    }
}
