//! One pull request for one task, whatever goes wrong.

use bottle_plan::plan::BottlePlan;
use serde_json::Value;
use serde_json::json;

use crate::forge::testing::*;
use crate::forge::{Dry, Forge};
use crate::thread::publish;
use crate::thread::pull_request::PublishResult;

const BRANCH: &str = "bottle/issue-7-words";

async fn propose(double: &Double, draft: bool, card: &str) -> Result<PublishResult, String> {
    let published =
        publish(forge(double).as_ref(), &issue(), BRANCH, draft, card).await.map_err(|error| told(&error))?;
    Ok(published.expect("something to propose"))
}

fn fault(method: &str, fault: Value) -> Value {
    let mut fault = fault;
    fault["method"] = json!(method);
    fault["path"] = json!("/pulls");
    json!({"faults": [fault]})
}

#[tokio::test]
async fn it_is_opened_once_and_renewed_after() {
    for kind in BOTH {
        let double = Double::start(
            kind,
            json!({"largest_page": 2, "pulls": [
                {"number": 1, "title": "Somebody's", "body": "x", "head": BRANCH, "base": "main", "fork": true},
                {"number": 2, "title": "Closed", "body": "x", "head": BRANCH, "base": "main", "state": "closed"},
                {"number": 3, "title": "Other", "body": "x", "head": "bottle/other", "base": "main"},
                {"number": 4, "title": "Other", "body": "x", "head": "bottle/another", "base": "main"},
            ]}),
        );
        let first = propose(&double, true, "the first run").await.expect("it is opened");
        assert!(first.opened && first.pull.draft, "{first:?}");
        let again = propose(&double, false, "the second run").await.expect("it is renewed");
        assert!(!again.opened && again.pull.number == first.pull.number, "{again:?}");
        let state = double.state();
        assert_eq!(count(&state, "pulls"), 5, "{state}");
        let pull = &state["pulls"][4];
        let body = pull["body"].as_str().expect("a text");
        assert!(
            body.starts_with("Closes #7.\n") && body.contains("the second run") && !body.contains("the first"),
            "{body}"
        );
        assert_eq!(
            pull["title"], "Words followed by punctuation are counted wrong",
            "Gitea's draft mark comes and goes"
        );
        assert_eq!(state["pulls"][0]["body"], "x", "a fork's pull request from a branch of that name is not ours");
        double.assert_valid();
    }
}

#[tokio::test]
async fn there_are_never_two() {
    for kind in BOTH {
        for (what, opened, state) in [
            ("opened, and the line dropped", false, fault("POST", json!({"drop": "after"}))),
            ("not opened, and the line dropped", true, fault("POST", json!({"drop": "before"}))),
            ("not opened: 500", true, fault("POST", json!({"status": 500}))),
            ("not opened: busy", true, fault("POST", json!({"status": 503, "headers": {"Retry-After": "1"}}))),
            ("not opened: rate limit", true, fault("POST", json!({"status": 429, "headers": {"Retry-After": "1"}}))),
        ] {
            let double = Double::start(kind, state);
            let made = propose(&double, false, "card").await.unwrap_or_else(|error| panic!("{kind}, {what}: {error}"));
            assert_eq!(made.opened, opened, "{kind}, {what}");
            assert_eq!(count(&double.state(), "pulls"), 1, "{kind}, {what}");
            double.assert_valid();
        }
    }
}

#[tokio::test]
async fn somebody_who_was_faster_is_found() {
    // Between looking and opening: the first look finds nothing, though it is there.
    for kind in BOTH {
        let double = Double::start(
            kind,
            json!({
                "pulls": [{"number": 3, "title": "Mine", "body": "My notes.", "head": BRANCH, "base": "main"}],
                "faults": [{"method": "GET", "path": "/pulls$", "status": 200, "body": [], "times": 1}],
            }),
        );
        let made = propose(&double, false, "card").await.expect("it is found");
        assert!(!made.opened && made.pull.number == 3, "{made:?}");
        let body = double.state()["pulls"][0]["body"].as_str().expect("a text").to_owned();
        assert!(body.starts_with("My notes.\n\n") && body.contains("card"), "{body}");
    }
}

#[tokio::test]
async fn what_the_forge_refuses_is_said_with_what_to_do() {
    for (status, message, says) in [
        (403, "GitHub Actions is not permitted to create or approve pull requests.", "Allow GitHub Actions to create"),
        (404, "Not Found", "not there, or not for this token"),
        (409, "conflict", "run it again"),
        (422, "Validation Failed", "its words say which part"),
    ] {
        let double =
            Double::start("github", fault("POST", json!({"status": status, "body": {"message": message}, "times": 9})));
        let error = propose(&double, false, "card").await.unwrap_err();
        assert!(
            error.contains("failed to open the pull request: POST https://")
                && error.contains(message)
                && error.contains(says),
            "{error}"
        );
        assert_eq!(count(&double.state(), "pulls"), 0);
        assert_eq!(double.writes().len(), 1, "a refusal is not tried again");
    }
    let double = Double::start("github", fault("POST", json!({"status": 500, "times": 99})));
    let error = propose(&double, false, "card").await.unwrap_err();
    assert!(error.contains("500") && error.contains("check that the forge is up"), "{error}");
    assert_eq!(double.writes().len(), 3, "{:?}", double.writes());
}

#[tokio::test]
async fn where_there_are_no_drafts_it_is_opened_all_the_same() {
    let double = Double::start("github", json!({"no_drafts": true}));
    let made = propose(&double, true, "card").await.expect("it is opened");
    assert!(made.opened && !made.pull.draft, "{made:?}");
    assert_eq!(count(&double.state(), "pulls"), 1);
}

