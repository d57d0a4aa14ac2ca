//! Packs what the host's checkout already has of the upstream, for the gate: `gate::seed` of `crates/bottle-sidecars` takes
//! it in. Only what upstream has given to the checkout is in it: nothing that was committed here alone.

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

/// Packs it, with `scratch` for its files in between; the error says why there is none.
pub(crate) async fn pack(git: &GitPlan, scratch: &Path) -> Result<Option<Tree>, String> {
    let Some(checkout) = git.seed.as_deref().map(Path::new) else { return Ok(None) };
    let run = async |args: &[&str], input: Vec<u8>| {
        let ended =
            Program::git(checkout, args).limit(PACK_TIMEOUT).input(input).run().await.map_err(|e| e.to_string())?;
        if ended.code == 0 { Ok(ended.stdout) } else { Err(format!("git {} failed: {}", args[0], ended.complaint())) }
    };
    // One that has not all of its own history would have to fetch it to pack it.
    let shallow = run(&["rev-parse", "--is-shallow-repository"], vec![]).await?;
    let partial =
        run(&["config", "--default", "false", "--type=bool", "--get", "remote.origin.promisor"], vec![]).await?;
    if shallow != b"false\n" || partial != b"false\n" {
        return Ok(None);
    }
    // Without `origin/HEAD`, which is another name for one of them.
    let format = "--format=%(if)%(symref)%(then)%(else)%(objectname) %(refname:lstrip=3)%(end)";
    let listed =
        String::from_utf8_lossy(&run(&["for-each-ref", format, "refs/remotes/origin"], vec![]).await?).into_owned();
    let branches = listed.lines().filter(|line| !line.is_empty()).map(branch).collect::<Result<Vec<_>, _>>()?;
    if branches.is_empty() {
        return Ok(None);
    }
    let tips: String = branches.iter().map(|(id, _)| format!("{id}\n")).collect();
    let branches: Vec<String> = branches.iter().map(|(id, branch)| format!("{id} {branch}")).collect();
    let io = |error: std::io::Error| format!("{}: {error}", scratch.display());
    std::fs::create_dir_all(scratch).map_err(io)?;
    let prefix = scratch.join("pack");
    let prefix = prefix.to_str().ok_or("the state directory's path is not UTF-8")?;
    let packed = run(&["pack-objects", "-q", "--revs", "--delta-base-offset", prefix], tips.into_bytes()).await;
    let tree = packed.and_then(|_| read(scratch, git, branches.join("\n")));
    let _ = std::fs::remove_dir_all(scratch);
    tree.map(Some)
}

/// A line of git's list: the commit that a branch of upstream's is at, and the branch.
fn branch(line: &str) -> Result<(ObjectId, &str), String> {
    let (id, branch) = line.split_once(' ').ok_or("git listed a branch without its commit")?;
    let id = ObjectId::parse(id).map_err(|error| format!("git for-each-ref: {error}"))?;
    let name = RefName::of_branch(branch).map_err(|error| format!("git for-each-ref: {error}"));
    name.map(|_| (id, branch))
}

fn read(scratch: &Path, git: &GitPlan, branches: String) -> Result<Tree, String> {
    let io = |error: std::io::Error| format!("{}: {error}", scratch.display());
    let above = format!("{}/seed", door::STATE_DIR);
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
    Ok(tree.file(format!("{target}/branches"), 0, 0o444, branches))
}
