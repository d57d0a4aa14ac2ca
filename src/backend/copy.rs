//! Files in and out by tar, over a backend's `exec`: for backends that have nothing better.

use std::time::Duration;

use super::{Bottle, BottleError, Exec, OutputChunk, Side, Tree, succeed};

const COPY_TIMEOUT: Duration = Duration::from_secs(120);
/// The exit code by which copying out says that there is nothing.
const NOTHING: i64 = 44;

/// Unpacks the tree at `/`. Everything belongs to who unpacks it.
pub(super) async fn copy_in(bottle: &dyn Bottle, side: Side, tree: Tree) -> Result<(), BottleError> {
    let archive = tree.to_tar().map_err(|error| BottleError::new("failed to copy files into the bottle", error))?;
    let mut exec = Exec::guest(["tar", "-x", "-p", "-o", "-f", "-", "-C", "/"]).in_dir("/");
    (exec.side, exec.stdin) = (side, Some(archive));
    succeed(bottle, exec, COPY_TIMEOUT).await.map(drop)
}

/// Packs what is at the path; none where there is nothing.
pub(super) async fn copy_out(bottle: &dyn Bottle, side: Side, path: &str) -> Result<Option<Tree>, BottleError> {
    let failed = |reason: &dyn std::fmt::Display| {
        BottleError::new(format_args!("failed to copy {path} out of the bottle"), reason)
    };
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let script = format!("[ -e \"$1/$2\" ] || exit {NOTHING}; exec tar -c -f - -C \"$1/\" -- \"$2\"");
    let mut exec = Exec::guest(["sh", "-c", &script, "sh", parent, name]).in_dir("/");
    exec.side = side;
    let packed = async {
        let mut running = bottle.exec(exec).await?;
        let (mut archive, mut complaint) = (vec![], vec![]);
        while let Some(output) = running.output.recv().await {
            match output {
                OutputChunk::Stdout(bytes) => archive.extend_from_slice(&bytes),
                OutputChunk::Stderr(bytes) => complaint.extend_from_slice(&bytes),
            }
        }
        match running.code.await.map_err(|_| failed(&"it went away"))?? {
            0 => Tree::from_tar(&archive, parent).map(Some).map_err(|error| failed(&error)),
            NOTHING => Ok(None),
            code => Err(failed(&format_args!("tar ended with {code}: {}", String::from_utf8_lossy(&complaint).trim()))),
        }
    };
    tokio::time::timeout(COPY_TIMEOUT, packed).await.map_err(|_| failed(&"it took too long"))?
}
