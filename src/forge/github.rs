//! GitHub and GitHub Enterprise Server by their REST API.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_plan::facts::ForgeKind;
use bottle_plan::manifest::Permission;
use bottle_policy::outputs::{CloseReason, DiffSide, Remark, ReviewVerdict};
use bottle_types::git::ObjectId;
use bottle_types::secret::Secret;
use bottle_types::units::ByteSize;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::assets::Assets;
use super::concerned::Concerned;
use super::deploy_keys::DeployKeys;
use super::http::{ApiCall, ApiDialect, ForgeError, Http};
use super::ledger::Ledger;
use super::wire::{
    WireBranch, WireCheckRun, WireCheckRuns, WireComment, WireIssue, WirePull, WireRepository, WireStatus, WireUpload,
    WireUser, WireUserAccess,
};
use super::{
    Asset, AssetError, Author, Comment, DeployKey, Forge, ForgeCheck, ForgePullRequest, Issue, LabelledIssue, LastPush,
    MAX_ISSUE_PAGES, MergeMethod, NewCheck, NewPullRequest, NoAutoMerge, OldestIssues, Operation, RemarkThread,
    StoredLedger, UserAccess, auto_merge, graphql, is_below, labelled, logs, remarks,
};

/// How it is talked to; the version is the newest that Enterprise servers in use know.
pub(super) const DIALECT: ApiDialect = ApiDialect {
    scheme: "Bearer",
    accept: "application/vnd.github+json",
    version: Some(("x-github-api-version", "2022-11-28")),
};
/// The user behind a job's token, which may not ask who it is. No person's login has brackets.
const JOB: &str = "github-actions[bot]";
const A_PAGE: usize = 100;
const PER_PAGE: &str = "per_page";
const REVIEW_PAGES: usize = 10;
const VIEWER: &str = "query { viewer { login } }";
const READY: &str =
    "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } } }";
const TO_DRAFT: &str =
    "mutation($id: ID!) { convertPullRequestToDraft(input: {pullRequestId: $id}) { pullRequest { isDraft } } }";
/// A thread with more comments than this many pages is read no further.
const PAGES: usize = 30;

const READ_PERMISSION: Operation = Operation {
    what: "ask for the actor's permission",
    needs: "`permissions: contents: read` and access to the repository",
};
const READ_REPOSITORY: Operation = Operation { what: "look at the repository", needs: "`permissions: contents: read`" };
const READ_PULL: Operation =
    Operation { what: "look at the pull request", needs: "`permissions: pull-requests: read`" };
const OPEN_PULL: Operation = Operation {
    what: "open the pull request",
    needs: "`permissions: pull-requests: write`, and in the repository's settings under Actions, General, \
            \"Allow GitHub Actions to create and approve pull requests\"",
};
const EDIT_PULL: Operation =
    Operation { what: "update the pull request", needs: "`permissions: pull-requests: write`" };
const NEEDS_CONCERNED: &str =
    "`permissions: pull-requests: write`, for a team a token that may read the organisation's";
const LABEL: Operation = Operation { what: "add the labels", needs: "`permissions: pull-requests: write`" };
const WRITE_REVIEW: Operation = Operation { what: "hand in the review", needs: "`permissions: pull-requests: write`" };
const READ_ISSUE: Operation = Operation { what: "look at the issue", needs: "`permissions: issues: read`" };
const READ_LABELLED: Operation =
    Operation { what: "look for the oldest issue with the label", needs: "`permissions: issues: read`" };
const READ_COMMENTS: Operation = Operation { what: "read the comments", needs: "`permissions: issues: read`" };
const WRITE_COMMENT: Operation = Operation {
    what: "write the comment",
    needs: "`permissions: issues: write`, for a pull request `pull-requests: write`",
};
const WRITE_ISSUE: Operation = Operation { what: "write the issue", needs: "`permissions: issues: write`" };
const CLOSE_PULL: Operation =
    Operation { what: "close the pull request", needs: "`permissions: pull-requests: write`" };
const WRITE_CHECK: Operation = Operation { what: "report the check", needs: "`permissions: checks: write`" };
const WRITE_STATUS: Operation =
    Operation { what: "set the commit status", needs: "`permissions: statuses: write`, or a user's access to it" };
