//! A branch, put back to where it was before an earlier run.
//!
//! No agent runs. git in the sealed guest moves its own branch, the runner pushes that like any work, and the gate takes one move
//! alone: from the commit at which the earlier run left the branch to the one at which it was before.

use bottle_plan::plan::BottlePlan;
use bottle_plan::task::Undo;

use super::checks::GIT_TIMEOUT;
use crate::backend::{Bottle, Exec, finish};
use crate::exit::{Code, Failure};
use crate::report::Events;

/// Checks out the commit `$2` as the branch `$1`. A commit that no branch has any more may still be given by its id.
const PUTTING_BACK: &str = r#"set -e
git cat-file -e "$2^{commit}" 2>/dev/null || git fetch --quiet --update-shallow origin "$2" || exit 7
git checkout --quiet --no-track -B "$1" "$2""#;

/// What is run in the guest to put the branch back.
fn command(undo: &Undo) -> [&str; 6] {
    ["sh", "-c", PUTTING_BACK, "sh", &undo.branch, undo.to.as_str()]
}

/// Puts the guest's branch back.
pub(super) async fn put_back(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
    undo: &Undo,
    events: &Events,
) -> Result<(), Failure> {
    let Undo { run, branch, from, to } = undo;
    events.note(format!("run {run} is undone: {branch} goes back from {} to {}", from.short(), to.short()));
    let exec = Exec::guest(command(undo)).in_dir(&plan.guest.workdir);
    let done = finish(bottle, exec, GIT_TIMEOUT).await.map_err(Failure::machine)?;
    match done.code {
        0 => Ok(()),
        7 => Err(Failure::new(
            Code::Gate,
            format_args!(
                "not undone: upstream no longer has the commit {} at which {} was before run {}",
                undo.to.short(),
                undo.branch,
                undo.run
            ),
        )
        .hint("who has it in a clone can push it")),
        code => Err(Failure::machine(format_args!("failed to undo: git ended with {code}: {}", done.text().trim()))),
    }
}
