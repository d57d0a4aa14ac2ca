//! `pull_request`: given a label that starts a run, or proposed where the manifest has such reviewed.

use super::parts::CheckedEvent;
use super::payload::starts_by_label;
use super::{Answer, line, nothing};
use crate::manifest::{AutomaticReviews, PullRequestAct};
use crate::name::Name;
use crate::task::{Source, Task, Work};

pub(super) fn ask(event: &CheckedEvent<'_>) -> Answer<Task> {
    let action = event.action()?;
    let reviews = event.triggers.pull_requests.as_ref();
    if let Some(reviews) =
        reviews.filter(|reviews| PullRequestAct::named(action).is_some_and(|act| reviews.on.contains(&act)))
    {
        return review(event, reviews);
    }
    if !starts_by_label(action) {
        return nothing(&format!("a pull request was {action}, which starts nothing"));
    }
    let given = label(event)?;
    let pull = event.need(&event.payload.pull_request, "pull_request")?;
    let asker = event.asker(None)?;
    let asked_at = pull.updated_at.as_deref();
    let mut topic = event.pull(pull, asked_at)?;
    topic.left_out.extend(given.others);
    let task = event.task(Source::PullRequest(topic.thread), topic.left_out, asker)?;
    if task.pull_request.is_none() {
        return Err(event.malformed("missing field `head`").into());
    }
    Ok(Task { agent: Some(given.agent), asked_at: asked_at.map(str::to_owned), ..task })
}

/// A review that nobody asks for but the base branch. Whoever has proposed the change has no say in it.
fn review(event: &CheckedEvent<'_>, reviews: &AutomaticReviews) -> Answer<Task> {
    let pull = event.need(&event.payload.pull_request, "pull_request")?;
    let number = pull.number;
    if pull.state.as_deref() != Some("open") {
        return nothing(&format!("pull request #{number} is not open"));
    }
    // One whose event does not say it is none.
    if pull.draft == Some(true) && !reviews.drafts {
        return nothing(&format!("pull request #{number} is a draft, and `triggers.pull_requests.drafts` is false"));
    }
    let Some(proposed) = event.ends()? else { return Err(event.malformed("missing field `head`").into()) };
    if proposed.from_fork && !reviews.forks {
        let why = "is from another repository, and `triggers.pull_requests.forks` is false";
        return nothing(&format!(
            "pull request #{number} {why}; a person with write permission may ask for a review in a comment"
        ));
    }
    let asked_at = pull.updated_at.as_deref();
    let topic = event.pull(pull, asked_at)?;
    Ok(Task {
        source: Source::Proposed(topic.thread),
        work: Work::Review,
        agent: Some(reviews.agent.clone()),
        asked_at: asked_at.map(str::to_owned),
        repository: Some(event.repository()?),
        pull_request: Some(proposed),
        left_out: topic.left_out,
        ..Task::text("")
    })
}

/// What a label asks for.
pub(super) struct GivenLabel {
    pub(super) agent: Name,
    /// Labels that were given in the same moment and would start runs too, in the words of what is left out.
    pub(super) others: Vec<String>,
}

/// The agent of the label that was given now. An event that does not say which it was starts nothing: those that were there
/// before don't count.
pub(super) fn label(event: &CheckedEvent<'_>) -> Answer<GivenLabel> {
    let payload = &event.payload;
    let changes = payload.changes.as_ref();
    let added = changes.and_then(|changes| changes.added_labels.as_deref());
    let given = payload.label.as_ref().map(std::slice::from_ref).or(added).unwrap_or_default();
    let mut starting = given.iter().filter_map(|label| Some((&label.name, event.triggers.agent_of(&label.name)?)));
    if let Some((_, agent)) = starting.next() {
        let words = |name: &String| {
            line(&format!("the label `{name}`, given in the same moment: one event starts one run; give it again"))
        };
        return Ok(GivenLabel { agent: agent.clone(), others: starting.map(|(name, _)| words(name)).collect() });
    }
    let taken = changes.and_then(|changes| changes.removed_labels.as_ref()?.first());
    match (given.first(), taken) {
        (Some(label), _) => nothing(&format!("the label `{}` starts nothing", label.name)),
        (None, Some(label)) => nothing(&format!(
            "the label `{}` was taken away, which starts nothing; one that shall start a run is given by itself",
            label.name
        )),
        (None, None) => nothing("the event names no label that was given"),
    }
}
