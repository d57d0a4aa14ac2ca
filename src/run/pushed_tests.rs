//! What of a guest's repository is saved and pushed, and what is found out before, by real repositories: the cases of `tests/fixtures/work/cases.toml`.

use std::path::Path;

use bottle_plan::plan::{Bring, GitPlan};
use bottle_plan::render::commit_hook;
use bottle_plan::task::Course;
use bottle_policy::gate::RepoName;
use bottle_policy::gate::commits::{CommitJudge, CommitRules};
use bottle_policy::gate::signing::GitIdentity;
use bottle_types::git::ObjectId;
use serde::Deserialize;

use super::checks::conflicts;
use super::keep::saving;
use super::pushed::command;
use crate::process::{ExitOutput, Program};
use crate::provision::git::{self, started};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "branch")]
    branch: String,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    goes_on: bool,
    #[serde(default)]
    brought: bool,
    #[serde(default)]
    agent: String,
    #[serde(default)]
    meanwhile: String,
    /// What the verify commands do.
    #[serde(default)]
    verify: String,
    #[serde(default)]
    before: String,
    #[serde(default = "main_branch")]
    base: String,
    #[serde(default)]
    refused: Option<String>,
    #[serde(default)]
    saved: Option<String>,
    #[serde(default)]
    conflicts: Vec<String>,
    #[serde(default)]
    pushed: bool,
}

