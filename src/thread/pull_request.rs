//! The pull request of a task: opened once, found again by its branch, its evidence renewed by every run.

use bottle_plan::facts::ForgeKind;
use bottle_plan::manifest::PullRequestRules;
use bottle_plan::plan::BottlePlan;
use bottle_policy::outputs::ReviewVerdict;
use tokio::time::sleep;

use crate::forge::{self, Author, FIRST_WAIT, Forge, ForgeError, ForgePullRequest, NewPullRequest};
use crate::report::neutral;

/// Around what is renewed; what people write outside of it stays.
const BEGIN: &str = "<!-- claude-bottle: begin -->";
const END: &str = "<!-- claude-bottle: end -->";
/// Within: that it was a run which made it a draft. Somebody's own draft stays one.
const OUR_DRAFT: &str = "<!-- claude-bottle: draft -->";
/// How Gitea's drafts begin.
const DRAFT: &str = "WIP: ";
/// More numbers in a pull request's text and its branch's name are no conversation's.
const MAX_THREADS: usize = 10;
/// How often it is looked for again when the forge may have opened it or not.
const MAX_LOOKS: u32 = 3;

/// The result of proposing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishResult {
    pub(crate) pull: ForgePullRequest,
    /// True if it is new.
    pub(crate) opened: bool,
    /// Problems with labels or the draft state.
    pub(crate) trouble: Vec<String>,
}

/// The pull request to open: title, text and branches; `base` is asked for where the plan has none. It is a draft where the run failed,
/// until one succeeds, and where the manifest says so, until a person decides.
pub(super) fn new_pull_request(
    plan: &BottlePlan,
    branch: &str,
    base: String,
    draft: bool,
    card: &str,
) -> NewPullRequest {
    let title = neutral(&plan.task.title());
    NewPullRequest {
        title: if title.is_empty() { format!("Work on {branch}") } else { title },
        body: format!("{}{}\n", reference(plan), evidence(card, draft && !plan.agent.pull_request.draft)),
        head: branch.to_owned(),
        base,
        draft: draft || plan.agent.pull_request.draft,
    }
}

