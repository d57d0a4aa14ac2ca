//! A scanner that does not do its work refuses the push.

use std::fs;

use bottle_wire::push_report::PushVerdict;

use crate::world::{World, aws_key, said};

#[test]
fn a_planted_key_is_refused_in_one_line_that_does_not_show_it() {
    let world = World::new();
    let clone = world.clone_origin();
    let key = aws_key();
    let push = "printf 'a\\nb\\naws = %s\\n' \"$KEY\" >config.py; git add .; git commit -qm c; git push origin HEAD:refs/heads/bottle/x";
    let output = world.sh(&clone, push, &[("KEY", &key)]);
    let text = said(&output);
    assert!(!output.status.success());
    assert!(text.contains("refused refs/heads/bottle/x: aws-access-token at config.py:3 in commit"), "{text}");
    assert!(!text.contains(&key));
    let record = world.record();
    assert_eq!(record.len(), 1);
    assert_eq!(record[0].verdict, PushVerdict::Refused);
    assert_eq!(record[0].findings[0].line, Some(3));
    assert!(!world.upstream_refs().contains("bottle"));

    world.ok(&clone, "sed -i d config.py; git commit -qa --amend -m clean; git push origin HEAD:refs/heads/bottle/x");
    let head = world.ok(&clone, "git rev-parse HEAD");
    assert!(world.upstream_refs().contains(&format!("refs/heads/bottle/x {head}")));
    assert_eq!(world.record()[1].verdict, PushVerdict::Accepted);
    let everything = fs::read_to_string(world.path("state/log/gate.jsonl")).expect("a record") + &world.gate_log();
    assert!(!everything.contains(&key));
}

#[test]
fn a_scanner_that_fails_refuses() {
    let world = World::new();
    let clone = world.clone_origin();
    let real = world.ok(world.dir.path(), "command -v gitleaks");
    for (what, script) in [
        ("killed", "#!/bin/sh\nkill -9 $$\n".to_owned()),
        ("an error", "#!/bin/sh\nexit 1\n".to_owned()),
        ("happy without looking", "#!/bin/sh\nexit 0\n".to_owned()),
        ("no report", "#!/bin/sh\nexit 42\n".to_owned()),
        ("half a report", format!("#!/bin/sh\n{real} \"$@\"; printf '[' >../report.json; exit 42\n")),
        ("an empty report", format!("#!/bin/sh\n{real} \"$@\"; printf '[]' >../report.json; exit 42\n")),
        ("looks elsewhere", format!("#!/bin/sh\ncd ../tmp; exec {real} \"$@\"\n")),
        (
            "looks at less",
            format!(
                "#!/bin/sh\ncat ../gitleaksignore; rm ../gitleaksignore 0/0; : >../gitleaksignore; exec {real} \"$@\"\n"
            ),
        ),
    ] {
        world.replace_program("gitleaks", &script);
        let push = "echo >a.tf; git add .; git commit -q --allow-empty -m x; git push origin HEAD:refs/heads/bottle/x";
        let output = world.sh(&clone, push, &[]);
        assert!(!output.status.success(), "{what}");
        assert!(said(&output).contains("could not be scanned"), "{what}: {}", said(&output));
    }
    assert!(!world.upstream_refs().contains("bottle"));
    fs::remove_file(world.path("bin/gitleaks")).expect("removed");
    world.ok(&clone, "git push -q origin HEAD:refs/heads/bottle/x");
}

#[test]
fn no_scanner_no_push() {
    let mut world = World::new();
    let clone = world.clone_origin();
    world.stop_gate();
    // A PATH with all that the gate needs but gitleaks.
    for name in ["git", "ssh", "sh"] {
        let real = world.ok(world.dir.path(), &format!("command -v {name}"));
        std::os::unix::fs::symlink(real, world.path("bin").join(name)).expect("a link");
    }
    world.path_is_bin = true;
    world.start_gate();
    let push = format!(
        "git remote set-url origin {}; git commit -q --allow-empty -m x; git push origin HEAD:refs/heads/bottle/x",
        world.guest_url("origin")
    );
    let output = world.sh(&clone, &push, &[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("failed to start gitleaks"), "{}", said(&output));
    assert!(!world.upstream_refs().contains("bottle"));
}

#[test]
fn what_upstream_has_is_not_scanned_again() {
    let world = World::new();
    let key = aws_key();
    let seed = format!(
        "git clone -q origin.git w && cd w && echo {key} >old && git add . && git commit -qm old && git push -q"
    );
    world.ok(&world.path("upstream"), &seed);
    let clone = world.clone_origin();
    world.ok(&clone, "echo new >new; git add .; git commit -qm new; git push -q origin HEAD:refs/heads/bottle/x");
    assert_eq!(world.record()[0].commits, 1);
}
