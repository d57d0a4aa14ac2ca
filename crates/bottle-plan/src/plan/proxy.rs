//! The company's proxy: the environment's, else the manifest's.
//!
//! The environment goes first, and whole: it is the word of the machine's owner, whose network it is. A repository can't lead a
//! machine's traffic past its owner's proxy, nor have the owner's password sent to another one.

use std::net::IpAddr;

use bottle_policy::gate::{Transport, UpstreamUrl};
use bottle_policy::proxy::{DirectRule, ProxyLogin, ProxyUrl, UpstreamProxy, check_user, no_proxy};
use bottle_types::host::HostName;
use bottle_types::secret::SecretName;

use super::error::PlanError;
use super::secrets::SecretSources;
use super::types::{SecretPlan, SecretSource};
use super::upstreams::Upstreams;
use crate::facts::{HostFacts, ProxyFacts};
use crate::manifest::{Manifest, ProxyEntry};

/// Who uses the password, among the users of a secret.
const USER: &str = "the proxy";
/// The name of the password in the environment's address.
const PASSWORD: &str = "BOTTLE_PROXY_PASSWORD";

/// The proxy of a run, if it has one; its password is among the secrets then.
pub(super) fn proxy(
    manifest: &Manifest,
    sources: SecretSources<'_>,
    secrets: &mut Vec<SecretPlan>,
    notes: &mut Vec<String>,
) -> Result<Option<UpstreamProxy>, PlanError> {
    let entry = manifest.proxy.clone().unwrap_or_default();
    let proxy = match &sources.facts.proxy {
        Some(facts) => {
            if entry.url.is_some() {
                notes.push(format!("proxy.url: {} is set on this machine, and goes before it", facts.variable));
            }
            from_environment(facts, entry.remote_dns, secrets, notes)?
        }
        None => match from_manifest(entry, sources, secrets) {
            Some(proxy) => proxy,
            None => return Ok(None),
        },
    };
    if proxy.remote_dns {
        notes.push(format!(
            "proxy.remote_dns: {} resolves names, so where they lead is judged by the proxy, and by no door",
            proxy.url
        ));
    }
    // Everything is reached directly, so there is none.
    Ok(Some(proxy).filter(|proxy| !proxy.no_proxy.contains(&DirectRule::All)))
}

fn from_environment(
    facts: &ProxyFacts,
    remote_dns: bool,
    secrets: &mut Vec<SecretPlan>,
    notes: &mut Vec<String>,
) -> Result<UpstreamProxy, PlanError> {
    let wrong = |problem: String| PlanError::Proxy { problem: format!("{}: {problem}", facts.variable) };
    let url = ProxyUrl::parse(&facts.url).map_err(|error| wrong(error.to_string()))?;
    let login = match (&facts.user, facts.has_password) {
        (None, _) => None,
        (Some(_), false) => return Err(wrong("there is a user before the host, and no password".to_owned())),
        (Some(user), true) => {
            check_user(user).map_err(|error| wrong(error.to_string()))?;
            let password = SecretName::parse(PASSWORD).map_err(|error| PlanError::Facts(error.to_string()))?;
            let source = SecretSource::ProxyPassword(facts.variable.clone());
            secrets.push(SecretPlan { name: password.clone(), source, used_by: vec![USER.to_owned()], present: true });
            Some(ProxyLogin { user: user.clone(), password })
        }
    };
    let (no_proxy, unread) = no_proxy(&facts.no_proxy);
    for entry in unread {
        notes.push(format!(
            "NO_PROXY: `{entry}` is neither a host, an address nor a network, and opens no way past the proxy"
        ));
    }
    Ok(UpstreamProxy { url, login, no_proxy, remote_dns })
}

fn from_manifest(
    entry: ProxyEntry,
    sources: SecretSources<'_>,
    secrets: &mut Vec<SecretPlan>,
) -> Option<UpstreamProxy> {
    let url = entry.url?;
    let login = entry.user.zip(entry.password_from).map(|(user, password)| ProxyLogin { user, password });
    if let Some(login) = &login {
        sources.add(secrets, &login.password, USER);
    }
    Some(UpstreamProxy { url, login, no_proxy: entry.no_proxy, remote_dns: entry.remote_dns })
}

/// The address that this machine's own hosts file has for the proxy: the doors' name service does not know it.
pub(super) fn on_this_machine(proxy: &UpstreamProxy, facts: &HostFacts) -> Option<(HostName, IpAddr)> {
    let name = proxy.url.host.name()?;
    Some((name.clone(), *facts.hosts.get(name)?))
}

/// Checks that each upstream can be reached: git speaks to a proxy in the clear where it speaks so to upstream.
pub(super) fn check(proxy: Option<&UpstreamProxy>, upstreams: &Upstreams) -> Result<(), PlanError> {
    let Some(proxy) = proxy else { return Ok(()) };
    let is_open = |url: &&UpstreamUrl| url.transport == Transport::Http && !proxy.is_direct_host(&url.host);
    match upstreams.urls().find(is_open) {
        None => Ok(()),
        Some(url) => {
            let problem = format!("{url} is plain http, and the gate goes through a proxy by https alone");
            Err(PlanError::Proxy { problem })
        }
    }
}
