//! A GitHub App in place of a token: its key makes a short-lived word, for which GitHub gives a token of an hour for the job's
//! repository alone. The key stays here.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bottle_types::secret::Secret;
use reqwest::Method;
use rustls::SignatureScheme;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Call, Http};
use super::{Operation, github};
use crate::exit::Failure;
use crate::host::{self, Environment};
use crate::workflow_commands;

/// The App's id, or its client id.
const ID: &str = "BOTTLE_APP_ID";
/// Its private key, PEM.
const KEY: &str = "BOTTLE_APP_KEY";
/// How long its word holds; GitHub takes ten minutes at most, and clocks differ.
const JWT_LIFETIME: Duration = Duration::from_secs(480);
const CLOCK_SKEW: Duration = Duration::from_secs(60);

const READ_INSTALLATION: Operation =
    Operation { what: "find the App's installation", needs: "the App to be installed for this repository" };
const MAKE_TOKEN: Operation = Operation {
    what: "get a token for the App",
    needs: "the App to have the permissions contents, issues and pull requests: write, and actions: read",
};

#[derive(Debug, Deserialize)]
struct Installation {
    id: u64,
}

#[derive(Debug, Deserialize)]
struct InstallationToken {
    token: String,
}

/// The environment with a token of the App where one is given, and without the App's key.
pub(crate) async fn signed_in(mut environment: Environment) -> Result<Environment, Failure> {
    let (Some(id), Some(key)) = (environment.take(ID), environment.take(KEY)) else { return Ok(environment) };
    // Before anything is said.
    workflow_commands::mask(key.as_bytes());
    let hint = format!("{ID} is the App's id, {KEY} its private key as GitHub gave it (PEM)");
    let repository = environment.get("GITHUB_REPOSITORY").unwrap_or_default();
    let (owner, name) = repository
        .split_once('/')
        .ok_or_else(|| Failure::input(format_args!("GITHUB_REPOSITORY is `{repository}`, not OWNER/NAME")))?;
    let server = environment.get("GITHUB_SERVER_URL").unwrap_or_default();
    let base = super::detect::github_api(environment.get("GITHUB_API_URL"), server);
    let word = word(&id, &Secret::new(key), host::unix_seconds()).map_err(|why| Failure::input(why).hint(hint))?;
    let token = token(&base, &word, environment.ca_bundle().as_deref(), owner, name).await?;
    environment.set("GITHUB_TOKEN", token);
    Ok(environment)
}

async fn token(
    base: &str,
    word: &Secret<String>,
    roots: Option<&Path>,
    owner: &str,
    name: &str,
) -> Result<String, Failure> {
    let http = Http::new(base, Some(word), github::DIALECT, roots).map_err(Failure::input)?;
    let failed = |error: super::ForgeError| Failure::machine(&error).hint(error.hint());
    let path = vec!["repos", owner, name, "installation"];
    let installation: Installation = http.send(Call::get(READ_INSTALLATION, path)).await.map_err(failed)?;
    let id = installation.id.to_string();
    let path = vec!["app", "installations", &id, "access_tokens"];
    // For this repository, and for no more than a run does.
    let permissions = json!({"contents": "write", "issues": "write", "pull_requests": "write", "actions": "read"});
    let body = json!({"repositories": [name], "permissions": permissions});
    let granted: InstallationToken =
        http.send(Call::write(MAKE_TOKEN, Method::POST, path, body)).await.map_err(failed)?;
    Ok(granted.token)
}

/// What the App says of itself, signed with RS256.
fn word(id: &str, key: &Secret<String>, now: u64) -> Result<Secret<String>, String> {
    let key = PrivateKeyDer::from_pem_slice(key.expose().trim().as_bytes())
        .map_err(|error| format!("the App's key can't be read: {error}"))?;
    let provider = rustls::crypto::ring::default_provider();
    let key =
        provider.key_provider.load_private_key(key).map_err(|error| format!("the App's key can't be used: {error}"))?;
    let signer = key
        .choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])
        .ok_or("the App's key is no RSA key, which GitHub's Apps have")?;
    let claims = json!({"iat": now - CLOCK_SKEW.as_secs(), "exp": now + JWT_LIFETIME.as_secs(), "iss": id.trim()});
    let coded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed_part = format!("{}.{}", coded(&json!({"alg": "RS256", "typ": "JWT"})), coded(&claims));
    let signature =
        signer.sign(signed_part.as_bytes()).map_err(|error| format!("the App's key can't sign: {error}"))?;
    Ok(Secret::new(format!("{signed_part}.{}", URL_SAFE_NO_PAD.encode(signature))))
}
