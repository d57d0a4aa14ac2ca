//! What forges send, as far as it is used. GitHub and Gitea agree in all of it but the names of permissions.

use bottle_plan::event::LabelAct;
use bottle_plan::task::Place;
use bottle_types::git::ObjectId;
use serde::{Deserialize, Deserializer};

use super::{Author, Comment, DeployKey, ForgeCheck, ForgePullRequest, Issue};

#[derive(Debug, Deserialize)]
pub(super) struct WireUser {
    /// Gitea's own users, such as the one of its jobs, have negative numbers.
    pub(super) id: i64,
    pub(super) login: String,
    /// GitHub: `User`, `Bot`, `Organization` …
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireUserAccess {
    pub(super) permission: String,
    /// GitHub: finer than `permission`; the name of a custom role is possible.
    pub(super) role_name: Option<String>,
    pub(super) user: Option<WireUser>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireRepository {
    pub(super) default_branch: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireBranch {
    pub(super) commit: WireBranchCommit,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireBranchCommit {
    /// Gitea calls it `id`.
    #[serde(alias = "id")]
    pub(super) sha: ObjectId,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireDeployKey {
    id: u64,
    title: String,
    key: String,
}

impl From<WireDeployKey> for DeployKey {
    fn from(WireDeployKey { id, title, key }: WireDeployKey) -> Self {
        Self { id, title, key }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WireComment {
    id: u64,
    body: Option<String>,
    #[serde(default)]
    html_url: String,
    user: Option<WireUser>,
    /// Gitea: who wrote an imported comment on another forge; the user is whoever imported it.
    original_author: Option<String>,
    original_author_id: Option<i64>,
    /// GitHub: the app that wrote it in the user's name.
    performed_via_github_app: Option<serde_json::Value>,
    created_at: Option<String>,
    updated_at: Option<String>,
    // On a line of a change:
    path: Option<String>,
    /// GitHub: the line in the new file.
    line: Option<u64>,
    /// GitHub: the first of several lines.
    start_line: Option<u64>,
    /// GitHub: `LEFT` for the file before the change.
    side: Option<String>,
    /// Gitea: the same as `line`, 0 where it is on the old side.
    position: Option<u64>,
    /// Gitea: the line in the file before the change, 0 where it is on the new side.
    original_position: Option<u64>,
    diff_hunk: Option<String>,
    in_reply_to_id: Option<u64>,
    /// Gitea: who has resolved the thread that it begins.
    resolver: Option<WireUser>,
}

impl WireComment {
    pub(super) fn is_resolved(&self) -> bool {
        self.resolver.is_some()
    }
}

/// Gitea: something that happened to an issue or a pull request.
#[derive(Debug, Deserialize)]
pub(super) struct WireTimelineEntry {
    #[serde(rename = "type")]
    kind: String,
    /// Of a label: `1` where it was given, empty where it was taken away.
    body: Option<String>,
    label: Option<WireLabel>,
    user: Option<WireUser>,
    created_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WireLabel {
    id: i64,
    name: String,
}

impl WireTimelineEntry {
    /// What has happened, in Gitea's word.
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// Of what was done with a label: its name, whether it was given, by whom, and when.
    pub(super) fn about_label(self) -> (String, bool, Option<Author>, String) {
        let name = self.label.map(|label| label.name).unwrap_or_default();
        let given = self.body.as_deref() == Some("1");
        (name, given, self.user.map(Author::from), self.created_at.unwrap_or_default())
    }

    /// When it was.
    pub(super) fn at(&self) -> Option<&str> {
        self.created_at.as_deref()
    }

    /// What was done with a label, if it is about one.
    pub(super) fn label_act(self) -> Option<LabelAct> {
        if self.kind != "label" {
            return None;
        }
        let label_id = self.label.as_ref().map(|label| label.id);
        let (name, given, by, at) = self.about_label();
        Some(LabelAct { label_id, name, given, user_id: by.map(|by| by.id), at })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WireReview {
    pub(super) id: u64,
    /// The commit that it is of.
    pub(super) commit_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireJobs {
    pub(super) jobs: Vec<WireJob>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireJob {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) conclusion: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireIssue {
    number: u64,
    title: String,
    body: Option<String>,
    html_url: String,
    #[serde(default)]
    state: String,
    user: Option<WireUser>,
    /// Gitea: who wrote an imported issue on another forge.
    original_author: Option<String>,
    original_author_id: Option<i64>,
    pull_request: Option<serde_json::Value>,
    /// GitHub's may be plain names.
    labels: Option<Vec<serde_json::Value>>,
    /// Gitea: how often the text was changed; older versions don't say.
    content_version: Option<u64>,
}

impl WireIssue {
    /// The names of its labels.
    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().flatten().filter_map(|label| label["name"].as_str().or_else(|| label.as_str()))
    }

    /// Gitea: whether the text was changed ever, or may have been.
    pub(super) fn was_edited(&self) -> bool {
        self.content_version != Some(0)
    }
}

/// A commit status.
#[derive(Debug, Deserialize)]
pub(super) struct WireStatus {
    id: u64,
    /// Gitea calls it `status`.
    #[serde(alias = "status")]
    state: String,
    context: String,
    description: Option<String>,
    target_url: Option<String>,
    creator: Option<WireUser>,
}

impl WireStatus {
    /// Whether a job has set it, under this name.
    pub(super) fn is_of(&self, name: &str, job_url: &str) -> bool {
        self.context == name && self.target_url.as_deref() == Some(job_url)
    }

    pub(super) fn is_called(&self, name: &str) -> bool {
        self.context == name
    }

    /// Newer ones have greater numbers.
    pub(super) fn number(&self) -> u64 {
        self.id
    }

    pub(super) fn is_green(&self) -> bool {
        self.state == "success"
    }
}

/// GitHub: an upload of findings that was taken.
#[derive(Debug, Deserialize)]
pub(super) struct WireUpload {}

/// GitHub: check runs of a commit.
#[derive(Debug, Deserialize)]
pub(super) struct WireCheckRuns {
    pub(super) check_runs: Vec<WireCheckRun>,
}

/// GitHub: a check run.
#[derive(Debug, Deserialize)]
pub(super) struct WireCheckRun {
    id: u64,
    name: String,
    conclusion: Option<String>,
    external_id: Option<String>,
    html_url: Option<String>,
    app: Option<WireApp>,
    output: WireCheckOutput,
}

#[derive(Debug, Deserialize)]
struct WireApp {
    slug: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WireCheckOutput {
    title: Option<String>,
}

impl WireCheckRun {
    /// Whether it bears this key, under this name.
    pub(super) fn is_of(&self, name: &str, key: &str) -> bool {
        self.name == name && self.external_id.as_deref() == Some(key)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WirePull {
    number: u64,
    html_url: String,
    title: String,
    body: Option<String>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    draft: bool,
    user: Option<WireUser>,
    /// GitHub: what it is merged by when its checks are green, if that was asked for.
    auto_merge: Option<serde_json::Value>,
    updated_at: Option<String>,
    node_id: Option<String>,
    head: WireSide,
    base: WireSide,
}

#[derive(Debug, Deserialize)]
struct WireSide {
    #[serde(rename = "ref")]
    branch: String,
    /// Gitea: empty where the branch is gone.
    #[serde(deserialize_with = "id_if_any")]
    sha: Option<ObjectId>,
    repo: Option<WireSideRepository>,
}

#[derive(Debug, Deserialize)]
struct WireSideRepository {
    id: u64,
    full_name: String,
}

fn id_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ObjectId>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { ObjectId::parse(&text).map(Some).map_err(serde::de::Error::custom) }
}

/// The number of GitHub's `ghost`.
const GHOST: i64 = 10137;

impl From<WireUser> for Author {
    fn from(user: WireUser) -> Self {
        // GitHub's account for the texts of deleted users has a number, and is nobody.
        let id = if user.login == "ghost" && user.id == GHOST { 0 } else { user.id };
        let is_bot = id <= 0 || user.kind.is_some_and(|kind| kind != "User") || user.login.ends_with("[bot]");
        Self { id, login: user.login, is_bot }
    }
}

impl From<WireComment> for Comment {
    fn from(comment: WireComment) -> Self {
        let (hunk, answers) = (comment.diff_hunk, comment.in_reply_to_id);
        let is_line = |line: Option<u64>| line.filter(|line| *line > 0);
        let at = is_line(comment.line.or(comment.position));
        // An outdated comment of GitHub's has a place in the old diff, which is no line any more.
        let old = is_line(comment.original_position).filter(|_| at.is_none() && comment.position == Some(0));
        let place = comment.path.map(|path| Place {
            path,
            line: at.or(old),
            first: is_line(comment.start_line).filter(|first| Some(*first) != at),
            before: old.is_some() || comment.side.as_deref() == Some("LEFT"),
            hunk: hunk.unwrap_or_default(),
            answers,
        });
        let is_app = comment.performed_via_github_app.is_some();
        let author = writer(comment.user, comment.original_author, comment.original_author_id);
        let author = Author { is_bot: author.is_bot || is_app, ..author };
        Self {
            id: comment.id,
            written: comment.created_at,
            changed: comment.updated_at,
            place,
            body: comment.body.unwrap_or_default(),
            url: comment.html_url,
            author,
        }
    }
}

/// Who wrote something: the user, but for what was imported, whose words are not those of the user who imported it.
fn writer(user: Option<WireUser>, original_author: Option<String>, original_author_id: Option<i64>) -> Author {
    let nobody = |login: String| Author { id: 0, login, is_bot: true };
    let imported = original_author.filter(|name| !name.is_empty());
    let imported = imported.or(original_author_id.filter(|id| *id != 0).map(|_| String::new()));
    match (imported, user) {
        (Some(name), _) => nobody(name),
        // A deleted user's words are nobody's.
        (None, None) => nobody(String::new()),
        (None, Some(user)) => Author::from(user),
    }
}

impl From<WireIssue> for Issue {
    fn from(issue: WireIssue) -> Self {
        Self {
            number: issue.number,
            title: issue.title,
            body: issue.body.unwrap_or_default(),
            url: issue.html_url,
            author: writer(issue.user, issue.original_author, issue.original_author_id),
            is_open: issue.state != "closed",
            is_pull_request: issue.pull_request.is_some(),
        }
    }
}

impl From<WireStatus> for ForgeCheck {
    fn from(status: WireStatus) -> Self {
        Self {
            id: status.id,
            // A status has no page of its own.
            url: String::new(),
            author: writer(status.creator, None, None),
            conclusion: status.state,
            summary: status.description.unwrap_or_default(),
        }
    }
}

impl From<WireCheckRun> for ForgeCheck {
    fn from(run: WireCheckRun) -> Self {
        let slug = run.app.and_then(|app| app.slug).unwrap_or_default();
        Self {
            id: run.id,
            url: run.html_url.unwrap_or_default(),
            author: Author { id: 0, login: format!("{slug}[bot]"), is_bot: true },
            conclusion: run.conclusion.unwrap_or_default(),
            summary: run.output.title.unwrap_or_default(),
        }
    }
}

impl From<WirePull> for ForgePullRequest {
    fn from(pull: WirePull) -> Self {
        let id = |side: &WireSide| side.repo.as_ref().map(|repository| repository.id);
        Self {
            number: pull.number,
            url: pull.html_url,
            title: pull.title,
            body: pull.body.unwrap_or_default(),
            draft: pull.draft,
            is_open: pull.state != "closed",
            from_fork: id(&pull.head).is_none() || id(&pull.head) != id(&pull.base),
            head: pull.head.branch,
            commit: pull.head.sha,
            head_repository: pull.head.repo.map(|repository| repository.full_name),
            base: pull.base.branch,
            author: writer(pull.user, None, None),
            auto_merge: pull.auto_merge.is_some(),
            updated: pull.updated_at,
            node: pull.node_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_by_whoever_wrote_it_or_by_nobody() {
        let user = r#"{"id": 7, "login": "mona", "type": "User"}"#;
        for (name, text, id, login, is_bot) in [
            (
                "a person's",
                r#"{"id": 1, "user": USER, "original_author": "", "original_author_id": 0}"#,
                7,
                "mona",
                false,
            ),
            ("an imported one", r#"{"id": 1, "user": USER, "original_author": "stranger"}"#, 0, "stranger", true),
            ("one imported by number", r#"{"id": 1, "user": USER, "original_author_id": 66}"#, 0, "", true),
            ("an app's", r#"{"id": 1, "user": USER, "performed_via_github_app": {"slug": "x"}}"#, 7, "mona", true),
            ("no app's", r#"{"id": 1, "user": USER, "performed_via_github_app": null}"#, 7, "mona", false),
            ("nobody's", r#"{"id": 1, "user": null}"#, 0, "", true),
            ("a ghost's", r#"{"id": 1, "user": {"id": 10137, "login": "ghost", "type": "User"}}"#, 0, "ghost", true),
            ("Gitea's ghost's", r#"{"id": 1, "user": {"id": -1, "login": "Ghost"}}"#, -1, "Ghost", true),
        ] {
            let wire: WireComment = serde_json::from_str(&text.replace("USER", user)).expect("a comment");
            let author = Comment::from(wire).author;
            assert_eq!(author, Author { id, login: login.to_owned(), is_bot }, "{name}");
        }
    }
}