#[tokio::test]
async fn a_title_of_somebody_s_is_no_command() {
    let event = include_str!("../../../examples/issue-labeled.json")
        .replace("Words followed by", "@everyone fixes #1 \\u202e<b> ");
    let double = Double::start("github", json!({}));
    publish(forge(&double).as_ref(), &plan(Some(&event)), BRANCH, false, "card").await.expect("it is opened");
    let title = double.state()["pulls"][0]["title"].as_str().expect("a title").to_owned();
    assert!(!title.contains("@e") && !title.contains("fixes #1") && !title.contains('\u{202e}'), "{title}");
}

#[tokio::test]
async fn a_dry_run_reads_and_writes_nothing() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let dry = Dry::new(forge(&double));
        publish(&dry, &issue(), BRANCH, true, "card").await.expect("it would be opened");
        dry.comment(7, "one").await.expect("it would be written");
        dry.edit_comment(0, "two").await.expect("it would be written");
        assert!(double.writes().is_empty(), "{:?}", double.writes());
        let kept = dry.kept();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert_eq!((&kept[0]["would"], &kept[0]["draft"]), (&json!("open-pull-request"), &json!(true)));
        assert_eq!((&kept[1]["would"], &kept[1]["body"]), (&json!("comment"), &json!("two")));
    }
}

#[tokio::test]
async fn a_text_s_pull_request_goes_to_the_default_branch() {
    let double = Double::start("github", json!({"default_branch": "trunk"}));
    let plan = plan(None);
    assert_eq!(plan.git.as_ref().and_then(|git| git.base.clone()), None);
    publish(forge(&double).as_ref(), &plan, BRANCH, false, "card").await.expect("it is opened");
    let pull = double.state()["pulls"][0].clone();
    assert_eq!((&pull["base"], &pull["title"]), (&json!("trunk"), &json!("Tidy up")));
    assert!(!pull["body"].as_str().expect("a text").contains("Closes"));
}

#[tokio::test]
async fn a_branch_with_nothing_new_is_no_failure() {
    let body = json!({"message": "Validation Failed", "errors": [{"resource": "PullRequest", "code": "custom",
        "message": "No commits between main and bottle/issue-7-words"}]});
    let double = Double::start("github", fault("POST", json!({"status": 422, "body": body, "times": 9})));
    let made = publish(forge(&double).as_ref(), &issue(), BRANCH, false, "card").await.expect("no failure");
    assert_eq!(made, None);
    assert_eq!(double.writes().len(), 1);
}

fn labelled() -> BottlePlan {
    let mut plan = issue();
    plan.agent.labels = vec!["bot: claude".to_owned(), "needs review".to_owned()];
    plan
}

#[tokio::test]
async fn labels_come_with_the_opening_and_are_no_condition() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let forge = forge(&double);
        for _ in 0..2 {
            let made = publish(forge.as_ref(), &labelled(), BRANCH, false, "card").await.expect("it is proposed");
            let trouble = made.expect("one").trouble;
            assert!(trouble.is_empty(), "{kind}: {trouble:?}");
        }
        assert_eq!(double.state()["pulls"][0]["labels"], json!(["bot: claude", "needs review"]), "{kind}");
        assert_eq!(
            double.writes().iter().filter(|write| write.ends_with("/labels")).count(),
            1,
            "at the opening alone"
        );
        double.assert_valid();

        let fault = json!({"method": "POST", "path": "/labels$", "status": 404, "times": 9});
        let double = Double::start(kind, json!({"faults": [fault]}));
        let made =
            publish(self::forge(&double).as_ref(), &labelled(), BRANCH, false, "card").await.expect("it is opened");
        let trouble = made.expect("one").trouble;
        assert!(trouble.len() == 1 && trouble[0].contains("failed to add the labels"), "{trouble:?}");
    }
}

#[tokio::test]
async fn a_draft_of_ours_ends_when_a_run_passes_and_begins_again_when_one_fails() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        for (draft, is_draft) in
            [(true, true), (true, true), (false, false), (false, false), (true, true), (false, false)]
        {
            let made = propose(&double, draft, "card").await.expect("it is proposed");
            assert_eq!(made.pull.draft, is_draft, "{kind}");
            assert!(made.trouble.is_empty(), "{kind}: {:?}", made.trouble);
            let pull = double.state()["pulls"][0].clone();
            let shown = pull["draft"] == true || pull["title"].as_str().is_some_and(|title| title.starts_with("WIP: "));
            assert_eq!(shown, is_draft, "{kind}: {pull}");
        }
        double.assert_valid();
    }
}

#[tokio::test]
async fn somebody_s_own_draft_stays_one() {
    let pulls =
        json!([{"number": 3, "title": "Mine", "body": "My notes.", "head": BRANCH, "base": "main", "draft": true}]);
    let double = Double::start("github", json!({"pulls": pulls}));
    let made = propose(&double, false, "card").await.expect("it is renewed");
    assert!(made.pull.draft && double.state()["pulls"][0]["draft"] == true, "{made:?}");
    // What can't be changed is said, and no failure.
    let double = Double::start("github", json!({}));
    propose(&double, true, "card").await.expect("it is opened");
    let double = Double::start("github", json!({"pulls": double.state()["pulls"], "no_graphql": true}));
    let made = propose(&double, false, "card").await.expect("it is renewed");
    assert!(made.pull.draft && made.trouble[0].contains("Resource not accessible by integration"), "{made:?}");
}
