//! What is asked in the thread of a run, or of a pull request: stops, follow-ups, reviews, and who has moved meanwhile.

use std::process::{Command, Output};
use std::time::Duration;

use bottle_testkit::{Double, Running, commands, random, said, sh, until_within};
use serde_json::{Value, json};

use super::actions::{at_work, comment};
use crate::forge::outputs;
use crate::job::{Job, ended_with, manifest};

const NOW: &str = "2026-03-02T09:20:35Z";

/// A job whose agent runs these commands, and passes its checks.
fn job(steps: &[&str]) -> Job {
    Job::with_manifest(&commands(steps), |upstream| manifest(upstream).replace("python3 -m unittest", "true"))
}

/// A comment of the maintainer's on pull request 9.
fn on_a_pull_request(body: &str) -> Value {
    let mut event = comment("octo-maintainer", 5_550_108, body);
    event["issue"]["number"] = json!(9);
    event["issue"]["pull_request"] = json!({"url": "x"});
    event
}

fn command(job: &Job, double: &Double, event: &Value) -> Command {
    let mut command = job.world.runner();
    command.args(["run", "--replay"]).arg(job.world.path("cassette.yml")).current_dir(&job.checkout);
    crate::forge::job(&job.world, double, &mut command, "issue_comment", event);
    command
}

fn run(job: &Job, double: &Double, event: &Value) -> Output {
    command(job, double, event).output().expect("the runner")
}

/// A commit on upstream's main, at this ref alone.
fn commit(job: &Job, name: &str) -> String {
    let tree = job.upstream.git(&["rev-parse", "main^{tree}"]);
    let identity = ["-c", "user.name=Sample", "-c", "user.email=sample@bottle.test"];
    // Two in one second are to be two.
    let message = format!("{name} {}", random(8));
    let id = job.upstream.git(&[&identity[..], &["commit-tree", &tree, "-p", "main", "-m", &message]].concat());
    job.upstream.git(&["update-ref", name, &id]);
    id
}

fn pull(head: &str, sha: &str) -> Value {
    json!({"number": 9, "title": "A change", "body": "My notes.", "head": head, "base": "main", "sha": sha})
}

