//! `bottle-runner doctor` in a repository: what its forge still lacks for a run. Only reads.

use std::time::Duration;

use bottle_plan::facts::ForgeKind;
use bottle_plan::manifest::{self, Manifest};
use bottle_plan::prose;
use bottle_policy::gate::refs::RefRules;
use bottle_policy::gate::{PushRules, Transport};
use bottle_types::git::ObjectId;
use bottle_types::secret::Secret;

use super::Context;
use super::init::{self, ForgeArg, Origin};
use crate::exit::Failure;
use crate::forge::settings::{BranchProtection, RepositoryFacts, Settings};
use crate::forge::{self, ForgeError};
use crate::host::{Checkout, Environment};
use crate::survey::Survey;

/// How long all the questions together may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// More workflows than this are not read.
const MAX_WORKFLOWS: usize = 40;
/// The action, as workflows name it before a version.
const ACTION: &str = "claude-bottle/run@";
/// A branch as a run names its own.
const RUN_BRANCH: &str = "bottle/issue-1-example";
/// GitHub's rules that refuse a new branch whose commits have no checks and no signature yet.
const REFUSING_RULES: [&str; 8] = [
    "creation",
    "update",
    "pull_request",
    "required_signatures",
    "required_status_checks",
    "required_deployments",
    "workflows",
    "merge_queue",
];

/// Checks of the repository that the current directory is in; none where it is in none.
pub(super) async fn survey(context: &Context) -> Option<Survey> {
    let checkout = Checkout::find(&std::env::current_dir().ok()?).await?;
    let mut survey = Survey::default();
    if !manifest::FILE_NAMES.iter().any(|name| checkout.root.join(name).is_file()) {
        survey.missing(
            "claude-bottle.yml: this checkout has none, so its forge was not asked; `bottle-runner init` writes one",
        );
        return Some(survey);
    }
    match Subject::find(&checkout, context).await {
        Ok(subject) => {
            if tokio::time::timeout(TIME_LIMIT, subject.ask(&mut survey)).await.is_err() {
                let limit = TIME_LIMIT.as_secs();
                survey.unknown(format!("the rest: the forge did not answer all questions in {limit} s; run it again"));
            }
        }
        Err(failure) => {
            let hint = failure.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            survey.unknown(format!("the forge was not asked: {failure}{hint}"));
        }
    }
    Some(survey)
}

/// The repository that is asked about.
struct Subject {
    settings: Settings,
    forge: ForgeArg,
    /// Without a slash at its end.
    server: String,
    /// The repository's page.
    web: String,
}

impl Subject {
    async fn find(checkout: &Checkout, context: &Context) -> Result<Self, Failure> {
        let environment = &context.environment;
        let mut origin = init::origin(checkout)?;
        let named = environment.get("GITHUB_SERVER_URL").map(|url| url.trim_end_matches('/').to_owned());
        if let Some(named) = named.as_ref().filter(|named| is_web_of(named, &origin)) {
            origin.server.clone_from(named);
        }
        let forge = match environment.get("BOTTLE_FORGE") {
            None | Some("auto") => init::which_forge(&origin, &checkout.root, context).await?,
            Some(name) => ForgeArg::parse(name).ok_or_else(|| {
                Failure::input(format_args!("BOTTLE_FORGE is `{name}`, which is no forge"))
                    .hint("say github, gitea or forgejo, or leave it out")
            })?,
        };
        let token = token(&origin.server, named.as_deref(), forge.kind(), environment)?;
        let Origin { server, repository, .. } = origin;
        let parts = repository.split_once('/').ok_or_else(|| Failure::input("the repository has no owner"))?;
        let settings = Settings::open(&server, parts, forge.kind(), &token, environment)
            .map_err(|failure| failure.hint("give `origin` an https address"))?;
        let web = format!("{server}/{repository}");
        Ok(Self { settings, forge, server, web })
    }

