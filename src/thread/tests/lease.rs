//! One run at a time for a thread.

use bottle_wire::run_record::Outcome;
use serde_json::Value;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use crate::exit::{Code, Failure};
use crate::forge::testing::*;
use crate::report::{Phase, RunEvent};
use crate::thread::lease::{LeaseTimes, holder, take_free_within, take_within};
use crate::thread::status_comment::{KeeperConfig, OnLeaseLost, Sticky};
use crate::thread::{Ask, Claim, Lease, LeaseGuard};

const MARK: &str = "<!-- claude-bottle: status -->";
const SHORT: Duration = Duration::from_millis(50);
const LEASE_TIMES: LeaseTimes = LeaseTimes {
    look: SHORT,
    settle: Duration::from_millis(150),
    stale: Duration::from_secs(2),
    longest: Duration::from_secs(60),
};

fn lease(run: &str, second: u32) -> Lease {
    let url = format!("https://git.bottle.test/octo-org/textstats/actions/runs/{second}");
    Lease { run: run.to_owned(), since: format!("2026-03-02T09:14:{second:02}Z"), url }
}

async fn take(double: &Double, lease: &Lease) -> (Result<LeaseGuard, Failure>, Vec<String>) {
    take_in(double, lease, LEASE_TIMES).await
}

async fn take_in(double: &Double, lease: &Lease, times: LeaseTimes) -> (Result<LeaseGuard, Failure>, Vec<String>) {
    let messages = Mutex::new(vec![]);
    let say = |line: String| messages.lock().expect("what was said").push(line);
    let guard = take_within(forge(double).as_ref(), 7, lease, None, &say, times).await.map(|claim| match claim {
        Claim::Ours(guard) => guard,
        Claim::TakenUp(other) => panic!("{other:?} has taken up nothing of this"),
    });
    (guard, messages.into_inner().expect("what was said"))
}

fn of_us(kind: &str) -> &'static str {
    if kind == "github" { "github-actions[bot]" } else { "bottle" }
}

fn status(kind: &str, lease: &Lease, live: bool) -> Value {
    let body = format!("{MARK}\n{}\n### x", lease.line(live, 1));
    json!({"id": 50, "number": 7, "author": of_us(kind), "body": body, "created_at": "2026-03-02T09:14:00Z", "updated_at": "2026-03-02T09:14:00Z"})
}

#[tokio::test]
async fn a_free_thread_is_taken_and_no_live_run_is_waited_for() {
    for kind in ["github", "gitea"] {
        let dead = lease("dead", 1);
        let double = Double::start(kind, json!({"comments": [status(kind, &dead, true)]}));
        let (forge, mine) = (forge(&double), lease("mine", 2));
        let times = LeaseTimes { stale: Duration::from_millis(600), ..LEASE_TIMES };
        let guard = take_free_within(forge.as_ref(), 7, &mine, times).await.expect("an answer").expect("a lease");
        assert_eq!(holder(forge.as_ref(), 7).await.expect("an answer").map(|found| found.lease), Some(mine.clone()));
        guard.end(forge.as_ref(), "Done.").await.expect("an answer");
        let body = double.state()["comments"][0]["body"].as_str().expect("a text").to_owned();
        assert!(body.ends_with("Done.") && body.contains("run mine ended"), "{body}");
        assert_eq!(holder(forge.as_ref(), 7).await.expect("an answer"), None);

        // One that renews its line goes on.
        let live = lease("live", 3);
        let beat = |beat: u64| {
            let body = format!("{MARK}\n{}\n### x", live.line(true, beat));
            json!({"id": 50, "number": 7, "author": of_us(kind), "body": body})
        };
        double.say(&beat(1));
        let renewed = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            double.say(&beat(2));
        };
        let (taken, ()) = tokio::join!(take_free_within(forge.as_ref(), 7, &mine, LEASE_TIMES), renewed);
        assert_eq!(taken.expect("an answer").expect_err("another run"), live);
        let writes = double.writes().iter().filter(|write| write.contains("/issues/")).count();
        assert_eq!(writes, 2, "the lease and its end alone: {:?}", double.writes());
        double.assert_valid();
    }
}

