//! The guest's repository, on the branch that is to be pushed. Its `~/.gitconfig` came with `home`.

use bottle_plan::plan::{BottlePlan, Bring, GitPlan};
use bottle_plan::task::Commit;

use super::CLONE_TIMEOUT;
use crate::backend::{Bottle, BottleError, Exec, finish};

/// Through the gate; the working directory is there, and empty.
const CLONING: &str = r#"git clone --quiet -- "$4" ."#;

/// What was brought is none of this run's work, also where the run's branch begins elsewhere; the fetch shows now, not after
/// the agent's work, that upstream can be reached.
const READYING: &str = "git reset --quiet --hard HEAD
git rev-parse --verify 'HEAD^{commit}'
git fetch --quiet origin";

/// Upstream's own branch if it is there already, else a new one from `$2`.
const BRANCH: &str = r#"if git rev-parse --verify --quiet "refs/remotes/origin/$1" >/dev/null; then base="origin/$1"; else base="$2"; fi
git checkout --quiet --no-track -B "$1" "$base""#;

/// A pull request's branch where it was when it was asked for, the commit `$2`, and nowhere else; or a new one from there.
/// Forges keep the heads of pull requests, forks' too, where a clone does not look; they give a commit by its id.
const PINNED: &str = r#"git cat-file -e "$2^{commit}" 2>/dev/null || git fetch --quiet origin "$2" || {
  echo "upstream no longer has the commit $2 that was asked about: the pull request has moved; ask again" >&2; exit 1; }
there=$(git rev-parse --verify --quiet "refs/remotes/origin/$1" || :)
if [ "$3" = true ] && [ "$there" != "$2" ]; then
  echo "the pull request's branch has moved from $2 to ${there:-nowhere} since this was asked for; ask again" >&2; exit 1
fi
git checkout --quiet --no-track -B "$1" "${there:-$2}"
git merge-base --is-ancestor "$2" HEAD || git merge --quiet --no-edit "$2" >&2 || {
  echo "the branch $1 of an earlier run does not go together with the pull request as it is now; remove it, and ask again" >&2
  exit 1; }"#;

/// Clones through the gate, or readies the checkout that was brought, and checks out the run's branch: upstream's own
/// if it is there already (a follow-up goes on from it), else a new one from the base, or from the commit that the pull
/// request was at when it was asked for. All of it is one command: each costs its time to start.
///
/// Gives what it did in words, and the commits that are there before the agent begins: what is reachable from them is none of
/// the agent's work. No agent has been in the guest yet, so its word is good.
pub(super) async fn provision(bottle: &dyn Bottle, plan: &BottlePlan) -> Result<(String, Vec<Commit>), BottleError> {
    let Some(git) = &plan.git else { return Ok(("no repository".to_owned(), vec![])) };
    let brought = match &git.bring {
        Bring::Clone => format!("cloned {}", git.gate_url),
        Bring::Checkout(from) => format!("brought {from}"),
    };
    let done = finish(bottle, Exec::guest(command(git)).in_dir(&plan.guest.workdir), CLONE_TIMEOUT).await?;
    if done.code != 0 {
        let doing = format!("failed to bring in {} on the branch {}", git.gate_url, git.branch);
        return Err(BottleError::new(doing, done.text().trim()));
    }
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    let (starts, at) =
        started(&printed).map_err(|why| BottleError::new("failed to note where the work starts", why))?;
    Ok((format!("{brought}; {} at {at}", git.branch), starts))
}

/// What is run in the guest: it prints the commits that are there at the start, a line each, and then the last one in words.
pub(crate) fn command(git: &GitPlan) -> Vec<String> {
    let bring = match &git.bring {
        Bring::Clone => CLONING,
        Bring::Checkout(_) => READYING,
    };
    let (branch, from) = match (&git.start, &git.base, &git.bring) {
        (Some(start), _, Bring::Clone) => (PINNED, start.as_str().to_owned()),
        (None, Some(base), Bring::Clone) => (BRANCH, format!("origin/{base}")),
        _ => (BRANCH, "HEAD".to_owned()),
    };
    let script = format!("set -e\n{bring}\n{branch}\ngit log -1 --format='%H%n%h %s'");
    let goes_on = if git.goes_on { "true" } else { "false" };
    ["sh", "-c", &script, "sh", &git.branch, &from, goes_on, &git.gate_url].map(str::to_owned).to_vec()
}

/// The commits that it printed, and the words.
pub(crate) fn started(printed: &str) -> Result<(Vec<Commit>, &str), String> {
    let (commits, at) = printed.trim_end().rsplit_once('\n').ok_or("git printed no commit")?;
    let commits = commits.lines().map(Commit::parse).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok((commits, at))
}