#[test]
fn a_comment_stops_the_run() {
    let job = job(&["echo x > new.txt; git add .; git commit -qm half; echo y > other.txt; sleep 120"]);
    let double = Double::start("github", json!({}));
    let running = at_work(&job, &double);
    for (id, author, body) in [(800, "octo-reader", "/claude stop"), (801, "octo-maintainer", "> /claude stop\n\nno")] {
        double.say(&json!({"id": id, "number": 7, "author": author, "body": body}));
    }
    std::thread::sleep(std::time::Duration::from_secs(12));
    let started = std::time::Instant::now();
    double.say(&json!({"id": 802, "number": 7, "author": "octo-maintainer", "body": "/claude stop"}));
    // The stop's own job, on another runner.
    let mut stop = job.world.runner();
    stop.arg("run").current_dir(&job.checkout);
    let event = comment("octo-maintainer", 5_550_108, "/claude stop");
    crate::forge::job(&job.world, &double, &mut stop, "issue_comment", &event);
    stop.env("GITHUB_OUTPUT", job.world.path("stop-outputs"));
    let stop = stop.output().expect("the runner");
    let output = running.wait();
    ended_with(&output, 143);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    assert!(said(&output).contains("stopped by octo-maintainer (id 5550108) in a comment"), "{}", said(&output));
    assert!(said(&output).contains("octo-reader asked for a stop and may not"), "{}", said(&output));
    ended_with(&stop, 0);
    assert!(said(&stop).contains("was told to stop, and has ended: https://"), "{}", said(&stop));
    let text = std::fs::read_to_string(job.world.path("stop-outputs")).expect("the outputs");
    assert!(outputs(&text).contains(&("conclusion".to_owned(), "success".to_owned())), "{text}");
    let text = std::fs::read_to_string(job.world.path("outputs")).expect("the outputs");
    assert!(outputs(&text).contains(&("conclusion".to_owned(), "cancelled".to_owned())), "{text}");

    // Nothing is pushed and nothing proposed; what was done is in the record.
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)"]), "refs/heads/main");
    let state = double.state();
    assert_eq!(state["pulls"], json!([]));
    let status =
        state["comments"].as_array().expect("comments").iter().find(|row| row["author"] == "github-actions[bot]");
    let status = status.expect("ours")["body"].as_str().expect("a text").to_owned();
    assert!(status.contains("stopped by octo-maintainer") && status.contains(" ended "), "{status}");
    let bundle = job.world.record().join("work.bundle").display().to_string();
    let checkout = job.checkout.display().to_string();
    sh(&["git", "-C", &checkout, "fetch", "--quiet", &bundle, "HEAD"]);
    let log = sh(&["git", "-C", &checkout, "log", "--format=%s", "main..FETCH_HEAD"]);
    assert_eq!(log, "Work that was left uncommitted\nhalf");
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn a_follow_up_goes_on_in_the_pull_request_s_branch() {
    for kind in ["github", "gitea"] {
        let job = job(&["echo more >> README.md; git commit -qam more"]);
        let head = commit(&job, "refs/heads/bottle/earlier");
        let said_before = json!({"id": 30, "number": 9, "author": "octo-reader", "body": "The heading is wrong.",
            "created_at": "2026-03-02T09:10:00Z", "updated_at": "2026-03-02T09:10:00Z"});
        let double = Double::start(kind, json!({"pulls": [pull("bottle/earlier", &head)], "comments": [said_before]}));
        let mut command = command(&job, &double, &on_a_pull_request("/claude more of it"));
        if kind == "gitea" {
            command.env("GITEA_ACTIONS", "true");
        }
        let output = command.output().expect("the runner");
        ended_with(&output, 0);
        assert_eq!(job.upstream.git(&["rev-parse", "bottle/earlier~1"]), head, "{}", said(&output));
        assert_eq!(
            job.upstream.git(&["for-each-ref", "--format", "%(refname)"]),
            "refs/heads/bottle/earlier\nrefs/heads/main"
        );
        let state = double.state();
        assert_eq!(state["pulls"].as_array().map_or(0, Vec::len), 1, "{state}");
        let body = state["pulls"][0]["body"].as_str().expect("a text");
        assert!(body.starts_with("My notes.") && body.contains("claude-bottle: begin"), "{body}");
        let plan = job.world.record_file("plan.json");
        assert!(plan.contains("The heading is wrong."), "what was said before is in the prompt");
        double.assert_valid();
        job.nothing_left();
    }
}

#[test]
fn a_person_s_branch_is_not_pushed_to_but_proposed_to() {
    let job = job(&["echo more >> README.md; git commit -qam more"]);
    let head = commit(&job, "refs/heads/patch");
    let double = Double::start("github", json!({"pulls": [pull("patch", &head)]}));
    let output = run(&job, &double, &on_a_pull_request("/claude fix this"));
    ended_with(&output, 0);
    assert_eq!(job.upstream.git(&["rev-parse", "patch"]), head);
    let state = double.state();
    let made = &state["pulls"][1];
    assert_eq!(
        (&made["base"], made["head"].as_str().is_some_and(|name| name.starts_with("bottle/pr-9"))),
        (&json!("patch"), true)
    );
    let branch = made["head"].as_str().expect("a branch");
    assert_eq!(job.upstream.git(&["rev-parse", &format!("{branch}~1")]), head);
    assert!(made["body"].as_str().expect("a text").contains("Asked for in #9."), "{made}");
    double.assert_valid();
}

