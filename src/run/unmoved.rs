//! Looks once more, before the work is pushed, if the pull request is still at the commit that the task was asked for, and ends its auto-merge.

use bottle_plan::task::Work;
use bottle_types::door;
use bottle_types::git::ObjectId;
use bottle_wire::push_report::PushedRef;

use super::verified::Verified;
use super::{LiveRun, RunInputs, auto_merge, keep};
use crate::backend::{Bottle, Side};
use crate::exit::Code;
use crate::report::Phase;

/// Work whose pull request is where it was. It takes the verified work; only this value can be pushed.
pub(super) struct Unmoved<'r> {
    run: LiveRun<'r>,
    /// The commit that was verified.
    head: Option<ObjectId>,
}

/// Work whose pull request has moved, or can't be asked.
pub(super) struct Moved<'r> {
    run: LiveRun<'r>,
    why: String,
}

impl<'r> Unmoved<'r> {
    /// Looks at the pull request's head. A review's work is words alone: nothing is pushed, and nothing is asked.
    pub(super) async fn check(verified: Verified<'r>) -> Result<Self, Moved<'r>> {
        let (run, head) = verified.into_parts();
        run.context.events.phase(Phase::Push);
        let why = match run.context.plan.task.work {
            Work::Change => match moved(run.context.inputs, run.bottle).await {
                None => auto_merge::turn_off(run.context.inputs, run.context.events).await.err(),
                why => why,
            },
            Work::Review | Work::Outputs => None,
        };
        match why {
            None => Ok(Self { run, head }),
            Some(why) => Err(Moved { run, why }),
        }
    }

    pub(super) fn into_parts(self) -> (LiveRun<'r>, Option<ObjectId>) {
        (self.run, self.head)
    }
}

impl Moved<'_> {
    /// Keeps the work in the record.
    pub(super) async fn keep(self) {
        let Self { run, why } = self;
        run.progress.fail(Code::Gate, format!("not pushed: {why}"));
        keep::keep(run.bottle, run.context.plan, &run.progress.starts, run.record, run.context.events).await;
    }
}

/// Why the work must not be pushed; none: it may. What can't be asked must not.
async fn moved(inputs: &RunInputs, bottle: &dyn Bottle) -> Option<String> {
    let (Some(pull), Some(forge)) = (&inputs.plan.task.pull_request, &inputs.forge) else { return None };
    let git = inputs.plan.git.as_ref().filter(|git| git.start.is_some())?;
    let number = pull.number;
    let now = match forge.pull_request(number).await {
        Ok(now) => now,
        Err(error) => {
            return Some(format!("whether pull request #{number} has moved can't be told: {error}; {}", error.hint()));
        }
    };
    let mut expected_heads = vec![pull.head.clone()];
    if git.goes_on {
        expected_heads.extend(pushed_heads(bottle, &git.branch).await);
    }
    if now.commit.as_ref().is_some_and(|commit| expected_heads.contains(commit)) {
        return None;
    }
    Some(format!(
        "pull request #{number} has moved from {} to {} since this was asked for; look at it, and ask again",
        pull.head.short(),
        now.commit.as_ref().map_or("no commit", ObjectId::short)
    ))
}

/// The commits that this run has pushed to a branch, in a dry run those that it would have, by the gate's own log: the guest is not asked.
pub(super) async fn pushed_heads(bottle: &dyn Bottle, branch: &str) -> Vec<ObjectId> {
    let Ok(Some(tree)) = bottle.copy_out(Side::Bundle, &format!("{}/log", door::STATE_DIR)).await else {
        return vec![];
    };
    let gate = tree.files().filter(|(path, _)| path.ends_with("gate.jsonl"));
    let text: String = gate.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
    let pushes = text.lines().filter_map(|line| serde_json::from_str::<PushedRef>(line).ok());
    pushes.filter(|push| push.has_moved(branch)).map(|push| push.new).collect()
}
