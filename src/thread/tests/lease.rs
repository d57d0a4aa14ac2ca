//! One run at a time for a thread.

use serde_json::Value;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use crate::exit::{Code, Failure};
use crate::forge::testing::*;
use crate::report::{Phase, RunEvent};
use crate::state::Outcome;
use crate::thread::lease::{Times, holder, take_within};
use crate::thread::status_comment::{Lost, Mode, Sticky};
use crate::thread::{Claim, Held};

const MARK: &str = "<!-- claude-bottle: status -->";
const SHORT: Duration = Duration::from_millis(50);
const TIMES: Times = Times {
    look: SHORT,
    settle: Duration::from_millis(150),
    stale: Duration::from_secs(2),
    longest: Duration::from_secs(60),
};

fn claim(run: &str, second: u32) -> Claim {
    let url = format!("https://git.bottle.test/octo-org/textstats/actions/runs/{second}");
    Claim { run: run.to_owned(), since: format!("2026-03-02T09:14:{second:02}Z"), url }
}

async fn take(double: &Double, claim: &Claim) -> (Result<Held, Failure>, Vec<String>) {
    take_in(double, claim, TIMES).await
}

async fn take_in(double: &Double, claim: &Claim, times: Times) -> (Result<Held, Failure>, Vec<String>) {
    let said = Mutex::new(vec![]);
    let say = |line: String| said.lock().expect("what was said").push(line);
    let held = take_within(forge(double).as_ref(), 7, claim, &say, times).await;
    (held, said.into_inner().expect("what was said"))
}

fn of_us(kind: &str) -> &'static str {
    if kind == "github" { "github-actions[bot]" } else { "bottle" }
}

fn status(kind: &str, claim: &Claim, live: bool) -> Value {
    let body = format!("{MARK}\n{}\n### x", claim.line(live, 1));
    json!({"id": 50, "number": 7, "author": of_us(kind), "body": body, "created_at": "2026-03-02T09:14:00Z", "updated_at": "2026-03-02T09:14:00Z"})
}

/// A run that holds the thread, by its comment.
fn running(double: &Double, held: Held) -> (Sticky, Box<dyn crate::report::Reporter>, Arc<Mutex<Vec<String>>>) {
    let lost = Arc::new(Mutex::new(vec![]));
    let heard = lost.clone();
    let tell: Lost = Box::new(move |other| heard.lock().expect("a list").push(other.run.clone()));
    let mode = Mode { live: true, pause: SHORT, beat: Duration::from_millis(200), held: Some((held, tell)) };
    let (sticky, mut teller) = Sticky::start_with(forge(double), 7, mode);
    teller.on(&RunEvent::Phase { phase: Phase::Agent });
    (sticky, teller, lost)
}

async fn end(sticky: Sticky, mut teller: Box<dyn crate::report::Reporter>) {
    teller.on(&RunEvent::Finished { outcome: Outcome::default(), record: "/r".into() });
    sticky.finish(std::future::pending()).await.expect("the end is written");
}

#[tokio::test]
async fn a_second_run_waits_for_the_first_one_s_end() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let (held, said) = take(&double, &claim("first", 1)).await;
        assert!(said.is_empty(), "{said:?}");
        let (sticky, teller, lost) = running(&double, held.expect("it is free"));
        let (second, other) = (claim("second", 2), forge(&double));
        let first_ends = async {
            // Longer than a claim that is not renewed is believed.
            tokio::time::sleep(TIMES.stale + Duration::from_secs(1)).await;
            let found = holder(other.as_ref(), 7).await.expect("an answer").expect("a run");
            assert_eq!(found.claim, claim("first", 1), "{kind}");
            end(sticky, teller).await;
        };
        let ((held, said), ()) = tokio::join!(take(&double, &second), first_ends);
        held.expect("it is free then");
        assert!(said.len() == 1 && said[0].contains("the run first is at work on number 7: https://"), "{said:?}");
        assert!(lost.lock().expect("a list").is_empty());
        let state = double.state();
        assert_eq!(count(&state, "comments"), 1, "{state}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_dead_run_s_claim_goes_stale_and_an_ended_one_s_is_none() {
    for kind in BOTH {
        let double = Double::start(kind, json!({"comments": [status(kind, &claim("dead", 1), true)]}));
        let started = std::time::Instant::now();
        take(&double, &claim("second", 2)).await.0.expect("nobody renews it");
        assert!(started.elapsed() > TIMES.stale, "{:?}", started.elapsed());
        let double = Double::start(kind, json!({"comments": [status(kind, &claim("ended", 1), false)]}));
        take(&double, &claim("second", 2)).await.0.expect("it has ended");
        assert_eq!(count(&double.state(), "comments"), 1);
        double.assert_valid();
    }
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let double = Double::start("github", json!({}));
    let (sticky, teller, _) = running(&double, take(&double, &claim("first", 1)).await.0.expect("it is free"));
    let brief = Times { longest: Duration::from_secs(3), ..TIMES };
    let refused = take_in(&double, &claim("second", 2), brief).await.0.expect_err("it is not free");
    assert!(
        refused.code == Code::Machine && refused.what.contains("number 7 is taken by the run first: https://"),
        "{refused}"
    );
    end(sticky, teller).await;
}

