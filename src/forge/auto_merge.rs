//! The forge's own auto-merge: it merges a pull request when all required checks are green. Each forge's calls, and what they refuse.
//!
//! GitHub binds the yes to a commit as it is given, and keeps it over later pushes. Gitea and Forgejo bind it to none. Neither is asked where it
//! would merge at once: there a person can press the button.

use bottle_types::git::ObjectId;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{ApiCall, ForgeError, Http};
use super::wire::{WireStatus, WireTimelineEntry};
use super::{ForgePullRequest, Operation, graphql};

pub(super) const READ_STATE: Operation =
    Operation { what: "look whether auto-merge is on", needs: "to read the repository and its issues" };
const READ_PUSHES: Operation =
    Operation { what: "ask when the branch was pushed to last", needs: "`permissions: contents: read`" };
const READ_RULES: Operation =
    Operation { what: "ask what has to be green before the merge", needs: "to read the repository" };
const TURN_ON: Operation = Operation {
    what: "turn auto-merge on",
    needs: "to write the repository: at GitHub `permissions: contents: write` and `pull-requests: write`, at Gitea write:repository of one who may merge",
};
const TURN_OFF: Operation = Operation {
    what: "turn auto-merge off",
    needs: "to write the repository: at GitHub `permissions: contents: write` and `pull-requests: write`, at Gitea write:repository of one who may merge",
};

const SETTINGS: &str = "query($owner: String!, $name: String!) { repository(owner: $owner, name: $name) { \
    autoMergeAllowed squashMergeAllowed mergeCommitAllowed rebaseMergeAllowed } }";
const ENABLE: &str = "mutation($id: ID!, $head: GitObjectID!, $method: PullRequestMergeMethod!) { \
    enablePullRequestAutoMerge(input: {pullRequestId: $id, expectedHeadOid: $head, mergeMethod: $method}) { \
    pullRequest { autoMergeRequest { enabledAt } } } }";
const DISABLE: &str = "mutation($id: ID!) { disablePullRequestAutoMerge(input: {pullRequestId: $id}) { \
    pullRequest { autoMergeRequest { enabledAt } } } }";

/// Gitea's entries of a pull request's history.
const SCHEDULED: &str = "pull_scheduled_merge";
const CANCELLED: &str = "pull_cancel_scheduled_merge";
const PUSHED: &str = "pull_push";

/// How a pull request is merged: the first of these that the repository allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeMethod {
    Squash,
    Merge,
    Rebase,
}

impl MergeMethod {
    fn first(squash: bool, merge: bool, rebase: bool) -> Option<Self> {
        let allowed = [(squash, Self::Squash), (merge, Self::Merge), (rebase, Self::Rebase)];
        allowed.into_iter().find_map(|(is_allowed, method)| is_allowed.then_some(method))
    }

    /// In the words of both forges; GitHub's are in capitals.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Squash => "squash",
            Self::Merge => "merge",
            Self::Rebase => "rebase",
        }
    }
}

/// When a branch was pushed to last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LastPush {
    /// RFC 3339, and the commit that it was pushed to where the forge says it.
    At(String, Option<ObjectId>),
    /// Not since its pull request was opened.
    BeforeOpened,
    /// The forge does not say.
    Unknown,
}

/// Why auto-merge is not turned on although it was asked for rightly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAutoMerge {
    #[error("auto-merge is not allowed in this repository")]
    NotAllowed,
    #[error("this repository allows neither squash, merge commits nor rebase")]
    NoMethod,
    #[error("no check is required on {0}, so the forge would merge at once")]
    NothingRequired(String),
    #[error("there is nothing to wait for: the forge would merge at once")]
    NothingToWaitFor,
    #[error("the pull request has other commits than a moment ago")]
    Moved,
}

impl NoAutoMerge {
    /// What to do.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NotAllowed => {
                "turn on \"Allow auto-merge\" in the repository's settings, under General, Pull Requests"
            }
            Self::NoMethod => "allow one of them in the repository's settings",
            Self::NothingRequired(_) => "protect the branch, and require at least one check there",
            Self::NothingToWaitFor => "look at it once more, and merge it by the forge's button",
            Self::Moved => "look at what was pushed, and ask again",
        }
    }
}

#[derive(Debug, Deserialize)]
struct WireActivity {
    after: ObjectId,
    timestamp: String,
}

/// Asks GitHub when the branch was pushed to last: neither a commit's own time nor its author's word says it.
pub(super) async fn last_push_at_github(
    http: &Http,
    path: Vec<&str>,
    pull: &ForgePullRequest,
) -> Result<LastPush, ForgeError> {
    let call = ApiCall::get(READ_PUSHES, path)
        .query("ref", format_args!("refs/heads/{}", pull.head))
        .query("direction", "desc")
        .query("per_page", 1);
    let wires: Vec<WireActivity> = http.send(call).await?;
    Ok(wires.into_iter().next().map_or(LastPush::Unknown, |wire| LastPush::At(wire.timestamp, Some(wire.after))))
}

