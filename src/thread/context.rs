//! Gathers what belongs to a task beyond its event: the pull request as it is, what else was said, and the change.
//!
//! The selection for the prompt, in which nothing may be that came or changed after the task was asked for, is made by
//! `bottle_plan::context`. What can't be had is left out, and said so: the task can be done without.

use bottle_plan::context;
use bottle_plan::moment::Moment;
use bottle_plan::task::{Commit, Piece, PullRequest, Source, Task};

use super::comments::has_mark;
use crate::exit::{Code, Failure};
use crate::forge::{self, Comment, Forge, ForgeError};

/// Asks the forge, and adds what it says to the task. A fork's change that may be another one by now is refused.
pub(crate) async fn gather(forge: &dyn Forge, task: &mut Task) -> Result<(), Failure> {
    let mut pieces = vec![];
    let about = task.pull_request.as_ref().map(|pull| pull.number);
    let about = about.or_else(|| task.thread().filter(|_| task.is_about_a_pull_request()).map(|thread| thread.number));
    if let Some(number) = about {
        match forge.pull_request(number).await {
            Ok(pull) => pin(task, number, &pull)?,
            Err(error) => left_out(task, "the pull request's branches", &error),
        }
        match forge.diff(number).await {
            Ok(text) => pieces.push(Piece::Diff { text }),
            Err(error) => left_out(task, "the change itself", &error),
        }
        match forge.remarks(number).await {
            Ok(remarks) => pieces.extend(pieces_of(task, remarks)),
            Err(error) => left_out(task, "what was said about lines of the change", &error),
        }
    }
    if let Some(number) = task.thread().map(|thread| thread.number).or(about) {
        match forge.comments(number).await {
            Ok(comments) => pieces.extend(pieces_of(task, comments)),
            Err(error) => left_out(task, "the earlier comments", &error),
        }
    }
    if let Source::FailedRun(run) = &task.source {
        match forge.failed_logs(run.id, run.attempt).await {
            Ok(logs) => pieces.extend(logs.into_iter().map(|(name, text)| Piece::Log { name, text })),
            Err(error) => left_out(task, "the failed run's logs", &error),
        }
    }
    context::add(task, pieces);
    Ok(())
}

/// Where the event does not say what the pull request was, it is what it is now. What comes from a fork must have been so when
/// it was asked for: whoever proposes it could change it meanwhile.
fn pin(task: &mut Task, number: u64, pull: &forge::PullRequest) -> Result<(), Failure> {
    let Ok(head) = Commit::parse(&pull.commit) else { return Ok(()) };
    let moved = match &task.pull_request {
        Some(pinned) => pinned.head != head,
        None => {
            let moment = |text: &Option<String>| text.as_deref().and_then(Moment::parse);
            let (asked, updated) = (moment(&task.asked_at), moment(&pull.updated));
            asked.is_none_or(|asked| updated.is_none_or(|updated| updated > asked.plus(1)))
        }
    };
    if pull.from_fork && moved {
        let why = format!(
            "pull request #{number} is from a fork, and was changed after this was asked for, or may have been"
        );
        return Err(Failure::new(Code::Refused, why).hint("look at what it is now, and ask again"));
    }
    task.pull_request.get_or_insert_with(|| PullRequest {
        number,
        head,
        head_branch: pull.head.clone(),
        head_repository: pull.head_repository.clone(),
        base_branch: pull.base.clone(),
        from_fork: pull.from_fork,
    });
    Ok(())
}

/// People's comments as pieces, but for the comment that is the task and for what we posted.
fn pieces_of(task: &Task, comments: Vec<Comment>) -> Vec<Piece> {
    let asking = match &task.source {
        Source::Comment { comment_id, .. } => Some(*comment_id),
        _ => None,
    };
    let others = comments.into_iter().filter(|comment| Some(comment.id) != asking && !has_mark(&comment.body));
    let piece = |comment: Comment| Piece::Said {
        by: Some(comment.author.login).filter(|login| !login.is_empty()),
        written: comment.written,
        changed: comment.changed,
        place: comment.place,
        text: comment.body,
    };
    others.map(piece).collect()
}

fn left_out(task: &mut Task, what: &str, error: &ForgeError) {
    task.left_out.push(format!("{what}: {error}"));
}
