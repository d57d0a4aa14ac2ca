//! Push policy: refs, deletions, rewrites, protected paths, submodules, sizes. Scanning is elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use bottle_policy::gate::commits::CommitJudge;
use bottle_policy::gate::patch::PatchRules;
use bottle_policy::gate::paths::ProtectedPaths;
use bottle_policy::gate::refs::RefRules;
use bottle_types::git::ObjectId;
use bottle_types::units::ByteSize;

use super::changes::{Changes, Object, ObjectKind, PathChange, RefUpdate, Repo, TreeEntry, of_others, read_all};
use super::push::AskedUpdate;
use super::{lfs, mirror, signing, stat};

/// Why a push is refused, in a line: what, where, which rule, what to do.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// Index of the ref; none: the whole push.
    pub(super) update: Option<usize>,
    /// The path it is about, in the agent's own words; a path may itself be a secret.
    pub(super) about: Option<String>,
    /// The rest, in ours.
    pub(super) why: String,
}

impl Refusal {
    /// Refuses the whole push.
    pub(super) fn all(why: String) -> Self {
        Self { update: None, about: None, why }
    }

    fn one(update: usize, why: impl Into<String>) -> Self {
        Self { update: Some(update), about: None, why: why.into() }
    }

    pub(super) fn about(about: String, why: String) -> Self {
        Self { update: None, about: Some(about), why }
    }

    /// The line.
    pub(super) fn text(&self) -> String {
        self.about.as_ref().map_or_else(|| self.why.clone(), |about| format!("{about} {}", self.why))
    }
}

/// No more refs than this in one push.
pub(super) const MAX_REFS: usize = 64;
/// No more reasons than this of one kind; the rest is counted.
pub(super) const MAX_REASONS: usize = 10;

/// Judges a push by the names of its refs alone; gives the updates, or the refusals.
pub(super) fn names(repo: &Repo<'_>, asked: &[AskedUpdate]) -> Result<Result<Vec<RefUpdate>, Vec<Refusal>>, String> {
    if asked.len() > MAX_REFS {
        let why = format!("{} refs in one push; push at most {MAX_REFS} at a time", asked.len());
        return Ok(Err(vec![Refusal::all(why)]));
    }
    let rules = RefRules::new(&repo.upstream.push).map_err(|error| error.to_string())?;
    let (mut updates, mut refusals) = (vec![], vec![]);
    for (index, AskedUpdate { old, new, name }) in asked.iter().enumerate() {
        match rules.judge_update(name, new.is_null()) {
            Err(refusal) => refusals.push(Refusal::one(index, refusal.to_string())),
            Ok(allowed) => updates.push(RefUpdate { old: old.clone(), new: new.clone(), name: allowed.name }),
        }
    }
    Ok(if refusals.is_empty() { Ok(updates) } else { Err(refusals) })
}

/// Judges a push before any content is read: kinds, sizes, rewrites, paths.
pub(super) fn changes(repo: &Repo<'_>, updates: &[RefUpdate], changes: &Changes) -> Result<Vec<Refusal>, String> {
    let mut refusals = sizes(repo, changes);
    refusals.extend(tips(repo, updates)?);
    refusals.extend(protected(repo, changes)?);
    refusals.extend(submodules(repo, changes)?);
    refusals.extend(lfs::judge_config(repo, changes)?);
    refusals.extend(patch(repo, changes)?);
    refusals.extend(commits(repo, changes)?);
    refusals.extend(signing::judge(repo, changes)?);
    Ok(refusals)
}

fn sizes(repo: &Repo<'_>, changes: &Changes) -> Vec<Refusal> {
    let push = &repo.upstream.push;
    let mut refusals = vec![];
    let positions = changes.positions();
    let large = changes.objects.iter().filter(|object| object.size > push.max_blob_bytes.0);
    for object in large.take(MAX_REASONS) {
        let gate = positions.get(&object.id).and_then(|(_, paths)| paths.first());
        let gate =
            gate.map_or_else(|| format!("object {}", object.id.short()), |path| String::from_utf8_lossy(path).into());
        let (size, most) = (ByteSize(object.size), push.max_blob_bytes);
        let why = format!("is {size} bytes large, and {most} is allowed; leave it out of the commit");
        refusals.push(Refusal::about(gate, why));
    }
    let all = changes.objects.iter().map(|object| object.size).sum::<u64>().saturating_add(changes.lfs.bytes());
    if all > push.max_push_bytes.0 {
        let (all, most) = (ByteSize(all), push.max_push_bytes);
        refusals
            .push(Refusal::all(format!("the push is {all} bytes unpacked, and {most} is allowed; push it in parts")));
    }
    refusals
}

