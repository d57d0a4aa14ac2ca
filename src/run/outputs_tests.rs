//! Outputs at the stand-ins: each once, whatever ends the run in between; and nothing that may not go out.

use bottle_plan::task::{PullRequest, Source};
use bottle_policy::outputs::changed::ChangedLines;
use bottle_policy::outputs::{
    CheckConclusion, CloseReason, DiffSide, OutputKind, OutputPolicy, Remark, ReviewVerdict, remark_mark,
};
use bottle_types::git::ObjectId;
use bottle_types::secret::{Secret, SecretName};
use serde_json::Value;

use super::*;
use crate::forge::Dry;
use crate::forge::testing::*;

const RULES: &str = r#"{"comment": {"max": 2}, "labels": {"allowed": ["bug", "docs"]}, "review": {},
    "issue": {"title_prefix": "[bot] ", "labels": ["bug"]}, "close": {}, "check": {"names": ["bottle / review", "docs"]}}"#;
/// The receipts of all outputs.
const RECEIPTS: usize = 14;
const DIFF: &str = "diff --git a/size.py b/size.py\n--- a/size.py\n+++ b/size.py\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n d\n";

/// The plan of a run about a pull request, whose agent may write all that there is.
fn reviewing() -> BottlePlan {
    let mut plan = issue();
    let Source::Issue(mut thread) = plan.task.source.clone() else { panic!("no issue") };
    thread.number = 9;
    plan.task.source = Source::PullRequest(thread);
    plan.task.pull_request = Some(PullRequest {
        number: 9,
        head: ObjectId::parse(&"a".repeat(40)).expect("a commit"),
        head_branch: "patch".to_owned(),
        head_repository: None,
        base_branch: "main".to_owned(),
        from_fork: true,
    });
    granted(plan)
}

fn granted(mut plan: BottlePlan) -> BottlePlan {
    plan.policies.supervise.outputs = Some(OutputPolicy {
        rules: serde_json::from_str(RULES).expect("rules"),
        changed: ChangedLines::parse(DIFF),
        ..OutputPolicy::default()
    });
    plan
}

fn new_issue(title: &str) -> Output {
    Output::Issue { title: title.to_owned(), body: "It counts wrong.".to_owned(), labels: vec!["bug".to_owned()] }
}

fn check(conclusion: CheckConclusion, summary: &str) -> Output {
    Output::Check { name: "bottle / review".to_owned(), conclusion, summary: summary.to_owned() }
}

fn close(comment: &str) -> Output {
    Output::Close { reason: CloseReason::NotPlanned, comment: comment.to_owned() }
}

fn said_in_review(body: &str, remarks: Vec<Remark>) -> Output {
    let verdict = ReviewVerdict::Comment;
    Output::Review { verdict, body: body.to_owned(), remarks, files: vec![], threads: vec![] }
}

fn remark(line: u64, side: DiffSide) -> Remark {
    Remark {
        path: "size.py".to_owned(),
        line,
        first_line: None,
        side,
        body: "Off by one.".to_owned(),
        suggestion: None,
    }
}

fn outputs() -> AskedOutputs {
    let remarks = vec![
        Remark { first_line: Some(2), suggestion: Some("x = 1".to_owned()), ..remark(3, DiffSide::After) },
        remark(2, DiffSide::Before),
    ];
    let all = [
        Output::Comment { body: "The first.".to_owned() },
        Output::Labels { labels: vec!["bug".to_owned(), "docs".to_owned()] },
        said_in_review("Two remarks.", remarks),
        Output::Comment { body: "The second.".to_owned() },
        new_issue("[bot] Another one"),
        check(CheckConclusion::Failure, "One finding."),
        close("It is there already."),
    ];
    numbered(all)
}

fn numbered(outputs: impl IntoIterator<Item = Output>) -> AskedOutputs {
    std::iter::successors(Some(ProposalId::FIRST), |id| Some(id.next())).zip(outputs).collect()
}

fn double(kind: &'static str) -> Double {
    let pull = json!({"number": 9, "title": "t", "body": "", "head": "patch", "base": "main", "fork": true, "sha": "a".repeat(40)});
    Double::start(kind, json!({"pulls": [pull]}))
}

fn done() -> Outcome {
    serde_json::from_value(json!({"code": 0, "summary": ""})).expect("an outcome")
}

/// Performs the outputs of a run that was good; it is killed instead of its `killed_at`th receipt.
async fn perform(
    forge: &dyn Forge,
    plan: &BottlePlan,
    asked: AskedOutputs,
    killed_at: usize,
) -> (Vec<ReceiptStep>, Outcome, Vec<String>) {
    perform_after(done(), forge, plan, asked, killed_at).await
}

