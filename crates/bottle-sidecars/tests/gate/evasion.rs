//! The evasion suite: `evasion.toml` has the cases, each a change that hides a secret and an honest change of the same shape.
//!
//! Most of what a push costs is paid once for all of its refs: gitleaks reads its rules, and upstream is asked twice by ssh. So the
//! changes are made in clones of their own, and go as the refs of a few pushes; the gate's lines say of each ref why it is refused. A
//! case for which the push itself counts pushes by itself.

mod doors;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use aho_corasick::AhoCorasick;
use serde::Deserialize;

use crate::world::{World, aws_key, hex_token, random_letters, said};

/// So many clones are worked in at once.
const WORKERS: usize = 3;
/// So many refs are pushed together: of more, the gate's lines would be cut. Of those that stand on a branch of upstream's fewer: the
/// gate looks through eight of those.
const TOGETHER: usize = 16;
const TOGETHER_ON_UPSTREAMS: usize = 6;

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
    /// Why it does not go together with others.
    alone: Option<Alone>,
    #[serde(default = "Case::aws")]
    expect: String,
    honest: Option<String>,
    /// Why the doors don't find it in any of the objects, where they don't.
    doors: Option<String>,
}

impl Case {
    fn aws() -> String {
        "aws-access-token".to_owned()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Alone {
    /// A secret is in a name: the gate then shows no ref's name.
    Name,
    /// A rule refuses it before anything is scanned.
    Rule,
    /// It is about the guest's repository, which has to push it.
    Repository,
    /// It hides behind a finding of upstream's own: the gate looks there only where nothing else is new.
    Behind,
}

const PRELUDE: &str = r#"
save() { git add -A; git commit -qm "${1:-change}"; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
push() { for spec; do echo "$(git rev-parse "${spec%%:*}") ${spec#*:}" >>.git/offered; done; }
form() { python3 -c "$FORM"; save; }
"#;

/// Reads what makes a file, with the secret as `s`, the known one as `k`, the bytes of both, and a GitHub token with the secret in it.
const FORM: &str = r#"
import base64, binascii, gzip, lzma, os, sys, textwrap, zlib
s = os.environ['SECRET']; k = os.environ['KNOWN']; b = s.encode(); n = k.encode()
g = 'ghp' + '_' + s + '0123456789abcdef'
def save(text, name='a.txt'):
    open(name, 'wb').write(text if isinstance(text, bytes) else text.encode())
exec(sys.stdin.read())
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Hides a secret that has a format.
    Evil,
    /// Hides the bottle's own one in the same way.
    Known,
    Honest,
}

/// A case in one of its kinds.
struct Attempt<'a> {
    case: &'a Case,
    kind: Kind,
    name: String,
    script: String,
    secret: String,
    /// The bottle's own, or harmless.
    known: String,
    password: String,
    token: String,
    old: String,
    old_token: String,
}

impl<'a> Attempt<'a> {
    /// The kinds that there are of a case.
    fn all(case: &'a Case, world: &World) -> Vec<Self> {
        let honest = case.honest.as_ref().unwrap_or(&case.script);
        let mut kinds = vec![(Kind::Evil, &case.script)];
        let goes_together = case.alone.is_none() && !case.script.contains("git push");
        if goes_together && !case.upstream_has_it && case.script.contains("SECRET") {
            kinds.push((Kind::Known, &case.script));
        }
        if !honest.is_empty() {
            kinds.push((Kind::Honest, honest));
        }
        kinds.into_iter().map(|(kind, script)| Self::new(case, kind, script, &world.known)).collect()
    }

    fn new(case: &'a Case, kind: Kind, script: &str, known: &str) -> Self {
        let is_honest = kind == Kind::Honest;
        let or = |secret: String, harmless: &str| if is_honest { harmless.to_owned() } else { secret };
        let secret = if kind == Kind::Known { known.to_owned() } else { aws_key() };
        Self {
            case,
            kind,
            name: format!("{}-{}", format!("{kind:?}").to_lowercase(), case.name),
            script: script.to_owned(),
            secret: or(secret, "plain-words-in-there"),
            known: or(known.to_owned(), "plain-words-for-the-known"),
            password: or(random_letters(20), "var.password"),
            token: or(hex_token(), "plain-words-for-the-token"),
            old: aws_key(),
            old_token: hex_token(),
        }
    }

    fn expect(&self) -> &str {
        if self.kind == Kind::Known { "known-secret:KNOWN" } else { &self.case.expect }
    }

    /// Whether it does its own push.
    fn is_alone(&self) -> bool {
        let alone = self.case.alone.is_some_and(|why| self.kind != Kind::Honest || why == Alone::Repository);
        alone || self.script.contains("git push")
    }

