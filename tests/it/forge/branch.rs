//! What a comment does with the branch that is there: back to where it was, onto its base, on from where it is.

use bottle_testkit::{Double, World, said};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asks::{MAINTAINER, command, comment, job_with};
use super::{output, run};
use crate::RUNNER;
use crate::job::{Job, ended_with};
use crate::place::{Place, on};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    line: String,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    asker: Option<String>,
    #[serde(default)]
    below: bool,
    #[serde(default)]
    says: Option<String>,
    #[serde(default)]
    code: Option<i32>,
}

const HEAD: &str = "0b5cdb2e40ae1b9a6ef9b4a3fdd0a9f6c8b1a2d3";
const EARLIER: &str = "5b1c9d2e40ae1b9a6ef9b4a3fdd0a9f6c8b1a2d4";

#[test]
fn an_undo_is_of_the_last_push_and_of_nothing_else() {
    let cases: Cases = toml::from_str(include_str!("undo.toml")).expect("cases");
    for case in &cases.case {
        for (kind, me) in [("github", "github-actions[bot]"), ("gitea", "bottle")] {
            let world = World::new(RUNNER);
            let (login, id) = match case.asker.as_deref() {
                Some(other) => (other, 5_550_107),
                None => MAINTAINER,
            };
            let event = comment((login, id), "/claude undo", None);
            // The job's checkout is the main branch's: what that is at is known when there is one.
            let double = Double::start(kind, json!({"branches": {"bottle/x": HEAD}}));
            run(&world, &double, &["plan"], "issue_comment", &event);
            let main = super::git(&world.path("."), &["rev-parse", "HEAD"]);
            let line = case.line.replace("EARLIER", EARLIER).replace("HEAD", HEAD).replace("MAIN", &main);
            let line = format!("<!-- claude-bottle: {} -->", line.replace("NONE", &"0".repeat(40)));
            let lease =
                "<!-- claude-bottle: run issue-7-1a2b ended 2026-03-02T09:00:00Z 4 https://git.bottle.test/run -->";
            let body = match case.below {
                true => format!("<!-- claude-bottle: status -->\n{lease}\n### x\n\nwords\n{line}\n"),
                false => format!("<!-- claude-bottle: status -->\n{lease}\n{line}\n### x\n"),
            };
            let author = case.by.as_deref().unwrap_or(me);
            double.say(&json!({"id": 30, "number": 7, "author": author, "body": body}));
            let out = run(&world, &double, &["plan", "--format", "json"], "issue_comment", &event);
            let told = said(&out);
            let short = |text: &str| text.replace("HEAD", &HEAD[..12]).replace("EARLIER", &EARLIER[..12]);
            match &case.says {
                None => {
                    assert!(out.status.success(), "{kind} {}: {told}", case.name);
                    let plan: Value = serde_json::from_slice(&out.stdout).expect("a plan");
                    assert_eq!(plan["git"]["branch"], "bottle/x");
                    let rewrite = json!({"name": "refs/heads/bottle/x", "from": HEAD, "to": EARLIER});
                    assert_eq!(plan["policies"]["gate"]["upstreams"][0]["push"]["rewrite"], rewrite);
                    assert_eq!(plan["policies"]["routes"]["routes"], json!([]), "nothing but git is open");
                }
                Some(says) => {
                    let out = run(&world, &double, &["run"], "issue_comment", &event);
                    let code = case.code.unwrap_or(2);
                    assert_eq!(out.status.code(), Some(code), "{kind} {}: {}", case.name, said(&out));
                    assert!(said(&out).contains(&short(says)), "{kind} {}: {}", case.name, said(&out));
                }
            }
            assert!(world.slugs().is_empty() && double.writes().is_empty(), "{kind} {}", case.name);
            double.assert_valid();
        }
    }
}

/// A comment with this number on pull request 9.
fn on_nine(number: u64, body: &str) -> Value {
    let mut event = comment(MAINTAINER, body, Some(9));
    event["comment"]["id"] = json!(number);
    event
}

/// A job whose agent runs these commands, with pull request 9 from `bottle/earlier`, which is at main.
fn job_of(kind: &'static str, steps: &[&str]) -> (Job, Double) {
    let own = json!({"number": 9, "title": "A change", "body": "Mine.", "head": "bottle/earlier", "base": "main"});
    let (job, double) = job_with(kind, &bottle_testkit::commands(steps), json!({"pulls": [own]}), |rules| rules);
    job.upstream.git(&["update-ref", "refs/heads/bottle/earlier", "main"]);
    (job, double)
}

fn at(job: &Job, branch: &str) -> String {
    job.upstream.git(&["rev-parse", branch])
}