const UPLOAD_FINDINGS: Operation = Operation {
    what: "upload the findings to code scanning",
    needs: "`permissions: security-events: write`, and code scanning in the repository",
};
const READ_LOGS: Operation = Operation { what: "read the failed run's logs", needs: "`permissions: actions: read`" };
const READ_SELF: Operation = Operation { what: "ask whose token this is", needs: "to be a user's" };
/// To read the budget's ledger, and to store it.
const NEEDS_LEDGER: (&str, &str) = ("`permissions: contents: read`", "`permissions: contents: write`");
const NEEDS_KEYS: &str = "a user's or an App's token with \"Administration: write\": no job's own token has it";

/// One repository on GitHub.
pub(super) struct Github {
    http: Http,
    owner: String,
    name: String,
    assets: Assets,
    me: OnceCell<Author>,
}

impl Github {
    pub(super) fn new(http: Http, server: &str, owner: String, name: String) -> Result<Self, String> {
        let assets = Assets::new(ForgeKind::Github, server, &owner, &name)?;
        Ok(Self { http, owner, name, assets, me: OnceCell::new() })
    }

    fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["repos", self.owner.as_str(), self.name.as_str()], rest].concat()
    }

    fn concerned(&self) -> Concerned<'_> {
        Concerned { http: &self.http, kind: ForgeKind::Github, path: self.path(&[]), needs: NEEDS_CONCERNED }
    }

    fn budget(&self) -> Ledger<'_> {
        Ledger { http: &self.http, kind: ForgeKind::Github, path: self.path(&[]), needs: NEEDS_LEDGER }
    }

    fn keys(&self) -> DeployKeys<'_> {
        DeployKeys { http: &self.http, path: self.path(&["keys"]), per_page: PER_PAGE, needs: NEEDS_KEYS }
    }

    /// A whole list, of so many pages at most.
    async fn pages<T: DeserializeOwned>(&self, most: usize, call: ApiCall<'_>) -> Result<Vec<T>, ForgeError> {
        let mut all = vec![];
        for page in 1..=most {
            let call = call.clone().query(PER_PAGE, A_PAGE).query("page", page);
            let found: Vec<T> = self.http.send(call).await?;
            let is_last = found.len() < A_PAGE;
            all.extend(found);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// Whether the token is an App's, the job's among them: no user's token may report check runs.
    async fn is_app(&self) -> Result<bool, ForgeError> {
        Ok(self.myself().await?.is_some_and(|me| me.id == 0))
    }

    async fn check_runs(&self, commit: &ObjectId, check: &NewCheck) -> Result<Vec<ForgeCheck>, ForgeError> {
        let call = ApiCall::get(WRITE_CHECK, self.path(&["commits", commit.as_str(), "check-runs"]))
            .query("check_name", &check.name)
            .query("filter", "all")
            .query(PER_PAGE, A_PAGE);
        let wires: WireCheckRuns = self.http.send(call).await?;
        let ours = wires.check_runs.into_iter().filter(|run| run.is_of(&check.name, &check.key));
        Ok(ours.map(ForgeCheck::from).collect())
    }

    async fn report_check_run(&self, commit: &ObjectId, check: &NewCheck) -> Result<ForgeCheck, ForgeError> {
        let body = json!({
            "name": check.name, "head_sha": commit, "external_id": check.key, "details_url": check.job_url,
            "status": "completed", "conclusion": check.conclusion.name(),
            // The title is shown as it is written, the summary as Markdown: none of that is the agent's.
            "output": {"title": check.summary, "summary": format!("[the job]({})", check.job_url)},
        });
        let call = ApiCall::write(WRITE_CHECK, Method::POST, self.path(&["check-runs"]), body);
        Ok(self.http.send::<WireCheckRun>(call).await?.into())
    }
}

impl Forge for Github {
    fn kind(&self) -> ForgeKind {
        ForgeKind::Github
    }

    fn set_token(&self, token: &Secret<String>, ends_at: Option<u64>) -> Result<(), String> {
        self.http.set_token(token, ends_at)
    }

    fn user_access<'a>(&'a self, login: &'a str) -> BoxFuture<'a, Result<UserAccess, ForgeError>> {
        async move {
            let call = ApiCall::get(READ_PERMISSION, self.path(&["collaborators", login, "permission"]));
            let wire: WireUserAccess = self.http.send(call).await?;
            Ok(UserAccess { user_id: wire.user.as_ref().map_or(0, |user| user.id), permission: permission(&wire) })
        }
        .boxed()
    }

    fn default_branch(&self) -> BoxFuture<'_, Result<String, ForgeError>> {
        async move {
            let wire: WireRepository = self.http.send(ApiCall::get(READ_REPOSITORY, self.path(&[]))).await?;
            Ok(wire.default_branch)
        }
        .boxed()
    }

    fn commit_of<'a>(&'a self, branch: &'a str) -> BoxFuture<'a, Result<ObjectId, ForgeError>> {
        async move {
            let call = ApiCall::get(READ_REPOSITORY, self.path(&["branches", branch]));
            Ok(self.http.send::<WireBranch>(call).await?.commit.sha)
        }
        .boxed()
    }

    fn issue(&self, number: u64) -> BoxFuture<'_, Result<Issue, ForgeError>> {
        async move {
            let number = number.to_string();
            let wire: WireIssue = self.http.send(ApiCall::get(READ_ISSUE, self.path(&["issues", &number]))).await?;
            Ok(wire.into())
        }
        .boxed()
    }

    fn issues_since<'a>(&'a self, since: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Issue>, ForgeError>> {
        async move {
            let mut call = ApiCall::get(READ_ISSUE, self.path(&["issues"]))
                .query("state", "all")
                .query("sort", "created")
                .query("direction", "desc");
            if let Some(since) = since {
                call = call.query("since", since);
            }
            let wires: Vec<WireIssue> = self.pages(MAX_ISSUE_PAGES, call).await?;
            Ok(wires.into_iter().map(Issue::from).filter(|issue| !issue.is_pull_request).collect())
        }
        .boxed()
    }

    fn oldest_issues<'a>(&'a self, label: &'a str) -> BoxFuture<'a, Result<OldestIssues, ForgeError>> {
        let call =
            || ApiCall::get(READ_LABELLED, self.path(&["issues"])).query("state", "open").query(PER_PAGE, A_PAGE);
        labelled::oldest_at_github(&self.http, call, label, A_PAGE).boxed()
    }

    fn labelled_issue<'a>(&'a self, number: u64, label: &'a str) -> BoxFuture<'a, Result<LabelledIssue, ForgeError>> {
        labelled::at_github(&self.http, READ_LABELLED, (&self.owner, &self.name), number, label).boxed()
    }

    fn open_issue<'a>(&'a self, title: &'a str, body: &'a str) -> BoxFuture<'a, Result<Issue, ForgeError>> {
        async move {
            let words = json!({"title": title, "body": body});
            let call = ApiCall::write(WRITE_ISSUE, Method::POST, self.path(&["issues"]), words);
            Ok(self.http.send::<WireIssue>(call).await?.into())
        }
        .boxed()
    }

    fn edit_issue<'a>(&'a self, number: u64, title: &'a str, body: &'a str) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            let number = number.to_string();
            let words = json!({"title": title, "body": body});
            let call = ApiCall::write(WRITE_ISSUE, Method::PATCH, self.path(&["issues", &number]), words);
            self.http.send::<WireIssue>(call).await.map(|_| ())
        }
        .boxed()
    }

    fn close_issue(&self, number: u64, reason: CloseReason) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            let number = number.to_string();
            let change = json!({"state": "closed", "state_reason": reason});
            let call = ApiCall::write(WRITE_ISSUE, Method::PATCH, self.path(&["issues", &number]), change);
            self.http.send::<WireIssue>(call).await.map(|_| ())
        }
        .boxed()
    }

    fn close_pull_request(&self, number: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            let number = number.to_string();
            let path = self.path(&["pulls", &number]);
            let call = ApiCall::write(CLOSE_PULL, Method::PATCH, path, json!({"state": "closed"}));
            self.http.send::<WirePull>(call).await.map(|_| ())
        }
        .boxed()
    }

    fn reported_checks<'a>(
        &'a self,
        commit: &'a ObjectId,
        check: &'a NewCheck,
    ) -> BoxFuture<'a, Result<Vec<ForgeCheck>, ForgeError>> {
        async move {
            if self.is_app().await? {
                return self.check_runs(commit, check).await;
            }
            let call = ApiCall::get(WRITE_STATUS, self.path(&["commits", commit.as_str(), "statuses"]));
            let wires: Vec<WireStatus> = self.pages(REVIEW_PAGES, call).await?;
            let ours = wires.into_iter().filter(|status| status.is_of(&check.name, &check.job_url));
            Ok(ours.map(ForgeCheck::from).collect())
        }
        .boxed()
    }

    fn report_check<'a>(
        &'a self,
        commit: &'a ObjectId,
        check: &'a NewCheck,
    ) -> BoxFuture<'a, Result<ForgeCheck, ForgeError>> {
        async move {
            if self.is_app().await? {
                return self.report_check_run(commit, check).await;
            }
            let path = self.path(&["statuses", commit.as_str()]);
            let call = ApiCall::write(WRITE_STATUS, Method::POST, path, check.as_status());
            Ok(self.http.send::<WireStatus>(call).await?.into())
        }
        .boxed()
    }

    fn upload_findings<'a>(
        &'a self,
        commit: &'a ObjectId,
        reference: &'a str,
        sarif: &'a Value,
    ) -> BoxFuture<'a, Result<bool, ForgeError>> {
        async move {
            // Packing into memory can't fail; GitHub refuses what is nothing.
            let mut packer = GzEncoder::new(vec![], Compression::default());
            let packed = packer.write_all(sarif.to_string().as_bytes()).and_then(|()| packer.finish());
            let packed = STANDARD.encode(packed.unwrap_or_default());
            let body = json!({"commit_sha": commit, "ref": reference, "sarif": packed, "tool_name": "claude-bottle"});
            let path = self.path(&["code-scanning", "sarifs"]);
            let call = ApiCall::write(UPLOAD_FINDINGS, Method::POST, path, body);
            self.http.send(call).await.map(|WireUpload {}| true)
        }
        .boxed()
    }

    fn pull_request(&self, number: u64) -> BoxFuture<'_, Result<ForgePullRequest, ForgeError>> {
        async move {
            let number = number.to_string();
            let wire: WirePull = self.http.send(ApiCall::get(READ_PULL, self.path(&["pulls", &number]))).await?;
            Ok(wire.into())
        }
        .boxed()
    }

    fn is_auto_merge_on<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<bool, ForgeError>> {
        // It came with the pull request.
        async { Ok(pull.auto_merge) }.boxed()
    }

    fn last_push<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<LastPush, ForgeError>> {
        auto_merge::last_push_at_github(&self.http, self.path(&["activity"]), pull).boxed()
    }

    fn turn_auto_merge_on<'a>(
        &'a self,
        pull: &'a ForgePullRequest,
        head: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Result<MergeMethod, NoAutoMerge>, ForgeError>> {
        auto_merge::on_at_github(&self.http, (&self.owner, &self.name), pull, head).boxed()
    }

    fn turn_auto_merge_off<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            match auto_merge::off_at_github(&self.http, pull).await {
                Ok(()) => Ok(()),
                // It may be off all the same: by somebody else, or by a call whose answer was lost.
                Err(error) => match self.pull_request(pull.number).await {
                    Ok(now) if !now.auto_merge => Ok(()),
                    _ => Err(error),
                },
            }
        }
        .boxed()
    }

    fn open_from<'a>(&'a self, branch: &'a str) -> BoxFuture<'a, Result<Vec<ForgePullRequest>, ForgeError>> {
        async move {
            let call = ApiCall::get(READ_PULL, self.path(&["pulls"]))
                .query("state", "open")
                .query("head", format_args!("{}:{branch}", self.owner))
                .query("per_page", A_PAGE);
            let wires: Vec<WirePull> = self.http.send(call).await?;
            // An answer to another question, as where the filter is not understood, must not rewrite somebody's text.
            Ok(wires
                .into_iter()
                .map(ForgePullRequest::from)
                .filter(|pull| pull.head == branch && !pull.from_fork)
                .collect())
        }
        .boxed()
    }

    fn open_below<'a>(&'a self, stem: &'a str) -> BoxFuture<'a, Result<Vec<ForgePullRequest>, ForgeError>> {
        async move {
            let call = ApiCall::get(READ_PULL, self.path(&["pulls"])).query("state", "open");
            let wires: Vec<WirePull> = self.pages(REVIEW_PAGES, call).await?;
            let pulls = wires.into_iter().map(ForgePullRequest::from);
            Ok(pulls.filter(|pull| is_below(&pull.head, stem) && !pull.from_fork).collect())
        }
        .boxed()
    }

    fn open<'a>(&'a self, new: &'a NewPullRequest) -> BoxFuture<'a, Result<ForgePullRequest, ForgeError>> {
        async move {
            let body =
                json!({"title": new.title, "body": new.body, "head": new.head, "base": new.base, "draft": new.draft});
            let call = ApiCall::write(OPEN_PULL, Method::POST, self.path(&["pulls"]), body);
            Ok(self.http.send::<WirePull>(call).await?.into())
        }
        .boxed()
    }

    fn rewrite<'a>(
        &'a self,
        number: u64,
        title: Option<&'a str>,
        body: &'a str,
    ) -> BoxFuture<'a, Result<ForgePullRequest, ForgeError>> {
        async move {
            let number = number.to_string();
            let mut change = json!({"body": body});
            if let Some(title) = title {
                change["title"] = json!(title);
            }
            let call = ApiCall::write(EDIT_PULL, Method::PATCH, self.path(&["pulls", &number]), change);
            Ok(self.http.send::<WirePull>(call).await?.into())
        }
        .boxed()
    }

    fn set_draft<'a>(&'a self, pull: &'a ForgePullRequest, draft: bool) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            let query = if draft { TO_DRAFT } else { READY };
            graphql::ask(&self.http, EDIT_PULL, query, Some(pull.node.as_deref().unwrap_or_default())).await.map(|_| ())
        }
        .boxed()
    }

    fn label<'a>(&'a self, number: u64, labels: &'a [String]) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            let number = number.to_string();
            let path = self.path(&["issues", &number, "labels"]);
            let call = ApiCall::write(LABEL, Method::POST, path, json!({"labels": labels}));
            // Which labels it has then does not matter.
            self.http.send_for_text(call).await.map(|_| ())
        }
        .boxed()
    }

    fn ask_reviewers<'a>(&'a self, number: u64, reviewers: &'a [String]) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move { self.concerned().ask_reviewers(&number.to_string(), reviewers).await }.boxed()
    }

    fn assign<'a>(&'a self, number: u64, people: &'a [String]) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move { self.concerned().assign(&number.to_string(), people).await }.boxed()
    }

    fn set_milestone<'a>(&'a self, number: u64, title: &'a str) -> BoxFuture<'a, Result<bool, ForgeError>> {
        async move { self.concerned().set_milestone(&number.to_string(), title).await }.boxed()
    }

    fn review<'a>(
        &'a self,
        number: u64,
        commit: &'a ObjectId,
        (verdict, body): (ReviewVerdict, &'a str),
        remarks: &'a [(String, Remark)],
    ) -> BoxFuture<'a, Result<Comment, ForgeError>> {
        async move {
            let number = number.to_string();
            let path = self.path(&["pulls", &number, "reviews"]);
            let mut words = json!({"body": body, "commit_id": commit, "event": review_event(verdict)});
            if !remarks.is_empty() {
                words["comments"] = remarks.iter().map(remark).collect();
            }
            let call = ApiCall::write(WRITE_REVIEW, Method::POST, path, words);
            Ok(self.http.send::<WireComment>(call).await?.into())
        }
        .boxed()
    }

    fn reviews(&self, number: u64) -> BoxFuture<'_, Result<Vec<Comment>, ForgeError>> {
        async move {
            let number = number.to_string();
            let mut words = vec![];
            // What others have not handed in yet is left out of a page, which may so be short.
            for page in 1..=REVIEW_PAGES {
                let call = ApiCall::get(READ_PULL, self.path(&["pulls", &number, "reviews"]))
                    .query(PER_PAGE, A_PAGE)
                    .query("page", page);
                let reviews: Vec<WireComment> = self.http.send(call).await?;
                if reviews.is_empty() {
                    break;
                }
                words.extend(reviews.into_iter().map(Comment::from));
            }
            Ok(words)
        }
        .boxed()
    }

    fn comments_since<'a>(
        &'a self,
        number: u64,
        since: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Comment>, ForgeError>> {
        async move {
            let number = number.to_string();
            let mut call = ApiCall::get(READ_COMMENTS, self.path(&["issues", &number, "comments"]));
            if let Some(since) = since {
                call = call.query("since", since);
            }
            let wires: Vec<WireComment> = self.pages(PAGES, call).await?;
            Ok(wires.into_iter().map(Comment::from).collect())
        }
        .boxed()
    }

    fn remarks(&self, number: u64) -> BoxFuture<'_, Result<Vec<Comment>, ForgeError>> {
        async move {
            let number = number.to_string();
            let call = ApiCall::get(READ_PULL, self.path(&["pulls", &number, "comments"]));
            let wires: Vec<WireComment> = self.pages(PAGES, call).await?;
            Ok(wires.into_iter().map(Comment::from).collect())
        }
        .boxed()
    }

    fn remark_threads<'a>(
        &'a self,
        number: u64,
        _: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Vec<RemarkThread>, ForgeError>> {
        // A line that is outdated is none there.
        remarks::at_github(&self.http, (&self.owner, &self.name), number).boxed()
    }

    fn edit_remark<'a>(&'a self, thread: &'a RemarkThread, text: &'a str) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            let id = thread.remark.id.to_string();
            let path = self.path(&["pulls", "comments", &id]);
            let call = ApiCall::write(WRITE_REVIEW, Method::PATCH, path, json!({"body": text}));
            self.http.send::<WireComment>(call).await.map(|_| ())
        }
        .boxed()
    }

    fn resolve<'a>(&'a self, thread: &'a RemarkThread) -> BoxFuture<'a, Result<bool, ForgeError>> {
        remarks::resolve_at_github(&self.http, thread).boxed()
    }

    fn diff(&self, number: u64) -> BoxFuture<'_, Result<String, ForgeError>> {
        async move {
            let number = number.to_string();
            let call = ApiCall::get(READ_PULL, self.path(&["pulls", &number])).accept("application/vnd.github.diff");
            self.http.send_for_text(call).await
        }
        .boxed()
    }

    fn failed_logs(&self, run: u64, attempt: u64) -> BoxFuture<'_, Result<Vec<(String, String)>, ForgeError>> {
        async move {
            let (run, attempt) = (run.to_string(), attempt.to_string());
            let jobs = self.path(&["actions", "runs", &run, "attempts", &attempt, "jobs"]);
            let jobs = ApiCall::get(READ_LOGS, jobs).query(PER_PAGE, A_PAGE);
            logs::of_failed(&self.http, jobs, (&self.owner, &self.name)).await
        }
        .boxed()
    }

    fn asset(&self, address: &str) -> Option<Asset> {
        self.assets.read(address)
    }

    fn fetch<'a>(&'a self, asset: &'a Asset, most: ByteSize) -> BoxFuture<'a, Result<Vec<u8>, AssetError>> {
        self.http.fetch(&self.assets, asset, most).boxed()
    }

    fn comment<'a>(&'a self, number: u64, body: &'a str) -> BoxFuture<'a, Result<Comment, ForgeError>> {
        async move {
            let number = number.to_string();
            let path = self.path(&["issues", &number, "comments"]);
            let call = ApiCall::write(WRITE_COMMENT, Method::POST, path, json!({"body": body}));
            Ok(self.http.send::<WireComment>(call).await?.into())
        }
        .boxed()
    }

    fn edit_comment<'a>(&'a self, id: u64, body: &'a str) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            let id = id.to_string();
            let path = self.path(&["issues", "comments", &id]);
            let call = ApiCall::write(WRITE_COMMENT, Method::PATCH, path, json!({"body": body}));
            self.http.send::<WireComment>(call).await.map(|_| ())
        }
        .boxed()
    }

    fn puzzle_over(&self, comment: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            let comment = comment.to_string();
            let path = self.path(&["issues", "comments", &comment, "reactions"]);
            let call = ApiCall::write(WRITE_COMMENT, Method::POST, path, json!({"content": "confused"}));
            self.http.send_for_text(call).await.map(|_| ())
        }
        .boxed()
    }

    fn read_comment(&self, id: u64) -> BoxFuture<'_, Result<Comment, ForgeError>> {
        async move {
            let id = id.to_string();
            let call = ApiCall::get(READ_COMMENTS, self.path(&["issues", "comments", &id]));
            Ok(self.http.send::<WireComment>(call).await?.into())
        }
        .boxed()
    }

    fn delete_comment(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            let id = id.to_string();
            let call = ApiCall::delete(WRITE_COMMENT, self.path(&["issues", "comments", &id]));
            match self.http.send_for_text(call).await {
                // It is gone, by whomever.
                Err(error) if matches!(error.status(), Some(404 | 410)) => Ok(()),
                ended => ended.map(|_| ()),
            }
        }
        .boxed()
    }

    fn deploy_keys(&self) -> BoxFuture<'_, Result<Vec<DeployKey>, ForgeError>> {
        self.keys().all().boxed()
    }

    fn add_deploy_key<'a>(
        &'a self,
        title: &'a str,
        key: &'a str,
        read_only: bool,
    ) -> BoxFuture<'a, Result<(), ForgeError>> {
        self.keys().add(title, key, read_only).boxed()
    }

    fn delete_deploy_key(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        self.keys().delete(id).boxed()
    }

    fn ledger(&self) -> BoxFuture<'_, Result<Option<StoredLedger>, ForgeError>> {
        async move { self.budget().read().await }.boxed()
    }

    fn store_ledger<'a>(&'a self, text: &'a str, over: Option<&'a str>) -> BoxFuture<'a, Result<bool, ForgeError>> {
        async move { self.budget().store(text, over).await }.boxed()
    }

    fn myself(&self) -> BoxFuture<'_, Result<Option<Author>, ForgeError>> {
        async move {
            let ask = async {
                match self.http.send::<WireUser>(ApiCall::get(READ_SELF, vec!["user"])).await {
                    Ok(user) => Ok(user.into()),
                    // An App's token, the job's among them, is an installation's, which is no user and may not ask so.
                    Err(error) if matches!(error.status(), Some(401 | 403 | 404)) => {
                        let viewer = graphql::ask(&self.http, READ_SELF, VIEWER, None).await;
                        let login = viewer.ok().and_then(|data| data["viewer"]["login"].as_str().map(str::to_owned));
                        Ok(Author { id: 0, login: login.unwrap_or_else(|| JOB.to_owned()), is_bot: true })
                    }
                    Err(error) => Err(error),
                }
            };
            self.me.get_or_try_init(|| ask).await.cloned().map(Some)
        }
        .boxed()
    }
}

