//! A review as an output: handed in once, with a mark in each remark; and what becomes of the threads that earlier ones have begun.

use bottle_plan::facts::RemarkFacts;
use bottle_plan::plan::BottlePlan;
use bottle_plan::task::PullRequest;
use bottle_policy::outputs::{
    FileRemark, Remark, ReviewVerdict, ThreadUpdate, marked_remark, remark_mark, remark_words,
};

use super::outputs::{WrittenOutput, once, ours, retried, written};
use crate::forge::{Forge, ForgeError, RemarkThread};

/// How a remark begins whose thread is done and can't be resolved.
const RESOLVED: &str = "**Resolved** at";
const OWN: &str =
    "the review has no verdict, because the pull request is of the same account: no forge takes one of its own";
const MOVED: &str =
    "the review has no verdict, because the pull request has other commits than when the agent looked at it";
const UNRESOLVED: &str = "a thread that is done says so in its words, because this token can't resolve it: GitHub wants `contents: write` for that, \
     Gitea write:repository, and Forgejo has no call for it";

/// Whether a remark says of itself that its thread is done.
pub(super) fn says_that_it_is_done(remark: &RemarkFacts) -> bool {
    remark_words(&remark.text).is_some_and(|words| words.starts_with(RESOLVED))
}

/// Hands a review in.
pub(super) async fn review(
    forge: &dyn Forge,
    plan: &BottlePlan,
    pull: &PullRequest,
    mark: &str,
    (verdict, body, remarks, files): (ReviewVerdict, &str, &[Remark], &[FileRemark]),
) -> Result<WrittenOutput, ForgeError> {
    // Forges keep no remark about a file in a review.
    let parts = [body.to_owned()].into_iter().chain(files.iter().map(FileRemark::markdown));
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    let body = format!("{mark}\n{}", parts.join("\n\n")).trim_end().to_owned();
    let (verdict, note) = match verdict {
        ReviewVerdict::Comment => (verdict, None),
        _ => match no_verdict(forge, pull).await? {
            Some(why) => (ReviewVerdict::Comment, Some(why)),
            None => (verdict, None),
        },
    };
    let agent = plan.agent.name.as_str();
    let marked = |remark: &Remark| (remark_mark(agent, &remark.body), remark.clone());
    let remarks: Vec<_> = remarks.iter().map(marked).collect();
    let look = async || Ok(ours(forge, forge.reviews(pull.number).await?, mark).await?.first().cloned());
    let write = async || forge.review(pull.number, &pull.head, (verdict, &body), &remarks).await;
    let (made, was_there) = once(look, write).await?;
    Ok(WrittenOutput { note, ..written(made, was_there) })
}

/// Why a review gives no verdict; none: it may. A verdict counts for the pull request as it is, whatever commit the review names, so
/// that commits which nobody has looked at would be approved. Where the forge does not say who we are, it refuses our own by itself.
async fn no_verdict(forge: &dyn Forge, pull: &PullRequest) -> Result<Option<&'static str>, ForgeError> {
    let now = forge.pull_request(pull.number).await?;
    if now.commit.as_ref() != Some(&pull.head) {
        return Ok(Some(MOVED));
    }
    let me = forge.myself().await?;
    Ok(me.filter(|me| now.author.is(me)).map(|_| OWN))
}

/// Gives threads of earlier reviews other words, and resolves those that are done; a second time changes nothing. What somebody has
/// resolved or removed meanwhile stays so. Where the forge does not resolve it, its words say that it is done.
pub(super) async fn update_threads(
    forge: &dyn Forge,
    plan: &BottlePlan,
    pull: &PullRequest,
    updates: &[ThreadUpdate],
) -> Result<Option<&'static str>, ForgeError> {
    if updates.is_empty() {
        return Ok(None);
    }
    let agent = plan.agent.name.as_str();
    let threads = retried(async || forge.remark_threads(pull.number, &pull.head).await).await?;
    let mut note = None;
    for update in updates {
        let is_it = |thread: &&RemarkThread| thread.remark.id == update.thread && !thread.remark.resolved;
        let Some(thread) = threads.iter().find(is_it) else { continue };
        if marked_remark(agent, &thread.remark.text).is_none() {
            continue;
        }
        let mut text = thread.remark.text.clone();
        // First: what is resolved is not looked at again after a run that was killed in between.
        if !update.body.is_empty() {
            text = format!("{}\n{}", remark_mark(agent, &update.body), update.body);
            if update.resolved && is_said_to_be_resolved(&thread.remark.text, &text) {
                text.clone_from(&thread.remark.text);
            }
            rewrite(forge, thread, &thread.remark.text, &text).await?;
        }
        if update.resolved && !retried(async || forge.resolve(thread).await).await? {
            note = Some(UNRESOLVED);
            rewrite(forge, thread, &text, &said_to_be_resolved(&text, pull)).await?;
        }
    }
    Ok(note)
}

/// Gives a remark that is not gone other words, where they are others.
async fn rewrite(forge: &dyn Forge, thread: &RemarkThread, now: &str, text: &str) -> Result<(), ForgeError> {
    if text.trim() == now.trim() {
        return Ok(());
    }
    match retried(async || forge.edit_remark(thread, text).await).await {
        Err(error) if matches!(error.status(), Some(404 | 410)) => Ok(()),
        ended => ended,
    }
}

/// Whether a remark is one that says, behind its mark, that it is done, and then these words.
fn is_said_to_be_resolved(now: &str, text: &str) -> bool {
    let Some((mark, said)) = now.split_once('\n') else { return false };
    let words = said.strip_prefix(RESOLVED).and_then(|said| said.split_once("\n\n"));
    words.is_some_and(|(_, words)| format!("{mark}\n{words}").trim() == text.trim())
}

/// A remark behind whose mark it says that it is done.
fn said_to_be_resolved(text: &str, pull: &PullRequest) -> String {
    match text.split_once('\n') {
        Some((mark, words)) if !words.starts_with(RESOLVED) => {
            format!("{mark}\n{RESOLVED} {}.\n\n{words}", pull.head.short())
        }
        _ => text.to_owned(),
    }
}
