//! What an agent may write at the forge: the whole way from its tool to a comment and a label.

use bottle_testkit::{Double, said};
use serde_json::{Value, json};

use super::asks::{MAINTAINER, command, comment, job_with};
use super::git;
use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, on};

fn tool(name: &str, input: Value) -> Value {
    json!({"tools": [{"name": format!("mcp__supervise__{name}"), "input": input}]})
}

/// An agent that asks for what it may have, and for what it may not.
fn cassette() -> String {
    let turns = [
        tool("write_comment", json!({"body": "The words are counted in `textstats.py`."})),
        tool("add_labels", json!({"labels": ["bug"]})),
        tool("add_labels", json!({"labels": ["claude"]})),
        tool("write_comment", json!({"body": "Thanks, @octocat!"})),
        tool("write_comment", json!({"body": "A second one."})),
        json!({"text": "That is all."}),
    ];
    json!({"version": 1, "turns": turns}).to_string()
}

/// The job after a dry run, which has written nothing.
fn job_after_a_dry_run() -> (Job, Double) {
    let (job, double) = job_with("github", &cassette(), json!({}), |rules| {
        rules.replace(
            "    bottle: default\n",
            "    bottle: default\n    outputs: { comment: { max: 1 }, labels: { allowed: [bug] } }\n",
        )
    });
    let event = comment(MAINTAINER, "/claude where are words counted?", None);
    let mut dry = command(&job, &double, "77", "issue_comment", &event);
    let dry = dry.arg("--dry-run").output().expect("the runner");
    ended_with(&dry, 0);
    let would = job.world.record_file("would-do.jsonl");
    assert!(would.contains("The words are counted") && would.contains("\"bug\""), "{would}");
    assert!(double.writes().is_empty(), "{:?}", double.writes());
    (job, double)
}

fn outputs() {
    let (job, double) = job_after_a_dry_run();
    let event = comment(MAINTAINER, "/claude where are words counted?", None);
    let before = job.world.slugs();
    let output = command(&job, &double, "78", "issue_comment", &event).output().expect("the runner");
    ended_with(&output, 0);
    let state = double.state();
    let comments = state["comments"].as_array().expect("comments");
    let bodies: Vec<&str> = comments.iter().filter_map(|one| one["body"].as_str()).collect();
    let ours: Vec<&&str> = bodies.iter().filter(|body| body.starts_with("<!-- claude-bottle: output ")).collect();
    assert!(ours.len() == 1 && ours[0].ends_with("The words are counted in `textstats.py`."), "{bodies:?}");
    assert_eq!(state["issues"][0]["labels"], json!(["bug"]), "{state}");
    // Neither a branch nor a pull request.
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)"]), "refs/heads/main");
    assert!(state["pulls"].as_array().is_none_or(Vec::is_empty), "{state}");
    let slug = job.world.slugs().into_iter().find(|slug| !before.contains(slug)).expect("a record");
    let record = job.world.path("state").join(slug);
    let file = |name: &str| std::fs::read_to_string(record.join(name)).expect(name);
    let refused = file("proposals.jsonl").matches("output_refused").count();
    assert_eq!(refused, 3, "{}", file("proposals.jsonl"));
    let receipts = file("outputs.jsonl");
    assert_eq!(receipts.lines().count(), 4, "{receipts}");
    assert_eq!((receipts.matches("begun").count(), receipts.matches("done").count()), (2, 2), "{receipts}");
    assert!(said(&output).contains("claude"), "{}", said(&output));
    double.assert_valid();
    job.nothing_left();
}

