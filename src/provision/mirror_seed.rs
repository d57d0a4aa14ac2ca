//! Packs what the host's checkout already has of the upstream, for the gate: `gate::seed` of `crates/bottle-sidecars` takes
//! it in. Only what upstream has given to the checkout is in it: nothing that was committed here alone.

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
    // Without `origin/HEAD`, which is another name for one of them.
    let format = "--format=%(if)%(symref)%(then)%(else)%(objectname) %(refname:lstrip=3)%(end)";
    let listed = run(checkout, &["for-each-ref", format, "refs/remotes/origin"], vec![]).await?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let branches = listed.lines().filter(|line| !line.is_empty()).map(branch).collect::<Result<Vec<_>, _>>()?;
    if branches.is_empty() || is_partial(checkout).await? {
        return Ok(None);
    }
    std::fs::create_dir_all(scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let packed = match git.history {
        None => all(checkout, scratch, &branches).await,
        Some(history) => newest((git, history), checkout, scratch, &branches).await,
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
    let tips: String = branches.iter().map(|(id, _)| format!("{id}\n")).collect();
    let prefix = text(scratch)?.to_owned() + "/pack";
    run(checkout, &["pack-objects", "-q", "--revs", "--delta-base-offset", &prefix], tips.into_bytes()).await?;
    Ok(branches.to_vec())
}

/// Packs so many generations of the branches that the run is about, of a checkout that has more or less; gives those that are packed.
async fn newest<'a>(
    (git, history): (&GitPlan, NonZeroU32),
    checkout: &Path,
    scratch: &Path,
    branches: &[Branch<'a>],
) -> Result<Vec<Branch<'a>>, String> {
    let is_wanted = |name: &str| git.base.as_deref() == Some(name) || git.branch == name;
    let wanted: Vec<Branch<'_>> = branches.iter().filter(|(_, name)| is_wanted(name)).cloned().collect();
    let Some((first, _)) = wanted.first() else { return Ok(vec![]) };
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
