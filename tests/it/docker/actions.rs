//! The shipped workflow and the action by `act`: comment in, branch and pull request out, outputs for a later step.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use bottle_testkit::{Double, Running, commands, said, until_within};
use serde_json::{Value, json};

use super::stage::{ROOT, Stage};
use crate::forge::outputs;
use crate::job::{Job, ended_with, manifest};
use crate::place::left_behind;

/// A comment on the sample's issue.
pub(super) fn comment(login: &str, id: u64, body: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(ROOT).join("examples/issue-labeled.json")).expect("the event");
    let mut event: Value = serde_json::from_str(&text).expect("JSON");
    let user = json!({"login": login, "id": id, "type": "User"});
    event["action"] = json!("created");
    event["comment"] = json!({
        "id": 900, "body": body, "user": user, "html_url": "https://git.bottle.test/octo-org/textstats/issues/7#issuecomment-900",
        "created_at": "2026-03-02T09:20:35Z", "updated_at": "2026-03-02T09:20:35Z", "author_association": "MEMBER",
    });
    event["sender"] = user;
    event.as_object_mut().expect("an object").remove("label");
    event
}

/// The other workflows: how each is set off, how many pull requests and comments come of it, what the first is about.
fn runs(kind: &'static str, workflow: &str, event: &str, payload: &Value, pulls: usize, comments: usize, says: &str) {
    let mut issues = json!([{"number": 7, "title": "Count right"}, {"number": 8, "title": "Count faster"}]);
    if workflow == "oldest" {
        issues[0]["labels"] = json!(["claude"]);
        // Gitea: the text was never changed.
        issues[0]["content_version"] = json!(0);
    }
    let mut more = json!({"issues": issues, "timeline": [label_given()]});
    if event == "workflow_run" {
        // Whether the failed run's branch is there is asked, not where it is.
        more["branches"] = json!({"main": "0123456789abcdef0123456789abcdef01234567"});
    }
    let stage = Stage::new(kind, workflow, &commands(&["date +%N >> README.md"]), more);
    let output = stage.act(event, payload);
    assert!(output.status.success(), "{workflow}: {}", said(&output));
    let state = stage.double.state();
    assert_eq!(state["pulls"].as_array().map_or(0, Vec::len), pulls, "{workflow}: {}", said(&output));
    assert_eq!(state["comments"].as_array().map_or(0, Vec::len), comments, "{workflow}: {state}");
    assert!(state["pulls"][0].to_string().contains(says), "{workflow}: {state}");
    let (outcome, outputs) = stage.seen_later();
    assert_eq!((outcome.as_str(), &outputs["conclusion"]), ("success", &json!("success")), "{workflow}");
    let name = if workflow == "matrix" { "claude-bottle-7" } else { "claude-bottle" };
    let kept = stage.job.world.path("uploaded").join(name).join("summary.md");
    assert!(kept.is_file(), "{}", said(&output));
    stage.double.assert_valid();
    stage.job.nothing_left();
}

fn labeled() -> Value {
    let text = std::fs::read_to_string(Path::new(ROOT).join("examples/issue-labeled.json")).expect("the event");
    serde_json::from_str(&text).expect("JSON")
}

/// The same as Gitea sends it, which does not say the label; its timeline does.
fn labeled_at_gitea() -> Value {
    let mut event = labeled();
    event["action"] = json!("label_updated");
    event.as_object_mut().expect("an object").remove("label");
    event
}

fn label_given() -> Value {
    let event = labeled();
    json!({"number": 7, "created_at": event["issue"]["updated_at"], "author": event["sender"]["login"], "given": true,
        "label": {"id": event["label"]["id"], "name": event["label"]["name"]}})
}