/// A branch is a commit, and only grows, unless this run made it or a person has asked for it to be rewritten.
fn tips(repo: &Repo<'_>, updates: &[RefUpdate]) -> Result<Vec<Refusal>, String> {
    let mut refusals = vec![];
    let made = mirror::made(repo.gate, repo.upstream)?;
    for (index, update) in updates.iter().enumerate().filter(|(_, update)| !update.deletes()) {
        let kind = repo.ok(&["cat-file", "-t", update.new.as_str()], None)?;
        if update.name.branch().is_some() && kind != b"commit\n" {
            refusals.push(Refusal::one(index, "a branch has to be a commit"));
        } else if update.name.tag().is_some() && !update.creates() {
            refusals.push(Refusal::one(index, "a tag that is there can't be moved; make a new one"));
        } else if let Some(why) = other_than_asked(repo, update) {
            refusals.push(Refusal::one(index, why));
        } else if !update.creates()
            && !made.contains_key(&update.name)
            && !repo.is_fast_forward(&update.old, &update.new)?
            && !may_be_rewritten(repo, update)?
        {
            let advice = "upstream had it before this run; fetch, rebase on it and push again without force";
            refusals.push(Refusal::one(index, format!("not a fast-forward of {}: {advice}", update.old.short())));
        }
    }
    Ok(refusals)
}

/// Why a branch that this run only puts back to one commit may not be pushed like this.
fn other_than_asked(repo: &Repo<'_>, update: &RefUpdate) -> Option<String> {
    let rewrite = repo.upstream.push.rewrite.as_ref().filter(|rewrite| rewrite.name == update.name)?;
    let to = rewrite.to.as_ref().filter(|to| (&rewrite.from, *to) != (&update.old, &update.new))?;
    Some(format!("this run moves it from {} to {} and does nothing else", rewrite.from.short(), to.short()))
}

/// Whether a person has asked for this branch to be rewritten, and it is where it was then or where this run has pushed it.
fn may_be_rewritten(repo: &Repo<'_>, update: &RefUpdate) -> Result<bool, String> {
    match repo.upstream.push.rewrite.as_ref().filter(|rewrite| rewrite.name == update.name) {
        None => Ok(false),
        Some(rewrite) if rewrite.from == update.old => Ok(true),
        Some(_) => mirror::has_pushed(repo.gate, repo.upstream, &update.name, &update.old),
    }
}

/// Protected paths, in every new commit against every parent.
fn protected(repo: &Repo<'_>, changes: &Changes) -> Result<Vec<Refusal>, String> {
    let rules = ProtectedPaths::new(&repo.upstream.push).map_err(|error| error.to_string())?;
    if rules.is_empty() {
        return Ok(vec![]);
    }
    let mut refusals = vec![];
    let mut merged: BTreeMap<(usize, &[u8]), Vec<&PathChange>> = BTreeMap::new();
    for change in &changes.paths {
        let is_dir = change.new.is_tree() || (!change.new.is_there() && change.old.is_tree());
        let Some(glob) = rules.protects(&change.path()).filter(|_| !is_dir) else { continue };
        let commit = &changes.commits[change.commit];
        if commit.parents.len() > 1 {
            merged.entry((change.commit, &change.path)).or_default().push(change);
        } else {
            refusals.push(protected_refusal(&commit.id, change.path(), glob));
        }
    }
    for ((commit, _), versions) in merged {
        let commit = &changes.commits[commit];
        if !is_clean_merge(repo, &commit.parents, &versions)? {
            let path = versions[0].path();
            let glob = rules.protects(&path).unwrap_or_default().to_owned();
            refusals.push(protected_refusal(&commit.id, path, &glob));
        }
    }
    let more = refusals.len().saturating_sub(MAX_REASONS);
    refusals.truncate(MAX_REASONS);
    if more > 0 {
        refusals.push(Refusal::all(format!("and {more} more changes of protected paths")));
    }
    Ok(refusals)
}

