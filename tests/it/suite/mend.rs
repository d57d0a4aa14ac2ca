//! Verify commands as projects have them, and the agent that mends what they find: within one session, one budget and one run.

use std::io::{BufRead as _, BufReader};

use bottle_testkit::{Running, said};
use serde_json::{Value, json};

use super::MINUTES;
use super::services::with_services;
use crate::job::{Job, ended_with, manifest};
use crate::place::here;

const BRANCH: &str = "refs/heads/bottle/issue-7-words-followed-by-punctuation-are";

/// A cassette of turns that are commands, and of those without a command that end what the agent has to say.
fn session(turns: &[&str]) -> String {
    let turn = |turn: &&str| match turn.strip_prefix("say ") {
        Some(text) => json!({"text": text}),
        None => json!({"tools": [{"name": "Bash", "input": {"command": turn, "description": "a step"}}]}),
    };
    json!({"version": 1, "turns": turns.iter().map(turn).collect::<Vec<_>>()}).to_string()
}

/// A job with these verify keys, and these limits beside that of time.
fn job(turns: &[&str], verify: &str, limits: &str) -> Job {
    Job::with_manifest(&session(turns), |upstream| {
        manifest(upstream).replace("[\"python3 -m unittest\"]", verify).replace("turns: 20", limits)
    })
}

fn commit(file: &str) -> String {
    format!("echo x > {file}; git add {file}; git commit -qm {file}")
}

