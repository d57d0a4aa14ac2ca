//! An output of the agent, written at the forge at most once: each bears a hidden mark by which a later try finds it.
//!
//! The mark names what was asked for and the job, not the run: a job that was killed and is started again finds what it had
//! written before. A comment and an issue then get the newer words, and a check that says something else is reported anew; a review
//! of the same commit stays as it is, and so does a thread that is closed.

use bottle_plan::plan::BottlePlan;
use bottle_plan::task::Source;
use bottle_policy::outputs::{CheckConclusion, CloseReason, Output, OutputKind, sarif};
use bottle_types::git::ObjectId;
use bottle_wire::proposal::sha256;
use tokio::time::sleep;

use super::asks::Ask;
use super::review::{review, update_threads};
use crate::forge::{Author, Comment, FIRST_WAIT, Forge, ForgeError, Issue, NewCheck};

/// How often it is tried where the forge may have written it or not.
const MAX_TRIES: u32 = 3;

/// What has become of an output that was to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteResult {
    /// It is at the forge.
    Written(WrittenOutput),
    /// It was not written, for this reason.
    Refused(&'static str),
}

/// An output that is at the forge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WrittenOutput {
    /// Its number at the forge; none for labels and the end of a thread, and in a dry run.
    pub(crate) number: Option<u64>,
    /// Its page.
    pub(crate) url: String,
    /// Whether an earlier try has written it.
    pub(crate) was_there: bool,
    /// What was done in another way than was asked for.
    pub(crate) note: Option<&'static str>,
}

const NO_PLACE: WriteResult = WriteResult::Refused("this run has no place for it");
const MOVED: WriteResult =
    WriteResult::Refused("the pull request has other commits than when the agent looked at it, so it stays open");

/// What the mark of the nth output of a kind holds; another run for the same ask, and a review of the same commit, has the same.
pub(crate) fn output_key(plan: &BottlePlan, kind: OutputKind, nth: usize) -> String {
    let ask = match (Ask::from_plan(plan), &plan.ci) {
        (Some(ask), _) => ask.id(),
        // What a job does on its own, as a schedule's, is the same in each of its tries.
        (None, Some(ci)) => {
            let task = format!("task {} {:?} {}", plan.agent.name, plan.task.source, plan.task.instruction);
            let job: String = ci.run_id.chars().filter(char::is_ascii_alphanumeric).collect();
            format!("{}-{job}", &sha256(&task)[..16])
        }
        (None, None) => plan.slug.to_string(),
    };
    // A check is found by its name as well, in whatever order they come.
    if kind == OutputKind::Check {
        return format!("{ask} {kind}");
    }
    let head = plan.task.pull_request.as_ref().filter(|_| kind == OutputKind::Review);
    let head = head.map(|pull| format!(" {}", pull.head.short())).unwrap_or_default();
    format!("{ask} {kind} {nth}{head}")
}

/// Writes an output that may go out, on the thread of the run or below its commit.
pub(crate) async fn write_output(
    forge: &dyn Forge,
    plan: &BottlePlan,
    key: &str,
    output: &Output,
) -> Result<WriteResult, ForgeError> {
    let thread = plan.task.thread().map(|thread| thread.number);
    let reviewed = plan.task.pull_request.as_ref().filter(|_| plan.task.is_about_a_pull_request());
    // Nobody's text that we post can hold it.
    let mark = format!("<!-- claude-bottle: output {key} -->");
    let written = match (output, thread, reviewed) {
        (Output::Comment { body }, Some(number), _) => comment(forge, number, &mark, body).await?,
        (Output::Labels { labels }, Some(number), _) => {
            // A label that is there stays there.
            retried(async || forge.label(number, labels).await).await?;
            WrittenOutput::default()
        }
        (Output::Review { verdict, body, remarks, files, threads }, _, Some(pull)) => {
            let made = match verdict.is_comment() && body.is_empty() && remarks.is_empty() && files.is_empty() {
                true => WrittenOutput::default(),
                false => review(forge, plan, pull, &mark, (*verdict, body, remarks, files)).await?,
            };
            let unresolved = update_threads(forge, plan, pull, threads).await?;
            WrittenOutput { note: made.note.or(unresolved), ..made }
        }
        (Output::Issue { title, body, labels }, ..) => {
            let since = plan.task.asked_at.as_deref();
            let (made, was_there) = issue(forge, since, &mark, (title, body, labels)).await?;
            let number = Some(made.number).filter(|number| *number != 0);
            WrittenOutput { number, url: made.url, was_there, note: None }
        }
        (Output::Close { reason, comment }, Some(number), _) => {
            return close(forge, plan, number, &mark, (*reason, comment)).await;
        }
        (Output::Sarif { findings }, ..) => {
            if let Some((commit, reference)) = findings_commit(plan) {
                let report = sarif(plan.agent.name.as_str(), env!("CARGO_PKG_VERSION"), findings);
                // A second upload takes the place of the first.
                retried(async || forge.upload_findings(commit, &reference, &report).await).await?;
            }
            WrittenOutput::default()
        }
        (Output::Check { name, conclusion, summary }, ..) => {
            return check(forge, plan, key, (name, *conclusion, summary)).await;
        }
        _ => return Ok(NO_PLACE),
    };
    Ok(WriteResult::Written(written))
}