    /// Runs a script of it.
    fn sh(&self, world: &World, dir: &Path, script: &str) -> (String, bool) {
        let env = [
            ("SECRET", self.secret.as_str()),
            ("KNOWN", &self.known),
            ("PASSWORD", &self.password),
            ("BRANCH", &format!("bottle/{}", self.name)),
            ("TAG", &self.name),
            ("OLD", &self.old),
            ("OLD_TOKEN", &self.old_token),
            ("TOKEN", &self.token),
            ("FORM", FORM),
        ];
        let output = world.sh(dir, &format!("{PRELUDE}{script}"), &env);
        (said(&output), output.status.success())
    }

    /// Its clone.
    fn clone(&self, world: &World) -> PathBuf {
        let clone = world.path(&self.name);
        if clone.join("s/.git").exists() { clone.join("s") } else { clone }
    }

    /// What it has to be pushed: an id and a ref each.
    fn offered(&self, world: &World) -> Vec<(String, String)> {
        let text = fs::read_to_string(world.path(&self.name).join(".git/offered")).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(id, name)| (id.to_owned(), name.to_owned())).collect()
    }
}

struct Run<'a> {
    world: &'a World,
    failures: Mutex<Vec<String>>,
}

impl Run<'_> {
    fn fail(&self, text: String) {
        self.failures.lock().expect("a lock").push(text);
    }

    /// What upstream's own people push for it.
    fn upstream(&self, attempt: &Attempt<'_>) {
        let Some(script) = &attempt.case.upstream else { return };
        let theirs = self.world.path(&format!("theirs-{}", attempt.name));
        self.world.ok(self.world.dir.path(), &format!("git clone -q \"$UPSTREAM\" {}", theirs.display()));
        let push = if script.contains("git push") { "" } else { "git push -q origin HEAD:refs/heads/base-$TAG" };
        let (text, went) = attempt.sh(self.world, &theirs, &format!("{script}\n{push}"));
        assert!(went, "{}: {text}", attempt.name);
    }

    /// Makes the change; one that is alone is pushed and judged.
    fn make(&self, attempt: &Attempt<'_>) {
        let clone = self.world.path(&attempt.name);
        self.world.ok(self.world.dir.path(), &format!("cp -r template {}", clone.display()));
        let start = if attempt.case.upstream.is_some() { "git checkout -q -B main origin/base-$TAG" } else { "" };
        let push = match attempt.is_alone() {
            true if attempt.script.contains("git push") => "",
            true => "git push origin HEAD:refs/heads/$BRANCH",
            false => "[ -e .git/offered ] || push HEAD:refs/heads/$BRANCH",
        };
        let (text, went) = attempt.sh(self.world, &clone, &format!("{start}\n{}\n{push}", attempt.script));
        if !attempt.is_alone() {
            if !went {
                self.fail(format!("{}: the change can't be made\n{text}", attempt.name));
            }
        } else if attempt.kind == Kind::Honest {
            self.passed(attempt, &text, went);
        } else {
            let is_told = text.contains(attempt.expect()) && text.contains("git-gate: refused");
            self.refused(attempt, &text, is_told && !went);
        }
    }

    /// Pushes several at once, and judges each by the refs that are its own.
    fn together(&self, attempts: &[&Attempt<'_>]) {
        let (Some(first), world) = (attempts.first(), self.world) else { return };
        let dir = world.path(&format!("together-{}", first.name));
        let (mut fetch, mut push) = (String::new(), "git push origin".to_owned());
        for attempt in attempts {
            let specs: Vec<String> =
                attempt.offered(world).into_iter().map(|(id, name)| format!("'{id}:{name}'")).collect();
            fetch.push_str(&format!("git fetch -q --no-tags ../{} {}\n", attempt.name, specs.join(" ")));
            attempt.offered(world).iter().for_each(|(_, name)| push.push_str(&format!(" '{name}'")));
        }
        world.ok(world.dir.path(), &format!("cp -r template {}", dir.display()));
        world.ok(&dir, &fetch);
        let output = world.sh(&dir, &push, &[]);
        let (text, went) = (said(&output), output.status.success());
        for attempt in attempts {
            if attempt.kind == Kind::Honest {
                self.passed(attempt, &text, went);
                continue;
            }
            let refs = attempt.offered(world);
            let is_own =
                |line: &&str| refs.iter().any(|(_, name)| line.contains(&format!("git-gate: refused {name}: ")));
            let is_told = text.lines().filter(is_own).any(|line| line.contains(attempt.expect()));
            self.refused(attempt, &text, is_told && !went);
        }
    }

    fn refused(&self, attempt: &Attempt<'_>, text: &str, as_expected: bool) {
        let name = &attempt.name;
        if !as_expected {
            self.fail(format!("{name}: not refused for {}\n{text}", attempt.expect()));
        }
        // Git itself names the ref that is refused.
        let ours: String = text.lines().filter(|line| line.contains("git-gate: ")).collect();
        if ours.contains(&attempt.secret) || ours.contains(&self.world.known) {
            self.fail(format!("{name}: the secret is shown\n{text}"));
        }
        if self.world.upstream_refs().lines().any(|line| line.contains(&format!("/{name}"))) {
            self.fail(format!("{name}: it is upstream"));
        }
    }

    fn passed(&self, attempt: &Attempt<'_>, text: &str, went: bool) {
        let name = &attempt.name;
        if !went {
            return self.fail(format!("{name}: refused\n{text}"));
        }
        let refs = self.world.upstream_refs();
        // Some scripts push more than one ref, or one with the harmless text at its end.
        let own = |line: &&str| {
            let rest = line.split_once(&format!("/{name}")).map(|(_, rest)| rest);
            rest.is_some_and(|rest| [" ", "/", "-clean ", "-plain-words"].iter().any(|start| rest.starts_with(start)))
        };
        let pushed: Vec<&str> = refs.lines().filter(own).collect();
        let missing =
            attempt.offered(self.world).into_iter().find(|(id, name)| !pushed.contains(&&*format!("{name} {id}")));
        if pushed.is_empty() || missing.is_some() {
            self.fail(format!("{name}: not upstream: {missing:?}"));
        }
        for line in pushed {
            let (name, id) = line.split_once(' ').expect("a ref and its id");
            // Same ids, and upstream can read all of it: the same bytes.
            let local = self.world.sh(&attempt.clone(self.world), &format!("git cat-file -t {id}"), &[]);
            let remote =
                self.world.sh(&self.world.upstream("origin"), &format!("git rev-list --objects {id} >/dev/null"), &[]);
            if !local.status.success() || !remote.status.success() {
                self.fail(format!("{name} is not what was pushed"));
            }
        }
    }
}

