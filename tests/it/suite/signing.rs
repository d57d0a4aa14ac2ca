//! Signed commits: a key that no guest has, and work that verifies upstream.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_testkit::{commands, said, sh};

use super::MINUTES;
use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, here};

/// Why one test has one backend.
const RUNNER_DECIDES: &str = "what refuses is the runner, before there is a bottle";

/// A job whose commits are signed by a key of its own.
fn job(cassette: &str) -> Job {
    let job = Job::with_manifest(cassette, |upstream| {
        let key = upstream.identity.with_file_name("signing-key").display().to_string();
        sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bot", "-f", &key]);
        let signing =
            "    signing:\n      ssh: { from: SIGNING_KEY }\n      name: Work Bot\n      email: bot@bottle.test\n";
        let text = manifest(upstream).replacen("    egress:\n", &format!("{signing}    egress:\n"), 1);
        assert!(text.contains(signing), "{text}");
        let text = text.replace("python3 -m unittest", "test -f three.txt");
        format!("{text}credentials:\n  SIGNING_KEY: {{ file: \"{key}\" }}\n")
    });
    assert!(fs::read_to_string(job.world.path("signing-key")).is_ok());
    job
}

/// What anybody is told who verifies a commit at the upstream.
fn verified(job: &Job, commit: &str) -> String {
    let allowed = job.world.path("allowed");
    let key = fs::read_to_string(job.world.path("signing-key.pub")).expect("the key");
    fs::write(&allowed, format!("bot@bottle.test {key}")).expect("written");
    let clone = job.world.path("verify.git").display().to_string();
    if !job.world.path("verify.git").exists() {
        let bundle = job.world.record();
        assert!(bundle.exists());
        sh(&["git", "clone", "--quiet", "--mirror", &job.world.path("srv/app.git").display().to_string(), &clone]);
    }
    let config = format!("gpg.ssh.allowedSignersFile={}", allowed.display());
    let output = std::process::Command::new("git")
        .args(["-C", &clone, "-c", &config, "verify-commit", "-v", commit])
        .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
        .output()
        .expect("git");
    let said = said(&output);
    assert!(output.status.success(), "{commit}: {said}");
    said
}

/// A signature for git, by a key that is not the run's.
fn another_keys_signature() -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let [key, file] = ["key", "file"].map(|name| dir.path().join(name).display().to_string());
    sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &key]);
    fs::write(&file, "x").expect("written");
    sh(&["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", &key, &file]);
    fs::read_to_string(format!("{file}.sig")).expect("a signature")
}

shared!(signed_work_verifies_upstream_and_the_guest_has_no_key: docker, bubblewrap, smolmachines: MINUTES);
fn signed_work_verifies_upstream_and_the_guest_has_no_key() {
    let plan = "git config --get-regexp '^(gpg|user|commit)\\.'; git log -1 --show-signature --format=%GP";
    let work = "echo one > one.txt && git add -A && git commit -qm One && git branch one && git push -q origin HEAD && git cat-file commit HEAD";
    // Another key's signature, which the guest has brought: Docker's image has no ssh-keygen.
    let own = format!(
        "echo {} | base64 -d > /tmp/sig && printf '#!/bin/sh\\nfor file; do :; done; cp /tmp/sig $file.sig\\n' > /tmp/own && chmod +x /tmp/own && \
         echo two > two.txt && git add -A && git -c gpg.ssh.program=/tmp/own commit -qm Two && git push origin HEAD; git reset --soft one",
        STANDARD.encode(another_keys_signature())
    );
    let eve = "git -c user.email=eve@evil.test commit -m Two; git -c commit.gpgSign=false commit -qm Two; git push origin HEAD; git reset --soft one";
    // What is left uncommitted is committed by the runner.
    let job = job(&commands(&[
        plan,
        work,
        &own,
        eve,
        "echo three > three.txt; git config --global --unset commit.gpgSign; git config user.email eve@evil.test; git config user.signingKey /tmp/own",
    ]));
    let output = job.run();
    ended_with(&output, 0);

    let branch = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    let commits =
        job.upstream.git(&["rev-list", "--format=%ce %ae %s", "--no-commit-header", &format!("main..{branch}")]);
    let bot = "bot@bottle.test bot@bottle.test";
    assert_eq!(commits, format!("{bot} Work that was left uncommitted\n{bot} One"));
    if here() != Place::Docker {
        for commit in job.upstream.git(&["rev-list", &format!("main..{branch}")]).lines() {
            assert!(verified(&job, commit).contains("Good \"git\" signature for bot@bottle.test"), "{commit}");
        }
    }
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains("gpg.ssh.program /opt/claude-bottle/bin/bottle-link"), "{transcript}");
    assert!(transcript.contains("is not signed by this run's key"), "a key of the guest's own: {transcript}");
    assert!(transcript.contains("the committer is not this run's, Work Bot <bot@bottle.test>"), "{transcript}");
    assert!(transcript.contains("is not signed; commit with"), "no signature: {transcript}");

    let lines = job.world.record_file("signing.jsonl");
    let ids = job.upstream.git(&["rev-list", &format!("main..{branch}")]);
    for id in ids.lines() {
        assert!(lines.contains(&format!("{{\"signed\":{{\"commit\":\"{id}\"")), "{id}: {lines}");
    }
    assert!(lines.contains("{\"refused\":{\"reason\":\"the committer is not this run's, "), "{lines}");
    let key = fs::read_to_string(job.world.path("signing-key")).expect("the key");
    let inner = key.lines().nth(2).expect("a line of the key");
    for entry in fs::read_dir(job.world.record()).expect("the record") {
        let path = entry.expect("an entry").path();
        let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        assert!(!text.contains(inner), "{} has the key", path.display());
    }
    job.nothing_left();
}

shared!(
    a_key_that_is_none_stops_the_run_before_the_agent:
    docker: RUNNER_DECIDES, bubblewrap, smolmachines: RUNNER_DECIDES
);
fn a_key_that_is_none_stops_the_run_before_the_agent() {
    let job = job(&commands(&["touch /tmp/started"]));
    let key = job.world.path("signing-key");
    sh(&["ssh-keygen", "-q", "-p", "-P", "", "-N", "a passphrase", "-f", &key.display().to_string()]);
    let output = job.run();
    ended_with(&output, 2);
    assert!(said(&output).contains("SIGNING_KEY can't sign commits: it has a passphrase"), "{}", said(&output));
    job.gone();
}