fn two_jobs(kind: &'static str) {
    let cassette = std::fs::read_to_string(Path::new(ROOT).join("examples/cassette.yml")).expect("the cassette");
    let stage = Stage::new(kind, "two-jobs", &cassette, json!({"timeline": [label_given()]}));
    let output = stage.act("issues", &if kind == "gitea" { labeled_at_gitea() } else { labeled() });
    assert!(output.status.success(), "{}", said(&output));
    let state = stage.double.state();
    assert_eq!(state["pulls"].as_array().map_or(0, Vec::len), 1, "{}", said(&output));
    let body = state["pulls"][0]["body"].as_str().expect("a text");
    for wanted in ["Closes #7.", "this one does not vouch for it", "`refs/heads/bottle/issue-7-", "> ## verify"] {
        assert!(body.contains(wanted), "{wanted}: {body}");
    }
    assert_eq!(state["comments"].as_array().map_or(0, Vec::len), 1, "{state}");
    let (outcome, outputs) = stage.seen_later();
    assert_eq!((outcome.as_str(), &outputs["conclusion"]), ("success", &json!("success")));
    let branch = outputs["branch"].as_str().expect("a branch");
    assert_eq!(outputs["commit"], stage.job.upstream.git(&["rev-parse", branch]).as_str());
    assert_eq!(stage.job.world.slugs().len(), 2, "two runs");
    stage.double.assert_valid();
    stage.job.nothing_left();
}

/// A task list in, an issue, a branch and a pull request for each task out.
fn tasks(kind: &'static str) {
    let mut event = if kind == "gitea" { labeled_at_gitea() } else { labeled() };
    let mut given = label_given();
    event["issue"]["body"] = json!("- [ ] Count right\n- [x] Read\n- [ ] Count faster\n");
    let name = json!("claude-tasks");
    event["issue"]["labels"][0]["name"] = name.clone();
    given["label"]["name"] = name.clone();
    if kind == "github" {
        event["label"]["name"] = name;
    }
    let more = json!({"issues": [{"number": 7, "title": "Count"}], "timeline": [given]});
    let stage = Stage::new(kind, "tasks", &commands(&["date +%N >> README.md"]), more);
    let manifest = stage.job.checkout.join("claude-bottle.yml");
    let rules = std::fs::read_to_string(&manifest).expect("the manifest");
    let rules = rules.replace("labels: { claude: ", "labels: { claude-tasks: ");
    std::fs::write(&manifest, rules).expect("the manifest");
    crate::forge::git(&stage.job.checkout, &["commit", "--quiet", "-m", "Rules", "claude-bottle.yml"]);
    let output = stage.act("issues", &event);
    assert!(output.status.success(), "{}", said(&output));
    let state = stage.double.state();
    let rows = |kind: &str| state[kind].as_array().cloned().unwrap_or_default();
    let numbers = |rows: Vec<Value>| -> Vec<u64> { rows.iter().filter_map(|row| row["number"].as_u64()).collect() };
    let (issues, pulls) = (numbers(rows("issues")), numbers(rows("pulls")));
    assert_eq!((issues.len(), pulls.len()), (3, 2), "{}", said(&output));
    for pull in rows("pulls") {
        let body = pull["body"].as_str().expect("a text");
        assert!(issues[1..].iter().any(|issue| body.contains(&format!("Closes #{issue}."))), "{body}");
    }
    let card = rows("comments").into_iter().find(|row| row["number"] == 7).expect("the comment that names them");
    let card = card["body"].as_str().expect("a text").to_owned();
    assert!(pulls.iter().all(|pull| card.contains(&format!("in pull request #{pull}\n"))), "{card}");
    for issue in &issues[1..] {
        let kept = stage.job.world.path("uploaded").join(format!("claude-bottle-{issue}")).join("summary.md");
        assert!(kept.is_file(), "{}", said(&output));
    }
    stage.double.assert_valid();
    stage.job.nothing_left();
}

#[test]
fn the_workflow_for_a_task_list_runs() {
    tasks("github");
}

#[test]
fn gitea_s_workflow_for_a_task_list_runs() {
    tasks("gitea");
}

