//! Packs what the host's checkout already has of the upstream, for the gate: `gate::seed` of `crates/bottle-sidecars` takes
//! it in. Only what upstream has given to the checkout is in it: nothing that was committed here alone.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use bottle_plan::plan::GitPlan;
use bottle_types::door;
use bottle_types::git::{ObjectId, RefName};

use crate::backend::Tree;
use crate::process::Program;

/// Packing is mostly copying; what takes longer than this saves no time.
const PACK_TIMEOUT: Duration = Duration::from_secs(60);
/// The archive is made in memory.
const MAX_SEED_BYTES: u64 = 512 << 20;

/// git's list of the commits whose parents a repository has not.
const SHALLOW: &str = "shallow";

/// Packs it, with `scratch` for its files in between; the error says why there is none.
pub(crate) async fn pack(git: &GitPlan, scratch: &Path) -> Result<Option<Tree>, String> {
    let Some(checkout) = git.seed.as_deref().map(Path::new) else { return Ok(None) };
    // `origin/HEAD` is another name for one of them: upstream's default branch when it was cloned.
    let format = "--format=%(if)%(symref)%(then)-%(symref:lstrip=3)%(else)%(objectname) %(refname:lstrip=3)%(end)";
    let listed = run(checkout, &["for-each-ref", format, "refs/remotes/origin"], vec![]).await?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let default = listed.lines().find_map(|line| line.strip_prefix('-'));
    let branches = listed.lines().filter(|line| !line.starts_with('-')).map(branch).collect::<Result<Vec<_>, _>>()?;
    if branches.is_empty() || is_partial(checkout).await? {
        return Ok(None);
    }
    std::fs::create_dir_all(scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let packed = match git.history {
        None => all(checkout, scratch, &branches).await,
        Some(history) => {
            let base = git.base.as_deref().or(default);
            let wanted = branches.into_iter().filter(|(_, name)| base == Some(name) || git.branch == *name).collect();
            newest(wanted, history, checkout, scratch).await
        }
    };
    let tree = packed.and_then(|packed| match &packed[..] {
        [] => Ok(None),
        branches => read(scratch, git, branches).map(Some),
    });
    let _ = std::fs::remove_dir_all(scratch);
    tree
}

type Branch<'a> = (ObjectId, &'a str);

/// Packs all that the branches reach; gives those that are packed.
async fn all<'a>(checkout: &Path, scratch: &Path, branches: &[Branch<'a>]) -> Result<Vec<Branch<'a>>, String> {
    // One that has not all of its own history would have to fetch it to pack it.
    if run(checkout, &["rev-parse", "--is-shallow-repository"], vec![]).await? != b"false\n" {
        return Ok(vec![]);
    }
    pack_objects(branches, checkout, scratch).await?;
    Ok(branches.to_vec())
}

