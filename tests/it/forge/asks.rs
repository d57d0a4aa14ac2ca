//! What is asked for, once and with an answer: commands that come twice, are nearly commands, or can't come to anything.

use std::process::{Command, Output};

use bottle_testkit::{Double, Running, Upstream, World, commands, said};
use serde_json::{Value, json};

use super::{git, labeled, output, run};
use crate::RUNNER;
use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, on};

const NOW: &str = "2026-03-02T09:20:35Z";
pub(super) const MAINTAINER: (&str, u64) = ("octo-maintainer", 5_550_108);

/// A comment on this issue or pull request.
pub(super) fn comment((login, id): (&str, u64), body: &str, pull: Option<u64>) -> Value {
    let mut event = labeled(login, id);
    event["action"] = json!("created");
    event["comment"] = json!({
        "id": 900, "body": body, "user": event["sender"], "html_url": "https://git.bottle.test/c", "created_at": NOW,
        "updated_at": NOW, "author_association": "MEMBER",
    });
    if let Some(number) = pull {
        event["issue"]["number"] = json!(number);
        event["issue"]["pull_request"] = json!({"url": "x"});
    }
    event.as_object_mut().expect("an object").remove("label");
    event
}

fn pull(head: &str, more: Value) -> Value {
    let mut pull =
        json!({"number": 9, "title": "A change", "body": "", "head": head, "base": "main", "sha": "a".repeat(40)});
    for (key, value) in more.as_object().expect("an object") {
        pull[key] = value.clone();
    }
    pull
}

fn said_there(body: &str, author: &str) -> Value {
    json!({"id": 900, "number": 7, "author": author, "body": body, "created_at": NOW, "updated_at": NOW})
}

#[test]
fn what_is_nearly_a_command_gets_one_reaction_and_nothing_else_does() {
    let bot = ("helper[bot]", 41);
    for (body, by, answered) in [
        ("/claud fix this", MAINTAINER, true),
        ("/claude-fix", MAINTAINER, true),
        (" / claude fix", MAINTAINER, true),
        ("@claud fix this", MAINTAINER, true),
        ("/claud fix this", ("octo-reader", 5_550_107), false),
        ("/claud fix this", bot, false),
        ("Thanks, /claud fix this would be wrong.", MAINTAINER, false),
        ("@claude fix this", MAINTAINER, false),
        ("<!-- claude-bottle: status -->\n\n/claud fix this", MAINTAINER, false),
    ] {
        for kind in ["github", "gitea"] {
            let double = Double::start(kind, json!({"comments": [said_there(body, by.0)]}));
            for _ in 0..2 {
                let world = World::new(RUNNER);
                let out = run(&world, &double, &["run"], "issue_comment", &comment(by, body, None));
                assert_eq!(out.status.code(), Some(0), "{kind} {body}: {}", said(&out));
                assert_eq!(output(&world, "conclusion"), "skipped", "{kind} {body}");
                assert_eq!(
                    said(&out).contains("is no command; a command begins with `/claude`"),
                    answered || by.0 == "octo-reader",
                    "{kind} {body}: {}",
                    said(&out)
                );
                assert!(world.slugs().is_empty(), "{kind} {body}: a run was started");
            }
            let state = double.state();
            let reactions = &state["comments"][0]["reactions"];
            assert_eq!(reactions, &if answered { json!(["confused"]) } else { Value::Null }, "{kind} {body}: {state}");
            assert_eq!(state["comments"].as_array().map_or(0, Vec::len), 1, "{kind} {body}: {state}");
            let world = World::new(RUNNER);
            let before = double.writes().len();
            let out = run(&world, &double, &["plan"], "issue_comment", &comment(by, body, None));
            assert!(out.status.success() && double.writes().len() == before, "a plan writes nothing: {}", said(&out));
            for line in double.log() {
                assert!(line["invalid"].is_null() && line["bad_answer"].is_null(), "{line}");
            }
        }
    }
}