/// A reviewer that reviews the pull request, opens an issue about what it found beside it, and reports a check of its head.
fn reviewing() -> String {
    let remark =
        json!({"path": "textstats.py", "line": 1, "body": "Say what is counted.", "suggestion": "# Counts words."});
    let outside = json!({"path": "README.md", "line": 1, "body": "This is not in the change."});
    let check = |name: &str| json!({"name": name, "conclusion": "failure", "summary": "One remark."});
    let finding = |path: &str| json!({"rule": "empty-file", "message": "This fails.", "path": path, "line": 2});
    let turns = [
        tool("write_review", json!({"body": "One remark.", "remarks": [outside]})),
        tool("write_review", json!({"body": "One remark.", "remarks": [remark]})),
        tool("open_issue", json!({"title": "Nothing tests empty files", "body": "See `textstats.py`."})),
        tool(
            "open_issue",
            json!({"title": "[bot] Nothing tests empty files", "body": "See `textstats.py`.", "labels": ["bug"]}),
        ),
        tool("report_check", json!({"name": "ci", "conclusion": "success", "summary": "Fine."})),
        tool("report_check", check("bottle / review")),
        tool("report_findings", json!({"findings": [finding("https://a.example/textstats.py")]})),
        tool("report_findings", json!({"findings": [finding("textstats.py"), finding("made-up.py")]})),
        tool("close_thread", json!({"reason": "not_planned"})),
        json!({"text": "That is all."}),
    ];
    json!({"version": 1, "turns": turns}).to_string()
}

