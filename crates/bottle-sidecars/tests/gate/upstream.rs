//! What upstream says and does to a push: its own words reach the agent, and the mirror never claims what it does not have.

use std::path::Path;

use crate::world::{World, said};

const PUSH_X: &str = "git commit -q --allow-empty -m x; git push origin HEAD:refs/heads/bottle/x";

/// A fetch through the gate, and the mirror itself, have what upstream has and nothing else.
fn mirror_is_upstream(world: &World) {
    let list = "git for-each-ref --format='%(refname) %(objectname)'";
    let seen = world.ok(world.dir.path(), "git ls-remote --refs \"$ORIGIN\" | awk '{print $2, $1}'");
    assert_eq!(seen, world.upstream_refs());
    assert_eq!(world.ok(&world.path("state/git/origin.git"), list), world.upstream_refs());
}

/// The mirror itself, without the fetch that would make it so.
fn mirror_has(world: &World, what: &str) -> bool {
    world.ok(&world.path("state/git/origin.git"), "git for-each-ref").contains(what)
}

fn hook(world: &World, name: &str, script: &str) {
    world.ok(
        &world.upstream("origin"),
        &format!("printf '%s\\n' '#!/bin/sh' '{script}' >hooks/{name}; chmod +x hooks/{name}"),
    );
}

fn refused(world: &World, clone: &Path, script: &str) -> String {
    let output = world.sh(clone, script, &[]);
    let text = said(&output);
    assert!(!output.status.success(), "{script}: {text}");
    text
}

#[test]
fn one_that_takes_no_several_refs_together_gets_one_at_a_time() {
    let world = World::new();
    let upstream = world.upstream("origin");
    world.ok(&upstream, "git config receive.advertiseAtomic false");
    let clone = world.clone_origin();
    let before = world.upstream_refs();
    let two = "git push origin HEAD:refs/heads/bottle/a HEAD:refs/heads/bottle/b";
    let text = refused(&world, &clone, &format!("echo {} >x; git add .; git commit -qm x; {two}", "x"));
    assert!(text.contains("refused refs/heads/bottle/a: upstream can't take several refs"), "{text}");
    assert!(text.contains("push one ref at a time"), "{text}");
    assert_eq!(world.upstream_refs(), before);
    assert!(!mirror_has(&world, "bottle"));
    // It was told before anything was scanned.
    assert!(world.record().iter().all(|line| line.ms.scan == 0 && line.objects == 0), "{:?}", world.record());
    for branch in ["a", "b"] {
        world.ok(&clone, &format!("git push -q origin HEAD:refs/heads/bottle/{branch}"));
    }
    world.ok(&clone, "git commit -q --amend --allow-empty -m y; git push -q --force origin HEAD:refs/heads/bottle/a");
    mirror_is_upstream(&world);
    assert!(world.upstream_refs().contains("refs/heads/bottle/b"));
    // It learns, and forgets.
    world.ok(&upstream, "git config receive.advertiseAtomic true");
    world.ok(&clone, "git push -q origin HEAD:refs/heads/bottle/c HEAD:refs/heads/bottle/d");
    world.ok(&upstream, "git config receive.advertiseAtomic false");
    let text = refused(&world, &clone, "git push origin HEAD:refs/heads/bottle/e HEAD:refs/heads/bottle/f");
    assert!(text.contains("push one ref at a time"), "{text}");
    assert!(!world.upstream_refs().contains("bottle/e"));
    mirror_is_upstream(&world);
}

#[test]
fn all_that_a_hook_says_is_shown_line_by_line() {
    let world = World::new();
    let clone = world.clone_origin();
    let lines: Vec<String> = (1..=9).map(|number| format!("rule {number} says no -> see there")).collect();
    let script = lines.iter().map(|line| format!("echo \"{line}\" >&2; ")).collect::<String>();
    hook(&world, "pre-receive", &format!("{script} printf \"a \\033[31mred\\007 one\\n\" >&2; exit 1"));
    let text = refused(&world, &clone, PUSH_X);
    for line in &lines {
        assert!(text.contains(&format!("git-gate: upstream: {line}")), "{line}: {text}");
    }
    assert!(
        text.contains("refused refs/heads/bottle/x: upstream did not take it: pre-receive hook declined"),
        "{text}"
    );
    assert!(!text.contains(['\u{1b}', '\u{7}']), "{text}");
    let record = world.record();
    assert!(record[0].reasons.iter().any(|reason| reason == "upstream: rule 9 says no -> see there"), "{record:?}");
    assert!(!mirror_has(&world, "bottle"));
    mirror_is_upstream(&world);
}