#[test]
fn a_pull_request_that_takes_no_change_is_found_out_before_the_run() {
    for (name, of, code, says) in [
        ("closed", pull("patch", json!({"state": "closed"})), 2, "pull request #9 is closed or merged"),
        (
            "closed, of a run",
            pull("bottle/earlier", json!({"state": "closed"})),
            2,
            "pull request #9 is closed or merged",
        ),
        ("of a fork, and closed", pull("patch", json!({"state": "closed", "fork": true})), 2, "closed or merged"),
        ("its branch is gone", pull("patch", json!({"sha": ""})), 2, "the branch of pull request #9 is gone"),
        (
            "to a branch with a strange name",
            pull("patch", json!({"base": "release(1)"})),
            2,
            "goes to `release(1)`, a name that",
        ),
        ("from a branch with a strange name", pull("fix(parser)", json!({})), 0, ""),
        ("from a branch with another strange name", pull("100%", json!({})), 0, ""),
        ("from a branch with other letters", pull("größe", json!({})), 0, ""),
    ] {
        for kind in ["github", "gitea"] {
            let (world, double) = (World::new(RUNNER), Double::start(kind, json!({"pulls": [of.clone()]})));
            let verb = if code == 0 { "plan" } else { "run" };
            let event = comment(MAINTAINER, "/claude fix this", Some(9));
            let out = run(&world, &double, &[verb], "issue_comment", &event);
            assert_eq!(out.status.code(), Some(code), "{kind} {name}: {}", said(&out));
            assert!(said(&out).contains(says), "{kind} {name}: {}", said(&out));
            assert!(double.writes().is_empty() && world.slugs().is_empty(), "{kind} {name}: {:?}", double.writes());
        }
    }
    // A review is words, which a closed one takes.
    let double = Double::start("github", json!({"pulls": [pull("patch", json!({"state": "closed"}))]}));
    let event = comment(MAINTAINER, "/claude review", Some(9));
    let out = run(&World::new(RUNNER), &double, &["plan"], "issue_comment", &event);
    assert!(out.status.success(), "{}", said(&out));
}

/// The branch and the base of a plan.
fn planned(out: &Output) -> (String, Value) {
    let plan: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(out)));
    (plan["git"]["branch"].as_str().expect("a branch").to_owned(), plan["git"]["base"].clone())
}

#[test]
fn a_pull_request_is_found_again_whatever_its_title_says_now() {
    let run_s = |number: u64, head: &str, more: Value| {
        pull(head, {
            let mut more = more;
            more["number"] = json!(number);
            more
        })
    };
    for (name, pulls, found) in [
        (
            "an older title",
            json!([run_s(30, "bottle/issue-7-an-older-title", json!({}))]),
            Some("bottle/issue-7-an-older-title"),
        ),
        ("no title at all", json!([run_s(30, "bottle/issue-7", json!({}))]), Some("bottle/issue-7")),
        (
            "two of them",
            json!([run_s(31, "bottle/issue-7-b", json!({})), run_s(30, "bottle/issue-7-a", json!({}))]),
            Some("bottle/issue-7-a"),
        ),
        (
            "another issue's",
            json!([run_s(30, "bottle/issue-70-x", json!({})), run_s(31, "bottle/issue-71", json!({}))]),
            None,
        ),
        ("a fork's", json!([run_s(30, "bottle/issue-7-x", json!({"fork": true}))]), None),
        ("a closed one", json!([run_s(30, "bottle/issue-7-x", json!({"state": "closed"}))]), None),
        ("none", json!([]), None),
    ] {
        for kind in ["github", "gitea"] {
            let double = Double::start(kind, json!({"pulls": pulls.clone()}));
            let args = ["plan", "--format", "json"];
            let out = run(&World::new(RUNNER), &double, &args, "issues", &labeled(MAINTAINER.0, MAINTAINER.1));
            let (branch, _) = planned(&out);
            match found {
                Some(found) => assert_eq!(branch, found, "{kind} {name}"),
                None => assert!(branch.starts_with("bottle/issue-7-words-followed"), "{kind} {name}: {branch}"),
            }
            double.assert_valid();
        }
    }
}

#[test]
fn a_task_in_words_starts_from_the_base_whatever_the_job_was_started_for() {
    let sender = json!({"login": MAINTAINER.0, "id": MAINTAINER.1});
    for (event, reference) in [
        ("workflow_dispatch", "refs/heads/feature"),
        ("pull_request", "refs/pull/9/merge"),
        ("release", "refs/tags/v1.0"),
        ("push", "refs/tags/v1.0"),
        ("merge_group", "refs/heads/gh-readonly-queue/main/pr-9-abc"),
        ("workflow_dispatch", "refs/heads/main"),
    ] {
        for task in [true, false] {
            if !task && event != "workflow_dispatch" {
                continue;
            }
            let (world, double) = (World::new(RUNNER), Double::start("github", json!({})));
            let mut payload = labeled(MAINTAINER.0, MAINTAINER.1);
            payload["repository"]["default_branch"] = json!("main");
            payload["inputs"] = json!({"task": "Tidy up"});
            payload["sender"] = sender.clone();
            for key in ["issue", "label", "action"] {
                payload.as_object_mut().expect("an object").remove(key);
            }
            world.write("claude-bottle.yml", super::MANIFEST);
            let mut command = world.runner();
            command.args(["plan", "--format", "json"]).args(if task { &["--task", "Tidy up"][..] } else { &[] });
            super::job(&world, &double, &mut command, event, &payload);
            command.env("GITHUB_REF", reference).env("GITHUB_REF_NAME", "9/merge");
            let out = command.output().expect("the runner");
            let (branch, base) = planned(&out);
            assert!(
                base == "main" && branch.starts_with("bottle/task-tidy-up-"),
                "{event} {reference}: {base} {branch}"
            );
            let plan = said(&out);
            assert!(plan.contains("the base is main, and the work starts from it"), "{event} {reference}: {plan}");
            let other = format!("the job was started for {reference}, which is not used");
            assert_eq!(plan.contains(&other), reference != "refs/heads/main", "{event} {reference}: {plan}");
        }
    }
}

