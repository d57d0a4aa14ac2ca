//! The agent's home and working directory, in whatever image, with all the files that the guest gets.

use bottle_plan::plan::BottlePlan;

use super::{GuestInputs, STEP_TIMEOUT, Step};
use crate::backend::{Bottle, Exec, Side, Tree, succeed};

/// Puts everything in place in one copy, and a line in `/etc/passwd` where the image does not know the agent's user:
/// programs ask for their user's name and home.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan, inputs: &GuestInputs) -> Step {
    let guest = &plan.guest;
    let mut tree = Tree::new().directory(&guest.home, guest.uid, 0o755).directory(
        format!("{}/.claude", guest.home),
        guest.uid,
        0o755,
    );
    tree = tree.directory(&guest.root, guest.uid, 0o755);
    if guest.workdir != guest.root {
        tree = tree.directory(&guest.workdir, guest.uid, 0o755);
    }
    if let Some(git) = &plan.git {
        tree = tree.file(format!("{}/.gitconfig", guest.home), guest.uid, 0o644, git.gitconfig.clone());
    }
    for (path, text) in &guest.files {
        // Each directory on the way is the agent's, too.
        for (slash, _) in path.match_indices('/').skip(1) {
            let parent = &path[..slash];
            if [&guest.home, &guest.root].iter().any(|base_dir| parent.starts_with(&format!("{base_dir}/"))) {
                tree = tree.directory(parent, guest.uid, 0o755);
            }
        }
        tree = tree.file(path, guest.uid, 0o644, text.clone());
    }
    for file in plan.tools.files() {
        tree = tree.file(&file.path, guest.uid, 0o444, file.text.clone());
    }
    tree = tree.file(&plan.prompt.path, guest.uid, 0o644, plan.prompt.text.clone());
    tree.nodes.extend(inputs.files.nodes.iter().cloned());
    tree.nodes.extend(inputs.checkout.iter().flat_map(|checkout| checkout.nodes.iter().cloned()));
    let files = tree.files().count();
    bottle.copy_in(Side::Guest, tree).await?;
    if plan.names.tools_volume.is_some() {
        // A foreign image; ours has the user.
        let script = format!(
            "grep -q '^[^:]*:[^:]*:{uid}:' /etc/passwd || echo 'node:x:{uid}:{gid}::{home}:/bin/sh' >> /etc/passwd; \
             grep -q '^[^:]*:[^:]*:{gid}:' /etc/group || echo 'node:x:{gid}:' >> /etc/group",
            uid = guest.uid,
            gid = guest.gid,
            home = guest.home,
        );
        succeed(bottle, Exec::shell(&script).by_root().in_dir("/"), STEP_TIMEOUT).await?;
    }
    Ok(format!("{files} files in {} and {}", guest.home, guest.workdir))
}
