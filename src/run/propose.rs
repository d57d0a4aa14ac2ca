//! After the bottle is gone: the pushed branch is proposed, by the runner, with the evidence of the run.

use bottle_plan::plan::BottlePlan;
use bottle_plan::task::Work;
use bottle_wire::run_record::{Outcome, PullRequestLink};
use serde_json::{Value, json};

use super::RunInputs;
use super::push::PushResult;
use crate::cancel::Cancel;
use crate::exit::Code;
use crate::forge::ForgeError;
use crate::report::{Events, Phase, RunEvent, card, last_words};
use crate::thread::{PublishResult, hand_in, publish, would_propose};

/// The asker and the place, in words.
pub(super) fn asked(plan: &BottlePlan) -> Option<String> {
    let who = plan.task.asked_by.as_ref().map(|actor| format!("asked by {}", actor.login));
    match (who, plan.task.thread()) {
        (Some(who), Some(thread)) => Some(format!("{who} in number {}", thread.number)),
        (who, _) => who,
    }
}

/// Hands in the agent's last words as the review that was asked for.
async fn review(inputs: &RunInputs, events: &Events, outcome: &mut Outcome) {
    let words = match &inputs.handoff {
        Some(handoff) => handoff.review().map(str::to_owned),
        None => last_words(&events.seen()),
    };
    let (Some(forge), Some(words)) = (&inputs.forge, words) else { return };
    if outcome.code != Code::Done as u8 {
        return;
    }
    let job = inputs.plan.ci.as_ref().map(|ci| format!(" · [the job]({})", ci.run_url)).unwrap_or_default();
    let words = format!("{}\n\nrun `{}`{job}", inputs.secrets.mask(&words), inputs.plan.slug);
    match hand_in(forge.as_ref(), &inputs.plan, &words).await {
        Ok(()) => events.note("the review was handed in"),
        Err(error) => {
            outcome.code = Code::Machine as u8;
            outcome.summary = super::one_line(&format!("{}; {error}; {}", outcome.summary, error.hint()));
        }
    }
}

/// Proposes what was pushed. What a dry run would have pushed and proposed is returned, but for what its forge keeps.
pub(super) async fn propose(
    inputs: &RunInputs,
    events: &Events,
    cancel: &Cancel,
    outcome: &mut Outcome,
    pushed: Option<&PushResult>,
) -> Vec<Value> {
    let plan = &inputs.plan;
    events.phase(Phase::Publish);
    if plan.task.work == Work::Review {
        review(inputs, events, outcome).await;
        return vec![];
    }
    let Some(PushResult::Accepted { branch, commit, .. }) = pushed else { return vec![] };
    let mut would = vec![];
    if plan.dry_run {
        let upstream = plan.policies.gate.upstreams.first().map(|upstream| upstream.url.to_string());
        would.push(
            json!({"would": "push", "upstream": upstream, "ref": format!("refs/heads/{branch}"), "commit": commit}),
        );
    }
    if outcome.code == Code::Interrupted as u8 || outcome.code == Code::Terminated as u8 {
        return would;
    }
    // Work that failed its checks, or was cut off, is there to be looked at, not to be merged.
    let draft = outcome.code != Code::Done as u8;
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
    let published = tokio::select! {
        published = publish(forge.as_ref(), plan, branch, draft, &card) => published,
        failure = cancel.requested() => {
            outcome.code = failure.code as u8;
            outcome.summary = format!("{}; {failure}", outcome.summary);
            return would;
        }
    };
    record_published(published, branch, events, outcome);
    would
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
        Err(error) => {
            if outcome.code == Code::Done as u8 {
                outcome.code = Code::Machine as u8;
            }
            outcome.summary = super::one_line(&format!("{}; {error}; {}", outcome.summary, error.hint()));
        }
    }
}
