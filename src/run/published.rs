//! After the bottle is gone: the pushed branch is proposed, or the review handed in, by the runner. Nothing else writes either.

use bottle_plan::task::Work;
use serde_json::{Value, json};

use super::claimed::Claimed;
use super::collected::Collected;
use super::mode::RunMode;
use super::pushed::{PushResult, Pushed};
use super::{RunContext, outputs};
use crate::cancel::Cancel;
use crate::exit::{Code, Failure};
use crate::forge::ForgeError;
use crate::report::{Events, Phase, RunEvent, card, last_words};
use crate::thread::{PublishResult, hand_in, publish, would_propose};
use bottle_wire::run_record::{Outcome, PullRequestLink};

/// A run whose work is published, or has nothing to publish. It takes the collected run.
pub(super) struct Published<'r> {
    claimed: Claimed<'r>,
    outcome: Outcome,
    /// The push and the proposal of a dry run, but for what its forge keeps.
    would: Vec<Value>,
}

impl<'r> Published<'r> {
    /// Proposes what was pushed, or hands in the review.
    pub(super) async fn publish(collected: Collected<'r>) -> Self {
        let (claimed, mut outcome, pushed, (proposals, files, commit_files)) = collected.into_parts();
        let context = claimed.context();
        context.events.phase(Phase::Publish);
        let mut would = match context.plan.task.work {
            // With outputs, the agent says by a tool what shall be read.
            Work::Review if context.plan.agent.outputs.is_none() => {
                review(&claimed, &mut outcome).await;
                vec![]
            }
            Work::Review | Work::Outputs => vec![],
            Work::Change => propose(&claimed, &mut outcome, pushed.as_ref()).await,
        };
        would.extend(outputs::perform(&claimed, (&proposals, files, commit_files), &mut outcome).await);
        Self { claimed, outcome, would }
    }

    /// Ends the claim with the outcome.
    pub(super) async fn finish(self) -> Result<Outcome, Failure> {
        self.claimed.close(self.outcome, self.would).await
    }
}

/// Does a write of a pull request or a review, if the lease is held still and nothing has ended the run; else nothing is written,
/// and the failure is returned. `lost` is the look at the lease; a lease that can't be looked at is not held.
pub(super) async fn write_if_held<T>(
    lost: impl Future<Output = Result<Option<Failure>, ForgeError>>,
    cancel: &Cancel,
    write: impl Future<Output = Result<T, ForgeError>>,
) -> Result<Result<T, ForgeError>, Failure> {
    let checked = async {
        match lost.await {
            Ok(None) => Ok(write.await),
            Ok(Some(failure)) => Err(failure),
            Err(error) => Ok(Err(error)),
        }
    };
    tokio::select! {
        biased;
        failure = cancel.requested() => Err(failure),
        done = checked => done,
    }
}

/// Hands in the agent's last words as the review that was asked for.
async fn review(claimed: &Claimed<'_>, outcome: &mut Outcome) {
    let RunContext { inputs, plan, events, cancel } = claimed.context();
    let words = match &inputs.mode {
        RunMode::Publish(handoff) => handoff.review().map(str::to_owned),
        RunMode::Live | RunMode::Replay(_) => last_words(&events.seen()),
        RunMode::Undo(_) => None,
    };
    let (Some(forge), Some(words)) = (&inputs.forge, words) else { return };
    if outcome.code != Code::Done {
        return;
    }
    let job = plan.ci.as_ref().map(|ci| format!(" · [the job]({})", ci.run_url)).unwrap_or_default();
    let words = format!("{}\n\nrun `{}`{job}", inputs.secrets.mask(&words), plan.slug);
    match write_if_held(claimed.lost(), cancel, hand_in(forge.as_ref(), plan, &words)).await {
        Ok(Ok(())) => events.note("the review was handed in"),
        Ok(Err(error)) => failed(&error, outcome),
        Err(failure) => ended(&failure, outcome),
    }
}

