//! Rules about the patch itself: files, lines, binary files.

use crate::world::{World, hex_token, said};

/// Pushes what a script makes under these rules; what was said where it is refused.
fn refused(world: &World, number: usize, script: &str, env: &[(&str, &str)]) -> Option<String> {
    let clone = world.path("clone-0");
    let script = format!(
        "git checkout -q -f -B w origin/main; git clean -qfd; {script}; git push origin HEAD:refs/heads/bottle/{number}"
    );
    let output = world.sh(&clone, &script, env);
    (!output.status.success()).then(|| said(&output))
}

fn world(rules: &str) -> World {
    let rules = format!("      tags: true\n{rules}");
    let world = World::with(|_| {}, |policy| policy.replace("      tags: true\n", &rules));
    world.clone_origin();
    world
}

#[test]
fn a_patch_that_is_too_large_is_refused_before_the_scan() {
    let world = world("      max_files: 3\n      max_lines: 20\n      max_new_binaries: 1\n");
    let token = hex_token();
    let env = [("TOKEN", token.as_str())];
    let commit = "git add .; git commit -qm x";
    for (number, (why, script)) in [
        (None, format!("seq 19 >a; echo b >b; printf '\\0' >c; {commit}")),
        (None, format!("seq 10 >a; {commit}; seq 9 >a; {commit}; git rm -q a; git commit -qm y --allow-empty")),
        (Some("4 files are changed"), format!("touch a b c d; {commit}")),
        (Some("4 files are changed"), format!("echo a >a; echo b >b; {commit}; git rm -q a b; echo c >c; echo d >d; {commit}")),
        (Some("21 lines are added or removed"), format!("seq 21 >a; {commit}")),
        (Some("22 lines are added or removed"), format!("seq 11 >a; {commit}; git rm -q a; git commit -qm y")),
        (Some("2 files are binary and were not"), format!("printf '\\0' >a; printf '\\0' >b; {commit}")),
        // Text that is made binary, and attributes that say otherwise.
        (Some("2 files are binary"), format!("printf '\\0' >README.md; echo '* diff' >.gitattributes; printf '\\0' >b; {commit}")),
        (Some("21 lines"), format!("seq 20 >a; echo '* -diff' >.gitattributes; {commit}")),
        // In the middle of the history, and in a merge.
        (Some("42 lines"), format!("seq 21 >a; {commit}; git revert --no-edit HEAD >/dev/null; git reset -q --soft HEAD~; {commit}")),
        (Some("4 files are changed"), format!("git checkout -q -b m$RANDOM HEAD~; echo x >x; {commit}; git merge -q --no-commit w >/dev/null; touch 1 2 3; {commit}")),
        // Judged before the scan: what it would find is not told.
        (Some("4 files are changed"), format!("echo \"api_key = '$TOKEN'\" >a; touch b c d; {commit}")),
    ]
    .into_iter()
    .enumerate()
    {
        let said = refused(&world, number, &script, &env);
        match (why, said) {
            (None, said) => assert_eq!(said, None, "{number} {script}"),
            (Some(why), Some(said)) => {
                assert!(said.contains(why) && !said.contains("generic-api-key"), "{number} {script}: {said}");
            }
            (Some(_), None) => panic!("{number} {script}: it went through"),
        }
    }
}
