//! Runs at the stand-ins of both forges, one after the other and at once; lost answers, and ledgers that somebody broke.

use std::sync::Arc;

use bottle_plan::facts::ForgeKind;
use bottle_plan::manifest::{BudgetEntry, Period};
use bottle_plan::name::Slug;
use bottle_plan::period_ledger::{Amounts, PeriodLedger, RunReservation};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::budget::*;
use crate::exit::{Code, Failure};
use crate::forge::testing::*;
use crate::forge::{Forge, ledger_ref};
use crate::host;

const FILE: &str = ".claude-bottle/budget.json";
const BUDGET: BudgetEntry =
    BudgetEntry { period: Period::Month, cost_usd: Some(5.0), tokens: Some(1000), requests: None };

fn own(number: usize, cost_usd: f64) -> RunReservation {
    let slug = Slug::parse(&format!("issue-7-{number:06x}")).expect("a name");
    let url = format!("https://git.bottle.test/octo-org/textstats/actions/runs/{number}");
    RunReservation::new(&slug, &host::now(), &url, Amounts::spent(cost_usd, 100, 0)).expect("a reservation")
}

fn ledger(forge: &Arc<dyn Forge>) -> RepositoryLedger<'_> {
    RepositoryLedger { forge: forge.as_ref(), budget: &BUDGET }
}

async fn reserve(forge: &Arc<dyn Forge>, own: &RunReservation) -> Result<BudgetReservation, Failure> {
    let mut reservation = None;
    ledger(forge).reserve(own, &mut reservation).await?;
    Ok(reservation.expect("a reservation"))
}

async fn stored(forge: &Arc<dyn Forge>) -> PeriodLedger {
    let stored = forge.ledger().await.expect("an answer").expect("a ledger");
    PeriodLedger::read(&stored.bytes).expect("a good one")
}

/// A stand-in in which somebody has left this as the ledger.
fn with_ledger(kind: &'static str, text: &str) -> Double {
    let files = json!({FILE: text});
    let commit = "c".repeat(40);
    let git = json!({
        "trees": {"t": files}, "commits": {&commit: {"tree": "t", "parents": [], "message": ""}},
        "refs": {"refs/claude-bottle/budget": commit},
    });
    Double::start(kind, json!({"git": git, "kept_branches": {"claude-bottle/budget": files}}))
}

/// The ledger as the stand-in has it.
fn in_state(double: &Double) -> Value {
    let state = double.state();
    let text = match double.kind {
        "github" => {
            let git = &state["git"];
            let commit = git["refs"]["refs/claude-bottle/budget"].as_str().expect("a ref");
            &git["trees"][git["commits"][commit]["tree"].as_str().expect("a tree")][FILE]
        }
        _ => &state["kept_branches"]["claude-bottle/budget"][FILE],
    };
    serde_json::from_str(text.as_str().expect("a file")).expect("JSON")
}

#[tokio::test]
async fn a_run_reserves_and_what_it_has_spent_takes_the_place_of_that() {
    for kind in BOTH {
        let double = Double::start(kind, json!({"files": {"README.md": "words"}}));
        let forge = forge(&double);
        let first = reserve(&forge, &own(1, 2.0)).await.expect("enough");
        let second = reserve(&forge, &own(2, 3.0)).await.expect("enough");
        assert_eq!(in_state(&double)["reserved"][1]["cost_usd"], 3.0, "{kind}");
        let standing =
            ledger(&forge).settle(&first, Amounts::spent(0.5, 70, 3)).await.expect("settled").expect("words");
        assert!(standing.contains("0.5 of 5 US dollars spent and 3 reserved, 70 of 1000 tokens spent"), "{standing}");
        ledger(&forge).settle(&second, Amounts::default()).await.expect("settled");
        let now = in_state(&double);
        assert_eq!(now["reserved"], json!([]), "{kind}");
        assert_eq!(now["spent"], json!({"cost_usd": 0.5, "tokens": 70, "requests": 3, "runs": 2}), "{kind}");
        double.assert_valid();
        let state = double.state();
        match kind {
            "github" => {
                assert_eq!(state["git"]["refs"].as_object().map(|refs| refs.len()), Some(1));
                let commits = state["git"]["commits"].as_object().expect("commits");
                let messages: Vec<&str> = commits.values().filter_map(|commit| commit["message"].as_str()).collect();
                assert!(
                    messages.len() == 4 && messages.iter().all(|words| words.contains("[skip ci]")),
                    "{messages:?}"
                );
            }
            _ => {
                let messages = state["kept_messages"].as_array().expect("messages").clone();
                assert_eq!(messages.len(), 4);
                assert!(messages.iter().all(|words| words.as_str().is_some_and(|words| words.contains("[skip ci]"))));
                assert_eq!(state["kept_branches"].as_object().map(|branches| branches.len()), Some(1));
            }
        }
    }
}

