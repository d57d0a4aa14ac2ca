//! Which forge the job runs on, where its API is, and with which token it is asked.

use std::sync::Arc;

use bottle_plan::facts::{Ci, ForgeKind};
use bottle_plan::manifest::Manifest;
use bottle_policy::gate::UpstreamUrl;
use bottle_types::address::without_userinfo;
use bottle_types::secret::Secret;
use serde::Deserialize;
use serde_json::Value;

use super::gitea::{self, Gitea};
use super::github::{self, Github};
use super::http::{ApiCall, Http};
use super::{Forge, Operation};
use crate::exit::{Code, Failure};
use crate::host::Environment;

/// Decides which forge it is, where the environment does not say otherwise.
const CHOICE: &str = "BOTTLE_FORGE";

/// Whose pull request it is, the event does not say, and without a token nobody can be asked.
const NO_SECRETS: &str =
    "this job has no token: Gitea gives a job no secrets where it is about a pull request from a fork";
const WITH_SECRETS: &str = "for a pull request from a fork, start it in a workflow on `pull_request_target`, by a label, or push its \
                            branch to this repository; for any other one, the step's `token` is empty";

const READ_VERSION: Operation = Operation { what: "ask the forge what it is", needs: "nothing" };

#[derive(Debug, Deserialize)]
struct Version {
    #[expect(dead_code, reason = "that it is there is what tells Gitea from others")]
    version: String,
}

/// Which forge: what `BOTTLE_FORGE` says, else what the job's environment shows, else what the server answers.
pub(crate) async fn kind(environment: &Environment) -> Result<ForgeKind, Failure> {
    match environment.get(CHOICE) {
        None | Some("auto") => {}
        Some("github") => return Ok(ForgeKind::Github),
        Some("gitea" | "forgejo") => return Ok(ForgeKind::Gitea),
        Some(other) => {
            return Err(Failure::input(format_args!("{CHOICE} is `{other}`, which is no forge"))
                .hint("say github, gitea or forgejo, or leave it out"));
        }
    }
    if environment.get("GITEA_ACTIONS").is_some() || environment.get("FORGEJO_ACTIONS").is_some() {
        return Ok(ForgeKind::Gitea);
    }
    let server = environment.get("GITHUB_SERVER_URL").unwrap_or_default().trim_end_matches('/');
    let host = server.strip_prefix("https://").unwrap_or_default();
    if host == "github.com" || host.ends_with(".ghe.com") {
        return Ok(ForgeKind::Github);
    }
    match environment.get("GITHUB_API_URL").map(|url| url.trim_end_matches('/')) {
        Some(url) if url.ends_with("/api/v1") => return Ok(ForgeKind::Gitea),
        Some(url) if url.ends_with("/api/v3") => return Ok(ForgeKind::Github),
        _ => {}
    }
    // Nobody's token goes to a server that is not known yet.
    let http = Http::new(&format!("{server}/api/v1"), None, gitea::DIALECT, environment.ca_bundle().as_deref())
        .map_err(|error| Failure::input(error).hint(format_args!("say which forge it is: {CHOICE}=github or gitea")))?;
    match http.send::<Version>(ApiCall::get(READ_VERSION, vec!["version"])).await {
        Ok(_) => Ok(ForgeKind::Gitea),
        Err(error) if error.status().is_some() => Ok(ForgeKind::Github),
        Err(error) => Err(Failure::machine(&error)
            .hint(format_args!("say which forge it is: {CHOICE}=github or gitea; or {}", error.hint()))),
    }
}

/// What GitHub Enterprise says about itself.
#[derive(Debug, Deserialize)]
struct Meta {
    #[expect(dead_code, reason = "that it is there is what tells GitHub from others")]
    installed_version: String,
}

/// Which forge a server is, asked without a token; none where it answers as neither does.
pub(crate) async fn kind_of(server: &str, environment: &Environment) -> Result<Option<ForgeKind>, Failure> {
    let server = server.trim_end_matches('/');
    let host = server.strip_prefix("https://").unwrap_or_default();
    if host == "github.com" || host.ends_with(".ghe.com") {
        return Ok(Some(ForgeKind::Github));
    }
    let roots = environment.ca_bundle();
    let http = |api: &str, dialect| {
        Http::new(&format!("{server}{api}"), None, dialect, roots.as_deref()).map_err(Failure::input)
    };
    match http("/api/v1", gitea::DIALECT)?.send::<Version>(ApiCall::get(READ_VERSION, vec!["version"])).await {
        Ok(_) => return Ok(Some(ForgeKind::Gitea)),
        Err(error) if error.has_answered() => {}
        Err(error) => return Err(Failure::machine(&error)),
    }
    match http("/api/v3", github::DIALECT)?.send::<Meta>(ApiCall::get(READ_VERSION, vec!["meta"])).await {
        Ok(_) => Ok(Some(ForgeKind::Github)),
        Err(error) if error.has_answered() => Ok(None),
        Err(error) => Err(Failure::machine(&error)),
    }
}

