//! Pushes that a person decides about, by comments on the thread: one that is held, and one finding that is none.

use bottle_testkit::random;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::stage::Stage;
use crate::job::ended_with;
use crate::suite::MINUTES;

fn uses(command: &str) -> Value {
    json!({"name": "Bash", "input": {"command": command, "description": "a step"}})
}

shared!(a_comment_lets_a_held_push_and_a_finding_through_and_nothing_like_them: docker, bubblewrap, smolmachines: MINUTES);
fn a_comment_lets_a_held_push_and_a_finding_through_and_nothing_like_them() {
    let stage = Stage::edited("{ approval: comment, timeout: 5m }", &|text| {
        text.replace("refs: [", "hold: { paths: [\"deploy/**\"] }, refs: [")
    });
    let token = random(40);
    // Neither this conversation nor what pipelock sees has it in one piece.
    let (start, end) = token.split_at(20);
    let push = "git add .; git commit -qm Work; git push origin HEAD 2>&1 | sed 's/^/said: /'";
    let hash = hex::encode(Sha256::digest(&token));
    let exemption = json!({"name": "mcp__supervise__request_exemption", "input": {
        "rule": "generic-api-key", "path": "sample.py", "sha256": hash, "why": "A sample, @octocat."}});
    let other = json!({"name": "mcp__supervise__request_exemption", "input": {
        "rule": "generic-api-key", "path": "sample.py", "sha256": "0".repeat(64), "why": "Another."}});
    let wait = json!({"name": "mcp__supervise__wait", "input": {"id": "P1"}});
    stage.cassette(&[
        uses(&format!("mkdir deploy; echo 1 > deploy/a; {push}")),
        wait,
        uses("git commit -q --amend -m Other; git push origin HEAD 2>&1 | sed 's/^/said: /'; git reset -q --hard 'HEAD@{1}'"),
        uses("git push origin HEAD 2>&1 | sed 's/^/said: /'"),
        uses(&format!("printf \"api_key = '%s%s'\\n\" {start} {end} > sample.py; {push}")),
        other,
        exemption,
        uses("git push origin HEAD 2>&1 | sed 's/^/said: /'"),
    ]);
    let run = stage.start();
    let held = stage.asked_about("P1");
    let body = held["body"].as_str().expect("a text");
    for wanted in ["A push of the agent's is held", "deploy/a is held (deploy/**)", " deploy/a | +1 -0", "+approved:"] {
        assert!(body.contains(wanted), "no `{wanted}` in {body}");
    }
    stage.says(5001, "octo-reader", &Stage::yes(&held), json!({}));
    stage.says(5002, "octo-maintainer", &Stage::yes(&held), json!({}));
    // The amended one is a question of its own, which nobody answers.
    stage.asked_about("P2");
    let asked = stage.asked_about("P3");
    let body = asked["body"].as_str().expect("a text");
    assert!(
        body.contains(&hash) && body.contains("found in sample.py is no secret") && !body.contains(&token),
        "{body}"
    );
    stage.says(5003, "octo-maintainer", &Stage::yes(&asked), json!({}));
    ended_with(&run.wait(), 0);

    let told = stage.told();
    for (at, wanted) in [
        (0, "is held for a person as proposal P1"),
        (1, "P1 is approved by @octo-maintainer"),
        (2, "is held for a person as proposal P2"),
        (3, "upstream has it"),
        (4, "generic-api-key at sample.py:1"),
        (5, "the gate has found no such thing in this run"),
        (6, "P3 is approved by @octo-maintainer"),
        (7, "upstream has it"),
    ] {
        assert!(told[at].contains(wanted), "{at}: no `{wanted}` in {told:?}");
    }
    let verdicts: Vec<Value> = stage
        .job
        .world
        .record_file("gate.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["held", "held", "accepted", "refused", "accepted"]);
    let holds = stage.holds();
    assert!(holds.contains("3 asked, 2 granted, ") && holds.contains("2 policies applied"), "{holds}");
    for name in ["proposals.jsonl", "gate.jsonl", "gate.yaml", "report.html", "summary.md", "junit.xml"] {
        assert!(!stage.job.world.record_file(name).contains(&token), "{name} has it");
    }
    stage.double.assert_valid();
    stage.job.nothing_left();
}