#[test]
fn the_workflow_with_two_jobs_runs() {
    two_jobs("github");
}

#[test]
fn gitea_s_workflow_with_two_jobs_runs() {
    two_jobs("gitea");
}

#[test]
fn gitea_s_issue_workflow_runs() {
    runs("gitea", "issue", "issues", &labeled_at_gitea(), 1, 1, "Closes #7.");
}

#[test]
fn gitea_s_dispatch_workflow_runs() {
    let payload = dispatched(json!({"task": "Tidy up the readme", "agent": "implementer"}));
    runs("gitea", "dispatch", "workflow_dispatch", &payload, 1, 0, "Tidy up the");
}

#[test]
fn gitea_s_schedule_workflow_runs() {
    runs("gitea", "schedule", "schedule", &json!({"schedule": "17 5 * * 1"}), 1, 0, "Look through the dependencies");
}

#[test]
fn gitea_s_oldest_workflow_runs() {
    runs("gitea", "oldest", "schedule", &json!({"schedule": "23 * * * *"}), 1, 1, "Closes #7.");
}

/// A pull request that somebody without a right here has opened.
fn review(kind: &'static str) {
    let cassette = commands(&["git log -1 --format=%s"]);
    let pull = json!({"number": 9, "title": "Count faster", "body": "", "head": "patch", "base": "main", "author": "octo-reader"});
    let stage = Stage::new(kind, "review", &cassette, json!({"pulls": [pull]}));
    stage.job.upstream.git(&["update-ref", "refs/heads/patch", "refs/heads/main"]);
    let manifest = stage.job.checkout.join("claude-bottle.yml");
    let rules = std::fs::read_to_string(&manifest).expect("the manifest");
    let rules = rules.replace("triggers:\n", "triggers:\n  pull_requests: { agent: implementer, on: [opened] }\n");
    std::fs::write(&manifest, rules).expect("the manifest");
    crate::forge::git(&stage.job.checkout, &["commit", "--quiet", "-m", "Rules", "claude-bottle.yml"]);
    let head = stage.job.upstream.git(&["rev-parse", "refs/heads/patch"]);
    stage.double.say(&json!({"pull": 9, "now": {"sha": head}}));
    // act takes the base's commit for the job's.
    let base = crate::forge::git(&stage.job.checkout, &["rev-parse", "HEAD"]);
    let before = stage.job.upstream.git(&["for-each-ref"]);
    let repository = labeled()["repository"].clone();
    let side = |branch: &str, sha: &str| json!({"ref": branch, "sha": sha, "repo": repository});
    let by = json!({"login": "octo-reader", "id": 5_550_107, "type": "User"});
    let event = json!({
        "action": "opened", "number": 9, "repository": repository, "sender": by,
        "pull_request": {
            "number": 9, "title": "Count faster", "body": "", "state": "open", "draft": false, "user": by, "html_url": "https://git.bottle.test/p",
            "updated_at": "2026-03-02T09:20:35Z", "head": side("patch", &head), "base": side("main", &base),
        },
    });
    let output = stage.act("pull_request_target", &event);
    assert!(output.status.success(), "{}", said(&output));
    let state = stage.double.state();
    let reviews = state["reviews"].as_array().cloned().unwrap_or_default();
    assert!(reviews.len() == 1 && reviews[0]["body"].to_string().contains("That is all."), "{}", said(&output));
    assert_eq!(stage.job.upstream.git(&["for-each-ref"]), before, "nothing is pushed");
    let (outcome, outputs) = stage.seen_later();
    assert_eq!((outcome.as_str(), &outputs["conclusion"]), ("success", &json!("success")));
    stage.double.assert_valid();
    stage.job.nothing_left();
}

#[test]
fn the_workflow_for_reviews_runs() {
    review("github");
}

#[test]
fn gitea_s_workflow_for_reviews_runs() {
    review("gitea");
}

