//! The door through which the agent reads at a forge: the one route there, and what gh is told.

use std::collections::BTreeMap;

use bottle_policy::forge_read::{ForgeApi, ForgeReadRules, RepositoryName};
use bottle_policy::gate::Transport;
use bottle_policy::route::{Auth, BaseUrl, Route, Scheme};
use bottle_types::host::HostPattern;
use bottle_types::secret::SecretName;

use super::error::PlanError;
use super::guest::placeholder;
use super::secrets::SecretSources;
use super::upstreams::{Upstreams, ci_token};
use crate::facts::{ForgeKind, HostFacts};
use crate::manifest::{BottleEntry, ForgeEntry, THIS};

/// Every method comes to the door that judges it, so that a refusal says what is wrong with it.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const GITHUB: &str = "github.com";

/// What follows from an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ForgeDoor {
    pub(super) route: Route,
    /// Variables by which gh knows where to ask.
    pub(super) env: BTreeMap<&'static str, String>,
}

/// Where the forge is.
struct Site {
    /// What people see.
    web: BaseUrl,
    api: ForgeApi,
    /// The repository that the run is about, where it is there.
    this: Option<RepositoryName>,
}

impl ForgeDoor {
    /// Plans the door; none, with a note, where it is not known which repositories may be read.
    pub(super) fn of(
        bottle: &BottleEntry,
        upstreams: &Upstreams,
        sources: SecretSources<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Option<Self>, PlanError> {
        let Some(entry) = &bottle.forge else { return Ok(None) };
        let Some(site) = Site::of(entry, upstreams, sources.facts)? else {
            notes.push(
                "forge: this is no job of a forge, so nothing can be read there: name it by `forge.url`, and its repositories"
                    .to_owned(),
            );
            return Ok(None);
        };
        let mut repositories = vec![];
        for name in &entry.repositories {
            match (name.as_str(), &site.this) {
                (THIS, Some(this)) => repositories.insert(0, this.clone()),
                (THIS, None) => {
                    notes.push(format!("forge: no repository at {} is the run's own, so `{THIS}` is none", site.web));
                }
                (name, _) => {
                    repositories
                        .push(RepositoryName::parse(name).map_err(|error| PlanError::Facts(error.to_string()))?);
                }
            }
        }
        if repositories.is_empty() {
            return Ok(None);
        }
        let (host, base) = site.api_place()?;
        if let Some(other) = way_round(bottle, &host) {
            return Err(PlanError::Forge {
                problem: format!("{other} is about {}, where the forge is read", host.host),
            });
        }
        let rules =
            ForgeReadRules { api: site.api, base, repositories, read: entry.read.clone(), trust: entry.trust.clone() };
        rules.check().map_err(|(key, problem)| PlanError::Forge { problem: format!("{key}: {problem}") })?;
        let paths = rules.paths();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let auth = Auth { header: None, from: None, bearer: Some(token(entry, sources)?), aws: None };
        let route = Route {
            port: host.port,
            auth: Some(auth),
            forge: Some(rules),
            ..Route::plain(HostPattern::Exact(host.host), &METHODS, &paths)
        };
        let env = site.env();
        Ok(Some(Self { route, env }))
    }
}

/// The credential with the token.
fn token(entry: &ForgeEntry, sources: SecretSources<'_>) -> Result<SecretName, PlanError> {
    if let Some(token) = &entry.token {
        return Ok(token.clone());
    }
    let own = sources.facts.ci.as_ref().map_or("GITHUB_TOKEN", |ci| ci_token(ci, sources));
    SecretName::parse(own).map_err(|error| PlanError::Facts(error.to_string()))
}

impl Site {
    fn of(entry: &ForgeEntry, upstreams: &Upstreams, facts: &HostFacts) -> Result<Option<Self>, PlanError> {
        let parse = |text: &str| BaseUrl::parse(text).map_err(|error| PlanError::Facts(format!("forge: {error}")));
        let ci = facts.ci.as_ref();
        let of_job = ci.map(|ci| parse(ci.server_url.trim_end_matches('/'))).transpose()?;
        let upstream = upstreams.main().map(|upstream| &upstream.url);
        let web = match (&entry.url, &of_job) {
            (Some(url), _) => url.clone(),
            (None, Some(url)) => url.clone(),
            (None, None) if upstream.is_some_and(|url| url.host.to_string() == GITHUB) => {
                parse(&format!("https://{GITHUB}"))?
            }
            (None, None) => return Ok(None),
        };
        if web.scheme == Scheme::Http {
            let problem = format!("{web} is reached without TLS, and no token goes there");
            return Err(PlanError::Forge { problem });
        }
        let is_jobs_own = of_job.as_ref() == Some(&web);
        let api = match (entry.api, ci.filter(|_| is_jobs_own)) {
            (Some(api), _) => api,
            (None, Some(ci)) if ci.forge == ForgeKind::Gitea => ForgeApi::Gitea,
            (None, _) => ForgeApi::Github,
        };
        let this = match ci.filter(|_| is_jobs_own) {
            Some(ci) => RepositoryName::parse(&ci.repository).ok(),
            // A checkout's own, where it comes from there.
            None => upstream.and_then(|url| {
                let is_there = url.host.to_string() == web.host.as_str()
                    && (url.transport == Transport::Ssh || url.port == web.port)
                    && web.path.is_empty();
                let path = url.path.strip_suffix(".git").unwrap_or(&url.path);
                RepositoryName::parse(path).ok().filter(|_| is_there)
            }),
        };
        Ok(Some(Self { web, api, this }))
    }

