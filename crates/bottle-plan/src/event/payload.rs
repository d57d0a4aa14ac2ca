//! What the forge sends, as far as it is used. Keys that are not used are let pass: forges add some every month.
//!
//! GitHub and Gitea differ: Gitea's users have no `type`, its reviews neither id nor times, its labels come in `changes`.
//! What one of them lacks is optional here; whether it may be missing is decided where it is used.

use serde::Deserialize;
use serde_json::{Map, Value};

/// One type for all kinds: each uses its own keys.
#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    pub(super) action: Option<String>,
    pub(super) issue: Option<IssuePayload>,
    pub(super) pull_request: Option<Pull>,
    /// Gitea: whether the issue of a comment is a pull request.
    pub(super) is_pull: Option<bool>,
    pub(super) comment: Option<CommentPayload>,
    pub(super) review: Option<Review>,
    /// GitHub: the label that was given.
    pub(super) label: Option<Label>,
    /// GitHub: who was assigned.
    pub(super) assignee: Option<UserPayload>,
    pub(super) changes: Option<ChangesPayload>,
    pub(super) inputs: Option<Map<String, Value>>,
    pub(super) client_payload: Option<Map<String, Value>>,
    pub(super) schedule: Option<String>,
    pub(super) workflow_run: Option<RunPayload>,
    pub(super) repository: Option<RepositoryPayload>,
    pub(super) sender: Option<UserPayload>,
}