#[test]
fn gitea_s_matrix_workflow_runs() {
    runs("gitea", "matrix", "workflow_dispatch", &dispatched(json!({"issues": "[7, 8]"})), 2, 2, "Closes #");
}

/// Workflows that `forge/workflows.toml` has act run alone: the first starts no bottle, and the second is `issue` below a policy's file.
const WITHOUT_A_BOTTLE: [&str; 2] = ["policy", "shared"];

/// Every file that users copy is run by a test above.
#[test]
fn every_workflow_has_its_test() {
    let here = std::fs::read_to_string(Path::new(ROOT).join("tests/it/docker/actions.rs")).expect("this file");
    for kind in ["github", "gitea"] {
        for entry in std::fs::read_dir(Path::new(ROOT).join("workflows").join(kind)).expect("the workflows") {
            let name = entry.expect("a file").file_name().into_string().expect("a name");
            let stem = name.trim_end_matches(".yml");
            let ways = [
                format!("runs(\"{kind}\", \"{stem}\""),
                format!("Stage::new(\"{kind}\", \"{stem}\""),
                format!("{}(\"{kind}\")", stem.replace('-', "_")),
            ];
            if WITHOUT_A_BOTTLE.contains(&stem) {
                continue;
            }
            assert!(ways.iter().any(|way| here.contains(way)), "no test runs workflows/{kind}/{name}");
        }
    }
}

fn dispatched(inputs: Value) -> Value {
    json!({
        "inputs": inputs, "ref": "refs/heads/main", "sender": {"login": "octo-maintainer", "id": 5_550_108},
        "repository": {"default_branch": "main", "full_name": "octo-org/textstats"},
    })
}

#[test]
fn the_issue_workflow_runs() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("examples/issue-labeled.json")).expect("the event");
    runs("github", "issue", "issues", &serde_json::from_str(&text).expect("JSON"), 1, 1, "Closes #7.");
}

#[test]
fn the_dispatch_workflow_runs() {
    let payload = dispatched(json!({"task": "Tidy up the \"readme\"; $(touch /tmp/x) `id`", "agent": "implementer"}));
    runs("github", "dispatch", "workflow_dispatch", &payload, 1, 0, "Tidy up the");
}

#[test]
fn the_schedule_workflow_runs() {
    runs("github", "schedule", "schedule", &json!({"schedule": "17 5 * * 1"}), 1, 0, "Look through the dependencies");
}

#[test]
fn the_oldest_workflow_runs() {
    runs("github", "oldest", "schedule", &json!({"schedule": "23 * * * *"}), 1, 1, "Closes #7.");
}

#[test]
fn the_matrix_workflow_runs() {
    runs("github", "matrix", "workflow_dispatch", &dispatched(json!({"issues": "[7, 8]"})), 2, 2, "Closes #");
}

#[test]
fn the_workflow_for_failed_checks_runs() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("tests/fixtures/good/event/workflow_run-failed.json"));
    let mut event: Value = serde_json::from_str(&text.expect("the event")).expect("JSON");
    let user = json!({"login": "octo-maintainer", "id": 5_550_108, "type": "User"});
    event["sender"] = user.clone();
    event["workflow_run"]["actor"] = user.clone();
    event["workflow_run"]["triggering_actor"] = user;
    for key in ["full_name", "default_branch"] {
        let value = if key == "full_name" { "octo-org/textstats" } else { "main" };
        event["repository"][key] = json!(value);
        event["workflow_run"]["head_repository"][key] = json!(value);
        event["workflow_run"]["repository"][key] = json!(value);
    }
    runs("github", "ci-failure", "workflow_run", &event, 1, 0, "failed on");
}

#[test]
fn gitea_s_comment_workflow_runs() {
    let payload = comment("octo-maintainer", 5_550_108, "/claude fix this");
    runs("gitea", "comment", "issue_comment", &payload, 1, 1, "Closes #7.");
}