/// The reviewer's job, and a pull request whose change is in the repository, with the commit at its head.
fn job_with_a_change(kind: &'static str) -> (Job, Double, String) {
    let granted = "    bottle: default
    outputs:
      review: { max: 5 }
      issue: { title_prefix: \"[bot] \", labels: [bug] }
      check: { names: [bottle / review] }
      sarif: {}
";
    let job = Job::with_manifest(&reviewing(), |upstream| {
        let rules = manifest(upstream).replace("python3 -m unittest", "true");
        rules.replace("    bottle: default\n", granted)
    });
    let (clone, upstream) = (job.world.path("patch"), job.world.path("srv/app.git"));
    git(&job.world.path("."), &["clone", "-q", &upstream.display().to_string(), "patch"]);
    git(&clone, &["checkout", "-qb", "patch"]);
    let text = std::fs::read_to_string(clone.join("textstats.py")).expect("the sample");
    std::fs::write(clone.join("textstats.py"), format!("# Counts.\n{text}")).expect("a change");
    git(&clone, &["commit", "-qam", "Say more"]);
    git(&clone, &["push", "-q", "origin", "patch"]);
    let head = git(&clone, &["rev-parse", "HEAD"]);
    let diff = git(&clone, &["diff", "origin/main", "patch"]) + "\n";
    let served = job.world.path("served/octo-org");
    std::fs::create_dir_all(&served).expect("a directory");
    std::os::unix::fs::symlink(upstream, served.join("textstats.git")).expect("a link");
    let pull = json!({"number": 9, "title": "Say more", "body": "", "head": "patch", "base": "main"});
    let state = json!({"pulls": [pull], "diff": diff});
    let double = Double::start_at(kind, "127.0.0.1", Some(&job.world.path("served")), state);
    (job, double, head)
}

/// The finding about a file of the commit is in the record, and at the forge that takes any; that about no file is nowhere.
fn findings(kind: &str, state: &Value, record: &str, head: &str) {
    let sarif: Value = serde_json::from_str(record).expect("SARIF");
    let results = sarif["runs"][0]["results"].as_array().expect("results");
    let location = &results[0]["locations"][0]["physicalLocation"];
    assert!(results.len() == 1 && location["artifactLocation"]["uri"] == "textstats.py", "{sarif}");
    let uploaded = match kind {
        "github" => json!([{"commit_sha": head, "ref": "refs/pull/9/head", "sarif": sarif}]),
        _ => Value::Null,
    };
    assert_eq!(state["sarifs"], uploaded);
}

fn review(kind: &'static str) {
    let (job, double, head) = job_with_a_change(kind);
    let mut event = comment(MAINTAINER, "/claude review", Some(9));
    if kind == "gitea" {
        let repository = json!({"id": event["repository"]["id"], "full_name": event["repository"]["full_name"]});
        let side = |branch: &str| json!({"ref": branch, "sha": head, "repo": repository});
        event["is_pull"] = json!(true);
        event["pull_request"] = json!({"number": 9, "title": "Say more", "body": "", "html_url": "https://git.bottle.test/p",
            "updated_at": event["comment"]["created_at"], "head": side("patch"), "base": side("main")});
    }
    let output = command(&job, &double, "79", "issue_comment", &event).output().expect("the runner");
    ended_with(&output, 0);
    let state = double.state();
    let of = |list: &str| state[list].as_array().cloned().unwrap_or_default();
    let reviews = of("reviews");
    assert!(reviews.len() == 1 && reviews[0]["commit_id"] == json!(head), "{state}");
    let remarks = reviews[0]["comments"].as_array().expect("remarks");
    let line = if kind == "github" { "line" } else { "new_position" };
    assert!(remarks.len() == 1 && remarks[0]["path"] == "textstats.py" && remarks[0][line] == 1, "{state}");
    let body = remarks[0]["body"].as_str().expect("words");
    assert!(body.contains("```suggestion\n# Counts words.\n```"), "{body}");
    let issues = of("issues");
    assert!(issues.len() == 2 && issues[1]["title"] == "[bot] Nothing tests empty files", "{state}");
    assert_eq!(issues[1]["labels"], json!(["bug"]), "{state}");
    // The job's token is an App's at GitHub.
    let (list, [commit, name, ended, link]) = match kind {
        "github" => ("check_runs", ["head_sha", "name", "conclusion", "details_url"]),
        _ => ("statuses", ["sha", "context", "state", "target_url"]),
    };
    let checks = of(list);
    assert!(checks.len() == 1 && checks[0][commit] == json!(head), "{state}");
    assert_eq!((&checks[0][name], &checks[0][ended]), (&json!("bottle / review"), &json!("failure")), "{state}");
    assert!(checks[0][link].as_str().is_some_and(|url| url.ends_with("/actions/runs/79")), "{state}");
    findings(kind, &state, &job.world.record_file("findings.sarif"), &head);
    assert!(state["pulls"][0]["state"].is_null(), "it stays open: {state}");
    // The line that is not in the change, the title, the other check's name and the address; what is not granted is no tool at all.
    let proposals = job.world.record_file("proposals.jsonl");
    assert_eq!(proposals.matches("output_refused").count(), 4, "{proposals}");
    let receipts = job.world.record_file("outputs.jsonl");
    assert_eq!((receipts.matches("begun").count(), receipts.matches("done").count()), (4, 4), "{receipts}");
    assert_eq!(
        job.upstream.git(&["for-each-ref", "--format", "%(refname)"]),
        "refs/heads/main\nrefs/heads/patch",
        "nothing is pushed"
    );
    review_again((&job, &double), &event, &posted(&state)[0]);
    double.assert_valid();
    job.nothing_left();
}

/// What reviews have said at lines.
fn posted(state: &Value) -> Vec<Value> {
    state["posted"].as_array().cloned().unwrap_or_default()
}

/// A later review of the same commit, for another comment: it says nothing again, and the thread of the first is done.
fn review_again((job, double): (&Job, &Double), event: &Value, first: &Value) {
    let thread = first["id"].as_u64().expect("a number");
    let again = json!({"path": "textstats.py", "line": 1, "body": "What is counted?"});
    let update = |thread: u64| json!({"thread": thread, "resolved": true});
    let turns = [
        tool("write_review", json!({"remarks": [again]})),
        tool("write_review", json!({"threads": [update(thread + 1000)]})),
        tool("write_review", json!({"threads": [update(thread)]})),
        json!({"text": "That is all."}),
    ];
    job.world.write("cassette.yml", &json!({"version": 1, "turns": turns}).to_string());
    let mut event = event.clone();
    for at in ["created_at", "updated_at"] {
        event["comment"][at] = json!("2035-01-01T00:00:00Z");
    }
    event["comment"]["id"] = json!(901);
    let before = job.world.slugs();
    let output = command(job, double, "80", "issue_comment", &event).output().expect("the runner");
    ended_with(&output, 0);
    let slug = job.world.slugs().into_iter().find(|slug| !before.contains(slug)).expect("a record");
    let file = |name: &str| std::fs::read_to_string(job.world.path("state").join(&slug).join(name)).expect(name);
    let state = double.state();
    let rows = posted(&state);
    assert!(rows.len() == 1 && !rows[0]["resolved"].is_null() && rows[0]["body"] == first["body"], "{state}");
    assert_eq!(state["reviews"].as_array().map(Vec::len), Some(1), "{state}");
    let proposals = file("proposals.jsonl");
    for why in [format!("your thread {thread} is open at this line"), format!("thread {} is no thread", thread + 1000)]
    {
        assert!(proposals.contains(&why), "{why}: {proposals}");
    }
    let prompt = file("plan.json");
    assert!(
        prompt.contains(&format!("thread {thread}, open, on textstats.py, line 1:\\nSay what is counted.")),
        "{prompt}"
    );
    assert!(prompt.contains("In `threads` of `write_review` resolve each that is done"), "{prompt}");
}

#[test]
fn a_reviewer_s_whole_run_leaves_a_review_an_issue_and_a_check() {
    on(Place::Bubblewrap, || review("github"));
}

#[test]
fn a_reviewer_s_whole_run_leaves_the_same_at_gitea() {
    on(Place::Bubblewrap, || review("gitea"));
}

#[test]
fn what_is_granted_is_written_once_and_nothing_else() {
    on(Place::Bubblewrap, outputs);
}

/// Work for an issue, pushed.
const WORK: &str = "echo more >> README.md && git commit -qam More && git push -q origin HEAD";

/// The pull request of a run, by the rules of its agent's `pull_request`.
fn proposed((kind, milestone): (&'static str, &str)) {
    let rules = format!(
        "    bottle: default\n    labels: [bot]\n    pull_request: {{ base: develop, branch: \"bottle/{{number}}-{{slug}}\", draft: true, \
         closes: false, reviewers: [mona, octo-org/core], assignees: [\"{{asker}}\"], milestone: {milestone} }}\n"
    );
    let turns =
        json!([{"tools": [{"name": "Bash", "input": {"command": WORK, "description": "work"}}]}, {"text": "Done."}]);
    let cassette = json!({"version": 1, "turns": turns}).to_string();
    let (job, double) = job_with(kind, &cassette, json!({"milestones": ["v1", "v2"]}), |manifest| {
        manifest.replace("    bottle: default\n", &rules).replace("python3 -m unittest", "true")
    });
    job.upstream.git(&["update-ref", "refs/heads/develop", "refs/heads/main"]);
    let main = job.upstream.git(&["rev-parse", "main"]);
    let runs = if milestone == "v9" { &["80"][..] } else { &["80", "81"] };
    for number in runs {
        let mut event = comment(MAINTAINER, "/claude do it", None);
        event["comment"]["id"] = json!(number.parse::<u64>().expect("a number"));
        let output = command(&job, &double, number, "issue_comment", &event).output().expect("the runner");
        ended_with(&output, 0);
        let says = said(&output).contains("there is no open milestone `v9`: the pull request has none");
        assert_eq!(says, *number == "80" && milestone == "v9", "{}", said(&output));
    }
    let state = double.state();
    let pulls = state["pulls"].as_array().expect("pull requests");
    assert_eq!(pulls.len(), 1, "{state}");
    let pull = &pulls[0];
    let branch = "bottle/7-words-followed-by-punctuation-are-counted";
    assert_eq!((&pull["head"], &pull["base"]), (&json!(branch), &json!("develop")), "{state}");
    let is_draft = match kind {
        "github" => pull["draft"] == json!(true),
        _ => pull["title"].as_str().is_some_and(|title| title.starts_with("WIP: ")),
    };
    assert!(is_draft, "a second run that succeeds leaves it one: {state}");
    assert!(pull["body"].as_str().is_some_and(|body| body.starts_with("Asked for in #7.\n")), "{state}");
    assert_eq!(pull["requested"], json!({"reviewers": ["mona"], "teams": ["core"]}), "{state}");
    assert_eq!(pull["assignees"], json!([MAINTAINER.0]), "{state}");
    assert_eq!(pull["labels"], json!(["bot"]), "{state}");
    let called = match (kind, milestone) {
        (_, "v9") => Value::Null,
        ("github", _) => json!(2),
        _ => json!(42),
    };
    assert_eq!(pull["milestone"], called, "{state}");
    // Each run's commit is on it, from where develop was.
    assert_eq!(job.upstream.git(&["rev-parse", &format!("{branch}~{}", runs.len())]), main);
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn work_is_proposed_as_the_manifest_says() {
    on(Place::Bubblewrap, || [("github", "v2"), ("gitea", "v2"), ("gitea", "v9")].into_iter().for_each(proposed));
}
