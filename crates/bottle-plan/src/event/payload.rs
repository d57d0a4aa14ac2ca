//! What the forge sends, as far as it is used. Keys that are not used are let pass: forges add some every month.

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    pub(super) action: String,
    pub(super) issue: Issue,
    pub(super) comment: Option<Comment>,
    pub(super) label: Option<Label>,
    pub(super) repository: Repository,
    pub(super) sender: User,
}

#[derive(Debug, Deserialize)]
pub(super) struct Issue {
    pub(super) number: u64,
    pub(super) title: String,
    pub(super) body: Option<String>,
    pub(super) html_url: String,
    pub(super) user: Option<User>,
    pub(super) author_association: Option<String>,
    pub(super) pull_request: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Comment {
    pub(super) id: u64,
    pub(super) body: String,
    pub(super) html_url: String,
    pub(super) user: Option<User>,
    pub(super) author_association: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Label {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Repository {
    pub(super) full_name: String,
    pub(super) clone_url: String,
    pub(super) default_branch: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub(super) login: String,
    pub(super) id: u64,
    /// `User`, `Bot`, `Organization`; Gitea has none.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// The event's kind by its shape; none where several kinds look like this.
pub(super) fn kind_of(value: &Value) -> Option<&'static str> {
    let has = |key: &str| value.get(key).is_some_and(|value| !value.is_null());
    let kinds = [
        ("review", "pull_request_review"),
        ("pull_request", if has("comment") { "pull_request_review_comment" } else { "pull_request" }),
        ("discussion", "discussion"),
        ("workflow_run", "workflow_run"),
        ("release", "release"),
        ("client_payload", "repository_dispatch"),
        ("commits", "push"),
        ("issue", if has("comment") { "issue_comment" } else { "issues" }),
    ];
    kinds.into_iter().find(|(key, _)| has(key)).map(|(_, kind)| kind)
}
