//! A dry run's forge: it is read, what would be written is kept. Outside of a job there is nothing to read either.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bottle_plan::event::LabelAct;
use bottle_plan::facts::ForgeKind;
use bottle_policy::outputs::{CloseReason, Remark, ReviewVerdict};
use bottle_types::git::ObjectId;
use bottle_types::secret::Secret;
use bottle_types::units::ByteSize;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{
    Asset, AssetError, Author, Comment, DeployKey, Forge, ForgeCheck, ForgeError, ForgePullRequest, Issue,
    LabelledIssue, LastPush, MergeMethod, NewCheck, NewPullRequest, NoAutoMerge, OldestIssues, RemarkThread,
    StoredLedger, UserAccess,
};

/// Keeps every write.
pub(crate) struct Dry {
    inner: Arc<dyn Forge>,
    kept: Mutex<Vec<Value>>,
}

impl Dry {
    pub(crate) fn new(inner: Arc<dyn Forge>) -> Self {
        Self { inner, kept: Mutex::default() }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Value>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a dry run would do about a pull request, as a line of `would-do.jsonl`.
pub(crate) fn would_open(new: &NewPullRequest) -> Value {
    json!({"would": "open-pull-request", "branch": new.head, "base": new.base, "title": new.title, "body": new.body, "draft": new.draft})
}

/// Who writes in a dry run.
fn nobody() -> Author {
    Author { id: 0, login: String::new(), is_bot: true }
}

/// A comment or a review that has no number.
fn unwritten(body: &str) -> Comment {
    Comment {
        id: 0,
        body: body.to_owned(),
        url: String::new(),
        author: nobody(),
        written: None,
        changed: None,
        place: None,
    }
}

impl Forge for Dry {
    fn kind(&self) -> ForgeKind {
        self.inner.kind()
    }

    fn set_token(&self, token: &Secret<String>, ends_at: Option<u64>) -> Result<(), String> {
        self.inner.set_token(token, ends_at)
    }

    fn user_access<'a>(&'a self, login: &'a str) -> BoxFuture<'a, Result<UserAccess, ForgeError>> {
        self.inner.user_access(login)
    }

    fn default_branch(&self) -> BoxFuture<'_, Result<String, ForgeError>> {
        self.inner.default_branch()
    }

    fn commit_of<'a>(&'a self, branch: &'a str) -> BoxFuture<'a, Result<ObjectId, ForgeError>> {
        self.inner.commit_of(branch)
    }

    fn issue(&self, number: u64) -> BoxFuture<'_, Result<Issue, ForgeError>> {
        self.inner.issue(number)
    }

    fn issues_since<'a>(&'a self, since: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Issue>, ForgeError>> {
        self.inner.issues_since(since)
    }

    fn oldest_issues<'a>(&'a self, label: &'a str) -> BoxFuture<'a, Result<OldestIssues, ForgeError>> {
        self.inner.oldest_issues(label)
    }

    fn labelled_issue<'a>(&'a self, number: u64, label: &'a str) -> BoxFuture<'a, Result<LabelledIssue, ForgeError>> {
        self.inner.labelled_issue(number, label)
    }

