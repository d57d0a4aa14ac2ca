//! What the repository tells Claude Code is the base branch's: the cases of `project_config.toml`, with the real Claude Code and a stand-in for
//! the model that keeps what it is sent.

use std::process::Command;

use bottle_testkit::{said, sh};
use serde::Deserialize;

use super::MINUTES;
use super::live::{api, live_manifest};
use crate::job::{Job, ended_with, manifest};

/// The branch of the run, where somebody has it begin.
const BRANCH: &str = "bottle/issue-7-words-followed-by-punctuation-are";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    path: String,
    content: String,
    /// What the base branch has in its place.
    base: Option<String>,
    /// The target, where the change has a link to a file with the content.
    link: Option<String>,
    /// `change`: the base branch has none.
    only: Option<String>,
    #[serde(default)]
    ran: bool,
    #[serde(default)]
    at_base: bool,
    #[serde(default)]
    elsewhere: bool,
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
    /// Where the bottle's `directory` is `services/api`.
    below: Vec<Case>,
}

/// Where the work starts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    Base,
    Change,
}

impl Case {
    fn write(&self, job: &Job, mark: &str) {
        let content = self.base.as_ref().filter(|_| mark.starts_with("good")).unwrap_or(&self.content);
        let path = job.checkout.join(self.link.as_deref().filter(|_| mark.starts_with("evil")).unwrap_or(&self.path));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, content.replace("MARK", mark)).expect("a file");
        if let Some(target) = &self.link {
            std::os::unix::fs::symlink(target, job.checkout.join(&self.path)).expect("a link");
        }
    }

    /// The base branch's mark, where it has to be found.
    fn is_there(&self, start: Start) -> bool {
        if start == Start::Base { self.at_base } else { self.elsewhere }
    }
}

/// git in the checkout, as a person who may push.
fn git(job: &Job, args: &[&str]) {
    let mut git = Command::new("git");
    git.args(args).current_dir(&job.checkout).envs(job.upstream.reach(&job.world));
    let output = git.output().expect("git");
    assert!(output.status.success(), "git {args:?}: {}", said(&output));
}

