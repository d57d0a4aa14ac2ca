//! Comments: below an issue or a pull request, on a line of a change, and the words of a review.

use bottle_wire::proposal::ProposalId;

use super::mention::{self, SaidCommand, WorkKind};
use super::parts::{CheckedEvent, Topic};
use super::payload::CommentPayload;
use super::{Answer, Asked, EventError, Order, RunCommand, Stop, Unclear, nothing, who};
use crate::moment::Moment;
use crate::name::Name;
use crate::task::{Course, Form, Place, Source, Task, Work};

/// A comment of any kind.
struct Written<'a> {
    form: Form,
    id: u64,
    url: &'a str,
    text: &'a str,
    writer: super::payload::Writer<'a>,
    association: Option<&'a String>,
    /// When it came to be as it is.
    at: &'a str,
    place: Option<Place>,
}

/// `issue_comment`: a new comment.
pub(super) fn below(event: &CheckedEvent<'_>) -> Answer<Task> {
    let payload = &event.payload;
    let action = event.action()?;
    if action != "created" {
        return nothing(&format!("a comment was {action}, which starts nothing"));
    }
    let comment = event.need(&payload.comment, "comment")?;
    let issue = event.need(&payload.issue, "issue")?;
    let is_pull_request = issue.pull_request.as_ref().is_some_and(|value| !value.is_null())
        || payload.is_pull.unwrap_or_default()
        || payload.pull_request.is_some();
    let Some(said) = mention::command(&comment.body, &event.triggers.mention) else {
        return unclear(event, comment, issue.number, is_pull_request);
    };
    let (created, updated) = (comment.created_at.as_deref(), comment.updated_at.as_deref());
    match (created.and_then(Moment::parse), updated.and_then(Moment::parse)) {
        (Some(created), Some(updated)) if updated <= created => {}
        (Some(_), Some(_)) => return nothing("the comment was changed after it was written"),
        _ => return nothing("the event does not say when the comment was written; that counts as changed afterwards"),
    }
    let written = Written {
        form: Form::Comment,
        id: comment.id,
        url: &comment.html_url,
        text: &comment.body,
        writer: comment.writer(),
        association: comment.author_association.as_ref(),
        at: created.unwrap_or_default(),
        place: None,
    };
    let topic = event.issue(issue, is_pull_request, created)?;
    ask(event, said, written, topic, is_pull_request)
}

/// `pull_request_review_comment`: a new comment on a line of a change.
pub(super) fn on_a_line(event: &CheckedEvent<'_>) -> Answer<Task> {
    let action = event.action()?;
    if action != "created" && event.payload.review.is_none() {
        return nothing(&format!("a review comment was {action}, which starts nothing"));
    }
    let Some(comment) = &event.payload.comment else { return without_times(event) };
    let said = command(event, &comment.body)?;
    // It is written first and sent with its review later, so the two times differ without a change.
    let Some(at) = comment.updated_at.as_deref().filter(|at| Moment::parse(at).is_some()) else {
        return nothing("the event does not say when the comment was changed; that counts as changed afterwards");
    };
    let written = Written {
        form: Form::ReviewComment,
        id: comment.id,
        url: &comment.html_url,
        text: &comment.body,
        writer: comment.writer(),
        association: comment.author_association.as_ref(),
        at,
        place: comment.path.as_ref().map(|path| Place {
            path: path.clone(),
            line: comment.line,
            first: comment.start_line.filter(|first| Some(*first) != comment.line),
            before: comment.side.as_deref() == Some("LEFT"),
            hunk: comment.diff_hunk.clone().unwrap_or_default(),
            answers: comment.in_reply_to_id,
        }),
    };
    on_a_pull_request(event, said, written)
}

/// `pull_request_review`: a review was handed in.
pub(super) fn review(event: &CheckedEvent<'_>) -> Answer<Task> {
    let action = event.action()?;
    if !matches!(action, "submitted" | "reviewed") {
        return nothing(&format!("a review was {action}, which starts nothing"));
    }
    let review = event.need(&event.payload.review, "review")?;
    let (Some(id), Some(url), Some(at)) = (review.id, &review.html_url, &review.submitted_at) else {
        return without_times(event);
    };
    let text = review.body.as_deref().unwrap_or_default();
    let said = command(event, text)?;
    if Moment::parse(at).is_none() {
        return nothing("the event does not say when the review was written; that counts as changed afterwards");
    }
    let written = Written {
        form: Form::Review,
        id,
        url,
        text,
        writer: review.writer(),
        association: review.author_association.as_ref(),
        at,
        place: None,
    };
    on_a_pull_request(event, said, written)
}

/// Gitea's reviews come without id and times.
fn without_times<T>(event: &CheckedEvent<'_>) -> Answer<T> {
    let review = event.need(&event.payload.review, "review")?;
    let text = review.content.as_deref().or(review.body.as_deref()).unwrap_or_default();
    command(event, text)?;
    nothing("this forge's reviews come without a time; write the command as a comment of its own")
}

