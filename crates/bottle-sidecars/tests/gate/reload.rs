//! SIGHUP: a policy that can be obeyed holds for new connections, one that can't changes nothing and says why, and an open push
//! ends under the policy under which it began.

use std::fs;
use std::path::Path;
use std::thread;

use crate::world::{World, said, until};

const TAKEN: &str = "a new policy is in force";
const KEPT: &str = "the old policy stays in force";

/// Sends SIGHUP with this policy, and waits until the gate has said what it makes of it.
fn reload(world: &World, policy: &str) -> String {
    let count = |log: &str| log.matches(TAKEN).count() + log.matches(KEPT).count();
    let before = count(&world.gate_log());
    fs::write(world.path("gate.yaml"), policy).expect("written");
    world.gate.as_ref().expect("the gate").signal("HUP");
    until("the gate says what it made of the policy", || count(&world.gate_log()) > before);
    let log = world.gate_log();
    log.lines().rfind(|line| line.contains(TAKEN) || line.contains(KEPT)).expect("a line").to_owned()
}

fn push(world: &World, clone: &Path, branch: &str) -> std::process::Output {
    world.sh(clone, &format!("git commit -q --allow-empty -m x; git push \"$ORIGIN\" HEAD:refs/heads/{branch}"), &[])
}

#[test]
fn a_good_policy_holds_for_new_connections() {
    let world = World::new();
    let clone = world.clone_origin();
    assert!(push(&world, &clone, "bottle/x").status.success());
    assert!(!push(&world, &clone, "other/x").status.success());
    let line = reload(&world, &world.policy().replace("refs/heads/bottle/**", "refs/heads/other/**"));
    assert!(line.contains(TAKEN), "{line}");
    assert!(push(&world, &clone, "other/x").status.success());
    assert!(!push(&world, &clone, "bottle/y").status.success());
    until("the old policy is gone", || !world.path("state/git/.gate/policies/1").exists());
    assert!(world.path("state/git/.gate/policies/2").exists());
}

#[test]
fn a_bad_policy_changes_nothing_and_says_why() {
    let world = World::new();
    let clone = world.clone_origin();
    let good = world.policy();
    for (what, bad, why) in [
        ("nothing", String::new(), "unexpected end"),
        ("half of it", good[..good.len() / 2].to_owned() + "\n  - [", ""),
        ("an unknown key", good.replace("version: 1", "version: 1\nanything: goes"), "anything"),
        ("another version", good.replace("version: 1", "version: 9"), "version 9 is not known here"),
        ("the same name twice", good.replace("name: library", "name: Origin"), "two upstreams are called"),
        ("no host key", good.replacen("    known_host_key", "    # known_host_key", 1), "no known_host_key"),
        ("a secret that is not there", good.replace("[KNOWN]", "[UNKNOWN]"), "UNKNOWN"),
        ("a key that is not there", good.replace("identity: GIT_KEY", "identity: NO_KEY"), "NO_KEY"),
        ("a glob that is none", good.replace("refs/heads/bottle/**", "refs/heads/["), "is not a glob"),
    ] {
        let line = reload(&world, &bad);
        assert!(line.contains(KEPT) && line.contains(why) && line.contains("ERROR"), "{what}: {line}");
    }
    assert!(push(&world, &clone, "bottle/x").status.success());
    assert!(!push(&world, &clone, "other/x").status.success());
    let left = world.ok(&world.path("state/git/.gate/policies"), "ls");
    assert_eq!(left, "1");
    // And a good one is still taken afterwards.
    assert!(reload(&world, &good).contains(TAKEN));
    assert!(push(&world, &clone, "bottle/y").status.success());
}

#[test]
fn an_open_push_ends_under_the_old_one() {
    let world = World::new();
    let clone = world.clone_origin();
    let real = world.ok(world.dir.path(), "command -v gitleaks");
    let (begun, go) = (world.path("begun"), world.path("go"));
    let script = format!(
        "#!/bin/sh\ntouch {}\nwhile [ ! -e {} ]; do sleep 0.02; done\nexec {real} \"$@\"\n",
        begun.display(),
        go.display()
    );
    world.replace_program("gitleaks", &script);
    thread::scope(|scope| {
        let pushing = scope.spawn(|| push(&world, &clone, "bottle/x"));
        until("the push is being scanned", || begun.exists());
        // Neither its refs nor the key with which it is forwarded are in the new one.
        fs::rename(world.path("secrets/GIT_KEY"), world.path("secrets/OTHER_KEY")).expect("renamed");
        let policy =
            world.policy().replace("GIT_KEY", "OTHER_KEY").replace("refs/heads/bottle/**", "refs/heads/other/**");
        assert!(reload(&world, &policy).contains(TAKEN));
        fs::write(&go, "").expect("written");
        let output = pushing.join().expect("a push");
        assert!(output.status.success(), "{}", said(&output));
    });
    assert!(world.upstream_refs().contains("bottle/x"));
    assert!(!push(&world, &clone, "bottle/y").status.success());
    assert!(push(&world, &clone, "other/y").status.success());
    until("the old policy is gone", || !world.path("state/git/.gate/policies/1").exists());
}

#[test]
fn upstreams_come_and_go_and_move() {
    let world = World::new();
    let clone = world.clone_origin();
    assert!(push(&world, &clone, "bottle/x").status.success());
    let good = world.policy();
    let library = good.find("  - name: library").expect("an upstream");
    let (head, origin, library) =
        (&good[..good.find("  - name: origin").expect("an upstream")], &good[..library], &good[library..]);

    reload(&world, origin);
    let gone = world.sh(world.dir.path(), "git ls-remote \"$LIBRARY\"", &[]);
    assert!(!gone.status.success() && !said(&gone).contains("refs/"), "{}", said(&gone));
    world.ok(world.dir.path(), "git ls-remote \"$ORIGIN\"");
    reload(&world, &good);
    world.ok(world.dir.path(), "git ls-remote \"$LIBRARY\"");

    // What this run made at one repository it did not make at another of the same name.
    world.ok(
        &world.upstream("library"),
        "git update-ref refs/heads/bottle/x $(git commit-tree -p main -m theirs main^{tree})",
    );
    reload(&world, &format!("{head}{}", library.replace("name: library", "name: origin")));
    let seen = world.ok(world.dir.path(), "git ls-remote --refs \"$ORIGIN\" | awk '{print $2, $1}'");
    assert_eq!(seen, world.ok(&world.upstream("library"), "git for-each-ref --format='%(refname) %(objectname)'"));
    let output = world.sh(&clone, "git push --force \"$ORIGIN\" HEAD:refs/heads/bottle/x", &[]);
    assert!(!output.status.success() && said(&output).contains("not a fast-forward"), "{}", said(&output));
}
