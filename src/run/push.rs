//! The work, saved and pushed through the gate.

use std::time::Duration;

use bottle_plan::plan::{BottlePlan, Bring};

use crate::backend::{Bottle, Exec, finish};
use crate::exit::Failure;
use crate::report::Events;

/// What came of the push.
#[derive(Debug, Clone)]
pub(super) enum PushResult {
    /// The gate let it through; `forwarded` is false in a dry run.
    Accepted { branch: String, commit: String, forwarded: bool },
    /// There is nothing that upstream does not have.
    Nothing,
    /// The gate, or upstream, said no.
    Refused { why: String },
}

/// A scan of a large push, and a slow upstream.
const PUSH_TIMEOUT: Duration = Duration::from_secs(1800);

/// Commits what the agent left uncommitted: the bottle goes, the work must not.
pub(super) async fn save(bottle: &dyn Bottle, plan: &BottlePlan, events: &Events) -> Result<(), Failure> {
    if plan.git.is_none() {
        return Ok(());
    }
    let script = r#"set -e
[ -n "$(git status --porcelain | head -n 1)" ] || exit 0
git add --all
git commit --quiet --no-verify -m "Work that was left uncommitted"
echo saved"#;
    let exec = Exec::shell(script).in_dir(&plan.guest.workdir);
    let done = finish(bottle, exec, PUSH_TIMEOUT).await.map_err(Failure::machine)?;
    if done.code != 0 {
        events.warn(format!("what the agent left uncommitted could not be saved: {}", done.text().trim()));
    } else if !done.stdout.is_empty() {
        events.warn("the agent left work uncommitted; it was committed as it stood");
    }
    Ok(())
}

/// Pushes the branch, unless upstream has all of it.
pub(super) async fn push(bottle: &dyn Bottle, plan: &BottlePlan) -> Result<PushResult, Failure> {
    let Some(git) = &plan.git else { return Ok(PushResult::Nothing) };
    // In a brought checkout the start is not always a branch of upstream's that the guest knows.
    let known = match &git.bring {
        Bring::Clone => "",
        Bring::Checkout(_) => "refs/bottle/start",
    };
    let script = r#"set -e
commit=$(git rev-parse --verify HEAD)
there=$(git ls-remote origin "refs/heads/$1" | cut -f 1)
if [ "$there" = "$commit" ]; then echo "there $commit"; exit 0; fi
new=$(git rev-list --count HEAD --not --remotes=origin $2 --)
if [ "$new" = 0 ]; then echo nothing; exit 0; fi
git push --quiet origin "HEAD:refs/heads/$1" >&2 || exit 9
echo "pushed $commit""#;
    let exec = Exec::guest(["sh", "-c", script, "sh", &git.branch, known]).in_dir(&plan.guest.workdir);
    let done = finish(bottle, exec, PUSH_TIMEOUT).await.map_err(Failure::machine)?;
    let stdout = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    match (done.code, stdout.split_once(' ')) {
        (0, Some((_, commit))) => {
            Ok(PushResult::Accepted { branch: git.branch.clone(), commit: commit.to_owned(), forwarded: !plan.dry_run })
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
