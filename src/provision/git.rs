//! The guest's repository, on the branch that is to be pushed. Its `~/.gitconfig` came with `home`.

use bottle_plan::plan::{BottlePlan, Bring, GitPlan};

use super::{CLONE, STEP, Step};
use crate::backend::{Bottle, Exec, succeed};

/// Clones through the gate, or readies the checkout that was brought, and checks out the run's branch: upstream's own
/// if it is there already (a follow-up goes on from it), else a new one from the base, or from the commit that the pull
/// request was at when it was asked for.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan) -> Step {
    let Some(git) = &plan.git else { return Ok("no repository".to_owned()) };
    let brought = match &git.bring {
        Bring::Clone => clone(bottle, plan, git).await?,
        Bring::Checkout(from) => ready(bottle, plan, from).await?,
    };
    let base = match (&git.base, &git.bring) {
        (Some(base), Bring::Clone) => format!("origin/{base}"),
        _ => "HEAD".to_owned(),
    };
    if let Some(start) = git.start.as_ref().filter(|_| git.bring == Bring::Clone) {
        return pinned(bottle, plan, git, start.as_str()).await.map(|at| format!("{brought}; {} at {at}", git.branch));
    }
    let script = r#"set -e
if git rev-parse --verify --quiet "refs/remotes/origin/$1" >/dev/null; then base="origin/$1"; else base="$2"; fi
git checkout --quiet --no-track -B "$1" "$base"
git log -1 --format='%h %s'"#;
    let exec = Exec::guest(["sh", "-c", script, "sh", &git.branch, &base]).in_dir(&plan.guest.workdir);
    let done = succeed(bottle, exec, STEP).await?;
    Ok(format!("{brought}; {} at {}", git.branch, String::from_utf8_lossy(&done.stdout).trim()))
}

/// A pull request's branch where it was when it was asked for, and nowhere else; or a new one from there.
async fn pinned(bottle: &dyn Bottle, plan: &BottlePlan, git: &GitPlan, start: &str) -> Step {
    // Forges keep the heads of pull requests, forks' too, where a clone does not look; they give a commit by its id.
    let script = r#"set -e
git cat-file -e "$2^{commit}" 2>/dev/null || git fetch --quiet origin "$2" || {
  echo "upstream no longer has the commit $2 that was asked about: the pull request has moved; ask again" >&2; exit 1; }
there=$(git rev-parse --verify --quiet "refs/remotes/origin/$1" || :)
if [ "$3" = true ] && [ "$there" != "$2" ]; then
  echo "the pull request's branch has moved from $2 to ${there:-nowhere} since this was asked for; ask again" >&2; exit 1
fi
git checkout --quiet --no-track -B "$1" "${there:-$2}"
git merge-base --is-ancestor "$2" HEAD || git merge --quiet --no-edit "$2" >&2 || {
  echo "the branch $1 of an earlier run does not go together with the pull request as it is now; remove it, and ask again" >&2
  exit 1; }
git log -1 --format='%h %s'"#;
    let goes_on = if git.goes_on { "true" } else { "false" };
    let exec = Exec::guest(["sh", "-c", script, "sh", &git.branch, start, goes_on]).in_dir(&plan.guest.workdir);
    let done = succeed(bottle, exec, STEP).await?;
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

async fn clone(bottle: &dyn Bottle, plan: &BottlePlan, git: &GitPlan) -> Step {
    let exec = Exec::guest(["git", "clone", "--quiet", "--", &git.gate_url, &plan.guest.workdir]).in_dir("/");
    succeed(bottle, exec, CLONE).await?;
    Ok(format!("cloned {}", git.gate_url))
}

async fn ready(bottle: &dyn Bottle, plan: &BottlePlan, from: &str) -> Step {
    // `refs/bottle/start` tells the work of this run from what was there; the fetch shows now, not after the agent's
    // work, that upstream can be reached.
    let script = "git reset --quiet --hard HEAD && git update-ref refs/bottle/start HEAD && git fetch --quiet origin";
    succeed(bottle, Exec::shell(script).in_dir(&plan.guest.workdir), CLONE).await?;
    Ok(format!("brought {from}"))
}