#[test]
fn a_pull_request_that_has_moved_gets_no_push() {
    // Before the run: what was asked about is no longer what the branch is.
    let one = job(&["echo more >> README.md; git commit -qam more"]);
    let head = commit(&one, "refs/heads/bottle/earlier");
    let double = Double::start("github", json!({"pulls": [pull("bottle/earlier", &head)]}));
    let newer = commit(&one, "refs/heads/bottle/earlier");
    let output = run(&one, &double, &on_a_pull_request("/claude more of it"));
    ended_with(&output, 4);
    assert!(said(&output).contains("the pull request has moved"), "{}", said(&output));
    assert_eq!(one.upstream.git(&["rev-parse", "bottle/earlier"]), newer);
    one.nothing_left();

    // While it goes on.
    let two = job(&["echo more >> README.md; git commit -qam more; sleep 10"]);
    let head = commit(&two, "refs/heads/bottle/earlier");
    let double = Double::start("github", json!({"pulls": [pull("bottle/earlier", &head)]}));
    let running =
        Running::new(command(&two, &double, &on_a_pull_request("/claude more of it")).spawn().expect("the runner"));
    until_within(Duration::from_secs(120), "the agent's start", || {
        two.world.slugs().first().is_some_and(|slug| {
            let transcript = two.world.path("state").join(slug).join("transcript.jsonl");
            std::fs::read_to_string(transcript).is_ok_and(|text| text.contains("sleep"))
        })
    });
    double.say(&json!({"pull": 9, "now": {"sha": "b".repeat(40)}}));
    let output = running.wait();
    ended_with(&output, 5);
    assert!(said(&output).contains("not pushed: pull request #9 has moved from"), "{}", said(&output));
    assert_eq!(two.upstream.git(&["rev-parse", "bottle/earlier"]), head);
    assert!(two.world.record().join("work.bundle").is_file());
    let state = double.state();
    assert_eq!(state["pulls"][0]["body"], "My notes.");
    two.nothing_left();
}

#[test]
fn a_fork_s_pull_request_is_taken_up_in_a_branch_of_ours() {
    let job = job(&["echo more >> README.md; git commit -qam more"]);
    let head = commit(&job, "refs/pull/9/head");
    let mut fork = pull("patch", &head);
    fork["fork"] = json!(true);
    let double = Double::start("github", json!({"pulls": [fork.clone()]}));
    let output = run(&job, &double, &on_a_pull_request("/claude fix this"));
    ended_with(&output, 0);
    let state = double.state();
    let made = &state["pulls"][1];
    let branch = made["head"].as_str().expect("a branch");
    assert!(made["base"] == "main" && branch.starts_with("bottle/pr-9"), "{made}");
    assert_eq!(job.upstream.git(&["rev-parse", &format!("{branch}~1")]), head);
    assert!(job.world.record_file("gate.jsonl").contains("\"commits\":2"), "the fork's commit is scanned as new");

    // Asked about before it was changed.
    let mut late = fork;
    late["updated_at"] = json!("2026-03-02T09:21:00Z");
    let double = Double::start("github", json!({"pulls": [late]}));
    let output = run(&job, &double, &on_a_pull_request("/claude fix this"));
    ended_with(&output, 3);
    assert!(said(&output).contains("from a fork, and was changed after this was asked for"), "{}", said(&output));
    assert!(NOW < "2026-03-02T09:21:00Z" && double.writes().is_empty());
}

