//! The agent asks, a person answers, the running bottle changes: the real Claude Code, a real bottle, a site behind TLS, a
//! stand-in forge.

mod held;
mod kills;
mod local;
mod pushes;
mod record;
mod stage;

use bottle_testkit::said;
use serde_json::json;

use stage::{SITE, Stage};

use crate::job::ended_with;
use crate::suite::MINUTES;

/// Why a question that only the runner, the forge and the doors settle is asked in one backend.
const SAME: &str =
    "the answer is settled by the runner, the forge and the doors; the ways into a running bottle are tried on both";

shared!(a_comment_of_a_permitted_person_opens_a_route_and_no_cheat_does: docker, bubblewrap, smolmachines: MINUTES);
fn a_comment_of_a_permitted_person_opens_a_route_and_no_cheat_does() {
    let stage = Stage::new("{ approval: comment, timeout: 5m }");
    let run = stage.start();
    let comment = stage.asked();
    let body = comment["body"].as_str().expect("a text").to_owned();
    assert!(
        body.contains("+- host: files.bottle.test") && body.contains("> The list of words is there, ＠octocat."),
        "{body}"
    );
    let (code, posted) = (Stage::code(&comment), comment["id"].as_u64().expect("a number"));
    let yes = format!("/bottle approve P1 {code}");

    // All at once, each wrong in one thing.
    let none = json!({});
    let later = json!({"updated_at": "2036-01-01T00:00:00Z"});
    let early = json!({"created_at": "2026-03-02T09:20:35Z", "updated_at": "2026-03-02T09:20:35Z"});
    stage.says(5001, "octo-reader", &yes, none.clone());
    stage.says(5002, "github-actions[bot]", &yes, none.clone());
    stage.says(5003, "dependabot[bot]", &yes, none.clone());
    stage.says(5004, "octo-maintainer", &yes, later);
    stage.says(5005, "octo-maintainer", &yes, early);
    assert!(posted > 50);
    stage.says(50, "octo-maintainer", &yes, none.clone());
    stage.says(5006, "octo-maintainer", &format!("> {yes}"), none.clone());
    stage.says(5007, "octo-maintainer", &format!("```\n{yes}\n```"), none.clone());
    stage.says(5008, "octo-maintainer", "/bottle approve P1", none.clone());
    stage.says(5009, "octo-maintainer", "/bottle approve P1 0123456789ab", none.clone());
    stage.says(5010, "octo-maintainer", &format!("/bottle approve P2 {code}"), none.clone());
    stage.says(5011, "octo-maintainer", &format!("/bottle approve \u{420}1 {code}"), none.clone());
    stage.says(5012, "octo-maintainer", &format!("{yes}\n/bottle deny P1"), none.clone());
    stage.says(5013, "somebody-else", &yes, none.clone());
    let looks = stage.looks();
    stage.until("two more looks", || (stage.looks() >= looks + 2).then_some(()));
    let still = stage.asked()["body"].as_str().expect("a text").to_owned();
    assert!(still.contains(&yes) && still.contains("These counted for nothing"), "{still}");
    for (id, why) in [
        (5001, "no write permission"),
        (5004, "changed after it was written"),
        (5008, "does not repeat the code"),
        (5009, "not that of the proposal"),
        (5012, "more than one thing"),
        (5013, "no write permission"),
    ] {
        let line = still.lines().find(|line| line.contains(&format!("#issuecomment-{id}"))).unwrap_or_default();
        assert!(line.contains(why), "{id}: {still}");
    }

    stage.says(5100, "octo-maintainer", &format!("Fine.\n\n{yes}"), none);
    let output = run.wait();
    ended_with(&output, 0);

    let told = stage.told();
    assert!(told[0].contains("curl ended with") && !told[0].contains(SITE), "{told:?}");
    assert!(told[1].contains("octo-maintainer"), "{told:?}");
    assert!(told[2].contains("curl ended with 0") && told[2].contains(SITE), "{told:?}");
    let story = stage.story();
    let names: Vec<&str> = story.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "began").collect();
    assert_eq!(names, ["asked", "decided", "applied"], "{story:?}");
    let decided = &story.iter().find(|(name, _)| name == "decided").expect("a decision").1;
    assert_eq!(decided["by"]["comment"]["user_id"], 5_550_108, "{decided}");
    assert_eq!(decided["by"]["comment"]["comment_id"], 5100, "{decided}");
    let egress = stage.job.world.record_file("egress.jsonl");
    let of_site = |verdict: &str| {
        egress
            .lines()
            .position(|line| line.contains("files.bottle.test") && line.contains(&format!("\"verdict\":\"{verdict}\"")))
    };
    assert!(of_site("deny") < of_site("allow") && of_site("deny").is_some(), "{egress}");
    assert!(stage.job.world.record_file("routes.yaml").contains("files.bottle.test"), "the policy at the end");

    let end = stage.asked()["body"].as_str().expect("a text").to_owned();
    assert!(end.contains("**Approved** by `octo-maintainer`") && !end.contains("/bottle approve"), "{end}");
    let state = stage.double.state();
    let bodies = state["comments"].as_array().into_iter().flatten().filter_map(|comment| comment["body"].as_str());
    let card = bodies.clone().find(|body| body.contains("What the agent asked for"));
    let card = card.unwrap_or_else(|| panic!("no card: {:?}", bodies.collect::<Vec<_>>()));
    assert!(card.contains("approved by octo-maintainer"), "{card}");
    assert!(card.contains("+        - { host: files.bottle.test"), "{card}");
    assert!(
        stage.job.world.record_file("junit.xml").contains("testsuite")
            && stage.job.world.record_file("junit.xml").contains("P1 GET https://files.bottle.test")
    );
    let holds = stage.holds();
    assert!(holds.contains("1 asked, 1 granted, 0 denied, 0 open; 1 policies applied"), "{holds}");
    record::every_change_of_the_record_shows(&stage);
    stage.double.assert_valid();
    stage.job.nothing_left();
}

