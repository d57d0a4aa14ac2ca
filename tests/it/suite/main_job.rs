//! The main job: from an issue to a scanned push, with what the doors refuse on the way.

use std::path::Path;
use std::process::Command;

use bottle_testkit::{commands, python, random, said};

use super::MINUTES;
use crate::job::{Job, MODEL_ROUTE, ended_with, manifest};
use crate::place::here;

fn demo_cassette() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cassette.yml")).expect("the cassette")
}

shared!(an_issue_becomes_a_scanned_branch_and_a_record: docker, bubblewrap, smolmachines);
fn an_issue_becomes_a_scanned_branch_and_a_record() {
    let job = Job::new(&demo_cassette());
    let main = job.upstream.git(&["rev-parse", "main"]);
    let output = job.run();
    ended_with(&output, 0);

    let branch = "refs/heads/bottle/issue-7-words-followed-by-punctuation-are";
    let refs = job.upstream.git(&["for-each-ref", "--format", "%(refname)"]);
    let refs: Vec<&str> = refs.lines().collect();
    assert_eq!(refs, [branch, "refs/heads/main"]);
    assert_eq!(job.upstream.git(&["rev-parse", "main"]), main);
    assert_eq!(job.upstream.git(&["rev-parse", &format!("{}^", refs[0])]), main, "one commit on main");
    assert_eq!(job.upstream.git(&["diff-tree", "--no-commit-id", "--name-only", "-r", refs[0]]), "textstats.py");
    let everything = job.upstream.git(&["rev-list", "--all", "--objects"]);
    assert!(!everything.contains("deploy.toml"), "the refused commit reached upstream");

    let transcript = job.world.record_file("transcript.jsonl");
    assert!(
        transcript.contains("no_route") && transcript.contains("request_route"),
        "the 403 must say which rule is missing"
    );
    assert!(transcript.contains("deploy.toml:2"), "the gate names file and line");
    assert!(transcript.contains("aws-access-token"), "the gate names the rule");

    let gate = job.world.record_file("gate.jsonl");
    let verdicts: Vec<String> = gate
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("a line")["verdict"]
                .as_str()
                .expect("a verdict")
                .to_owned()
        })
        .collect();
    assert_eq!(verdicts, ["refused", "accepted"]);
    assert!(!gate.contains("AKIA"), "the secret itself is never shown");

    let log = job.world.record_file("compose.log");
    for door in ["egress |", "pipelock |", "git-gate |", "supervise |"] {
        assert!(log.contains(door), "{door} is not in compose.log:\n{log}");
    }
    assert!(log.lines().all(|line| !line.contains("AKIA")));
    assert!(log.contains("origin: took in what the host has"), "the mirror started empty:\n{log}");

    let script = "import sys\nfrom junitparser import JUnitXml\nfor suite in JUnitXml.fromfile(sys.argv[1]):\n    print(suite.name, suite.tests, suite.failures)";
    let junit = job.world.record().join("junit.xml");
    let parsed = python().args(["-c", script]).arg(&junit).output().expect("python");
    assert!(parsed.status.success(), "{}", said(&parsed));
    let parsed = String::from_utf8_lossy(&parsed.stdout).into_owned();
    for suite in ["bottle", "seal", "agent", "verify", "gate"] {
        let line =
            parsed.lines().find(|line| line.starts_with(suite)).unwrap_or_else(|| panic!("no suite {suite}: {parsed}"));
        assert!(line.ends_with(" 0") && !line.contains(" 0 0"), "{line}");
    }
    for case in [
        "image",
        "launch",
        "seal",
        "provision.ca",
        "provision.git",
        "provision.supervise",
        "provision.prompt",
        "provision.skills",
    ] {
        let xml = std::fs::read_to_string(&junit).expect("junit.xml");
        assert!(xml.contains(&format!("name=\"{case}\"")), "no case {case}");
    }
    assert!(said(&output).contains("run record: "));
    job.nothing_left();
}

shared!(a_record_replays_without_key_and_upstream_keeps_what_it_had: docker, bubblewrap, smolmachines: MINUTES);
fn a_record_replays_without_key_and_upstream_keeps_what_it_had() {
    let job = Job::new(&demo_cassette());
    let mut first = job.command();
    first.arg("--dry-run");
    let output = first.output().expect("the runner");
    ended_with(&output, 0);
    assert_eq!(
        job.upstream.git(&["for-each-ref", "--format", "%(refname)"]),
        "refs/heads/main",
        "a dry run pushes nothing"
    );
    let would = job.world.record_file("would-do.jsonl");
    assert!(would.contains("\"would\":\"push\"") && would.contains("refs/heads/bottle/issue-7-"), "{would}");

    let record = job.world.record();
    let mut again = job.world.runner();
    let event = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/issue-labeled.json");
    again.args(["run", "--dry-run", "--backend", here().name(), "--replay"]).arg(&record).arg("--event").arg(event);
    again.env_remove("ANTHROPIC_API_KEY").current_dir(&job.checkout);
    let output = again.output().expect("the runner");
    ended_with(&output, 0);
    job.nothing_left();
}