/// The cases of a suite, each as its name and whether it passed, was tried again, or failed.
fn cases(job: &Job, suite: &str) -> Vec<String> {
    let script = r"import sys, xml.etree.ElementTree as tree
for suite in tree.parse(sys.argv[1]).getroot().iter('testsuite'):
    if suite.get('name') == sys.argv[2]:
        for case in suite.iter('testcase'):
            how = [part.tag for part in case if part.tag in ('failure', 'skipped', 'error')] or ['passed']
            print(case.get('name') + ': ' + how[0])";
    let junit = job.world.record().join("junit.xml");
    let output = bottle_testkit::python().args(["-c", script]).arg(junit).arg(suite).output().expect("python");
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn files_of(job: &Job, branch: &str) -> String {
    job.upstream.git(&["ls-tree", "-r", "--name-only", branch])
}

shared!(what_verify_finds_is_mended_in_the_same_session: docker, bubblewrap, smolmachines: MINUTES);
fn what_verify_finds_is_mended_in_the_same_session() {
    // What it prints tells whether a secret of the host goes back to the agent, and leaves things behind that are no work.
    let verify = r#"{ repair: 3, commands: [{ name: fixed, run: 'echo made > report.txt; echo changed >> README.md; echo "it is BOTTLE""_SECRET"; test -f fixed.txt' }, "true"] }"#;
    let turns = [
        &commit("new.txt"),
        "say I have added new.txt.",
        &commit("other.txt"),
        "say I have added other.txt.",
        "grep -c 'it is BOTTLE_''SECRET' ~/.claude/projects/*/*.jsonl > seen.txt; cat report.txt; echo y > fixed.txt",
        "say Now it has new.txt, other.txt and fixed.txt.",
    ];
    let job = job(&turns, verify, "turns: 20");
    let output = job.run();
    ended_with(&output, 0);
    assert!(said(&output).contains("verified after 2 repairs"), "{}", said(&output));
    assert_eq!(
        cases(&job, "verify"),
        [
            "fixed: skipped",
            "true: passed",
            "fixed (attempt 2): skipped",
            "true (attempt 2): passed",
            "fixed (attempt 3): passed",
            "true (attempt 3): passed"
        ]
    );
    assert_eq!(
        cases(&job, "agent"),
        ["implementer: passed", "implementer (attempt 2): passed", "implementer (attempt 3): passed"]
    );
    let summary = job.world.record_file("summary.md");
    assert!(
        summary.contains("verified after 2 repairs") && summary.contains("4 passed, 0 failed, 2 tried again"),
        "{summary}"
    );
    // What was left uncommitted is saved each time, and what the commands made is no part of it.
    let files = files_of(&job, BRANCH);
    for file in ["new.txt", "other.txt", "fixed.txt", "seen.txt"] {
        assert!(files.lines().any(|line| line == file), "{file}: {files}");
    }
    assert!(!files.contains("report.txt"), "{files}");
    assert_eq!(
        job.upstream.git(&["show", &format!("{BRANCH}:README.md")]),
        job.upstream.git(&["show", "main:README.md"])
    );
    assert!(
        said(&output).contains("the verify commands changed files of the repository, which were put back: README.md")
    );
    // The agent was told twice, in one session, each time with what was printed.
    let transcript = job.world.record_file("transcript.jsonl");
    let ids: std::collections::BTreeSet<String> = transcript
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["session_id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_ne!(
        job.upstream.git(&["show", &format!("{BRANCH}:seen.txt")]).trim(),
        "0",
        "the agent saw what was printed"
    );
    assert!(transcript.contains("\"content\":\"made"), "what the commands made is there to be looked at");

    // The record replays to the same end, from where the run had started.
    job.upstream.git(&["update-ref", "-d", BRANCH]);
    let record = job.world.record();
    let mut again = job.world.runner();
    again.current_dir(&job.checkout);
    again.args(&job.args[..5]).args(["--dry-run", "--replay"]).arg(&record);
    let output = again.output().expect("the runner");
    ended_with(&output, 0);
    assert!(said(&output).contains("verified after 2 repairs"), "{}", said(&output));
    assert!(said(&output).contains("would push"), "{}", said(&output));
    job.nothing_left();
}

shared!(a_secret_that_verify_prints_does_not_come_back_to_the_agent: docker: "bubblewrap shows it", bubblewrap, smolmachines: MINUTES);
fn a_secret_that_verify_prints_does_not_come_back_to_the_agent() {
    // The agent's session has what it was told. The secret is a route's, which the guest does not know.
    let job = Job::new(&session(&["say Done.", "cp ~/.claude/projects/*/*.jsonl session.txt", "say Done."]));
    // The command has it in a form in which nobody finds it.
    let other = job.world.secret().chars().map(|c| match c {
        'z' => 'a',
        'Z' => 'A',
        '9' => '0',
        c if c.is_ascii_alphanumeric() => char::from(c as u8 + 1),
        c => c,
    });
    let other: String = other.collect();
    let verify = format!(
        r#"{{ repair: 1, commands: [{{ name: leak, run: 'echo "got "$(echo {other} | tr b-zaB-ZA1-90 a-zA-Z0-9)" there"; false' }}] }}"#
    );
    let rules = manifest(&job.upstream).replace("[\"python3 -m unittest\"]", &verify);
    let rules = job.with_file("rules.yml", &rules);
    let mut command = job.command();
    command.args(["--manifest", &rules]);
    let output = command.output().expect("the runner");
    ended_with(&output, 1);
    let session = job.upstream.git(&["show", &format!("{BRANCH}:session.txt")]);
    assert!(session.contains("got *** there"), "{session}");
    assert!(!session.contains(job.world.secret()));
}

shared!(what_is_never_mended_fails_the_run_with_all_its_attempts: docker, bubblewrap, smolmachines: MINUTES);
fn what_is_never_mended_fails_the_run_with_all_its_attempts() {
    let turns = [&commit("new.txt"), "say Done.", &commit("other.txt"), "say Done."];
    let job = job(&turns, r#"{ repair: 1, commands: ["test -f fixed.txt"] }"#, "turns: 20");
    let output = job.run();
    ended_with(&output, 1);
    assert!(said(&output).contains("verify failed after 1 repair: `test -f fixed.txt`"), "{}", said(&output));
    assert_eq!(cases(&job, "verify"), ["test -f fixed.txt: skipped", "test -f fixed.txt (attempt 2): failure"]);
    assert!(files_of(&job, BRANCH).contains("other.txt"), "the work is pushed all the same");
    job.nothing_left();
}

shared!(nothing_is_verified_again_where_the_agent_changed_nothing: docker, bubblewrap, smolmachines: MINUTES);
fn nothing_is_verified_again_where_the_agent_changed_nothing() {
    let turns = [&commit("new.txt"), "say Done.", "true", "say It can't be done."];
    let job = job(&turns, r#"{ repair: 3, commands: ["echo more >> README.md; false"] }"#, "turns: 20");
    let output = job.run();
    ended_with(&output, 1);
    assert!(said(&output).contains("the agent has changed nothing, so nothing is verified again"), "{}", said(&output));
    assert_eq!(cases(&job, "verify"), ["echo more >> README.md; false: failure"]);
    assert_eq!(cases(&job, "agent").len(), 2, "it is not asked a second time");
}

shared!(the_base_branch_says_what_is_verified: docker, bubblewrap, smolmachines: MINUTES);
fn the_base_branch_says_what_is_verified() {
    let undo = "sed -i 's/test -f fixed.txt/true/' claude-bottle.yml; git commit -qam undo; cat claude-bottle.yml";
    let turns = [&commit("new.txt"), "say Done.", undo, "say Done."];
    let job = job(&turns, r#"{ repair: 1, commands: ["test -f fixed.txt"] }"#, "turns: 20");
    let output = job.run();
    // The gate refuses the file as well.
    ended_with(&output, 5);
    assert!(said(&output).contains("verify failed after 1 repair: `test -f fixed.txt`"), "{}", said(&output));
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]), "");
}

shared!(a_budget_is_for_all_attempts: docker, bubblewrap, smolmachines: MINUTES);
fn a_budget_is_for_all_attempts() {
    for (limits, says) in [
        ("requests: 3", "3 requests"),
        // Each reply of a cassette counts as some tokens.
        ("turns: 2", "the limit of turns was reached"),
        ("turns: 3", "the limit of turns was reached"),
    ] {
        let turns =
            [&commit("new.txt"), "say Done.", &commit("a.txt"), &commit("b.txt"), &commit("c.txt"), "say Done."];
        let job = job(&turns, r#"{ repair: 2, commands: ["test -f c.txt"] }"#, limits);
        let output = job.run();
        ended_with(&output, 6);
        assert!(said(&output).contains(says), "{limits}: {}", said(&output));
        assert!(said(&output).contains("verify failed after 1 repair"), "{limits}: {}", said(&output));
        assert!(files_of(&job, BRANCH).contains("new.txt"), "{limits}: what was done so far is pushed");
        job.nothing_left();
    }
}

shared!(the_time_of_the_run_goes_on_while_it_is_verified: docker, bubblewrap, smolmachines: MINUTES);
fn the_time_of_the_run_goes_on_while_it_is_verified() {
    let turns = [&commit("new.txt"), "say Done.", "sleep 60", "say Done."];
    let job = Job::with_manifest(&session(&turns), |upstream| {
        manifest(upstream)
            .replace("[\"python3 -m unittest\"]", r#"{ repair: 1, commands: ["sleep 13; false"] }"#)
            .replace("time: 5m", "time: 12s")
    });
    let output = job.run();
    ended_with(&output, 6);
    assert!(said(&output).contains("the time limit of 12s was reached"), "{}", said(&output));
    assert!(!job.world.record_file("transcript.jsonl").contains("sleep 60"), "no second attempt was begun");
}

/// Starts a job, and waits until the agent is at work for the second time.
fn mending(job: &Job) -> (Running, std::process::ChildStdout) {
    let mut command = job.command();
    command.arg("--json");
    let mut running = Running::new(command.spawn().expect("the runner"));
    let mut stdout = BufReader::new(running.stdout());
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stdout.read_line(&mut line).expect("a line") > 0, "it ended");
        let event: Value = serde_json::from_str(&line).expect("an event");
        if event["event"] == "tool" && event["input"].as_str().is_some_and(|input| input.contains("sleep 60")) {
            return (running, stdout.into_inner());
        }
    }
}

fn job_that_is_ended() -> Job {
    let turns = [&commit("new.txt"), "say Done.", "touch begun; sleep 60", "say Done."];
    job(&turns, r#"{ repair: 2, commands: ["test -f fixed.txt"] }"#, "turns: 20")
}

shared!(a_run_that_is_cancelled_while_it_is_mended_pushes_nothing: docker, bubblewrap, smolmachines: MINUTES);
fn a_run_that_is_cancelled_while_it_is_mended_pushes_nothing() {
    let job = job_that_is_ended();
    let (running, stdout) = mending(&job);
    let rest = std::thread::spawn(move || std::io::read_to_string(stdout));
    running.signal("TERM");
    let output = running.wait();
    assert_eq!(output.status.code(), Some(143), "{}", said(&output));
    let rest = rest.join().expect("a thread").expect("the rest");
    assert!(rest.contains("\"finished\""), "{rest}");
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]), "");
    assert_eq!(cases(&job, "verify"), ["test -f fixed.txt: failure"], "nothing says that it was mended");
    job.nothing_left();
}