    /// Asks everything; what is not told is said to be unknown, and the next question is asked.
    async fn ask(&self, survey: &mut Survey) {
        let (facts, scopes) = match self.settings.repository().await {
            Ok(told) => told,
            Err(error) => return survey.unknown(format!("the repository {}: {error}; {}", self.web, error.hint())),
        };
        let branch = prose::name(&facts.default_branch, 200);
        survey.there(format!("{}: {}, default branch `{branch}`", self.forge.name(), self.web));
        self.switches(&facts, survey);
        let login = self.rights(&facts, scopes.as_deref(), survey).await;
        let pinned = match self.settings.kind {
            ForgeKind::Github => self.actions(survey).await,
            ForgeKind::Gitea => false,
        };
        self.workflows(&branch, pinned, survey).await;
        if let Some(manifest) = self.manifest(&branch, survey).await {
            self.labels(&manifest, survey).await;
        }
        match self.settings.kind {
            ForgeKind::Github => self.rules(survey).await,
            ForgeKind::Gitea => self.protections(login.as_deref(), survey).await,
        }
    }

    fn switches(&self, facts: &RepositoryFacts, survey: &mut Survey) {
        let web = &self.web;
        if facts.archived {
            survey.missing(format!("it is archived, so that no branch can be pushed: unarchive it at {web}/settings"));
        }
        if facts.has_issues == Some(false) {
            survey.missing(format!(
                "issues are off, so that no label on one starts a run: enable \"Issues\" at {web}/settings"
            ));
        }
        if facts.has_pull_requests == Some(false) {
            survey.missing(format!(
                "pull requests are off, so that nothing can be proposed: enable \"Pull Requests\" at {web}/settings"
            ));
        }
        match facts.has_actions {
            Some(true) => survey.there("Actions are on"),
            Some(false) => survey.missing(format!(
                "Actions are off for the repository, so that no workflow starts: enable \"Actions\" at {web}/settings"
            )),
            None => {}
        }
    }

    /// What the token may do; the login of its user.
    async fn rights(&self, facts: &RepositoryFacts, scopes: Option<&[String]>, survey: &mut Survey) -> Option<String> {
        let login = match self.settings.login().await {
            Ok(login) => login,
            Err(error) => {
                unknown("whose token this is", &error, survey);
                return None;
            }
        };
        let shown = login.as_ref().map(|login| prose::name(login, 100));
        match self.settings.kind {
            ForgeKind::Github => self.rights_at_github(shown, facts, scopes, survey),
            ForgeKind::Gitea => self.rights_at_gitea(shown, facts, survey),
        }
        login
    }

    fn rights_at_github(
        &self,
        login: Option<String>,
        facts: &RepositoryFacts,
        scopes: Option<&[String]>,
        survey: &mut Survey,
    ) {
        let (Some(login), Some(rights)) = (login, facts.permissions) else {
            return survey.unknown("the token is a job's or an App's, and the forge does not tell what that may do");
        };
        let may_write = |scopes: &[String]| scopes.iter().any(|scope| scope == "repo" || scope == "public_repo");
        let shown = scopes.map(|scopes| prose::name(&format!("with the scopes {}", scopes.join(", ")), 200));
        let shown = shown.map(|shown| format!(", {shown}")).unwrap_or_default();
        if rights.push && scopes.is_none_or(may_write) {
            return survey.there(format!("the token is {login}'s, who may push{shown}"));
        }
        survey.missing(format!(
            "the token is {login}'s{shown} and may not push, so that a run which has it as the step's `token` ends without a branch: \
             give it `repo`, or \"Contents\" and \"Pull requests\" with write, at {}/settings/tokens; a job's own token is another one",
            self.server
        ));
    }

    fn rights_at_gitea(&self, login: Option<String>, facts: &RepositoryFacts, survey: &mut Survey) {
        let Some(login) = login else {
            return survey.missing(format!(
                "the token lacks the scope read:user, without which a run can't tell its own comments: make one with read:user, \
                 write:issue and write:repository at {}/user/settings/applications",
                self.server
            ));
        };
        match facts.permissions {
            Some(rights) if rights.admin => survey.there(format!(
                "the token is {login}'s, an administrator of the repository; Gitea does not tell whether it has write:issue and \
                 write:repository"
            )),
            Some(_) => survey.missing(format!(
                "the token is {login}'s, who is no administrator of the repository, and Gitea tells nobody else who may ask for a run: \
                 give {login} the permission Administrator at {}/settings/collaboration",
                self.web
            )),
            None => survey.unknown(format!("the token is {login}'s, and the forge does not tell what that may do")),
        }
    }