    /// Where the API is: scheme, host and port, and what stands before REST's paths.
    fn api_place(&self) -> Result<(BaseUrl, String), PlanError> {
        let host = self.web.host.as_str();
        let at = |host: &str| {
            BaseUrl::parse(&format!("https://{host}")).map_err(|error| PlanError::Facts(error.to_string()))
        };
        let own = || (BaseUrl { path: String::new(), ..self.web.clone() }, &self.web.path);
        Ok(match self.api {
            ForgeApi::Github if host == GITHUB || host.ends_with(".ghe.com") => {
                (at(&format!("api.{host}"))?, String::new())
            }
            ForgeApi::Github => {
                let (place, path) = own();
                (place, format!("{path}/api/v3"))
            }
            ForgeApi::Gitea => {
                let (place, path) = own();
                (place, format!("{path}/api/v1"))
            }
        })
    }

    /// What gh is told: a token that is none, the forge, and the repository.
    fn env(&self) -> BTreeMap<&'static str, String> {
        if self.api == ForgeApi::Gitea {
            return BTreeMap::new();
        }
        let host = self.web.host.as_str();
        let host = self.web.port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let is_hosted = host == GITHUB || host.ends_with(".ghe.com");
        let variable = if is_hosted { "GH_TOKEN" } else { "GH_ENTERPRISE_TOKEN" };
        let mut env = BTreeMap::from([
            (variable, placeholder(variable)),
            ("GH_HOST", host.clone()),
            ("GH_NO_UPDATE_NOTIFIER", "1".to_owned()),
            ("GH_PROMPT_DISABLED", "1".to_owned()),
        ]);
        if let Some(this) = &self.this {
            env.insert("GH_REPO", format!("{host}/{this}"));
        }
        env
    }
}

/// What else of a bottle leads to the host, by a way on which nobody judges.
fn way_round(bottle: &BottleEntry, place: &BaseUrl) -> Option<String> {
    let host = &place.host;
    let egress = bottle.egress_with_setup();
    if let Some(route) = egress.routes.iter().find(|route| route.host.matches(host)) {
        return Some(format!("the route {}", route.host));
    }
    if let Some(passed) = bottle.pipelock.passthrough.iter().find(|own| own.matches(host)) {
        return Some(format!("`pipelock.passthrough` {passed}"));
    }
    let model = bottle.model.as_ref().and_then(|model| model.endpoint().ok());
    model.filter(|model| model.base.host == *host).map(|_| "the bottle's `model`".to_owned())
}
