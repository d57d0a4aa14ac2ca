//! What the host's checkout already has of the upstream, packed for the gate: what `crates/bottle-sidecars`' `gate::seed`
//! takes in. Only what upstream has given to the checkout is in it: nothing that was committed here alone.

use std::path::Path;
use std::time::Duration;

use bottle_plan::plan::GitPlan;
use bottle_policy::door;

use crate::backend::Tree;
use crate::process::Program;

/// Packing is mostly copying; what takes longer than this saves no time.
const LIMIT: Duration = Duration::from_secs(60);
/// The archive is made in memory.
const LARGEST: u64 = 512 << 20;

/// Packs it, with `scratch` for its files in between; the error says why there is none.
pub(crate) async fn pack(git: &GitPlan, scratch: &Path) -> Result<Option<Tree>, String> {
    let Some(checkout) = git.seed.as_deref().map(Path::new) else { return Ok(None) };
    let run = async |args: &[&str], input: Vec<u8>| {
        let ended = Program::git(checkout, args).limit(LIMIT).input(input).run().await.map_err(|e| e.to_string())?;
        if ended.code == 0 { Ok(ended.stdout) } else { Err(format!("git {} failed: {}", args[0], ended.complaint())) }
    };
    let shallow = run(&["rev-parse", "--is-shallow-repository"], vec![]).await?;
    if shallow != b"false\n" {
        return Ok(None);
    }
    let tips = run(&["for-each-ref", "--format=%(objectname)", "refs/remotes/origin"], vec![]).await?;
    if tips.is_empty() {
        return Ok(None);
    }
    let io = |error: std::io::Error| format!("{}: {error}", scratch.display());
    std::fs::create_dir_all(scratch).map_err(io)?;
    let prefix = scratch.join("pack");
    let prefix = prefix.to_str().ok_or("the state directory's path is not UTF-8")?;
    let packed = run(&["pack-objects", "-q", "--revs", "--delta-base-offset", prefix], tips.clone()).await;
    let tree = packed.and_then(|_| read(scratch, git, tips));
    let _ = std::fs::remove_dir_all(scratch);
    tree.map(Some)
}

fn read(scratch: &Path, git: &GitPlan, tips: Vec<u8>) -> Result<Tree, String> {
    let io = |error: std::io::Error| format!("{}: {error}", scratch.display());
    let above = format!("{}/seed", door::STATE_DIR);
    let target = format!("{above}/{}", git.upstream);
    let mut tree = Tree::new().directory(&above, 0, 0o755).directory(&target, 0, 0o755);
    for entry in std::fs::read_dir(scratch).map_err(io)? {
        let entry = entry.map_err(io)?;
        let size = entry.metadata().map_err(io)?.len();
        if size > LARGEST {
            return Err(format!("it is {} MiB large, and at most {} go along", size >> 20, LARGEST >> 20));
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        tree = tree.file(format!("{target}/{name}"), 0, 0o444, std::fs::read(entry.path()).map_err(io)?);
    }
    // Last: with it the seed is whole.
    Ok(tree.file(format!("{target}/tips"), 0, 0o444, tips))
}
