//! What a repository and its settings are at the forge, as far as a run depends on them. Only reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_plan::facts::ForgeKind;
use bottle_types::secret::Secret;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::detect::github_api;
use super::http::{ApiCall, ForgeError, Http};
use super::wire::WireUser;
use super::{Operation, gitea, github};
use crate::exit::Failure;
use crate::host::Environment;

/// More labels than this many pages are looked through no further.
const MAX_LABEL_PAGES: usize = 10;
const PAGE_SIZE: usize = 50;

const READ_REPOSITORY: Operation = Operation { what: "look at the repository", needs: "to read it" };
const READ_SELF: Operation = Operation { what: "ask whose token this is", needs: "to be a user's, with read:user" };
const READ_FILE: Operation = Operation { what: "read a file of the default branch", needs: "to read the repository" };
const READ_LABELS: Operation = Operation { what: "list the labels", needs: "to read issues" };
const READ_ACTIONS: Operation =
    Operation { what: "read the settings of Actions", needs: "to be of an administrator of the repository" };
const READ_RULES: Operation =
    Operation { what: "read the rules for branches", needs: "to be of an administrator of the repository" };

/// A repository, as the forge tells whoever has the token.
#[derive(Debug, Deserialize)]
pub(crate) struct RepositoryFacts {
    pub(crate) default_branch: String,
    #[serde(default)]
    pub(crate) archived: bool,
    // None: the forge does not say.
    pub(crate) has_issues: Option<bool>,
    /// Gitea.
    pub(crate) has_pull_requests: Option<bool>,
    /// Gitea.
    pub(crate) has_actions: Option<bool>,
    /// GitHub: whether auto-merge can be turned on.
    pub(crate) allow_auto_merge: Option<bool>,
    pub(crate) permissions: Option<TokenRights>,
}

/// What the token's user may do with the repository.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct TokenRights {
    pub(crate) admin: bool,
    pub(crate) push: bool,
}

/// GitHub: which workflows run.
#[derive(Debug, Deserialize)]
pub(crate) struct ActionsPermissions {
    pub(crate) enabled: bool,
    /// `all`, `local_only` or `selected`.
    pub(crate) allowed_actions: Option<String>,
    /// Whether each action has to be named by a full commit.
    #[serde(default)]
    pub(crate) sha_pinning_required: bool,
}

/// GitHub: what the job's own token may do.
#[derive(Debug, Deserialize)]
struct WireWorkflowPermissions {
    can_approve_pull_request_reviews: bool,
}

/// GitHub: a rule for a branch.
#[derive(Debug, Deserialize)]
struct WireRule {
    #[serde(rename = "type")]
    kind: String,
}

/// Gitea: a rule for branches.
#[derive(Debug, Deserialize)]
pub(crate) struct BranchProtection {
    /// A glob of branches.
    #[serde(default)]
    pub(crate) rule_name: String,
    #[serde(default)]
    pub(crate) enable_push: bool,
    /// Whether only those below may push.
    #[serde(default)]
    pub(crate) enable_push_whitelist: bool,
    #[serde(default)]
    pub(crate) push_whitelist_usernames: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) require_signed_commits: bool,
}

impl BranchProtection {
    /// Whether the user is among those who may push, by name.
    pub(crate) fn lists(&self, login: &str) -> bool {
        self.push_whitelist_usernames.iter().flatten().any(|user| user == login)
    }
}

#[derive(Debug, Deserialize)]
struct WireLabelName {
    name: String,
}

/// A file, or an entry of a directory.
#[derive(Debug, Deserialize)]
struct WireContent {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    content: Option<String>,
}

/// The labels that issues can have.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    pub(crate) names: Vec<String>,
    /// False: there are more than were read.
    pub(crate) whole: bool,
}

/// Reader of one repository's settings.
pub(crate) struct Settings {
    http: Http,
    pub(crate) kind: ForgeKind,
    owner: String,
    name: String,
}

impl Settings {
    /// Readies it for `OWNER/NAME` at a server; without TLS the token stays here, which is a failure.
    pub(crate) fn open(
        server: &str,
        (owner, name): (&str, &str),
        kind: ForgeKind,
        token: &Secret<String>,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let is_named = |named: &str| named.trim_end_matches('/') == server;
        let given = environment.get("GITHUB_API_URL");
        let given = given.filter(|_| environment.get("GITHUB_SERVER_URL").is_some_and(is_named));
        let (api, dialect) = match kind {
            ForgeKind::Github => (github_api(given, server), github::DIALECT),
            ForgeKind::Gitea => (format!("{server}/api/v1"), gitea::DIALECT),
        };
        let http = Http::new(&api, Some(token), dialect, environment.ca_bundle().as_deref()).map_err(Failure::input)?;
        Ok(Self { http, kind, owner: owner.to_owned(), name: name.to_owned() })
    }

    fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["repos", self.owner.as_str(), self.name.as_str()], rest].concat()
    }

    /// The repository; and the scopes of the token, where GitHub says them: it does for a classic token alone.
    pub(crate) async fn repository(&self) -> Result<(RepositoryFacts, Option<Vec<String>>), ForgeError> {
        let call = ApiCall::get(READ_REPOSITORY, self.path(&[]));
        let (headers, facts) = self.http.send_for_headers(call).await?;
        Ok((facts, scopes(&headers)))
    }

    /// The login of the token's user; none: it is a job's or an App's, or may not ask.
    pub(crate) async fn login(&self) -> Result<Option<String>, ForgeError> {
        match self.http.send::<WireUser>(ApiCall::get(READ_SELF, vec!["user"])).await {
            Ok(user) => Ok(Some(user.login)),
            Err(error) if error.status() == Some(403) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The text of a file of the default branch; none: there is none.
    pub(crate) async fn file(&self, path: &str) -> Result<Option<String>, ForgeError> {
        let file: Option<WireContent> = there(self.http.send(self.contents(path)).await)?;
        let Some(file) = file else { return Ok(None) };
        let packed: String = file.content.unwrap_or_default().split_whitespace().collect();
        let bytes = STANDARD.decode(packed).map_err(|error| ForgeError::Nonsense {
            operation: READ_FILE,
            place: path.to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The names of the files in a directory of the default branch; none: there is no such directory.
    pub(crate) async fn files_in(&self, dir: &str) -> Result<Option<Vec<String>>, ForgeError> {
        let entries: Option<Vec<WireContent>> = there(self.http.send(self.contents(dir)).await)?;
        let files = |entries: Vec<WireContent>| {
            entries.into_iter().filter(|entry| entry.kind == "file").map(|entry| entry.name).collect()
        };
        Ok(entries.map(files))
    }

    fn contents<'a>(&'a self, path: &'a str) -> ApiCall<'a> {
        let rest: Vec<&str> = std::iter::once("contents").chain(path.split('/')).collect();
        ApiCall::get(READ_FILE, self.path(&rest))
    }

    /// The labels of the repository; at Gitea its organization's, too.
    pub(crate) async fn labels(&self) -> Result<Labels, ForgeError> {
        let mut labels = self.labels_at(self.path(&["labels"])).await?;
        if self.kind == ForgeKind::Gitea {
            let more = there(self.labels_at(vec!["orgs", &self.owner, "labels"]).await)?;
            // A person has none.
            let more = more.unwrap_or(Labels { names: vec![], whole: true });
            labels.names.extend(more.names);
            labels.whole &= more.whole;
        }
        Ok(labels)
    }

    async fn labels_at(&self, path: Vec<&str>) -> Result<Labels, ForgeError> {
        let size = match self.kind {
            ForgeKind::Github => "per_page",
            ForgeKind::Gitea => "limit",
        };
        let mut labels = Labels::default();
        for page in 1..=MAX_LABEL_PAGES {
            let call = ApiCall::get(READ_LABELS, path.clone()).query(size, PAGE_SIZE).query("page", page);
            let wires: Vec<WireLabelName> = self.http.send::<Option<_>>(call).await?.unwrap_or_default();
            // A server may give fewer than asked for: only an empty page is surely the last.
            if wires.is_empty() {
                labels.whole = true;
                break;
            }
            labels.names.extend(wires.into_iter().map(|wire| wire.name));
        }
        Ok(labels)
    }

    /// GitHub: which workflows run.
    pub(crate) async fn actions(&self) -> Result<ActionsPermissions, ForgeError> {
        self.http.send(ApiCall::get(READ_ACTIONS, self.path(&["actions", "permissions"]))).await
    }

    /// GitHub: whether the job's own token may open pull requests.
    pub(crate) async fn jobs_may_open_pull_requests(&self) -> Result<bool, ForgeError> {
        let call = ApiCall::get(READ_ACTIONS, self.path(&["actions", "permissions", "workflow"]));
        let wire: WireWorkflowPermissions = self.http.send(call).await?;
        Ok(wire.can_approve_pull_request_reviews)
    }

    /// GitHub: the types of the rules that hold for a branch of this name, which need not be there.
    pub(crate) async fn rules_of(&self, branch: &str) -> Result<Vec<String>, ForgeError> {
        let call = ApiCall::get(READ_RULES, self.path(&["rules", "branches", branch])).query("per_page", 100);
        let rules: Vec<WireRule> = self.http.send(call).await?;
        Ok(rules.into_iter().map(|rule| rule.kind).collect())
    }

    /// Gitea: the rules for branches.
    pub(crate) async fn protections(&self) -> Result<Vec<BranchProtection>, ForgeError> {
        let call = ApiCall::get(READ_RULES, self.path(&["branch_protections"]));
        Ok(self.http.send::<Option<_>>(call).await?.unwrap_or_default())
    }
}

/// The same, with none for what is not there.
fn there<T>(answer: Result<T, ForgeError>) -> Result<Option<T>, ForgeError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The scopes of a classic token, which may be none.
fn scopes(headers: &HeaderMap) -> Option<Vec<String>> {
    let text = headers.get("x-oauth-scopes")?.to_str().ok()?;
    Some(text.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect())
}