pub(super) async fn comment(
    forge: &dyn Forge,
    number: u64,
    mark: &str,
    body: &str,
) -> Result<WrittenOutput, ForgeError> {
    let body = &format!("{mark}\n{body}");
    let look = async || Ok(ours(forge, forge.comments(number).await?, mark).await?.first().cloned());
    let (made, was_there) = once(look, async || forge.comment(number, body).await).await?;
    if was_there && made.body.trim() != body.trim() {
        forge.edit_comment(made.id, body).await?;
    }
    Ok(written(made, was_there))
}

/// Opens an issue where none of ours since then bears the mark, and gives it its labels when it is there: a forge takes no name of a
/// label with a new one. Tells whether it was there.
pub(super) async fn issue(
    forge: &dyn Forge,
    since: Option<&str>,
    mark: &str,
    (title, body, labels): (&str, &str, &[String]),
) -> Result<(Issue, bool), ForgeError> {
    let body = format!("{mark}\n{body}");
    let there_or_written = async || {
        let mut there = forge.issues_since(since).await?;
        there.retain(|issue| bears(&issue.body, mark));
        let me = if there.is_empty() { None } else { forge.myself().await? };
        match there.into_iter().find(|issue| is_ours(&issue.author, me.as_ref())) {
            Some(issue) => Ok((issue, true)),
            None => Ok((forge.open_issue(title, &body).await?, false)),
        }
    };
    let (made, was_there) = retried(there_or_written).await?;
    if was_there && (made.title != title || made.body.trim() != body.trim()) {
        forge.edit_issue(made.number, title, &body).await?;
    }
    if !labels.is_empty() {
        retried(async || forge.label(made.number, labels).await).await?;
    }
    Ok((made, was_there))
}

/// Closes the thread of the run, and says why first. A pull request that the agent has not seen as it is now stays open.
async fn close(
    forge: &dyn Forge,
    plan: &BottlePlan,
    number: u64,
    mark: &str,
    (reason, words): (CloseReason, &str),
) -> Result<WriteResult, ForgeError> {
    let is_pull_request = plan.task.is_about_a_pull_request();
    let (is_open, url) = if is_pull_request {
        let Some(seen) = &plan.task.pull_request else { return Ok(NO_PLACE) };
        let now = forge.pull_request(number).await?;
        if now.is_open && now.commit.as_ref() != Some(&seen.head) {
            return Ok(MOVED);
        }
        (now.is_open, now.url)
    } else {
        let now = forge.issue(number).await?;
        if now.is_pull_request {
            return Ok(NO_PLACE);
        }
        (now.is_open, now.url)
    };
    if !words.is_empty() {
        comment(forge, number, mark, words).await?;
    }
    match (is_open, is_pull_request) {
        (false, _) => {}
        (true, true) => retried(async || forge.close_pull_request(number).await).await?,
        (true, false) => retried(async || forge.close_issue(number, reason).await).await?,
    }
    Ok(WriteResult::Written(WrittenOutput { url, was_there: !is_open, ..WrittenOutput::default() }))
}

