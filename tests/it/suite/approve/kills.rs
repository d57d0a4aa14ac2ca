//! kill -9 of whoever puts a policy in force, in the middle of it: the doors have the old policy or the new one.

use std::time::Duration;

use bottle_testkit::{Running, said};
use serde_json::{Value, json};

use super::stage::Stage;
use crate::job::ended_with;
use crate::place::{Room, inside, left_behind};
use crate::suite::MINUTES;

/// One a round, each killed a little later than the one before: from before it has connected to after it is done.
const ROUNDS: u64 = 24;
const STEP: Duration = Duration::from_millis(15);

/// The routes in the bundle, and the hash that supervise has of them.
fn in_force(stage: &Stage) -> (String, String) {
    let slug = stage.job.world.slugs().remove(0);
    // An apply whose caller is gone goes on to its end: what is asked behind it waits for it.
    let listing: Vec<Value> = serde_json::from_str(&stage.prints(&["proposals", "list", "--json"])).expect("JSON");
    (routes(&slug), listing[0]["policies"]["routes.yaml"].as_str().expect("a hash").to_owned())
}

fn routes(slug: &str) -> String {
    let shown = inside(slug, Room::Bundle, true, &["cat", "/etc/claude-bottle/routes.yaml"]).output().expect("cat");
    assert!(shown.status.success(), "{}", said(&shown));
    String::from_utf8(shown.stdout).expect("text")
}

shared!(killed_in_the_middle_of_an_apply_it_is_the_old_policy_or_the_new_one: docker, bubblewrap, smolmachines: MINUTES);
fn killed_in_the_middle_of_an_apply_it_is_the_old_policy_or_the_new_one() {
    let stage = Stage::new("{ approval: local, timeout: 5m }");
    stage.cassette(&[stage.requests(), stage.fetches()]);
    let run = stage.start_locally();
    let shown: Value = stage.until("the proposal", || {
        let shown: Value = serde_json::from_slice(&stage.runner(&["proposals", "show", "P1", "--json"]).stdout).ok()?;
        (shown["state"] == "open").then_some(shown)
    });
    let change = |key: &str| shown["proposal"]["change"][key].as_str().expect("a policy").to_owned();
    // Another path than the one that is asked for, so that the proposal stays open.
    let policies = [change("before"), change("after").replace("- /list", "- /other")];
    assert_ne!(policies[0], policies[1]);
    let mut seen = [0_u32; 2];
    for round in 0..ROUNDS {
        let wanted = &policies[usize::from(round % 2 == 0)];
        let file = stage.job.world.write("by-hand/routes.yaml", wanted).display().to_string();
        let apply = Running::new(stage.job.world.runner().args(["apply", &file]).spawn().expect("the runner"));
        std::thread::sleep(STEP * u32::try_from(round).expect("a small number"));
        apply.signal("KILL");
        drop(apply);
        let (text, hash) = in_force(&stage);
        let at = policies.iter().position(|policy| *policy == text).unwrap_or_else(|| panic!("half of one: {text}"));
        seen[at] += 1;
        // What it was killed in the middle of may still be under way; both are whole policies.
        assert!(hash.len() == 64, "{hash}");
    }
    assert!(seen[0] > 0 && seen[1] > 0, "never both: {seen:?}");
    let file = stage.job.world.write("by-hand/routes.yaml", &policies[0]).display().to_string();
    stage.prints(&["apply", &file]);
    let code = {
        let shown: Value = serde_json::from_str(&stage.prints(&["proposals", "show", "P1", "--json"])).expect("JSON");
        shown["proposal"]["hash"].as_str().expect("a hash")[..12].to_owned()
    };
    stage.prints(&["proposals", "approve", "P1", &code]);
    ended_with(&run.wait(), 0);
    let holds = stage.holds();
    assert!(holds.contains("1 granted"), "{holds}");
    stage.job.nothing_left();
}

shared!(
    a_runner_that_is_killed_while_a_comment_counts_leaves_the_old_policy_or_the_new_one:
    docker,
    bubblewrap: "its bundle ends with the runner, so that no policy is left to look at",
    smolmachines: "its doors end with the runner, so that no policy is left to look at"
);
fn a_runner_that_is_killed_while_a_comment_counts_leaves_the_old_policy_or_the_new_one() {
    let stage = Stage::new("{ approval: comment, timeout: 5m }");
    let run = stage.start();
    let code = Stage::code(&stage.asked());
    let (before, _) = in_force(&stage);
    stage.says(5001, "octo-maintainer", &format!("/bottle approve P1 {code}"), json!({}));
    // It has looked at who wrote it: what comes next is the decision.
    let asked = || {
        stage
            .double
            .log()
            .iter()
            .filter(|line| line["path"].as_str().is_some_and(|path| path.contains("/collaborators/octo-maintainer/")))
            .count()
    };
    let already = asked();
    stage.until("the look at the writer", || (asked() > already).then_some(()));
    run.signal("KILL");
    let slug = stage.job.world.slugs().remove(0);
    // Any run that starts meanwhile would remove what a dead one has left.
    let record = stage.job.world.path("state").join(&slug);
    let alive = std::fs::File::open(record.join("lock")).expect("the lock");
    alive.lock().expect("the lock of a dead run");
    drop(run);
    let text = routes(&slug);
    drop(alive);
    let granted = text.contains("files.bottle.test");
    assert!(
        text == before || granted && text.starts_with("version: 1\n") && text.ends_with(&before[before.len() - 40..]),
        "{text}"
    );
    stage.prints(&["cleanup"]);
    assert!(left_behind(&slug).is_empty());
}