/// What a review says, in the forge's word.
fn review_event(verdict: ReviewVerdict) -> &'static str {
    match verdict {
        ReviewVerdict::Comment => "COMMENT",
        ReviewVerdict::RequestChanges => "REQUEST_CHANGES",
        ReviewVerdict::Approve => "APPROVE",
    }
}

/// A remark as a part of a review.
fn remark((mark, remark): &(String, Remark)) -> Value {
    let side = match remark.side {
        DiffSide::Before => "LEFT",
        DiffSide::After => "RIGHT",
    };
    let mut wire = json!({"path": remark.path, "line": remark.line, "side": side});
    wire["body"] = json!(format!("{mark}\n{}", remark.markdown()));
    if let Some(first) = remark.first_line {
        wire["start_line"] = json!(first);
        wire["start_side"] = json!(side);
    }
    wire
}

/// The finer of GitHub's two answers where it is one of the known roles; a custom role counts as what it is based on.
fn permission(wire: &WireUserAccess) -> Option<Permission> {
    let known = |name: &str| match name {
        "admin" => Some(Permission::Admin),
        "maintain" => Some(Permission::Maintain),
        "write" => Some(Permission::Write),
        "triage" => Some(Permission::Triage),
        "read" => Some(Permission::Read),
        _ => None,
    };
    let base = known(&wire.permission)?;
    // `maintain` comes with the base `write`, `triage` with `read`: a role above its base's reach is not believed.
    match (base, wire.role_name.as_deref().and_then(known)) {
        (Permission::Write, Some(Permission::Maintain)) => Some(Permission::Maintain),
        (Permission::Read, Some(Permission::Triage)) => Some(Permission::Triage),
        _ => Some(base),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_finer_and_never_more() {
        for (base, role, wanted) in [
            ("none", None, None),
            ("none", Some("admin"), None),
            ("read", None, Some(Permission::Read)),
            ("read", Some("triage"), Some(Permission::Triage)),
            ("read", Some("admin"), Some(Permission::Read)),
            ("write", Some("maintain"), Some(Permission::Maintain)),
            ("write", Some("release-manager"), Some(Permission::Write)),
            ("admin", Some("admin"), Some(Permission::Admin)),
            ("owner", Some("admin"), None),
        ] {
            let wire = WireUserAccess { permission: base.to_owned(), role_name: role.map(str::to_owned), user: None };
            assert_eq!(permission(&wire), wanted, "{base} {role:?}");
        }
    }
}