async fn perform_after(
    mut outcome: Outcome,
    forge: &dyn Forge,
    plan: &BottlePlan,
    asked: AskedOutputs,
    killed_at: usize,
) -> (Vec<ReceiptStep>, Outcome, Vec<String>) {
    let secret = (SecretName::parse("OWN_KEY").expect("a name"), Secret::new(b"a-value-of-our-own".to_vec()));
    let (events, cancel) = (Events::new(vec![]), Cancel::default());
    let mut steps = vec![];
    let mut receipts = |receipt: &Receipt| {
        if steps.len() + 1 == killed_at {
            return Err(Failure::machine("killed"));
        }
        steps.push(receipt.step.clone());
        Ok(())
    };
    let mut would = vec![];
    let mut performer = Performer {
        forge: Some(forge),
        plan,
        known: Arc::new(KnownSecrets::new(&[secret]).expect("a secret")),
        events: &events,
        cancel: &cancel,
        claimed: None,
        judge: OutputJudge::new(plan.policies.supervise.outputs.clone().unwrap_or_default()).expect("a policy"),
        receipts: &mut receipts,
        keep: &mut |_: Kept<'_>| Ok(true),
        files: vec![],
        commit_files: None,
        before: vec![],
        performed: vec![],
        would: &mut would,
    };
    let ended = performer.perform_all(asked, &mut outcome).await;
    assert_eq!(ended.is_err(), steps.len() + 1 == killed_at, "{ended:?}");
    let refused = events.seen().into_iter().filter_map(|event| match event {
        RunEvent::Refused { what, .. } => Some(what),
        _ => None,
    });
    (steps, outcome, refused.collect())
}

/// Performs outputs outside of a job, or in one; gives the answers that are kept, what a dry run would write, and the steps.
async fn perform_here(
    forge: Option<&dyn Forge>,
    plan: &BottlePlan,
    (asked, files): (AskedOutputs, TakenFiles),
) -> (Vec<String>, Vec<Value>, Vec<ReceiptStep>) {
    let secret = (SecretName::parse("OWN_KEY").expect("a name"), Secret::new(b"a-value-of-our-own".to_vec()));
    let (events, cancel, mut outcome) = (Events::new(vec![]), Cancel::default(), done());
    let (mut answers, mut would, mut steps) = (vec![], vec![], vec![]);
    let mut performer = Performer {
        forge,
        plan,
        known: Arc::new(KnownSecrets::new(&[secret]).expect("a secret")),
        events: &events,
        cancel: &cancel,
        claimed: None,
        judge: OutputJudge::new(plan.policies.supervise.outputs.clone().unwrap_or_default()).expect("a policy"),
        receipts: &mut |receipt: &Receipt| {
            steps.push(receipt.step.clone());
            Ok(())
        },
        keep: &mut |kept: Kept<'_>| {
            match kept {
                Kept::Answer(text) => answers.push(text.to_owned()),
                Kept::Findings(sarif) => answers.push(sarif.to_string()),
                Kept::File(path, bytes) => answers.push(format!("{path}: {} bytes", bytes.len())),
            }
            Ok(true)
        },
        files,
        commit_files: Some(["size.py".to_owned()].into()),
        before: vec![],
        performed: vec![],
        would: &mut would,
    };
    performer.perform_all(asked, &mut outcome).await.expect("no failure");
    (answers, would, steps)
}