shared!(what_was_left_uncommitted_is_saved_and_pushed: docker, bubblewrap, smolmachines: MINUTES);
fn what_was_left_uncommitted_is_saved_and_pushed() {
    let job = Job::new(&commands(&["echo more >> README.md"]));
    // The sample's own test fails, so verify does: the work is pushed all the same.
    let output = job.run();
    ended_with(&output, 1);
    assert!(said(&output).contains("verify failed"), "{}", said(&output));
    let refs = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    assert_eq!(refs.lines().count(), 1, "{refs}");
    assert_eq!(job.upstream.git(&["diff-tree", "--no-commit-id", "--name-only", "-r", &refs]), "README.md");
}

shared!(a_brought_checkout_leaves_its_credentials_behind: docker, bubblewrap, smolmachines: MINUTES);
fn a_brought_checkout_leaves_its_credentials_behind() {
    let job = Job::new(&commands(&["git config --list --show-origin; ls -la .git .git/hooks; cat .git/config"]));
    let git = |args: &[&str]| {
        let status = Command::new("git").args(args).current_dir(&job.checkout).status().expect("git");
        assert!(status.success());
    };
    let token = random(40);
    git(&["config", "http.https://git.bottle.test/.extraheader", &format!("AUTHORIZATION: basic {token}")]);
    git(&["config", "credential.helper", &format!("!echo {token}")]);
    git(&["config", &format!("url.https://x:{token}@git.bottle.test/.insteadOf"), "https://git.bottle.test/"]);
    std::fs::write(job.checkout.join(".git/hooks/post-checkout"), format!("#!/bin/sh\necho {token}\n"))
        .expect("a hook");
    let mut command = job.command();
    command.arg("--cwd").arg(&job.checkout);
    let output = command.output().expect("the runner");
    ended_with(&output, 1);
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains("remote.origin.url=https://git.bottle.test/"), "the checkout came along: {transcript}");
    assert!(!transcript.contains(&token), "a credential of the host's checkout came along");
}

shared!(a_repository_with_sha256_ids_is_worked_on_like_any_other: docker, bubblewrap, smolmachines: MINUTES);
fn a_repository_with_sha256_ids_is_worked_on_like_any_other() {
    let words = "echo more >> README.md; git commit -qam more && git push origin HEAD";
    let job = Job::of_format(&commands(&[words]), "sha256", |upstream| {
        manifest(upstream).replace("python3 -m unittest", "true")
    });
    let output = job.run();
    ended_with(&output, 0);
    let refs = job.upstream.git(&["for-each-ref", "--format", "%(refname) %(objectname)", "refs/heads/bottle"]);
    let id = refs.split_once(' ').map(|(_, id)| id);
    assert_eq!(id.map(str::len), Some(64), "{refs}");
    let main = job.upstream.git(&["rev-parse", "main"]);
    assert_eq!(job.upstream.git(&["rev-parse", &format!("{}^", id.expect("an id"))]), main, "one commit on main");
    let log = job.world.record_file("compose.log");
    assert!(log.contains("origin: took in what the host has"), "the mirror started empty:\n{log}");
    job.nothing_left();
}

shared!(
    a_submodule_with_a_relative_address_comes_through_the_gate_if_it_is_declared:
    docker, bubblewrap, smolmachines: MINUTES
);
fn a_submodule_with_a_relative_address_comes_through_the_gate_if_it_is_declared() {
    let words = [
        "git submodule add ../library.git lib && git commit -qm lib && git push origin HEAD",
        "git submodule deinit -f lib && rm -rf .git/modules/lib && git submodule update --init && cat lib/one && echo came",
        "git submodule add ../elsewhere.git no || echo stayed away",
        // A submodule's own submodule starts at its address.
        "git -C lib submodule add ../library.git again && cat lib/again/one && echo came again; git -C lib reset -q --hard",
    ];
    let job = Job::with_manifest(&commands(&words), |upstream| {
        let entry = upstream.manifest_entry();
        let both = format!("{entry}{}", upstream.beside("library"));
        manifest(upstream).replace(&entry, &both).replace("python3 -m unittest", "true")
    });
    let output = job.run();
    let transcript = job.world.record_file("transcript.jsonl");
    for expected in ["one\\ncame", "one\\ncame again", "declared under `git` in claude-bottle.yml", "stayed away"] {
        assert!(transcript.contains(expected), "{expected}: {transcript}");
    }
    ended_with(&output, 0);
    let branch = "refs/heads/bottle/issue-7-words-followed-by-punctuation-are";
    let pushed = job.upstream.git(&["ls-tree", "-r", branch]);
    assert!(pushed.contains("160000 commit") && pushed.contains("\tlib"), "{pushed}");
    job.nothing_left();
}