/// Opens the pull request of this branch, or renews the one that is open; none where the branch holds nothing new, or
/// was only put back.
pub(crate) async fn publish(
    forge: &dyn Forge,
    plan: &BottlePlan,
    branch: &str,
    draft: bool,
    card: &str,
) -> Result<Option<PublishResult>, ForgeError> {
    let base = match plan.git.as_ref().and_then(|git| git.base.clone()) {
        Some(base) => base,
        None => forge.default_branch().await?,
    };
    let mut new = new_pull_request(plan, branch, base, draft, card);
    let mut refused = None;
    for look in 0..=MAX_LOOKS {
        // The oldest, should people have opened several.
        if let Some(pull) = forge.open_from(branch).await?.into_iter().min_by_key(|pull| pull.number) {
            return renew(forge, plan, pull, draft, card).await.map(Some);
        }
        if plan.task.course.undo().is_some() {
            return Ok(None);
        }
        // Nobody was faster, and nothing came of a write that may have been done: what was said of it counts.
        if let Some(error) = refused.take_if(|error: &mut ForgeError| look == MAX_LOOKS || !error.may_be_done()) {
            return Err(error);
        }
        match forge.open(&new).await {
            Ok(pull) => {
                let trouble = concern(forge, plan, pull.number).await;
                return Ok(Some(PublishResult { pull, opened: true, trouble }));
            }
            Err(error) if error.may_be_done() => {
                sleep(FIRST_WAIT * (2 << look)).await;
                refused = Some(error);
            }
            Err(error) if is_about(&error, "no commits between") || is_about(&error, "no changes between") => {
                return Ok(None);
            }
            // Private repositories of GitHub's free plan have no drafts; the text says that the run failed.
            Err(error) if new.draft && is_about(&error, "draft") => new.draft = false,
            // One that is there already, perhaps: looking tells.
            Err(error) if matches!(error.status(), Some(409 | 422)) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    unreachable!("the last look ends it")
}

/// Gives a new pull request its labels, and those whom it concerns; what could not be done.
async fn concern(forge: &dyn Forge, plan: &BottlePlan, number: u64) -> Vec<String> {
    let PullRequestRules { reviewers, assignees, milestone, .. } = &plan.agent.pull_request;
    let labels = &plan.agent.labels;
    let mut done = vec![];
    if !labels.is_empty() {
        done.push(forge.label(number, labels).await);
    }
    if !reviewers.is_empty() {
        done.push(forge.ask_reviewers(number, reviewers).await);
    }
    if !assignees.is_empty() {
        done.push(forge.assign(number, assignees).await);
    }
    let mut trouble = vec![];
    if let Some(title) = milestone {
        match forge.set_milestone(number, title).await {
            Ok(true) => {}
            Ok(false) => trouble.push(format!("there is no open milestone `{title}`: the pull request has none")),
            Err(error) => done.push(Err(error)),
        }
    }
    let failed = done.into_iter().filter_map(Result::err).map(|error| format!("{error}; {}", error.hint()));
    trouble.extend(failed);
    trouble
}

/// True if the forge refused it as it stands, with these words of its own: its API has no code for the reason.
fn is_about(error: &ForgeError, words: &str) -> bool {
    matches!(error, ForgeError::Answer { status, message, .. }
        if status.as_u16() == 422 && message.to_lowercase().contains(words))
}

/// The proposal of a dry run outside of a job, as a line of `would-do.jsonl`.
pub(crate) fn would_propose(plan: &BottlePlan, branch: &str, draft: bool, card: &str) -> serde_json::Value {
    let base = plan.git.as_ref().and_then(|git| git.base.clone()).unwrap_or_default();
    forge::would_open(&new_pull_request(plan, branch, base, draft, card))
}

/// Gives an open one this run's evidence.
async fn renew(
    forge: &dyn Forge,
    plan: &BottlePlan,
    pull: ForgePullRequest,
    draft: bool,
    card: &str,
) -> Result<PublishResult, ForgeError> {
    let has_evidence = pull.body.contains(BEGIN);
    let to_draft = draft && !pull.draft && has_evidence;
    let to_ready = !draft && pull.draft && pull.body.contains(OUR_DRAFT);
    let body = renewed(&pull.body, card, to_draft || draft && pull.body.contains(OUR_DRAFT));
    // Gitea's drafts are a matter of the title.
    let title = match (forge.kind(), draft, pull.title.strip_prefix(DRAFT)) {
        (ForgeKind::Gitea, true, None) => Some(format!("{DRAFT}{}", pull.title)),
        (ForgeKind::Gitea, false, Some(title)) if !plan.agent.pull_request.draft => Some(title.to_owned()),
        _ => None,
    };
    let mut renewed = forge.rewrite(pull.number, title.as_deref(), &body).await?;
    let mut trouble = vec![];
    if to_draft || to_ready {
        match forge.set_draft(&renewed, draft).await {
            Ok(()) => renewed.draft = draft,
            Err(error) => {
                trouble.push(format!("whether it is a draft could not be changed: {error}; {}", error.hint()))
            }
        }
    }
    Ok(PublishResult { pull: renewed, opened: false, trouble })
}

/// Whether a run has opened this pull request, or renewed its text: it is by whoever writes with our token, and has our mark.
pub(crate) fn is_a_run_s(pull: &ForgePullRequest, me: &Author) -> bool {
    pull.author.is(me) && pull.body.contains(BEGIN)
}

/// The conversations whose runs may be at work on the branch of a pull request: its own, those that its text names as ours does, and all
/// numbers in the branch's name, of which one is that of its issue.
pub(crate) fn threads_of(pull: &ForgePullRequest) -> Vec<u64> {
    let named = pull.body.lines().filter_map(|line| {
        let line = line.trim().strip_suffix('.')?;
        line.strip_prefix("Closes #").or_else(|| line.strip_prefix("Asked for in #"))
    });
    let in_branch = pull.head.split(|c: char| !c.is_ascii_digit());
    let numbers = named.chain(in_branch).filter_map(|number| number.parse().ok());
    let mut threads = vec![pull.number];
    for number in numbers.filter(|number| *number != 0).take(MAX_THREADS) {
        if !threads.contains(&number) {
            threads.push(number);
        }
    }
    threads
}

/// Hands in a review once, whatever goes wrong; its first line is a mark of this run's.
pub(crate) async fn hand_in(forge: &dyn Forge, plan: &BottlePlan, words: &str) -> Result<(), ForgeError> {
    let Some(pull) = &plan.task.pull_request else { return Ok(()) };
    let mark = format!("<!-- claude-bottle: review {} -->", plan.slug);
    let body = format!("{mark}\n{words}");
    for look in 1.. {
        match forge.review(pull.number, &pull.head, (ReviewVerdict::Comment, &body), &[]).await.map(|_| ()) {
            Err(error) if error.may_be_done() && look < MAX_LOOKS => {
                sleep(FIRST_WAIT * (1 << look)).await;
                if forge.reviews(pull.number).await?.iter().any(|there| there.body.starts_with(&mark)) {
                    return Ok(());
                }
            }
            ended => return ended,
        }
    }
    unreachable!("the last look ends it")
}

/// The text with new evidence in place of the old; people's own words stay.
fn renewed(body: &str, card: &str, draft: bool) -> String {
    if let Some((before, rest)) = body.split_once(BEGIN)
        && let Some((_, after)) = rest.split_once(END)
    {
        return format!("{before}{}{after}", evidence(card, draft));
    }
    format!("{}\n\n{}\n", body.trim_end(), evidence(card, draft)).trim_start().to_owned()
}

fn evidence(card: &str, draft: bool) -> String {
    let draft = if draft { format!("{OUR_DRAFT}\n") } else { String::new() };
    format!("{BEGIN}\n{draft}{}\n{END}", card.trim())
}

/// Names the issue or pull request that it is about. An issue is closed by its pull request unless the manifest says otherwise; another pull request is
/// only named.
fn reference(plan: &BottlePlan) -> String {
    match plan.task.thread() {
        Some(thread) if plan.task.is_about_a_pull_request() || !plan.agent.pull_request.closes => {
            format!("Asked for in #{}.\n\n", thread.number)
        }
        Some(thread) => format!("Closes #{}.\n\n", thread.number),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(head: &str, body: &str, author: i64) -> ForgePullRequest {
        ForgePullRequest {
            number: 9,
            url: String::new(),
            title: "A change".to_owned(),
            body: body.to_owned(),
            draft: false,
            is_open: true,
            head: head.to_owned(),
            commit: None,
            head_repository: None,
            base: "main".to_owned(),
            from_fork: false,
            author: Author { id: author, login: "x".to_owned(), is_bot: false },
            auto_merge: false,
            updated: None,
            node: None,
        }
    }

    #[test]
    fn a_pull_request_of_a_run_has_our_name_and_our_mark() {
        let me = Author { id: 5, login: "bottle".to_owned(), is_bot: false };
        let body = evidence("card", false);
        assert!(is_a_run_s(&pull("bottle/x", &format!("Closes #7.\n\n{body}"), 5), &me));
        assert!(!is_a_run_s(&pull("bottle/x", &body, 6), &me), "somebody else's with our mark");
        assert!(!is_a_run_s(&pull("bottle/x", "Mine.", 5), &me), "by hand, with our account");
    }

    #[test]
    fn the_threads_of_a_branch_are_found_by_name_and_text() {
        for (head, body, expected) in [
            ("bottle/issue-7-parse", "Closes #7.\n\nx", &[9, 7][..]),
            ("bottle/issue-7-parse-2025", "Mine.", &[9, 7, 2025][..]),
            ("bottle/x", "x\nAsked for in #12.\n", &[9, 12][..]),
            ("bottle/x", "see Closes #12. or not", &[9][..]),
            ("bottle/pull-9", "Closes #0.", &[9][..]),
        ] {
            assert_eq!(threads_of(&pull(head, body, 5)), expected, "{head} {body}");
        }
    }

    #[test]
    fn people_s_own_words_stay() {
        let first = format!("Closes #7.\n\n{}\n", evidence("one", true));
        let edited = format!("My notes.\n\n{first}\nMore notes.");
        let renewed_once = renewed(&edited, "two", false);
        assert_eq!(renewed_once, format!("My notes.\n\nCloses #7.\n\n{BEGIN}\ntwo\n{END}\n\nMore notes."));
        assert_eq!(renewed(&renewed_once, "two", false), renewed_once);
        assert_eq!(renewed("Only mine.", "two", false), format!("Only mine.\n\n{BEGIN}\ntwo\n{END}\n"));
        assert_eq!(renewed("", "two", false), format!("{BEGIN}\ntwo\n{END}\n"));
    }
}