#[test]
fn a_failed_run_of_no_branch_starts_nothing() {
    let text = include_str!("../../fixtures/good/event/workflow_run-failed.json");
    for (branch, says) in [
        ("v1.0", "the failed run is of `v1.0`, which is no branch now"),
        ("gh-readonly-queue/main/pr-9-0123", "the failed run is of a merge queue"),
        ("fix(parser)", "the failed run's branch `fix(parser)` has a name"),
        ("bottle/issue-7-x", "the failed run is of a bottle's own branch"),
    ] {
        let mut event: Value = serde_json::from_str(text).expect("JSON");
        event["workflow_run"]["head_branch"] = json!(branch);
        let full = json!("octo-org/textstats");
        event["repository"]["full_name"] = full.clone();
        event["workflow_run"]["head_repository"]["full_name"] = full;
        let id = event["repository"]["id"].clone();
        event["workflow_run"]["head_repository"]["id"] = id;
        for who in ["actor", "triggering_actor"] {
            event["workflow_run"][who] = json!({"login": MAINTAINER.0, "id": MAINTAINER.1, "type": "User"});
        }
        event["sender"] = json!({"login": MAINTAINER.0, "id": MAINTAINER.1, "type": "User"});
        let (world, double) = (World::new(RUNNER), Double::start("github", json!({})));
        let out = run(&world, &double, &["run"], "workflow_run", &event);
        assert_eq!(out.status.code(), Some(0), "{branch}: {}", said(&out));
        assert!(said(&out).contains(&format!("nothing to do: {says}")), "{branch}: {}", said(&out));
        assert_eq!(output(&world, "conclusion"), "skipped", "{branch}");
        assert!(double.writes().is_empty() && world.slugs().is_empty());
    }
}

#[test]
fn a_nightly_is_the_base_branch_s_whoever_wrote_it() {
    // Gitea's schedules come with the sender of the push that brought them.
    let payload = json!({"schedule": "17 5 * * 1", "sender": {"login": "somebody-who-left", "id": 4}});
    let double = Double::start("gitea", json!({}));
    for args in [&["plan", "--issue", "7"][..], &["plan", "--task", "Tidy up"]] {
        let out = run(&World::new(RUNNER), &double, args, "schedule", &payload);
        assert!(out.status.success(), "{args:?}: {}", said(&out));
    }
    // By hand somebody asks.
    let out = run(&World::new(RUNNER), &double, &["plan", "--issue", "7"], "workflow_dispatch", &payload);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
}

/// A job in bubblewrap whose agent runs these commands, and a stand-in whose branches are those of the job's upstream.
fn job(kind: &'static str, agent: &[&str], state: Value) -> (Job, Double) {
    job_with(kind, &commands(agent), state, |rules| rules)
}

/// The same with this cassette and other rules.
pub(super) fn job_with(
    kind: &'static str,
    cassette: &str,
    state: Value,
    edit: impl Fn(String) -> String,
) -> (Job, Double) {
    let rules = |upstream: &Upstream| edit(manifest(upstream).replace("python3 -m unittest", "true"));
    let job = Job::with_manifest(cassette, rules);
    let served = job.world.path("served/octo-org");
    std::fs::create_dir_all(&served).expect("a directory");
    std::os::unix::fs::symlink(job.world.path("srv/app.git"), served.join("textstats.git")).expect("a link");
    let double = Double::start_at(kind, "127.0.0.1", Some(&job.world.path("served")), state);
    (job, double)
}