shared!(a_denial_is_told_to_the_agent_and_nothing_opens: docker, bubblewrap: SAME, smolmachines: MINUTES);
fn a_denial_is_told_to_the_agent_and_nothing_opens() {
    let stage = Stage::at("gitea", "{ approval: comment, timeout: 5m }");
    let run = stage.start();
    stage.asked();
    stage.says(5001, "octo-maintainer", "/bottle deny P1 the list is in the repository already", json!({}));
    let output = run.wait();
    ended_with(&output, 0);
    let told = stage.told();
    assert!(told[1].contains("the list is in the repository already"), "{told:?}");
    assert!(!told[2].contains(SITE), "{told:?}");
    let names: Vec<String> = stage.story().into_iter().map(|(name, _)| name).filter(|name| name != "began").collect();
    assert_eq!(names, ["asked", "decided"]);
    let end = stage.asked()["body"].as_str().expect("a text").to_owned();
    assert!(
        end.contains("**Denied** by `octo-maintainer`") && end.contains("> the list is in the repository"),
        "{end}"
    );
    assert!(stage.holds().contains("0 granted, 1 denied"), "{}", stage.holds());
    stage.double.assert_valid();
    stage.job.nothing_left();
}

shared!(a_run_that_is_stopped_tells_those_who_were_asked: docker, bubblewrap: SAME, smolmachines: MINUTES);
fn a_run_that_is_stopped_tells_those_who_were_asked() {
    let stage = Stage::new("{ approval: comment, timeout: 5m }");
    // The comment is there, and the run has not heard of it yet.
    stage.double.say(&json!({ "fault": {"method": "POST", "path": "/issues/7/comments$", "late": 1.5, "times": 100} }));
    let run = stage.start();
    stage.asked();
    run.signal("INT");
    ended_with(&run.wait(), 130);
    let end = stage.asked()["body"].as_str().expect("a text").to_owned();
    assert!(end.contains("the run was stopped before anybody decided") && !end.contains("/bottle approve"), "{end}");
    stage.double.assert_valid();
    stage.job.nothing_left();
}

shared!(nobody_in_time_is_a_no_and_a_forge_that_is_away_is_no_yes: docker, bubblewrap: SAME, smolmachines: MINUTES);
fn nobody_in_time_is_a_no_and_a_forge_that_is_away_is_no_yes() {
    let stage = Stage::new("{ approval: comment, timeout: 30s }");
    let run = stage.start();
    let code = Stage::code(&stage.asked());
    // From here on nobody can be asked whether the writer may.
    let fault = json!({"method": "GET", "path": "/collaborators/", "status": 503, "times": 1000});
    stage.double.say(&json!({ "fault": fault }));
    stage.says(5001, "octo-maintainer", &format!("/bottle approve P1 {code}"), json!({}));
    let output = run.wait();
    ended_with(&output, 0);
    let told = stage.told();
    assert!(told[1].contains("nobody decided within 30s"), "{told:?}");
    assert!(!told[2].contains(SITE), "{told:?}");
    let end = stage.asked()["body"].as_str().expect("a text").to_owned();
    assert!(end.contains("**Timed out**"), "{end}");
    assert!(stage.holds().contains("0 granted, 1 denied"), "{}", stage.holds());
    stage.job.nothing_left();
}

shared!(what_nobody_may_decide_is_offered_for_the_next_time: docker, bubblewrap: SAME, smolmachines: MINUTES);
fn what_nobody_may_decide_is_offered_for_the_next_time() {
    let stage = Stage::new("{ approval: deny }");
    let output = stage.start().wait();
    ended_with(&output, 0);
    assert!(!stage.told()[2].contains(SITE), "{:?}", stage.told());
    let summary = stage.job.world.record_file("summary.md");
    assert!(summary.contains("## Allow it in the next run"), "{summary}");
    // The offer is a diff that git takes, and the manifest then allows it.
    let diff = summary.split_once("```diff\n").and_then(|(_, rest)| rest.split_once("\n```")).expect("a diff").0;
    assert!(diff.contains("+        - { host: files.bottle.test, port:"), "{diff}");
    let state = stage.double.state();
    let pull = state["pulls"][0]["body"].as_str().expect("a pull request");
    assert!(pull.contains("Allow it in the next run") && pull.contains("files.bottle.test"), "{pull}");
    assert_eq!(state["comments"].as_array().map_or(0, Vec::len), 1, "nothing is asked: {state}");
    assert!(stage.holds().contains("1 asked, 0 granted, 1 denied"), "{}", said(&output));
}
