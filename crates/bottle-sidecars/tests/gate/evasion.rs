//! The evasion suite: `evasion.toml` has the cases, each a push that hides a secret and an honest push of the same shape.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use serde::Deserialize;

use crate::world::{World, aws_key, hex_token, random_letters, said};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// What upstream's own people push first, to a branch that the case starts from.
    upstream: Option<String>,
    /// Upstream has the secret, in a place that does not count.
    #[serde(default)]
    upstream_has_it: bool,
    script: String,
    #[serde(default = "Case::aws")]
    expect: String,
    honest: Option<String>,
}

impl Case {
    fn aws() -> String {
        "aws-access-token".to_owned()
    }
}

const PRELUDE: &str = r#"
save() { git add -A; git commit -qm "${1:-change}"; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
"#;

struct Run<'a> {
    world: &'a World,
    secrets: Mutex<BTreeSet<String>>,
    failures: Mutex<Vec<String>>,
}

impl Run<'_> {
    fn push(
        &self,
        case: &Case,
        kind: &str,
        script: &str,
        secret: &str,
        known: &str,
        password: &str,
    ) -> (PathBuf, String, bool) {
        let world = self.world;
        let clone = world.path(&format!("{kind}-{}", case.name));
        world.ok(world.dir.path(), &format!("cp -r template {}", clone.display()));
        let with_push = |script: &str, push: &str| {
            format!("{PRELUDE}{script}\n{}", if script.contains("git push") { "" } else { push })
        };
        let mut script = with_push(script, "git push origin HEAD:refs/heads/$BRANCH");
        let name = format!("{kind}-{}", case.name);
        let branch = format!("bottle/{name}");
        let token = if kind == "evil" { hex_token() } else { "plain-words-for-the-token".to_owned() };
        let env = [
            ("SECRET", secret),
            ("KNOWN", known),
            ("PASSWORD", password),
            ("BRANCH", &branch),
            ("TAG", &name),
            ("OLD", &aws_key()),
            ("OLD_TOKEN", &hex_token()),
            ("TOKEN", &token),
        ];
        if let Some(upstream) = &case.upstream {
            let theirs = world.path(&format!("theirs-{name}"));
            world.ok(world.dir.path(), &format!("git clone -q \"$UPSTREAM\" {}", theirs.display()));
            let upstream = with_push(upstream, "git push -q origin HEAD:refs/heads/base-$TAG");
            let output = world.sh(&theirs, &upstream, &env);
            assert!(output.status.success(), "{name}: {}", said(&output));
            script.insert_str(0, "git fetch -q; git checkout -q -B main origin/base-$TAG\n");
        }
        let output = world.sh(&clone, &script, &env);
        (clone, said(&output), output.status.success())
    }

    fn fail(&self, text: String) {
        self.failures.lock().expect("a lock").push(text);
    }

    fn hidden(&self, case: &Case) {
        let secret = aws_key();
        let password = random_letters(20);
        if !case.upstream_has_it {
            self.secrets.lock().expect("a lock").insert(secret.clone());
        }
        let (_, text, went) = self.push(case, "evil", &case.script, &secret, &self.world.known, &password);
        if went || !text.contains(&case.expect) || !text.contains("git-gate: refused") {
            self.fail(format!("evil {}: went through: {went}\n{text}", case.name));
        }
        // Git itself names the ref that is refused.
        let ours: String = text.lines().filter(|line| line.contains("git-gate: ")).collect();
        if ours.contains(&secret) || ours.contains(&self.world.known) {
            self.fail(format!("evil {}: the secret is shown\n{text}", case.name));
        }
        let refs = self.world.upstream_refs();
        if refs.lines().any(|line| line.contains(&format!("/evil-{}", case.name))) {
            self.fail(format!("evil {}: it is upstream", case.name));
        }
    }

    fn honest(&self, case: &Case) {
        let script = case.honest.as_ref().unwrap_or(&case.script);
        if script.is_empty() {
            return;
        }
        let (clone, text, went) =
            self.push(case, "honest", script, "plain-words-in-there", "plain-words-for-the-known", "var.password");
        if !went {
            return self.fail(format!("honest {}: refused\n{text}", case.name));
        }
        let clone = if clone.join("s/.git").exists() { clone.join("s") } else { clone };
        let name = format!("honest-{}", case.name);
        let refs = self.world.upstream_refs();
        // Some scripts push more than one ref, or one with the harmless text at its end.
        let own = |line: &&str| {
            let rest = line.split_once(&format!("/{name}")).map(|(_, rest)| rest);
            rest.is_some_and(|rest| [" ", "/", "-clean ", "-plain-words"].iter().any(|start| rest.starts_with(start)))
        };
        let pushed: Vec<&str> = refs.lines().filter(own).collect();
        if pushed.is_empty() {
            self.fail(format!("honest {}: not upstream", case.name));
        }
        for line in pushed {
            let (name, id) = line.split_once(' ').expect("a ref and its id");
            // Same ids, and upstream can read all of it: the same bytes.
            let local = self.world.sh(&clone, &format!("git cat-file -t {id}"), &[]);
            let remote =
                self.world.sh(&self.world.upstream("origin"), &format!("git rev-list --objects {id} >/dev/null"), &[]);
            if !local.status.success() || !remote.status.success() {
                self.fail(format!("honest {}: {name} is not what was pushed", case.name));
            }
        }
    }
}

#[test]
fn every_hidden_secret_is_refused_and_every_honest_twin_passes() {
    let text = include_str!("evasion.toml");
    let mut suite: Suite = toml::from_str(text).expect("the suite");
    if let Ok(only) = std::env::var("EVASION") {
        suite.case.retain(|case| case.name.contains(&only));
    }
    let names: BTreeSet<&str> = suite.case.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), suite.case.len(), "every name once");
    let world = World::new();
    world.ok(world.dir.path(), "git clone -q \"$ORIGIN\" template");
    let run = Run { world: &world, secrets: Mutex::default(), failures: Mutex::default() };
    let next = Mutex::new(suite.case.iter());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().expect("a lock").next() else { break };
                    run.hidden(case);
                    run.honest(case);
                }
            });
        }
    });
    let mut failures = run.failures.into_inner().expect("a lock");

    let objects =
        world.sh(&world.upstream("origin"), "git cat-file --batch --batch-all-objects; git for-each-ref", &[]);
    let objects = said(&objects);
    let record = fs::read_to_string(world.path("state/log/gate.jsonl")).expect("a record") + &world.gate_log();
    let mut secrets = run.secrets.into_inner().expect("a lock");
    secrets.insert(world.known.clone());
    for secret in secrets {
        if objects.contains(&secret) {
            failures.push(format!("upstream has {secret}"));
        }
        if record.contains(&secret) {
            failures.push(format!("the record or the log has {secret}"));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
}