/// The run of a job with this number.
pub(super) fn command(job: &Job, double: &Double, number: &str, event: &str, payload: &Value) -> Command {
    let mut command = job.world.runner();
    command.args(["run", "--backend", "bubblewrap", "--replay"]).arg(job.world.path("cassette.yml"));
    command.current_dir(&job.checkout);
    super::job(&job.world, double, &mut command, event, payload);
    // Each job has files of its own.
    let path = job.world.write(&format!("event-{number}.json"), &payload.to_string());
    command.env("GITHUB_EVENT_PATH", path).env("GITHUB_RUN_ID", number);
    command.env("GITHUB_OUTPUT", job.world.path(&format!("outputs-{number}")));
    if double.kind == "gitea" {
        command.env("GITEA_ACTIONS", "true");
    }
    command
}

/// Waits until a run's agent is at work.
pub(super) fn at_work(job: &Job) {
    let started = std::time::Instant::now();
    let is_at_work = |slug: &String| {
        let transcript = job.world.path("state").join(slug).join("transcript.jsonl");
        std::fs::read_to_string(transcript).is_ok_and(|text| text.contains("sleep"))
    };
    while !job.world.slugs().iter().any(is_at_work) {
        assert!(started.elapsed().as_secs() < 120, "the agent did not start");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn two_comments(kind: &'static str) {
    let agent = ["date +%N >> README.md; git commit -qam more; sleep 12"];
    let own = json!({"number": 9, "title": "A change", "body": "", "head": "bottle/earlier", "base": "main"});
    let (job, double) = job(kind, &agent, json!({"pulls": [own]}));
    job.upstream.git(&["update-ref", "refs/heads/bottle/earlier", "main"]);
    let head = job.upstream.git(&["rev-parse", "main"]);
    let payload = |id: u64, body: &str| {
        let mut event = comment(MAINTAINER, body, Some(9));
        event["comment"]["id"] = json!(id);
        if kind == "gitea" {
            // Gitea says what the pull request was when the comment was written.
            let repository = json!({"id": event["repository"]["id"], "full_name": event["repository"]["full_name"]});
            let side = |branch: &str| json!({"ref": branch, "sha": head, "repo": repository});
            event["is_pull"] = json!(true);
            event["pull_request"] = json!({"number": 9, "title": "A change", "body": "", "html_url": "https://git.bottle.test/p",
                "updated_at": NOW, "head": side("bottle/earlier"), "base": side("main")});
        }
        event
    };
    let first = command(&job, &double, "77", "issue_comment", &payload(900, "/claude first")).spawn();
    let first = Running::new(first.expect("the runner"));
    at_work(&job);
    let second = command(&job, &double, "78", "issue_comment", &payload(901, "/claude second")).spawn();
    let second = Running::new(second.expect("the runner"));
    // One that was asked for in the first one's comment, by the forge's other kind of event.
    let event = if kind == "gitea" { "pull_request_comment" } else { "issue_comment" };
    let same = command(&job, &double, "79", event, &payload(900, "/claude first")).output().expect("the runner");
    ended_with(&same, 0);
    assert!(said(&same).contains("has taken this up already: https://"), "{}", said(&same));
    let (first, second) = (first.wait(), second.wait());
    ended_with(&first, 0);
    ended_with(&second, 0);
    assert!(said(&second).contains("waiting: ") && said(&second).contains("the work starts at "), "{}", said(&second));
    // Both are there, one on the other.
    let log = job.upstream.git(&["log", "--format=%s", "main..bottle/earlier"]);
    assert_eq!(log, "more\nmore", "{}", said(&second));
    assert_eq!(
        job.upstream.git(&["for-each-ref", "--format", "%(refname)"]),
        "refs/heads/bottle/earlier\nrefs/heads/main"
    );
    // Once it is done it is done; the job that did it may do it again.
    let same = command(&job, &double, "79", event, &payload(901, "/claude second")).output().expect("the runner");
    ended_with(&same, 0);
    assert!(said(&same).contains("has taken this up already"), "{}", said(&same));
    assert_eq!(job.world.slugs().len(), 2, "two runs");
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn the_second_of_two_comments_goes_on_where_the_first_ended() {
    for kind in ["github", "gitea"] {
        on(Place::Bubblewrap, if kind == "github" { || two_comments("github") } else { || two_comments("gitea") });
    }
}

fn label_and_mention() {
    let (job, double) = job("github", &["date +%N >> README.md; git commit -qam more; sleep 8"], json!({}));
    let mut opened = labeled(MAINTAINER.0, MAINTAINER.1);
    opened["action"] = json!("opened");
    opened["issue"]["user"] = opened["sender"].clone();
    opened["issue"]["body"] = json!("It is wrong.\n\n/claude fix this");
    opened["issue"]["updated_at"] = json!(NOW);
    let mut labelled = opened.clone();
    labelled["action"] = json!("labeled");
    opened.as_object_mut().expect("an object").remove("label");
    let first = Running::new(command(&job, &double, "77", "issues", &opened).spawn().expect("the runner"));
    at_work(&job);
    let second = command(&job, &double, "78", "issues", &labelled).output().expect("the runner");
    ended_with(&second, 0);
    assert!(
        said(&second).contains("nothing to do: run ") && said(&second).contains("has taken this up already"),
        "{}",
        said(&second)
    );
    ended_with(&first.wait(), 0);
    // The label came before the end.
    let late = command(&job, &double, "79", "issues", &labelled).output().expect("the runner");
    assert!(said(&late).contains("has taken this up already"), "{}", said(&late));
    // A title that somebody changed, and a label that is given again: the same branch, the same pull request.
    labelled["issue"]["title"] = json!("Another title");
    labelled["issue"]["updated_at"] = json!("2126-03-02T09:20:35Z");
    let again = command(&job, &double, "80", "issues", &labelled).output().expect("the runner");
    ended_with(&again, 0);
    let state = double.state();
    assert_eq!(state["pulls"].as_array().map_or(0, Vec::len), 1, "{state}");
    let branch = state["pulls"][0]["head"].as_str().expect("a branch");
    assert_eq!(job.upstream.git(&["log", "--format=%s", &format!("main..{branch}")]), "more\nmore");
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn a_label_and_the_mention_are_one_command() {
    on(Place::Bubblewrap, label_and_mention);
}

fn closed_meanwhile() {
    let (job, double) = job("github", &["sleep 20"], json!({"pulls": [pull("bottle/earlier", json!({"sha": null}))]}));
    job.upstream.git(&["update-ref", "refs/heads/bottle/earlier", "main"]);
    let first = command(&job, &double, "77", "issue_comment", &comment(MAINTAINER, "/claude first", Some(9))).spawn();
    let first = Running::new(first.expect("the runner"));
    at_work(&job);
    let mut event = comment(MAINTAINER, "/claude second", Some(9));
    event["comment"]["id"] = json!(901);
    // The last that it asks before it waits; the first run has asked before its agent began.
    let asked = || {
        double.log().iter().filter(|line| line["path"].as_str().is_some_and(|path| path.ends_with("/pulls"))).count()
    };
    let already = asked();
    let second = Running::new(command(&job, &double, "78", "issue_comment", &event).spawn().expect("the runner"));
    while asked() <= already {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    double.say(&json!({"pull": 9, "now": {"state": "closed"}}));
    first.wait();
    let second = second.wait();
    ended_with(&second, 2);
    assert!(said(&second).contains("pull request #9 is closed or merged"), "{}", said(&second));
    // It says so where it was asked, and lets go.
    let state = double.state();
    let status = state["comments"][0]["body"].as_str().expect("a text");
    assert!(status.contains(" ended ") && status.contains("is closed or merged"), "{status}");
    job.nothing_left();
}

#[test]
fn a_pull_request_that_is_closed_while_a_run_waits_stops_it() {
    on(Place::Bubblewrap, closed_meanwhile);
}

#[test]
fn a_checkout_that_is_brought_says_what_stays_behind() {
    let world = World::new(RUNNER);
    let dir = world.path("work");
    std::fs::create_dir_all(&dir).expect("a directory");
    git(&dir, &["init", "--quiet"]);
    std::fs::write(dir.join("claude-bottle.yml"), super::MANIFEST).expect("a file");
    std::fs::write(dir.join("kept"), "x").expect("a file");
    std::fs::write(dir.join(".gitignore"), "ignored\n").expect("a file");
    git(&dir, &["add", "--all"]);
    git(&dir, &["commit", "--quiet", "-m", "Rules"]);
    let plan = |args: &[&str]| {
        let out =
            world.runner().args(["plan", "--task", "x"]).args(args).current_dir(&dir).output().expect("the runner");
        assert!(out.status.success(), "{}", said(&out));
        said(&out)
    };
    assert!(!plan(&["--cwd", "."]).contains("left out of the checkout"));
    for (name, text) in [("kept", "changed"), ("new", "x"), ("ignored", "x")] {
        std::fs::write(dir.join(name), text).expect("a file");
    }
    let told = plan(&["--cwd", "."]);
    assert!(told.contains("left out of the checkout, because it is not committed: kept, new"), "{told}");
    assert!(!told.contains("ignored"), "{told}");
    assert!(!plan(&[]).contains("left out of the checkout"), "a clone takes nothing of it");
    for number in 0..20 {
        std::fs::write(dir.join(format!("new{number:02}")), "x").expect("a file");
    }
    assert!(plan(&["--cwd", "."]).contains(" and 12 more"), "a long list is cut");
}
