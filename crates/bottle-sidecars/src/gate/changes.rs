//! Lists what a push brings: every object that no branch and no tag of upstream has, and what its commits change. All by raw
//! object id, with no replace refs, in receive-pack's quarantine, where the mirror's refs are upstream's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use bottle_policy::gate::Upstream;
use bottle_types::git::{ObjectId, RefName};

use super::dirs::GateDirs;
use super::history;
use super::lfs::LfsChanges;
use super::process::{self, git_ok};

/// Arguments that leave out what upstream has by the hand of somebody who may write to it. Its other refs are left in: forges
/// keep a change that anybody proposes from a fork at `refs/pull/N/head`, and pushed as a branch it would be as new as if it
/// had been written here.
pub(super) const NOT_UPSTREAMS: [&str; 3] = ["--not", "--branches", "--tags"];

/// More objects than this in one push are refused unread.
const MAX_OBJECTS: usize = 500_000;

/// A change of one ref, whose name the push rules take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefUpdate {
    pub(super) old: ObjectId,
    pub(super) new: ObjectId,
    pub(super) name: RefName,
}

impl RefUpdate {
    pub(super) fn creates(&self) -> bool {
        self.old.is_null()
    }

    pub(super) fn deletes(&self) -> bool {
        self.new.is_null()
    }
}

/// A mirror with a push waiting in quarantine.
#[derive(Debug, Clone)]
pub(super) struct Repo<'a> {
    pub(super) gate: &'a GateDirs,
    pub(super) upstream: &'a Upstream,
    /// Where the objects of the push are.
    pub(super) quarantine: Vec<(&'static str, OsString)>,
}

impl Repo<'_> {
    /// git in this mirror, with the objects of the push in sight.
    pub(super) fn git(&self) -> Command {
        let mut command = process::git(&self.gate.home());
        command.env("GIT_DIR", self.gate.mirror(&self.upstream.name));
        command.envs(self.quarantine.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(super) fn ok(&self, args: &[&str], input: Option<String>) -> Result<Vec<u8>, String> {
        let mut command = self.git();
        command.args(args);
        git_ok(command, input.map(String::into_bytes))
    }

    /// Tells whether a push to `new` keeps everything that `old` has.
    pub(super) fn is_fast_forward(&self, old: &ObjectId, new: &ObjectId) -> Result<bool, String> {
        let mut command = self.git();
        command.args(["merge-base", "--is-ancestor", old.as_str(), new.as_str()]);
        let output = process::run(command, None, process::ProcessLimits::local()).map_err(|error| error.to_string())?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(format!("git merge-base failed: {}", process::last_words(&output.stderr))),
        }
    }
}

/// The kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Commit,
    Tree,
    Blob,
    Tag,
}

/// One new object.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) id: ObjectId,
    pub(super) kind: ObjectKind,
    pub(super) size: u64,
}

/// One path that one commit has otherwise than one of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathChange {
    /// Index in [`Changes::commits`].
    pub(super) commit: usize,
    /// Which parent, from 0; a root commit is compared with nothing.
    pub(super) parent: usize,
    pub(super) old: TreeEntry,
    pub(super) new: TreeEntry,
    pub(super) path: Vec<u8>,
}

impl PathChange {
    /// The path as text; what is not UTF-8 is replaced.
    pub(super) fn path(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// An entry of a tree at a path; mode 0 is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeEntry {
    pub(super) mode: u32,
    pub(super) id: ObjectId,
}

impl TreeEntry {
    pub(super) fn is_tree(&self) -> bool {
        self.mode == 0o040_000
    }

    pub(super) fn is_gitlink(&self) -> bool {
        self.mode == 0o160_000
    }

    pub(super) fn is_there(&self) -> bool {
        self.mode != 0
    }
}

/// A new commit and its parents.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) id: ObjectId,
    pub(super) parents: Vec<ObjectId>,
}

/// All that a push brings.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) objects: Vec<Object>,
    /// For each update, which of the objects it needs.
    pub(super) of_update: Vec<Vec<usize>>,
    /// Newest first.
    pub(super) commits: Vec<Commit>,
    pub(super) paths: Vec<PathChange>,
    /// The Git LFS pointers among the objects.
    pub(super) lfs: LfsChanges,
}

