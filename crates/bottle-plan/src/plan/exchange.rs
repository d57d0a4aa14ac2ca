//! Exchanges that give a credential: the job's identity token for another, a client's secret for a token, Vault's.

use std::fmt;

use bottle_types::secret::SecretName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An exchange that the runner makes over https, before a value is needed and again before it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenExchange {
    /// The job's identity token for a credential.
    Oidc(OidcSource),
    /// A client's secret for an access token.
    Oauth(OauthSource),
    /// A field of a secret in Vault or OpenBao.
    Vault(VaultSource),
}

/// The identity token that GitHub or Forgejo gives a job, exchanged for a credential: as RFC 8693 says at `token_url`, at Anthropic, or for keys of AWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcSource {
    /// Whom the identity token is for: its `aud`.
    pub audience: String,
    /// The https address of a token endpoint that exchanges tokens as RFC 8693 says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// token_url: the `audience` of the exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// token_url: the scopes that are asked for, with spaces between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Anthropic's workload identity federation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anthropic: Option<AnthropicFederation>,
    /// AWS's `AssumeRoleWithWebIdentity`, for a route's `auth.aws`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsRole>,
}

/// The role whose keys AWS's Security Token Service gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsRole {
    /// The role's ARN.
    pub role: String,
    /// The region whose endpoint is asked, such as `eu-central-1`.
    pub region: String,
    /// The https address of the endpoint; `https://sts.REGION.amazonaws.com/` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_url: Option<String>,
    /// The session's name in AWS's logs; `claude-bottle` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
}

impl AwsRole {
    /// The endpoint's address.
    pub fn url(&self) -> String {
        self.sts_url.clone().unwrap_or_else(|| format!("https://sts.{}.amazonaws.com/", self.region))
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |key, problem: &str| Err((key, problem.to_owned()));
        let is_role = self.role.starts_with("arn:") && self.role.contains(":role/");
        if !is_role || self.role.len() > 2048 || !self.role.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("oidc.aws.role", "expected a role's ARN: `arn:aws:iam::123456789012:role/ci`");
        }
        let is_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.region.is_empty() || !self.region.bytes().all(is_region) {
            return wrong("oidc.aws.region", "expected a region such as `eu-central-1`");
        }
        let is_name = |name: &String| {
            (2..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_=,.@-".contains(&byte))
        };
        if !self.session_name.as_ref().is_none_or(is_name) {
            return wrong("oidc.aws.session_name", "expected 2 to 64 letters, digits or `_=,.@-`");
        }
        self.sts_url.as_ref().map_or(Ok(()), |url| https("oidc.aws.sts_url", url))
    }
}

/// What Anthropic's token endpoint is asked with, as the Claude Console names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnthropicFederation {
    /// The federation rule: `fdrl_…`.
    pub rule: String,
    /// The organization's UUID.
    pub organization: String,
    /// The service account: `svac_…`.
    pub service_account: String,
    /// The workspace, `wrkspc_…` or `default`, where the rule is for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// The client credentials grant of OAuth 2.0 (RFC 6749, section 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OauthSource {
    /// The https address of the token endpoint.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// The variable with the client's secret.
    #[schemars(with = "String")]
    pub client_secret_from: SecretName,
    /// The scopes that are asked for, with spaces between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The `audience`, where the endpoint wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// A secret in Vault or OpenBao, by its HTTP API: of the key/value engine, or a dynamic one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultSource {
    /// The server's https address.
    pub address: String,
    /// The path below `/v1/`, such as `secret/data/ci`.
    pub path: String,
    /// Which field of the secret.
    pub field: String,
    /// The variable with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub token_from: Option<SecretName>,
    /// The role that the job's identity token logs in for, at `auth/jwt`, in place of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// role: whom the identity token is for; the server's address where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Anthropic's token endpoint.
pub const ANTHROPIC_TOKEN_URL: &str = "https://api.anthropic.com/v1/oauth/token";

