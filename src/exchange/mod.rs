//! Credentials that are asked for over https: the job's identity token for another, a client's secret for a token, Vault's.
//!
//! Map: `sts` (the answers of AWS's Security Token Service), here the rest.
//!
//! Always: what an exchange is made with goes to the manifest's address alone, no redirect is followed, and no error quotes an answer's
//! body: it may hold a token.

mod sts;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bottle_plan::plan::{
    ANTHROPIC_TOKEN_URL, AnthropicFederation, AwsRole, OauthSource, OidcSource, TokenExchange, VaultSource,
};
use bottle_types::secret::{Secret, SecretName};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::forge::answer::explain;
use crate::forge::tls;
use crate::host::{self, Environment};
use crate::secrets::{Exchange, FreshValue, ValueLife};

/// Where the job's runner gives an identity token, and what it wants for it.
const ID_TOKEN_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const ID_TOKEN_KEY: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// The longest answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest name of an error that is told.
const MAX_ERROR_NAME: usize = 60;

/// The exchange that a plan names.
pub(crate) fn of_plan(exchange: &TokenExchange, environment: &Environment) -> Arc<dyn Exchange> {
    Arc::new(PlannedExchange { exchange: exchange.clone(), environment: environment.clone() })
}

/// An exchange, and what the environment has for it.
struct PlannedExchange {
    exchange: TokenExchange,
    environment: Environment,
}

/// What a token endpoint gives (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct GrantedToken {
    access_token: String,
    /// In seconds.
    expires_in: Option<u64>,
}

/// What the job's runner gives.
#[derive(Deserialize)]
struct IdentityToken {
    value: String,
}

/// What Vault gives for a login.
#[derive(Deserialize)]
struct VaultLogin {
    auth: VaultAuth,
}

#[derive(Deserialize)]
struct VaultAuth {
    client_token: String,
}

/// What Vault gives for a secret's path.
#[derive(Deserialize)]
struct VaultSecret {
    /// In seconds; 0: it has none.
    #[serde(default)]
    lease_duration: u64,
    data: Value,
}

impl Exchange for PlannedExchange {
    fn exchange(&self) -> BoxFuture<'_, Result<FreshValue, String>> {
        async {
            let began = host::unix_millis();
            let (value, lifetime) = match &self.exchange {
                TokenExchange::Oidc(OidcSource { audience, aws: Some(role), .. }) => {
                    return self.assumed_role(audience, role, began).await;
                }
                TokenExchange::Oidc(oidc) => granted(self.federated(oidc).await?),
                TokenExchange::Oauth(oauth) => granted(self.client_credentials(oauth).await?),
                TokenExchange::Vault(vault) => self.vault(vault).await?,
            };
            FreshValue::new(value.expose(), began, lifetime)
                .map_err(|why| format!("{} gave no usable value: {why}", self.place()))
        }
        .boxed()
    }

    fn hint(&self) -> String {
        let (job, other) = ("give the job `permissions: { id-token: write }`, and have the", "trust this repository");
        match &self.exchange {
            TokenExchange::Oauth(OauthSource { client_secret_from: name, .. })
            | TokenExchange::Vault(VaultSource { token_from: Some(name), .. }) => {
                format!("look at the value of {name}")
            }
            TokenExchange::Oidc(_) => format!("{job} other side {other}"),
            TokenExchange::Vault(_) => format!("{job} role {other}"),
        }
    }
}

impl PlannedExchange {
    /// The address that is asked for the value.
    fn place(&self) -> &str {
        match &self.exchange {
            TokenExchange::Oidc(OidcSource { aws: Some(_), .. }) => "AWS's Security Token Service",
            TokenExchange::Oidc(oidc) => oidc.token_url.as_deref().unwrap_or(ANTHROPIC_TOKEN_URL),
            TokenExchange::Oauth(oauth) => &oauth.token_url,
            TokenExchange::Vault(vault) => &vault.address,
        }
    }

