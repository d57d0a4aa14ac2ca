//! Reading at a forge (GitHub, Gitea, Forgejo): which requests of REST and GraphQL may go, and what of the answers comes back marked.
//!
//! Map: [`ForgeReadRules`] (the policy's words), `rest` (paths and queries), `graphql` (queries, with `schema.toml`: what is known of the
//! forge's schema), `search` (search texts), `answer` (whose words an answer has).
//!
//! Always: a list of what is known decides; a method, a path, a field, an argument that is not known is refused. What goes on is written anew from
//! what was judged: the path segment by segment, a query field by field, with no fragment, directive or operation's name left in it.

mod answer;
mod graphql;
mod rest;
mod schema;
mod search;

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest body of a query.
pub const MAX_QUERY_BYTES: usize = 64 << 10;
/// The largest answer that is looked into, whole.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;

/// What may be read at a forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgeReadRules {
    /// Whose API it is.
    pub api: ForgeApi,
    /// What stands before the paths of REST: nothing at `api.github.com`, `/api/v3` at GitHub Enterprise Server, `/api/v1` at Gitea.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base: String,
    /// The repositories that may be read.
    pub repositories: Vec<RepositoryName>,
    /// What may be read of them.
    pub read: BTreeSet<ReadKind>,
    /// Whose words come as they are; others' come marked as data.
    pub trust: BTreeSet<TrustedAuthor>,
}

/// Whose API a door reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForgeApi {
    /// github.com or GitHub Enterprise Server: REST and GraphQL.
    Github,
    /// Gitea or Forgejo: REST alone.
    Gitea,
}

/// A kind of what a forge has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadKind {
    /// Issues with their comments, labels and milestones.
    Issues,
    /// Pull requests with their comments, reviews, commits and diffs.
    PullRequests,
    /// Check runs, statuses, and workflow runs with their jobs.
    Checks,
    /// The logs of workflow runs.
    Logs,
    /// Releases and their files.
    Releases,
    /// Files, directories, commits, branches and tags.
    Contents,
    /// A search in the files of the named repositories.
    CodeSearch,
}

impl ReadKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Issues, Self::PullRequests, Self::Checks, Self::Logs, Self::Releases, Self::Contents, Self::CodeSearch];

    /// Its word in a manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::Issues => "issues",
            Self::PullRequests => "pull_requests",
            Self::Checks => "checks",
            Self::Logs => "logs",
            Self::Releases => "releases",
            Self::Contents => "contents",
            Self::CodeSearch => "code_search",
        }
    }
}

/// Owner and name of a repository. Forges compare both without case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct RepositoryName {
    owner: String,
    name: String,
}

/// A text that names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a repository's owner and name, such as octo-org/app")]
pub struct RepositoryNameError(String);

impl RepositoryName {
    /// Reads `owner/name`.
    pub fn parse(text: &str) -> Result<Self, RepositoryNameError> {
        let is_name = |part: &str| {
            (1..=100).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
                && part != "."
                && part != ".."
        };
        match text.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(RepositoryNameError(text.to_owned())),
        }
    }

    /// Tells whether it is this owner's repository of this name.
    fn is(&self, owner: &str, name: &str) -> bool {
        self.owner.eq_ignore_ascii_case(owner) && self.name.eq_ignore_ascii_case(name)
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl TryFrom<String> for RepositoryName {
    type Error = RepositoryNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<RepositoryName> for String {
    fn from(name: RepositoryName) -> Self {
        name.to_string()
    }
}

/// Whose words are trusted: `write`, `member`, `bot`, or `@` and a login.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum TrustedAuthor {
    /// The repository's owner, and whom they have invited to it: GitHub's associations `OWNER` and `COLLABORATOR`.
    Write,
    /// Members of the organization that owns the repository, whatever they may do in it: GitHub's `MEMBER`.
    Member,
    /// GitHub's apps.
    Bot,
    /// One account, by its login.
    Login(String),
}

/// A text that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of `write`, `member`, `bot` and `@` with a login")]
pub struct TrustedAuthorError(String);

impl TryFrom<String> for TrustedAuthor {
    type Error = TrustedAuthorError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_login = |login: &str| {
            let plain = login.strip_suffix("[bot]").unwrap_or(login);
            (1..=100).contains(&plain.len())
                && plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        match text.as_str() {
            "write" => Ok(Self::Write),
            "member" => Ok(Self::Member),
            "bot" => Ok(Self::Bot),
            other => match other.strip_prefix('@') {
                Some(login) if is_login(login) => Ok(Self::Login(login.to_owned())),
                _ => Err(TrustedAuthorError(text)),
            },
        }
    }
}

impl fmt::Display for TrustedAuthor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write => f.write_str("write"),
            Self::Member => f.write_str("member"),
            Self::Bot => f.write_str("bot"),
            Self::Login(login) => write!(f, "@{login}"),
        }
    }
}

