//! What an agent may write at the forge: the whole way from its tool to a comment and a label.

use serde_json::{Value, json};

use super::asks::{MAINTAINER, command, comment, job_with};
use super::double::Double;
use crate::docker::{Job, ended_with};
use crate::place::{Place, on};
use crate::world::said;

fn tool(name: &str, input: Value) -> Value {
    json!({"tools": [{"name": format!("mcp__supervise__{name}"), "input": input}]})
}

/// An agent that asks for what it may have, and for what it may not.
fn cassette() -> String {
    let turns = [
        tool("write_comment", json!({"body": "The words are counted in `textstats.py`."})),
        tool("add_labels", json!({"labels": ["bug"]})),
        tool("add_labels", json!({"labels": ["claude"]})),
        tool("write_comment", json!({"body": "Thanks, @octocat!"})),
        tool("write_comment", json!({"body": "A second one."})),
        json!({"text": "That is all."}),
    ];
    json!({"version": 1, "turns": turns}).to_string()
}

/// The job after a dry run, which has written nothing.
fn job_after_a_dry_run() -> (Job, Double) {
    let (job, double) = job_with("github", &cassette(), json!({}), |rules| {
        rules.replace(
            "    bottle: default\n",
            "    bottle: default\n    outputs: { comment: { max: 1 }, labels: { allowed: [bug] } }\n",
        )
    });
    let event = comment(MAINTAINER, "/claude where are words counted?", None);
    let mut dry = command(&job, &double, "77", "issue_comment", &event);
    let dry = dry.arg("--dry-run").output().expect("the runner");
    ended_with(&dry, 0);
    let would = job.world.record_file("would-do.jsonl");
    assert!(would.contains("The words are counted") && would.contains("\"bug\""), "{would}");
    assert!(double.writes().is_empty(), "{:?}", double.writes());
    (job, double)
}

fn outputs() {
    let (job, double) = job_after_a_dry_run();
    let event = comment(MAINTAINER, "/claude where are words counted?", None);
    let before = job.world.slugs();
    let output = command(&job, &double, "78", "issue_comment", &event).output().expect("the runner");
    ended_with(&output, 0);
    let state = double.state();
    let comments = state["comments"].as_array().expect("comments");
    let bodies: Vec<&str> = comments.iter().filter_map(|one| one["body"].as_str()).collect();
    let ours: Vec<&&str> = bodies.iter().filter(|body| body.starts_with("<!-- claude-bottle: output ")).collect();
    assert!(ours.len() == 1 && ours[0].ends_with("The words are counted in `textstats.py`."), "{bodies:?}");
    assert_eq!(state["issues"][0]["labels"], json!(["bug"]), "{state}");
    // Neither a branch nor a pull request.
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)"]), "refs/heads/main");
    assert!(state["pulls"].as_array().is_none_or(Vec::is_empty), "{state}");
    let slug = job.world.slugs().into_iter().find(|slug| !before.contains(slug)).expect("a record");
    let record = job.world.path("state").join(slug);
    let file = |name: &str| std::fs::read_to_string(record.join(name)).expect(name);
    let refused = file("proposals.jsonl").matches("output_refused").count();
    assert_eq!(refused, 3, "{}", file("proposals.jsonl"));
    let receipts = file("outputs.jsonl");
    assert_eq!(receipts.lines().count(), 4, "{receipts}");
    assert_eq!((receipts.matches("begun").count(), receipts.matches("done").count()), (2, 2), "{receipts}");
    assert!(said(&output).contains("claude"), "{}", said(&output));
    double.assert_valid();
    job.nothing_left();
}

#[test]
fn what_is_granted_is_written_once_and_nothing_else() {
    on(Place::Bubblewrap, outputs);
}