/// Does the work for all of them, a few at a time.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// Those that are not alone, as they are pushed.
fn pushes<'a>(attempts: &'a [Attempt<'a>]) -> Vec<Vec<&'a Attempt<'a>>> {
    let mut pushes = vec![];
    for kind in [Kind::Evil, Kind::Known, Kind::Honest] {
        for (on_upstreams, most) in [(false, TOGETHER), (true, TOGETHER_ON_UPSTREAMS)] {
            let is_one = |one: &&Attempt<'_>| one.kind == kind && one.case.upstream.is_some() == on_upstreams;
            let all: Vec<&Attempt<'_>> = attempts.iter().filter(is_one).filter(|one| !one.is_alone()).collect();
            pushes.extend(all.chunks(most).map(<[_]>::to_vec));
        }
    }
    pushes
}

fn suite() -> Suite {
    let mut suite: Suite = toml::from_str(include_str!("evasion.toml")).expect("the suite");
    let names: BTreeSet<&str> = suite.case.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), suite.case.len(), "every name once");
    let honest = suite.case.iter().filter(|case| case.honest.as_deref() != Some("")).count();
    assert!(names.len() >= 150 && honest >= 60, "{}, {honest}", names.len());
    if let Ok(only) = std::env::var("EVASION") {
        suite.case.retain(|case| case.name.contains(&only));
    }
    suite
}

#[test]
fn every_hidden_secret_is_refused_and_every_honest_twin_passes() {
    let suite = suite();
    let world = World::new();
    let attempts: Vec<Attempt<'_>> = suite.case.iter().flat_map(|case| Attempt::all(case, &world)).collect();
    let run = Run { world: &world, failures: Mutex::default() };
    each(&attempts, |attempt| run.upstream(attempt));
    world.ok(world.dir.path(), "git clone -q \"$ORIGIN\" template");
    each(&attempts, |attempt| run.make(attempt));
    each(&pushes(&attempts), |push| run.together(push));
    let doors = doors::Doors::new(&world);
    each(&attempts, |attempt| run.at_the_doors(&doors, attempt));
    let mut failures = run.failures.into_inner().expect("a lock");

    let objects = "git cat-file --batch --batch-all-objects; git for-each-ref";
    let objects = said(&world.sh(&world.upstream("origin"), objects, &[]));
    let record = fs::read_to_string(world.path("state/log/gate.jsonl")).expect("a record") + &world.gate_log();
    let evil = attempts.iter().filter(|one| one.kind == Kind::Evil && !one.case.upstream_has_it);
    let secrets: Vec<&str> = evil.map(|one| one.secret.as_str()).chain([world.known.as_str()]).collect();
    let search = AhoCorasick::new(&secrets).expect("a search");
    for (who, text) in [("upstream", objects), ("the record or the log", record)] {
        let found: BTreeSet<&str> = search.find_iter(&text).map(|found| secrets[found.pattern().as_usize()]).collect();
        failures.extend(found.into_iter().map(|secret| format!("{who} has {secret}")));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
}