shared!(repositories_side_by_side_have_each_a_gate_of_their_own: docker, bubblewrap, smolmachines: MINUTES);
fn repositories_side_by_side_have_each_a_gate_of_their_own() {
    let words = [
        "cat ../library/one && cd ../library && echo two > two && git add two && git commit -qm two && git push -q origin HEAD:refs/heads/bottle/two && echo went there",
        "cd ../library && git push origin HEAD:refs/heads/main || echo stayed here",
    ];
    let job = Job::with_manifest(&commands(&words), |upstream| {
        let (entry, url) =
            (upstream.manifest_entry(), upstream.url("git.bottle.test").replace("app.git", "library.git"));
        let both = format!(
            "{entry}{}    setup: {{ run: [\"git clone --quiet {url} ../library\"] }}\n",
            upstream.beside("library")
        );
        manifest(upstream).replace(&entry, &both).replace("python3 -m unittest", "true")
    });
    let output = job.run();
    ended_with(&output, 0);
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(
        transcript.contains("one\\n") && transcript.contains("\\nwent there") && transcript.contains("stayed here"),
        "{transcript}"
    );
    let gate = job.world.record_file("gate.jsonl");
    let lines: Vec<&str> = gate.lines().filter(|line| line.contains("\"of-library\"")).collect();
    let [went, stayed] = lines[..] else { panic!("{gate}") };
    assert!(went.contains("refs/heads/bottle/two") && went.contains("\"accepted\""), "{went}");
    assert!(stayed.contains("refs/heads/main") && stayed.contains("\"refused\""), "{stayed}");
    job.nothing_left();
}

shared!(an_agent_that_ended_on_an_api_error_has_failed: docker, bubblewrap, smolmachines: MINUTES);
fn an_agent_that_ended_on_an_api_error_has_failed() {
    let cassette = r#"{"version": 1, "turns": [{"status": 400, "text": "the stand-in says no"}]}"#;
    let job = Job::with_manifest(cassette, |upstream| manifest(upstream).replace("python3 -m unittest", "true"));
    let output = job.run();
    ended_with(&output, 1);
    assert!(said(&output).contains("the stand-in says no"), "{}", said(&output));
    let junit = job.world.record_file("junit.xml");
    let agent = junit.split("<testsuite ").find(|suite| suite.contains("name=\"agent\"")).expect("the suite");
    assert!(agent.contains("<failure"), "{agent}");
}

shared!(the_rules_are_those_of_the_base_branch: docker, bubblewrap, smolmachines);
fn the_rules_are_those_of_the_base_branch() {
    let job = Job::new(&commands(&["echo more >> README.md; git commit -qam more; git push origin HEAD"]));
    let git = |args: &[&str]| {
        let name = ["-c", "user.name=Sample", "-c", "user.email=sample@bottle.test"];
        let status = Command::new("git").args(name).args(args).current_dir(&job.checkout).status().expect("git");
        assert!(status.success());
    };
    // A proposed change that allows itself more, checked out, and one that is only in the working tree.
    git(&["checkout", "--quiet", "-b", "proposed"]);
    let path = job.checkout.join("claude-bottle.yml");
    let wide = std::fs::read_to_string(&path).expect("the manifest").replace("refs/heads/bottle/**", "refs/heads/**");
    std::fs::write(&path, wide.replace("python3 -m unittest", "true")).expect("the manifest");
    git(&["commit", "--quiet", "--all", "-m", "allow myself more"]);
    std::fs::write(&path, "version: 1\nbottles: { default: {} }\n").expect("the manifest");
    let output = job.run();
    ended_with(&output, 1);
    let gate = job.world.record_file("gate.yaml");
    assert!(gate.contains("refs/heads/bottle/**") && !gate.contains("- refs/heads/**"), "{gate}");
    assert!(job.world.record_file("plan.json").contains("python3 -m unittest"));
}

shared!(a_bottle_without_routes_talks_to_pipelock: docker, bubblewrap, smolmachines: MINUTES);
fn a_bottle_without_routes_talks_to_pipelock() {
    // Without routes there is no way to a model, so Claude ends at once; what follows still runs in the bottle.
    let mut job = Job::with_manifest(&commands(&[]), |upstream| {
        manifest(upstream)
            .replace(&format!("    egress:\n{MODEL_ROUTE}"), "")
            .replace("python3 -m unittest", "env | grep -i _proxy; curl -sS https://example.com/ | grep no_route")
    });
    job.args.retain(|arg| !arg.starts_with("--replay") && !arg.ends_with("cassette.yml"));
    let output = job.run();
    ended_with(&output, 1);
    let junit = job.world.record_file("junit.xml");
    assert!(junit.contains("http://pipelock:8888") && junit.contains("no_route"), "{junit}");
    assert!(junit.contains("pipelock CA"), "{junit}");
    assert!(!said(&output).contains("verify failed"), "{}", said(&output));
}