/// What the model was sent, and what the verify command found of hooks and servers; `bottle` are more keys of the bottle.
fn seen(start: Start, cases: &[Case], bottle: &str) -> (String, String) {
    let mut job = Job::new("");
    let api = api(&job);
    let look = "echo found; pwd; cat /tmp/ran; true";
    let manifest = live_manifest(&job, &api)
        .replace("from: ANTHROPIC_API_KEY", "from: BOTTLE_TEST_TOKEN")
        .replace("    git:\n", &format!("{bottle}    git:\n"))
        .replace("[\"true\"]", &format!("[\"{look}\"]"));
    std::fs::write(job.checkout.join("claude-bottle.yml"), manifest).expect("the manifest");
    for (at, case) in cases.iter().enumerate().filter(|(_, case)| case.only.is_none()) {
        case.write(&job, &format!("good-{at}-"));
    }
    git(&job, &["add", "--all", "--force"]);
    git(&job, &["commit", "--quiet", "-m", "The base branch's"]);
    let url = job.upstream.url(&job.upstream.address);
    git(&job, &["push", "--quiet", &url, "HEAD:refs/heads/main"]);
    git(&job, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    if start == Start::Change {
        git(&job, &["checkout", "--quiet", "-b", "change"]);
        for (at, case) in cases.iter().enumerate() {
            case.write(&job, &format!("evil-{at}-"));
        }
        git(&job, &["add", "--all", "--force"]);
        git(&job, &["commit", "--quiet", "-m", "A change"]);
        git(&job, &["push", "--quiet", &url, &format!("HEAD:refs/heads/{BRANCH}")]);
        git(&job, &["checkout", "--quiet", "main"]);
    }
    job.without_replay();
    let output = job.command().env("SSL_CERT_FILE", &api.authority).output().expect("the runner");
    ended_with(&output, 0);
    let told = said(&output).contains("does not start at the base branch's own commit");
    assert_eq!(told, start == Start::Change, "{}", said(&output));
    let bodies = std::fs::read(format!("{}.bodies", api.log.display())).expect("bodies");
    let junit = job.world.record_file("junit.xml");
    let (_, ran) = junit.split_once("found").expect("what the verify command printed");
    (String::from_utf8_lossy(&bodies).into_owned(), ran.to_owned())
}

shared!(a_repository_tells_the_agent_what_its_base_branch_says: docker, bubblewrap, smolmachines: MINUTES);
fn a_repository_tells_the_agent_what_its_base_branch_says() {
    let cases: Cases = toml::from_str(include_str!("project_config.toml")).expect("the cases");
    check(&cases.case, "");
}

shared!(a_directory_tells_the_agent_what_the_base_branch_says_there_and_above: docker, bubblewrap, smolmachines: MINUTES);
fn a_directory_tells_the_agent_what_the_base_branch_says_there_and_above() {
    let cases: Cases = toml::from_str(include_str!("project_config.toml")).expect("the cases");
    let setup = "    directory: services/api\n    setup: { run: [\"echo setup-in-$PWD >> /tmp/ran\"] }\n";
    for ran in check(&cases.below, setup) {
        let start = "/workspace/app/services/api\n";
        assert!(ran.contains(&format!("found\n{start}")) && ran.contains(&format!("setup-in-{start}")), "{ran}");
    }
}

/// Holds the cases against a run at each start; gives what each verify command found.
fn check(cases: &[Case], bottle: &str) -> Vec<String> {
    let (mut wrong, mut found) = (vec![], vec![]);
    for start in [Start::Base, Start::Change] {
        let (bodies, ran) = seen(start, cases, bottle);
        for (at, case) in cases.iter().enumerate() {
            let is_in = |mark: &str| bodies.contains(mark) || ran.contains(mark);
            if is_in(&format!("evil-{at}-")) {
                wrong.push(format!("{start:?}: {}: the change's own is in force", case.name));
            }
            let good = format!("good-{at}-");
            let is_there = if case.ran { ran.contains(&good) } else { bodies.contains(&good) };
            if is_there != case.is_there(start) {
                wrong.push(format!("{start:?}: {}: the base branch's is in force: {is_there}", case.name));
            }
        }
        found.push(ran);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    found
}

shared!(a_directory_that_is_gone_or_a_link_where_the_work_starts_ends_the_run: docker: BASE_DECIDES, bubblewrap, smolmachines: BASE_DECIDES);
fn a_directory_that_is_gone_or_a_link_where_the_work_starts_ends_the_run() {
    for change in
        ["rm -r services", "rm -r services/api && ln -s ../.. services/api", "rm -r services/api && touch services/api"]
    {
        let job = Job::with_manifest(r#"{"version": 1, "turns": [{"text": "Never."}]}"#, |upstream| {
            manifest(upstream).replace("    git:\n", "    directory: services/api\n    git:\n")
        });
        std::fs::create_dir_all(job.checkout.join("services/api")).expect("a directory");
        std::fs::write(job.checkout.join("services/api/main.py"), "print()\n").expect("a file");
        git(&job, &["add", "--all", "--force"]);
        git(&job, &["commit", "--quiet", "-m", "The base branch's"]);
        let url = job.upstream.url(&job.upstream.address);
        git(&job, &["push", "--quiet", &url, "HEAD:refs/heads/main"]);
        git(&job, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
        git(&job, &["checkout", "--quiet", "-b", "change"]);
        sh(&["sh", "-c", &format!("cd {} && {change}", job.checkout.display())]);
        git(&job, &["add", "--all", "--force"]);
        git(&job, &["commit", "--quiet", "-m", "A change"]);
        git(&job, &["push", "--quiet", &url, &format!("HEAD:refs/heads/{BRANCH}")]);
        git(&job, &["checkout", "--quiet", "main"]);
        let output = job.run();
        ended_with(&output, 2);
        let message = "error: `services/api` is no directory where the work starts; ";
        assert!(said(&output).contains(message), "{change}: {}", said(&output));
        job.nothing_left();
    }
}

/// Why it is tried in one backend.
const BASE_DECIDES: &str = "git and a shell of the guest decide it, in each backend the same";
