//! Calls that wait: with signs of life, for as long as a person takes.

use std::time::Duration;

use bottle_wire::proposal::Verdict;
use serde_json::{Value, json};

use crate::world::{World, messages};

/// The messages of one call that is answered after so long.
fn waited(time: Duration, token: Option<&str>) -> Vec<(Duration, Value)> {
    let world = World::start("approval: local\ntimeout: 15m\n");
    let socket = world.path("doors/supervise.sock");
    let route = json!({"host": "localhost", "port": world.origin, "paths": ["/a"], "why": "x"});
    let messages = std::thread::scope(|scope| {
        let asking = scope.spawn(|| messages(&socket, "request_route", route, token));
        world.proposal("P1");
        std::thread::sleep(time);
        world.decide("P1", Verdict::Approve);
        asking.join().expect("an answer")
    });
    let (_, last) = messages.last().expect("an answer");
    let text = last["result"]["content"][0]["text"].as_str().unwrap_or_default();
    assert!(text.starts_with("P1 is approved by ann"), "{last}");
    messages
}

/// Real notifications, each with more progress than the one before, and no gap in which a client would give up.
fn check(messages: &[(Duration, Value)], at_least: usize) {
    let signs = &messages[..messages.len() - 1];
    assert!(signs.len() >= at_least, "{signs:?}");
    let mut before = (Duration::ZERO, -1.0);
    for (at, sign) in signs {
        assert_eq!(
            (&sign["method"], &sign["params"]["progressToken"]),
            (&json!("notifications/progress"), &json!("t1"))
        );
        let progress = sign["params"]["progress"].as_f64().expect("a number");
        assert!(progress > before.1 && *at - before.0 < Duration::from_secs(15), "{sign} at {at:?} after {before:?}");
        before = (*at, progress);
    }
}

#[test]
fn a_client_hears_that_it_still_waits() {
    check(&waited(Duration::from_secs(6), Some("t1")), 2);
    assert_eq!(waited(Duration::from_millis(200), None).len(), 1, "none where none was asked for");
}

#[test]
#[ignore = "sleeps for six minutes: scripts/test --deep runs it"]
fn six_minutes_are_not_too_long() {
    check(&waited(Duration::from_secs(360), Some("t1")), 70);
}
