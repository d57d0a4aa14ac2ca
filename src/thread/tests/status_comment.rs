//! The comment that is kept up to date.

use std::time::Duration;

use bottle_wire::run_record::Outcome;
use serde_json::json;

use crate::forge::testing::*;
use crate::report::{Phase, Reporter, RunEvent};
use crate::thread::status_comment::{KeeperConfig, Sticky};

const MARK: &str = "<!-- claude-bottle: status -->";
const PAUSE: Duration = Duration::from_millis(400);

fn started() -> RunEvent {
    let (slug, title) = ("issue-7".to_owned(), "Count words".to_owned());
    RunEvent::Started { version: 1, slug, title, record: "/r".into(), asked: None, job: None, traceparent: None }
}

fn finished() -> RunEvent {
    RunEvent::Finished {
        outcome: Outcome { summary: "all is well".to_owned(), ..Outcome::default() },
        record: "/r".into(),
    }
}

/// A run of some length; what keeping the comment came to.
async fn run(double: &Double, live: bool) -> Result<(), String> {
    let (sticky, mut teller): (Sticky, Box<dyn Reporter>) =
        Sticky::start_with(forge(double), 7, KeeperConfig { live, pause: PAUSE, beat: PAUSE, guard: None });
    teller.on(&started());
    for phase in Phase::ALL {
        teller.on(&RunEvent::Phase { phase });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    teller.on(&finished());
    // A credential is renewed while the comment waits for its turn.
    teller.on(&RunEvent::Note { text: "the credential TOKEN was renewed".to_owned() });
    sticky.finish(std::future::pending()).await
}

fn times(double: &Double) -> Vec<f64> {
    let writes = double.log().into_iter().filter(|line| line["method"] != "GET");
    writes.filter_map(|line| line["time"].as_f64()).collect()
}

#[tokio::test]
async fn there_is_one_comment_and_it_is_not_written_too_often() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        run(&double, true).await.expect("it is kept");
        run(&double, true).await.expect("it is found again");
        let state = double.state();
        assert_eq!(count(&state, "comments"), 1, "{state}");
        let body = state["comments"][0]["body"].as_str().expect("a text");
        assert!(body.starts_with(MARK) && body.contains("all is well") && body.contains("- [x] publish"), "{body}");
        let times = times(&double);
        assert!(times.len() >= 4, "{times:?}");
        // The second run's first write does not know of the first run's last.
        let too_soon = times.windows(2).filter(|pair| pair[1] - pair[0] < PAUSE.as_secs_f64()).count();
        assert!(too_soon <= 1, "{times:?}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn nobody_else_s_comment_is_touched() {
    for kind in BOTH {
        let double = Double::start(
            kind,
            json!({"comments": [
                {"id": 50, "number": 7, "author": "octo-reader", "body": format!("{MARK}\nmine")},
                {"id": 51, "number": 8, "author": "github-actions[bot]", "body": format!("{MARK}\nanother thread's")},
            ]}),
        );
        run(&double, false).await.expect("it is written");
        let state = double.state();
        assert_eq!(state["comments"][0]["body"], format!("{MARK}\nmine"));
        assert_eq!(count(&state, "comments"), 3, "{state}");
        assert_eq!(double.writes().len(), 1, "at the end alone: {:?}", double.writes());
    }
}

#[tokio::test]
async fn a_comment_that_may_be_there_is_looked_for() {
    for kind in BOTH {
        for fault in [json!({"drop": "after"}), json!({"drop": "before"}), json!({"status": 502})] {
            let mut fault = fault;
            fault["method"] = json!("POST");
            fault["path"] = json!("/comments$");
            let double = Double::start(kind, json!({"faults": [fault]}));
            run(&double, false).await.expect("it is written");
            assert_eq!(count(&double.state(), "comments"), 1, "{kind} {fault}");
            double.assert_valid();
        }
    }
}

#[tokio::test]
async fn a_comment_that_somebody_removed_is_written_again() {
    let fault = json!({"method": "PATCH", "path": "/comments/", "status": 404, "times": 1});
    let own = json!({"id": 50, "number": 7, "author": "github-actions[bot]", "body": format!("{MARK}\nold")});
    let double = Double::start("github", json!({"faults": [fault], "comments": [own]}));
    run(&double, false).await.expect("it is written");
    assert_eq!(
        double.writes(),
        ["PATCH /repos/octo-org/textstats/issues/comments/50", "POST /repos/octo-org/textstats/issues/7/comments"]
    );
}

#[tokio::test]
async fn a_refusal_is_said_at_the_end() {
    let fault = json!({"method": "POST", "path": "/comments$", "status": 403, "times": 99, "body": {"message": "Resource not accessible by integration"}});
    let double = Double::start("github", json!({"faults": [fault]}));
    let error = run(&double, true).await.unwrap_err();
    assert!(error.contains("failed to write the comment") && error.contains("issues: write"), "{error}");
    assert_eq!(count(&double.state(), "comments"), 0);
}
