//! A branch that a person has asked to be rewritten: the cases of `rewrite.toml`.

use std::fs;

use serde::Deserialize;

use crate::world::{World, said};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    only: bool,
    #[serde(default)]
    meanwhile: Option<String>,
    push: String,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    refused: Option<String>,
}

/// The commits of main, the older first.
fn commits(world: &World) -> (String, String) {
    let id = |name: &str| world.ok(&world.upstream("origin"), &format!("git rev-parse {name}")).trim().to_owned();
    (id("main~1"), id("main"))
}

/// A world whose policy lets bottle/old be rewritten.
fn world(only: bool) -> World {
    World::with(
        |world| {
            world.ok(&world.upstream("origin"), "git branch bottle/old main; git branch bottle/other main");
            let (one, two) = commits(world);
            let to = if only { format!(", to: {one}") } else { String::new() };
            let rule = format!("      tags: true\n      rewrite: {{ name: refs/heads/bottle/old, from: {two}{to} }}\n");
            let policy = fs::read_to_string(world.path("gate.yaml")).expect("the policy");
            fs::write(world.path("gate.yaml"), policy.replacen("      tags: true\n", &rule, 1)).expect("written");
        },
        |policy| policy,
    )
}

#[test]
fn a_branch_is_rewritten_as_it_was_asked_for_and_no_other() {
    let cases: Cases = toml::from_str(include_str!("rewrite.toml")).expect("cases");
    for case in cases.case {
        let world = world(case.only);
        let (one, two) = commits(&world);
        let clone = world.clone_origin();
        if let Some(meanwhile) = &case.meanwhile {
            world.ok(&world.upstream("origin"), meanwhile);
        }
        let before = world.upstream_refs();
        let output = world.sh(&clone, &case.push, &[("KNOWN", &world.known)]);
        match &case.refused {
            None => {
                assert!(output.status.success(), "{}: {}", case.name, said(&output));
                let at = world.ok(&world.upstream("origin"), "git log -1 --format=%s bottle/old");
                assert_eq!(Some(at.trim()), case.at.as_deref(), "{}", case.name);
            }
            Some(why) => {
                let why = why.replace("ONE", &one[..12]).replace("TWO", &two[..12]);
                assert!(!output.status.success() && said(&output).contains(&why), "{}: {}", case.name, said(&output));
                // One was put back first.
                if case.name != "again after it was put back" {
                    assert_eq!(world.upstream_refs(), before, "{}", case.name);
                }
            }
        }
    }
}