fn protected_refusal(commit: &ObjectId, path: String, glob: &str) -> Refusal {
    let advice = "leave that path as upstream has it in every commit, and push again";
    Refusal::about(path, format!("in commit {} is protected ({glob}): {advice}", commit.short()))
}

/// Tells whether a merge has at a path what git makes of it by itself: what changed on one side alone since the one common
/// ancestor. So merging upstream's newer version in passes, and a merge that changes the path, or quietly keeps an old
/// version of it, does not. Anything less clear than two parents and one ancestor counts as a change.
fn is_clean_merge(repo: &Repo<'_>, parents: &[ObjectId], versions: &[&PathChange]) -> Result<bool, String> {
    let [first, second] = parents else { return Ok(false) };
    let result = &versions[0].new;
    let side = |number: usize| {
        versions.iter().find(|change| change.parent == number).map_or(result, |change| &change.old).clone()
    };
    let (first_side, second_side) = (side(0), side(1));
    if first_side == second_side {
        return Ok(*result == first_side);
    }
    let bases = repo.ok(&["merge-base", "--all", first.as_str(), second.as_str()], None)?;
    let bases = String::from_utf8_lossy(&bases).into_owned();
    let [base] = bases.lines().collect::<Vec<_>>()[..] else { return Ok(false) };
    let base = ObjectId::parse(base).map_err(|error| format!("git merge-base: {error}"))?;
    let base = entry_at(repo, &base, &versions[0].path)?;
    Ok((first_side == base && *result == second_side) || (second_side == base && *result == first_side))
}

