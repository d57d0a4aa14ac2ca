//! An output of the agent, written at the forge at most once: each bears a hidden mark by which a later try finds it.
//!
//! The mark names what was asked for and the job, not the run: a job that was killed and is started again finds what it had
//! written before. A comment then gets the newer words; a review of the same commit stays as it is.

use bottle_plan::plan::BottlePlan;
use bottle_policy::outputs::{Output, OutputKind};
use tokio::time::sleep;

use super::asks::Ask;
use crate::forge::{Comment, FIRST_WAIT, Forge, ForgeError};

/// How often it is tried where the forge may have written it or not.
const MAX_TRIES: u32 = 3;

/// An output that is at the forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenOutput {
    /// Its number at the forge; none for labels, and in a dry run.
    pub(crate) number: Option<u64>,
    /// Its page.
    pub(crate) url: String,
    /// Whether an earlier try has written it.
    pub(crate) was_there: bool,
}

/// What the mark of the nth output of a kind holds; another run for the same ask, and a review of the same commit, has the same.
pub(crate) fn output_key(plan: &BottlePlan, kind: OutputKind, nth: usize) -> String {
    let ask = Ask::from_plan(plan).map_or_else(|| plan.slug.to_string(), |ask| ask.id());
    let head = plan.task.pull_request.as_ref().filter(|_| kind == OutputKind::Review);
    let head = head.map(|pull| format!(" {}", pull.head.short())).unwrap_or_default();
    format!("{ask} {kind} {nth}{head}")
}

/// Writes an output that may go out, on the thread of the run; none where the run has no such place.
pub(crate) async fn write_output(
    forge: &dyn Forge,
    plan: &BottlePlan,
    key: &str,
    output: &Output,
) -> Result<Option<WrittenOutput>, ForgeError> {
    let thread = plan.task.thread().map(|thread| thread.number);
    let reviewed = plan.task.pull_request.as_ref().filter(|_| plan.task.is_about_a_pull_request());
    // Nobody's text that we post can hold it.
    let mark = format!("<!-- claude-bottle: output {key} -->");
    match (output, thread, reviewed) {
        (Output::Comment { body }, Some(number), _) => {
            let body = format!("{mark}\n{body}");
            comment(forge, number, &mark, &body).await.map(Some)
        }
        (Output::Labels { labels }, Some(number), _) => {
            // A label that is there stays there.
            retried(async || forge.label(number, labels).await).await?;
            Ok(Some(WrittenOutput { number: None, url: String::new(), was_there: false }))
        }
        (Output::Review { body, remarks }, _, Some(pull)) => {
            let body = format!("{mark}\n{body}").trim_end().to_owned();
            let look = async || Ok(ours(forge, forge.reviews(pull.number).await?, &mark).await?.first().cloned());
            let write = async || forge.review(pull.number, &pull.head, &body, remarks).await;
            let (made, was_there) = once(look, write).await?;
            Ok(Some(written(made, was_there)))
        }
        _ => Ok(None),
    }
}

async fn comment(forge: &dyn Forge, number: u64, mark: &str, body: &str) -> Result<WrittenOutput, ForgeError> {
    let look = async || Ok(ours(forge, forge.comments(number).await?, mark).await?.first().cloned());
    let (made, was_there) = once(look, async || forge.comment(number, body).await).await?;
    if was_there && made.body.trim() != body.trim() {
        forge.edit_comment(made.id, body).await?;
    }
    Ok(written(made, was_there))
}

fn written(made: Comment, was_there: bool) -> WrittenOutput {
    WrittenOutput { number: Some(made.id).filter(|id| *id != 0), url: made.url, was_there }
}

/// Those of ours that begin with a mark. Where the forge does not say who we are, whoever wrote it: twice is worse than not at all,
/// and somebody else's can't be changed.
async fn ours(forge: &dyn Forge, mut all: Vec<Comment>, mark: &str) -> Result<Vec<Comment>, ForgeError> {
    all.retain(|one| one.body.lines().next().is_some_and(|line| line.trim_end() == mark));
    if all.is_empty() {
        return Ok(all);
    }
    if let Some(me) = forge.myself().await? {
        all.retain(|one| one.author.is(&me));
    }
    Ok(all)
}

/// Looks for it, and writes it where it is not there; tells whether it was.
async fn once(
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
async fn retried<T>(attempt: impl AsyncFn() -> Result<T, ForgeError>) -> Result<T, ForgeError> {
    let mut tries = 1;
    loop {
        match attempt().await {
            Err(error) if error.may_be_done() && tries < MAX_TRIES => sleep(FIRST_WAIT * (1 << tries)).await,
            ended => return ended,
        }
        tries += 1;
    }
}