fn undone(kind: &'static str) {
    let (job, double) = job_of(kind, &["date +%N >> README.md; git commit -qam more"]);
    let before = at(&job, "bottle/earlier");
    let first = command(&job, &double, "77", "issue_comment", &on_nine(900, "/claude more")).output().expect("it");
    ended_with(&first, 0);
    let after = at(&job, "bottle/earlier");
    assert_ne!(after, before);
    let line = format!(" implementer bottle/earlier {before} {after} -->");
    let status = |double: &Double| double.state()["comments"][0]["body"].as_str().expect("a text").to_owned();
    assert!(status(&double).lines().nth(3).is_some_and(|at| at.ends_with(&line)), "{}", status(&double));

    // A review leaves it as it is.
    let review = command(&job, &double, "78", "issue_comment", &on_nine(901, "/claude review")).output().expect("it");
    ended_with(&review, 0);
    assert!(status(&double).contains(&line), "{}", status(&double));

    // In a dry run it goes nowhere.
    let mut dry = command(&job, &double, "79", "issue_comment", &on_nine(902, "/claude undo"));
    let dry = dry.arg("--dry-run").output().expect("the runner");
    ended_with(&dry, 0);
    assert!(said(&dry).contains("would push bottle/earlier at "), "{}", said(&dry));
    assert_eq!(at(&job, "bottle/earlier"), after);

    let undo = command(&job, &double, "80", "issue_comment", &on_nine(903, "/claude undo")).output().expect("it");
    ended_with(&undo, 0);
    assert_eq!(at(&job, "bottle/earlier"), before, "{}", said(&undo));
    assert!(said(&undo).contains("pushed bottle/earlier at "), "{}", said(&undo));
    assert!(
        said(&undo).contains(&format!(" is undone: bottle/earlier goes back from {}", &after[..12])),
        "{}",
        said(&undo)
    );
    // No agent was there, and the gate saw this one move.
    let without_agent = |slug: &String| !job.world.path("state").join(slug).join("transcript.jsonl").exists();
    let pushes = job.world.slugs().into_iter().filter(without_agent).map(|slug| {
        std::fs::read_to_string(job.world.path("state").join(slug).join("gate.jsonl")).expect("the pushes")
    });
    let mut pushes: Vec<String> = pushes.collect();
    pushes.sort();
    let [one, other] = &pushes[..] else { panic!("a dry run and a run: {pushes:?}") };
    for (text, verdict) in [(one, "would-push"), (other, "accepted")] {
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains(&format!("\"old\":\"{after}\",\"new\":\"{before}\"")) && text.contains(verdict),
            "{text}"
        );
    }
    assert!(!status(&double).contains("claude-bottle: pushed"), "{}", status(&double));
    let pulls = double.state()["pulls"].clone();
    assert_eq!(pulls.as_array().map_or(0, Vec::len), 1, "{pulls}");
    assert!(pulls[0]["body"].as_str().is_some_and(|body| body.starts_with("Mine.")), "{pulls}");

    // Once is once.
    let again = command(&job, &double, "81", "issue_comment", &on_nine(904, "/claude undo")).output().expect("it");
    ended_with(&again, 2);
    assert!(said(&again).contains("there is nothing to undo in pull request #9"), "{}", said(&again));
    assert_eq!(at(&job, "bottle/earlier"), before);
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn an_undo_puts_the_branch_back_to_where_it_was() {
    on(Place::Bubblewrap, || undone("github"));
    on(Place::Bubblewrap, || undone("gitea"));
}