pub(super) fn entry_at(repo: &Repo<'_>, commit: &ObjectId, path: &[u8]) -> Result<TreeEntry, String> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut command = repo.git();
    command.args(["--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit.as_str(), "--"]);
    command.arg(std::ffi::OsStr::from_bytes(path));
    let listed = super::process::git_ok(command, None)?;
    let Some(tab) = listed.iter().position(|byte| *byte == b'\t') else {
        return Ok(TreeEntry { mode: 0, id: commit.null_alike() });
    };
    let words = String::from_utf8_lossy(&listed[..tab]).into_owned();
    let mut words = words.split(' ');
    let mode = words.next().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let (Some(mode), Some(_), Some(id)) = (mode, words.next(), words.next()) else {
        return Err("git ls-tree gave an answer that the gate does not know".to_owned());
    };
    let id = ObjectId::parse(id).map_err(|error| format!("git ls-tree: {error}"))?;
    Ok(TreeEntry { mode, id })
}

/// How much the new commits change.
fn patch(repo: &Repo<'_>, changes: &Changes) -> Result<Vec<Refusal>, String> {
    let rules = PatchRules::new(&repo.upstream.push);
    if !rules.limits_size() {
        return Ok(vec![]);
    }
    let size = stat::size(&stat::stats(repo, changes)?);
    Ok(rules.size(size).into_iter().map(Refusal::all).collect())
}

/// Whose the run's commits are, what their messages say, and their trailers.
fn commits(repo: &Repo<'_>, changes: &Changes) -> Result<Vec<Refusal>, String> {
    let judge = CommitJudge::new(&repo.upstream.push.commits).map_err(|error| error.to_string())?;
    if !judge.has_rules() {
        return Ok(vec![]);
    }
    let of_others = of_others(repo)?;
    let is_judged = |object: &&Object| match object.kind {
        ObjectKind::Commit => !of_others.contains(&object.id),
        ObjectKind::Tag => true,
        ObjectKind::Tree | ObjectKind::Blob => false,
    };
    let judged: Vec<Object> = changes.objects.iter().filter(is_judged).cloned().collect();
    let mut wrong = vec![];
    read_all(repo, &judged, |at, bytes| {
        let Object { id, kind, .. } = &judged[at];
        match kind {
            ObjectKind::Tag => wrong.extend(judge.tag(id.short(), bytes)),
            _ => wrong.extend(judge.commit(id.short(), bytes).into_iter().map(|broken| broken.why)),
        }
        Ok(())
    })?;
    let more = wrong.len().saturating_sub(MAX_REASONS);
    wrong.truncate(MAX_REASONS);
    if more > 0 {
        wrong.push(format!("and {more} more rules that commits of this push break"));
    }
    Ok(wrong.into_iter().map(Refusal::all).collect())
}

/// Submodules lead to declared upstreams only: else a later clone fetches from wherever the agent wrote.
fn submodules(repo: &Repo<'_>, changes: &Changes) -> Result<Vec<Refusal>, String> {
    // A path that a merge has as one of its parents has it was judged there, or is upstream's own.
    let mut differs: BTreeMap<(usize, &[u8]), usize> = BTreeMap::new();
    let concerns =
        |change: &&PathChange| change.new.is_gitlink() || (change.path == b".gitmodules" && change.new.is_there());
    for change in changes.paths.iter().filter(concerns) {
        *differs.entry((change.commit, &change.path)).or_default() += 1;
    }
    let mut wanted: BTreeMap<usize, BTreeSet<&[u8]>> = BTreeMap::new();
    for ((commit, path), count) in differs {
        if count >= changes.commits[commit].parents.len().max(1) {
            wanted.entry(commit).or_default().insert(path);
        }
    }
    let mut refusals = vec![];
    for (commit, paths) in wanted {
        let id = &changes.commits[commit].id;
        let refuse = |what: &str| {
            Refusal::all(format!("{what} in commit {}: submodules can only be declared upstreams", id.short()))
        };
        match gitmodules(repo, id)? {
            Err(what) => refusals.push(refuse(what)),
            Ok(declared) => {
                let lost = paths.iter().any(|path| *path != b".gitmodules" && !declared.contains(*path));
                refusals.extend(lost.then(|| refuse("a submodule without a URL in .gitmodules")));
            }
        }
    }
    refusals.truncate(MAX_REASONS);
    Ok(refusals)
}

/// The paths that a commit's `.gitmodules` gives a URL; the inner error is what is wrong with one.
fn gitmodules(repo: &Repo<'_>, commit: &ObjectId) -> Result<Result<BTreeSet<Vec<u8>>, &'static str>, String> {
    let entry = entry_at(repo, commit, b".gitmodules")?;
    if !entry.is_there() {
        return Ok(Ok(BTreeSet::new()));
    }
    let mut command = repo.git();
    command.args(["config", "--no-includes", "--null", "--list", "--blob", entry.id.as_str()]);
    let output = super::process::run(command, None, super::process::ProcessLimits::local())
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Ok(Err(".gitmodules that git can't read"));
    }
    let (mut urls, mut paths) = (BTreeSet::new(), vec![]);
    for item in output.stdout.split(|byte| *byte == 0).filter(|item| !item.is_empty()) {
        let (key, value) = item.split_at(item.iter().position(|byte| *byte == b'\n').unwrap_or(item.len()));
        let value = value.strip_prefix(b"\n").unwrap_or(value);
        let Some(key) = key.strip_prefix(b"submodule.") else { continue };
        if let Some(name) = key.strip_suffix(b".url") {
            let url = String::from_utf8_lossy(value);
            let upstreams = &repo.gate.policy.upstreams;
            if !upstreams.iter().any(|upstream| upstream.url.is_reached_by(&url, &repo.upstream.url)) {
                return Ok(Err("a URL of no declared upstream in .gitmodules"));
            }
            urls.insert(name.to_vec());
        } else if let Some(name) = key.strip_suffix(b".path") {
            paths.push((name.to_vec(), value.to_vec()));
        }
    }
    Ok(Ok(paths.into_iter().filter(|(name, _)| urls.contains(name)).map(|(_, path)| path).collect()))
}

/// How many commits, objects and bytes one ref brings.
pub(super) fn weigh(changes: &Changes, update: usize) -> (u64, u64, u64) {
    let needed = changes.of_update.get(update).map(Vec::as_slice).unwrap_or_default();
    let objects = || needed.iter().map(|index| &changes.objects[*index]);
    let commits = objects().filter(|object| object.kind == ObjectKind::Commit).count();
    (commits as u64, needed.len() as u64, objects().map(|object| object.size).sum())
}