    /// GitHub's switches for Actions; whether an action has to be named by a full commit.
    async fn actions(&self, survey: &mut Survey) -> bool {
        let page = format!("{}/settings/actions", self.web);
        let actions = match self.settings.actions().await {
            Ok(actions) => actions,
            Err(error) => {
                unknown(&format!("whether Actions are on, which {page} shows"), &error, survey);
                return false;
            }
        };
        if !actions.enabled {
            survey.missing(format!(
                "Actions are off for the repository, so that no workflow starts: choose \"Allow all actions\" at {page}"
            ));
            return false;
        }
        match actions.allowed_actions.as_deref() {
            Some("local_only") => survey.missing(format!(
                "only actions of the repository's own owner may run, so that the workflows' `claude-bottle/run` and `actions/checkout` \
                 may not: allow them at {page}"
            )),
            Some("selected") => survey.unknown(format!(
                "only selected actions may run: `claude-bottle/run@*`, `actions/checkout@*` and `actions/upload-artifact@*` have to be \
                 among them at {page}"
            )),
            _ => survey.there("Actions are on"),
        }
        match self.settings.jobs_may_open_pull_requests().await {
            Ok(true) => survey.there("jobs may open pull requests"),
            Ok(false) => survey.missing(format!(
                "jobs may not open pull requests, so that a run can only push its branch: enable \"Allow GitHub Actions to create and \
                 approve pull requests\" at {page}"
            )),
            Err(error) => unknown(&format!("whether jobs may open pull requests, which {page} shows"), &error, survey),
        }
        actions.sha_pinning_required
    }