async fn pack_objects(branches: &[Branch<'_>], checkout: &Path, scratch: &Path) -> Result<(), String> {
    let tips: String = branches.iter().map(|(id, _)| format!("{id}\n")).collect();
    let prefix = text(scratch)?.to_owned() + "/pack";
    run(checkout, &["pack-objects", "-q", "--revs", "--delta-base-offset", &prefix], tips.into_bytes()).await.map(drop)
}

/// Where the history of a shallow checkout ends, a line for each commit; none if it has more than that.
async fn ends(branches: &[Branch<'_>], history: NonZeroU32, checkout: &Path) -> Result<Option<String>, String> {
    let path = run(checkout, &["rev-parse", "--git-path", SHALLOW], vec![]).await?;
    let path = checkout.join(String::from_utf8_lossy(&path).trim_end_matches('\n'));
    let ends = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        ends => ends.map_err(|error| format!("{}: {error}", path.display()))?,
    };
    let mut found = BTreeSet::new();
    for (tip, _) in branches {
        // There are no more generations than commits.
        let commits = run(
            checkout,
            &["rev-list", &format!("--max-count={}", history.get().saturating_add(1)), tip.as_str()],
            vec![],
        )
        .await?;
        let commits = String::from_utf8_lossy(&commits).into_owned();
        if commits.lines().count() > usize::try_from(history.get()).unwrap_or(usize::MAX) {
            return Ok(None);
        }
        found.extend(commits.lines().filter(|commit| ends.lines().any(|end| end == *commit)).map(str::to_owned));
    }
    Ok(Some(found.iter().map(|end| format!("{end}\n")).collect()))
}

/// Packs so many generations of the branches that the run is about, of a checkout that has more or less; gives those that are packed.
async fn newest<'a>(
    wanted: Vec<Branch<'a>>,
    history: NonZeroU32,
    checkout: &Path,
    scratch: &Path,
) -> Result<Vec<Branch<'a>>, String> {
    let Some((first, _)) = wanted.first() else { return Ok(vec![]) };
    if let Some(ends) = ends(&wanted, history, checkout).await? {
        pack_objects(&wanted, checkout, scratch).await?;
        if !ends.is_empty() {
            let file = scratch.join(SHALLOW);
            std::fs::write(&file, ends).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        return Ok(wanted);
    }
    // git leaves commits out in a fetch alone.
    let copy = scratch.join("copy");
    let format = format!("--object-format={}", first.object_format());
    run(scratch, &["init", "--quiet", "--bare", "--template=", &format, text(&copy)?], vec![]).await?;
    let depth = format!("--depth={history}");
    let options = ["-c", "fetch.unpackLimit=1", "--git-dir", text(&copy)?, "fetch", "--quiet", "--no-tags", &depth];
    let refspecs: Vec<String> =
        wanted.iter().map(|(_, name)| format!("+refs/remotes/origin/{name}:refs/heads/{name}")).collect();
    let mut words = [&options[..], &["--no-write-fetch-head", "--end-of-options", text(checkout)?]].concat();
    words.extend(refspecs.iter().map(String::as_str));
    run(scratch, &words, vec![]).await?;
    let io = |error: std::io::Error| format!("{}: {error}", copy.display());
    for entry in std::fs::read_dir(copy.join("objects/pack")).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.path().extension().is_some_and(|ending| ending == "pack" || ending == "idx") {
            std::fs::rename(entry.path(), scratch.join(entry.file_name())).map_err(io)?;
        }
    }
    let shallow = copy.join(SHALLOW);
    if shallow.exists() {
        std::fs::rename(shallow, scratch.join(SHALLOW)).map_err(io)?;
    }
    std::fs::remove_dir_all(&copy).map_err(io)?;
    Ok(wanted)
}

/// Whether it gets objects from elsewhere when they are needed, by a program that its configuration may name.
async fn is_partial(checkout: &Path) -> Result<bool, String> {
    let keys = r"^(extensions\.partialclone|remote\..*\.(promisor|partialclonefilter))$";
    let asked = Program::git(checkout, &["config", "--get-regexp", keys]).limit(PACK_TIMEOUT).run().await;
    match asked.map_err(|error| error.to_string())? {
        ended if ended.code == 0 => Ok(true),
        // git config(1): the key is nowhere.
        ended if ended.code == 1 => Ok(false),
        ended => Err(format!("git config failed: {}", ended.complaint())),
    }
}