fn main_branch() -> String {
    "main".to_owned()
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

fn branch() -> String {
    "bottle/work".to_owned()
}

const UPSTREAM: &str = r#"set -e
git init -q --bare -b main upstream.git
git init -q -b main made && cd made
commit() { echo "$1" > "$1" && git add --all && git commit -qm "$1"; }
commit one; commit two
git checkout -q -b patch && commit patch
git checkout -q -b earlier main && commit earlier
git checkout -q -b fork main && commit fork
git push -q ../upstream.git main patch earlier:refs/heads/bottle/earlier fork:refs/pull/9/head"#;

const BROUGHT: &str = r#"set -e
git clone -q ../upstream.git . && git commit -q --allow-empty -m first && echo own > own && git add own && git commit -qm own && git tag brought"#;

async fn run(dir: &Path, argv: &[&str]) -> ExitOutput {
    let mut program = Program::new(argv.to_vec()).in_dir(dir);
    for (name, value) in [("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")] {
        program.env.push((name.to_owned(), value.into()));
    }
    for who in ["AUTHOR", "COMMITTER"] {
        program.env.push((format!("GIT_{who}_NAME"), "Sample".into()));
        program.env.push((format!("GIT_{who}_EMAIL"), "sample@bottle.test".into()));
    }
    program.run().await.expect("it runs")
}

async fn sh(dir: &Path, script: &str) -> String {
    let ended = run(dir, &["sh", "-c", script]).await;
    assert_eq!(ended.code, 0, "{script}: {}", ended.complaint());
    String::from_utf8_lossy(&ended.stdout).trim().to_owned()
}

/// A clone of this repository, for work on this branch from its `main`.
fn plan(upstream: &Path, branch: &str) -> GitPlan {
    GitPlan {
        upstream: RepoName::parse("origin").expect("a name"),
        gate_url: upstream.display().to_string(),
        directory: String::new(),
        bring: Bring::Clone,
        seed: None,
        mirror: None,
        kept: None,
        history: None,
        sparse: vec![],
        base: Some("main".to_owned()),
        start: None,
        branch: branch.to_owned(),
        goes_on: false,
        commit_hook: None,
        gitconfig: String::new(),
    }
}

async fn judge(case: &Case) {
    let name = &case.name;
    let dir = tempfile::tempdir().expect("a directory");
    sh(dir.path(), UPSTREAM).await;
    sh(&dir.path().join("upstream.git"), &case.before).await;
    let (upstream, guest) = (dir.path().join("upstream.git"), dir.path().join("guest"));
    std::fs::create_dir(&guest).expect("a directory");
    let start = match case.from.as_deref() {
        None => None,
        Some("fork") => Some("refs/pull/9/head"),
        Some(branch) => Some(branch),
    };
    let start = match start {
        Some(start) => {
            Some(ObjectId::parse(&sh(&upstream, &format!("git rev-parse {start}")).await).expect("a commit"))
        }
        None => None,
    };
    if case.brought {
        sh(&guest, BROUGHT).await;
    }
    let plan = GitPlan {
        bring: if case.brought { Bring::Checkout(String::new()) } else { Bring::Clone },
        base: Some(case.base.clone()),
        start,
        goes_on: case.goes_on,
        ..plan(&upstream, &case.branch)
    };
    let argv = git::command(&plan, &plan.gate_url, None);
    let ended = run(&guest, &argv.iter().map(String::as_str).collect::<Vec<_>>()).await;
    if let Some(refused) = &case.refused {
        assert_eq!(ended.code, 7, "{name}: {}", ended.complaint());
        assert!(ended.complaint().contains(refused), "{name}: {}", ended.complaint());
        return;
    }
    assert_eq!(ended.code, 0, "{name}: {}", ended.complaint());
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    let (starts, _) = started(&printed).expect("the start");
    assert_eq!(starts.len(), if case.brought { 2 } else { 1 }, "{name}: {printed}");

    sh(&guest, &case.agent).await;
    let saving = saving(&case.branch, "Work that was left uncommitted", &[]);
    let ended = run(&guest, &saving.iter().map(String::as_str).collect::<Vec<_>>()).await;
    match &case.saved {
        Some(lost) => {
            assert_eq!(ended.code, if lost.is_empty() { 0 } else { 8 }, "{name}: {}", ended.complaint());
            assert!(ended.complaint().contains(lost.as_str()), "{name}: {}", ended.complaint());
            assert_eq!(sh(&guest, "git log -1 --format=%s").await, "Work that was left uncommitted", "{name}");
        }
        None => assert_eq!((ended.code, ended.stdout.as_slice()), (0, &b""[..]), "{name}: {}", ended.complaint()),
    }
    let ended = run(&guest, &conflicts(&starts)).await;
    let found = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(found.lines().collect::<Vec<_>>(), case.conflicts, "{name}: {}", ended.complaint());
    let head = sh(&guest, "git rev-parse HEAD").await;
    sh(&guest, &case.verify).await;
    sh(&upstream, &case.meanwhile).await;
    let refs = "git for-each-ref --format='%(refname) %(objectname)'";
    let before = sh(&upstream, refs).await;
    let verified = ObjectId::parse(&head).expect("a commit");
    let ended = run(&guest, &command(&plan, &Course::Forward, &verified, &starts)).await;
    let said = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
    assert_eq!(ended.code, 0, "{name}: {}", ended.complaint());
    let there = sh(&upstream, &format!("git rev-parse --verify -q refs/heads/{} || true", case.branch)).await;
    if case.pushed {
        assert!(said == format!("pushed {head}") || said == format!("there {head}"), "{name}: {said}");
        assert_eq!(there, head, "{name}: {said}");
    } else {
        // That upstream has it already is only taken for a push of ours where the gate has seen one.
        let others = !case.meanwhile.is_empty() && said == format!("there {head}");
        assert!(said == "nothing" || others, "{name}: {said}");
        assert_eq!(sh(&upstream, refs).await, before, "{name}: {said}");
    }
}

#[tokio::test]
async fn only_what_the_agent_has_made_is_pushed() {
    let cases: Cases = toml::from_str(include_str!("../../tests/fixtures/work/cases.toml")).expect("the cases");
    assert!(cases.case.len() >= 43);
    for case in &cases.case {
        judge(case).await;
    }
}

#[tokio::test]
async fn a_mirror_that_the_gate_is_just_making_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    sh(dir.path(), UPSTREAM).await;
    let (upstream, guest, mirror) =
        (dir.path().join("upstream.git"), dir.path().join("guest"), dir.path().join("mirror"));
    std::fs::create_dir(&guest).expect("a directory");
    let plan = GitPlan { mirror: Some(mirror.display().to_string()), ..plan(&upstream, "bottle/work") };
    let argv = git::command(&plan, &plan.gate_url, None);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let made = "sleep 0.5; git clone -q --bare upstream.git made.git && mv made.git mirror";
    let (ended, _) = tokio::join!(run(&guest, &argv), sh(dir.path(), made));
    assert_eq!(ended.code, 0, "{}", ended.complaint());
    let alternates = std::fs::read_to_string(guest.join(".git/objects/info/alternates")).expect("what it reads");
    assert_eq!(alternates.trim(), mirror.join("objects").display().to_string());
    assert!(sh(&guest, "git count-objects -v").await.contains("in-pack: 0"), "nothing was sent");
}

