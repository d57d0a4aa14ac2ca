//! What forges send, as far as it is used. GitHub and Gitea agree in all of it but the names of permissions.

use serde::Deserialize;

use super::{Author, Comment, Issue, PullRequest};

#[derive(Debug, Deserialize)]
pub(super) struct WireUser {
    /// Gitea's own users, such as the one of its jobs, have negative numbers.
    pub(super) id: i64,
    pub(super) login: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireStanding {
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
pub(super) struct WireComment {
    id: u64,
    body: Option<String>,
    user: Option<WireUser>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireIssue {
    title: String,
    body: Option<String>,
    html_url: String,
    pull_request: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WirePull {
    number: u64,
    html_url: String,
    title: String,
    body: Option<String>,
    #[serde(default)]
    draft: bool,
    head: WireSide,
    base: WireSide,
}

#[derive(Debug, Deserialize)]
struct WireSide {
    #[serde(rename = "ref")]
    branch: String,
    repo: Option<WireSideRepository>,
}

#[derive(Debug, Deserialize)]
struct WireSideRepository {
    id: u64,
}

impl From<WireUser> for Author {
    fn from(user: WireUser) -> Self {
        Self { id: user.id, login: user.login }
    }
}

impl From<WireComment> for Comment {
    fn from(comment: WireComment) -> Self {
        Self {
            id: comment.id,
            body: comment.body.unwrap_or_default(),
            // A deleted user's comment is nobody's.
            author: comment.user.map_or(Author { id: 0, login: String::new() }, Author::from),
        }
    }
}

impl From<WireIssue> for Issue {
    fn from(issue: WireIssue) -> Self {
        Self {
            title: issue.title,
            body: issue.body.unwrap_or_default(),
            url: issue.html_url,
            is_pull_request: issue.pull_request.is_some(),
        }
    }
}

impl From<WirePull> for PullRequest {
    fn from(pull: WirePull) -> Self {
        let id = |side: &WireSide| side.repo.as_ref().map(|repository| repository.id);
        Self {
            number: pull.number,
            url: pull.html_url,
            title: pull.title,
            body: pull.body.unwrap_or_default(),
            draft: pull.draft,
            from_fork: id(&pull.head).is_none() || id(&pull.head) != id(&pull.base),
            head: pull.head.branch,
        }
    }
}
