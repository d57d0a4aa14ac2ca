//! A person's stop while the agent mends what the verify commands found.

use bottle_testkit::{Running, said};
use serde_json::{Value, json};

use super::asks::{MAINTAINER, at_work, command, comment, job_with};
use crate::job::ended_with;
use crate::place::{Place, on};

fn stopped_while_it_is_mended() {
    let run =
        |command: &str| json!({"tools": [{"name": "Bash", "input": {"command": command, "description": "a step"}}]});
    let turns: Vec<Value> = vec![
        run("echo x > new.txt; git add .; git commit -qm half"),
        json!({"text": "Done."}),
        run("echo y > other.txt; sleep 120"),
        json!({"text": "Done."}),
    ];
    let cassette = json!({"version": 1, "turns": turns}).to_string();
    let (job, double) = job_with("github", &cassette, json!({}), |rules| {
        rules.replace("[\"true\"]", "{ repair: 2, commands: [\"test -f fixed.txt\"] }")
    });
    let event = comment(MAINTAINER, "/claude fix this", None);
    let running = Running::new(command(&job, &double, "91", "issue_comment", &event).spawn().expect("the runner"));
    at_work(&job);
    double.say(&json!({"id": 902, "number": 7, "author": MAINTAINER.0, "body": "/claude stop"}));
    let output = running.wait();
    ended_with(&output, 143);
    assert!(said(&output).contains("stopped by octo-maintainer"), "{}", said(&output));
    // Nothing is pushed and nothing proposed; the work of both attempts is in the record.
    assert_eq!(job.upstream.git(&["for-each-ref", "--format", "%(refname)"]), "refs/heads/main");
    assert_eq!(double.state()["pulls"], json!([]));
    let bundle = job.world.record().join("work.bundle").display().to_string();
    let checkout = job.checkout.display().to_string();
    bottle_testkit::sh(&["git", "-C", &checkout, "fetch", "--quiet", &bundle, "HEAD"]);
    let files = bottle_testkit::sh(&["git", "-C", &checkout, "ls-tree", "-r", "--name-only", "FETCH_HEAD"]);
    assert!(files.contains("new.txt") && files.contains("other.txt"), "{files}");
    job.nothing_left();
}

#[test]
fn a_stop_while_the_agent_mends_pushes_nothing_and_keeps_the_work() {
    on(Place::Bubblewrap, stopped_while_it_is_mended);
}
