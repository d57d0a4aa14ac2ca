//! The API of each forge, behind one trait.
//!
//! Map: `http` and `answer` (retries, errors), `tls` (whose certificates are believed), `etag_cache` (answers that may still be good), `wire` (what forges send),
//! `github`, `graphql` and `app` (what only GitHub has), `gitea`, `labelled` (issues with a label, and who gave it), `auto_merge`, `dry` (writes kept, not sent), `detect` (which forge, where,
//! with which token), `logs` (of failed jobs), `deploy_keys` (which both have alike), `ledger` (of the repository's budget), `assets` (what people attach), `settings` (of a repository, which `doctor` looks at). A run's part in a conversation is in `thread/`.
//! Always: only the runner talks to the forge, never the agent; a token is a [`Secret`](bottle_types::secret::Secret) and
//! goes to one address alone.

pub(crate) mod answer;
pub(crate) mod app;
mod assets;
mod auto_merge;
mod concerned;
mod deploy_keys;
mod detect;
mod dry;
mod etag_cache;
mod gitea;
mod github;
mod graphql;
mod http;
mod labelled;
mod ledger;
mod logs;
mod remarks;
pub(crate) mod settings;
pub(crate) mod tls;
mod wire;

#[cfg(test)]
pub(crate) mod testing;

use bottle_plan::event::LabelAct;
use bottle_plan::facts::{ForgeKind, RemarkFacts};
use bottle_plan::manifest::Permission;
use bottle_plan::task::Place;
use bottle_policy::outputs::{CheckConclusion, CloseReason, Remark, ReviewVerdict};
use bottle_types::git::ObjectId;
use bottle_types::secret::Secret;
use bottle_types::units::ByteSize;
use futures_util::future::BoxFuture;
use serde_json::Value;

pub(crate) use assets::{Asset, AssetError};
pub(crate) use auto_merge::{LastPush, MergeMethod, NoAutoMerge};
pub(crate) use detect::{connect, connect_open, is_open, kind, kind_of, token, token_variables};
pub(crate) use dry::{Dry, would_open};
pub(crate) use http::{FIRST_WAIT, ForgeError};
pub(crate) use labelled::{LabelledIssue, OldestIssues};
pub(crate) use ledger::ledger_ref;

/// More issues than this many pages are looked through no further.
const MAX_ISSUE_PAGES: usize = 20;

/// What a forge says about a user and the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserAccess {
    /// The number of the user whose login was asked about.
    pub(crate) user_id: i64,
    /// None: not even reading.
    pub(crate) permission: Option<Permission>,
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForgePullRequest {
    pub(crate) number: u64,
    /// For people.
    pub(crate) url: String,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) draft: bool,
    /// Neither closed nor merged.
    pub(crate) is_open: bool,
    /// The branch that is proposed.
    pub(crate) head: String,
    /// The commit at its head; none where the branch is gone.
    pub(crate) commit: Option<ObjectId>,
    /// Owner and name of the repository that it is in; none where that is gone.
    pub(crate) head_repository: Option<String>,
    /// The branch that it is proposed to.
    pub(crate) base: String,
    /// Whether the branch is in another repository, or in one that is gone.
    pub(crate) from_fork: bool,
    pub(crate) author: Author,
    /// GitHub: whether it is merged when its checks are green.
    pub(crate) auto_merge: bool,
    /// When it, or anything said about it, was changed last; RFC 3339.
    pub(crate) updated: Option<String>,
    /// What GitHub's GraphQL calls it.
    pub(crate) node: Option<String>,
}

/// A pull request to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewPullRequest {
    pub(crate) title: String,
    pub(crate) body: String,
    /// The branch that is proposed, in this repository.
    pub(crate) head: String,
    /// The branch that it is proposed to.
    pub(crate) base: String,
    pub(crate) draft: bool,
}

/// A comment on an issue or a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) id: u64,
    pub(crate) body: String,
    /// For people.
    pub(crate) url: String,
    pub(crate) author: Author,
    /// When it was written, RFC 3339.
    pub(crate) written: Option<String>,
    /// When it was changed last.
    pub(crate) changed: Option<String>,
    /// What of a change it is about; none below a thread.
    pub(crate) place: Option<Place>,
}

/// Who wrote a comment, and who is writing now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) id: i64,
    pub(crate) login: String,
    /// What the forge calls one, or what is called like one, or one of the forge's own helpers.
    pub(crate) is_bot: bool,
}

