//! Decisions that are not about what was shown, and a record that was written by somebody else.

use bottle_policy::supervise::Request;
use bottle_wire::control::Decided;
use bottle_wire::proposal::Decide;
use bottle_wire::proposal::{By, ProposalId, Verdict};
use serde_json::json;

use crate::world::World;

/// What is done to a good decision, and the word of its refusal.
type Cheat = (&'static str, fn(&mut Decide));

#[test]
fn a_decision_that_is_not_on_what_was_shown_counts_for_nothing() {
    let world = World::start("approval: comment\n");
    let route =
        |path: &str| json!({"host": "localhost", "port": world.origin, "paths": [path], "why": "x", "wait": false});
    world.call("request_route", route("/a"));
    world.call("request_route", route("/b"));
    let comment =
        By::Comment { login: "ann".to_owned(), user_id: 7, url: "https://f.example/1".to_owned(), comment_id: 9 };
    let shown = world.proposal("P1");
    let good = || Decide { by: comment.clone(), ..world.decision(&shown, Verdict::Approve) };
    let other = world.proposal("P2").proposal;
    let cheats: [Cheat; 12] = [
        ("it is for the run run-2", |decide| decide.run = "run-2".to_owned()),
        ("its nonce is not the one of P1", |decide| decide.nonce = "0".repeat(32)),
        ("its nonce is not the one of P2", |decide| decide.id = ProposalId::FIRST.next()),
        ("there is no proposal P3", |decide| decide.id = ProposalId::FIRST.next().next()),
        ("P1 is not as it was shown", |decide| decide.proposal_hash = "0".repeat(64)),
        ("P1 is not as it was shown", |decide| decide.proposal_hash.clear()),
        ("the policy has changed since P1 was shown", |decide| decide.policy_hash = "0".repeat(64)),
        ("approval is `comment` in this run", |decide| decide.by = By::Local { user: "ann".to_owned() }),
        ("approval is `comment` in this run", |decide| decide.by = By::Auto { rule: "all".to_owned() }),
        ("approval is `comment` in this run", |decide| decide.by = By::Nobody),
        ("only a question takes an answer", |decide| decide.verdict = Verdict::Answer { text: "yes".to_owned() }),
        ("another kind of request", |decide| {
            let request = Request::push(None, "refs/heads/main", "x", None).expect("a push");
            decide.verdict = Verdict::Modified { request: Box::new(request) };
        }),
    ];
    for (word, cheat) in cheats {
        let mut decide = good();
        cheat(&mut decide);
        let Decided::Refused { reason } = world.hand_in(&decide) else { panic!("{word}: it counts") };
        assert!(reason.contains(word), "{word}: {reason}");
    }
    // Another's words under this one's number.
    let mut decide = good();
    (decide.nonce, decide.proposal_hash) = (other.nonce, other.hash);
    assert!(matches!(world.hand_in(&decide), Decided::Refused { .. }));
    // One that is not normalised says something else than it seems to.
    let mut decide = good();
    let Request::RequestRoute { host, port, scheme, paths, why, .. } = shown.proposal.request.clone() else { panic!() };
    let request = Request::RequestRoute {
        host,
        port,
        scheme,
        methods: vec!["post".to_owned(), "CONNECT".to_owned()],
        paths,
        why,
        duration: None,
    };
    decide.verdict = Verdict::Modified { request: Box::new(request) };
    assert!(matches!(world.hand_in(&decide), Decided::Refused { .. }));
    assert_eq!(world.verify().map(|told| (told.open, told.applied)), Ok((2, 0)));

    // The good one, and the same again.
    assert!(matches!(world.hand_in(&good()), Decided::Taken(_)));
    let Decided::Refused { reason } = world.hand_in(&good()) else { panic!("a replay counts") };
    assert!(reason.contains("P1 is decided already"), "{reason}");
    // What was shown before the policy changed is not what would be applied now.
    let stale = Decide { by: comment.clone(), ..world.decision(&shown, Verdict::Approve) };
    let stale = Decide { id: ProposalId::FIRST.next(), nonce: world.proposal("P2").proposal.nonce, ..stale };
    let Decided::Refused { reason } = world.hand_in(&stale) else { panic!("a stale one counts") };
    assert!(reason.contains("the policy has changed since P2 was shown"), "{reason}");
    let fresh = Decide { by: comment, ..world.decision(&world.proposal("P2"), Verdict::Approve) };
    assert!(matches!(world.hand_in(&fresh), Decided::Taken(_)));
    assert_eq!(world.verify().map(|told| (told.granted, told.applied)), Ok((2, 2)));
}

#[test]
fn a_record_that_was_changed_does_not_hold() {
    let world = World::start("approval: local\n");
    let route = json!({"host": "localhost", "port": world.origin, "paths": ["/a"], "why": "x", "wait": false});
    world.call("request_route", route);
    world.decide("P1", Verdict::Approve);
    world.call("progress", json!({"line": "half way"}));
    assert!(world.verify().is_ok());
    let record = world.record();
    let path = world.path("state/log/proposals.jsonl");
    let lines: Vec<&str> = record.split_inclusive('\n').collect();
    for (what, bad) in [
        ("no decision", lines.iter().filter(|line| !line.contains("{\"decided\"")).copied().collect::<String>()),
        ("another path", record.replace("\"/a\"", "\"/b\"")),
        ("another decider", record.replace("\"ann\"", "\"eve\"")),
        ("the last line away", lines[..lines.len() - 1].concat().replace("x", "y")),
        ("nothing", String::new()),
    ] {
        std::fs::write(&path, bad).expect("a record");
        assert!(world.verify().is_err(), "{what}");
    }
    // A policy that nobody decided on.
    std::fs::write(&path, &record).expect("a record");
    let config = world.path("config/routes.yaml");
    let policy = std::fs::read_to_string(&config).expect("a policy");
    std::fs::remove_file(&config).expect("removed");
    std::fs::write(&config, policy.replace("/a", "/**")).expect("a policy");
    assert!(world.verify().is_err());
}
