//! Which forge the job runs on, where its API is, and with which token it is asked.

use std::sync::Arc;

use bottle_plan::facts::{Ci, ForgeKind};
use bottle_types::secret::Secret;
use serde::Deserialize;

use super::gitea::{self, Gitea};
use super::github::{self, Github};
use super::http::{Call, Http};
use super::{Forge, Operation};
use crate::exit::Failure;
use crate::host::Environment;

/// Decides which forge it is, where the environment does not say otherwise.
const CHOICE: &str = "BOTTLE_FORGE";

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
    match http.send::<Version>(Call::get(READ_VERSION, vec!["version"])).await {
        Ok(_) => Ok(ForgeKind::Gitea),
        Err(error) if error.status().is_some() => Ok(ForgeKind::Github),
        Err(error) => Err(Failure::machine(&error)
            .hint(format_args!("say which forge it is: {CHOICE}=github or gitea; or {}", error.hint()))),
    }
}

/// Where GitHub's API is: where the job says, or beside the server.
pub(super) fn github_api(given: Option<&str>, server: &str) -> String {
    match (given, server.trim_end_matches('/')) {
        (Some(given), _) => given.trim_end_matches('/').to_owned(),
        (None, "https://github.com") => "https://api.github.com".to_owned(),
        (None, server) => format!("{server}/api/v3"),
    }
}

/// The token that the job's forge is asked with.
pub(crate) fn token(environment: &Environment, forge: ForgeKind) -> Result<Secret<String>, Failure> {
    let variables: &[&str] = match forge {
        ForgeKind::Github => &["GITHUB_TOKEN"],
        ForgeKind::Gitea => &["GITEA_TOKEN", "GITHUB_TOKEN"],
    };
    let token = variables.iter().find_map(|name| environment.get(name)).ok_or_else(|| {
        Failure::input(format_args!("the forge can't be asked: {} is not set", variables.join(" or ")))
            .hint("give the step `env: { GITHUB_TOKEN: \"${{ github.token }}\" }`")
    })?;
    Ok(Secret::new(token.to_owned()))
}

/// Readies the forge of this job.
pub(crate) fn connect(environment: &Environment, ci: &Ci) -> Result<Arc<dyn Forge>, Failure> {
    let (owner, name) = ci
        .repository
        .split_once('/')
        .filter(|(owner, name)| !owner.is_empty() && !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| Failure::input(format_args!("GITHUB_REPOSITORY is `{}`, not OWNER/NAME", ci.repository)))?;
    let (owner, name) = (owner.to_owned(), name.to_owned());
    let server = ci.server_url.trim_end_matches('/');
    let given = environment.get("GITHUB_API_URL").map(|url| url.trim_end_matches('/'));
    let token = token(environment, ci.forge)?;
    let roots = environment.ca_bundle();
    let http = |base: &str, dialect| {
        Http::new(base, Some(&token), dialect, roots.as_deref())
            .map_err(|error| Failure::input(error).hint("look at GITHUB_API_URL, GITHUB_SERVER_URL and SSL_CERT_FILE"))
    };
    Ok(match ci.forge {
        ForgeKind::Github => Arc::new(Github::new(http(&github_api(given, server), github::DIALECT)?, owner, name)),
        ForgeKind::Gitea => {
            let default_base = format!("{server}/api/v1");
            let base = given.filter(|url| url.ends_with("/api/v1")).unwrap_or(&default_base);
            Arc::new(Gitea::new(http(base, gitea::DIALECT)?, owner, name))
        }
    })
}