fn on_a_pull_request(event: &CheckedEvent<'_>, said: SaidCommand<'_>, written: Written<'_>) -> Answer<Task> {
    let pull = event.need(&event.payload.pull_request, "pull_request")?;
    let topic = event.pull(pull, Some(written.at))?;
    ask(event, said, written, topic, true)
}

/// A comment without a command: an answer where a person wrote what is nearly one, and nothing else.
fn unclear<T>(event: &CheckedEvent<'_>, comment: &CommentPayload, number: u64, is_pull_request: bool) -> Answer<T> {
    let mention = &event.triggers.mention;
    let asker = event.asker(None).and_then(|asker| {
        who::same(comment.writer(), event.sender()?, "comment", event.triggers)?;
        asker.person("nobody answers it").map(|()| asker.actor)
    });
    let unchanged = comment.created_at.is_some() && comment.created_at == comment.updated_at;
    match (mention::nearly(&comment.body, mention), asker) {
        (Some((written, meant)), Ok(asked_by)) if unchanged => Err(Stop::Answer(Asked::Unclear(Box::new(Unclear {
            written: super::line(written),
            meant: meant.to_owned(),
            asked_by,
            number,
            is_pull_request,
            comment_id: comment.id,
        })))),
        _ => nothing(&format!("no line of the comment begins with {mention}")),
    }
}

fn command<'a>(event: &CheckedEvent<'_>, text: &'a str) -> Answer<SaidCommand<'a>> {
    let mention = &event.triggers.mention;
    mention::command(text, mention)
        .map_or_else(|| nothing(&format!("no line of the comment begins with {mention}")), Ok)
}

fn ask(
    event: &CheckedEvent<'_>,
    said: SaidCommand<'_>,
    written: Written<'_>,
    topic: Topic,
    is_pull_request: bool,
) -> Answer<Task> {
    let asker = event.asker(written.association)?;
    who::same(written.writer, event.sender()?, "comment", event.triggers)?;
    if let SaidCommand::Work { agent, kind, text } = said {
        let (work, course) = match kind {
            WorkKind::Review if !is_pull_request => return nothing("an issue has no change to review"),
            WorkKind::Rebase if !is_pull_request => {
                return nothing("an issue has no branch to rebase; write it on the pull request");
            }
            WorkKind::Review => (Work::Review, Course::Forward),
            WorkKind::Words => (Work::Change, Course::Forward),
            WorkKind::Continue => (Work::Change, Course::Continue),
            WorkKind::Rebase => (Work::Change, Course::Rebase),
        };
        let agent = agent.map(Name::parse).transpose().map_err(EventError::Agent)?;
        let source = Source::Comment {
            thread: topic.thread,
            form: written.form,
            comment_id: written.id,
            comment_url: written.url.to_owned(),
            comment: written.text.to_owned(),
            is_pull_request,
            place: written.place,
        };
        let task = event.task(source, topic.left_out, asker)?;
        let asked_at = Some(written.at.to_owned());
        return Ok(Task { agent, work, course, instruction: text.to_owned(), asked_at, ..task });
    }
    let Some(order) = order(said)? else { return nothing("the comment asks for nothing") };
    if matches!(order, Order::Approve(_) | Order::Deny { .. } | Order::Answer { .. }) {
        asker.person("proposals are decided by people")?;
    }
    if matches!(order, Order::AutoMerge { .. }) {
        asker.person("a merge is asked for by people")?;
        if !is_pull_request {
            return nothing("an issue has nothing to merge; write it on the pull request");
        }
    }
    Err(Stop::Answer(Asked::Command(Box::new(RunCommand {
        order,
        asked_by: asker.actor,
        asked_at: written.at.to_owned(),
        repository: event.repository()?,
        thread: topic.thread,
        is_pull_request,
        form: written.form,
        comment_id: written.id,
        comment_url: written.url.to_owned(),
        comment: written.text.to_owned(),
    }))))
}

/// What is asked of a run; none where it is work.
pub(super) fn order(said: SaidCommand<'_>) -> Result<Option<Order>, EventError> {
    let proposal = |id: &str| ProposalId::parse(id).map_err(EventError::Proposal);
    Ok(Some(match said {
        SaidCommand::Work { .. } => return Ok(None),
        SaidCommand::Stop => Order::Stop,
        SaidCommand::Retry => Order::Retry,
        SaidCommand::Undo => Order::Undo,
        SaidCommand::AutoMerge { on } => Order::AutoMerge { on },
        SaidCommand::Approve(id, _) => Order::Approve(proposal(id)?),
        SaidCommand::Deny(id, why) => Order::Deny { id: proposal(id)?, why: why.to_owned() },
        SaidCommand::Answer(id, text) => Order::Answer { id: proposal(id)?, text: text.to_owned() },
        SaidCommand::Unknown(text) => return Err(EventError::Command(super::line(text))),
    }))
}