    fn client(&self) -> Result<Client, String> {
        Client::builder()
            .user_agent(concat!("claude-bottle/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls::client(self.environment.ca_bundle().as_deref())?)
            // A redirect could carry a secret to another place.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| format!("failed to ready a client: {}", explain(&error)))
    }

    fn variable(&self, name: &SecretName) -> Result<Secret<String>, String> {
        let value = self.environment.get(name.as_str()).ok_or_else(|| format!("the variable {name} is not set"))?;
        Ok(Secret::new(value.to_owned()))
    }

    /// The job's identity token for an audience.
    async fn identity(&self, audience: &str) -> Result<Secret<String>, String> {
        let of_job = |name| {
            self.environment.get(name).ok_or_else(|| format!("this job has no identity token: {name} is not set"))
        };
        let (url, key) = (of_job(ID_TOKEN_URL)?, of_job(ID_TOKEN_KEY)?);
        let mut url = Url::parse(url).map_err(|error| format!("{ID_TOKEN_URL} is no address: {error}"))?;
        url.query_pairs_mut().append_pair("audience", audience);
        let request = self.client()?.get(url).bearer_auth(key);
        let token: IdentityToken = send(request, ID_TOKEN_URL).await?;
        Ok(Secret::new(token.value))
    }

    /// Exchanges the identity token as RFC 8693 says, or RFC 7523 as Anthropic has it.
    async fn federated(&self, oidc: &OidcSource) -> Result<GrantedToken, String> {
        let identity = self.identity(&oidc.audience).await?;
        let request = self.client()?.post(self.place());
        let request = match &oidc.anthropic {
            Some(federation) => {
                let body = anthropic_body(federation, &identity).to_string();
                request.header(CONTENT_TYPE, "application/json").body(body)
            }
            None => form(
                request,
                &[
                    ("grant_type", Some("urn:ietf:params:oauth:grant-type:token-exchange")),
                    ("subject_token", Some(identity.expose())),
                    ("subject_token_type", Some("urn:ietf:params:oauth:token-type:jwt")),
                    ("requested_token_type", Some("urn:ietf:params:oauth:token-type:access_token")),
                    ("audience", oidc.resource.as_deref()),
                    ("scope", oidc.scope.as_deref()),
                ],
            ),
        };
        send(request, self.place()).await
    }

    /// Keys of a role, by AWS's `AssumeRoleWithWebIdentity` (STS API Reference); the request is not signed.
    async fn assumed_role(&self, audience: &str, role: &AwsRole, began: u64) -> Result<FreshValue, String> {
        let identity = self.identity(audience).await?;
        let url = role.url();
        let request = form(
            self.client()?.post(&url),
            &[
                ("Action", Some("AssumeRoleWithWebIdentity")),
                ("Version", Some("2011-06-15")),
                ("RoleArn", Some(&role.role)),
                ("RoleSessionName", Some(role.session_name.as_deref().unwrap_or("claude-bottle"))),
                ("WebIdentityToken", Some(identity.expose())),
            ],
        );
        let (status, body) = answer(request.header(ACCEPT, "application/xml"), &url).await?;
        if !status.is_success() {
            let name = sts::error_code(&body).map(|name| format!(" ({name})")).unwrap_or_default();
            return Err(format!("{url} answered {}{name}", status.as_u16()));
        }
        let (keys, expiration) =
            sts::keys(&body).ok_or_else(|| format!("{url} answered with something else than was asked for"))?;
        let life = ValueLife::until(began, &expiration).map_err(|why| format!("{url} gave no usable value: {why}"))?;
        Ok(FreshValue { value: Secret::new(keys.to_line().into_bytes()), life: Some(life) })
    }

    /// The client credentials grant; the client is known by HTTP Basic, which every server has to take (RFC 6749, section 2.3.1).
    async fn client_credentials(&self, oauth: &OauthSource) -> Result<GrantedToken, String> {
        let secret = self.variable(&oauth.client_secret_from)?;
        // Both are form-encoded first, as the RFC says.
        let encoded = |text: &str| form_text(&[("", Some(text))]).split_off(1);
        let request = self.client()?.post(self.place());
        let request = request.basic_auth(encoded(&oauth.client_id), Some(encoded(secret.expose())));
        let request = form(
            request,
            &[
                ("grant_type", Some("client_credentials")),
                ("scope", oauth.scope.as_deref()),
                ("audience", oauth.audience.as_deref()),
            ],
        );
        send(request, self.place()).await
    }

    /// A field of a secret, and how long its lease is.
    async fn vault(&self, vault: &VaultSource) -> Result<(Secret<String>, Option<Duration>), String> {
        let in_namespace = |request: RequestBuilder| match &vault.namespace {
            Some(namespace) => request.header("X-Vault-Namespace", namespace),
            None => request,
        };
        let token = match (&vault.token_from, &vault.role) {
            (Some(name), _) => self.variable(name)?,
            (None, role) => {
                let jwt = self.identity(vault.audience.as_deref().unwrap_or(&vault.address)).await?;
                let body = json!({"role": role, "jwt": jwt.expose()}).to_string();
                let request = self.client()?.post(self.vault_url("auth/jwt/login")?);
                let request = in_namespace(request.header(CONTENT_TYPE, "application/json").body(body));
                let login: VaultLogin = send(request, self.place()).await?;
                Secret::new(login.auth.client_token)
            }
        };
        let request = self.client()?.get(self.vault_url(&vault.path)?).header("X-Vault-Token", token.expose());
        let secret: VaultSecret = send(in_namespace(request), self.place()).await?;
        // The key/value engine's second version has the fields below `data`, beside their `metadata`.
        let is_versioned = secret.data["metadata"].is_object() && secret.data["data"].is_object();
        let fields = if is_versioned { &secret.data["data"] } else { &secret.data };
        let value = fields[&vault.field].as_str();
        let value =
            value.ok_or_else(|| format!("{} in Vault has no field {} that is a text", vault.path, vault.field))?;
        let lease = (secret.lease_duration > 0).then(|| Duration::from_secs(secret.lease_duration));
        Ok((Secret::new(value.to_owned()), lease))
    }

    fn vault_url(&self, path: &str) -> Result<Url, String> {
        let address = self.place();
        let mut url = Url::parse(address).map_err(|error| format!("{address} is no address: {error}"))?;
        url.path_segments_mut()
            .map_err(|()| format!("{address} is no address"))?
            .pop_if_empty()
            .push("v1")
            .extend(path.split('/'));
        Ok(url)
    }
}

/// What Anthropic's token endpoint wants: platform.claude.com, "WIF reference".
fn anthropic_body(federation: &AnthropicFederation, identity: &Secret<String>) -> Value {
    let mut body = json!({
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": identity.expose(),
        "federation_rule_id": federation.rule,
        "organization_id": federation.organization,
        "service_account_id": federation.service_account,
    });
    if let Some(workspace) = &federation.workspace {
        body["workspace_id"] = json!(workspace);
    }
    body
}

fn granted(token: GrantedToken) -> (Secret<String>, Option<Duration>) {
    (Secret::new(token.access_token), token.expires_in.map(Duration::from_secs))
}

/// A form's fields, those that are there.
fn form_text(fields: &[(&str, Option<&str>)]) -> String {
    let mut url = Url::parse("https://form.invalid").expect("an address");
    url.query_pairs_mut().extend_pairs(fields.iter().filter_map(|(name, value)| Some((name, (*value)?))));
    url.query().unwrap_or_default().to_owned()
}

fn form(request: RequestBuilder, fields: &[(&str, Option<&str>)]) -> RequestBuilder {
    request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form_text(fields))
}

/// Sends a request and reads its answer; an error names the place and what went wrong, and nothing of the answer but its error's name.
async fn send<T: DeserializeOwned>(request: RequestBuilder, place: &str) -> Result<T, String> {
    let (status, body) = answer(request.header(ACCEPT, "application/json"), place).await?;
    if !status.is_success() {
        let name = error_name(&body).map(|name| format!(" ({name})")).unwrap_or_default();
        return Err(format!("{place} answered {}{name}", status.as_u16()));
    }
    serde_json::from_slice(&body).map_err(|_| format!("{place} answered with something else than was asked for"))
}

/// Sends a request and reads its answer, whatever it says.
async fn answer(request: RequestBuilder, place: &str) -> Result<(StatusCode, Vec<u8>), String> {
    let response = request.send().await.map_err(|error| format!("{place}: {}", explain(&error.without_url())))?;
    let status = response.status();
    let body = body(response).await.map_err(|why| format!("{place}: {why}"))?;
    Ok((status, body))
}

async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await.map_err(|error| explain(&error.without_url()))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(format!("the answer is longer than {MAX_ANSWER_BYTES} bytes"));
        }
    }
    Ok(body)
}

/// The name of an error, as OAuth (`error`) and Anthropic (`error.type`) give it, if it is a word.
fn error_name(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let name = body["error"].as_str().or_else(|| body["error"]["type"].as_str())?;
    let is_word = name.len() <= MAX_ERROR_NAME && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_word.then(|| name.to_owned())
}
