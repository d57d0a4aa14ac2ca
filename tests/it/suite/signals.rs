//! SIGINT and SIGTERM in every phase: logs collected, everything removed, the documented exit code.

use std::io::{BufRead as _, BufReader};

use bottle_testkit::{Running, commands, said};

use super::MINUTES;
use crate::job::{Job, ended_with, manifest};

const PHASES: [&str; 7] = ["prepare", "launch", "provision", "seal", "agent", "verify", "push"];

fn stopped_in(phase: &str, signal: &str, code: i32) {
    let job = Job::with_manifest(&commands(&["echo x > new.txt; git add -A; git commit -qm new"]), |upstream| {
        // Verify takes long enough to be interrupted.
        manifest(upstream).replace("python3 -m unittest", "sleep 1")
    });
    let mut command = job.command();
    command.arg("--json");
    let mut running = Running::new(command.spawn().expect("the runner"));
    let stdout = running.stdout();
    let mut seen = false;
    let mut lines = BufReader::new(stdout).lines();
    for line in lines.by_ref() {
        let event: serde_json::Value = serde_json::from_str(&line.expect("a line")).expect("an event");
        if event["event"] == "phase" && event["phase"] == phase {
            seen = true;
            break;
        }
    }
    assert!(seen, "phase {phase} never came");
    running.signal(signal);
    let rest: Vec<String> = lines.map(|line| line.expect("a line")).collect();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(code), "{signal} in {phase}: {}", said(&output));
    assert!(rest.iter().any(|line| line.contains("\"finished\"")), "{rest:?}");
    job.nothing_left();
    let metadata: serde_json::Value = serde_json::from_str(&job.world.record_file("metadata.json")).expect("metadata");
    assert_eq!(metadata["outcome"]["code"], code, "{metadata}");
    assert!(job.world.record().join("junit.xml").exists());
    if !matches!(phase, "prepare" | "launch") {
        assert!(
            job.world.record_file("compose.log").contains("egress |"),
            "{signal} in {phase}: the logs were not collected"
        );
    }
}

shared!(sigint_ends_the_run_in_good_order_in_every_phase: docker, bubblewrap, smolmachines: MINUTES);
fn sigint_ends_the_run_in_good_order_in_every_phase() {
    for phase in PHASES {
        stopped_in(phase, "INT", 130);
    }
}

shared!(sigterm_ends_the_run_in_good_order_in_every_phase: docker, bubblewrap, smolmachines: MINUTES);
fn sigterm_ends_the_run_in_good_order_in_every_phase() {
    for phase in PHASES {
        stopped_in(phase, "TERM", 143);
    }
}

shared!(a_cost_limit_ends_the_agent: docker, bubblewrap, smolmachines: MINUTES);
fn a_cost_limit_ends_the_agent() {
    let steps = ["true"; 6];
    let job = Job::with_manifest(&commands(&steps), |upstream| {
        manifest(upstream).replace("time: 5m", "cost_usd: 0.0001").replace("python3 -m unittest", "true")
    });
    let output = job.run();
    ended_with(&output, 6);
    assert!(said(&output).contains("the cost limit was reached"), "{}", said(&output));
}

shared!(a_token_limit_ends_the_agent: docker, bubblewrap, smolmachines: MINUTES);
fn a_token_limit_ends_the_agent() {
    let job = Job::with_manifest(&commands(&["sleep 5", "sleep 5", "sleep 5"]), |upstream| {
        manifest(upstream).replace("time: 5m", "tokens: 100").replace("python3 -m unittest", "true")
    });
    let output = job.run();
    ended_with(&output, 6);
    assert!(said(&output).contains("the limit of 100 tokens was reached"), "{}", said(&output));
}

shared!(a_budget_of_requests_is_kept_by_egress_and_the_work_is_pushed: docker, bubblewrap, smolmachines: MINUTES);
fn a_budget_of_requests_is_kept_by_egress_and_the_work_is_pushed() {
    let steps = ["echo x > new.txt; git add -A; git commit -qm new", "true", "true", "true", "true"];
    let job = Job::with_manifest(&commands(&steps), |upstream| {
        manifest(upstream).replace("time: 5m", "requests: 2").replace("python3 -m unittest", "true")
    });
    let output = job.run();
    ended_with(&output, 6);
    assert!(said(&output).contains("2 requests"), "{}", said(&output));
    assert_eq!(job.world.record_file("budget.jsonl").lines().count(), 2);
    let refs = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    assert_eq!(refs.lines().count(), 1, "what was done so far is pushed: {refs}");
}

shared!(a_limit_of_turns_ends_the_agent: docker, bubblewrap, smolmachines: MINUTES);
fn a_limit_of_turns_ends_the_agent() {
    let job = Job::with_manifest(&commands(&["true"; 6]), |upstream| {
        manifest(upstream).replace("turns: 20", "turns: 2").replace("python3 -m unittest", "true")
    });
    let output = job.run();
    ended_with(&output, 6);
    assert!(said(&output).contains("the limit of turns was reached"), "{}", said(&output));
}

shared!(a_time_limit_ends_the_agent_and_keeps_the_work: docker, bubblewrap, smolmachines: MINUTES);
fn a_time_limit_ends_the_agent_and_keeps_the_work() {
    let job =
        Job::with_manifest(&commands(&["echo x > new.txt; git add -A; git commit -qm new; sleep 120"]), |upstream| {
            manifest(upstream).replace("time: 5m", "time: 8s").replace("python3 -m unittest", "true")
        });
    let output = job.run();
    ended_with(&output, 6);
    assert!(said(&output).contains("the time limit of 8s was reached"), "{}", said(&output));
    let refs = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    assert_eq!(refs.lines().count(), 1, "what was done so far is pushed: {refs}");
    job.nothing_left();
}