#[tokio::test]
async fn an_answer_is_kept_here_and_never_at_the_forge() {
    let mut plan = reviewing();
    let policy = plan.policies.supervise.outputs.as_mut().expect("outputs");
    policy.rules.json = Some(serde_json::from_str(r#"{"type": "object", "required": ["a"]}"#).expect("a schema"));
    let answer =
        |answer: Value| (numbered([Output::Json { answer }, Output::Comment { body: "Said.".to_owned() }]), vec![]);
    let (double, good) = (double("github"), json!({"a": "x\u{2028}"}));
    let (answers, would, steps) = perform_here(Some(forge(&double).as_ref()), &plan, answer(good.clone())).await;
    assert_eq!((answers, would), (vec![r#"{"a":"x\u2028"}"#.to_owned()], vec![]));
    assert!(matches!(steps[1], ReceiptStep::Done { number: None, .. }), "{steps:?}");
    let state = double.state();
    assert_eq!(count(&state, "comments"), 1, "{state}");
    let text = state.to_string();
    assert!(!text.contains('\u{2028}') && !text.contains("u2028"), "{state}");
    // Outside of a job there is an answer and no comment.
    let (answers, _, steps) = perform_here(None, &plan, answer(good.clone())).await;
    assert!(answers.len() == 1 && matches!(steps[3], ReceiptStep::Refused { .. }), "{steps:?}");
    plan.dry_run = true;
    let (_, would, steps) = perform_here(None, &plan, answer(good.clone())).await;
    assert_eq!(would.iter().map(|line| line["would"].clone()).collect::<Vec<_>>(), ["json", "comment"]);
    assert_eq!(would[0]["output"]["json"]["answer"], good, "{steps:?}");
    // The runner judges again, with the run's secrets and the same schema.
    for bad in [json!({"a": "a-value-of-our-own"}), json!({"b": 1}), json!([])] {
        let (answers, would, steps) = perform_here(None, &plan, answer(bad)).await;
        assert!(answers.is_empty() && would.len() == 1, "{would:?}");
        assert!(matches!(steps[0], ReceiptStep::Refused { .. }), "{steps:?}");
    }
}

#[tokio::test]
async fn a_file_is_kept_if_nothing_in_it_is_a_secret() {
    let mut plan = reviewing();
    let policy = plan.policies.supervise.outputs.as_mut().expect("outputs");
    policy.rules.file = Some(serde_json::from_str(r#"{"paths": ["out/**"], "max": 8}"#).expect("rules"));
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, bytes).expect("written");
        encoder.finish().expect("packed")
    };
    let own = b"key: a-value-of-our-own\n".to_vec();
    let pat = ["ghp", "R4nd0mLettersThatAreNoWords0Xy7Qw9Ab"].join("_").into_bytes();
    let wide: Vec<u8> = own.iter().flat_map(|byte| [*byte, 0]).collect();
    for (name, content, why) in [
        ("a text", Ok(b"lines: 80 %\n".to_vec()), None),
        ("nothing", Ok(vec![]), None),
        ("bytes", Ok((0..=255).collect()), None),
        ("a packed text", Ok(gzip(b"lines: 80 %\n")), None),
        ("a secret", Ok(own.clone()), Some("known-secret:OWN_KEY")),
        ("a packed secret", Ok(gzip(&gzip(&own))), Some("known-secret:OWN_KEY")),
        ("a secret behind other bytes", Ok([vec![7; 100_000], own].concat()), Some("known-secret:OWN_KEY")),
        ("a secret in wide characters", Ok(wide), Some("known-secret:OWN_KEY")),
        ("a token", Ok(pat.clone()), Some("github-pat")),
        ("a packed token", Ok(gzip(&pat)), Some("github-pat")),
        ("a bomb", Ok(gzip(&vec![0; 64 << 20])), Some("unpacks to more")),
        ("an archive that nobody looks into", Ok(b"Rar!\x1a\x07\x01\x00".to_vec()), Some("can't be looked into")),
        ("a link", Err("it is a link, or behind one".to_owned()), Some("it is a link")),
    ] {
        let asked = numbered([Output::File { path: "out/a".to_owned() }]);
        let length = content.as_ref().map_or(0, Vec::len);
        let files = vec![("out/a".to_owned(), content)];
        let (kept, _, steps) = perform_here(None, &plan, (asked, files)).await;
        match (why, steps.last()) {
            (None, Some(ReceiptStep::Done { .. })) => assert_eq!(kept, [format!("out/a: {length} bytes")], "{name}"),
            (Some(why), Some(ReceiptStep::Refused { reason })) => {
                assert!(kept.is_empty() && reason.contains(why), "{name}: {reason}")
            }
            (_, last) => panic!("{name}: {last:?}"),
        }
    }
    // What was not taken is not there; and nothing is kept that was not asked for.
    let asked = numbered([Output::File { path: "out/b".to_owned() }]);
    let (kept, _, steps) = perform_here(None, &plan, (asked, vec![("out/a".to_owned(), Ok(vec![1]))])).await;
    assert!(kept.is_empty() && matches!(&steps[..], [ReceiptStep::Refused { .. }]), "{steps:?}");
}

#[tokio::test]
async fn findings_are_uploaded_for_the_commit_that_was_looked_at() {
    let mut plan = reviewing();
    let policy = plan.policies.supervise.outputs.as_mut().expect("outputs");
    policy.rules.sarif = Some(serde_json::from_str("{}").expect("rules"));
    let finding = |path: &str| json!({"rule": "off-by-one", "message": "It counts wrong.", "path": path, "line": 2});
    let report = |findings: &[Value]| {
        let output = serde_json::from_value(json!({"sarif": {"findings": findings}})).expect("an output");
        (numbered([output]), vec![])
    };
    // What is no file of the commit is left out.
    let asked = || report(&[finding("gone.py"), finding("size.py")]);
    for kind in BOTH {
        let double = double(kind);
        double.say(&json!({"fault": {"method": "POST", "path": "/code-scanning/sarifs$", "drop": "after"}}));
        let (kept, would, steps) = perform_here(Some(forge(&double).as_ref()), &plan, asked()).await;
        assert!(
            kept.len() == 1 && would.is_empty() && matches!(steps[1], ReceiptStep::Done { .. }),
            "{kind}: {steps:?}"
        );
        let uploads = double.state()["sarifs"].as_array().cloned().unwrap_or_default();
        if kind == "gitea" {
            assert!(uploads.is_empty(), "{uploads:?}");
            continue;
        }
        // The answer to the first was lost; the forge takes the second in its place.
        assert!((1..=2).contains(&uploads.len()), "{uploads:?}");
        for upload in &uploads {
            assert_eq!((&upload["commit_sha"], &upload["ref"]), (&json!("a".repeat(40)), &json!("refs/pull/9/head")));
            assert_eq!(upload["sarif"].to_string(), kept[0]);
        }
        double.assert_valid();
        let dry = Dry::new(forge(&double));
        perform_here(Some(&dry), &plan, asked()).await;
        assert_eq!(dry.kept()[0]["would"], "upload-sarif");
        assert_eq!(double.state()["sarifs"].as_array().map(Vec::len), Some(uploads.len()));
    }
    // Outside of a job the record has them.
    let (kept, ..) = perform_here(None, &plan, asked()).await;
    assert!(kept.len() == 1 && kept[0].contains("off-by-one") && !kept[0].contains("gone.py"), "{kept:?}");
    // No finding is a report, too; one without the only file that it is about would be another.
    let (kept, ..) = perform_here(None, &plan, report(&[])).await;
    assert_eq!(kept.len(), 1);
    let (kept, _, steps) = perform_here(None, &plan, report(&[finding("gone.py")])).await;
    assert!(kept.is_empty() && matches!(steps[..], [ReceiptStep::Refused { .. }]), "{steps:?}");
    plan.dry_run = true;
    let (_, would, _) = perform_here(None, &plan, asked()).await;
    assert_eq!((would.len(), &would[0]["would"]), (1, &json!("sarif")));
}

/// The same run as a part of another job.
fn of_job(run_id: usize) -> BottlePlan {
    let mut plan = reviewing();
    if let Some(ci) = &mut plan.ci {
        ci.run_id = run_id.to_string();
        ci.run_url = format!("https://git.bottle.test/octo-org/textstats/actions/runs/{run_id}");
    }
    plan
}

/// The checks of a job, as name, conclusion and summary.
fn checks(double: &Double, plan: &BottlePlan) -> Vec<[String; 3]> {
    let state = double.state();
    let job = json!(plan.ci.as_ref().expect("a job").run_url);
    let all = |list: &str| state[list].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let runs = all("check_runs").into_iter().filter(|run| run["details_url"] == job);
    let runs = runs.map(|run| [text(&run["name"]), text(&run["conclusion"]), text(&run["output"]["title"])]);
    let statuses = all("statuses").into_iter().filter(|status| status["target_url"] == job);
    let statuses = statuses.map(|one| [text(&one["context"]), text(&one["state"]), text(&one["description"])]);
    runs.chain(statuses).collect()
}

/// Asserts that the forge has each output of a job once.
#[track_caller]
fn assert_whole(double: &Double, plan: &BottlePlan, what: &str) {
    let state = double.state();
    let of = |list: &str, kind, nth| -> Vec<String> {
        let mark = format!("<!-- claude-bottle: output {} -->", output_key(plan, kind, nth));
        let all = state[list].as_array().into_iter().flatten().filter_map(|one| one["body"].as_str());
        all.filter_map(|body| body.strip_prefix(&mark)).map(|text| text.trim().to_owned()).collect()
    };
    assert_eq!(of("comments", OutputKind::Comment, 1), ["The first."], "{what}: {state}");
    assert_eq!(of("comments", OutputKind::Comment, 2), ["The second."], "{what}: {state}");
    assert_eq!(of("reviews", OutputKind::Review, 1), ["Two remarks."], "{what}: {state}");
    assert_eq!(state["pulls"][0]["labels"], json!(["bug", "docs"]), "{what}");
    assert_eq!(of("issues", OutputKind::Issue, 1), ["It counts wrong."], "{what}: {state}");
    let issue = state["issues"].as_array().and_then(|issues| issues.last()).expect("an issue");
    assert_eq!((&issue["title"], &issue["labels"]), (&json!("[bot] Another one"), &json!(["bug"])), "{what}");
    assert_eq!(checks(double, plan), [["bottle / review", "failure", "One finding."]], "{what}: {state}");
    assert_eq!(of("comments", OutputKind::Close, 1), ["It is there already."], "{what}: {state}");
    assert_eq!(state["pulls"][0]["state"], "closed", "{what}");
}

#[tokio::test]
async fn each_is_written_once_wherever_the_run_is_killed() {
    for kind in BOTH {
        let double = double(kind);
        let forge = forge(&double);
        for killed_at in 1..=RECEIPTS {
            double.say(&json!({"pull": 9, "now": {"state": "open"}}));
            let plan = of_job(killed_at);
            perform(forge.as_ref(), &plan, outputs(), killed_at).await;
            let (steps, outcome, _) = perform(forge.as_ref(), &plan, outputs(), 0).await;
            assert_whole(&double, &plan, &format!("{kind}, killed at {killed_at}"));
            assert_eq!(outcome.code, Code::Done);
            // A line before each and a line behind it; those of before are found again.
            let done = |step: &ReceiptStep| matches!(step, ReceiptStep::Done { .. });
            assert_eq!(steps.iter().map(done).collect::<Vec<_>>(), [false, true].repeat(RECEIPTS / 2));
            let were_there =
                steps.iter().filter(|step| matches!(step, ReceiptStep::Done { was_there: true, .. })).count();
            // Before receipt 2 the first comment was written; of labels it can't be told.
            let expected = [0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6][killed_at - 1];
            assert_eq!(were_there, expected, "{kind}, killed at {killed_at}: {steps:?}");
        }
        let (state, checks) = (double.state(), if kind == "github" { "check_runs" } else { "statuses" });
        let counts = ["comments", "reviews", "issues", checks].map(|list| count(&state, list));
        assert_eq!(counts, [3 * RECEIPTS, RECEIPTS, 1 + RECEIPTS, RECEIPTS], "{kind}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn each_is_written_once_whatever_becomes_of_the_answer() {
    for kind in BOTH {
        let double = double(kind);
        for (job, fault) in
            [json!({"drop": "after"}), json!({"drop": "before"}), json!({"status": 502})].iter().enumerate()
        {
            double.say(&json!({"pull": 9, "now": {"state": "open"}}));
            for (method, path) in [
                ("POST", "/issues/9/comments$"),
                ("POST", "/labels$"),
                ("POST", "/reviews$"),
                ("POST", "/issues$"),
                ("POST", "/(check-runs|statuses/a+)$"),
                ("PATCH", "/pulls/9$"),
            ] {
                let mut fault = fault.clone();
                fault["method"] = json!(method);
                fault["path"] = json!(path);
                double.say(&json!({"fault": fault}));
            }
            let plan = of_job(job + 1);
            let (_, outcome, _) = perform(forge(&double).as_ref(), &plan, outputs(), 0).await;
            assert_eq!(outcome.code, Code::Done, "{kind} {fault}: {}", outcome.summary);
            assert_whole(&double, &plan, &format!("{kind} {fault}"));
        }
        let state = double.state();
        assert_eq!(["comments", "reviews", "issues"].map(|list| count(&state, list)), [9, 3, 4], "{kind}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn remarks_are_said_as_each_forge_has_them() {
    for kind in BOTH {
        let double = double(kind);
        perform(forge(&double).as_ref(), &reviewing(), outputs(), 0).await;
        let state = double.state();
        let review = &state["reviews"][0];
        assert_eq!((&review["commit_id"], &review["event"]), (&json!("a".repeat(40)), &json!("COMMENT")));
        let mark = remark_mark("implementer", "Off by one.");
        let suggestion = "Off by one.\n\n```suggestion\nx = 1\n```";
        let wanted = match kind {
            "github" => json!([
                {"path": "size.py", "line": 3, "side": "RIGHT", "start_line": 2, "start_side": "RIGHT",
                    "body": format!("{mark}\n{suggestion}")},
                {"path": "size.py", "line": 2, "side": "LEFT", "body": format!("{mark}\nOff by one.")},
            ]),
            _ => json!([
                {"path": "size.py", "old_position": 0, "new_position": 3, "body": format!("{mark}\nLines 2 to 3:\n\n{suggestion}")},
                {"path": "size.py", "old_position": 2, "new_position": 0, "body": format!("{mark}\nOff by one.")},
            ]),
        };
        assert_eq!(review["comments"], wanted, "{kind}");
    }
}

#[tokio::test]
async fn a_second_try_says_it_in_its_own_words_and_touches_nobody_else_s() {
    for kind in BOTH {
        let (double, plan) = (double(kind), reviewing());
        let forge = forge(&double);
        let comment = |text: &str| vec![(ProposalId::FIRST, Output::Comment { body: text.to_owned() })];
        let key = output_key(&plan, OutputKind::Comment, 1);
        let body = format!("<!-- claude-bottle: output {key} -->\nNot the bottle's.");
        double.say(&json!({"id": 5, "number": 9, "author": "octo-reader", "body": body}));
        perform(forge.as_ref(), &plan, comment("Before."), 0).await;
        let (steps, ..) = perform(forge.as_ref(), &plan, comment("After."), 0).await;
        assert!(matches!(steps[..], [_, ReceiptStep::Done { was_there: true, .. }]), "{steps:?}");
        let state = double.state();
        let bodies: Vec<&str> =
            state["comments"].as_array().expect("comments").iter().filter_map(|one| one["body"].as_str()).collect();
        assert!(bodies.len() == 2 && bodies[0] == body && bodies[1].ends_with("After."), "{kind}: {bodies:?}");
        // Asked for by another comment, or by another job, it is another one.
        let mut other = plan.clone();
        other.task.asked_at = Some("2026-03-03T00:00:00Z".to_owned());
        if let Some(ci) = &mut other.ci {
            ci.run_id = "2".to_owned();
        }
        perform(forge.as_ref(), &other, comment("Another."), 0).await;
        assert_eq!(count(&double.state(), "comments"), 3);
        double.assert_valid();
    }
}

/// The record comes from the bundle, or from another job: what the door would refuse is refused here as well, and more.
#[tokio::test]
async fn what_may_not_go_out_is_written_nowhere() {
    let double = double("github");
    let forge = forge(&double);
    let comment = |body: &str| Output::Comment { body: body.to_owned() };
    let second = vec![comment("one"), comment("two"), comment("three")];
    let mut none = reviewing();
    none.policies.supervise.outputs = None;
    for (name, plan, asked, written, why) in [
        ("a secret", reviewing(), vec![comment("it is a-value-of-our-own")], 0, "known-secret:OWN_KEY"),
        (
            "a secret in base64",
            reviewing(),
            vec![comment("YS12YWx1ZS1vZi1vdXItb3du"), comment("fine")],
            1,
            "known-secret:OWN_KEY",
        ),
        ("a mention", reviewing(), vec![comment("@octocat")], 0, "1 mention"),
        ("above the limit", of_job(2), second, 2, "grants 2 in a run"),
        ("a label", reviewing(), vec![Output::Labels { labels: vec!["deploy".to_owned()] }], 0, "the label `deploy`"),
        (
            "a line that is not there",
            reviewing(),
            vec![said_in_review("", vec![remark(4, DiffSide::After)])],
            0,
            "size.py, line 4",
        ),
        ("nothing is granted", none, vec![comment("x")], 0, "does not grant `comment`"),
        ("a title without its prefix", reviewing(), vec![new_issue("Another one")], 0, "does not begin with `[bot] `"),
        ("a secret in a title", reviewing(), vec![new_issue("[bot] a-value-of-our-own")], 0, "known-secret:OWN_KEY"),
        (
            "a check that is not named",
            reviewing(),
            vec![Output::Check {
                name: "ci".to_owned(),
                conclusion: CheckConclusion::Success,
                summary: "x".to_owned(),
            }],
            0,
            "the check `ci`",
        ),
        ("closing twice", reviewing(), vec![close(""), close("")], 1, "has its close already"),
    ] {
        let before = double.writes().len();
        let (steps, _, refused) = perform(forge.as_ref(), &plan, numbered(asked), 0).await;
        assert_eq!(double.writes().len() - before, written, "{name}");
        let reasons = steps.iter().filter_map(|step| match step {
            ReceiptStep::Refused { reason } => Some(reason.as_str()),
            _ => None,
        });
        let reasons: Vec<&str> = reasons.collect();
        assert!(reasons.len() == 1 && reasons[0].contains(why), "{name}: {steps:?}");
        assert!(refused.len() == 1 && refused[0].contains(why), "{name}: {refused:?}");
        assert!(!format!("{steps:?} {refused:?}").contains("a-value-of-our-own"), "{name}");
    }
}

#[tokio::test]
async fn a_run_that_failed_writes_nothing_and_a_refusal_of_the_forge_s_is_said() {
    let double = double("gitea");
    let forge = forge(&double);
    double.say(
        &json!({"fault": {"method": "POST", "path": "/labels$", "status": 403, "times": 9, "body": {"message": "no"}}}),
    );
    let failed = Outcome { code: Code::Task, ..done() };
    let (steps, ..) = perform_after(failed, forge.as_ref(), &reviewing(), outputs(), 0).await;
    let refused = |step: &ReceiptStep| matches!(step, ReceiptStep::Refused { reason } if reason.contains("ended with"));
    assert!(steps.len() == RECEIPTS / 2 && steps.iter().all(refused) && double.writes().is_empty(), "{steps:?}");
    let (steps, outcome, _) = perform(forge.as_ref(), &reviewing(), outputs(), 0).await;
    assert!(matches!(&steps[3], ReceiptStep::Failed { reason } if reason.contains("label")), "{steps:?}");
    // The labels of the thread, and those of the issue; the others are written.
    let failed = steps.iter().filter(|step| matches!(step, ReceiptStep::Failed { .. })).count();
    let done = steps.iter().filter(|step| matches!(step, ReceiptStep::Done { .. })).count();
    assert_eq!((failed, done), (2, 5), "{steps:?}");
    assert!(outcome.code == Code::Machine && outcome.summary.contains("label"), "{}", outcome.summary);
}

#[tokio::test]
async fn a_dry_run_shows_them_and_writes_nothing() {
    for kind in BOTH {
        let double = double(kind);
        let dry = Dry::new(forge(&double));
        perform(&dry, &reviewing(), outputs(), 0).await;
        let would: Vec<Value> = dry.kept();
        let told: Vec<&str> = would.iter().filter_map(|line| line["would"].as_str()).collect();
        let wanted = ["comment", "label", "review", "comment", "open-issue", "check", "comment", "close-pull-request"];
        assert_eq!(told, wanted);
        let on_thread = would.iter().filter(|line| !matches!(line["would"].as_str(), Some("open-issue" | "check")));
        assert!(on_thread.clone().all(|line| line["number"] == 9), "{would:?}");
        assert_eq!((&would[4]["title"], &would[4]["labels"]), (&json!("[bot] Another one"), &json!(["bug"])));
        assert_eq!((&would[5]["commit"], &would[5]["conclusion"]), (&json!("a".repeat(40)), &json!("failure")));
        assert_eq!(would[2]["remarks"][0]["suggestion"], "x = 1");
        assert!(double.writes().is_empty());
    }
}

/// The reason for which the only output was not written.
#[track_caller]
fn only_reason(steps: &[ReceiptStep]) -> &str {
    match steps {
        [.., ReceiptStep::Refused { reason }] => reason,
        _ => panic!("{steps:?}"),
    }
}

#[tokio::test]
async fn a_thread_is_closed_as_the_agent_has_seen_it_or_not_at_all() {
    for kind in BOTH {
        let (double, plan) = (double(kind), reviewing());
        let forge = forge(&double);
        double.say(&json!({"pull": 9, "now": {"sha": "b".repeat(40)}}));
        let (steps, outcome, refused) = perform(forge.as_ref(), &plan, numbered([close("Over.")]), 0).await;
        assert!(only_reason(&steps).contains("other commits than when the agent looked"), "{kind}: {steps:?}");
        assert!(refused.len() == 1 && refused[0].contains("other commits"), "{kind}: {refused:?}");
        assert!(double.writes().is_empty() && outcome.code == Code::Done, "{kind}: {:?}", double.writes());
        // One whose commit is not known can't be told from one that has moved.
        let mut unknown = reviewing();
        unknown.task.pull_request = None;
        let (steps, ..) = perform(forge.as_ref(), &unknown, numbered([close("Over.")]), 0).await;
        assert!(only_reason(&steps).contains("no place for it") && double.writes().is_empty(), "{kind}: {steps:?}");

        // An issue, with the reason where the forge keeps one; and once.
        let plan = granted(issue());
        let number = plan.task.thread().expect("an issue").number;
        let other = json!([{"number": number, "title": "t"}, {"number": 8, "title": "another one"}]);
        let double = Double::start(kind, json!({"issues": other}));
        let forge = crate::forge::testing::forge(&double);
        for was_there in [false, true] {
            let (steps, ..) = perform(forge.as_ref(), &plan, numbered([close("")]), 0).await;
            assert!(
                matches!(&steps[..], [_, ReceiptStep::Done { number: None, was_there: there, .. }] if *there == was_there),
                "{kind}: {steps:?}"
            );
        }
        let state = double.state();
        assert_eq!((&state["issues"][0]["state"], &state["issues"][1]["state"]), (&json!("closed"), &Value::Null));
        let reason = if kind == "github" { json!("not_planned") } else { Value::Null };
        assert_eq!(state["issues"][0]["state_reason"], reason, "{kind}");
        assert_eq!(double.writes().len(), 1, "{kind}: {:?}", double.writes());
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_check_is_a_check_run_of_an_app_and_else_a_commit_status() {
    use CheckConclusion::{Failure, Success};
    for (kind, user, list) in
        [("github", false, "check_runs"), ("github", true, "statuses"), ("gitea", true, "statuses")]
    {
        let plan = of_job(1);
        let job = plan.ci.as_ref().expect("a job").run_url.clone();
        // Somebody else's of the same name and words, as if it were this job's.
        let foreign = json!({"id": 5, "sha": "a".repeat(40), "context": "bottle / review", "state": "success",
            "description": "No finding.", "target_url": job, "creator": "octo-reader", "created_at": "2026-03-02T09:00:00Z"});
        let pull =
            json!({"number": 9, "title": "t", "body": "", "head": "patch", "base": "main", "sha": "a".repeat(40)});
        let state = json!({"pulls": [pull], "me_readable": user, "statuses": [foreign], "check_runs": []});
        let double = Double::start(kind, state);
        let forge = forge(&double);
        let before = count(&double.state(), list);
        for (conclusion, summary, written) in [
            (Success, "No finding.", 1),
            (Success, "No finding.", 1),
            (Failure, "One finding.", 2),
            (Success, "No finding.", 3),
        ] {
            let (steps, ..) = perform(forge.as_ref(), &plan, numbered([check(conclusion, summary)]), 0).await;
            assert!(matches!(steps[..], [_, ReceiptStep::Done { number: Some(_), .. }]), "{kind} {user}: {steps:?}");
            assert_eq!(count(&double.state(), list) - before, written, "{kind} {user}: {summary}");
        }
        let newest = &double.state()[list][before];
        let at = if list == "statuses" { &newest["target_url"] } else { &newest["details_url"] };
        assert_eq!(at, &json!(job), "the link of a check goes to the job");
        // Two checks, in whatever order the next try reports them.
        let docs = || Output::Check { name: "docs".to_owned(), conclusion: Failure, summary: "A link.".to_owned() };
        let review = || check(Success, "No finding.");
        perform(forge.as_ref(), &plan, numbered([review(), docs()]), 0).await;
        perform(forge.as_ref(), &plan, numbered([docs(), review()]), 0).await;
        assert_eq!(count(&double.state(), list) - before, 4, "{kind} {user}");
        // No commit, no check.
        let (steps, ..) = perform(forge.as_ref(), &granted(issue()), numbered([review()]), 0).await;
        assert!(only_reason(&steps).contains("no place for it"), "{kind}: {steps:?}");
        double.assert_valid();
    }
}

#[tokio::test]
async fn an_issue_is_found_again_by_its_mark_and_its_writer() {
    for kind in BOTH {
        // Asked for by a label, and by nobody: a schedule's job has no thread.
        for mut plan in [reviewing(), granted(crate::forge::testing::plan(None))] {
            plan.task.asked_at = None;
            let pulls = double(kind).state()["pulls"].clone();
            let body = format!("<!-- claude-bottle: output {} -->\nx", output_key(&plan, OutputKind::Issue, 1));
            // More than a page of others, newer than the first try's.
            let mut others: Vec<Value> = (300..420).map(|number| json!({"number": number, "title": "t"})).collect();
            others.push(json!({"number": 500, "title": "[bot] Another one", "body": body, "author": "octo-reader"}));
            let double = Double::start(kind, json!({"issues": others, "pulls": pulls}));
            let forge = forge(&double);
            let made = |state: &Value| state["issues"].as_array().map_or(vec![], |issues| issues[121..].to_vec());
            perform(forge.as_ref(), &plan, numbered([new_issue("[bot] First")]), 0).await;
            let (steps, ..) = perform(forge.as_ref(), &plan, numbered([new_issue("[bot] Second")]), 0).await;
            assert!(matches!(steps[..], [_, ReceiptStep::Done { was_there: true, .. }]), "{kind}: {steps:?}");
            let state = double.state();
            let issues = made(&state);
            assert!(issues.len() == 1 && issues[0]["title"] == "[bot] Second", "{kind}: {issues:?}");
            assert_eq!(state["issues"][120]["body"], json!(body), "{kind}: somebody else's is touched by nobody");
            // Another job's is another one.
            if let Some(ci) = &mut plan.ci {
                ci.run_id = "2".to_owned();
            }
            perform(forge.as_ref(), &plan, numbered([new_issue("[bot] Third")]), 0).await;
            assert_eq!(made(&double.state()).len(), 2, "{kind}");
            double.assert_valid();
        }
    }
}
