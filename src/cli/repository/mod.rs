//! `bottle-runner doctor` in a repository: what its forge still lacks for a run. Only reads.
//!
//! Map: `rights` (of the token), `actions` (switches and workflows), `branch_rules`; here the repository, its manifest and its labels.

mod actions;
mod branch_rules;
mod rights;

use std::time::Duration;

use bottle_plan::facts::ForgeKind;
use bottle_plan::manifest::{self, Manifest};
use bottle_plan::prose;

use super::Context;
use super::init::{self, ForgeArg, Origin};
use crate::exit::Failure;
use crate::forge::ForgeError;
use crate::forge::settings::{RepositoryFacts, Settings};
use crate::host::{Checkout, Environment};
use crate::survey::Survey;

/// How long all the questions together may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);

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
    environment: Environment,
}

impl Subject {
    async fn find(checkout: &Checkout, context: &Context) -> Result<Self, Failure> {
        let environment = &context.environment;
        let mut origin = init::origin(checkout)?;
        let named = environment.get("GITHUB_SERVER_URL").map(|url| url.trim_end_matches('/').to_owned());
        if let Some(named) = named.as_ref().filter(|named| rights::is_web_of(named, &origin)) {
            origin.server.clone_from(named);
        }
        let forge = match environment.get("BOTTLE_FORGE") {
            None | Some("auto") => init::which_forge(&origin, &checkout.root, context).await?,
            Some(name) => ForgeArg::parse(name).ok_or_else(|| {
                Failure::input(format_args!("BOTTLE_FORGE is `{name}`, which is no forge"))
                    .hint("say github, gitea or forgejo, or leave it out")
            })?,
        };
        let token = rights::token(&origin.server, named.as_deref(), forge.kind(), environment)?;
        let Origin { server, repository, .. } = origin;
        let parts = repository.split_once('/').ok_or_else(|| Failure::input("the repository has no owner"))?;
        let settings = Settings::open(&server, parts, forge.kind(), &token, environment)
            .map_err(|failure| failure.hint("give `origin` an https address"))?;
        let web = format!("{server}/{repository}");
        Ok(Self { settings, forge, server, web, environment: environment.clone() })
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
            self.auto_merge(&manifest, &facts, survey);
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

    /// The manifest of the default branch, which is the one that runs follow.
    async fn manifest(&self, branch: &str, survey: &mut Survey) -> Option<Manifest> {
        for name in manifest::FILE_NAMES {
            match self.settings.file(name).await {
                Ok(Some(text)) => match self.read(name, &text).await {
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

    async fn read(&self, name: &str, text: &str) -> Result<Manifest, Failure> {
        let source = super::extends::source(name, text, &self.environment).await?;
        super::extends::manifest(&source)
    }

    /// Whether what the manifest lets people ask for can be done.
    fn auto_merge(&self, manifest: &Manifest, facts: &RepositoryFacts, survey: &mut Survey) {
        match facts.allow_auto_merge.filter(|_| manifest.triggers.auto_merge) {
            Some(true) => survey.there("auto-merge is allowed"),
            Some(false) => survey.missing(format!(
                "auto-merge is not allowed, so that `{} auto-merge` is refused: enable \"Allow auto-merge\" at {}/settings",
                manifest.triggers.mention, self.web
            )),
            None => {}
        }
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
}

fn unknown(what: &str, error: &ForgeError, survey: &mut Survey) {
    survey.unknown(format!("{what}: {error}; {}", error.hint()));
}