/// The commits of a run that its rules judge, each with what is wrong with it.
async fn broken(guest: &Path, rules: &CommitRules) -> Vec<String> {
    let judge = CommitJudge::new(rules).expect("rules");
    let mut wrong = vec![];
    for id in sh(guest, "git rev-list HEAD --not --remotes").await.lines() {
        let raw = run(guest, &["git", "cat-file", "commit", id]).await.stdout;
        wrong.extend(judge.commit(id, &raw).into_iter().map(|broken| broken.why));
    }
    wrong
}

#[tokio::test]
async fn the_guests_own_git_and_the_runner_write_what_the_rules_ask_for() {
    let own = GitIdentity { name: "Sample".to_owned(), email: "sample@bottle.test".to_owned() };
    let rules = CommitRules {
        own: Some(own.clone()),
        message: Some("conventional".to_owned()),
        sign_off: true,
        co_authored_by: Some(GitIdentity {
            name: "ada".to_owned(),
            email: "1+ada@users.noreply.github.com".to_owned(),
        }),
        run: Some("issue-7-words-76c0d90e".to_owned()),
        ..CommitRules::default()
    };
    let dir = tempfile::tempdir().expect("a directory");
    sh(dir.path(), UPSTREAM).await;
    let (upstream, guest) = (dir.path().join("upstream.git"), dir.path().join("guest"));
    std::fs::create_dir(&guest).expect("a directory");
    let start = ObjectId::parse(&sh(&upstream, "git rev-parse refs/pull/9/head").await).expect("a commit");
    let plan =
        GitPlan { start: Some(start.clone()), commit_hook: commit_hook(&rules), ..plan(&upstream, "bottle/earlier") };
    let merge = rules.own_message("Merge commit into bottle/earlier", &own);
    let argv = git::command(&plan, &plan.gate_url, Some(merge));
    let ended = run(&guest, &argv.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(ended.code, 0, "{}", ended.complaint());
    assert_eq!(sh(&guest, "git log -1 --format=%s").await, "chore: Merge commit into bottle/earlier");
    let work = "git commit -q --allow-empty -s -m 'fix: x'; git commit -q --allow-empty -s --amend -m 'fix: y

Run: issue-6-other-00000000'
git checkout -q -b side HEAD~1 && git commit -q --allow-empty -s -m 'feat: side' && git checkout -q - && \
git merge -q --no-ff --signoff -m 'chore: merge' side && git rebase -q --rebase-merges --force-rebase HEAD~1; echo left > left";
    sh(&guest, work).await;
    let message = rules.own_message("Work that was left uncommitted", &own);
    let saving = saving(&plan.branch, &message, &[]);
    let ended = run(&guest, &saving.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(ended.code, 0, "{}", ended.complaint());
    assert_eq!(sh(&guest, "git log -1 --format=%s").await, "chore: Work that was left uncommitted");
    sh(&guest, &format!("git update-ref refs/remotes/origin/fork {start}")).await;
    let count = sh(&guest, "git rev-list --count HEAD --not --remotes").await;
    assert_eq!(count, "5");
    assert_eq!(broken(&guest, &rules).await, [""; 0]);
    sh(&guest, "git -c core.hooksPath=/dev/null commit -q --allow-empty -s -m 'fix: z'").await;
    assert_eq!(broken(&guest, &rules).await.len(), 2, "without the hook both trailers are missing");
}