#[tokio::test]
async fn runs_at_once_never_get_more_than_there_is() {
    for kind in BOTH {
        for (each, fit) in [(3.0, 1), (2.5, 2), (0.8, 6)] {
            let double = Double::start(kind, json!({}));
            let forge = forge(&double);
            let runs: Vec<RunReservation> = (1..=6).map(|number| own(number, each)).collect();
            let got = join_all(runs.iter().map(|own| reserve(&forge, own))).await;
            let refused: Vec<&Failure> = got.iter().filter_map(|got| got.as_ref().err()).collect();
            assert_eq!(got.len() - refused.len(), fit, "{kind} {each}: {refused:?}");
            assert!(refused.iter().all(|failure| failure.code == Code::Limit), "{kind}: {refused:?}");
            assert_eq!(
                stored(&forge).await.reserved(),
                Amounts::spent(each * fit as f64, 100 * fit as u64, 0),
                "{kind}"
            );
            // And they all settle at once.
            let settled = join_all(got.iter().flatten().map(|one| {
                let ledger = ledger(&forge);
                async move { ledger.settle(one, Amounts::spent(0.1, 1, 1)).await }
            }));
            assert!(settled.await.iter().all(Result::is_ok), "{kind}");
            let now = stored(&forge).await;
            assert_eq!(
                (now.spent(), now.reserved()),
                (Amounts::spent(0.1 * fit as f64, fit as u64, fit as u64), Amounts::default()),
                "{kind}"
            );
            double.assert_valid();
        }
    }
}

#[tokio::test]
async fn nothing_is_stored_over_another_version() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let forge = forge(&double);
        assert_eq!(forge.ledger().await.expect("an answer"), None);
        assert!(forge.store_ledger("one", None).await.expect("an answer"), "{kind}");
        assert!(!forge.store_ledger("other", None).await.expect("an answer"), "{kind}");
        let one = forge.ledger().await.expect("an answer").expect("a ledger");
        assert_eq!((one.bytes.as_slice(), one.size), (&b"one"[..], 3), "{kind}");
        assert!(forge.store_ledger("two", Some(&one.version)).await.expect("an answer"), "{kind}");
        assert!(!forge.store_ledger("three", Some(&one.version)).await.expect("an answer"), "{kind}");
        let two = forge.ledger().await.expect("an answer").expect("a ledger");
        assert_eq!(two.bytes, b"two", "{kind}");
        double.say(&json!({"forget_ledger": true}));
        assert!(!forge.store_ledger("four", Some(&two.version)).await.expect("an answer"), "{kind}");
        assert_eq!(forge.ledger().await.expect("an answer"), None, "{kind}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_lost_answer_counts_once() {
    for (kind, method, path) in [
        ("github", "POST", "/git/refs$"),
        ("github", "PATCH", "/git/refs/"),
        ("github", "POST", "/git/commits$"),
        ("gitea", "POST", "/contents/"),
        ("gitea", "PUT", "/contents/"),
    ] {
        for drop in ["before", "after"] {
            let fault = json!({"method": method, "path": path, "drop": drop});
            let double = Double::start(kind, json!({"faults": [fault]}));
            let forge = forge(&double);
            let first = reserve(&forge, &own(1, 2.0)).await.expect("enough");
            let second = reserve(&forge, &own(2, 2.0)).await.expect("enough");
            double.say(&json!({"fault": {"method": method, "path": path, "drop": drop}}));
            ledger(&forge).settle(&first, Amounts::spent(1.0, 10, 1)).await.expect("settled");
            let now = stored(&forge).await;
            let whole = (Amounts::spent(1.0, 10, 1), Amounts::spent(2.0, 100, 0));
            assert_eq!((now.spent(), now.reserved()), whole, "{kind} {method} {path} {drop}");
            ledger(&forge).settle(&second, Amounts::spent(1.0, 10, 1)).await.expect("settled");
            assert_eq!(stored(&forge).await.spent(), Amounts::spent(2.0, 20, 2), "{kind} {method} {path} {drop}");
            double.assert_valid();
        }
    }
}

