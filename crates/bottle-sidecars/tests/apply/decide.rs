//! The same request, decided in every way there is.

use std::time::Duration;

use bottle_policy::supervise::{Request, RouteWords};
use bottle_wire::proposal::{PolicyFile, State, Verdict};
use serde_json::{Value, json};

use crate::world::{World, routes};

fn route(world: &World, path: &str) -> Value {
    json!({"host": "localhost", "port": world.origin, "scheme": "http", "paths": [path], "why": "the task needs it"})
}

#[test]
fn an_approved_route_works_at_once_and_the_record_tells_the_story() {
    let world = World::start("approval: local\n");
    assert_eq!(world.get("/more/x"), 403);
    let asking = world.calling("request_route", route(&world, "/more/**"));
    let shown = world.proposal("P1");
    assert!(shown.state.is_open() && shown.proposal.is_whole());
    let change = shown.proposal.change.as_ref().expect("a change");
    assert_eq!((change.file, &change.before), (PolicyFile::Routes, &world.policy(PolicyFile::Routes)));
    assert_eq!(world.get("/more/x"), 403, "nothing is in force before it is approved");

    let state = world.decide("P1", Verdict::Approve);
    assert!(matches!(state, State::InForce { until: None, .. }), "{state:?}");
    assert_eq!(world.get("/more/x"), 200);
    assert_eq!(world.get("/open/x"), 200, "what was allowed before still is");
    assert_eq!(world.get("/other"), 403);
    assert_eq!(world.policy(PolicyFile::Routes), change.after);
    let (told, error) = asking.join().expect("an answer");
    assert!(!error && told.starts_with("P1 is approved by ann and in force now"), "{told}");

    // Asked again it is the same proposal; what is allowed already is none.
    let again = world.call("request_route", route(&world, "/more/**")).0;
    assert!(again.ends_with("(asked before)"), "{again}");
    let mut had = route(&world, "/open/**");
    had["methods"] = json!(["POST"]);
    let (told, error) = world.call("request_route", had);
    assert!(error && told.contains("the policy allows it already"), "{told}");
    let (policy, _) = world.call("policy", json!({}));
    assert!(policy.contains("/more/**"), "{policy}");

    let told = world.verify().expect("the record holds");
    assert_eq!((told.asked, told.granted, told.applied), (1, 1, 1));
    let lines: Vec<String> = world.record().lines().map(str::to_owned).collect();
    let story = ["began", "asked", "decided", "applied"];
    assert!(
        lines.iter().zip(story).all(|(line, word)| line.contains(&format!("\"event\":{{\"{word}\""))),
        "{lines:#?}"
    );
}

#[test]
fn a_person_may_refuse_change_or_answer() {
    let world = World::start("approval: local\n");
    let asking = world.calling("request_route", route(&world, "/no"));
    let state = world.decide("P1", Verdict::Deny { why: "not in this repository".to_owned() });
    assert!(matches!(state, State::Denied { .. }), "{state:?}");
    let (told, error) = asking.join().expect("an answer");
    assert!(!error && told.starts_with("refused by ann: not in this repository"), "{told}");
    assert_eq!(world.get("/no"), 403);

    let asking = world.calling("request_route", route(&world, "/much/**"));
    let Request::RequestRoute { host, .. } = world.proposal("P2").proposal.request else { panic!("a route") };
    let (paths, host) = (["/much/less".to_owned()], host.to_string());
    let words =
        RouteWords { host: &host, port: Some(world.origin), paths: &paths, why: "less", ..RouteWords::default() };
    let words = RouteWords { scheme: bottle_policy::route::Scheme::Http, ..words };
    let request = Box::new(Request::route(&words).expect("a route"));
    world.decide("P2", Verdict::Modified { request });
    let (told, _) = asking.join().expect("an answer");
    assert!(told.contains("with changes (you asked for") && told.contains("/much/less"), "{told}");
    assert_eq!((world.get("/much/less"), world.get("/much/more")), (200, 403));

    let asking = world.calling("ask", json!({"question": "tabs or spaces?"}));
    world.decide("P3", Verdict::Answer { text: "spaces".to_owned() });
    assert_eq!(asking.join().expect("an answer").0, "P3, answered by ann: spaces");

    let (told, _) = world.call("request_capability", json!({"dockerfile": "RUN true", "why": "x", "wait": false}));
    assert!(told.starts_with("P4 waits for a person's decision"), "{told}");
    let waiting = world.calling("wait", json!({"id": "P4"}));
    let state = world.decide("P4", Verdict::Approve);
    assert!(matches!(state, State::Granted { .. }), "{state:?}");
    assert!(waiting.join().expect("an answer").0.contains("a run that resumes this one"));
    assert_eq!(world.verify().map(|told| (told.asked, told.granted, told.denied, told.applied)), Ok((4, 3, 1, 1)));
}