async fn run(dir: &Path, args: &[&str], input: Vec<u8>) -> Result<Vec<u8>, String> {
    let ended = Program::git(dir, args).limit(PACK_TIMEOUT).input(input).run().await.map_err(|e| e.to_string())?;
    if ended.code == 0 { Ok(ended.stdout) } else { Err(format!("git failed to pack it: {}", ended.complaint())) }
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

/// A line of git's list: the commit that a branch of upstream's is at, and the branch.
fn branch(line: &str) -> Result<(ObjectId, &str), String> {
    let (id, branch) = line.split_once(' ').ok_or("git listed a branch without its commit")?;
    let id = ObjectId::parse(id).map_err(|error| format!("git for-each-ref: {error}"))?;
    let name = RefName::of_branch(branch).map_err(|error| format!("git for-each-ref: {error}"));
    name.map(|_| (id, branch))
}

fn read(scratch: &Path, git: &GitPlan, branches: &[Branch<'_>]) -> Result<Tree, String> {
    let branches: Vec<String> = branches.iter().map(|(id, branch)| format!("{id} {branch}")).collect();
    let io = |error: std::io::Error| format!("{}: {error}", scratch.display());
    let above = format!("{}/{}", door::STATE_DIR, door::SEED_DIR);
    let target = format!("{above}/{}", git.upstream);
    let mut tree = Tree::new().directory(&above, 0, 0o755).directory(&target, 0, 0o755);
    for entry in std::fs::read_dir(scratch).map_err(io)? {
        let entry = entry.map_err(io)?;
        let size = entry.metadata().map_err(io)?.len();
        if size > MAX_SEED_BYTES {
            return Err(format!("it is {} MiB large, and at most {} go along", size >> 20, MAX_SEED_BYTES >> 20));
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        tree = tree.file(format!("{target}/{name}"), 0, 0o444, std::fs::read(entry.path()).map_err(io)?);
    }
    // Last: with it the seed is whole.
    Ok(tree.file(format!("{target}/branches"), 0, 0o444, branches.join("\n")))
}

#[cfg(test)]
mod tests {
    use bottle_testkit::git_script as git;

    use super::*;
    use crate::forge::testing::issue;

    /// The seed's files by their names, without the packs' own.
    async fn seed(dir: &Path, history: Option<u32>, base: Option<&str>) -> Option<Vec<(String, String)>> {
        let mut git = issue().git.expect("a repository");
        (git.seed, git.base) = (Some(dir.join("checkout").display().to_string()), base.map(str::to_owned));
        git.history = history.map(|history| NonZeroU32::new(history).expect("a number"));
        let tree = pack(&git, &dir.join("scratch")).await.expect("packed")?;
        let mut files: Vec<_> = tree
            .files()
            .map(|(path, bytes)| {
                let name = path.rsplit('/').next().expect("a name");
                let ending =
                    name.strip_prefix("pack-").and_then(|rest| rest.split_once('.')).map_or(name, |(_, ending)| ending);
                let is_text = !matches!(ending, "pack" | "idx" | "rev");
                (ending.to_owned(), if is_text { String::from_utf8_lossy(bytes).into_owned() } else { String::new() })
            })
            .filter(|(name, _)| name != "rev")
            .collect();
        files.sort();
        Some(files)
    }

    #[tokio::test]
    async fn what_a_checkout_has_of_the_newest_history() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        git(
            dir,
            "git init -q -b main upstream; cd upstream; for n in one two three; do echo $n > $n; git add $n; git commit -qm $n; done; git branch beside",
        );
        let tip = git(dir, "git -C upstream rev-parse main");
        let before = git(dir, "git -C upstream rev-parse main~1");
        let clone = |options: &str| {
            git(
                dir,
                &format!(
                    "rm -rf checkout; git clone -q --no-local {options} ./upstream checkout; git -C checkout commit -q --allow-empty -m mine"
                ),
            )
        };
        let branches = format!("{tip} main");
        let expected = |shallow: Option<&str>| {
            let files = [("branches", Some(&*branches)), ("idx", Some("")), ("pack", Some("")), ("shallow", shallow)];
            Some(files.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.to_owned()))).collect())
        };
        let (cut, cut_before) = (format!("{tip}\n"), format!("{before}\n"));
        // (The clone's options, so many generations, the base or upstream's default branch, where the history ends.)
        for (options, history, base, shallow) in [
            ("--depth 1", 1, Some("main"), Some(&cut)),
            ("--depth 1", 1, None, Some(&cut)),
            ("--depth 1", 9, None, Some(&cut)),
            ("--depth 2", 2, None, Some(&cut_before)),
            ("--depth 2", 1, None, Some(&cut)),
            ("--depth 9", 9, None, None),
            ("", 2, None, Some(&cut_before)),
            ("", 4, None, None),
        ] {
            clone(options);
            let found = seed(dir, Some(history), base).await;
            assert_eq!(found, expected(shallow.map(String::as_str)), "{options} {history} {base:?}");
        }
        // A branch that it does not have, a checkout with a part of the history for one that is to have all, and one that has all.
        assert_eq!(seed(dir, Some(1), Some("gone")).await, None);
        clone("--depth 1");
        assert_eq!(seed(dir, None, None).await, None);
        clone("");
        let all = seed(dir, None, None).await.expect("all of it");
        assert_eq!(all.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["branches", "idx", "pack"]);
        assert_eq!(all[0].1, format!("{tip} beside\n{tip} main"));
    }
}
