//! The guest's git: its configuration, and the repository on the branch that is to be pushed.

use bottle_plan::plan::{BottlePlan, Bring, GitPlan};

use super::{CLONE, STEP, Sources, Step};
use crate::backend::{Bottle, BottleError, Exec, Room, Tree, succeed};

/// Writes `~/.gitconfig`, brings the repository in and checks out the run's branch: upstream's own if it is there
/// already (a follow-up goes on from it), else a new one from the base.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan, sources: &Sources) -> Step {
    let Some(git) = &plan.git else { return Ok("no repository".to_owned()) };
    let guest = &plan.guest;
    let config = Tree::new().file(format!("{}/.gitconfig", guest.home), guest.uid, 0o644, git.gitconfig.clone());
    bottle.copy_in(Room::Guest, config).await?;
    let brought = match (&git.bring, &sources.checkout) {
        (Bring::Clone, _) => clone(bottle, plan, git).await?,
        (Bring::Checkout(from), Some(tree)) => checkout(bottle, plan, tree.clone(), from).await?,
        (Bring::Checkout(from), None) => {
            return Err(BottleError::new("failed to bring the checkout", format_args!("{from} was not read")));
        }
    };
    let base = match (&git.base, &git.bring) {
        (Some(base), Bring::Clone) => format!("origin/{base}"),
        _ => "HEAD".to_owned(),
    };
    let script = r#"set -e
if git rev-parse --verify --quiet "refs/remotes/origin/$1" >/dev/null; then base="origin/$1"; else base="$2"; fi
git checkout --quiet --no-track -B "$1" "$base"
git log -1 --format='%h %s'"#;
    let exec = Exec::guest(["sh", "-c", script, "sh", &git.branch, &base]).in_dir(&guest.workdir);
    let done = succeed(bottle, exec, STEP).await?;
    Ok(format!("{brought}; {} at {}", git.branch, String::from_utf8_lossy(&done.stdout).trim()))
}

async fn clone(bottle: &dyn Bottle, plan: &BottlePlan, git: &GitPlan) -> Step {
    let exec = Exec::guest(["git", "clone", "--quiet", "--", &git.gate_url, &plan.guest.workdir]).in_dir("/");
    succeed(bottle, exec, CLONE).await?;
    Ok(format!("cloned {}", git.gate_url))
}

async fn checkout(bottle: &dyn Bottle, plan: &BottlePlan, tree: Tree, from: &str) -> Step {
    bottle.copy_in(Room::Guest, tree).await?;
    // `refs/bottle/start` tells the work of this run from what was there; the fetch shows now, not after the agent's
    // work, that upstream can be reached.
    let script = "git reset --quiet --hard HEAD && git update-ref refs/bottle/start HEAD && git fetch --quiet origin";
    succeed(bottle, Exec::shell(script).in_dir(&plan.guest.workdir), CLONE).await?;
    Ok(format!("brought {from}"))
}