#[test]
fn a_protected_branch_and_a_hook_that_tells_a_secret() {
    let world = World::new();
    let clone = world.clone_origin();
    let script = "[ $1 != refs/heads/bottle/x ] || { echo \"GH006: protected branch update failed\" >&2; exit 1; }";
    hook(&world, "update", script);
    let text = refused(&world, &clone, PUSH_X);
    assert!(text.contains("upstream: GH006: protected branch update failed"), "{text}");
    assert!(text.contains("upstream did not take it: hook declined"), "{text}");
    // One that is refused takes the others with it.
    let two = "git push origin HEAD:refs/heads/bottle/x HEAD:refs/heads/bottle/y";
    refused(&world, &clone, two);
    assert!(!world.upstream_refs().contains("bottle") && !mirror_has(&world, "bottle"));

    hook(&world, "update", &format!("echo \"it is {} here\" >&2; exit 1", world.known));
    let text = refused(&world, &clone, two);
    assert!(text.contains("upstream: it is") && !text.contains(&world.known), "{text}");
    let record = std::fs::read_to_string(world.path("state/log/gate.jsonl")).expect("a record") + &world.gate_log();
    assert!(!record.contains(&world.known));
}

#[test]
fn what_upstream_says_to_a_push_that_it_takes_is_shown_too() {
    let world = World::new();
    let clone = world.clone_origin();
    hook(&world, "post-receive", "echo \"Create a pull request for it: https://git.bottle.test/new\" >&2");
    let output = world.sh(&clone, PUSH_X, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("upstream: Create a pull request for it: https://"), "{}", said(&output));
}

#[test]
fn upstream_moves_while_a_push_is_scanned() {
    let world = World::new();
    let clone = world.clone_origin();
    world.ok(&clone, PUSH_X);
    let real = world.ok(world.dir.path(), "command -v gitleaks");
    let upstream = world.upstream("origin").display().to_string();
    for (what, meanwhile) in [
        ("moved", "update-ref refs/heads/bottle/x main"),
        ("created", "update-ref refs/heads/bottle/new main"),
        ("deleted", "update-ref -d refs/heads/bottle/x"),
    ] {
        // Not before it would scan: it is started before upstream is asked for its refs.
        let wait = "cat ../gitleaksignore; rm ../gitleaksignore; : >../gitleaksignore";
        let script = format!("#!/bin/sh\n{wait}\ngit --git-dir={upstream} {meanwhile}\nexec {real} \"$@\"\n");
        world.replace_program("gitleaks", &script);
        let branch = if what == "created" { "new" } else { "x" };
        let push = format!("git commit -q --allow-empty -m {what}; git push origin +HEAD:refs/heads/bottle/{branch}");
        let text = refused(&world, &clone, &push);
        assert!(text.contains("upstream has moved since this push began; fetch"), "{what}: {text}");
        mirror_is_upstream(&world);
        world.replace_program("gitleaks", &format!("#!/bin/sh\nexec {real} \"$@\"\n"));
        // Back to where it was.
        world.ok(&clone, "git push -q origin +HEAD:refs/heads/bottle/x");
    }
}

#[test]
fn upstream_takes_a_push_and_changes_its_mind() {
    let world = World::new();
    let clone = world.clone_origin();
    hook(&world, "post-receive", "git update-ref refs/heads/bottle/x main; git update-ref refs/heads/bottle/more main");
    world.ok(&clone, PUSH_X);
    let main = world.ok(&clone, "git rev-parse origin/main");
    assert!(world.upstream_refs().contains(&format!("refs/heads/bottle/x {main}")));
    mirror_is_upstream(&world);
}