impl Changes {
    /// Lists what is new.
    pub(super) fn list(repo: &Repo<'_>, updates: &[RefUpdate]) -> Result<Self, String> {
        let mut ids: Vec<ObjectId> = vec![];
        let mut index: HashMap<ObjectId, usize> = HashMap::new();
        let mut of_update = vec![];
        for update in updates {
            let mut needed = vec![];
            if !update.deletes() {
                let listed =
                    repo.ok(&[&["rev-list", "--objects", update.new.as_str()], &NOT_UPSTREAMS[..]].concat(), None)?;
                for line in listed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let id = object_id(line.split(|byte| *byte == b' ').next().unwrap_or_default())?;
                    let next = ids.len();
                    needed.push(*index.entry(id.clone()).or_insert(next));
                    if index.len() > next {
                        ids.push(id);
                    }
                }
                if ids.len() > MAX_OBJECTS {
                    return Err(format!("more than {MAX_OBJECTS} new objects in one push; push it in parts"));
                }
            }
            of_update.push(needed);
        }
        // Neither waits for the other.
        let (objects, described) = thread::scope(|scope| {
            let objects = scope.spawn(|| kinds(repo, &ids));
            let described = parents(repo, updates).and_then(|commits| Ok((diffs(repo, &commits)?, commits)));
            (objects.join().unwrap_or_else(|_| Err("the kinds of the new objects can't be told".to_owned())), described)
        });
        let (objects, (paths, commits)) = (objects?, described?);
        history::meets_upstreams(repo, &commits)?;
        let known = objects.iter().filter(|object| object.kind == ObjectKind::Commit).count();
        if known != commits.len() {
            return Err("git lists new commits in two ways that do not agree".to_owned());
        }
        Ok(Self { objects, of_update, commits, paths, lfs: LfsChanges::default() })
    }

    /// For each new object that a new commit puts somewhere: the oldest such commit, and the paths.
    pub(super) fn positions(&self) -> BTreeMap<&ObjectId, (usize, Vec<&[u8]>)> {
        let mut positions: BTreeMap<&ObjectId, (usize, Vec<&[u8]>)> = BTreeMap::new();
        for change in self.paths.iter().rev().filter(|change| change.new.is_there()) {
            let (_, paths) = positions.entry(&change.new.id).or_insert((change.commit, vec![]));
            if paths.len() < 16 && !paths.contains(&&change.path[..]) {
                paths.push(&change.path);
            }
        }
        positions
    }
}

fn object_id(bytes: &[u8]) -> Result<ObjectId, String> {
    ObjectId::from_bytes(bytes).map_err(|error| format!("git listed something that is no object: {error}"))
}

/// The kind and size of each object, unread.
pub(super) fn kinds(repo: &Repo<'_>, ids: &[ObjectId]) -> Result<Vec<Object>, String> {
    let answer = repo.ok(&["cat-file", "--batch-check", "--buffer"], Some(lines(ids.iter().map(ObjectId::as_str))))?;
    let text = String::from_utf8_lossy(&answer);
    let mut objects = vec![];
    for (line, id) in text.lines().zip(ids) {
        let words: Vec<&str> = line.split(' ').collect();
        let (kind, size) = match &words[..] {
            [same, kind, size] if *same == id.as_str() => (kind_of(kind)?, size.parse().map_err(|_| unreadable(id))?),
            _ => return Err(unreadable(id)),
        };
        objects.push(Object { id: id.clone(), kind, size });
    }
    if objects.len() == ids.len() {
        Ok(objects)
    } else {
        Err("git did not tell the size of every new object".to_owned())
    }
}

/// The new commits that were there before the run: those of a fork's pull request, or of a checkout that was brought.
pub(super) fn of_others(repo: &Repo<'_>) -> Result<BTreeSet<ObjectId>, String> {
    let mut bases = vec![];
    for base in &repo.gate.policy.bases {
        // One that is not pushed is not here.
        if let Ok(found) = kinds(repo, std::slice::from_ref(base)) {
            bases.extend(found.into_iter().filter(|object| object.kind == ObjectKind::Commit));
        }
    }
    if bases.is_empty() {
        return Ok(BTreeSet::new());
    }
    let bases: Vec<&str> = bases.iter().map(|base| base.id.as_str()).collect();
    let listed = repo.ok(&[&["rev-list"], &bases[..], &NOT_UPSTREAMS].concat(), None)?;
    let ids = String::from_utf8_lossy(&listed).lines().map(ObjectId::parse).collect::<Result<_, _>>();
    ids.map_err(|error| format!("git rev-list: {error}"))
}

fn kind_of(word: &str) -> Result<ObjectKind, String> {
    Ok(match word {
        "commit" => ObjectKind::Commit,
        "tree" => ObjectKind::Tree,
        "blob" => ObjectKind::Blob,
        "tag" => ObjectKind::Tag,
        _ => return Err("git named an unknown kind of object".to_owned()),
    })
}

fn unreadable(id: &ObjectId) -> String {
    format!("new object {id} can't be read")
}

fn lines<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.flat_map(|item| [item, "\n"]).collect()
}