/// Steps of an agent that puts its branch onto main and mends the conflict; the last one is whatever else it does.
fn rebase(last: &'static str) -> Vec<&'static str> {
    vec![
        "git rebase origin/main || { echo both > notes.txt; git add notes.txt; GIT_EDITOR=true git rebase --continue; }",
        last,
    ]
}

/// Lets main and `bottle/earlier` each have a commit with a file of this text, which go together or don't.
fn diverge(job: &Job) -> String {
    let commit = |branch: &str, text: &str| {
        let clone = job.world.path(&format!("clone-{text}"));
        let dir = clone.display().to_string();
        let served = job.world.path("srv/app.git").display().to_string();
        bottle_testkit::sh(&["git", "clone", "--quiet", "--branch", branch, &served, &dir]);
        std::fs::write(clone.join("notes.txt"), text).expect("a file");
        super::git(&clone, &["add", "notes.txt"]);
        super::git(&clone, &["commit", "--quiet", "-m", text]);
        super::git(&clone, &["push", "--quiet", "origin", &format!("HEAD:{branch}")]);
    };
    commit("bottle/earlier", "mine");
    commit("main", "theirs");
    at(job, "bottle/earlier")
}

fn rebased(kind: &'static str, last: &'static str) {
    let (job, double) = job_of(kind, &rebase(last));
    let before = diverge(&job);
    let output = command(&job, &double, "77", "issue_comment", &on_nine(900, "/claude rebase")).output().expect("it");
    ended_with(&output, 0);
    let after = at(&job, "bottle/earlier");
    let log = job.upstream.git(&["log", "--format=%an %s", "main..bottle/earlier"]);
    assert_eq!(log, "Sample mine", "each commit keeps its author: {}", said(&output));
    assert_eq!(at(&job, "bottle/earlier~1"), at(&job, "main"));
    assert_eq!(job.upstream.git(&["show", "bottle/earlier:notes.txt"]), "both");
    let prompt = job.world.record_file("plan.json");
    assert!(prompt.contains("put the commits of this branch onto `origin/main` as it is now"), "{prompt}");
    let status = double.state()["comments"][0]["body"].as_str().expect("a text").to_owned();
    assert!(status.contains(&format!(" bottle/earlier {before} {after} -->")), "{status}");
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn a_rebase_is_the_agent_s_work_and_may_replace_the_branch() {
    on(Place::Bubblewrap, || rebased("github", "true"));
    on(Place::Bubblewrap, || rebased("gitea", "git push --force-with-lease origin bottle/earlier"));
    // It pushes, looks at it again, and pushes something else.
    on(Place::Bubblewrap, || {
        let twice = "git push -q --force origin bottle/earlier && git commit -q --amend --date=now --no-edit && git push -q --force origin bottle/earlier";
        rebased("github", twice);
    });
}

/// What is pushed where a task does not ask for it, or the agent does something else.
fn refused(words: &str, steps: &[&str], code: i32, says: &str) {
    let (job, double) = job_of("github", steps);
    let before = diverge(&job);
    let output = command(&job, &double, "77", "issue_comment", &on_nine(900, words)).output().expect("it");
    ended_with(&output, code);
    assert!(said(&output).contains(says), "{words} {steps:?}: {}", said(&output));
    assert_eq!(at(&job, "bottle/earlier"), before, "{words} {steps:?}");
    job.nothing_left();
}

#[test]
fn a_branch_is_replaced_only_where_that_was_asked_for() {
    on(Place::Bubblewrap, || refused("/claude rebase onto main", &rebase("true"), 5, "(non-fast-forward)"));
    // Its own force is refused by the gate, and the runner's push has none.
    on(Place::Bubblewrap, || {
        refused("/claude continue", &rebase("git push --force origin bottle/earlier"), 5, "not a fast-forward of");
    });
    on(Place::Bubblewrap, || refused("/claude rebase", &["true"], 1, "the branch is not based on main"));
    on(Place::Bubblewrap, || {
        let other = "git push --force origin origin/main:refs/heads/bottle/other 2>&1; git push --force origin HEAD~1:refs/heads/main; git reset -q --hard origin/bottle/earlier";
        refused("/claude rebase", &[other], 1, "refs/heads/main: not among the refs that may be pushed");
    });
}

#[test]
fn a_rebase_is_refused_where_the_branch_is_not_the_runs() {
    for kind in ["github", "gitea"] {
        for (head, fork, says) in [
            ("patch", false, "the pull request's branch can't be rebased"),
            ("bottle/x", true, "the pull request's branch can't be rebased"),
        ] {
            let pull = json!({"number": 9, "title": "A change", "body": "", "head": head, "base": "main", "fork": fork, "sha": HEAD});
            let (world, double) = (World::new(RUNNER), Double::start(kind, json!({"pulls": [pull]})));
            let out = run(&world, &double, &["run"], "issue_comment", &on_nine(900, "/claude rebase"));
            assert_eq!(out.status.code(), Some(2), "{kind} {head}: {}", said(&out));
            assert!(said(&out).contains(says), "{kind} {head}: {}", said(&out));
            assert!(world.slugs().is_empty() && double.writes().is_empty());
        }
        let (world, double) = (World::new(RUNNER), Double::start(kind, json!({})));
        let out = run(&world, &double, &["run"], "issue_comment", &comment(MAINTAINER, "/claude rebase", None));
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(
            said(&out).contains("an issue has no branch to rebase; write it on the pull request"),
            "{}",
            said(&out)
        );
        assert_eq!(output(&world, "conclusion"), "skipped");
    }
}

#[test]
fn to_continue_is_a_task_without_new_words() {
    for kind in ["github", "gitea"] {
        for (body, words) in [("/claude continue", ""), ("/claude continue\n\nthe tests first", "the tests first")] {
            let (world, double) = (World::new(RUNNER), Double::start(kind, json!({})));
            let args = ["plan", "--format", "json"];
            let out = run(&world, &double, &args, "issue_comment", &comment(MAINTAINER, body, None));
            assert!(out.status.success(), "{}", said(&out));
            let plan: Value = serde_json::from_slice(&out.stdout).expect("a plan");
            assert_eq!((&plan["task"]["course"], &plan["task"]["instruction"]), (&json!("continue"), &json!(words)));
            let prompt = plan["prompt"]["text"].as_str().expect("a prompt");
            assert!(
                prompt.contains("It asks you to go on: do what was asked for before and is not done yet"),
                "{prompt}"
            );
            assert_eq!(plan["policies"]["gate"]["upstreams"][0]["push"]["rewrite"], Value::Null, "it only grows");
        }
    }
}
