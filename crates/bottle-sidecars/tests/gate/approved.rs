//! What a person lets through at the gate: one finding, and one held push; and what a yes does not reach.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use bottle_policy::supervise::Request;
use bottle_wire::control::{Call, Decided, Listing, SUPERVISE_SOCKET};
use bottle_wire::proposal::change::Texts;
use bottle_wire::proposal::verify::verify;
use bottle_wire::proposal::{By, Decide, PolicyFile, Standing, State, Verdict};
use bottle_wire::push_report;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::apply::bundle_with;
use crate::world::{World, aws_key, hex_token, said, until};

const HOLD: &str = "      tags: true\n      hold: { paths: ['deploy/**'], rules: [generic-api-key], size: 200KiB }\n";

/// A tool's answer: its text, and whether it is an error.
fn tool(world: &World, name: &str, arguments: &Value) -> (String, bool) {
    let mut stream = UnixStream::connect(world.path("doors/supervise.sock")).expect("the door is open");
    let params = json!({"name": name, "arguments": arguments});
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string();
    let head = "POST / HTTP/1.1\r\nhost: supervise:9100\r\ncontent-type: application/json\r\naccept: application/json, \
                text/event-stream\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).expect("sent");
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let answer =
        lines.filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ").unwrap_or(&line)).ok());
    let last = answer.filter(Value::is_object).last().expect("an answer");
    let result = &last["result"];
    (result["content"][0]["text"].as_str().unwrap_or_default().to_owned(), result["isError"] == json!(true))
}