#[tokio::test]
async fn a_killed_run_stays_counted_and_the_next_one_is_told_who_holds_what() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let forge = forge(&double);
        // It is never settled.
        let killed = own(1, 3.0);
        reserve(&forge, &killed).await.expect("enough");
        let failure = reserve(&forge, &own(2, 2.5)).await.expect_err("too little");
        let period = stored(&forge).await.period();
        assert_eq!(failure.code, Code::Limit);
        assert_eq!(
            failure.what,
            format!(
                "the repository's budget is too little for this run: 2 of 5 US dollars of {period} are left (0 spent, 3 reserved), and this run may spend 2.5"
            )
        );
        let hint = failure.hint.expect("a hint");
        let at = if kind == "github" { "refs/claude-bottle/budget" } else { "refs/heads/claude-bottle/budget" };
        for part in [
            &format!("wait for {}, when the next month begins", period.next_begins()),
            "reserved by issue-7-000001 since ",
            "(3 US dollars, 100 tokens, https://git.bottle.test/octo-org/textstats/actions/runs/1)",
            &format!("`git push origin --delete {at}`"),
        ] {
            assert!(hint.contains(part), "{part}\n{hint}");
        }
        // A smaller one fits; and when a person has deleted the ledger, so does the larger one.
        let small = reserve(&forge, &own(3, 2.0)).await.expect("enough");
        double.say(&json!({"forget_ledger": true}));
        reserve(&forge, &own(4, 4.0)).await.expect("enough");
        // What goes on meanwhile is counted when it ends.
        ledger(&forge).settle(&small, Amounts::spent(1.5, 1, 1)).await.expect("settled");
        let now = stored(&forge).await;
        assert_eq!((now.spent(), now.reserved()), (Amounts::spent(1.5, 1, 1), Amounts::spent(4.0, 100, 0)));
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_run_that_asks_again_goes_on_with_what_it_has() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let forge = forge(&double);
        let own = own(1, 3.0);
        reserve(&forge, &own).await.expect("enough");
        let again = reserve(&forge, &own).await.expect("its own");
        assert_eq!(stored(&forge).await.reserved(), Amounts::spent(3.0, 100, 0));
        ledger(&forge).settle(&again, Amounts::spent(1.0, 1, 1)).await.expect("settled");
        assert_eq!(stored(&forge).await.reserved(), Amounts::default());
    }
}