impl From<TrustedAuthor> for String {
    fn from(author: TrustedAuthor) -> Self {
        author.to_string()
    }
}

/// The rule by which a request, or an answer, goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForgeRule {
    /// The method is neither GET nor HEAD, or not POST where queries are asked.
    Method,
    /// The path is none that is known, or can be read in two ways.
    Path,
    /// It is about a repository that is not named, or about none.
    Repository,
    /// It is of a kind that is not named.
    Kind,
    /// A parameter behind `?`, or a header, that is not known.
    Parameter,
    /// The text of a search leads out of the named repositories.
    Search,
    /// A query's body is not one JSON object in plain bytes.
    Body,
    /// The document is not one query.
    Operation,
    /// A fragment, a directive or a variable that is not what it should be.
    Document,
    /// A field or a type that is not known.
    Field,
    /// An argument that is not known.
    Argument,
    /// Too deep, too many fields, or too many objects.
    Cost,
    /// The forge's answer leads elsewhere.
    Redirect,
    /// The forge's answer can't be looked into, or is not what was asked for.
    Answer,
}

impl ForgeRule {
    /// Its word in the record.
    pub fn word(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Path => "path",
            Self::Repository => "repository",
            Self::Kind => "kind",
            Self::Parameter => "parameter",
            Self::Search => "search",
            Self::Body => "body",
            Self::Operation => "operation",
            Self::Document => "document",
            Self::Field => "field",
            Self::Argument => "argument",
            Self::Cost => "cost",
            Self::Redirect => "redirect",
            Self::Answer => "answer",
        }
    }
}

/// Why a request or an answer goes no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ForgeRefusal {
    /// The rule.
    pub rule: ForgeRule,
    /// For the agent.
    pub message: String,
}

impl ForgeRefusal {
    fn new(rule: ForgeRule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }
}

/// A request of the guest's, as far as rules are about it.
#[derive(Debug, Clone, Copy)]
pub struct ForgeRequest<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path, as it was sent.
    pub path: &'a str,
    /// What is behind `?`, as it was sent.
    pub query: Option<&'a str>,
    /// Its `Accept`.
    pub accept: Option<&'a str>,
    /// Its body; empty where there is none.
    pub body: &'a [u8],
}

/// A request that may go, written anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The path, and what is behind `?`.
    pub target: String,
    /// Its `Accept`.
    pub accept: &'static str,
    /// A query's body; none: a request of REST, which has none.
    pub body: Option<Vec<u8>>,
    /// Whether its answer may lead to another host, where a log or a file is.
    pub may_lead_elsewhere: bool,
    answer: answer::Expected,
}

/// Rules that are ready to judge.
#[derive(Debug, Clone)]
pub struct ForgeReadJudge {
    rules: ForgeReadRules,
}

impl Judged {
    /// Whether its answer is bytes without an author, which come as they are.
    pub fn is_data(&self) -> bool {
        self.answer == answer::Expected::Data
    }
}

