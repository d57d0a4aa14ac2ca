//! Gitea and Forgejo by their REST API: like GitHub's in most of what is used, without GraphQL, drafts or a filter by head.

use bottle_plan::event::LabelAct;
use bottle_plan::facts::ForgeKind;
use bottle_plan::manifest::Permission;
use bottle_policy::outputs::{CloseReason, DiffSide, Remark, ReviewVerdict};
use bottle_types::git::ObjectId;
use bottle_types::secret::Secret;
use bottle_types::units::ByteSize;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::Method;
use serde_json::{Value, json};

use super::assets::Assets;
use super::concerned::Concerned;
use super::deploy_keys::DeployKeys;
use super::http::{ApiCall, ApiDialect, ForgeError, Http};
use super::ledger::Ledger;
use super::wire::{
    WireBranch, WireComment, WireIssue, WirePull, WireRepository, WireReview, WireStatus, WireTimelineEntry, WireUser,
    WireUserAccess,
};
use super::{
    Asset, AssetError, Author, Comment, DeployKey, Forge, ForgeCheck, ForgePullRequest, Issue, LabelledIssue, LastPush,
    MAX_ISSUE_PAGES, MergeMethod, NewCheck, NewPullRequest, NoAutoMerge, OldestIssues, Operation, RemarkThread,
    StoredLedger, UserAccess, auto_merge, is_below, labelled, logs, remarks,
};

/// How it is talked to.
pub(super) const DIALECT: ApiDialect = ApiDialect { scheme: "token", accept: "application/json", version: None };
/// Gitea's mark of a draft: the beginning of its title.
const DRAFT: &str = "WIP: ";
const A_PAGE: usize = 50;
const PER_PAGE: &str = "limit";
/// More open pull requests than this many pages can't be looked through.
const PAGES: usize = 40;
/// Each review costs a call of its own.
const REVIEW_PAGES: usize = 3;

const READ_PERMISSION: Operation = Operation {
    what: "ask for the actor's permission",
    needs: "to be one of an administrator of the repository, with read:repository, given to the step as GITEA_TOKEN: \
            Gitea answers no one else, its own job token included",
};
const READ_REPOSITORY: Operation = Operation { what: "look at the repository", needs: "read:repository" };
const READ_PULL: Operation = Operation { what: "look at the pull request", needs: "read:repository" };
const OPEN_PULL: Operation = Operation { what: "open the pull request", needs: "write:repository" };
const EDIT_PULL: Operation = Operation { what: "update the pull request", needs: "write:repository" };
const NEEDS_CONCERNED: &str = "write:issue and write:repository";
const LABEL: Operation = Operation { what: "add the labels", needs: "write:issue, and the labels to be there" };
const WRITE_REVIEW: Operation = Operation { what: "hand in the review", needs: "write:repository" };
const READ_ISSUE: Operation = Operation { what: "look at the issue", needs: "read:issue" };
const READ_LABELLED: Operation = Operation { what: "look for the oldest issue with the label", needs: "read:issue" };
const READ_COMMENTS: Operation = Operation { what: "read the comments", needs: "read:issue" };
const READ_TIMELINE: Operation = Operation { what: "look up which label was given", needs: "read:issue" };
const WRITE_COMMENT: Operation = Operation { what: "write the comment", needs: "write:issue" };
const WRITE_ISSUE: Operation = Operation { what: "write the issue", needs: "write:issue" };
const CLOSE_PULL: Operation = Operation { what: "close the pull request", needs: "write:repository" };
const WRITE_STATUS: Operation = Operation { what: "set the commit status", needs: "write:repository" };
/// To read the budget's ledger, and to store it.
const NEEDS_LEDGER: (&str, &str) = ("read:repository", "write:repository");
const NEEDS_KEYS: &str = "write:repository of an administrator of the repository";
const READ_LOGS: Operation =
    Operation { what: "read the failed run's logs", needs: "read:repository, and a Gitea that gives logs by its API" };
const READ_SELF: Operation = Operation { what: "ask whose token this is", needs: "read:user" };

/// One repository on Gitea or Forgejo.
pub(super) struct Gitea {
    http: Http,
    owner: String,
    name: String,
    assets: Assets,
}

impl Gitea {
    pub(super) fn new(http: Http, server: &str, owner: String, name: String) -> Result<Self, String> {
        let assets = Assets::new(ForgeKind::Gitea, server, &owner, &name)?;
        Ok(Self { http, owner, name, assets })
    }

    fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["repos", self.owner.as_str(), self.name.as_str()], rest].concat()
    }

    /// Each review of a pull request with what it says at lines.
    async fn reviews_with_remarks(&self, number: u64) -> Result<Vec<(WireReview, Vec<WireComment>)>, ForgeError> {
        let number = number.to_string();
        let mut all = vec![];
        for page in 1..=REVIEW_PAGES {
            let call = ApiCall::get(READ_PULL, self.path(&["pulls", &number, "reviews"]))
                .query("limit", A_PAGE)
                .query("page", page);
            let reviews: Vec<WireReview> = self.http.send(call).await?;
            if reviews.is_empty() {
                break;
            }
            for review in reviews {
                let id = review.id.to_string();
                let path = self.path(&["pulls", &number, "reviews", &id, "comments"]);
                all.push((review, self.http.send(ApiCall::get(READ_PULL, path)).await?));
            }
        }
        Ok(all)
    }

    fn concerned(&self) -> Concerned<'_> {
        Concerned { http: &self.http, kind: ForgeKind::Gitea, path: self.path(&[]), needs: NEEDS_CONCERNED }
    }

    fn budget(&self) -> Ledger<'_> {
        Ledger { http: &self.http, kind: ForgeKind::Gitea, path: self.path(&[]), needs: NEEDS_LEDGER }
    }

    fn keys(&self) -> DeployKeys<'_> {
        DeployKeys { http: &self.http, path: self.path(&["keys"]), per_page: PER_PAGE, needs: NEEDS_KEYS }
    }

    /// What happened to an issue or a pull request since, oldest first; none where that is more than is read.
    async fn timeline(
        &self,
        operation: Operation,
        number: u64,
        since: Option<&str>,
    ) -> Result<Option<Vec<WireTimelineEntry>>, ForgeError> {
        let number = number.to_string();
        let mut entries = vec![];
        for page in 1..=PAGES {
            let mut call = ApiCall::get(operation, self.path(&["issues", &number, "timeline"]))
                .query(PER_PAGE, A_PAGE)
                .query("page", page);
            if let Some(since) = since {
                call = call.query("since", since);
            }
            // What the reader may not see is left out of a page: only an empty one is surely the last.
            let wires: Vec<WireTimelineEntry> = self.http.send::<Option<_>>(call).await?.unwrap_or_default();
            if wires.is_empty() {
                return Ok(Some(entries));
            }
            entries.extend(wires);
        }
        Ok(None)
    }

    /// All that happened to a pull request.
    async fn history(&self, pull: &ForgePullRequest) -> Result<Vec<WireTimelineEntry>, ForgeError> {
        let too_many = || ForgeError::Nonsense {
            operation: auto_merge::READ_STATE,
            place: format!("pull request #{}", pull.number),
            problem: "more has happened there than is read".to_owned(),
        };
        self.timeline(auto_merge::READ_STATE, pull.number, None).await?.ok_or_else(too_many)
    }

    /// The open pull requests from such a branch of this repository; the search ends with the first page that has one.
    async fn open_where(
        &self,
        is_meant: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<Vec<ForgePullRequest>, ForgeError> {
        let mut found = vec![];
        for page in 1..=PAGES {
            let call = ApiCall::get(READ_PULL, self.path(&["pulls"]))
                .query("state", "open")
                .query("sort", "recentupdate")
                .query("limit", A_PAGE)
                .query("page", page);
            let wires: Vec<WirePull> = self.http.send(call).await?;
            // A server may give shorter pages than were asked for: only an empty one is surely the last.
            let last = wires.is_empty();
            found.extend(wires.into_iter().map(known_draft).filter(|pull| is_meant(&pull.head) && !pull.from_fork));
            if last || !found.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

impl Forge for Gitea {
    fn kind(&self) -> ForgeKind {
        ForgeKind::Gitea
    }

    fn set_token(&self, token: &Secret<String>, ends_at: Option<u64>) -> Result<(), String> {
        self.http.set_token(token, ends_at)
    }

    fn user_access<'a>(&'a self, login: &'a str) -> BoxFuture<'a, Result<UserAccess, ForgeError>> {
        async move {
            let call = ApiCall::get(READ_PERMISSION, self.path(&["collaborators", login, "permission"]));
            let wire: WireUserAccess = self.http.send(call).await?;
            let permission = match wire.permission.as_str() {
                "owner" | "admin" => Some(Permission::Admin),
                "write" => Some(Permission::Write),
                "read" => Some(Permission::Read),
                _ => None,
            };
            Ok(UserAccess { user_id: wire.user.map_or(0, |user| user.id), permission })
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
            let mut issues = vec![];
            for page in 1..=MAX_ISSUE_PAGES {
                let mut call = ApiCall::get(READ_ISSUE, self.path(&["issues"]))
                    .query("state", "all")
                    .query("type", "issues")
                    .query(PER_PAGE, A_PAGE)
                    .query("page", page);
                if let Some(since) = since {
                    call = call.query("since", since);
                }
                // A server may give shorter pages than were asked for: only an empty one is surely the last.
                let wires: Vec<WireIssue> = self.http.send(call).await?;
                if wires.is_empty() {
                    break;
                }
                issues.extend(wires.into_iter().map(Issue::from).filter(|issue| !issue.is_pull_request));
            }
            Ok(issues)
        }
        .boxed()
    }

    fn oldest_issues<'a>(&'a self, label: &'a str) -> BoxFuture<'a, Result<OldestIssues, ForgeError>> {
        let call =
            || ApiCall::get(READ_LABELLED, self.path(&["issues"])).query("state", "open").query(PER_PAGE, A_PAGE);
        labelled::oldest_at_gitea(&self.http, call, label).boxed()
    }

    fn labelled_issue<'a>(&'a self, number: u64, label: &'a str) -> BoxFuture<'a, Result<LabelledIssue, ForgeError>> {
        async move {
            let text = number.to_string();
            // The text before its history: what is changed in between is found in it.
            let issue = self.http.send(ApiCall::get(READ_LABELLED, self.path(&["issues", &text]))).await?;
            let timeline = self.timeline(READ_LABELLED, number, None).await?;
            Ok(labelled::at_gitea(issue, timeline, label))
        }
        .boxed()
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

    fn close_issue(&self, number: u64, _: CloseReason) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            let number = number.to_string();
            let change = json!({"state": "closed"});
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
            let mut statuses = vec![];
            for page in 1..=PAGES {
                let call = ApiCall::get(WRITE_STATUS, self.path(&["commits", commit.as_str(), "statuses"]))
                    .query(PER_PAGE, A_PAGE)
                    .query("page", page);
                // Gitea's list of nothing is null.
                let wires: Vec<WireStatus> = self.http.send::<Option<_>>(call).await?.unwrap_or_default();
                if wires.is_empty() {
                    break;
                }
                statuses.extend(wires.into_iter().filter(|status| status.is_of(&check.name, &check.job_url)));
            }
            Ok(statuses.into_iter().map(ForgeCheck::from).collect())
        }
        .boxed()
    }

    fn report_check<'a>(
        &'a self,
        commit: &'a ObjectId,
        check: &'a NewCheck,
    ) -> BoxFuture<'a, Result<ForgeCheck, ForgeError>> {
        async move {
            let path = self.path(&["statuses", commit.as_str()]);
            let call = ApiCall::write(WRITE_STATUS, Method::POST, path, check.as_status());
            Ok(self.http.send::<WireStatus>(call).await?.into())
        }
        .boxed()
    }

    fn upload_findings<'a>(
        &'a self,
        _: &'a ObjectId,
        _: &'a str,
        _: &'a Value,
    ) -> BoxFuture<'a, Result<bool, ForgeError>> {
        async { Ok(false) }.boxed()
    }

    fn pull_request(&self, number: u64) -> BoxFuture<'_, Result<ForgePullRequest, ForgeError>> {
        async move {
            let number = number.to_string();
            let wire: WirePull = self.http.send(ApiCall::get(READ_PULL, self.path(&["pulls", &number]))).await?;
            Ok(known_draft(wire))
        }
        .boxed()
    }

    fn is_auto_merge_on<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<bool, ForgeError>> {
        async move { Ok(auto_merge::is_scheduled(&self.history(pull).await?)) }.boxed()
    }

    fn last_push<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<LastPush, ForgeError>> {
        async move { Ok(auto_merge::last_push_at_gitea(&self.history(pull).await?)) }.boxed()
    }

    fn turn_auto_merge_on<'a>(
        &'a self,
        pull: &'a ForgePullRequest,
        head: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Result<MergeMethod, NoAutoMerge>, ForgeError>> {
        auto_merge::on_at_gitea(&self.http, self.path(&[]), pull, head).boxed()
    }

    fn turn_auto_merge_off<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<(), ForgeError>> {
        auto_merge::off_at_gitea(&self.http, self.path(&[]), pull).boxed()
    }

    fn open_from<'a>(&'a self, branch: &'a str) -> BoxFuture<'a, Result<Vec<ForgePullRequest>, ForgeError>> {
        self.open_where(move |head| head == branch).boxed()
    }

    fn open_below<'a>(&'a self, stem: &'a str) -> BoxFuture<'a, Result<Vec<ForgePullRequest>, ForgeError>> {
        self.open_where(move |head| is_below(head, stem)).boxed()
    }

    fn open<'a>(&'a self, new: &'a NewPullRequest) -> BoxFuture<'a, Result<ForgePullRequest, ForgeError>> {
        async move {
            let title = if new.draft { format!("{DRAFT}{}", new.title) } else { new.title.clone() };
            let body = json!({"title": title, "body": new.body, "head": new.head, "base": new.base});
            let call = ApiCall::write(OPEN_PULL, Method::POST, self.path(&["pulls"]), body);
            Ok(known_draft(self.http.send::<WirePull>(call).await?))
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
            Ok(known_draft(self.http.send::<WirePull>(call).await?))
        }
        .boxed()
    }

    fn set_draft<'a>(&'a self, _: &'a ForgePullRequest, _: bool) -> BoxFuture<'a, Result<(), ForgeError>> {
        // The title says it.
        async { Ok(()) }.boxed()
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
            // Gitea gives all of them at once.
            let mut call = ApiCall::get(READ_COMMENTS, self.path(&["issues", &number, "comments"]));
            if let Some(since) = since {
                call = call.query("since", since);
            }
            let wires: Vec<WireComment> = self.http.send(call).await?;
            Ok(wires.into_iter().map(Comment::from).collect())
        }
        .boxed()
    }

    fn label_acts<'a>(&'a self, number: u64, since: &'a str) -> BoxFuture<'a, Result<Vec<LabelAct>, ForgeError>> {
        async move {
            let number = number.to_string();
            let mut acts = vec![];
            for page in 1..=PAGES {
                let call = ApiCall::get(READ_TIMELINE, self.path(&["issues", &number, "timeline"]))
                    .query("since", since)
                    .query(PER_PAGE, A_PAGE)
                    .query("page", page);
                // What the reader may not see is left out of a page: only an empty one is surely the last.
                let wires: Vec<WireTimelineEntry> = self.http.send::<Option<_>>(call).await?.unwrap_or_default();
                if wires.is_empty() {
                    break;
                }
                acts.extend(wires.into_iter().filter_map(WireTimelineEntry::label_act));
            }
            Ok(acts)
        }
        .boxed()
    }

    fn remarks(&self, number: u64) -> BoxFuture<'_, Result<Vec<Comment>, ForgeError>> {
        async move {
            let reviews = self.reviews_with_remarks(number).await?;
            Ok(reviews.into_iter().flat_map(|(_, remarks)| remarks).map(Comment::from).collect())
        }
        .boxed()
    }

    fn remark_threads<'a>(
        &'a self,
        number: u64,
        commit: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Vec<RemarkThread>, ForgeError>> {
        async move {
            // Whose they are can't be told then, and nobody's are changed.
            let Some(me) = self.myself().await? else { return Ok(vec![]) };
            let reviews = self.reviews_with_remarks(number).await?.into_iter();
            let threads = reviews
                .flat_map(|(review, wires)| remarks::at_gitea(wires, &me, (review.commit_id.as_deref(), commit)));
            Ok(threads.collect())
        }
        .boxed()
    }

    fn edit_remark<'a>(&'a self, thread: &'a RemarkThread, text: &'a str) -> BoxFuture<'a, Result<(), ForgeError>> {
        self.edit_comment(thread.remark.id, text)
    }

    fn resolve<'a>(&'a self, thread: &'a RemarkThread) -> BoxFuture<'a, Result<bool, ForgeError>> {
        async move {
            let id = thread.remark.id.to_string();
            remarks::resolve_at_gitea(&self.http, self.path(&["pulls", "comments", &id, "resolve"])).await
        }
        .boxed()
    }

    fn diff(&self, number: u64) -> BoxFuture<'_, Result<String, ForgeError>> {
        async move {
            let file = format!("{number}.diff");
            self.http.send_for_text(ApiCall::get(READ_PULL, self.path(&["pulls", &file])).accept("text/plain")).await
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
            match self.http.send::<WireUser>(ApiCall::get(READ_SELF, vec!["user"])).await {
                Ok(user) => Ok(Some(user.into())),
                // A token without read:user: whose it is shows only with what it writes.
                Err(error) if matches!(error.status(), Some(401 | 403 | 404)) => Ok(None),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }
}

/// What a review says, in the forge's word.
fn review_event(verdict: ReviewVerdict) -> &'static str {
    match verdict {
        ReviewVerdict::Comment => "COMMENT",
        ReviewVerdict::RequestChanges => "REQUEST_CHANGES",
        ReviewVerdict::Approve => "APPROVED",
    }
}

/// A remark as a part of a review. Gitea knows no ranges: a remark about several lines stands at the last of them and says so.
fn remark((mark, remark): &(String, Remark)) -> Value {
    let lines = match remark.first_line {
        Some(first) => format!("Lines {first} to {}:\n\n", remark.line),
        None => String::new(),
    };
    let (before, after) = match remark.side {
        DiffSide::Before => (remark.line, 0),
        DiffSide::After => (0, remark.line),
    };
    let body = format!("{mark}\n{lines}{}", remark.markdown());
    json!({"path": remark.path, "old_position": before, "new_position": after, "body": body})
}

/// Older servers don't say that a pull request is a draft; its title does.
fn known_draft(wire: WirePull) -> ForgePullRequest {
    let mut pull = ForgePullRequest::from(wire);
    pull.draft |= pull.title.starts_with(DRAFT);
    pull
}