#[test]
fn what_nobody_decides_is_refused_in_time() {
    let world = World::start("approval: local\ntimeout: 1s\n");
    let (told, error) = world.call("request_route", route(&world, "/late"));
    assert!(!error && told.starts_with("refused: nobody decided within 1s"), "{told}");
    let shown = world.proposal("P1");
    let late = world.hand_in(&world.decision(&shown, Verdict::Approve));
    assert!(format!("{late:?}").contains("P1 is decided already"), "{late:?}");
    assert_eq!(world.get("/late"), 403);
    assert_eq!(world.verify().map(|told| (told.denied, told.applied)), Ok((1, 0)));
}

#[test]
fn rules_decide_what_is_harmless_and_nothing_else() {
    let world = World::start("approval: deny\nauto:\n  - { host: \"*.docs.example\" }\n");
    let ask = |host: &str, methods: &[&str]| {
        world.call("request_route", json!({"host": host, "methods": methods, "why": "to read"})).0
    };
    let told = ask("a.docs.example", &["get"]);
    assert!(told.starts_with("P1 is approved by the rule GET,HEAD *.docs.example and in force"), "{told}");
    assert!(world.policy(PolicyFile::Routes).contains("a.docs.example"));
    assert!(ask("b.docs.example", &["GET", "POST"]).starts_with("refused: approval is `deny`"));
    assert!(ask("docs.example", &[]).starts_with("refused: approval is `deny`"));
    assert!(ask("*.example", &[]).starts_with("refused: approval is `deny`"));
    assert_eq!(world.verify().map(|told| (told.granted, told.denied)), Ok((1, 3)));
}

#[test]
fn what_has_a_time_goes_back_when_it_is_up() {
    let world = World::start("approval: local\n");
    let mut asked = route(&world, "/short/**");
    asked["duration"] = json!("2s");
    let asking = world.calling("request_route", asked);
    let other = world.calling("request_route", route(&world, "/long/**"));
    world.proposal("P2");
    // Either may have come first.
    for id in ["P1", "P2"] {
        world.decide(id, Verdict::Approve);
    }
    let told = [asking, other].map(|asking| asking.join().expect("an answer").0).join("\n");
    assert!(told.contains("until 20"), "{told}");
    assert_eq!((world.get("/short/x"), world.get("/long/x")), (200, 200));
    world.line("its time is up", 1);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((world.get("/short/x"), world.get("/long/x"), world.get("/open/x")), (403, 200, 200));
    assert_eq!(world.verify().map(|told| (told.granted, told.applied)), Ok((2, 3)));
}

#[test]
fn an_exemption_lets_one_rule_pass_to_one_host_and_never_a_known_secret() {
    let world = World::start("approval: local\n");
    // Made here, so that no scanner finds it in this file.
    let token = format!("ghp_{}", "q8Zk2LmP9xWv4Tb7Ny3Rc6Hd1Gf5Js0AeUoI");
    let (status, body) = world.send("POST", "/open/x", &token);
    assert_eq!(status, 403, "{body}");
    let rule = serde_json::from_str::<Value>(&body).expect("JSON")["rule"].as_str().expect("a rule").to_owned();
    let asking = world.calling("request_exemption", json!({"host": "localhost", "rule": rule, "why": "a test value"}));
    world.decide("P1", Verdict::Approve);
    assert!(asking.join().expect("an answer").0.starts_with("P1 is approved"));
    assert_eq!(world.send("POST", "/open/x", &token).0, 200);
    assert_eq!(world.send("POST", "/open/x", "a-value-of-our-own-1234567890").0, 403);
    assert!(world.verify().is_ok());
}

#[test]
fn a_policy_that_a_door_does_not_take_is_taken_back() {
    let world = World::start("approval: local\n");
    let before = [PolicyFile::Routes, PolicyFile::Pipelock].map(|file| world.policy(file));
    for (door, text, reason) in [
        ("egress", "version: 1\nroutes: [{ host: a.example, methods: [get] }]\n", "could not obey it"),
        ("egress", "nonsense", "could not obey it"),
        ("pipelock", "version: 1\nsecrets: [NOT_THERE]\n", "pipelock did not take it"),
        ("pipelock", "version: 1\nguest_proxy: true\n", "takes a new start"),
        ("supervise", "version: 1\nrun: x\n", "no policy that could change"),
    ] {
        let output = world.control(&["apply", "--door", door, "--user", "ann"], text);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.code() == Some(1) && told.contains("kept") && told.contains(reason),
            "{door} {text}: {told}"
        );
    }
    assert_eq!([PolicyFile::Routes, PolicyFile::Pipelock].map(|file| world.policy(file)), before);
    assert_eq!((world.get("/open/x"), world.get("/more/x")), (200, 403));
    let output = world.control(&["apply", "--door", "nowhere"], "version: 1\n");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // And one that is good.
    let output = world.control(&["apply", "--door", "egress", "--user", "ann"], &routes(world.origin, "/more/**"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!((world.get("/open/x"), world.get("/more/x")), (403, 200));
    assert_eq!(world.verify().map(|told| told.applied), Ok(1));
}