#[test]
fn a_comment_becomes_a_pull_request() {
    let cassette = std::fs::read_to_string(Path::new(ROOT).join("examples/cassette.yml")).expect("the cassette");
    let stage = Stage::new("github", "comment", &cassette, json!({}));
    let output = stage.act("issue_comment", &comment("octo-maintainer", 5_550_108, "/claude fix this"));
    assert!(output.status.success(), "{}", said(&output));

    let branch = "bottle/issue-7-words-followed-by-punctuation-are";
    let commit = stage.job.upstream.git(&["rev-parse", &format!("refs/heads/{branch}")]);
    let state = stage.double.state();
    assert_eq!(state["pulls"].as_array().map_or(0, Vec::len), 1, "{state}");
    let pull = &state["pulls"][0];
    assert_eq!((&pull["head"], &pull["base"], &pull["draft"]), (&json!(branch), &json!("main"), &json!(false)));
    let body = pull["body"].as_str().expect("a text");
    for wanted in [
        "Closes #7.",
        "asked by octo-maintainer",
        "python3 -m unittest",
        "example.com",
        "deploy.toml:2",
        "/actions/runs/",
    ] {
        assert!(body.contains(wanted), "{wanted}: {body}");
    }
    assert_eq!(state["comments"].as_array().map_or(0, Vec::len), 1, "{state}");
    let status = state["comments"][0]["body"].as_str().expect("a text");
    assert!(status.contains("✅") && status.contains(&format!("pull request [#{}]", pull["number"])), "{status}");
    stage.double.assert_valid();

    let (outcome, outputs) = stage.seen_later();
    assert_eq!(outcome, "success");
    assert_eq!(outputs["conclusion"], "success");
    assert_eq!(outputs["branch"], branch);
    assert_eq!(outputs["commit"], commit.as_str());
    assert_eq!(outputs["pr-number"], pull["number"].to_string().as_str());
    assert!(outputs["pr-url"].as_str().expect("an address").ends_with(&format!("/pull/{}", pull["number"])));
    assert!(
        outputs["turns"].as_str().and_then(|turns| turns.parse::<u32>().ok()).is_some_and(|turns| turns > 3),
        "{outputs}"
    );
    assert_eq!(outputs["cost-usd"], "", "a replay costs nothing");
    assert!(!outputs["session-id"].as_str().expect("a text").is_empty());
    let record = stage.job.world.record();
    assert_eq!(outputs["record"], record.display().to_string().as_str());
    for name in
        ["summary.md", "junit.xml", "transcript.jsonl", "gate.jsonl", "egress.jsonl", "metadata.json", "report.html"]
    {
        assert!(record.join(name).is_file(), "{name}");
    }
    for secret in [&stage.double.token, stage.job.world.secret()] {
        assert!(!said(&output).contains(secret), "a secret is in the job's log");
    }
    stage.job.nothing_left();

    // A follow-up renews the one pull request and the one comment.
    let output = stage.act("issue_comment", &comment("octo-maintainer", 5_550_108, "/claude once more"));
    let state = stage.double.state();
    assert_eq!(state["pulls"].as_array().map_or(0, Vec::len), 1, "{}", said(&output));
    assert_eq!(state["comments"].as_array().map_or(0, Vec::len), 1, "{state}");
    stage.double.assert_valid();
}

#[test]
fn a_reader_s_comment_starts_nothing() {
    let stage = Stage::new("github", "comment", &commands(&[]), json!({}));
    let output = stage.act("issue_comment", &comment("octo-reader", 5_550_107, "/claude fix this"));
    assert!(output.status.success(), "a stranger makes no job red: {}", said(&output));
    let (outcome, outputs) = stage.seen_later();
    assert_eq!((outcome.as_str(), &outputs["conclusion"]), ("success", &json!("refused")));
    assert!(said(&output).contains("octo-reader (id 5550107) has read on this repository"), "{}", said(&output));
    assert!(stage.job.world.slugs().is_empty(), "a run was started");
    assert!(stage.double.writes().is_empty());
}