/// Proposes what was pushed. What a dry run would have pushed and proposed is returned, but for what its forge keeps.
async fn propose(claimed: &Claimed<'_>, outcome: &mut Outcome, pushed: Option<&Pushed>) -> Vec<Value> {
    let RunContext { inputs, plan, events, cancel } = claimed.context();
    let Some(PushResult::Accepted { branch, commit, .. }) = pushed.map(Pushed::result) else { return vec![] };
    let mut would = vec![];
    if plan.dry_run {
        let upstream = plan.policies.gate.upstreams.first().map(|upstream| upstream.url.to_string());
        would.push(
            json!({"would": "push", "upstream": upstream, "ref": format!("refs/heads/{branch}"), "commit": commit}),
        );
    }
    if matches!(outcome.code, Code::Interrupted | Code::Terminated) {
        return would;
    }
    // Work that failed its checks, or was cut off, is there to be looked at, not to be merged.
    let draft = outcome.code != Code::Done;
    let mut seen = events.seen();
    seen.push(RunEvent::Finished { outcome: outcome.clone(), record: plan.state_dir.clone().into() });
    // The events are masked, and so must be what came after them.
    let card = inputs.secrets.mask(&card(&seen));
    let Some(forge) = &inputs.forge else {
        if plan.dry_run {
            would.push(would_propose(plan, branch, draft, &card));
        }
        return would;
    };
    match write_if_held(claimed.lost(), cancel, publish(forge.as_ref(), plan, branch, draft, &card)).await {
        Ok(Ok(None)) if plan.task.course.undo().is_some() => {
            events.note(format!("no pull request of {branch} is open, and none is opened"));
        }
        Ok(published) => record_published(published, branch, events, outcome),
        Err(failure) => ended(&failure, outcome),
    }
    would
}

/// The run was ended before the write.
pub(super) fn ended(failure: &Failure, outcome: &mut Outcome) {
    outcome.code = failure.code;
    outcome.summary = format!("{}; {failure}", outcome.summary);
}

/// The write failed; an earlier failure stays the run's.
pub(super) fn failed(error: &ForgeError, outcome: &mut Outcome) {
    if outcome.code == Code::Done {
        outcome.code = Code::Machine;
    }
    outcome.summary = super::one_line(&format!("{}; {error}; {}", outcome.summary, error.hint()));
}

/// Puts the pull request, or why there is none, into the outcome and the events.
fn record_published(
    published: Result<Option<PublishResult>, ForgeError>,
    branch: &str,
    events: &Events,
    outcome: &mut Outcome,
) {
    match published {
        Ok(None) => events.note(format!("nothing to propose: {branch} has nothing that its base lacks")),
        // A dry run's pull request has no number.
        Ok(Some(published)) if published.pull.number == 0 => {}
        Ok(Some(published)) => {
            for trouble in published.trouble {
                events.warn(trouble);
            }
            let pull = published.pull;
            outcome.pull_request = Some(PullRequestLink { number: pull.number, url: pull.url.clone() });
            events.emit(RunEvent::PullRequest {
                number: pull.number,
                url: pull.url,
                opened: published.opened,
                draft: pull.draft,
            });
        }
        Err(error) => failed(&error, outcome),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::forge::Operation;

    #[tokio::test]
    async fn nothing_is_written_without_the_lease_or_after_the_end() {
        let other = || Failure::new(Code::Terminated, "another run has claimed this meanwhile");
        let unknown = || ForgeError::Nonsense {
            operation: Operation { what: "read a comment", needs: "" },
            place: "issue #7".to_owned(),
            problem: "no comment".to_owned(),
        };
        let (runs, stopped) = (Cancel::default(), Cancel::default());
        stopped.end(other());
        for (lost, cancel, writes) in [
            (Ok(None), &runs, true),
            (Ok(Some(other())), &runs, false),
            (Err(unknown()), &runs, false),
            (Ok(None), &stopped, false),
        ] {
            let written = Cell::new(false);
            let write = async {
                written.set(true);
                Ok(())
            };
            let done = write_if_held(std::future::ready(lost), cancel, write).await;
            assert_eq!(written.get(), writes, "{done:?}");
            assert_eq!(matches!(done, Ok(Ok(()))), writes, "{done:?}");
        }
    }
}
