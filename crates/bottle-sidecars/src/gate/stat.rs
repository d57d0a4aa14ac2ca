//! Lines that the new commits add and remove, as git counts them, and which files they make binary.

use std::collections::{BTreeMap, BTreeSet};

use bottle_policy::gate::patch::PatchSize;
use bottle_types::git::ObjectId;

use super::changes::{Changes, ObjectKind, PathChange, Repo, kinds, read_all};
use super::lfs::pointers_among;

/// git takes a file for binary that has a zero byte among so many at its beginning.
pub(super) const LOOK: usize = 8000;

/// What happens to one path, in all new commits together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PathStat {
    pub(super) added: u64,
    pub(super) removed: u64,
    /// Some commit has it as a binary file.
    pub(super) is_binary: bool,
    /// Some commit makes it binary.
    pub(super) becomes_binary: bool,
}

/// All paths that the new commits change.
pub(super) type Stats<'a> = BTreeMap<&'a [u8], PathStat>;

/// Counts them; a merge changes what it has otherwise than each of its parents.
pub(super) fn stats<'a>(repo: &Repo<'_>, changes: &'a Changes) -> Result<Stats<'a>, String> {
    let own = own_changes(changes);
    let counted = numstat(repo, changes)?;
    let mut stats = Stats::new();
    let (mut binary, mut lfs): (Vec<&PathChange>, Vec<&PathChange>) = (vec![], vec![]);
    for change in own {
        let stat = stats.entry(&change.path[..]).or_default();
        match counted.get(&(change.commit, change.parent, change.path.clone())) {
            Some(Some((added, removed))) => {
                stat.added += added;
                stat.removed += removed;
                if changes.lfs.is_binary(&change.new.id) {
                    stat.is_binary = true;
                    lfs.push(change);
                }
            }
            Some(None) => {
                stat.is_binary = true;
                binary.push(change);
            }
            // Only the mode is another.
            None if change.old.id == change.new.id => {}
            None => return Err("git did not count the lines of every change".to_owned()),
        }
    }
    let olds = |changes: &[&'a PathChange]| -> BTreeSet<&'a ObjectId> {
        changes.iter().filter(|change| change.old.is_there()).map(|change| &change.old.id).collect()
    };
    let were = binary_among(repo, &olds(&binary))?;
    for change in binary.iter().filter(|change| change.new.is_there() && !were.contains(&change.old.id)) {
        stats.entry(&change.path[..]).or_default().becomes_binary = true;
    }
    // What an older pointer stands for is not here: such a file stays what it was.
    let mut were = pointers_among(repo, &olds(&lfs))?;
    were.extend(binary_among(repo, &olds(&lfs))?);
    for change in lfs.iter().filter(|change| !were.contains(&change.old.id)) {
        stats.entry(&change.path[..]).or_default().becomes_binary = true;
    }
    Ok(stats)
}

/// The size of the whole patch.
pub(super) fn size(stats: &Stats<'_>) -> PatchSize {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    PatchSize {
        files: count(stats.len()),
        lines: stats.values().map(|stat| stat.added.saturating_add(stat.removed)).fold(0, u64::saturating_add),
        new_binaries: count(stats.values().filter(|stat| stat.becomes_binary).count()),
    }
}

/// A line for each path, as `git diff --stat` has them.
pub(super) fn lines(stats: &Stats<'_>) -> Vec<String> {
    let line = |(path, stat): (&&[u8], &PathStat)| {
        let binary = if stat.is_binary { " binary" } else { "" };
        format!("{} | +{} -{}{binary}", String::from_utf8_lossy(path), stat.added, stat.removed)
    };
    stats.iter().map(line).collect()
}

/// Changes of what is no directory; of those of a merge the ones against its first parent that it has with every parent.
pub(super) fn own_changes(changes: &Changes) -> Vec<&PathChange> {
    let is_file = |change: &&PathChange| !change.new.is_tree() && (change.new.is_there() || !change.old.is_tree());
    let mut with: BTreeMap<(usize, &[u8]), usize> = BTreeMap::new();
    for change in changes.paths.iter().filter(is_file) {
        *with.entry((change.commit, &change.path)).or_default() += 1;
    }
    let is_own = |change: &&PathChange| {
        let parents = changes.commits[change.commit].parents.len().max(1);
        change.parent == 0 && with.get(&(change.commit, &change.path[..])) == Some(&parents)
    };
    changes.paths.iter().filter(is_file).filter(is_own).collect()
}

/// Lines added and removed, by commit, parent and path; none for a binary file.
type Counted = BTreeMap<(usize, usize, Vec<u8>), Option<(u64, u64)>>;

fn numstat(repo: &Repo<'_>, changes: &Changes) -> Result<Counted, String> {
    let (mut pairs, mut input) = (vec![], String::new());
    for (commit, one) in changes.commits.iter().enumerate() {
        pairs.push((commit, 0));
        let parent = one.parents.first().map(|parent| format!(" {parent}")).unwrap_or_default();
        input.push_str(&format!("{}{parent}\n", one.id));
    }
    let options = ["-r", "--root", "--always", "--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv"];
    let listed = repo.ok(&[&["diff-tree", "--stdin"], &options[..]].concat(), Some(input))?;
    let broken = || "git counted the lines of a commit in a way the gate does not know".to_owned();
    let (mut headers, mut here, mut counted) = (pairs.into_iter(), None, Counted::new());
    for field in listed.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
        let mut words = field.splitn(3, |byte| *byte == b'\t');
        let (Some(added), Some(removed), Some(path)) = (words.next(), words.next(), words.next()) else {
            let (commit, parent) = headers.next().ok_or_else(broken)?;
            if field != changes.commits[commit].id.as_str().as_bytes() {
                return Err(broken());
            }
            here = Some((commit, parent));
            continue;
        };
        let (commit, parent) = here.ok_or_else(broken)?;
        let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
        let lines = match (added, removed) {
            (b"-", b"-") => None,
            (added, removed) => Some((number(added).ok_or_else(broken)?, number(removed).ok_or_else(broken)?)),
        };
        counted.insert((commit, parent, path.to_vec()), lines);
    }
    if headers.next().is_some() { Err(broken()) } else { Ok(counted) }
}

/// Those of some blobs that git takes for binary.
fn binary_among(repo: &Repo<'_>, ids: &BTreeSet<&ObjectId>) -> Result<BTreeSet<ObjectId>, String> {
    let ids: Vec<ObjectId> = ids.iter().map(|id| (*id).clone()).collect();
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut blobs = kinds(repo, &ids)?;
    blobs.retain(|object| object.kind == ObjectKind::Blob);
    let mut binary = BTreeSet::new();
    read_all(repo, &blobs, |at, bytes| {
        if bytes[..bytes.len().min(LOOK)].contains(&0) {
            binary.insert(blobs[at].id.clone());
        }
        Ok(())
    })?;
    Ok(binary)
}
