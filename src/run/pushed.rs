//! The work, pushed through the gate.

use std::time::Duration;

use bottle_plan::plan::{BottlePlan, GitPlan};
use bottle_plan::task::{Course, Work};
use bottle_types::git::ObjectId;

use super::unmoved::{Unmoved, pushed_heads};
use crate::backend::{Bottle, Exec, finish};
use crate::exit::{Code, Failure};

/// A push that was made. It takes the look at the pull request's head.
#[derive(Debug, Clone)]
pub(super) struct Pushed {
    result: PushResult,
}

impl Pushed {
    /// Pushes the work. A review's work is words alone.
    pub(super) async fn push(unmoved: Unmoved<'_>) -> Result<Self, Failure> {
        let (run, head) = unmoved.into_parts();
        let plan = run.context.plan;
        let result = match plan.task.work {
            Work::Change => push(run.bottle, plan, head, &run.progress.starts).await?,
            Work::Review | Work::Outputs => PushResult::Nothing,
        };
        if let PushResult::Refused { why } = &result {
            run.progress.fail(Code::Gate, format!("the gate refused the push: {why}"));
        }
        Ok(Self { result })
    }

    pub(super) fn result(&self) -> &PushResult {
        &self.result
    }
}

/// What came of the push.
#[derive(Debug, Clone)]
pub(super) enum PushResult {
    /// The gate let it through; `forwarded` is false in a dry run.
    Accepted { branch: String, commit: ObjectId, forwarded: bool },
    /// There is nothing that upstream does not have.
    Nothing,
    /// The gate, or upstream, said no.
    Refused { why: String },
}

/// A scan of a large push, and a slow upstream.
const PUSH_TIMEOUT: Duration = Duration::from_secs(1800);

/// Pushes the commit `$3` as the branch `$1` by the gate at `$2`; `$4` is how the branch may move, and the other arguments are the
/// commits that were there before the agent began. HEAD may have moved since the commit was verified.
///
/// What is reachable from those is no work of the agent's, and neither is what upstream has: by its own word now, and by what the
/// guest knows of it. Of the guest's refs, which the agent can move, only that last counts, and it can only leave something out.
const PUSHING: &str = r#"set -e
# The agent can leave these behind, to give a commit other parents than its own.
export GIT_NO_REPLACE_OBJECTS=1 GIT_GRAFT_FILE=/dev/null/none
branch=refs/heads/$1 gate=$2 commit=$3 how=$4
shift 4
if [ "$how" = undo ]; then
  git push --quiet origin "+$commit:$branch" >&2 || exit 9
  echo "pushed $commit"
  exit 0
fi
if [ "$(git rev-list --count "$commit" --not "$@" --)" = 0 ]; then echo nothing; exit 0; fi
listed=$(git ls-remote "$gate")
here=$(printf '%s\t%s' "$commit" "$branch")
if printf '%s\n' "$listed" | grep -Fqx -e "$here"; then echo "there $commit"; exit 0; fi
new=$(printf '%s\n' "$listed" | cut -f 1 | sed -n 's/^./^&/p' | git rev-list --count --ignore-missing --stdin "$commit" \
  --not --remotes=origin "$@")
if [ "$new" = 0 ]; then echo nothing; exit 0; fi
[ "$how" != rebase ] || commit=+$commit
git push --quiet origin "$commit:$branch" >&2 || exit 9
echo "pushed ${commit#+}""#;

/// What is run in the guest to push. Where the branch shall not only grow the gate decides from where to where it may go.
pub(super) fn command<'a>(
    plan: &'a GitPlan,
    course: &Course,
    commit: &'a ObjectId,
    starts: &'a [ObjectId],
) -> Vec<&'a str> {
    let how = match course {
        Course::Forward | Course::Continue => "grow",
        Course::Rebase => "rebase",
        Course::Undo(_) => "undo",
    };
    let argv = ["sh", "-c", PUSHING, "sh", &plan.branch, &plan.gate_url, commit.as_str(), how].into_iter();
    argv.chain(starts.iter().map(ObjectId::as_str)).collect()
}

/// Pushes the branch, if the agent has made something of it that upstream has not.
async fn push(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
    head: Option<ObjectId>,
    starts: &[ObjectId],
) -> Result<PushResult, Failure> {
    let Some(git) = &plan.git else { return Ok(PushResult::Nothing) };
    if starts.is_empty() {
        return Err(Failure::machine("not pushed: where the agent began is not known")
            .hint("provision.git in the run record says more; run it again"));
    }
    let Some(head) = head else {
        return Err(Failure::machine("failed to push: git in the guest named no commit that was verified")
            .hint("the transcript in the run record says what the agent did to the repository"));
    };
    let exec = Exec::guest(command(git, &plan.task.course, &head, starts)).in_dir(&plan.guest.workdir);
    let done = finish(bottle, exec, PUSH_TIMEOUT).await.map_err(Failure::machine)?;
    let stdout = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    match (done.code, stdout.split_once(' ')) {
        (0, Some((word, commit))) => {
            let commit = ObjectId::parse(commit).map_err(|error| {
                Failure::machine(format_args!("failed to push: git in the guest named no commit: {error}"))
                    .hint("gate.jsonl in the run record says what the gate saw")
            })?;
            // What somebody else has pushed there meanwhile is not this run's.
            if word == "there" && !pushed_heads(bottle, &git.branch).await.contains(&commit) {
                return Ok(PushResult::Nothing);
            }
            Ok(PushResult::Accepted { branch: git.branch.clone(), commit, forwarded: !plan.dry_run })
        }
        (0, None) => Ok(PushResult::Nothing),
        (9, _) => Ok(PushResult::Refused { why: reasons(&String::from_utf8_lossy(&done.stderr)) }),
        (code, _) => {
            Err(Failure::machine(format_args!("failed to push: git ended with {code}: {}", done.text().trim()))
                .hint("gate.jsonl and compose.log in the run record say what the gate saw"))
        }
    }
}

/// What the gate said, without git's own lines around it.
fn reasons(stderr: &str) -> String {
    let remote_lines: Vec<&str> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("remote:"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if remote_lines.is_empty() { stderr.trim().replace('\n', "; ") } else { remote_lines.join("; ") }
}
