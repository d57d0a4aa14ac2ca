//! The repository's budget over whole runs: what one has spent is counted, and the next is refused before anything starts.

use std::process::{Command, Output};

use bottle_testkit::{Double, Server, said};
use serde_json::{Value, json};

use super::asks::{MAINTAINER, comment, job_with};
use crate::job::{Job, ended_with};
use crate::place::{Place, on};
use crate::suite::live::live_manifest;

const LEDGER: &str = "refs/claude-bottle/budget";

/// A job at GitHub's stand-in whose model is paid, and has two requests a run.
struct Paid {
    job: Job,
    double: Double,
    authorities: String,
    _api: Server,
}

impl Paid {
    /// `more` goes into the bottle.
    fn new(more: &str) -> Self {
        let (job, double) = job_with("github", "", json!({}), |rules| rules);
        let api = Server::start(&job.world, "model_api.py", &job.upstream.address, &["api.anthropic.com"], &[]);
        let rules = live_manifest(&job, &api)
            .replace("from: ANTHROPIC_API_KEY", "from: BOTTLE_TEST_TOKEN")
            .replace("    git:\n", &format!("{more}    git:\n"))
            .replace("limits: { turns: 20,", "limits: { requests: 6, tokens: 900000, turns: 20,");
        job.with_file("live.yml", &(rules + "budget: { period: month, requests: 7 }\n"));
        let both =
            [double.ca(), api.authority.clone()].map(|path| std::fs::read_to_string(path).expect("a certificate"));
        let authorities = job.world.write("authorities.pem", &both.concat()).display().to_string();
        Self { job, double, authorities, _api: api }
    }

    fn command(&self, number: u64) -> Command {
        let mut command = self.job.world.runner();
        command.args(["run", "--backend", "bubblewrap", "--manifest", "live.yml"]).current_dir(&self.job.checkout);
        let mut event = comment(MAINTAINER, "/claude fix this", None);
        event["comment"]["id"] = json!(number);
        super::job(&self.job.world, &self.double, &mut command, "issue_comment", &event);
        command.env("GITHUB_RUN_ID", number.to_string()).env("SSL_CERT_FILE", &self.authorities);
        command
    }

    fn run(&self, number: u64, args: &[&str]) -> Output {
        self.command(number).args(args).output().expect("the runner")
    }

    /// The ledger, as the forge has it.
    fn ledger(&self) -> Value {
        let git = &self.double.state()["git"];
        let commit = git["refs"][LEDGER].as_str().unwrap_or_else(|| panic!("no ledger: {git}"));
        let tree = git["commits"][commit]["tree"].as_str().expect("a tree");
        let text = git["trees"][tree][".claude-bottle/budget.json"].as_str().expect("a file");
        serde_json::from_str(text).expect("JSON")
    }
}

fn two_runs() {
    let paid = Paid::new("");
    // A dry run spends, and is not counted.
    let dry = paid.run(900, &["--dry-run"]);
    ended_with(&dry, 0);
    assert!(said(&dry).contains("a dry run is not counted, whatever it spends"), "{}", said(&dry));
    assert_eq!(paid.double.state()["git"]["refs"][LEDGER], Value::Null);
    let first = paid.run(901, &[]);
    ended_with(&first, 0);
    let ledger = paid.ledger();
    assert_eq!((&ledger["reserved"], &ledger["spent"]["requests"]), (&json!([]), &json!(2)), "{ledger}");
    assert_eq!((&ledger["spent"]["tokens"], &ledger["spent"]["runs"]), (&json!(34), &json!(1)), "{ledger}");
    assert!(said(&first).contains("2 of 7 requests to the model spent and 0 reserved"), "{}", said(&first));
    // Five are left, and the next may need six.
    let before = paid.job.world.slugs();
    let second = paid.run(902, &[]);
    ended_with(&second, 6);
    assert!(said(&second).contains("5 of 7 requests to the model of "), "{}", said(&second));
    let slug = paid.job.world.slugs().into_iter().find(|slug| !before.contains(slug)).expect("a record");
    let record = paid.job.world.path("state").join(slug);
    assert!(record.join("metadata.json").exists() && !record.join("egress.jsonl").exists(), "nothing was launched");
    assert_eq!(paid.ledger(), ledger);
    // What calls no model needs nothing of it.
    let cassette = json!({"version": 1, "turns": [{"text": "Done."}]}).to_string();
    let cassette = paid.job.world.write("done.yml", &cassette).display().to_string();
    ended_with(&paid.run(903, &["--replay", &cassette]), 0);
    assert_eq!(paid.ledger(), ledger);
    paid.double.assert_valid();
    paid.job.nothing_left();
}

#[test]
fn a_run_counts_what_it_has_spent_and_the_next_is_refused() {
    on(Place::Bubblewrap, two_runs);
}

fn ended_early() {
    let paid = Paid::new("    setup: { run: [\"false\"] }\n");
    let output = paid.run(900, &[]);
    ended_with(&output, 1);
    let ledger = paid.ledger();
    assert_eq!((&ledger["reserved"], &ledger["spent"]["requests"]), (&json!([]), &json!(0)), "{ledger}");
    assert!(said(&output).contains("0 of 7 requests to the model spent and 6 reserved"), "{}", said(&output));
    paid.double.assert_valid();
    paid.job.nothing_left();
}

#[test]
fn a_run_that_ends_before_its_agent_gives_its_reservation_back() {
    on(Place::Bubblewrap, ended_early);
}