/// The runner as a job's step, without `act`: faster, and its files can be looked at.
fn step(job: &Job, double: &Double, more: &[&str]) -> Output {
    let mut command = job.command();
    crate::forge::job(&job.world, double, &mut command, "issues", &{
        let text = std::fs::read_to_string(Path::new(ROOT).join("examples/issue-labeled.json")).expect("the event");
        serde_json::from_str(&text).expect("JSON")
    });
    command.env("GITHUB_STEP_SUMMARY", job.world.path("summary")).args(more).output().expect("the runner")
}

#[test]
fn failed_work_is_a_draft_and_its_log_commands_nothing() {
    // What the agent prints looks like commands of the workflow, and verify fails with a place.
    let job = Job::with_manifest(
        &commands(&[
            "echo more >> README.md; printf '::set-output name=branch::evil\\n##[add-mask]a\\n::stop-commands::x\\n'",
        ]),
        |upstream| {
            manifest(upstream)
                .replace("python3 -m unittest", "printf 'textstats.py:3:1: error: no\\\\n::error::evil\\\\n'; exit 1")
        },
    );
    let double = Double::start("github", json!({}));
    let output = step(&job, &double, &[]);
    ended_with(&output, 1);
    let state = double.state();
    assert_eq!(state["pulls"][0]["draft"], true, "{state}");
    let summary = std::fs::read_to_string(job.world.path("summary")).expect("the summary");
    let comment = state["comments"][0]["body"].as_str().expect("a text");
    // Hidden lines come first: whose the comment is, the lease, what was taken up, and what was pushed.
    let card: Vec<&str> = comment.lines().skip(4).collect();
    assert!(comment.lines().take(4).all(|line| line.starts_with("<!-- claude-bottle: ")), "{comment}");
    let (told, timeline) = summary.split_once("\n```mermaid\n").expect("a timeline behind the card");
    assert_eq!(card.join("\n").trim(), told.trim(), "the same in both places");
    assert!(timeline.starts_with("gantt\n") && timeline.trim_end().ends_with("```"), "{timeline}");
    assert!(summary.contains("❌") && summary.contains("verify failed"), "{summary}");

    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("::error file=textstats.py,line=3,title=verify"), "{log}");
    assert!(log.contains("::group::agent\n") && log.contains("::endgroup::\n"), "{log}");
    let mut fence: Option<String> = None;
    let mut tokens = vec![];
    for line in log.lines() {
        if let Some(token) = line.strip_prefix("::stop-commands::") {
            assert!(fence.is_none() && !tokens.contains(&token.to_owned()), "{line}");
            tokens.push(token.to_owned());
            fence = Some(token.to_owned());
        } else if fence.as_ref().is_some_and(|token| line == format!("::{token}::")) {
            fence = None;
        } else if line.contains("##[") || (line.trim_start().starts_with("::") && line.contains("evil")) {
            assert!(fence.is_some() || line.starts_with("::error "), "outside the fence: {line}");
        }
    }
    assert!(fence.is_none(), "the job's runner is left deaf");
    let text = std::fs::read_to_string(job.world.path("outputs")).expect("the outputs");
    let found = outputs(&text);
    let value =
        |name: &str| found.iter().find(|(at, _)| at == name).map(|(_, value)| value.clone()).expect("the output");
    assert_eq!(value("conclusion"), "failure");
    assert!(value("branch").starts_with("bottle/issue-7-"), "{text}");
    double.assert_valid();
    assert!(left_behind(&job.world.slugs()[0]).is_empty());
}

#[test]
fn a_dry_run_writes_nothing_at_the_forge() {
    let job = Job::with_manifest(&commands(&["echo more >> README.md"]), |upstream| {
        manifest(upstream).replace("python3 -m unittest", "true")
    });
    let double = Double::start("gitea", json!({}));
    let output = step(&job, &double, &["--dry-run"]);
    ended_with(&output, 0);
    assert!(double.writes().is_empty(), "{:?}", double.writes());
    let would: Vec<Value> =
        job.world.record_file("would-do.jsonl").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let what: Vec<&str> = would.iter().filter_map(|line| line["would"].as_str()).collect();
    assert_eq!(what, ["push", "open-pull-request", "comment"], "{would:?}");
    assert!(would[1]["body"].as_str().expect("a text").contains("Closes #7."));
    double.assert_valid();
}

