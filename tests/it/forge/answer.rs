//! The answer of an agent: the whole way from its tool to the step's output, and what becomes of a run without one.

use bottle_testkit::Double;
use serde_json::{Value, json};

use super::asks::{MAINTAINER, command, comment, job_with};
use crate::job::{Job, ended_with};
use crate::place::{Place, on};

const GRANTED: &str = r##"    bottle: default
    outputs:
      json:
        type: object
        required: [severity, note]
        additionalProperties: false
        properties: { severity: { enum: [low, high] }, note: { $ref: "#/$defs/note" } }
        $defs: { note: { type: string, maxLength: 100 } }
"##;

fn give(answer: &Value) -> Value {
    json!({"tools": [{"name": "mcp__supervise__give_answer", "input": {"answer": answer}}]})
}

fn job_that_answers(answers: &[Value]) -> (Job, Double) {
    let mut turns: Vec<Value> = answers.iter().map(give).collect();
    turns.push(json!({"text": "That is all."}));
    job_of(&turns)
}

fn job_of(turns: &[Value]) -> (Job, Double) {
    let cassette = json!({"version": 1, "turns": turns}).to_string();
    job_with("github", &cassette, json!({}), |rules| rules.replace("    bottle: default\n", GRANTED))
}

/// A step's output of the job with this number.
fn step_output(job: &Job, number: &str, name: &str) -> String {
    let text = std::fs::read_to_string(job.world.path(&format!("outputs-{number}"))).expect("the step's outputs");
    let mut lines = text.lines();
    let mark = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix("<<")).expect("the output");
    let value = lines.next().expect("a value").to_owned();
    assert_eq!(lines.next(), Some(mark), "{text}");
    value
}

fn run(job: &Job, double: &Double, number: &str, dry: bool, code: i32) {
    let event = comment(MAINTAINER, "/claude how bad is it?", None);
    let mut command = command(job, double, number, "issue_comment", &event);
    command.args(dry.then_some("--dry-run"));
    ended_with(&command.output().expect("the runner"), code);
}

fn answer() {
    // What would be a command in a log, and another output in the step's file, is a text.
    let note = "EOF\n::error::x\nconclusion=success\u{85}\u{202e}";
    let (job, double) = job_that_answers(&[json!({"severity": "huge"}), json!({"severity": "high", "note": note})]);
    run(&job, &double, "81", true, 0);
    assert_eq!(step_output(&job, "81", "structured-output"), "", "a dry run hands nothing on");
    assert!(job.world.record_file("would-do.jsonl").contains(r#""severity":"high""#));
    let before = job.world.slugs();
    run(&job, &double, "82", false, 0);
    let slug = job.world.slugs().into_iter().find(|slug| !before.contains(slug)).expect("a record");
    let record = job.world.path("state").join(slug);
    let text = step_output(&job, "82", "structured-output");
    let parsed: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(parsed, json!({"severity": "high", "note": note}));
    let file = record.join("answer.json");
    assert_eq!(step_output(&job, "82", "structured-output-file"), file.display().to_string());
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), format!("{text}\n"));
    assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text}");
    let proposals = std::fs::read_to_string(record.join("proposals.jsonl")).expect("the file");
    assert!(
        proposals.contains("at /severity: ") && proposals.contains("\\\"note\\\" is a required property"),
        "{proposals}"
    );
    // The forge has the status comment and nothing else.
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)"]), "refs/heads/main");
    double.assert_valid();
    job.nothing_left();
}

/// How often the agent was at work, by the record's cases.
fn attempts(job: &Job) -> usize {
    job.world.record_file("junit.xml").matches("classname=\"agent\"").count()
}

fn no_answer() {
    let wrong = json!({"severity": "huge", "note": "x"});
    let right = json!({"severity": "low", "note": "x"});
    let (say, wrong) = (json!({"text": "That is all."}), give(&wrong));
    for (number, turns, asked) in [
        // Asked twice, and no more.
        ("83", vec![say.clone(), say.clone(), say.clone(), give(&right), say.clone()], 2),
        (
            "84",
            vec![wrong.clone(), say.clone(), wrong.clone(), say.clone(), wrong.clone(), say.clone(), give(&right)],
            2,
        ),
        // The door has had three and takes no other: there is nothing to ask for.
        ("85", vec![wrong.clone(), wrong.clone(), wrong.clone(), give(&right), say.clone(), give(&right)], 0),
    ] {
        let (job, double) = job_of(&turns);
        run(&job, &double, number, false, 1);
        assert_eq!(step_output(&job, number, "conclusion"), "failure");
        assert_eq!(step_output(&job, number, "structured-output"), "");
        assert_eq!(step_output(&job, number, "structured-output-file"), "");
        assert!(job.world.record_file("summary.md").contains("gave no answer that fits"));
        assert_eq!(attempts(&job), asked + 1, "{number}");
        job.nothing_left();
    }
}

fn asked_again() {
    let (say, right) = (json!({"text": "That is all."}), json!({"severity": "low", "note": "x"}));
    let turns = [say.clone(), give(&json!({"severity": "huge"})), say.clone(), give(&right), say];
    let (job, double) = job_of(&turns);
    run(&job, &double, "86", false, 0);
    assert_eq!(attempts(&job), 3);
    let text = step_output(&job, "86", "structured-output");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), right);
    // Its record replays to the same end.
    job.world.write("cassette.yml", &job.world.record_file("cassette.jsonl"));
    let mut event = comment(MAINTAINER, "/claude how bad is it?", None);
    event["comment"]["id"] = json!(905);
    let again = command(&job, &double, "87", "issue_comment", &event).output().expect("the runner");
    ended_with(&again, 0);
    assert_eq!(step_output(&job, "87", "structured-output"), text);
    double.assert_valid();
    job.nothing_left();
}

fn asked_within_the_limits() {
    let turns =
        [json!({"text": "That is all."}), give(&json!({"severity": "low", "note": "x"})), json!({"text": "So."})];
    for (number, limit, says) in
        [("88", "turns: 1", "the limit of turns was reached"), ("89", "requests: 1", "1 requests")]
    {
        let cassette = json!({"version": 1, "turns": turns}).to_string();
        let (job, double) = job_with("github", &cassette, json!({}), |rules| {
            rules.replace("    bottle: default\n", GRANTED).replace("turns: 20", limit)
        });
        run(&job, &double, number, false, 6);
        assert_eq!(step_output(&job, number, "structured-output"), "");
        assert!(job.world.record_file("summary.md").contains(says), "{}", job.world.record_file("summary.md"));
        job.nothing_left();
    }
}

#[test]
fn an_answer_that_fits_is_the_step_s_output() {
    on(Place::Bubblewrap, answer);
}

#[test]
fn a_run_without_an_answer_has_failed() {
    on(Place::Bubblewrap, no_answer);
}

#[test]
fn an_agent_that_ends_without_its_answer_is_asked_for_it_in_its_session() {
    on(Place::Bubblewrap, asked_again);
}

#[test]
fn an_answer_is_asked_for_within_the_limits_of_the_run() {
    on(Place::Bubblewrap, asked_within_the_limits);
}
