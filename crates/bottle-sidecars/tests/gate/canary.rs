//! The repository of the self-test: pushed to, judged, and never forwarded; and a policy that would forget the canary.

use std::fs;
use std::process::Output;

use bottle_wire::push_report::PushVerdict;

use crate::world::{World, said, until};

/// Put together here: no scanner shall take this file for one with a secret.
fn canary() -> String {
    ["1f1e2d3c4b", "5a69788796", "a5b4c3d2e1", "f00f1e2d3c"].concat()
}

fn knowing() -> World {
    let prepare = |world: &mut World| fs::write(world.path("secrets/BOTTLE_CANARY"), canary()).expect("a secret");
    World::with(prepare, |policy| policy.replace("[KNOWN]", "[KNOWN, BOTTLE_CANARY]"))
}

fn push(world: &World, content: &str, name: &str) -> Output {
    let url = world.guest_url("bottle-self-test");
    let script = format!(
        "git init -q -b main {name}; cd {name}; echo \"$CONTENT\" >a; git add a; git commit -qm x; git push \"$URL\" HEAD:refs/heads/self-test"
    );
    world.sh(world.dir.path(), &script, &[("CONTENT", content), ("URL", &url)])
}

#[test]
fn the_self_tests_own_push_has_no_line_and_a_later_one_has() {
    let world = knowing();
    // gitleaks is not asked, so it need not be there.
    world.replace_program("gitleaks", "#!/bin/sh\nexit 3\n");
    for name in ["one", "two"] {
        let output = push(&world, &format!("token {}", canary()), name);
        assert!(
            !output.status.success() && said(&output).contains("known-secret:BOTTLE_CANARY at a:1"),
            "{}",
            said(&output)
        );
    }
    let record = world.record();
    let [line] = &record[..] else { panic!("{record:?}") };
    assert!(line.verdict == PushVerdict::Refused && line.findings[0].rule.is_canary(), "{line:?}");
}

#[test]
fn nothing_is_ever_taken_there() {
    let world = knowing();
    for (name, content) in [("clean", "nothing"), ("known", &*world.known)] {
        let output = push(&world, content, name);
        assert!(!output.status.success(), "{name}: {}", said(&output));
    }
    let record = world.record();
    assert!(record[0].reasons[0].contains("could not be scanned: gitleaks is not asked"), "{record:?}");
    assert_eq!(record[1].findings[0].rule.to_string(), "known-secret:KNOWN");
    let output = world.sh(world.dir.path(), &format!("git ls-remote {}", world.guest_url("bottle-self-test")), &[]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", said(&output));
}

#[test]
fn a_policy_that_forgets_the_canary_is_not_taken() {
    let world = knowing();
    fs::write(world.path("gate.yaml"), world.policy()).expect("written");
    world.gate.as_ref().expect("the gate").signal("HUP");
    until("the gate says what it made of it", || world.gate_log().contains("the old policy stays in force"));
    assert!(world.gate_log().contains("it leaves BOTTLE_CANARY out of `secrets`"), "{}", world.gate_log());
    let output = push(&world, &canary(), "still");
    assert!(said(&output).contains("known-secret:BOTTLE_CANARY"), "{}", said(&output));
}

#[test]
fn a_gate_without_a_canary_has_no_such_repository() {
    let world = World::new();
    let output = push(&world, &canary(), "one");
    assert!(!output.status.success() && !said(&output).contains("BOTTLE_CANARY"), "{}", said(&output));
}