impl TokenExchange {
    /// The variables of the environment that have what it is made with.
    pub fn variables(&self) -> impl Iterator<Item = &SecretName> {
        match self {
            Self::Oidc(_) => None,
            Self::Oauth(oauth) => Some(&oauth.client_secret_from),
            Self::Vault(vault) => vault.token_from.as_ref(),
        }
        .into_iter()
    }

    /// What is wrong with it: the key, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |key, problem: &str| Err((key, problem.to_owned()));
        match self {
            Self::Oidc(oidc) => {
                said("oidc.audience", &oidc.audience)?;
                match (&oidc.token_url, &oidc.anthropic, &oidc.aws) {
                    (Some(url), None, None) => https("oidc.token_url", url),
                    (None, ..) if oidc.scope.is_some() => wrong("oidc.scope", "belongs to `token_url`"),
                    (None, ..) if oidc.resource.is_some() => wrong("oidc.resource", "belongs to `token_url`"),
                    (None, None, Some(aws)) => aws.check(),
                    (None, Some(anthropic), None) => {
                        said("oidc.anthropic.rule", &anthropic.rule)?;
                        said("oidc.anthropic.organization", &anthropic.organization)?;
                        said("oidc.anthropic.service_account", &anthropic.service_account)
                    }
                    _ => wrong("oidc", "expected one of `token_url`, `anthropic` and `aws`"),
                }
            }
            Self::Oauth(oauth) => {
                https("oauth.token_url", &oauth.token_url)?;
                said("oauth.client_id", &oauth.client_id)
            }
            Self::Vault(vault) => {
                https("vault.address", &vault.address)?;
                said("vault.field", &vault.field)?;
                let is_plain = |part: &str| {
                    !matches!(part, "" | "." | "..")
                        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~ @+".contains(&byte))
                };
                if !vault.path.split('/').all(is_plain) {
                    return wrong("vault.path", "expected a path such as `secret/data/ci`, without `/v1/` before it");
                }
                match (&vault.token_from, &vault.role) {
                    (Some(_), None) if vault.audience.is_some() => wrong("vault.audience", "belongs to `role`"),
                    (Some(_), None) | (None, Some(_)) => Ok(()),
                    _ => wrong("vault", "expected one of `token_from` and `role`"),
                }
            }
        }
    }
}

impl fmt::Display for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oidc(OidcSource { audience, aws: Some(aws), .. }) => {
                write!(
                    f,
                    "the job's identity token for {audience}, exchanged for keys of {} at {}",
                    aws.role,
                    aws.url()
                )
            }
            Self::Oidc(oidc) => {
                let at = oidc.token_url.as_deref().unwrap_or(ANTHROPIC_TOKEN_URL);
                write!(f, "the job's identity token for {}, exchanged at {at}", oidc.audience)
            }
            Self::Oauth(oauth) => {
                write!(f, "${} of {}, exchanged at {}", oauth.client_secret_from, oauth.client_id, oauth.token_url)
            }
            Self::Vault(vault) => {
                let by = vault.token_from.as_ref().map_or_else(
                    || format!("role {}", vault.role.as_deref().unwrap_or_default()),
                    |name| format!("${name}"),
                );
                write!(f, "{} of {} in Vault at {}, by {by}", vault.field, vault.path, vault.address)
            }
        }
    }
}

/// Wants an address that a credential can be sent to.
fn https(key: &'static str, url: &str) -> Result<(), (&'static str, String)> {
    let authority = url.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or(rest));
    let is_usable = |authority: &str| !authority.is_empty() && !authority.contains('@');
    if !authority.is_some_and(is_usable) || url.bytes().any(|byte| !byte.is_ascii_graphic() || b"?#\\".contains(&byte))
    {
        return Err((key, "expected an address that begins with https://, without a user and a query".to_owned()));
    }
    Ok(())
}

/// Wants a text that says something.
fn said(key: &'static str, text: &str) -> Result<(), (&'static str, String)> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err((key, "expected a text of one line".to_owned()));
    }
    Ok(())
}