impl Author {
    /// Whether this is who writes with our token. An App's has no number.
    pub(crate) fn is(&self, me: &Self) -> bool {
        if me.id == 0 { self.login == me.login } else { self.id == me.id }
    }
}

/// An issue as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) number: u64,
    pub(crate) title: String,
    pub(crate) body: String,
    /// For people.
    pub(crate) url: String,
    pub(crate) author: Author,
    pub(crate) is_open: bool,
    /// Forges number both alike.
    pub(crate) is_pull_request: bool,
}

/// A key that logs in at one repository by ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeployKey {
    pub(crate) id: u64,
    pub(crate) title: String,
    /// As `ssh-ed25519 AAAA…`; a comment may follow.
    pub(crate) key: String,
}

/// A check of a commit that has ended: a check run or a commit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewCheck {
    pub(crate) name: String,
    pub(crate) conclusion: CheckConclusion,
    /// One line.
    pub(crate) summary: String,
    /// The same for every try of a job to report it; a commit status has no place for it.
    pub(crate) key: String,
    /// The job's page.
    pub(crate) job_url: String,
}

impl NewCheck {
    /// The body of the call that sets it as a commit status.
    fn as_status(&self) -> Value {
        serde_json::json!({
            "context": self.name, "state": self.conclusion.name(), "description": self.summary, "target_url": self.job_url,
        })
    }
}

/// A check as the forge has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForgeCheck {
    /// Newer ones have greater numbers.
    pub(crate) id: u64,
    /// For people.
    pub(crate) url: String,
    pub(crate) author: Author,
    /// In the forge's words, such as `success`.
    pub(crate) conclusion: String,
    pub(crate) summary: String,
}

/// The ledger of a repository's budget, as the forge has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredLedger {
    /// None of one that is too large for the forge to give.
    pub(crate) bytes: Vec<u8>,
    /// In bytes, as the forge says.
    pub(crate) size: u64,
    /// What a new one has to be stored over.
    pub(crate) version: String,
}