fn control<T: serde::de::DeserializeOwned>(world: &World, call: &Call) -> T {
    let mut stream = UnixStream::connect(world.path("internal").join(SUPERVISE_SOCKET)).expect("supervise listens");
    writeln!(stream, "{}", serde_json::to_string(call).expect("JSON")).expect("sent");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("an answer");
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn proposals(world: &World) -> Vec<Standing> {
    control::<Listing>(world, &Call::List).proposals
}

/// A decision on a proposal as it was shown.
fn decision(standing: &Standing, verdict: Verdict) -> Decide {
    Decide::on(&standing.proposal, verdict, By::Local { user: "ann".to_owned() })
}

fn decide(world: &World, id: &str, verdict: Verdict) -> Decided {
    let all = proposals(world);
    let standing = all.iter().find(|one| one.proposal.id.to_string() == id).unwrap_or_else(|| panic!("no {id}"));
    control(world, &Call::Decide(Box::new(decision(standing, verdict))))
}

#[track_caller]
fn approve(world: &World, id: &str) {
    let decided = decide(world, id, Verdict::Approve);
    assert!(matches!(&decided, Decided::Taken(state) if matches!(**state, State::InForce { .. })), "{id}: {decided:?}");
}

/// Runs a script; what was said where it ends badly.
fn fails(world: &World, clone: &Path, script: &str, env: &[(&str, &str)]) -> Option<String> {
    let output = world.sh(clone, script, env);
    (!output.status.success()).then(|| said(&output))
}

/// The record of what was decided holds, and has none of these.
fn record_holds(world: &World, first: &str, secrets: &[&str]) {
    let read = |name: &str| std::fs::read_to_string(world.path(name)).expect("a file");
    let text = read("state/log/proposals.jsonl");
    let (first, last) =
        (Texts::from([(PolicyFile::Gate, first.to_owned())]), Texts::from([(PolicyFile::Gate, read("gate.yaml"))]));
    let run = serde_json::from_str::<Value>(text.lines().next().expect("a line")).expect("JSON")["run"].clone();
    let run = run.as_str().unwrap_or("run-1").to_owned();
    verify(&run, &text, &first, &last).expect("a record that holds");
    for secret in secrets {
        for name in ["state/log/proposals.jsonl", "state/log/gate.jsonl", "gate.yaml", "gate.log"] {
            assert!(!read(name).contains(secret), "{name}");
        }
    }
}

#[test]
fn a_yes_to_a_finding_is_for_these_bytes_at_this_path_in_this_run() {
    let world = bundle_with("run-1", |policy| policy);
    let first = std::fs::read_to_string(world.path("gate.yaml")).expect("a policy");
    let clone = world.clone_origin();
    let (token, other) = (hex_token(), hex_token());
    let env = [("TOKEN", token.as_str()), ("OTHER", other.as_str()), ("KNOWN", world.known.as_str())];
    let push = "git add .; git commit -q --allow-empty -m x; git push \"$ORIGIN\" HEAD:refs/heads/bottle";
    let one = format!("mkdir -p src; echo \"api_key = '$TOKEN'\" >src/a; {push}/one");
    let hash = hex::encode(Sha256::digest(&token));
    let named = json!({"rule": "generic-api-key", "path": "src/a", "sha256": hash, "why": "a sample", "wait": false});
    let ask = |change: Value| {
        let mut asked = named.clone();
        change.as_object().expect("an object").iter().for_each(|(key, value)| asked[key] = value.clone());
        tool(&world, "request_exemption", &asked)
    };
    // Before the gate has found it, nobody can be asked.
    assert!(ask(json!({})).1);
    let text = fails(&world, &clone, &one, &env).expect("it is refused");
    assert!(
        text.contains(&format!("request_exemption {{ rule: generic-api-key, path: \"src/a\", sha256: {hash}")),
        "{text}"
    );
    for change in [
        json!({"sha256": hex::encode(Sha256::digest(&other))}),
        json!({"path": "src/b"}),
        json!({"path": "src/*"}),
        json!({"rule": "jwt"}),
        json!({"rule": "known-secret:KNOWN"}),
        json!({"host": "a.example"}),
        json!({"sha256": null}),
    ] {
        let (text, is_error) = ask(change.clone());
        assert!(is_error, "{change}: {text}");
    }
    assert!(proposals(&world).is_empty(), "{:?}", proposals(&world));
    let (text, is_error) = ask(json!({}));
    assert!(!is_error && text.starts_with("P1 waits"), "{text}");
    assert!(fails(&world, &clone, &format!("{push}/one"), &env).is_some(), "nobody has said yes");
    // Other bytes than were asked about can't be granted.
    let elsewhere = Request::finding("generic-api-key", "src/b", &hash, "x", None).expect("a request");
    let modified = decide(&world, "P1", Verdict::Modified { request: Box::new(elsewhere) });
    assert!(matches!(modified, Decided::Refused { .. }), "{modified:?}");
    let kept = decision(&proposals(&world)[0], Verdict::Approve);
    approve(&world, "P1");
    assert_eq!(fails(&world, &clone, &format!("{push}/one"), &env), None);
    let from_main = "git checkout -q -f -B w origin/main; git clean -qfd; mkdir -p src";
    for (script, found) in [
        ("echo \"api_key = '$TOKEN'\" >src/b", "generic-api-key at src/b"),
        (
            "echo \"api_key = '$TOKEN'\" >src/b; git add .; git commit -qm y; git mv src/b src/a",
            "generic-api-key at src/",
        ),
        ("echo \"api_key = '$OTHER'\" >src/a", "generic-api-key at src/a"),
        ("echo \"api_key = '$TOKEN' $KNOWN\" >src/a", "known-secret:KNOWN at src/a"),
    ] {
        let text = fails(&world, &clone, &format!("{from_main}; {script}; {push}/two"), &env);
        assert!(text.as_ref().is_some_and(|text| text.contains(found)), "{script}: {text:?}");
    }
    record_holds(&world, &first, &[&token, &other]);

    // Another run has its own rules, and takes no decision of this one.
    let next = bundle_with("run-2", |policy| policy);
    let clone = next.clone_origin();
    assert!(fails(&next, &clone, &one, &env).is_some(), "it is refused");
    assert!(tool(&next, "request_exemption", &named).0.starts_with("P1 waits"));
    let replayed: Decided = control(&next, &Call::Decide(Box::new(kept)));
    assert!(matches!(&replayed, Decided::Refused { reason } if reason.contains("run-1")), "{replayed:?}");
    assert!(fails(&next, &clone, &format!("{push}/one"), &env).is_some(), "it is refused");
}

fn held_world() -> World {
    bundle_with("run-1", |policy| policy.replace("      tags: true\n", HOLD))
}

#[test]
fn a_held_push_goes_when_exactly_it_was_let_through() {
    let world = held_world();
    let first = std::fs::read_to_string(world.path("gate.yaml")).expect("a policy");
    let clone = world.clone_origin();
    let token = hex_token();
    let env = [("TOKEN", token.as_str()), ("KEY", &aws_key()), ("KNOWN", world.known.as_str())];
    let on_upstream = |name: &str| world.upstream_refs().contains(&format!("refs/heads/bottle/{name} "));
    let push = "git add .; git commit -qm x; git push \"$ORIGIN\" HEAD:refs/heads/bottle";
    let again = |name: &str| format!("git push \"$ORIGIN\" HEAD:refs/heads/bottle/{name}");
    let text = fails(&world, &clone, &format!("mkdir deploy; echo a >deploy/a; {push}/one"), &env).expect("it is held");
    assert!(
        text.contains("held refs/heads/bottle/one") && text.contains("as proposal P1: deploy/a is held (deploy/**)"),
        "{text}"
    );
    assert_eq!(world.record().last().map(|push| push.verdict), Some(push_report::PushVerdict::Held));
    let Request::HeldPush(held) = &proposals(&world)[0].proposal.request else { panic!("another kind") };
    assert_eq!(held.files, ["deploy/a | +1 -0"]);
    // The same again asks nobody twice; other objects, and another ref, are another push.
    assert!(fails(&world, &clone, &again("one"), &env).expect("it is held").contains("as proposal P1"));
    assert!(fails(&world, &clone, &again("other"), &env).expect("it is held").contains("as proposal P2"));
    let amended = "git branch first; git commit -q --amend -m y; ";
    assert!(fails(&world, &clone, &format!("{amended}{}", again("one")), &env).expect("it is held").contains("P3"));
    // A no stands.
    assert!(matches!(decide(&world, "P2", Verdict::Deny { why: "not there".to_owned() }), Decided::Taken(_)));
    assert!(
        fails(&world, &clone, "git push \"$ORIGIN\" first:refs/heads/bottle/other", &env)
            .expect("it is refused")
            .contains("refused by ann: not there")
    );
    approve(&world, "P1");
    assert!(fails(&world, &clone, &again("one"), &env).expect("the amended one is held").contains("as proposal P3"));
    assert!(
        fails(&world, &clone, "git checkout -q first; git push \"$ORIGIN\" HEAD:refs/heads/bottle/third", &env)
            .is_some()
    );
    assert!(!on_upstream("one") && !on_upstream("other") && !on_upstream("third"));
    assert_eq!(fails(&world, &clone, &again("one"), &env), None);
    assert!(on_upstream("one"));
    // A yes is for its ref: the same objects, and a part of them, are asked about again for another one.
    for name in ["copied", "on-top"] {
        let commit = if name == "on-top" { "echo 1 >d; git add .; git commit -qm d; " } else { "" };
        let text = fails(&world, &clone, &format!("{commit}{}", again(name)), &env).expect(name);
        assert!(text.contains("were let through to refs/heads/bottle/one alone"), "{text}");
        assert!(!on_upstream(name));
    }
    assert_eq!(fails(&world, &clone, &again("one"), &env), None, "more on the branch that has it");
    // Renamed below the glob, deleted from there, moved by a merge: all touch it.
    let from_main = "git checkout -q -f -B w origin/main; git clean -qfd";
    for (name, script) in [
        ("renamed", "echo b >b; git add .; git commit -qm b; mkdir deploy; git mv b deploy/b"),
        ("deleted", "git checkout -q first; git rm -q deploy/a"),
        ("linked", "ln -s src deploy"),
        ("large", "seq 100000 >large"),
        ("found", "mkdir src; echo \"api_key = '$TOKEN'\" >src/a"),
    ] {
        let text = fails(&world, &clone, &format!("{from_main}; {script}; {push}/{name}"), &env).expect(name);
        assert!(
            text.contains(&format!("held refs/heads/bottle/{name}: is held for a person as proposal")),
            "{name}: {text}"
        );
        assert!(!text.contains(&token), "{text}");
    }
    // What another rule finds refuses, and so does a secret of the bottle's own.
    for (script, found) in [
        ("mkdir src; echo \"api_key = '$TOKEN'\" >src/a; echo k = $KEY >src/k", "aws-access-token at src/k"),
        ("mkdir src; echo \"api_key = '$TOKEN' $KNOWN\" >src/a", "known-secret:KNOWN at src/a"),
        ("git commit -q --allow-empty -m \"api_key = '$TOKEN'\"; echo c >c", "generic-api-key at commit message"),
    ] {
        let before = proposals(&world).len();
        let text = fails(&world, &clone, &format!("{from_main}; {script}; {push}/no"), &env).expect("it is refused");
        assert!(text.contains("refused refs/heads/bottle/no") && text.contains(found), "{script}: {text}");
        assert_eq!(proposals(&world).len(), before, "{script}: nobody is asked");
    }
    let all = proposals(&world);
    let found =
        all.iter().find(|one| matches!(&one.proposal.request, Request::HeldPush(held) if !held.findings.is_empty()));
    let found = found.expect("the one with a finding").proposal.id.to_string();
    let Request::HeldPush(held) =
        &all.iter().find(|one| one.proposal.id.to_string() == found).expect("it").proposal.request
    else {
        panic!("another kind")
    };
    assert_eq!(held.findings, ["generic-api-key at src/a:1"]);
    approve(&world, &found);
    let pushed = format!("git push \"$ORIGIN\" {}:refs/heads/bottle/found", held.refs[0].new);
    assert_eq!(fails(&world, &clone, &pushed, &env), None);
    let last = world.record().pop().expect("a push");
    assert_eq!((last.verdict, last.findings.len()), (push_report::PushVerdict::Accepted, 1));
    record_holds(&world, &first, &[&token]);
}

#[test]
fn a_branch_that_moved_between_the_question_and_the_yes_is_another_push() {
    let world = held_world();
    let clone = world.clone_origin();
    let push = "git push -f \"$ORIGIN\" HEAD:refs/heads/bottle/x";
    world.ok(&clone, &format!("echo 1 >a; git add .; git commit -qm 1; {push}"));
    let held = format!("mkdir deploy; echo 1 >deploy/a; git add .; git commit -qm 2; {push}");
    assert!(fails(&world, &clone, &held, &[]).expect("it is held").contains("as proposal P1"));
    // Somebody else puts the branch elsewhere.
    world.ok(&world.upstream("origin"), "git update-ref refs/heads/bottle/x refs/heads/main");
    let before = world.upstream_refs();
    approve(&world, "P1");
    assert!(fails(&world, &clone, push, &[]).expect("it is held").contains("as proposal P2"));
    assert_eq!(world.upstream_refs(), before);
    approve(&world, "P2");
    assert_eq!(fails(&world, &clone, push, &[]), None);
}

#[test]
fn a_gate_killed_while_a_push_is_held_loses_nothing_and_lets_nothing_through() {
    let world = held_world();
    let clone = world.clone_origin();
    let push = "git push \"$ORIGIN\" HEAD:refs/heads/bottle/x";
    let held = format!("mkdir deploy; echo 1 >deploy/a; git add .; git commit -qm 2; {push}");
    assert!(fails(&world, &clone, &held, &[]).expect("it is held").contains("as proposal P1"));
    let before = world.upstream_refs();
    let lives = || world.gate_log().lines().filter(|line| line.contains("git-gate | started")).count();
    let kill = || {
        let (log, count) = (world.gate_log(), lives());
        let line = log.lines().rfind(|line| line.contains("git-gate | started")).expect("the gate runs");
        let pid = line.rsplit(' ').next().expect("its process");
        assert!(Command::new("kill").args(["-KILL", pid]).status().expect("kill").success());
        until("the gate is there again", || {
            lives() > count && world.sh(&clone, "git ls-remote -q \"$ORIGIN\"", &[]).status.success()
        });
    };
    kill();
    assert_eq!(world.upstream_refs(), before);
    assert!(proposals(&world)[0].state.is_open(), "{:?}", proposals(&world)[0].state);
    assert!(fails(&world, &clone, push, &[]).expect("it is held").contains("as proposal P1"));
    approve(&world, "P1");
    kill();
    assert_eq!(world.upstream_refs(), before, "a yes alone pushes nothing");
    assert_eq!(fails(&world, &clone, push, &[]), None);
}

#[test]
fn a_held_push_that_nobody_can_be_asked_about_is_refused() {
    let world = World::with(|_| {}, |policy| policy.replace("      tags: true\n", HOLD));
    let clone = world.clone_origin();
    let held =
        "mkdir deploy; echo 1 >deploy/a; git add .; git commit -qm 2; git push \"$ORIGIN\" HEAD:refs/heads/bottle/x";
    let text = fails(&world, &clone, held, &[]).expect("it is held");
    assert!(text.contains("there is nobody to ask"), "{text}");
    assert!(!world.upstream_refs().contains("bottle/x"));
}