#[tokio::test]
async fn a_period_that_is_over_is_dropped_and_its_runs_with_it() {
    for kind in BOTH {
        let budget = BUDGET;
        let mut old = PeriodLedger::at(None, Period::Month, "2020-01-31T10:00:00Z").expect("a ledger");
        let before = own(1, 5.0);
        assert_eq!(old.reserve(&budget, before.clone()), Ok(Ok(())));
        let double = with_ledger(kind, &old.text());
        let forge = forge(&double);
        let of_old = BudgetReservation::new(budget, before, old.period());
        // As long as nobody has stored a newer one, its run settles there; then nothing is left to settle.
        assert!(ledger(&forge).settle(&of_old, Amounts::spent(1.0, 1, 1)).await.expect("settled").is_some());
        assert_eq!(in_state(&double)["period"], "2020-01");
        reserve(&forge, &own(2, 5.0)).await.expect("all of a new month");
        assert_eq!(ledger(&forge).settle(&of_old, Amounts::spent(1.0, 1, 1)).await, Ok(None));
        assert_eq!(stored(&forge).await.spent(), Amounts::default());
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_ledger_that_somebody_broke_refuses_and_is_left_as_it_is() {
    let good = PeriodLedger::at(None, Period::Month, &host::now()).expect("a ledger").text();
    let large = good.clone() + &" ".repeat(10 << 20);
    for kind in BOTH {
        for (text, why) in [
            ("", "it is not read: EOF"),
            ("spent: nothing", "it is not read: expected value"),
            (&good.replace("\"version\": 1", "\"version\": 2"), "its version is 2, and this program reads version 1"),
            (&good.replace("\"tokens\": 0", "\"tokens\": -1"), "it is not read: invalid value: integer `-1`"),
            (&good.replace("\"cost_usd\": 0.0", "\"cost_usd\": NaN"), "it is not read: expected value"),
            (&good.replace("\"runs\": 0", "\"runs\": 0, \"free\": true"), "it is not read: unknown field `free`"),
            (
                &good.replace(&good[good.find("20").expect("a year")..][..7], "2999-01"),
                "it is of 2999-01, which has not begun",
            ),
            (&large, "it has 104"),
        ] {
            let double = with_ledger(kind, text);
            let forge = forge(&double);
            let failure = reserve(&forge, &own(1, 1.0)).await.expect_err(why);
            let at = ledger_ref(if kind == "github" { ForgeKind::Github } else { ForgeKind::Gitea });
            assert_eq!(failure.code, Code::Machine, "{failure}");
            let wanted = format!("the ledger of the repository's budget at {at} can't be used: {why}");
            assert!(failure.what.starts_with(&wanted), "{kind}: {failure}");
            assert!(failure.hint.expect("a hint").contains(&format!("`git push origin --delete {at}` deletes it")));
            assert_eq!(double.writes(), [""; 0], "{kind} {why}");
        }
        // A ref without the file, a branch with a directory in its place.
        let double = match kind {
            "github" => Double::start(
                kind,
                json!({"git": {"trees": {"t": {}}, "commits": {"c".repeat(40): {"tree": "t", "parents": [], "message": ""}},
                    "refs": {"refs/claude-bottle/budget": "c".repeat(40)}}}),
            ),
            _ => Double::start(kind, json!({"kept_branches": {"claude-bottle/budget": {"README.md": "words"}}})),
        };
        let forge = forge(&double);
        match kind {
            "github" => {
                let failure = reserve(&forge, &own(1, 1.0)).await.expect_err("no file");
                assert!(
                    failure.what.contains("refs/claude-bottle/budget has no .claude-bottle/budget.json"),
                    "{failure}"
                );
            }
            _ => {
                reserve(&forge, &own(1, 1.0)).await.expect("a file in the branch");
                double.assert_valid();
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_may_not_is_told_of() {
    for (kind, read, write, needs) in [
        ("github", "/git/ref/", "/git/(trees|refs)", "permissions: contents: write"),
        ("gitea", "/contents/", "/contents/", "write:repository"),
    ] {
        let fault = |method: &str, path: &str| json!({"faults": [{"method": method, "path": path, "status": 403, "times": 9, "body": {"message": "Resource not accessible by integration"}}]});
        let double = Double::start(kind, fault("POST", write));
        let failure = reserve(&forge(&double), &own(1, 1.0)).await.expect_err("403");
        assert_eq!(failure.code, Code::Machine);
        assert!(failure.what.contains("403") && failure.what.contains("not accessible"), "{failure}");
        assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains(needs)), "{failure:?}");
        let double = Double::start(kind, fault("GET", read));
        let failure = reserve(&forge(&double), &own(1, 1.0)).await.expect_err("403");
        assert!(failure.what.starts_with("whether the repository's budget is enough can't be told: "), "{failure}");
        assert_eq!(double.writes(), [""; 0]);
    }
}

#[tokio::test]
async fn a_refusal_that_is_no_race_is_said_and_not_tried_again() {
    for (kind, method, path) in [("github", "PATCH", "/git/refs/"), ("gitea", "PUT", "/contents/")] {
        let double = Double::start(kind, json!({}));
        let forge = forge(&double);
        let first = reserve(&forge, &own(1, 1.0)).await.expect("enough");
        double.say(&json!({"fault": {"method": method, "path": path, "status": 422, "times": 99, "body": {"message": "Repository rule violations found"}}}));
        let failure = reserve(&forge, &own(2, 1.0)).await.expect_err("a rule");
        assert!(failure.what.contains("Repository rule violations found"), "{failure}");
        let settled = ledger(&forge).settle(&first, Amounts::spent(1.0, 1, 1)).await;
        assert!(settled.as_ref().is_err_and(|why| why.contains("Repository rule violations found")), "{settled:?}");
        assert_eq!(double.writes().iter().filter(|write| write.starts_with(method)).count(), 2);
        assert_eq!(stored(&forge).await.reserved(), Amounts::spent(1.0, 100, 0));
    }
}

#[tokio::test]
async fn gitea_s_403_of_a_race_is_no_refusal() {
    let lock = |at: &str| json!({"message": format!("cannot lock ref 'refs/heads/claude-bottle/budget': {at}")});
    let double = Double::start("gitea", json!({}));
    let forge = forge(&double);
    reserve(&forge, &own(1, 1.0)).await.expect("enough");
    let old = forge.ledger().await.expect("an answer").expect("a ledger").version;
    reserve(&forge, &own(2, 1.0)).await.expect("enough");
    let fault = |method: &str, body: &Value| json!({"fault": {"method": method, "path": "/contents/", "status": 403, "body": body}});
    double.say(&fault("PUT", &lock("is at 5b91 but expected 71dc")));
    assert!(!forge.store_ledger("new", Some(&old)).await.expect("an answer"));
    double.say(&fault("POST", &lock("reference already exists")));
    assert!(!forge.store_ledger("new", None).await.expect("an answer"));
    assert_eq!(stored(&forge).await.reserved(), Amounts::spent(2.0, 200, 0));
}

#[tokio::test]
async fn a_dry_run_looks_and_writes_nothing() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let forge = forge(&double);
        assert!(
            ledger(&forge).has_enough(&own(1, 5.0)).await.is_ok_and(|standing| standing.contains("0 of 5 US dollars"))
        );
        assert_eq!(double.writes(), [""; 0]);
        reserve(&forge, &own(2, 1.0)).await.expect("enough");
        let failure = ledger(&forge).has_enough(&own(1, 5.0)).await.expect_err("too little");
        assert_eq!(failure.code, Code::Limit);
    }
}

#[test]
fn what_was_spent_is_the_doors_count_or_not_known() {
    let dir = tempfile::TempDir::new().expect("a directory");
    // No agent was started: nothing.
    assert_eq!(spent(dir.path(), false), Ok(Amounts::default()));
    assert!(spent(dir.path(), true).is_err_and(|why| why.starts_with("what was spent is not known: budget.jsonl: ")));
    let line = |cost: f64| {
        format!("{{\"id\":\"1\",\"model\":\"m\",\"tokens\":{{\"input\":5,\"output\":2}},\"cost_usd\":{cost}}}\n")
    };
    let write = |text: String| std::fs::write(dir.path().join("budget.jsonl"), text).expect("a file");
    write(line(0.25) + &line(0.5));
    for may_have_spent in [false, true] {
        assert_eq!(spent(dir.path(), may_have_spent), Ok(Amounts::spent(0.75, 14, 2)));
    }
    write(line(0.25) + "{\"id\":");
    assert!(spent(dir.path(), true).is_err());
}