impl ForgeReadRules {
    /// What is wrong with the rules: the key, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.repositories.is_empty() {
            return Err(("repositories", "nothing could be read".to_owned()));
        }
        if self.read.is_empty() {
            return Err(("read", "nothing could be read".to_owned()));
        }
        if self.api == ForgeApi::Gitea {
            if self.read.contains(&ReadKind::CodeSearch) {
                return Err(("read", "Gitea's API has no search in code".to_owned()));
            }
            let lacks = [TrustedAuthor::Write, TrustedAuthor::Member, TrustedAuthor::Bot];
            if let Some(word) = lacks.iter().find(|word| self.trust.contains(word)) {
                let problem = format!("Gitea's answers don't say who is `{word}`: name the accounts, as `@login`");
                return Err(("trust", problem));
            }
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
        let has_odd_part = self.base.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
        if !self.base.is_empty() && (!self.base.starts_with('/') || !self.base.bytes().all(is_plain) || has_odd_part) {
            return Err(("base", format!("`{}` is not a plain path", self.base)));
        }
        Ok(())
    }

    /// The path at which queries are asked; Gitea has none.
    pub fn graphql_path(&self) -> Option<String> {
        (self.api == ForgeApi::Github).then(|| match self.base.strip_suffix("/v3") {
            Some(above) => format!("{above}/graphql"),
            None => format!("{}/graphql", self.base),
        })
    }

    /// Globs of all paths that the rules are about.
    pub fn paths(&self) -> Vec<String> {
        let rest = match self.base.as_str() {
            "" => "/**".to_owned(),
            base => format!("{base}/**"),
        };
        self.graphql_path().filter(|_| !self.base.is_empty()).into_iter().chain([rest]).collect()
    }

    fn repository(&self, owner: &str, name: &str) -> Option<&RepositoryName> {
        self.repositories.iter().find(|own| own.is(owner, name))
    }

    /// The named repository that a text `owner/name` means.
    fn repository_of(&self, text: &str) -> Option<&RepositoryName> {
        text.split_once('/').and_then(|(owner, name)| self.repository(owner, name))
    }

    fn not_named(&self, asked: &str) -> ForgeRefusal {
        let named: Vec<String> = self.repositories.iter().map(ToString::to_string).collect();
        let message = format!("the manifest names {} and not {}", named.join(", "), shown(asked));
        ForgeRefusal::new(ForgeRule::Repository, message)
    }

    fn check_kind(&self, kinds: &[ReadKind], what: &str) -> Result<(), ForgeRefusal> {
        if kinds.is_empty() || kinds.iter().any(|kind| self.read.contains(kind)) {
            return Ok(());
        }
        let words: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
        let message = format!("{} needs `{}` among what `forge.read` names", shown(what), words.join("` or `"));
        Err(ForgeRefusal::new(ForgeRule::Kind, message))
    }
}

impl ForgeReadJudge {
    /// Makes rules ready; an error says what is wrong with them.
    pub fn new(rules: &ForgeReadRules) -> Result<Self, String> {
        rules.check().map_err(|(key, problem)| format!("{key}: {problem}"))?;
        Ok(Self { rules: rules.clone() })
    }

    /// Tells whether queries of GraphQL are asked at this path.
    pub fn is_graphql(&self, path: &str) -> bool {
        self.rules.graphql_path().is_some_and(|own| own == path)
    }

    /// Judges a request, and writes it anew.
    pub fn request(&self, request: ForgeRequest<'_>) -> Result<Judged, ForgeRefusal> {
        if self.is_graphql(request.path) {
            return graphql::judge(&self.rules, request);
        }
        rest::judge(&self.rules, request)
    }

    /// Judges an answer to what was judged: what comes back of it. `is_success` tells whether its status says so.
    pub fn answer(&self, judged: &Judged, is_success: bool, body: &[u8]) -> Result<Vec<u8>, ForgeRefusal> {
        answer::judge(&self.rules, &judged.answer, is_success, body)
    }
}

/// A guest's word in a message.
fn shown(text: &str) -> String {
    format!("`{}`", crate::prose::name(text, 80))
}