#[test]
fn a_review_is_posted_and_nothing_is_pushed() {
    let job = Job::with_manifest(
        &commands(&["echo more >> README.md; git commit -qam more; git push origin HEAD"]),
        |upstream| manifest(upstream).replace("python3 -m unittest", "true"),
    );
    let head = commit(&job, "refs/heads/patch");
    let double = Double::start("github", json!({"pulls": [pull("patch", &head)], "diff": "diff --git a/x b/x\n"}));
    let output = run(&job, &double, &on_a_pull_request("/claude review"));
    ended_with(&output, 0);
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)"]), "refs/heads/main\nrefs/heads/patch");
    assert!(job.world.record_file("gate.jsonl").contains("\"refused\""), "the gate says no to the agent's own push");
    let state = double.state();
    assert_eq!(state["pulls"].as_array().map_or(0, Vec::len), 1, "{state}");
    let words = state["comments"][0]["body"].as_str().expect("a comment");
    assert!(words.contains("> That is all."), "{words}");
    let review = &state["reviews"][0];
    assert_eq!((&review["commit_id"], &review["event"]), (&json!(head), &json!("COMMENT")), "{state}");
    assert!(review["body"].as_str().expect("words").contains("-->\nThat is all."), "{review}");
    double.assert_valid();
}

#[test]
fn a_review_of_another_job_is_handed_in_while_the_pull_request_stands() {
    let job = job(&["true"]);
    let head = commit(&job, "refs/heads/patch");
    let double = Double::start("github", json!({"pulls": [pull("patch", &head)], "diff": "diff --git a/x b/x\n"}));
    let event = on_a_pull_request("/claude review");
    let output = command(&job, &double, &event).arg("--dry-run").output().expect("the runner");
    ended_with(&output, 0);
    assert!(double.writes().is_empty(), "{:?}", double.writes());
    let record = job.world.path("handed-over");
    std::fs::rename(job.world.record(), &record).expect("the record");
    let publish = |event: &Value| {
        let mut command = job.world.runner();
        command.args(["run", "--publish"]).arg(&record).current_dir(&job.checkout);
        crate::forge::job(&job.world, &double, &mut command, "issue_comment", event);
        command.output().expect("the runner")
    };
    // The words are no work that could be pushed.
    let other = publish(&on_a_pull_request("/claude fix this"));
    ended_with(&other, 5);
    assert!(said(&other).contains("the other job's run was a review"), "{}", said(&other));
    let output = publish(&event);
    ended_with(&output, 0);
    let state = double.state();
    assert_eq!(state["reviews"].as_array().map_or(0, Vec::len), 1, "{state}");
    let review = &state["reviews"][0];
    assert_eq!(review["commit_id"], json!(head), "{state}");
    assert!(review["body"].as_str().expect("words").contains("That is all."), "{review}");
    // Another commit than the one that was read.
    let metadata = std::fs::read_to_string(record.join("plan.json")).expect("the plan");
    std::fs::write(record.join("plan.json"), metadata.replace(&head, &"1".repeat(40))).expect("the plan");
    let moved = publish(&event);
    ended_with(&moved, 1);
    assert!(said(&moved).contains("not handed in: the pull request has moved"), "{}", said(&moved));
    assert_eq!(double.state()["reviews"].as_array().map_or(0, Vec::len), 1);
    double.assert_valid();
}

/// A run record as the job with the agent hands it over, and how to make another of it.
fn handed_over(job: &Job, double: &Double) -> std::path::PathBuf {
    let mut command = command(job, double, &comment("octo-maintainer", 5_550_108, "/claude fix this"));
    let output = command.arg("--dry-run").output().expect("the runner");
    ended_with(&output, 0);
    assert!(double.writes().is_empty(), "{:?}", double.writes());
    let record = job.world.path("handed-over");
    std::fs::rename(job.world.record(), &record).expect("the record");
    record
}

fn publish(job: &Job, double: &Double, record: &std::path::Path) -> Output {
    let mut command = job.world.runner();
    command.args(["run", "--publish"]).arg(record).current_dir(&job.checkout);
    command.env_remove("ANTHROPIC_API_KEY").env_remove("BOTTLE_TEST_TOKEN");
    let event = comment("octo-maintainer", 5_550_108, "/claude fix this");
    crate::forge::job(&job.world, double, &mut command, "issue_comment", &event);
    let _ = std::fs::remove_file(job.world.path("outputs"));
    command.output().expect("the runner")
}

