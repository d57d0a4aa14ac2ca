//! A review is handed in once.

use bottle_plan::plan::BottlePlan;
use bottle_plan::task::PullRequest;
use bottle_types::git::ObjectId;
use serde_json::json;

use crate::forge::testing::*;
use crate::thread::hand_in;

fn plan_of_a_review() -> BottlePlan {
    let mut plan = issue();
    plan.task.pull_request = Some(PullRequest {
        number: 9,
        head: ObjectId::parse(&"a".repeat(40)).expect("a commit"),
        head_branch: "patch".to_owned(),
        head_repository: None,
        base_branch: "main".to_owned(),
        from_fork: true,
    });
    plan
}

#[tokio::test]
async fn it_is_of_the_commit_that_was_asked_about_and_never_twice() {
    for kind in BOTH {
        for fault in [json!(null), json!({"drop": "after"}), json!({"drop": "before"}), json!({"status": 502})] {
            let mut state = json!({"pulls": [{"number": 9, "title": "t", "body": "", "head": "patch", "base": "main", "fork": true}]});
            if !fault.is_null() {
                let mut fault = fault.clone();
                fault["method"] = json!("POST");
                fault["path"] = json!("/reviews$");
                state["faults"] = json!([fault]);
            }
            let double = Double::start(kind, state);
            hand_in(forge(&double).as_ref(), &plan_of_a_review(), "All is well.").await.expect("it is handed in");
            let state = double.state();
            assert_eq!(count(&state, "reviews"), 1, "{kind} {fault}");
            let review = &state["reviews"][0];
            assert_eq!((&review["commit_id"], &review["event"]), (&json!("a".repeat(40)), &json!("COMMENT")));
            assert!(review["body"].as_str().is_some_and(|body| body.ends_with("-->\nAll is well.")), "{review}");
            double.assert_valid();
        }
    }
}

#[tokio::test]
async fn a_refusal_is_said() {
    let fault = json!({"method": "POST", "path": "/reviews$", "status": 422, "times": 9, "body": {"message": "commit_id is not part of the pull request"}});
    let double = Double::start("github", json!({"faults": [fault]}));
    let error = hand_in(forge(&double).as_ref(), &plan_of_a_review(), "x").await.unwrap_err();
    assert!(
        told(&error).contains("failed to hand in the review") && told(&error).contains("not part of"),
        "{}",
        told(&error)
    );
}