/// Turns it on at GitHub, or says why not.
pub(super) async fn on_at_github(
    http: &Http,
    (owner, name): (&str, &str),
    pull: &ForgePullRequest,
    head: &ObjectId,
) -> Result<Result<MergeMethod, NoAutoMerge>, ForgeError> {
    let data = graphql::ask_with(http, READ_RULES, SETTINGS, &json!({"owner": owner, "name": name})).await?;
    let allows = |key: &str| data["repository"][key] == Value::Bool(true);
    if !allows("autoMergeAllowed") {
        return Ok(Err(NoAutoMerge::NotAllowed));
    }
    let method =
        MergeMethod::first(allows("squashMergeAllowed"), allows("mergeCommitAllowed"), allows("rebaseMergeAllowed"));
    let Some(method) = method else { return Ok(Err(NoAutoMerge::NoMethod)) };
    let word = method.name().to_ascii_uppercase();
    let variables = json!({"id": pull.node.as_deref().unwrap_or_default(), "head": head, "method": word});
    match graphql::ask_with(http, TURN_ON, ENABLE, &variables).await {
        Ok(_) => Ok(Ok(method)),
        Err(error) => known(&error, &pull.base).map(Err).ok_or(error),
    }
}

/// What GitHub's words mean: it has no code for the reason.
fn known(error: &ForgeError, base: &str) -> Option<NoAutoMerge> {
    let ForgeError::Answer { message, .. } = error else { return None };
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["auto merge is not allowed", "auto-merge is not allowed"]) {
        Some(NoAutoMerge::NotAllowed)
    } else if says(&["protected branch rules not configured"]) {
        Some(NoAutoMerge::NothingRequired(base.to_owned()))
    } else if says(&["is in clean status", "is in unstable status", "is in has_hooks status"]) {
        Some(NoAutoMerge::NothingToWaitFor)
    } else if says(&["head sha", "head oid", "expected head", "head branch was modified"]) {
        Some(NoAutoMerge::Moved)
    } else {
        None
    }
}

/// Turns it off at GitHub.
pub(super) async fn off_at_github(http: &Http, pull: &ForgePullRequest) -> Result<(), ForgeError> {
    graphql::ask(http, TURN_OFF, DISABLE, Some(pull.node.as_deref().unwrap_or_default())).await.map(|_| ())
}

/// Whether Gitea has scheduled the merge, by all that has happened to the pull request, oldest first.
pub(super) fn is_scheduled(history: &[WireTimelineEntry]) -> bool {
    let last = history.iter().rev().map(WireTimelineEntry::kind).find(|kind| [SCHEDULED, CANCELLED].contains(kind));
    last == Some(SCHEDULED)
}

/// When the branch was pushed to last, by the same.
pub(super) fn last_push_at_gitea(history: &[WireTimelineEntry]) -> LastPush {
    match history.iter().rev().find(|entry| entry.kind() == PUSHED) {
        Some(entry) => entry.at().map_or(LastPush::Unknown, |at| LastPush::At(at.to_owned(), None)),
        None => LastPush::BeforeOpened,
    }
}

