//! Rules about commits, with real pushes (`commits.toml`). The rules themselves have their cases in `bottle_policy::gate::commits`.

use std::cell::RefCell;
use std::fs;

use bottle_wire::push_report::PushVerdict;
use serde::Deserialize;

use crate::world::{World, said};

const RULES: &str = "      commits:\n        own: { name: Guest, email: guest@example.org }\n        message: conventional\n        \
    sign_off: true\n        co_authored_by: { name: ada, email: 1+ada@users.noreply.github.com }\n        run: run-1\n";
/// As the runner writes it for these trailers.
const HOOK: &str = "#!/bin/sh\nexec git interpret-trailers --in-place --no-divider --if-exists addIfDifferent --trailer \
    'Co-authored-by: ada <1+ada@users.noreply.github.com>' --if-exists replace --trailer 'Run: run-1' -- \"$1\"\n";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    script: String,
    also: Option<String>,
    #[serde(default)]
    said: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// A gate with the rules, before an upstream with commits of others: on a branch, and at the heads of two pull requests, from the
/// first of which the run starts.
fn world() -> World {
    let head = RefCell::new(String::new());
    let prepare = |world: &mut World| {
        let script = "git clone -q origin.git f && cd f && export GIT_AUTHOR_NAME=Eve GIT_AUTHOR_EMAIL=eve@evil.test && \
                      git commit -q --allow-empty -m Theirs && git push -q origin HEAD:refs/heads/theirs && \
                      git commit -q --allow-empty -m Second && git push -q origin HEAD:refs/pull/2/head && \
                      git reset -q --hard HEAD~ && git commit -q --allow-empty -m First && \
                      git push -q origin HEAD:refs/pull/1/head && git rev-parse HEAD";
        head.replace(world.ok(&world.path("upstream"), script));
        let policy = fs::read_to_string(world.path("gate.yaml")).expect("the policy");
        let policy = policy.replacen("      tags: true\n", &format!("      tags: true\n{RULES}"), 1);
        fs::write(world.path("gate.yaml"), format!("{policy}bases: [{}]\n", head.borrow())).expect("written");
    };
    World::with(prepare, |policy| policy)
}

#[test]
fn a_push_is_refused_for_each_rule_that_a_commit_of_the_run_breaks() {
    let cases: Cases = toml::from_str(include_str!("commits.toml")).expect("the cases");
    let world = world();
    let clone = world.clone_origin();
    fs::write(clone.join(".git/hooks/prepare-commit-msg"), HOOK).expect("written");
    world.ok(&clone, "chmod 755 .git/hooks/prepare-commit-msg");
    for (number, case) in cases.case.iter().enumerate() {
        let Case { name, script, also, said: expected } = case;
        world.ok(
            &clone,
            "git checkout -q -f -B w origin/main; git clean -qfd; git branch -q -D side 2>/dev/null || true",
        );
        world.ok(&clone, &format!("set -e\n{script}"));
        let branch = format!("refs/heads/bottle/{number}");
        let push = format!("git push origin HEAD:{branch} {}", also.as_deref().unwrap_or_default());
        let output = world.sh(&clone, &push, &[]);
        let told = said(&output);
        assert_eq!(output.status.success(), expected.is_empty(), "{name}: {told}");
        assert_eq!(world.upstream_refs().contains(&branch), expected.is_empty(), "{name}");
        let line = world.record().into_iter().rfind(|line| line.r#ref == branch).expect("a line of the record");
        assert_eq!(line.verdict == PushVerdict::Refused, !expected.is_empty(), "{name}");
        for expected in expected {
            assert!(told.contains(expected.as_str()), "{name}: {told}");
            assert!(line.reasons.iter().any(|reason| reason.contains(expected.as_str())), "{name}: {:?}", line.reasons);
        }
    }
}