/// Reports a check of the commit that the run works on. One of this job's that says the same stands.
async fn check(
    forge: &dyn Forge,
    plan: &BottlePlan,
    key: &str,
    (name, conclusion, summary): (&str, CheckConclusion, &str),
) -> Result<WriteResult, ForgeError> {
    let (Some(commit), Some(ci)) = (plan.task.checked_commit(), &plan.ci) else { return Ok(NO_PLACE) };
    let check = NewCheck {
        name: name.to_owned(),
        conclusion,
        summary: summary.to_owned(),
        key: key.to_owned(),
        job_url: ci.run_url.clone(),
    };
    let there_or_written = async || {
        let there = forge.reported_checks(commit, &check).await?;
        let me = if there.is_empty() { None } else { forge.myself().await? };
        // An earlier one of the same words does not stand any more.
        let newest = there.into_iter().filter(|one| is_ours(&one.author, me.as_ref())).max_by_key(|one| one.id);
        match newest.filter(|one| one.conclusion == conclusion.name() && one.summary == summary) {
            Some(found) => Ok((found, true)),
            None => Ok((forge.report_check(commit, &check).await?, false)),
        }
    };
    let (made, was_there) = retried(there_or_written).await?;
    let number = Some(made.id).filter(|id| *id != 0);
    Ok(WriteResult::Written(WrittenOutput { number, url: made.url, was_there, note: None }))
}

/// The commit that findings are about, and the ref that it is at.
fn findings_commit(plan: &BottlePlan) -> Option<(&ObjectId, String)> {
    let commit = plan.task.checked_commit()?;
    let reference = match (&plan.task.source, &plan.task.pull_request) {
        (Source::FailedRun(run), _) => format!("refs/heads/{}", run.branch),
        (_, Some(pull)) => format!("refs/pull/{}/head", pull.number),
        (_, None) => return None,
    };
    Some((commit, reference))
}

pub(super) fn written(made: Comment, was_there: bool) -> WrittenOutput {
    WrittenOutput { number: Some(made.id).filter(|id| *id != 0), url: made.url, was_there, note: None }
}

/// Those of ours that begin with a mark.
pub(super) async fn ours(forge: &dyn Forge, mut all: Vec<Comment>, mark: &str) -> Result<Vec<Comment>, ForgeError> {
    all.retain(|one| bears(&one.body, mark));
    if all.is_empty() {
        return Ok(all);
    }
    let me = forge.myself().await?;
    all.retain(|one| is_ours(&one.author, me.as_ref()));
    Ok(all)
}

/// Whether a text begins with a mark.
pub(super) fn bears(body: &str, mark: &str) -> bool {
    body.lines().next().is_some_and(|line| line.trim_end() == mark)
}

/// Whether this is ours. Where the forge does not say who we are, whoever wrote it: twice is worse than not at all, and somebody
/// else's can't be changed.
fn is_ours(author: &Author, me: Option<&Author>) -> bool {
    me.is_none_or(|me| author.is(me))
}

/// Looks for it, and writes it where it is not there; tells whether it was.
pub(super) async fn once(
    look: impl AsyncFn() -> Result<Option<Comment>, ForgeError>,
    write: impl AsyncFn() -> Result<Comment, ForgeError>,
) -> Result<(Comment, bool), ForgeError> {
    let there_or_written = async || match look().await? {
        Some(found) => Ok((found, true)),
        None => write().await.map(|made| (made, false)),
    };
    retried(there_or_written).await
}

/// Tries again what may have been done or not, and does no harm a second time.
pub(super) async fn retried<T>(attempt: impl AsyncFn() -> Result<T, ForgeError>) -> Result<T, ForgeError> {
    let mut tries = 1;
    loop {
        match attempt().await {
            Err(error) if error.may_be_done() && tries < MAX_TRIES => sleep(FIRST_WAIT * (1 << tries)).await,
            ended => return ended,
        }
        tries += 1;
    }
}