/// What the runner wants of a forge. Every call is about the job's repository.
pub(crate) trait Forge: Send + Sync {
    fn kind(&self) -> ForgeKind;
    /// Goes on with another token, which is not used after `ends_at`, in milliseconds since 1970.
    fn set_token(&self, token: &Secret<String>, ends_at: Option<u64>) -> Result<(), String>;
    /// What the user of this login may do.
    fn user_access<'a>(&'a self, login: &'a str) -> BoxFuture<'a, Result<UserAccess, ForgeError>>;
    /// The branch that changes are proposed to.
    fn default_branch(&self) -> BoxFuture<'_, Result<String, ForgeError>>;
    /// The commit that a branch is at.
    fn commit_of<'a>(&'a self, branch: &'a str) -> BoxFuture<'a, Result<ObjectId, ForgeError>>;
    fn issue(&self, number: u64) -> BoxFuture<'_, Result<Issue, ForgeError>>;
    /// The issues that were opened or changed since, RFC 3339, or the newest; pull requests are not among them.
    fn issues_since<'a>(&'a self, since: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Issue>, ForgeError>>;
    /// The open issues with this label, the oldest first; pull requests are not among them.
    fn oldest_issues<'a>(&'a self, label: &'a str) -> BoxFuture<'a, Result<OldestIssues, ForgeError>>;
    /// An issue as it is now, with who gave it this label.
    fn labelled_issue<'a>(&'a self, number: u64, label: &'a str) -> BoxFuture<'a, Result<LabelledIssue, ForgeError>>;
    fn open_issue<'a>(&'a self, title: &'a str, body: &'a str) -> BoxFuture<'a, Result<Issue, ForgeError>>;
    /// Gives an issue another title and text.
    fn edit_issue<'a>(&'a self, number: u64, title: &'a str, body: &'a str) -> BoxFuture<'a, Result<(), ForgeError>>;
    /// Closes an issue, with the reason where the forge has one.
    fn close_issue(&self, number: u64, reason: CloseReason) -> BoxFuture<'_, Result<(), ForgeError>>;
    /// Closes a pull request.
    fn close_pull_request(&self, number: u64) -> BoxFuture<'_, Result<(), ForgeError>>;
    /// The checks of this name that this job has reported of a commit.
    fn reported_checks<'a>(
        &'a self,
        commit: &'a ObjectId,
        check: &'a NewCheck,
    ) -> BoxFuture<'a, Result<Vec<ForgeCheck>, ForgeError>>;
    /// Reports a check of a commit; it stands before an earlier one of its name.
    fn report_check<'a>(
        &'a self,
        commit: &'a ObjectId,
        check: &'a NewCheck,
    ) -> BoxFuture<'a, Result<ForgeCheck, ForgeError>>;
    /// Uploads SARIF about a commit of a ref; false: the forge has no code scanning. A later upload of the same tool and category takes
    /// the place of an earlier one.
    fn upload_findings<'a>(
        &'a self,
        commit: &'a ObjectId,
        reference: &'a str,
        sarif: &'a Value,
    ) -> BoxFuture<'a, Result<bool, ForgeError>>;
    fn pull_request(&self, number: u64) -> BoxFuture<'_, Result<ForgePullRequest, ForgeError>>;
    /// Whether the forge merges the pull request when its required checks are green.
    fn is_auto_merge_on<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<bool, ForgeError>>;
    /// When the branch of a pull request of this repository was pushed to last.
    fn last_push<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<LastPush, ForgeError>>;
    /// Has the forge merge the pull request, which is at this commit, when its required checks are green; or says why it would not wait
    /// for them.
    fn turn_auto_merge_on<'a>(
        &'a self,
        pull: &'a ForgePullRequest,
        head: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Result<MergeMethod, NoAutoMerge>, ForgeError>>;
    /// Ends that; where it is off already nothing changes.
    fn turn_auto_merge_off<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<(), ForgeError>>;
    /// The open pull requests whose head is this branch of this repository.
    fn open_from<'a>(&'a self, branch: &'a str) -> BoxFuture<'a, Result<Vec<ForgePullRequest>, ForgeError>>;
    /// The open pull requests whose head is a branch of this repository with this name, or with this name, `-` and more.
    fn open_below<'a>(&'a self, stem: &'a str) -> BoxFuture<'a, Result<Vec<ForgePullRequest>, ForgeError>>;
    fn open<'a>(&'a self, new: &'a NewPullRequest) -> BoxFuture<'a, Result<ForgePullRequest, ForgeError>>;
    /// Gives a pull request a new text, and a title where one is given.
    fn rewrite<'a>(
        &'a self,
        number: u64,
        title: Option<&'a str>,
        body: &'a str,
    ) -> BoxFuture<'a, Result<ForgePullRequest, ForgeError>>;
    /// Makes a pull request a draft or ends that, where a title can't.
    fn set_draft<'a>(&'a self, pull: &'a ForgePullRequest, draft: bool) -> BoxFuture<'a, Result<(), ForgeError>>;
    /// Adds labels.
    fn label<'a>(&'a self, number: u64, labels: &'a [String]) -> BoxFuture<'a, Result<(), ForgeError>>;
    /// Asks for reviews of a pull request: logins, and teams as `ORGANISATION/TEAM`.
    fn ask_reviewers<'a>(&'a self, number: u64, reviewers: &'a [String]) -> BoxFuture<'a, Result<(), ForgeError>>;
    /// Assigns an issue or a pull request to these logins.
    fn assign<'a>(&'a self, number: u64, people: &'a [String]) -> BoxFuture<'a, Result<(), ForgeError>>;
    /// Gives an issue or a pull request the open milestone of this title; false: there is none.
    fn set_milestone<'a>(&'a self, number: u64, title: &'a str) -> BoxFuture<'a, Result<bool, ForgeError>>;
    /// Hands in a review of this commit, with remarks at lines of the change. Each remark has the mark by which it is found again as its
    /// first line.
    fn review<'a>(
        &'a self,
        number: u64,
        commit: &'a ObjectId,
        said: (ReviewVerdict, &'a str),
        remarks: &'a [(String, Remark)],
    ) -> BoxFuture<'a, Result<Comment, ForgeError>>;
    /// The words of the reviews of a pull request, each with its writer.
    fn reviews(&self, number: u64) -> BoxFuture<'_, Result<Vec<Comment>, ForgeError>>;
    /// All comments of an issue or a pull request, oldest first.
    fn comments(&self, number: u64) -> BoxFuture<'_, Result<Vec<Comment>, ForgeError>> {
        self.comments_since(number, None)
    }
    /// Those that were written or changed since, RFC 3339; or all.
    fn comments_since<'a>(
        &'a self,
        number: u64,
        since: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Comment>, ForgeError>>;
    /// What was done with labels of an issue or a pull request since, RFC 3339, oldest first; of a forge whose events leave it out.
    fn label_acts<'a>(&'a self, _: u64, _: &'a str) -> BoxFuture<'a, Result<Vec<LabelAct>, ForgeError>> {
        Box::pin(async { Ok(vec![]) })
    }
    /// What was said on lines of a pull request's change.
    fn remarks(&self, number: u64) -> BoxFuture<'_, Result<Vec<Comment>, ForgeError>>;
    /// The threads at lines of a pull request's change that begin with a remark of ours. The lines of one that was begun at another
    /// commit than this are not known.
    fn remark_threads<'a>(
        &'a self,
        number: u64,
        commit: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Vec<RemarkThread>, ForgeError>>;
    /// Gives the remark that a thread begins with other words.
    fn edit_remark<'a>(&'a self, thread: &'a RemarkThread, text: &'a str) -> BoxFuture<'a, Result<(), ForgeError>>;
    /// Resolves a thread. False: this forge can't, or not with this token.
    fn resolve<'a>(&'a self, thread: &'a RemarkThread) -> BoxFuture<'a, Result<bool, ForgeError>>;
    /// A pull request's change, as `git diff` prints it.
    fn diff(&self, number: u64) -> BoxFuture<'_, Result<String, ForgeError>>;
    /// The logs of the jobs that failed in a run of the repository's checks, each with the job's name.
    fn failed_logs(&self, run: u64, attempt: u64) -> BoxFuture<'_, Result<Vec<(String, String)>, ForgeError>>;
    /// Reads an address in a text; none that is not of a file attached at this forge.
    fn asset(&self, address: &str) -> Option<Asset>;
    /// Fetches an attached file of at most so many bytes.
    fn fetch<'a>(&'a self, asset: &'a Asset, most: ByteSize) -> BoxFuture<'a, Result<Vec<u8>, AssetError>>;
    fn comment<'a>(&'a self, number: u64, body: &'a str) -> BoxFuture<'a, Result<Comment, ForgeError>>;
    fn edit_comment<'a>(&'a self, id: u64, body: &'a str) -> BoxFuture<'a, Result<(), ForgeError>>;
    /// Shows below a comment that it was not understood; a second time changes nothing.
    fn puzzle_over(&self, comment: u64) -> BoxFuture<'_, Result<(), ForgeError>>;
    fn read_comment(&self, id: u64) -> BoxFuture<'_, Result<Comment, ForgeError>>;
    fn delete_comment(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>>;
    /// All deploy keys of the repository.
    fn deploy_keys(&self) -> BoxFuture<'_, Result<Vec<DeployKey>, ForgeError>>;
    /// Registers a deploy key, which may push unless it is read-only.
    fn add_deploy_key<'a>(
        &'a self,
        title: &'a str,
        key: &'a str,
        read_only: bool,
    ) -> BoxFuture<'a, Result<(), ForgeError>>;
    /// Removes a deploy key. 404 is also the answer to a token that may not.
    fn delete_deploy_key(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>>;
    /// The ledger of the repository's budget; none: nobody has stored one.
    fn ledger(&self) -> BoxFuture<'_, Result<Option<StoredLedger>, ForgeError>>;
    /// Stores the ledger over the version that was read; none: there was none. False: another is there by now.
    fn store_ledger<'a>(&'a self, text: &'a str, over: Option<&'a str>) -> BoxFuture<'a, Result<bool, ForgeError>>;
    /// Whose token this is; none where the forge does not say.
    fn myself(&self) -> BoxFuture<'_, Result<Option<Author>, ForgeError>>;
    /// What would have been written, for a dry run's record; JSON lines.
    fn kept(&self) -> Vec<Value> {
        vec![]
    }
}

/// True if a branch is the one of this name, or has more words behind it.
fn is_below(branch: &str, stem: &str) -> bool {
    branch.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// A thread at lines of a pull request's change that begins with a remark of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemarkThread {
    /// The thread's id in GitHub's GraphQL.
    pub(crate) node: Option<String>,
    pub(crate) remark: RemarkFacts,
}

/// A call of ours, in the words that follow "failed to", and what the token needs for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) what: &'static str,
    pub(crate) needs: &'static str,
}