/// Where GitHub's API is: where the job says, or beside the server.
pub(super) fn github_api(given: Option<&str>, server: &str) -> String {
    match (given, server.trim_end_matches('/')) {
        (Some(given), _) => given.trim_end_matches('/').to_owned(),
        (None, "https://github.com") => "https://api.github.com".to_owned(),
        (None, server) => match server.strip_prefix("https://").filter(|host| host.ends_with(".ghe.com")) {
            Some(host) => format!("https://api.{host}"),
            None => format!("{server}/api/v3"),
        },
    }
}

/// The variables with a forge's token; the first that is set counts.
pub(crate) fn token_variables(forge: ForgeKind) -> &'static [&'static str] {
    match forge {
        ForgeKind::Github => &["GITHUB_TOKEN"],
        ForgeKind::Gitea => &["GITEA_TOKEN", "GITHUB_TOKEN"],
    }
}

/// The token that the job's forge is asked with.
pub(crate) fn token(environment: &Environment, forge: ForgeKind) -> Result<Secret<String>, Failure> {
    let variables = token_variables(forge);
    let token = variables.iter().find_map(|name| environment.get(name)).ok_or_else(|| {
        if forge == ForgeKind::Gitea && is_on_pull_request(environment) {
            return Failure::new(Code::Refused, NO_SECRETS).hint(WITH_SECRETS).by_stranger();
        }
        Failure::input(format_args!("the forge can't be asked: {} is not set", variables.join(" or ")))
            .hint("give the step `env: { GITHUB_TOKEN: \"${{ github.token }}\" }`")
    })?;
    Ok(Secret::new(token.to_owned()))
}

/// Whether the job is for something on a pull request, as far as its event says.
fn is_on_pull_request(environment: &Environment) -> bool {
    let event = environment.get("GITHUB_EVENT_PATH").and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let event: Value = serde_json::from_slice(&event).unwrap_or_default();
    let is_one = event["pull_request"].is_object() || event["issue"]["pull_request"].is_object();
    is_one || event["is_pull"].as_bool().unwrap_or_default()
}

/// The address of the job's forge's API.
fn api(environment: &Environment, ci: &Ci) -> String {
    let server = ci.server_url.trim_end_matches('/');
    let given = environment.get("GITHUB_API_URL").map(|url| url.trim_end_matches('/'));
    match ci.forge {
        ForgeKind::Github => github_api(given, server),
        ForgeKind::Gitea => {
            let given = given.filter(|url| url.ends_with("/api/v1")).map(str::to_owned);
            given.unwrap_or_else(|| format!("{server}/api/v1"))
        }
    }
}

/// Whether the job's forge is reached without TLS.
pub(crate) fn is_open(environment: &Environment, ci: &Ci) -> bool {
    [api(environment, ci).as_str(), &ci.server_url].iter().any(|url| url.starts_with("http://"))
}

/// Readies the forge of this job. Without TLS it is asked without the token: nothing has allowed that yet.
pub(crate) fn connect(environment: &Environment, ci: &Ci) -> Result<Arc<dyn Forge>, Failure> {
    let token = token(environment, ci.forge)?;
    ready(environment, ci, Some(token).filter(|_| !is_open(environment, ci)))
}

/// The same with the token, where there is no TLS and the manifest allows that.
pub(crate) fn connect_open(environment: &Environment, ci: &Ci, manifest: &Manifest) -> Result<Arc<dyn Forge>, Failure> {
    for address in [api(environment, ci), ci.server_url.clone()] {
        let url = UpstreamUrl::parse(&format!("{}/x", address.trim_end_matches('/'))).map_err(Failure::input)?;
        manifest.may_be_open(&url).map_err(|error| Failure::input(&error).hint(error.hint()))?;
    }
    ready(environment, ci, Some(token(environment, ci.forge)?))
}

fn ready(environment: &Environment, ci: &Ci, token: Option<Secret<String>>) -> Result<Arc<dyn Forge>, Failure> {
    let (owner, name) = ci
        .repository
        .split_once('/')
        .filter(|(owner, name)| !owner.is_empty() && !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| Failure::input(format_args!("GITHUB_REPOSITORY is `{}`, not OWNER/NAME", ci.repository)))?;
    let (owner, name) = (owner.to_owned(), name.to_owned());
    let roots = environment.ca_bundle();
    let http = |dialect| {
        Http::open(&api(environment, ci), token.as_ref(), dialect, roots.as_deref())
            .map_err(|error| Failure::input(error).hint("look at GITHUB_API_URL, GITHUB_SERVER_URL and SSL_CERT_FILE"))
    };
    let server = without_userinfo(&ci.server_url);
    let wrong = |error: String| Failure::input(error).hint("look at GITHUB_SERVER_URL");
    Ok(match ci.forge {
        ForgeKind::Github => Arc::new(Github::new(http(github::DIALECT)?, &server, owner, name).map_err(wrong)?),
        ForgeKind::Gitea => Arc::new(Gitea::new(http(gitea::DIALECT)?, &server, owner, name).map_err(wrong)?),
    })
}
