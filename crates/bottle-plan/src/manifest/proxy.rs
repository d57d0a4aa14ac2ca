//! `proxy`: the company's proxy before the doors.

use bottle_policy::proxy::{DirectRule, ProxyUrl, check_user};
use bottle_types::secret::SecretName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The proxy through which the doors reach everything; the runner's own `HTTPS_PROXY` goes before `url`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Proxy")]
pub struct ProxyEntry {
    /// `http://host:port`, or `https://host:port` where the proxy itself speaks TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<ProxyUrl>,
    /// The user, where the proxy wants to know one (Basic).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The name of the password's credential, or of the host's variable that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_from: Option<SecretName>,
    /// What is reached without it, as in `NO_PROXY`: a host with all below it, an address, a network, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub no_proxy: Vec<DirectRule>,
    /// Gives the proxy names to resolve, where the doors have no name service or the proxy takes no addresses. Addresses behind those
    /// names are then the proxy's to judge.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remote_dns: bool,
}

impl ProxyEntry {
    /// Says which key is wrong, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |key, problem: &str| Err((key, problem.to_owned()));
        match (&self.user, &self.password_from) {
            (Some(_), None) => return wrong("user", "a user needs `password_from`"),
            (None, Some(_)) => return wrong("password_from", "a password needs `user`"),
            _ => {}
        }
        if let Some(user) = &self.user {
            check_user(user).map_err(|error| ("user", error.to_string()))?;
        }
        if self.url.is_none() && (self.user.is_some() || !self.no_proxy.is_empty()) {
            let key = if self.user.is_some() { "user" } else { "no_proxy" };
            return wrong(key, "this belongs to a `url`; beside HTTPS_PROXY the environment says it");
        }
        Ok(())
    }
}
