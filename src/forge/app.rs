//! A GitHub App in place of a token: its key makes a short-lived word, for which GitHub gives a token of an hour for the job's
//! repository alone. The key stays here; the token is renewed as every credential is, and all of them are taken back at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bottle_types::secret::Secret;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::Method;
use rustls::SignatureScheme;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{ApiCall, Http};
use super::{Operation, github};
use crate::exit::Failure;
use crate::host::{self, Environment};
use crate::secrets::{Exchange, FreshValue, ValueLife};
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
const REVOKE_TOKEN: Operation = Operation { what: "take the App's token back", needs: "nothing" };
const MAKE_TOKEN: Operation = Operation {
    what: "get a token for the App",
    needs: "the App to have the permissions contents, issues and pull requests: write, and actions: read; for checks also checks: write, \
            and for findings security events: write",
};

#[derive(Debug, Deserialize)]
struct Installation {
    id: u64,
    /// What it was granted.
    #[serde(default)]
    permissions: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct InstallationToken {
    token: String,
    expires_at: String,
}

/// The variable that has the App's token in place of the job's.
pub(crate) const TOKEN: &str = "GITHUB_TOKEN";
/// How long the end of a run waits for a token to be taken back.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(2);

/// An App that is signed in for the job's repository.
pub(crate) struct SignedInApp {
    base: String,
    id: String,
    key: Secret<String>,
    roots: Option<PathBuf>,
    owner: String,
    name: String,
    /// Every token that was made, and how long it is good.
    made: Mutex<Vec<FreshValue>>,
}

/// The environment with a token of the App where one is given, and without the App's key; and the App, for the tokens to come.
pub(crate) async fn signed_in(
    mut environment: Environment,
) -> Result<(Environment, Option<Arc<SignedInApp>>), Failure> {
    let (Some(id), Some(key)) = (environment.take(ID), environment.take(KEY)) else { return Ok((environment, None)) };
    // Before anything is said.
    workflow_commands::mask(key.as_bytes());
    let repository = environment.get("GITHUB_REPOSITORY").unwrap_or_default();
    let (owner, name) = repository
        .split_once('/')
        .ok_or_else(|| Failure::input(format_args!("GITHUB_REPOSITORY is `{repository}`, not OWNER/NAME")))?;
    let server = environment.get("GITHUB_SERVER_URL").unwrap_or_default();
    let app = SignedInApp {
        base: super::detect::github_api(environment.get("GITHUB_API_URL"), server),
        id,
        key: Secret::new(key),
        roots: environment.ca_bundle(),
        owner: owner.to_owned(),
        name: name.to_owned(),
        made: Mutex::default(),
    };
    let fresh = app.token().await?;
    environment.set(TOKEN, String::from_utf8_lossy(fresh.value.expose()).into_owned());
    Ok((environment, Some(Arc::new(app))))
}

impl SignedInApp {
    /// Gets one more token, for this repository, and for no more than a run does.
    async fn token(&self) -> Result<FreshValue, Failure> {
        let now = host::unix_millis();
        let hint = format!("{ID} is the App's id, {KEY} its private key as GitHub gave it (PEM)");
        let word = word(&self.id, &self.key, now / 1000).map_err(|why| Failure::input(why).hint(hint))?;
        let http = self.http(&word)?;
        let failed = |error: super::ForgeError| Failure::machine(&error).hint(error.hint());
        let path = vec!["repos", &self.owner, &self.name, "installation"];
        let installation: Installation = http.send(ApiCall::get(READ_INSTALLATION, path)).await.map_err(failed)?;
        let id = installation.id.to_string();
        let path = vec!["app", "installations", &id, "access_tokens"];
        let mut permissions =
            json!({"contents": "write", "issues": "write", "pull_requests": "write", "actions": "read"});
        // Only agents that report checks or findings need these, and nobody may ask for more than the App has.
        for name in ["checks", "security_events"] {
            if installation.permissions.get(name).is_some_and(|granted| granted == "write") {
                permissions[name] = json!("write");
            }
        }
        let body = json!({"repositories": [self.name], "permissions": permissions});
        let granted: InstallationToken =
            http.send(ApiCall::write(MAKE_TOKEN, Method::POST, path, body)).await.map_err(failed)?;
        let fresh = FreshValue {
            life: Some(ValueLife::until(now, &granted.expires_at).map_err(Failure::machine)?),
            value: Secret::new(granted.token.into_bytes()),
        };
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(fresh.clone());
        Ok(fresh)
    }

    fn http(&self, token: &Secret<String>) -> Result<Http, Failure> {
        Http::new(&self.base, Some(token), github::DIALECT, self.roots.as_deref()).map_err(Failure::input)
    }

    /// How long the last token is good.
    pub(crate) fn life(&self) -> Option<ValueLife> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).last()?.life
    }

    /// Takes back every token that has not ended by itself; says which could not be.
    pub(crate) async fn revoke(&self) -> Result<(), String> {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let now = host::unix_millis();
        let alive = made.into_iter().filter(|fresh| fresh.life.is_none_or(|life| life.to > now));
        let all = async {
            for fresh in alive {
                let token = Secret::new(String::from_utf8_lossy(fresh.value.expose()).into_owned());
                let http = self.http(&token).map_err(|failure| failure.what)?;
                let call = ApiCall::delete(REVOKE_TOKEN, vec!["installation", "token"]);
                http.send_for_text(call).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        let ended = tokio::time::timeout(REVOKE_TIMEOUT, all).await;
        ended.unwrap_or_else(|_| Err(format!("the forge did not answer within {} s", REVOKE_TIMEOUT.as_secs())))
    }
}

impl Exchange for SignedInApp {
    fn exchange(&self) -> BoxFuture<'_, Result<FreshValue, String>> {
        async { self.token().await.map_err(|failure| failure.what) }.boxed()
    }

    fn hint(&self) -> String {
        "look at the App's installation".to_owned()
    }
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
