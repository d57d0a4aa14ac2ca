//! What upstream has already, where a push stands on it: the trees of the commits on which the new ones are made, and that of
//! the default branch. Read only when something was found.
//!
//! A branch that this run pushed is no word of upstream's: in its place stands what upstream had there before. Refs that are
//! neither branch nor tag do not count at all, since a forge makes them of anybody's proposal.

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;
use bottle_types::git::ObjectId;

use super::changes::{Changes, Object, ObjectKind, RefUpdate, Repo, kinds, read_all};
use super::hit::Matched;
use super::mirror;
use super::objects::telling_ending;

/// More commits than these are not looked through.
const MAX_COMMITS: usize = 8;
/// A larger blob is not searched for what was found, except at the same path.
const MAX_SEARCHED_BLOB: u64 = 16 << 20;
/// Nor more than this altogether.
const MAX_SEARCHED: u64 = 512 << 20;
/// Of the blobs with the same bytes in it, and of those that a commit deletes, so many are looked into.
const MAX_ALIKE: usize = 16;
const MAX_DELETED: usize = 64;
/// And so much of all of them.
const MAX_CANDIDATE_BYTES: u64 = 64 << 20;

/// A file or directory that upstream has.
#[derive(Debug)]
struct BaseEntry {
    path: Vec<u8>,
    object: Object,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct UpstreamBase {
    entries: Vec<BaseEntry>,
}

/// Objects of upstream's in which the same may be found, each with the endings by which rules go.
pub(super) type Candidates = BTreeMap<ObjectId, (Object, BTreeSet<&'static str>)>;

impl UpstreamBase {
    pub(super) fn read(repo: &Repo<'_>, updates: &[RefUpdate]) -> Result<Self, String> {
        let tips = mirror::upstreams_tips(repo)?;
        let mut revisions = String::new();
        for update in updates.iter().filter(|update| !update.deletes()) {
            revisions.push_str(&format!("{}\n", update.new));
        }
        revisions.extend(tips.commits.iter().map(|id| format!("^{id}\n")));
        let listed = repo.ok(&["rev-list", "--boundary", "--stdin"], Some(revisions))?;
        let listed = String::from_utf8_lossy(&listed);
        let boundary = listed.lines().filter_map(|line| line.strip_prefix('-'));
        let boundary = boundary.take(MAX_COMMITS).map(ObjectId::parse).collect::<Result<BTreeSet<_>, _>>();
        let mut commits = boundary.map_err(|error| format!("git rev-list: {error}"))?;
        commits.extend(tips.head);
        let mut base = Self::default();
        for commit in &commits {
            base.add(repo, commit)?;
        }
        Ok(base)
    }

    fn add(&mut self, repo: &Repo<'_>, commit: &ObjectId) -> Result<(), String> {
        let broken = || "git listed a tree in a way the gate does not know".to_owned();
        let root = repo.ok(&["rev-parse", "--verify", &format!("{commit}^{{tree}}")], None)?;
        let id = |text: &str| ObjectId::parse(text).map_err(|_| broken());
        let root = id(String::from_utf8_lossy(&root).trim())?;
        self.entries.push(BaseEntry { path: vec![], object: Object { id: root, kind: ObjectKind::Tree, size: 0 } });
        let listed = repo.ok(&["ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit.as_str()], None)?;
        for line in listed.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
            let tab = line.iter().position(|byte| *byte == b'\t').ok_or_else(broken)?;
            let words = String::from_utf8_lossy(&line[..tab]).into_owned();
            let words: Vec<&str> = words.split_ascii_whitespace().collect();
            let [_, kind, named, size] = words[..] else { return Err(broken()) };
            let kind = match kind {
                "blob" => ObjectKind::Blob,
                "tree" => ObjectKind::Tree,
                _ => continue,
            };
            let object = Object { id: id(named)?, kind, size: size.parse().unwrap_or_default() };
            self.entries.push(BaseEntry { path: line[tab + 1..].to_vec(), object });
        }
        Ok(())
    }

    /// What may have the same findings as these new objects: what stands at their paths, what the same commits delete, and
    /// whatever has the very bytes in it.
    pub(super) fn candidates(
        &self,
        repo: &Repo<'_>,
        changes: &Changes,
        objects: &BTreeSet<usize>,
        wanted: &BTreeSet<&Matched>,
    ) -> Result<Candidates, String> {
        let mut candidates = Candidates::new();
        let mut left = MAX_CANDIDATE_BYTES;
        let ids: BTreeSet<&ObjectId> = objects.iter().map(|index| &changes.objects[*index].id).collect();
        let here: Vec<_> = changes.paths.iter().filter(|change| ids.contains(&change.new.id)).collect();
        let paths: BTreeSet<&[u8]> = here.iter().map(|change| &change.path[..]).collect();
        let commits: BTreeSet<usize> = here.iter().map(|change| change.commit).collect();
        let deleted = changes.paths.iter().filter(|change| commits.contains(&change.commit) && !change.new.is_there());
        let deleted: BTreeSet<&ObjectId> = deleted.map(|change| &change.old.id).take(MAX_DELETED).collect();
        for entry in self.entries.iter().filter(|entry| entry.object.kind == ObjectKind::Blob) {
            if paths.contains(&entry.path[..]) || deleted.contains(&entry.object.id) {
                entry.join(&mut candidates, &mut left);
            }
        }
        let search = AhoCorasick::new(wanted.iter().map(|matched| matched.bytes()));
        let search = search.map_err(|error| format!("the findings can't be looked for: {error}"))?;
        self.with_names(&search, &mut candidates, &mut left);
        self.with_bytes(repo, &search, &mut candidates, &mut left)?;
        // The size of a tree is in no list.
        let ids: Vec<ObjectId> = candidates.keys().cloned().collect();
        for object in kinds(repo, &ids)? {
            candidates.entry(object.id.clone()).and_modify(|(one, _)| *one = object);
        }
        Ok(candidates)
    }

    /// Directories with the bytes in a name.
    fn with_names(&self, search: &AhoCorasick, candidates: &mut Candidates, left: &mut u64) {
        let cut = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/');
        let name = |path: &'_ [u8]| cut(path).map_or(0, |slash| slash + 1);
        let found = self.entries.iter().filter(|entry| search.is_match(&entry.path[name(&entry.path)..]));
        let parents: BTreeSet<&[u8]> = found.map(|entry| &entry.path[..cut(&entry.path).unwrap_or(0)]).collect();
        for entry in self.entries.iter().filter(|entry| entry.object.kind == ObjectKind::Tree) {
            if parents.contains(&entry.path[..]) {
                entry.join(candidates, left);
            }
        }
    }

    /// Blobs with the bytes in them.
    fn with_bytes(
        &self,
        repo: &Repo<'_>,
        search: &AhoCorasick,
        candidates: &mut Candidates,
        left: &mut u64,
    ) -> Result<(), String> {
        let (mut seen, mut most) = (BTreeSet::new(), MAX_SEARCHED);
        let blobs = self.entries.iter().filter(|entry| {
            let Object { id, kind, size } = &entry.object;
            let fits = *kind == ObjectKind::Blob && *size <= MAX_SEARCHED_BLOB.min(most) && seen.insert(id);
            most -= if fits { *size } else { 0 };
            fits
        });
        let blobs: Vec<&BaseEntry> = blobs.collect();
        let objects: Vec<Object> = blobs.iter().map(|entry| entry.object.clone()).collect();
        let mut alike = BTreeMap::new();
        read_all(repo, &objects, |index, bytes| {
            let found: BTreeSet<_> = search.find_overlapping_iter(bytes).map(|found| found.pattern()).collect();
            for pattern in found {
                let count: &mut usize = alike.entry(pattern).or_default();
                *count += 1;
                if *count <= MAX_ALIKE {
                    blobs[index].join(candidates, left);
                }
            }
            Ok(())
        })
    }
}

impl BaseEntry {
    fn join(&self, candidates: &mut Candidates, left: &mut u64) {
        let Object { id, size, .. } = &self.object;
        if !candidates.contains_key(id) {
            let Some(rest) = left.checked_sub(*size) else { return };
            *left = rest;
        }
        let (_, endings) = candidates.entry(id.clone()).or_insert_with(|| (self.object.clone(), BTreeSet::new()));
        endings.insert(telling_ending(&self.path).unwrap_or_default());
    }
}