#[test]
fn a_pull_request_that_can_t_be_opened_fails_the_run() {
    let job = Job::with_manifest(&commands(&["echo more >> README.md"]), |upstream| {
        manifest(upstream).replace("python3 -m unittest", "true")
    });
    let fault = json!({"method": "POST", "path": "/pulls$", "status": 403, "times": 9,
        "body": {"message": "GitHub Actions is not permitted to create or approve pull requests."}});
    let double = Double::start("github", json!({"faults": [fault]}));
    let output = step(&job, &double, &[]);
    ended_with(&output, 4);
    assert!(said(&output).contains("Allow GitHub Actions to create and approve pull requests"), "{}", said(&output));
    let branch = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    assert_eq!(branch.lines().count(), 1, "the work is there: {branch}");
}

/// A job's step in which the agent is at work.
pub(super) fn at_work(job: &Job, double: &Double) -> Running {
    let mut command = job.command();
    let text = std::fs::read_to_string(Path::new(ROOT).join("examples/issue-labeled.json")).expect("the event");
    crate::forge::job(&job.world, double, &mut command, "issues", &serde_json::from_str(&text).expect("JSON"));
    let running = Running::new(command.spawn().expect("the runner"));
    until_within(Duration::from_secs(120), "the agent's start", || {
        job.world.slugs().first().is_some_and(|slug| {
            std::fs::read_to_string(job.world.path("state").join(slug).join("transcript.jsonl"))
                .is_ok_and(|text| text.contains("sleep"))
        })
    });
    running
}

#[test]
fn a_cancelled_job_says_so_and_proposes_nothing() {
    let job = Job::new(&commands(&["echo x > new.txt; sleep 120"]));
    let double = Double::start("github", json!({}));
    let running = at_work(&job, &double);
    running.signal("TERM");
    let asked = std::time::Instant::now();
    let output = running.wait();
    ended_with(&output, 143);
    assert!(asked.elapsed().as_secs() < 30, "{:?}", asked.elapsed());
    let state = double.state();
    let comment = state["comments"][0]["body"].as_str().expect("a comment");
    assert!(comment.contains("❌") && comment.contains("cancelled by SIGTERM"), "{comment}");
    assert_eq!(state["pulls"], json!([]));
    let text = std::fs::read_to_string(job.world.path("outputs")).expect("the outputs");
    assert!(outputs(&text).contains(&("conclusion".to_owned(), "cancelled".to_owned())), "{text}");
    job.nothing_left();
}

#[test]
fn the_last_step_removes_what_a_killed_run_has_left() {
    // A run of another test that begins in between may remove it first: then once more.
    assert!((0..3).any(|_| killed_and_removed()), "others were always first");
}

/// Kills a runner and does the last step, and tells whether that found something to do.
fn killed_and_removed() -> bool {
    let job = Job::new(&commands(&["sleep 120"]));
    let double = Double::start("github", json!({}));
    let running = at_work(&job, &double);
    running.signal("KILL");
    running.wait();
    let slug = job.world.slugs().remove(0);
    let is_there = !left_behind(&slug).is_empty();
    let mut end = Command::new("bash");
    job.world.clean(&mut end);
    let output = end
        .arg(Path::new(ROOT).join("scripts/action/end"))
        .env("BOTTLE_RUNNER", env!("CARGO_BIN_EXE_bottle-runner"))
        .output();
    let output = output.expect("bash");
    assert!(output.status.success(), "{}", said(&output));
    job.nothing_left();
    is_there && said(&output).contains(&format!("{slug}: removed"))
}