#[test]
fn whoever_owns_the_agent_s_job_gets_nothing_past_the_second_one() {
    let job = job(&["echo more >> README.md; git commit -qam more; git push -q origin HEAD; echo again >> README.md"]);
    let double = Double::start("github", json!({}));
    let record = handed_over(&job, &double);
    // As somebody would like it to be, who can write what he wants into it.
    let checkout = job.checkout.display().to_string();
    let git = |args: &[&str]| {
        let name = ["-c", "user.name=Sample", "-c", "user.email=sample@bottle.test", "-C", &checkout];
        sh(&[&["git"], &name[..], args].concat())
    };
    let metadata: Value =
        serde_json::from_str(&std::fs::read_to_string(record.join("metadata.json")).expect("metadata")).expect("JSON");
    let key = format!("AKIA{}", random(16).to_uppercase().replace(['0', '1', '8', '9'], "A"));
    for (change, code, why) in [
        (format!("echo 'aws = {key}' > deploy.toml"), 5, "deploy.toml:1"),
        ("mkdir -p .github/workflows && echo 'on: push' > .github/workflows/x.yml".to_owned(), 5, "is protected"),
        ("sed -i s/write/read/ claude-bottle.yml; echo '# x' >> claude-bottle.yml".to_owned(), 5, "is protected"),
    ] {
        git(&["checkout", "--quiet", "-B", "evil", "origin/main"]);
        sh(&["sh", "-c", &format!("cd '{checkout}' && {change}")]);
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "-m", "evil"]);
        let evil = job.world.path("evil");
        let _ = std::fs::remove_dir_all(&evil);
        sh(&["cp", "-R", &record.display().to_string(), &evil.display().to_string()]);
        let bundle = evil.join("origin-9.bundle").display().to_string();
        git(&["bundle", "create", "--quiet", &bundle, "refs/heads/evil", "--not", "origin/main"]);
        let mut metadata = metadata.clone();
        // It asks for main, and says that all is well.
        metadata["outcome"] = json!({"code": 0, "summary": "@everyone all is well", "branch": "main", "commit": git(&["rev-parse", "evil"])});
        std::fs::write(evil.join("metadata.json"), metadata.to_string()).expect("a file");
        let output = publish(&job, &double, &evil);
        ended_with(&output, code);
        assert!(said(&output).contains(why), "{why}: {}", said(&output));
        git(&["checkout", "--quiet", "main"]);
        assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)"]), "refs/heads/main");
        assert_eq!(double.state()["pulls"], json!([]), "nothing is proposed");
    }
    // And as it was: two pushes, one branch, one pull request.
    let output = publish(&job, &double, &record);
    ended_with(&output, 0);
    let state = double.state();
    assert_eq!(
        (state["pulls"].as_array().map_or(0, Vec::len), &state["pulls"][0]["draft"]),
        (1, &json!(false)),
        "{state}"
    );
    let branch = state["pulls"][0]["head"].as_str().expect("a branch").to_owned();
    let there = job.upstream.git(&["rev-parse", &branch]);
    assert_eq!(job.upstream.git(&["rev-list", "--count", &format!("main..{branch}")]), "2");

    // A commit that its bundles don't have.
    let mut metadata = metadata;
    metadata["outcome"]["commit"] = json!("c".repeat(40));
    std::fs::write(record.join("metadata.json"), metadata.to_string()).expect("a file");
    let output = publish(&job, &double, &record);
    ended_with(&output, 5);
    assert!(said(&output).contains("the other job's work can't be used"), "{}", said(&output));
    assert_eq!(job.upstream.git(&["rev-parse", &branch]), there);
    assert_eq!(
        job.upstream.git(&["for-each-ref", "--format", "%(refname)"]),
        format!("refs/heads/{branch}\nrefs/heads/main")
    );
    double.assert_valid();
    job.nothing_left();
}