/// Gitea: a branch with the rule that holds for it, which the server finds by its name.
#[derive(Debug, Deserialize)]
struct WireProtectedBranch {
    #[serde(default)]
    protected: bool,
    #[serde(default)]
    enable_status_check: bool,
    status_check_contexts: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct WireMergeRules {
    #[serde(default)]
    allow_squash_merge: bool,
    #[serde(default)]
    allow_merge_commits: bool,
    #[serde(default)]
    allow_rebase: bool,
}

/// So many statuses of a commit are looked through; more can only hide that all is green.
const STATUSES: usize = 50;

/// Turns it on at Gitea or Forgejo, or says why not. The server takes note of no commit, and merges at once where no check is required.
pub(super) async fn on_at_gitea(
    http: &Http,
    path: Vec<&str>,
    pull: &ForgePullRequest,
    head: &ObjectId,
) -> Result<Result<MergeMethod, NoAutoMerge>, ForgeError> {
    let below = |rest: &[&'static str]| [&path, rest].concat();
    let mut branch = below(&["branches"]);
    branch.push(&pull.base);
    let branch: WireProtectedBranch = http.send(ApiCall::get(READ_RULES, branch)).await?;
    let required: Vec<String> = branch.status_check_contexts.unwrap_or_default();
    let required: Vec<String> = required.into_iter().filter(|context| !context.trim().is_empty()).collect();
    if !(branch.protected && branch.enable_status_check) || required.is_empty() {
        return Ok(Err(NoAutoMerge::NothingRequired(pull.base.clone())));
    }
    let mut statuses = below(&["commits"]);
    statuses.extend([head.as_str(), "statuses"]);
    let call = ApiCall::get(READ_RULES, statuses).query("sort", "recentupdate").query("limit", STATUSES);
    // A list of nothing is null.
    let statuses: Vec<WireStatus> = http.send::<Option<_>>(call).await?.unwrap_or_default();
    let is_green = |context: &String| {
        let newest = statuses.iter().filter(|status| status.is_called(context)).max_by_key(|status| status.number());
        newest.is_some_and(WireStatus::is_green)
    };
    if required.iter().all(is_green) {
        return Ok(Err(NoAutoMerge::NothingToWaitFor));
    }
    let rules: WireMergeRules = http.send(ApiCall::get(READ_RULES, path.clone())).await?;
    let method = MergeMethod::first(rules.allow_squash_merge, rules.allow_merge_commits, rules.allow_rebase);
    let Some(method) = method else { return Ok(Err(NoAutoMerge::NoMethod)) };
    let number = pull.number.to_string();
    let mut merge = below(&["pulls"]);
    merge.extend([number.as_str(), "merge"]);
    let body = json!({"Do": method.name(), "merge_when_checks_succeed": true, "head_commit_id": head});
    match http.send_for_text(ApiCall::write(TURN_ON, Method::POST, merge, body)).await {
        // It is scheduled already, or the head is another one: the caller looks.
        Err(ForgeError::Answer { status, message, .. }) if status.as_u16() == 409 && is_already(&message) => {
            Ok(Ok(method))
        }
        Err(ForgeError::Answer { status, .. }) if status.as_u16() == 409 => Ok(Err(NoAutoMerge::Moved)),
        ended => ended.map(|_| Ok(method)),
    }
}

fn is_already(message: &str) -> bool {
    message.to_lowercase().contains("already scheduled")
}

/// Turns it off at Gitea or Forgejo.
pub(super) async fn off_at_gitea(http: &Http, path: Vec<&str>, pull: &ForgePullRequest) -> Result<(), ForgeError> {
    let number = pull.number.to_string();
    let path = [&path[..], &["pulls", &number, "merge"]].concat();
    match http.send_for_text(ApiCall::delete(TURN_OFF, path)).await {
        // Nothing is scheduled.
        Err(error) if error.status() == Some(404) => Ok(()),
        ended => ended.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn history(kinds: &[&str]) -> Vec<WireTimelineEntry> {
        let entry = |(number, kind): (usize, &&str)| json!({"type": kind, "created_at": format!("2026-03-02T09:00:{number:02}Z")});
        let entries: Value = kinds.iter().enumerate().map(entry).collect();
        serde_json::from_value(entries).expect("a history")
    }

    #[test]
    fn the_last_entry_says_whether_a_merge_is_scheduled() {
        for (kinds, is_on) in [
            (&[][..], false),
            (&["comment", "pull_push"][..], false),
            (&[SCHEDULED][..], true),
            (&[SCHEDULED, "pull_push", "comment"][..], true),
            (&[SCHEDULED, CANCELLED][..], false),
            (&[SCHEDULED, CANCELLED, "pull_push", SCHEDULED][..], true),
        ] {
            assert_eq!(is_scheduled(&history(kinds)), is_on, "{kinds:?}");
        }
        let at = |kinds: &[&str]| last_push_at_gitea(&history(kinds));
        assert_eq!(at(&["comment"]), LastPush::BeforeOpened);
        assert_eq!(at(&[PUSHED, PUSHED, "comment"]), LastPush::At("2026-03-02T09:00:01Z".to_owned(), None));
        let undated: Vec<WireTimelineEntry> = serde_json::from_value(json!([{"type": PUSHED}])).expect("a history");
        assert_eq!(last_push_at_gitea(&undated), LastPush::Unknown);
    }

    #[test]
    fn github_s_words_are_known_or_passed_on() {
        let error = |message: &str| ForgeError::Answer {
            operation: TURN_ON,
            place: "POST graphql".to_owned(),
            status: StatusCode::FORBIDDEN,
            message: message.to_owned(),
        };
        for (message, expected) in [
            ("Pull request Auto merge is not allowed for this repository", Some(NoAutoMerge::NotAllowed)),
            ("Pull request is in clean status", Some(NoAutoMerge::NothingToWaitFor)),
            ("[\"Pull request Pull request is in unstable status\"]", Some(NoAutoMerge::NothingToWaitFor)),
            (
                "Pull request Protected branch rules not configured for this branch",
                Some(NoAutoMerge::NothingRequired("main".to_owned())),
            ),
            ("Expected head sha didn't match current head ref.", Some(NoAutoMerge::Moved)),
            ("Resource not accessible by integration", None),
        ] {
            assert_eq!(known(&error(message), "main"), expected, "{message}");
        }
    }

    #[test]
    fn the_first_method_that_is_allowed_is_used() {
        for (allowed, expected) in [
            ((true, true, true), Some(MergeMethod::Squash)),
            ((false, true, true), Some(MergeMethod::Merge)),
            ((false, false, true), Some(MergeMethod::Rebase)),
            ((false, false, false), None),
        ] {
            assert_eq!(MergeMethod::first(allowed.0, allowed.1, allowed.2), expected);
        }
    }
}
