//! The evasion suite's inputs at the doors: what a case hides in a push, a request's body must not carry out either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use bottle_scan::dlp::{Rules, Scope, Search};
use bottle_scan::known::KnownSecrets;
use bottle_types::secret::{Secret, SecretName};

use super::{Attempt, Kind, Run};
use crate::world::World;

/// What the doors look for.
pub(super) struct Doors {
    rules: Rules,
    known: KnownSecrets,
    /// What every clone has.
    template: BTreeSet<String>,
}

impl Doors {
    pub(super) fn new(world: &World) -> Self {
        let name = SecretName::parse("KNOWN").expect("a name");
        let known = KnownSecrets::new(&[(name, Secret::new(world.known.clone().into_bytes()))]).expect("a secret");
        let template = objects(&world.path("template")).into_keys().collect();
        Self { rules: Rules::builtin().expect("rules"), known, template }
    }

    fn find(&self, body: &[u8]) -> Option<String> {
        let search = Search { known: &self.known, rules: Some((&self.rules, Scope::All)) };
        search.find(body).map(|finding| finding.rule.to_string())
    }

    /// What they find in the objects that a case made, and in the refs that it is to push.
    fn find_all(&self, world: &World, attempt: &Attempt<'_>) -> BTreeSet<String> {
        let clone = attempt.clone(world);
        let new = objects(&clone).into_iter().filter(|(id, _)| !self.template.contains(id)).map(|(_, bytes)| bytes);
        let offered: String = attempt.offered(world).into_iter().map(|(_, name)| format!("{name}\n")).collect();
        let refs = git(&clone, &["for-each-ref", "--format=%(refname)"]);
        new.chain([offered.into_bytes(), refs]).filter_map(|body| self.find(&body)).collect()
    }
}

impl Run<'_> {
    /// Sends what a case made through the doors.
    pub(super) fn at_the_doors(&self, doors: &Doors, attempt: &Attempt<'_>) {
        let found = doors.find_all(self.world, attempt);
        let (name, case) = (&attempt.name, attempt.case);
        match attempt.kind {
            // What upstream has is no finding at the gate; the doors know nothing of it.
            Kind::Honest if found.is_empty() || case.upstream.is_some() => {}
            Kind::Honest => self.fail(format!("{name}: the doors find {found:?}")),
            Kind::Known if found.contains("known-secret:KNOWN") != case.doors.is_none() => {
                self.fail(format!("{name}: the doors find {found:?}, {:?}", case.doors));
            }
            Kind::Evil if case.expect != "generic-api-key" && found.is_empty() != case.doors.is_some() => {
                self.fail(format!("{name}: the doors find {found:?}, {:?}", case.doors));
            }
            Kind::Known | Kind::Evil => {}
        }
    }
}

/// The bytes of every object, by id: `git cat-file --batch` gives a line with id, kind and size, the bytes, and the end of a line.
fn objects(clone: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = git(clone, &["cat-file", "--batch-all-objects", "--batch"]);
    let (mut rest, mut objects) = (&all[..], BTreeMap::new());
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').expect("a line");
        let line = std::str::from_utf8(&rest[..end]).expect("a line of text");
        let (id, size) = (line.split(' ').next(), line.rsplit(' ').next());
        let from = end + 1;
        let to = from + size.and_then(|size| size.parse::<usize>().ok()).expect("a size");
        objects.insert(id.expect("an id").to_owned(), rest[from..to].to_vec());
        rest = &rest[to + 1..];
    }
    objects
}

fn git(clone: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("git").args(args).current_dir(clone).output().expect("git");
    assert!(output.status.success(), "git {args:?} in {}: {output:?}", clone.display());
    output.stdout
}
