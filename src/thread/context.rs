//! Gathers what belongs to a task beyond its event: the pull request as it is, what else was said, and the change.
//!
//! The selection for the prompt, in which nothing may be that came or changed after the task was asked for, is made by
//! `bottle_plan::context`. What can't be had is left out, and said so: the task can be done without.

use bottle_plan::context;
use bottle_plan::facts::RemarkFacts;
use bottle_plan::moment::Moment;
use bottle_plan::prose;
use bottle_plan::task::{Piece, PullRequest, RemarkThread, Source, Task, Work};
use bottle_policy::gate::refs::is_branch_name;
use bottle_policy::outputs::remark_words;

use super::comments::has_mark;
use super::review::says_that_it_is_done;
use crate::exit::{Code, Failure};
use crate::forge::{self, Comment, Forge, ForgeError};

/// What a plan needs of a pull request beyond its task.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Gathered {
    /// The whole diff.
    pub(crate) diff: Option<String>,
    /// The threads that begin with a remark of ours.
    pub(crate) threads: Vec<RemarkFacts>,
}

/// Asks the forge, and adds what it says to the task. A fork's change that may be another one by now is refused.
pub(crate) async fn gather(forge: &dyn Forge, task: &mut Task) -> Result<Gathered, Failure> {
    let (mut pieces, mut diff, mut threads) = (vec![], None, vec![]);
    let about = task.pull_request.as_ref().map(|pull| pull.number);
    let about = about.or_else(|| task.thread().filter(|_| task.is_about_a_pull_request()).map(|thread| thread.number));
    if let Some(number) = about {
        match forge.pull_request(number).await {
            Ok(pull) => pin(task, number, &pull)?,
            Err(error) => left_out(task, "the pull request's branches", &error),
        }
        match forge.diff(number).await {
            Ok(text) => {
                diff = Some(text.clone());
                pieces.push(Piece::Diff { text });
            }
            Err(error) => left_out(task, "the change itself", &error),
        }
        match forge.remarks(number).await {
            Ok(remarks) => {
                threads = earlier_threads(forge, task, number, &remarks).await;
                pieces.extend(pieces_of(task, remarks, &threads));
            }
            Err(error) => left_out(task, "what was said about lines of the change", &error),
        }
    }
    if let Some(number) = task.thread().map(|thread| thread.number).or(about) {
        match forge.comments(number).await {
            Ok(comments) => pieces.extend(pieces_of(task, comments, &[])),
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
    Ok(Gathered { diff, threads })
}

/// The pull request as it is now; one that is closed takes no change. What comes from a fork must have been so when it was asked
/// for: whoever proposes it could change it meanwhile. A branch of the repository's own is changed by those who may write there,
/// and by our own runs: the work goes on from where they left it.
fn pin(task: &mut Task, number: u64, pull: &forge::ForgePullRequest) -> Result<(), Failure> {
    if task.work == Work::Change && !pull.is_open {
        let why = format!("pull request #{number} is closed or merged: a change of it can't be proposed any more");
        return Err(Failure::input(why).hint("open it again and ask again, or ask in an issue"));
    }
    if task.work == Work::Change && pull.commit.is_none() {
        let why = format!("the branch of pull request #{number} is gone, and its commit with it");
        return Err(Failure::input(why).hint("restore the branch and ask again, or ask in an issue"));
    }
    if !is_branch_name(&pull.base) {
        let base = prose::name(&pull.base, 100);
        let why = format!("pull request #{number} goes to `{base}`, a name that a run can't work with");
        return Err(Failure::input(why)
            .hint("rename it: a run takes letters, digits, and `-_./+@#=,` in the names of branches"));
    }
    let Some(head) = pull.commit.clone() else { return Ok(()) };
    let pinned = task.pull_request.as_ref();
    let from_fork = pull.from_fork || pinned.is_some_and(|pinned| pinned.from_fork);
    let moved = match pinned {
        Some(pinned) => pinned.head != head,
        None => {
            let moment = |text: &Option<String>| text.as_deref().and_then(Moment::parse);
            let (asked, updated) = (moment(&task.asked_at), moment(&pull.updated));
            asked.is_none_or(|asked| updated.is_none_or(|updated| updated > asked.plus(1)))
        }
    };
    if from_fork && moved {
        let why = format!(
            "pull request #{number} is from a fork, and was changed after this was asked for, or may have been"
        );
        let failure = Failure::new(Code::Refused, why).hint("look at what it is now, and ask again");
        // The push that came meanwhile has an event of its own.
        return Err(if matches!(task.source, Source::Proposed(_)) { failure.by_stranger() } else { failure });
    }
    task.pull_request = Some(PullRequest {
        number,
        head,
        head_branch: pull.head.clone(),
        head_repository: pull.head_repository.clone(),
        base_branch: pull.base.clone(),
        from_fork,
    });
    Ok(())
}

/// The branch of the oldest open pull request of an earlier run about the same issue or pull request: its name is told by its
/// beginning, because the rest is made of a title, which people change.
pub(crate) async fn earlier_branch(forge: &dyn Forge, task: &Task, stem: &str) -> Result<Option<String>, Failure> {
    if task.thread().is_none() || task.work == Work::Review {
        return Ok(None);
    }
    let found = forge.open_below(stem).await;
    let found = found.map_err(|error| {
        Failure::machine(format_args!("whether there is a pull request of an earlier run can't be told: {error}"))
            .hint(error.hint())
    })?;
    Ok(found.into_iter().min_by_key(|pull| pull.number).map(|pull| pull.head))
}

/// The threads that begin with a remark of ours. No call is made where nothing looks like one.
async fn earlier_threads(forge: &dyn Forge, task: &mut Task, number: u64, remarks: &[Comment]) -> Vec<RemarkFacts> {
    let Some(pull) = &task.pull_request else { return vec![] };
    if !remarks.iter().any(|remark| remark_words(&remark.body).is_some()) {
        return vec![];
    }
    match forge.remark_threads(number, &pull.head).await {
        Ok(threads) => {
            let facts = threads.into_iter().map(|thread| thread.remark);
            facts
                .map(|remark| RemarkFacts { resolved: remark.resolved || says_that_it_is_done(&remark), ..remark })
                .collect()
        }
        Err(error) => {
            left_out(task, "which threads earlier reviews have begun", &error);
            vec![]
        }
    }
}

/// Comments as pieces, but for the comment that is the task, and for our own that are no remarks at lines.
fn pieces_of(task: &Task, comments: Vec<Comment>, threads: &[RemarkFacts]) -> Vec<Piece> {
    let asking = match &task.source {
        Source::Comment { comment_id, .. } => Some(*comment_id),
        _ => None,
    };
    let others = comments.into_iter().filter(|comment| Some(comment.id) != asking && !has_mark(&comment.body));
    let piece = |comment: Comment| {
        let thread = threads.iter().find(|thread| thread.id == comment.id);
        let words = thread.and_then(|thread| remark_words(&thread.text));
        Piece::Said {
            by: Some(comment.author.login).filter(|login| !login.is_empty()),
            written: comment.written,
            changed: comment.changed,
            place: comment.place,
            thread: thread.map(|thread| RemarkThread { number: thread.id, resolved: thread.resolved }),
            text: words.map(str::to_owned).unwrap_or(comment.body),
        }
    };
    others.map(piece).collect()
}

fn left_out(task: &mut Task, what: &str, error: &ForgeError) {
    task.left_out.push(format!("{what}: {error}"));
}