    /// The workflows of the default branch that use the action.
    async fn workflows(&self, branch: &str, pinned: bool, survey: &mut Survey) {
        let found = match self.uses_of_the_action().await {
            Ok(found) => found,
            Err(error) => return unknown("whether a workflow starts runs", &error, survey),
        };
        let names: Vec<&str> = found.workflows.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            let rest = if found.whole { "" } else { ", as far as they were read" };
            return survey.missing(format!(
                "no workflow in {} of `{branch}` uses `claude-bottle/run`{rest}, so that nothing starts a run: commit and push those that \
                 `bottle-runner init` writes",
                found.dir
            ));
        }
        survey.there(format!("workflows on `{branch}`: {}", names.join(", ")));
        let by_name = found.workflows.iter().filter(|(_, text)| !names_commits(text));
        for (name, _) in by_name.filter(|_| pinned) {
            survey.missing(format!(
                "the repository takes actions by a full commit alone, and {name} names `claude-bottle/run` by a tag: write a commit's 40 \
                 digits in its place, or turn \"Require actions to be pinned to a full-length commit SHA\" off at {}/settings/actions",
                self.web
            ));
        }
    }

    /// Reads workflows until two use the action: `init` writes two.
    async fn uses_of_the_action(&self) -> Result<FoundWorkflows, ForgeError> {
        let mut found = FoundWorkflows { dir: self.forge.dir(), workflows: vec![], whole: true };
        let mut names = None;
        for dir in self.forge.workflow_dirs() {
            names = self.settings.files_in(dir).await?;
            if names.is_some() {
                found.dir = dir;
                break;
            }
        }
        let mut names = names.unwrap_or_default();
        names.retain(|name| name.ends_with(".yml") || name.ends_with(".yaml"));
        names.sort_by_key(|name| !name.contains("claude"));
        found.whole = names.len() <= MAX_WORKFLOWS;
        for name in names.into_iter().take(MAX_WORKFLOWS) {
            let text = self.settings.file(&format!("{}/{name}", found.dir)).await?.unwrap_or_default();
            if text.contains(ACTION) || text.contains("bottle-runner") {
                found.workflows.push((prose::name(&name, 100), text));
            }
            if found.workflows.len() == 2 {
                break;
            }
        }
        Ok(found)
    }

    /// The manifest of the default branch, which is the one that runs follow.
    async fn manifest(&self, branch: &str, survey: &mut Survey) -> Option<Manifest> {
        for name in manifest::FILE_NAMES {
            match self.settings.file(name).await {
                Ok(Some(text)) => match super::rules::read_manifest(name, &text) {
                    Ok(manifest) => {
                        survey.there(format!("{name} on `{branch}`"));
                        return Some(manifest);
                    }
                    Err(failure) => {
                        let line = failure.what.lines().next().unwrap_or_default();
                        survey.wrong(format!("{name} on `{branch}`, so that every run is refused: {line}"));
                        return None;
                    }
                },
                Ok(None) => {}
                Err(error) => {
                    unknown("which manifest runs follow", &error, survey);
                    return None;
                }
            }
        }
        survey.missing(format!(
            "claude-bottle.yml is not on `{branch}`, where runs read it from: commit it and push it there, or merge its pull request"
        ));
        None
    }

    /// The labels that the manifest's triggers name.
    async fn labels(&self, manifest: &Manifest, survey: &mut Survey) {
        if manifest.triggers.labels.is_empty() {
            return;
        }
        let labels = match self.settings.labels().await {
            Ok(labels) => labels,
            Err(error) => return unknown("whether the triggers' labels are there", &error, survey),
        };
        for wanted in manifest.triggers.labels.keys() {
            let shown = prose::name(wanted, 100);
            // Forges compare labels without case, and the manifest's triggers do.
            if labels.names.iter().any(|name| name.to_lowercase() == wanted.to_lowercase()) {
                survey.there(format!("label `{shown}`"));
            } else if labels.whole {
                let page = format!("{}/labels", self.web);
                survey.missing(format!(
                    "label `{shown}`, which starts a run, is not there to be set: \"New label\" at {page}"
                ));
            } else {
                survey.unknown(format!("label `{shown}`: the repository has more labels than were read"));
            }
        }
    }

    /// GitHub's rules for a run's branch.
    async fn rules(&self, survey: &mut Survey) {
        let rules = match self.settings.rules_of(RUN_BRANCH).await {
            Ok(rules) => rules,
            Err(error) => return unknown("whether a rule refuses a run's branch", &error, survey),
        };
        let refusing: Vec<&str> =
            REFUSING_RULES.into_iter().filter(|kind| rules.iter().any(|rule| rule == kind)).collect();
        let page = format!("{}/settings/rules", self.web);
        if !refusing.is_empty() {
            survey.missing(format!(
                "a rule refuses branches such as `{RUN_BRANCH}` ({}), so that a run can't push: exclude `bottle/**` from it at {page}",
                refusing.join(", ")
            ));
        } else if rules
            .iter()
            .any(|rule| rule.ends_with("_pattern") || rule.starts_with("file_") || rule.starts_with("max_"))
        {
            survey.unknown(format!(
                "a rule looks at the names, messages or files of what is pushed to `bottle/**`, and may refuse a run's: see {page}"
            ));
        } else {
            survey.there("no rule refuses a run's branch");
        }
    }

    /// Gitea's rules for a run's branch: the first that fits is the one that counts.
    async fn protections(&self, login: Option<&str>, survey: &mut Survey) {
        let rules = match self.settings.protections().await {
            Ok(rules) => rules,
            Err(error) => return unknown("whether a rule refuses a run's branch", &error, survey),
        };
        let page = format!("{}/settings/branches", self.web);
        let Some(rule) = rules.iter().find(|rule| fits(&rule.rule_name)) else {
            return survey.there("no rule refuses a run's branch");
        };
        let name = prose::name(&rule.rule_name, 100);
        match refusal(rule) {
            Some(why) => survey.missing(format!(
                "the rule `{name}` is for branches such as `{RUN_BRANCH}` and {why}, so that a run can't push: see {page}"
            )),
            None if rule.enable_push_whitelist && !login.is_some_and(|login| rule.lists(login)) => survey.unknown(format!(
                "the rule `{name}` is for branches such as `{RUN_BRANCH}`, and only some may push there: the token's user has to be \
                 among them at {page}"
            )),
            None => survey.there(format!("the rule `{name}` lets a run push its branch")),
        }
    }
}

fn unknown(what: &str, error: &ForgeError, survey: &mut Survey) {
    survey.unknown(format!("{what}: {error}; {}", error.hint()));
}

/// The workflows that use the action.
struct FoundWorkflows {
    dir: &'static str,
    /// Name and text.
    workflows: Vec<(String, String)>,
    /// False: there are more workflows than were read.
    whole: bool,
}

/// Whether each use of the action is by a commit.
fn names_commits(workflow: &str) -> bool {
    let version = |rest: &str| rest.split_whitespace().next().unwrap_or_default().to_owned();
    workflow.split(ACTION).skip(1).all(|rest| ObjectId::parse(&version(rest)).is_ok())
}