/// A run that holds the thread, by its comment.
fn running(double: &Double, guard: LeaseGuard) -> (Sticky, Box<dyn crate::report::Reporter>, Arc<Mutex<Vec<String>>>) {
    let lost = Arc::new(Mutex::new(vec![]));
    let heard = lost.clone();
    let tell: OnLeaseLost = Box::new(move |other| heard.lock().expect("a list").push(other.run.clone()));
    let mode = KeeperConfig { live: true, pause: SHORT, beat: Duration::from_millis(200), guard: Some((guard, tell)) };
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
        let (guard, messages) = take(&double, &lease("first", 1)).await;
        assert!(messages.is_empty(), "{messages:?}");
        let (sticky, teller, lost) = running(&double, guard.expect("it is free"));
        let (second, other) = (lease("second", 2), forge(&double));
        let first_ends = async {
            // Longer than a claim that is not renewed is believed.
            tokio::time::sleep(LEASE_TIMES.stale + Duration::from_secs(1)).await;
            let found = holder(other.as_ref(), 7).await.expect("an answer").expect("a run");
            assert_eq!(found.lease, lease("first", 1), "{kind}");
            end(sticky, teller).await;
        };
        let ((guard, messages), ()) = tokio::join!(take(&double, &second), first_ends);
        guard.expect("it is free then");
        assert!(
            messages.len() == 1 && messages[0].contains("issue #7 is locked by run first: https://"),
            "{messages:?}"
        );
        assert!(lost.lock().expect("a list").is_empty());
        let state = double.state();
        assert_eq!(count(&state, "comments"), 1, "{state}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_dead_run_s_claim_goes_stale_and_an_ended_one_s_is_none() {
    for kind in BOTH {
        let double = Double::start(kind, json!({"comments": [status(kind, &lease("dead", 1), true)]}));
        let started = std::time::Instant::now();
        take(&double, &lease("second", 2)).await.0.expect("nobody renews it");
        assert!(started.elapsed() > LEASE_TIMES.stale, "{:?}", started.elapsed());
        let double = Double::start(kind, json!({"comments": [status(kind, &lease("ended", 1), false)]}));
        take(&double, &lease("second", 2)).await.0.expect("it has ended");
        assert_eq!(count(&double.state(), "comments"), 1);
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_choice_waits_for_nobody() {
    for (kind, live) in [("github", true), ("gitea", true), ("github", false), ("gitea", false)] {
        let theirs = lease("first", 1);
        let double = Double::start(kind, json!({"comments": [status(kind, &theirs, live)]}));
        let ask = Ask::choice("78", "2026-03-02T09:00:00Z");
        let say = |line: String| panic!("{line}");
        let started = std::time::Instant::now();
        let claim = take_within(forge(&double).as_ref(), 7, &lease("second", 2), Some(&ask), &say, LEASE_TIMES).await;
        match claim.expect("an answer") {
            Claim::TakenUp(other) => assert_eq!(other, theirs, "{kind} {live}"),
            Claim::Ours(guard) => panic!("{kind} {live}: {guard:?}"),
        }
        assert!(started.elapsed() < LEASE_TIMES.stale && double.writes().is_empty(), "{kind} {live}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let double = Double::start("github", json!({}));
    let (sticky, teller, _) = running(&double, take(&double, &lease("first", 1)).await.0.expect("it is free"));
    let brief = LeaseTimes { longest: Duration::from_secs(3), ..LEASE_TIMES };
    let refused = take_in(&double, &lease("second", 2), brief).await.0.expect_err("it is not free");
    assert!(
        refused.code == Code::Machine && refused.what.contains("issue #7 is locked by run first: https://"),
        "{refused}"
    );
    end(sticky, teller).await;
}

#[tokio::test]
async fn of_many_at_once_one_runs() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let started = std::time::Instant::now();
        let (one, two, three) = (lease("a", 1), lease("b", 1), lease("c", 2));
        let (one, two, three) = tokio::join!(take(&double, &one), take(&double, &two), take(&double, &three));
        assert!(started.elapsed() > LEASE_TIMES.stale * 2, "{kind}: two had it at once: {:?}", started.elapsed());
        // Whoever has it does not renew it here: the others take it over, one after the other, and never two at once.
        for guard in [one.0, two.0, three.0] {
            guard.expect("each has it in the end");
        }
        let state = double.state();
        assert_eq!(count(&state, "comments"), 1, "{kind}: {state}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_claim_that_was_overwritten_is_settled_by_who_was_earlier() {
    for kind in BOTH {
        for (other, loses) in [(lease("early", 1), true), (lease("late", 9), false)] {
            let double = Double::start(kind, json!({}));
            let guard = take(&double, &lease("mine", 5)).await.0.expect("it is free");
            let id = guard.comment;
            let (sticky, teller, lost) = running(&double, guard);
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
        let mut theirs = status(kind, &lease("evil", 1), true);
        theirs["author"] = json!("octo-reader");
        let double = Double::start(kind, json!({"comments": [theirs]}));
        let (guard, messages) = take(&double, &lease("mine", 2)).await;
        assert!(guard.is_ok() && messages.is_empty(), "{kind}: {messages:?}");
        for path in ["GET", "POST"] {
            let fault = json!({"method": path, "path": "/issues/7/comments$", "status": 403, "times": 99});
            let double = Double::start(kind, json!({"faults": [fault]}));
            let failure = take(&double, &lease("mine", 2)).await.0.expect_err("a refusal");
            assert!(failure.code == Code::Machine && failure.what.contains("can't be made sure"), "{failure}");
        }
    }
    // Who takes another for himself does not fill the thread with comments.
    let double = Double::start("gitea", json!({"me_said": {"id": 78, "login": "another"}}));
    let failure = take(&double, &lease("mine", 2)).await.0.expect_err("a refusal");
    assert!(failure.what.contains("is not known for our own"), "{failure}");
    assert_eq!(count(&double.state(), "comments"), 1);
    let double = Double::start("gitea", json!({"me_readable": false}));
    let failure = take(&double, &lease("mine", 2)).await.0.expect_err("a refusal");
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("read:user")), "{failure}");
}