shared!(a_run_that_dies_while_it_is_mended_leaves_nothing_and_is_not_resumed: docker, bubblewrap, smolmachines: MINUTES);
fn a_run_that_dies_while_it_is_mended_leaves_nothing_and_is_not_resumed() {
    let job = job_that_is_ended();
    let (running, stdout) = mending(&job);
    running.signal("KILL");
    running.wait();
    drop(stdout);
    let record = job.world.record();
    let cleanup = job.world.runner().arg("cleanup").output().expect("the runner");
    assert!(cleanup.status.success(), "{}", said(&cleanup));
    job.gone();
    // Its record is not whole, so nothing goes by it; the same task again is another run.
    let mut again = job.world.runner();
    again.current_dir(&job.checkout);
    again.args(["run", "--resume"]).arg(&record).args(["--backend", here().name(), "--replay"]).arg(&job.args[6]);
    let output = again.output().expect("the runner");
    ended_with(&output, 2);
    assert!(said(&output).contains("ended before its record was complete"), "{}", said(&output));
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]), "");
}

shared!(verify_commands_say_where_and_how_long_they_run_and_what_they_need:
    docker: "the services of bubblewrap stand for it", bubblewrap, smolmachines: "a machine has no services");
fn verify_commands_say_where_and_how_long_they_run_and_what_they_need() {
    let verify = r#"
      - { name: in its place, run: 'test "$(basename "$PWD")" = "sub dir" && test -f "../sub dir/in.txt"', directory: sub dir }
      - { name: gone, run: "true", directory: not/there }
      - { name: slow, run: "echo begun; sleep 60", timeout: 2s }
      - { name: sometimes, run: "test -e ~/tried || { touch ~/tried; echo not yet; exit 3; }", flaky: true }
      - { name: never, run: "echo no; exit 4", flaky: true }
      - { name: with its service, run: "bash -c 'exec 3<>/dev/tcp/cache/6379; echo SET stop 1 >&3; read -t 5 line <&3'", needs: [cache] }
      - { name: without its service, run: "true", needs: [cache] }
      - "true""#;
    let turns = ["mkdir 'sub dir'; echo x > 'sub dir/in.txt'; git add -A; git commit -qm new", "say Done."];
    let job = Job::with_manifest(&session(&turns), |upstream| {
        let redis = "exec redis-server --save '' --appendonly no --port 6379";
        let health = "time: 3s, health: 'test -z \"$(redis-cli get stop)\"'";
        with_services(upstream, &[("cache", 6379, redis, health)]).replace("[\"python3 -m unittest\"]", verify)
    });
    let output = job.run();
    ended_with(&output, 1);
    assert_eq!(
        cases(&job, "verify"),
        [
            "in its place: passed",
            "gone: failure",
            "slow: failure",
            "sometimes: passed",
            "never: failure",
            "with its service: passed",
            "without its service: failure",
            "true: passed"
        ],
        "{}",
        said(&output)
    );
    assert!(
        said(&output).contains("verify failed: `gone`, `slow`, `never`, `without its service`"),
        "{}",
        said(&output)
    );
    let (junit, summary) = (job.world.record_file("junit.xml"), job.world.record_file("summary.md"));
    for text in [&junit, &summary] {
        assert!(text.contains("flaky: it failed (ended with 3), and passed when it was run once more"), "{text}");
        assert!(text.contains("flaky: it failed (ended with 4), and again when it was run once more"), "{text}");
    }
    assert!(junit.contains("the service `cache` was not ready within 3s"), "{junit}");
    assert!(junit.contains("did not end within 2s") && junit.contains("not yet"), "{junit}");
    job.nothing_left();
}