/// Whether a rule's glob is for a run's branch. Gitea's `*` stays within one part of a name, as the gate's does.
fn fits(glob: &str) -> bool {
    let rules = PushRules { refs: vec![format!("refs/heads/{glob}")], ..PushRules::default() };
    // A glob that can't be read is one that a person has to look at.
    RefRules::new(&rules).map_or(true, |rules| rules.judge(&format!("refs/heads/{RUN_BRANCH}")).is_ok())
}

/// Why a rule lets no run push, where that is sure.
fn refusal(rule: &BranchProtection) -> Option<&'static str> {
    match rule {
        BranchProtection { enable_push: false, .. } => Some("lets nobody push"),
        BranchProtection { require_signed_commits: true, .. } => Some("wants signed commits, which a run's are not"),
        _ => None,
    }
}

/// Whether this is the address of the web server whose repository `origin` names by ssh, where the port is another.
fn is_web_of(server: &str, origin: &Origin) -> bool {
    let host = server.split_once("://").map(|(_, rest)| rest.split(['/', ':']).next().unwrap_or_default());
    origin.url.transport == Transport::Ssh && host.is_some_and(|host| host == origin.url.host.to_string())
}

/// The token for this server. `origin` may be anybody's, and a token says for no server by itself: it goes to the one that
/// `GITHUB_SERVER_URL` names, else to github.com alone.
fn token(
    server: &str,
    named: Option<&str>,
    kind: ForgeKind,
    environment: &Environment,
) -> Result<Secret<String>, Failure> {
    let (variables, how) = match kind {
        ForgeKind::Github => ("GITHUB_TOKEN", "`export GITHUB_TOKEN=\"$(gh auth token)\"` sets it".to_owned()),
        ForgeKind::Gitea => ("GITEA_TOKEN", format!("make one at {server}/user/settings/applications")),
    };
    let token = forge::token(environment, kind)
        .map_err(|_| Failure::input(format_args!("{variables} is not set")).hint(how))?;
    let its_server = named.unwrap_or("https://github.com");
    if server != its_server {
        return Err(Failure::input(format_args!(
            "the token in {variables} is {its_server}'s, and `origin` is at {server}"
        ))
        .hint(format_args!("if the token is for that server, set GITHUB_SERVER_URL={server}")));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_pinned_by_forty_digits_alone() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(names_commits(&format!("- uses: claude-bottle/run@{commit} # v1\n")));
        assert!(!names_commits("- uses: claude-bottle/run@v1\n"));
        assert!(!names_commits(&format!("- uses: claude-bottle/run@{commit}\n- uses: claude-bottle/run@v1\n")));
    }

    #[test]
    fn a_rule_fits_by_gitea_s_globs() {
        for glob in ["**", "bottle/**", "bottle/*", RUN_BRANCH, "*/*", "["] {
            assert!(fits(glob), "{glob}");
        }
        for glob in ["main", "*", "bottle", "bottle/*/*"] {
            assert!(!fits(glob), "{glob}");
        }
    }

    #[test]
    fn a_token_goes_to_its_own_server_alone() {
        let mut environment = Environment::default();
        let sent = |server: &str, named: Option<&str>, kind, environment: &Environment| {
            token(server, named, kind, environment).map(|token| token.expose().clone()).map_err(|failure| failure.what)
        };
        let github = "https://github.com";
        let none = sent(github, None, ForgeKind::Github, &environment);
        assert_eq!(none, Err("GITHUB_TOKEN is not set".to_owned()));
        environment.set("GITHUB_TOKEN", "a token".to_owned());
        assert_eq!(sent(github, None, ForgeKind::Github, &environment).as_deref(), Ok("a token"));
        let other = "https://git.bottle.test";
        let refused = sent(other, None, ForgeKind::Github, &environment);
        assert_eq!(
            refused.expect_err("refused"),
            "the token in GITHUB_TOKEN is https://github.com's, and `origin` is at https://git.bottle.test"
        );
        assert!(sent(github, Some(other), ForgeKind::Github, &environment).is_err());
        assert!(sent(other, Some(other), ForgeKind::Gitea, &environment).is_ok());
    }
}