#[tokio::test]
async fn of_many_at_once_one_runs() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let started = std::time::Instant::now();
        let (one, two, three) = (claim("a", 1), claim("b", 1), claim("c", 2));
        let (one, two, three) = tokio::join!(take(&double, &one), take(&double, &two), take(&double, &three));
        assert!(started.elapsed() > TIMES.stale * 2, "{kind}: two had it at once: {:?}", started.elapsed());
        // Whoever has it does not renew it here: the others take it over, one after the other, and never two at once.
        for held in [one.0, two.0, three.0] {
            held.expect("each has it in the end");
        }
        let state = double.state();
        assert_eq!(count(&state, "comments"), 1, "{kind}: {state}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_claim_that_was_overwritten_is_settled_by_who_was_earlier() {
    for kind in BOTH {
        for (other, loses) in [(claim("early", 1), true), (claim("late", 9), false)] {
            let double = Double::start(kind, json!({}));
            let held = take(&double, &claim("mine", 5)).await.0.expect("it is free");
            let id = held.comment;
            let (sticky, teller, lost) = running(&double, held);
            let mut theirs = status(kind, &other, true);
            theirs["id"] = json!(id);
            double.say(&theirs);
            tokio::time::sleep(Duration::from_millis(900)).await;
            let lost = lost.lock().expect("a list").clone();
            let body = double.state()["comments"][0]["body"].as_str().expect("a text").to_owned();
            if loses {
                assert_eq!(lost, ["early"], "{kind}");
                assert!(body.contains("run early running"), "{kind}: it is theirs now: {body}");
            } else {
                assert!(lost.is_empty() && body.contains("run mine running"), "{kind}: {body}");
            }
            drop((sticky, teller));
        }
    }
}

#[tokio::test]
async fn another_s_word_is_no_claim_and_without_an_answer_there_is_no_run() {
    for kind in BOTH {
        let mut theirs = status(kind, &claim("evil", 1), true);
        theirs["author"] = json!("octo-reader");
        let double = Double::start(kind, json!({"comments": [theirs]}));
        let (held, said) = take(&double, &claim("mine", 2)).await;
        assert!(held.is_ok() && said.is_empty(), "{kind}: {said:?}");
        for path in ["GET", "POST"] {
            let fault = json!({"method": path, "path": "/issues/7/comments$", "status": 403, "times": 99});
            let double = Double::start(kind, json!({"faults": [fault]}));
            let failure = take(&double, &claim("mine", 2)).await.0.expect_err("a refusal");
            assert!(failure.code == Code::Machine && failure.what.contains("can't be made sure"), "{failure}");
        }
    }
    // Who takes another for himself does not fill the thread with comments.
    let double = Double::start("gitea", json!({"me_said": {"id": 78, "login": "another"}}));
    let failure = take(&double, &claim("mine", 2)).await.0.expect_err("a refusal");
    assert!(failure.what.contains("is not known for our own"), "{failure}");
    assert_eq!(count(&double.state(), "comments"), 1);
    let double = Double::start("gitea", json!({"me_readable": false}));
    let failure = take(&double, &claim("mine", 2)).await.0.expect_err("a refusal");
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("read:user")), "{failure}");
}