#[derive(Debug, Deserialize)]
pub(super) struct IssuePayload {
    pub(super) number: u64,
    pub(super) title: String,
    pub(super) body: Option<String>,
    pub(super) html_url: String,
    user: Option<UserPayload>,
    original_author: Option<String>,
    original_author_id: Option<i64>,
    performed_via_github_app: Option<App>,
    pub(super) author_association: Option<String>,
    pub(super) pull_request: Option<Value>,
    pub(super) updated_at: Option<String>,
    pub(super) assignees: Option<Vec<UserPayload>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pull {
    pub(super) number: u64,
    pub(super) title: String,
    pub(super) body: Option<String>,
    pub(super) html_url: String,
    user: Option<UserPayload>,
    pub(super) state: Option<String>,
    pub(super) draft: Option<bool>,
    pub(super) updated_at: Option<String>,
    pub(super) head: Option<End>,
    pub(super) base: Option<End>,
}

/// Where a pull request comes from, or goes to.
#[derive(Debug, Deserialize)]
pub(super) struct End {
    #[serde(rename = "ref")]
    pub(super) branch: String,
    pub(super) sha: String,
    pub(super) repo: Option<Origin>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Origin {
    pub(super) id: i64,
    pub(super) full_name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CommentPayload {
    pub(super) id: u64,
    pub(super) body: String,
    pub(super) html_url: String,
    user: Option<UserPayload>,
    original_author: Option<String>,
    original_author_id: Option<i64>,
    performed_via_github_app: Option<App>,
    pub(super) author_association: Option<String>,
    pub(super) created_at: Option<String>,
    pub(super) updated_at: Option<String>,
    pub(super) path: Option<String>,
    pub(super) line: Option<u64>,
    /// GitHub: the first of several lines.
    pub(super) start_line: Option<u64>,
    /// GitHub: `LEFT` for the file before the change.
    pub(super) side: Option<String>,
    pub(super) diff_hunk: Option<String>,
    pub(super) in_reply_to_id: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Review {
    pub(super) id: Option<u64>,
    pub(super) body: Option<String>,
    pub(super) html_url: Option<String>,
    user: Option<UserPayload>,
    performed_via_github_app: Option<App>,
    pub(super) author_association: Option<String>,
    pub(super) submitted_at: Option<String>,
    /// Gitea's word for the body.
    pub(super) content: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Label {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChangesPayload {
    /// Gitea: the labels that were given.
    pub(super) added_labels: Option<Vec<Label>>,
    /// Gitea: the labels that were taken away.
    pub(super) removed_labels: Option<Vec<Label>>,
    /// GitHub: the issue that this one was in the repository that it was transferred from.
    pub(super) old_issue: Option<Value>,
    /// GitHub: the repository that the issue was transferred from.
    pub(super) old_repository: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RunPayload {
    pub(super) id: u64,
    pub(super) run_attempt: Option<u64>,
    pub(super) name: Option<String>,
    pub(super) html_url: Option<String>,
    pub(super) head_branch: Option<String>,
    pub(super) head_sha: Option<String>,
    pub(super) conclusion: Option<String>,
    pub(super) updated_at: Option<String>,
    /// Gitea's word for the same time.
    pub(super) completed_at: Option<String>,
    pub(super) actor: Option<UserPayload>,
    pub(super) triggering_actor: Option<UserPayload>,
    /// Gitea's word for the same user.
    pub(super) trigger_actor: Option<UserPayload>,
    pub(super) head_repository: Option<Origin>,
    pub(super) pull_requests: Option<Vec<Numbered>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Numbered {
    pub(super) number: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct RepositoryPayload {
    pub(super) id: i64,
    pub(super) full_name: String,
    pub(super) clone_url: String,
    pub(super) default_branch: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct UserPayload {
    pub(super) login: String,
    /// Gitea gives its own helpers negative ones.
    pub(super) id: i64,
    /// `User`, `Bot`, `Organization`; Gitea has none.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// GitHub: an app that acted in a user's name.
#[derive(Debug, Deserialize)]
pub(super) struct App {
    pub(super) slug: Option<String>,
}

/// Whose words a text has, as far as the forge says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    /// The account that the text stands under.
    pub(super) user: Option<&'a UserPayload>,
    /// The writer's name on another forge, where the text was imported from.
    pub(super) original: Option<&'a str>,
    /// The app that wrote the text in the account's name.
    pub(super) app: Option<&'a App>,
}

impl<'a> Writer<'a> {
    /// Gitea has an imported text under the account of whoever imported it; the writer is known by name only.
    fn new(user: &'a Option<UserPayload>, name: &'a Option<String>, id: Option<i64>, app: &'a Option<App>) -> Self {
        let name = name.as_deref().unwrap_or_default();
        let imported = !name.is_empty() || id.is_some_and(|id| id != 0);
        Self { user: user.as_ref(), original: imported.then_some(name), app: app.as_ref() }
    }

    /// The writer's login; none where nobody knows who wrote it.
    pub(super) fn login(&self) -> Option<String> {
        let name = self.original.or(self.user.map(|user| user.login.as_str()));
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    }
}

impl IssuePayload {
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer::new(&self.user, &self.original_author, self.original_author_id, &self.performed_via_github_app)
    }
}

impl Pull {
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer { user: self.user.as_ref(), original: None, app: None }
    }
}

impl CommentPayload {
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer::new(&self.user, &self.original_author, self.original_author_id, &self.performed_via_github_app)
    }
}

impl Review {
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer { user: self.user.as_ref(), original: None, app: self.performed_via_github_app.as_ref() }
    }
}

/// The kinds of events that a task is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventKind {
    Issues,
    IssueComment,
    PullRequest,
    Review,
    ReviewComment,
    WorkflowDispatch,
    RepositoryDispatch,
    Schedule,
    WorkflowRun,
}

impl EventKind {
    /// By the name that a forge gives it; Gitea's webhooks have finer ones than its jobs.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "issues" | "issue_label" | "issue_assign" => Self::Issues,
            "issue_comment" | "pull_request_comment" => Self::IssueComment,
            "pull_request" | "pull_request_target" | "pull_request_label" => Self::PullRequest,
            "pull_request_review" | "pull_request_review_approved" | "pull_request_review_rejected" => Self::Review,
            "pull_request_review_comment" => Self::ReviewComment,
            "workflow_dispatch" => Self::WorkflowDispatch,
            "repository_dispatch" => Self::RepositoryDispatch,
            "schedule" => Self::Schedule,
            "workflow_run" => Self::WorkflowRun,
            _ => return None,
        })
    }
}

/// Whether an action of an issue or a pull request may have given a label: GitHub's word, and Gitea's, which also takes away.
pub(super) fn starts_by_label(action: &str) -> bool {
    matches!(action, "labeled" | "label_updated")
}

/// Names of events, GitHub's and Gitea's, of which no task is made: a workflow may be started by each of them.
const WITHOUT_A_TASK: [&str; 79] = [
    "branch_protection_configuration",
    "branch_protection_rule",
    "cache_sync",
    "check_run",
    "check_suite",
    "code_scanning_alert",
    "commit_comment",
    "content_reference",
    "create",
    "custom_property",
    "custom_property_values",
    "delete",
    "dependabot_alert",
    "deploy_key",
    "deployment",
    "deployment_protection_rule",
    "deployment_review",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "enterprise",
    "fork",
    "github_app_authorization",
    "gollum",
    "image_version",
    "installation",
    "installation_repositories",
    "installation_target",
    "issue_dependencies",
    "issue_milestone",
    "label",
    "marketplace_purchase",
    "member",
    "membership",
    "merge_group",
    "merge_queue_entry",
    "meta",
    "milestone",
    "org_block",
    "organization",
    "package",
    "page_build",
    "personal_access_token_request",
    "ping",
    "project",
    "project_card",
    "project_column",
    "projects_v2",
    "projects_v2_item",
    "public",
    "pull_request_assign",
    "pull_request_milestone",
    "pull_request_review_request",
    "pull_request_review_thread",
    "pull_request_sync",
    "push",
    "registry_package",
    "release",
    "repository",
    "repository_advisory",
    "repository_import",
    "repository_ruleset",
    "repository_vulnerability_alert",
    "secret_scanning_alert",
    "secret_scanning_alert_location",
    "secret_scanning_scan",
    "security_advisory",
    "security_and_analysis",
    "sponsorship",
    "star",
    "status",
    "sub_issues",
    "team",
    "team_add",
    "user",
    "watch",
    "wiki",
    "workflow_call",
    "workflow_job",
];

/// Whether forges have such an event, and no task is made of it.
pub(super) fn starts_nothing(name: &str) -> bool {
    WITHOUT_A_TASK.contains(&name)
}

/// The event's kind by its shape; none where several kinds look like this.
pub(super) fn kind_of(value: &Value) -> Option<&'static str> {
    let has = |key: &str| value.get(key).is_some_and(|value| !value.is_null());
    if has("issue") && has("comment") {
        return Some("issue_comment");
    }
    let kinds = [
        ("thread", "pull_request_review_thread"),
        ("review", "pull_request_review"),
        ("pull_request", if has("comment") { "pull_request_review_comment" } else { "pull_request" }),
        ("discussion", "discussion"),
        ("workflow_run", "workflow_run"),
        ("workflow_job", "workflow_job"),
        ("deployment", "deployment"),
        ("release", "release"),
        ("schedule", "schedule"),
        ("client_payload", "repository_dispatch"),
        ("commits", "push"),
        ("issue", "issues"),
    ];
    if let Some((_, kind)) = kinds.into_iter().find(|(key, _)| has(key)) {
        return Some(kind);
    }
    // Its inputs may be null.
    (has("workflow") && value.get("inputs").is_some()).then_some("workflow_dispatch")
}