fn parents(repo: &Repo<'_>, updates: &[RefUpdate]) -> Result<Vec<Commit>, String> {
    let tips: Vec<&str> = updates.iter().filter(|update| !update.deletes()).map(|update| update.new.as_str()).collect();
    if tips.is_empty() {
        return Ok(vec![]);
    }
    let listed = repo.ok(&[&["rev-list", "--parents"], &tips[..], &NOT_UPSTREAMS[..]].concat(), None)?;
    let mut commits = vec![];
    for line in listed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut ids = line.split(|byte| *byte == b' ').map(object_id);
        let Some(id) = ids.next() else { continue };
        commits.push(Commit { id: id?, parents: ids.collect::<Result<_, _>>()? });
    }
    Ok(commits)
}

/// Each commit against each of its parents, trees included, no renames: a rename is a deletion and an addition.
fn diffs(repo: &Repo<'_>, commits: &[Commit]) -> Result<Vec<PathChange>, String> {
    let mut pairs = vec![];
    let mut input = String::new();
    for (commit, Commit { id, parents }) in commits.iter().enumerate() {
        if parents.is_empty() {
            pairs.push((commit, 0));
            input.push_str(&format!("{id}\n"));
        }
        for (number, parent) in parents.iter().enumerate() {
            pairs.push((commit, number));
            input.push_str(&format!("{id} {parent}\n"));
        }
    }
    let options = ["-r", "-t", "--root", "--always", "--raw", "-z", "--no-renames", "--no-abbrev", "--no-ext-diff"];
    let listed = repo.ok(&[&["diff-tree", "--stdin"], &options[..]].concat(), Some(input))?;
    let broken = || "git described the changes of a commit in a way the gate does not know".to_owned();
    let mut headers = pairs.into_iter();
    let mut here = None;
    let mut changes = vec![];
    let mut fields = listed.split(|byte| *byte == 0);
    while let Some(field) = fields.next() {
        let Some(entry) = field.strip_prefix(b":") else {
            if field.is_empty() {
                continue;
            }
            let (commit, parent) = headers.next().ok_or_else(broken)?;
            if object_id(field)? != commits[commit].id {
                return Err(broken());
            }
            here = Some((commit, parent));
            continue;
        };
        let path = fields.next().filter(|path| !path.is_empty()).ok_or_else(broken)?.to_vec();
        let (commit, parent) = here.ok_or_else(broken)?;
        let text = String::from_utf8_lossy(entry);
        let words: Vec<&str> = text.split(' ').collect();
        let [old_mode, new_mode, old, new, _] = words[..] else { return Err(broken()) };
        let mode = |text: &str| u32::from_str_radix(text, 8).map_err(|_| broken());
        changes.push(PathChange {
            commit,
            parent,
            old: TreeEntry { mode: mode(old_mode)?, id: object_id(old.as_bytes())? },
            new: TreeEntry { mode: mode(new_mode)?, id: object_id(new.as_bytes())? },
            path,
        });
    }
    if headers.next().is_some() { Err(broken()) } else { Ok(changes) }
}

/// Reads every object raw, one at a time, and gives it to `each`, with its index.
pub(super) fn read_all(
    repo: &Repo<'_>,
    objects: &[Object],
    mut each: impl FnMut(usize, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut command = repo.git();
    command.args(["cat-file", "--batch", "--buffer"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("failed to start git cat-file: {error}"))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("git cat-file has no pipes".to_owned());
    };
    let input = lines(objects.iter().map(|object| object.id.as_str()));
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let mut stdout = BufReader::with_capacity(256 << 10, stdout);
    let mut read = || -> Result<(), String> {
        let (mut header, mut content) = (String::new(), vec![]);
        for (index, object) in objects.iter().enumerate() {
            header.clear();
            stdout.read_line(&mut header).map_err(|_| unreadable(&object.id))?;
            let same = header.trim_end().rsplit_once(' ').and_then(|(start, size)| {
                let size: u64 = size.parse().ok()?;
                (start.split(' ').next() == Some(object.id.as_str()) && size == object.size).then_some(size)
            });
            let size = same.and_then(|size| usize::try_from(size).ok()).ok_or_else(|| unreadable(&object.id))?;
            content.resize(size + 1, 0);
            stdout.read_exact(&mut content).map_err(|_| unreadable(&object.id))?;
            each(index, &content[..size])?;
        }
        Ok(())
    };
    let result = read();
    if result.is_err() {
        let _ = child.kill();
    }
    drop(stdout);
    let _ = writer.join();
    let status = child.wait().map_err(|error| format!("failed to wait for git cat-file: {error}"))?;
    result?;
    if status.success() { Ok(()) } else { Err("git cat-file failed".to_owned()) }
}
