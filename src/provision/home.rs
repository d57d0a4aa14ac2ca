//! The agent's home and working directory, in whatever image.

use bottle_plan::plan::BottlePlan;

use super::{STEP, Step};
use crate::backend::{Bottle, Exec, Room, Tree, succeed};

/// Makes the directories, and a line in `/etc/passwd` where the image does not know the agent's user: programs ask for
/// their user's name and home.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan) -> Step {
    let guest = &plan.guest;
    let mut tree = Tree::new().directory(&guest.home, guest.uid, 0o755).directory(
        format!("{}/.claude", guest.home),
        guest.uid,
        0o755,
    );
    for directory in [&guest.root, &guest.workdir] {
        if !tree.nodes.iter().any(|node| &node.path == directory) {
            tree = tree.directory(directory, guest.uid, 0o755);
        }
    }
    bottle.copy_in(Room::Guest, tree).await?;
    let script = format!(
        "grep -q '^[^:]*:[^:]*:{uid}:' /etc/passwd || echo 'node:x:{uid}:{gid}::{home}:/bin/sh' >> /etc/passwd; \
         grep -q '^[^:]*:[^:]*:{gid}:' /etc/group || echo 'node:x:{gid}:' >> /etc/group",
        uid = guest.uid,
        gid = guest.gid,
        home = guest.home,
    );
    succeed(bottle, Exec::shell(&script).by_root().in_dir("/"), STEP).await?;
    Ok(guest.home.clone())
}