    fn open_issue<'a>(&'a self, title: &'a str, body: &'a str) -> BoxFuture<'a, Result<Issue, ForgeError>> {
        async move {
            self.lines().push(json!({"would": "open-issue", "title": title, "body": body}));
            Ok(Issue {
                number: 0,
                title: title.to_owned(),
                body: body.to_owned(),
                url: String::new(),
                author: nobody(),
                is_open: true,
                is_pull_request: false,
            })
        }
        .boxed()
    }

    fn edit_issue<'a>(&'a self, number: u64, title: &'a str, body: &'a str) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            self.lines().push(json!({"would": "edit-issue", "number": number, "title": title, "body": body}));
            Ok(())
        }
        .boxed()
    }

    fn close_issue(&self, number: u64, reason: CloseReason) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            self.lines().push(json!({"would": "close-issue", "number": number, "reason": reason}));
            Ok(())
        }
        .boxed()
    }

    fn close_pull_request(&self, number: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            self.lines().push(json!({"would": "close-pull-request", "number": number}));
            Ok(())
        }
        .boxed()
    }

    fn reported_checks<'a>(
        &'a self,
        commit: &'a ObjectId,
        check: &'a NewCheck,
    ) -> BoxFuture<'a, Result<Vec<ForgeCheck>, ForgeError>> {
        self.inner.reported_checks(commit, check)
    }

    fn report_check<'a>(
        &'a self,
        commit: &'a ObjectId,
        check: &'a NewCheck,
    ) -> BoxFuture<'a, Result<ForgeCheck, ForgeError>> {
        async move {
            let conclusion = check.conclusion.name().to_owned();
            self.lines().push(json!({
                "would": "check", "commit": commit, "name": check.name, "conclusion": conclusion, "summary": check.summary,
            }));
            Ok(ForgeCheck { id: 0, url: String::new(), author: nobody(), conclusion, summary: check.summary.clone() })
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
            if self.inner.kind() != ForgeKind::Github {
                return Ok(false);
            }
            self.lines().push(json!({"would": "upload-sarif", "commit": commit, "ref": reference, "sarif": sarif}));
            Ok(true)
        }
        .boxed()
    }

    fn pull_request(&self, number: u64) -> BoxFuture<'_, Result<ForgePullRequest, ForgeError>> {
        self.inner.pull_request(number)
    }

    fn is_auto_merge_on<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<bool, ForgeError>> {
        self.inner.is_auto_merge_on(pull)
    }

    fn last_push<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<LastPush, ForgeError>> {
        self.inner.last_push(pull)
    }

    fn turn_auto_merge_on<'a>(
        &'a self,
        pull: &'a ForgePullRequest,
        _: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Result<MergeMethod, NoAutoMerge>, ForgeError>> {
        async move {
            self.lines().push(json!({"would": "turn-auto-merge-on", "number": pull.number}));
            Ok(Ok(MergeMethod::Squash))
        }
        .boxed()
    }

    fn turn_auto_merge_off<'a>(&'a self, pull: &'a ForgePullRequest) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            self.lines().push(json!({"would": "turn-auto-merge-off", "number": pull.number}));
            Ok(())
        }
        .boxed()
    }

    fn open_from<'a>(&'a self, branch: &'a str) -> BoxFuture<'a, Result<Vec<ForgePullRequest>, ForgeError>> {
        self.inner.open_from(branch)
    }

    fn open_below<'a>(&'a self, stem: &'a str) -> BoxFuture<'a, Result<Vec<ForgePullRequest>, ForgeError>> {
        self.inner.open_below(stem)
    }

    fn open<'a>(&'a self, new: &'a NewPullRequest) -> BoxFuture<'a, Result<ForgePullRequest, ForgeError>> {
        async move {
            self.lines().push(would_open(new));
            Ok(ForgePullRequest {
                number: 0,
                url: String::new(),
                title: new.title.clone(),
                body: new.body.clone(),
                draft: new.draft,
                is_open: true,
                head: new.head.clone(),
                commit: None,
                head_repository: None,
                base: new.base.clone(),
                from_fork: false,
                author: Author { id: 0, login: String::new(), is_bot: true },
                auto_merge: false,
                updated: None,
                node: None,
            })
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
            let mut line = json!({"would": "update-pull-request", "number": number, "body": body});
            if let Some(title) = title {
                line["title"] = json!(title);
            }
            self.lines().push(line);
            self.inner.pull_request(number).await
        }
        .boxed()
    }

    fn set_draft<'a>(&'a self, pull: &'a ForgePullRequest, draft: bool) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            self.lines().push(json!({"would": "set-draft", "number": pull.number, "draft": draft}));
            Ok(())
        }
        .boxed()
    }

    fn label<'a>(&'a self, number: u64, labels: &'a [String]) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            // An issue of this dry run has no number: the labels are for the one that came last.
            let mut lines = self.lines();
            match lines.iter_mut().rev().find(|line| number == 0 && line["would"] == "open-issue") {
                Some(line) => line["labels"] = json!(labels),
                None => lines.push(json!({"would": "label", "number": number, "labels": labels})),
            }
            Ok(())
        }
        .boxed()
    }

    fn ask_reviewers<'a>(&'a self, number: u64, reviewers: &'a [String]) -> BoxFuture<'a, Result<(), ForgeError>> {
        self.lines().push(json!({"would": "ask-reviewers", "number": number, "reviewers": reviewers}));
        async { Ok(()) }.boxed()
    }

    fn assign<'a>(&'a self, number: u64, people: &'a [String]) -> BoxFuture<'a, Result<(), ForgeError>> {
        self.lines().push(json!({"would": "assign", "number": number, "assignees": people}));
        async { Ok(()) }.boxed()
    }

    fn set_milestone<'a>(&'a self, number: u64, title: &'a str) -> BoxFuture<'a, Result<bool, ForgeError>> {
        self.lines().push(json!({"would": "set-milestone", "number": number, "milestone": title}));
        async { Ok(true) }.boxed()
    }

    fn review<'a>(
        &'a self,
        number: u64,
        commit: &'a ObjectId,
        (verdict, body): (ReviewVerdict, &'a str),
        remarks: &'a [(String, Remark)],
    ) -> BoxFuture<'a, Result<Comment, ForgeError>> {
        async move {
            let mut line = json!({"would": "review", "number": number, "commit": commit, "body": body});
            if !verdict.is_comment() {
                line["verdict"] = json!(verdict);
            }
            if !remarks.is_empty() {
                line["remarks"] = remarks.iter().map(|(_, remark)| json!(remark)).collect();
            }
            self.lines().push(line);
            Ok(unwritten(body))
        }
        .boxed()
    }

    fn reviews(&self, number: u64) -> BoxFuture<'_, Result<Vec<Comment>, ForgeError>> {
        self.inner.reviews(number)
    }

    fn comments_since<'a>(
        &'a self,
        number: u64,
        since: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Comment>, ForgeError>> {
        self.inner.comments_since(number, since)
    }

    fn label_acts<'a>(&'a self, number: u64, since: &'a str) -> BoxFuture<'a, Result<Vec<LabelAct>, ForgeError>> {
        self.inner.label_acts(number, since)
    }

    fn remarks(&self, number: u64) -> BoxFuture<'_, Result<Vec<Comment>, ForgeError>> {
        self.inner.remarks(number)
    }

    fn remark_threads<'a>(
        &'a self,
        number: u64,
        commit: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Vec<RemarkThread>, ForgeError>> {
        self.inner.remark_threads(number, commit)
    }

    fn edit_remark<'a>(&'a self, thread: &'a RemarkThread, text: &'a str) -> BoxFuture<'a, Result<(), ForgeError>> {
        self.lines().push(json!({"would": "edit-remark", "thread": thread.remark.id, "body": text}));
        async { Ok(()) }.boxed()
    }

    fn resolve<'a>(&'a self, thread: &'a RemarkThread) -> BoxFuture<'a, Result<bool, ForgeError>> {
        self.lines().push(json!({"would": "resolve-thread", "thread": thread.remark.id}));
        async { Ok(true) }.boxed()
    }

    fn diff(&self, number: u64) -> BoxFuture<'_, Result<String, ForgeError>> {
        self.inner.diff(number)
    }

    fn failed_logs(&self, run: u64, attempt: u64) -> BoxFuture<'_, Result<Vec<(String, String)>, ForgeError>> {
        self.inner.failed_logs(run, attempt)
    }

    fn asset(&self, address: &str) -> Option<Asset> {
        self.inner.asset(address)
    }

    fn fetch<'a>(&'a self, asset: &'a Asset, most: ByteSize) -> BoxFuture<'a, Result<Vec<u8>, AssetError>> {
        self.inner.fetch(asset, most)
    }

    fn comment<'a>(&'a self, number: u64, body: &'a str) -> BoxFuture<'a, Result<Comment, ForgeError>> {
        async move {
            self.lines().push(json!({"would": "comment", "number": number, "body": body}));
            Ok(unwritten(body))
        }
        .boxed()
    }

    fn edit_comment<'a>(&'a self, id: u64, body: &'a str) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            // A comment of this dry run has no number: the text that came last is the one that counts.
            let mut lines = self.lines();
            match lines.iter_mut().rev().find(|line| id == 0 && line["would"] == "comment") {
                Some(line) => line["body"] = json!(body),
                None => lines.push(json!({"would": "edit-comment", "comment": id, "body": body})),
            }
            Ok(())
        }
        .boxed()
    }

    fn puzzle_over(&self, comment: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            self.lines().push(json!({"would": "react", "comment": comment, "reaction": "confused"}));
            Ok(())
        }
        .boxed()
    }

    fn read_comment(&self, id: u64) -> BoxFuture<'_, Result<Comment, ForgeError>> {
        self.inner.read_comment(id)
    }

    fn delete_comment(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            self.lines().push(json!({"would": "delete-comment", "comment": id}));
            Ok(())
        }
        .boxed()
    }

    fn deploy_keys(&self) -> BoxFuture<'_, Result<Vec<DeployKey>, ForgeError>> {
        self.inner.deploy_keys()
    }

    fn add_deploy_key<'a>(
        &'a self,
        title: &'a str,
        key: &'a str,
        read_only: bool,
    ) -> BoxFuture<'a, Result<(), ForgeError>> {
        async move {
            self.lines().push(json!({"would": "add-deploy-key", "title": title, "key": key, "read_only": read_only}));
            Ok(())
        }
        .boxed()
    }

    fn delete_deploy_key(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        async move {
            self.lines().push(json!({"would": "delete-deploy-key", "id": id}));
            Ok(())
        }
        .boxed()
    }

    fn ledger(&self) -> BoxFuture<'_, Result<Option<StoredLedger>, ForgeError>> {
        self.inner.ledger()
    }

    fn store_ledger<'a>(&'a self, text: &'a str, _: Option<&'a str>) -> BoxFuture<'a, Result<bool, ForgeError>> {
        async move {
            self.lines().push(json!({"would": "store-ledger", "text": text}));
            Ok(true)
        }
        .boxed()
    }

    fn myself(&self) -> BoxFuture<'_, Result<Option<Author>, ForgeError>> {
        self.inner.myself()
    }

    fn kept(&self) -> Vec<Value> {
        self.lines().clone()
    }
}
