//! The process's environment, read once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bottle_plan::facts::ProxyFacts;
use bottle_scan::known::SHORTEST;
use bottle_types::address::{passwords, userinfo, without_userinfo};
use bottle_types::secret::{Secret, SecretName};

/// The environment, read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

/// The variable that names the policy's file.
pub(crate) const POLICY: &str = "BOTTLE_POLICY";

/// Files by which Docker and podman mark a container.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

fn variable(name: OsString, value: OsString) -> Option<(String, String)> {
    let name = name.into_string().ok()?;
    let value = match value.into_string() {
        Ok(value) => value,
        // A policy that can't be found is an error; one that was not looked for would be none.
        Err(value) if name == POLICY => value.to_string_lossy().into_owned(),
        Err(_) => return None,
    };
    Some((name, value))
}

impl Environment {
    /// The variables that this process was given; variables that are not UTF-8 are left out, but the one that names a policy.
    pub(crate) fn read() -> Self {
        Self(std::env::vars_os().filter_map(|(name, value)| variable(name, value)).collect())
    }

    /// The policy's file that the machine's owner set, as it is written there, even if that is nothing: without the variable there is none.
    pub(crate) fn policy_file(&self) -> Option<&str> {
        self.0.get(POLICY).map(String::as_str)
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Takes a variable out: nobody sees it afterwards.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.trim().is_empty())
    }

    /// Gives a variable another value.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// The names of all variables that are set and not empty.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.as_str())
    }

    /// Variables named as credentials are, and the passwords in any variable's addresses: masked in the record although this
    /// run does not use them.
    pub(crate) fn credentials(&self) -> Vec<(SecretName, Secret<Vec<u8>>)> {
        self.0
            .iter()
            .filter(|(name, value)| is_credential(name) && value.trim().len() >= SHORTEST)
            .filter_map(|(name, value)| Some((SecretName::parse(name).ok()?, Secret::new(value.clone().into_bytes()))))
            .chain(self.0.iter().flat_map(|(name, value)| maskable(name, passwords(value))))
            .collect()
    }

    /// Every variable that is neither named as credentials are nor has a password in it, and those of `pass`.
    pub(crate) fn without_credentials(&self, pass: &[String]) -> Vec<(String, OsString)> {
        let may =
            |name: &String, value: &str| pass.contains(name) || (!is_credential(name) && passwords(value).is_empty());
        let kept = self.0.iter().filter(|(name, value)| may(name, value));
        kept.map(|(name, value)| (name.clone(), value.into())).collect()
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    /// Where run records go: `BOTTLE_STATE_DIR`, the job's temporary directory in Actions, else the XDG state directory.
    pub(crate) fn state_root(&self) -> Option<PathBuf> {
        if let Some(dir) = self.get("BOTTLE_STATE_DIR") {
            return Some(dir.into());
        }
        if let Some(dir) = self.get("RUNNER_TEMP") {
            return Some(Path::new(dir).join("claude-bottle"));
        }
        let state = self
            .get("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| self.home().map(|home| home.join(".local/state")))?;
        Some(state.join("claude-bottle"))
    }

    /// Where the scripts keep what they fetch.
    pub(crate) fn cache(&self) -> Option<PathBuf> {
        self.get("CLAUDE_BOTTLE_CACHE").map(PathBuf::from).or_else(|| {
            let cache = self.get("XDG_CACHE_HOME").map(PathBuf::from);
            Some(cache.or_else(|| self.home().map(|home| home.join(".cache")))?.join("claude-bottle"))
        })
    }

    /// Where mirrors are kept for later runs: `BOTTLE_MIRROR_DIR`, else below the user's own directory for caches; nowhere on a machine or in
    /// a container that goes with its job.
    pub(crate) fn mirrors(&self) -> Option<PathBuf> {
        if let Some(dir) = self.get("BOTTLE_MIRROR_DIR") {
            return Some(dir.into());
        }
        let in_container = || CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists());
        let goes_with_its_job = self.get("RUNNER_ENVIRONMENT") == Some("github-hosted")
            || self.get("GITHUB_ACTIONS").is_some() && in_container();
        if goes_with_its_job { None } else { Some(self.cache()?.join("mirrors")) }
    }

    /// Where setups' caches are: `BOTTLE_CACHE_DIR`, else below the user's own directory for caches.
    pub(crate) fn setup_cache(&self) -> Option<PathBuf> {
        self.get("BOTTLE_CACHE_DIR").map(PathBuf::from).or_else(|| Some(self.cache()?.join("setup")))
    }

    /// Where sessions are kept for later runs: `BOTTLE_SESSION_DIR`, else below the user's own directory for caches.
    pub(crate) fn sessions(&self) -> Option<PathBuf> {
        self.get("BOTTLE_SESSION_DIR").map(PathBuf::from).or_else(|| Some(self.cache()?.join("sessions")))
    }

    /// The span that this process belongs to, as W3C Trace Context writes it in `TRACEPARENT`; what is not one counts as none.
    pub(crate) fn traceparent(&self) -> Option<String> {
        let text = self.get("TRACEPARENT")?;
        let parts: Vec<&str> = text.split('-').collect();
        let is_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_id = |part: &str, length| is_hex(part, length) && part.bytes().any(|b| b != b'0');
        let holds =
            matches!(parts[..], ["00", trace, span, flags] if is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2));
        holds.then(|| text.to_owned())
    }

    /// The proxy that is named for https, as curl reads it: the name in small letters goes first.
    pub(crate) fn proxy(&self) -> Option<ProxyFacts> {
        let variable = ["https_proxy", "HTTPS_PROXY"].into_iter().find(|name| self.get(name).is_some())?;
        let written = self.get(variable)?;
        let whole = if written.contains("://") { written.to_owned() } else { format!("http://{written}") };
        let found = userinfo(&whole);
        let has_password = found.as_ref().is_some_and(|(_, password)| password.is_some());
        Some(ProxyFacts {
            variable: variable.to_owned(),
            url: without_userinfo(&whole),
            user: found.map(|(user, _)| user),
            has_password,
            no_proxy: self.get("no_proxy").or_else(|| self.get("NO_PROXY")).unwrap_or_default().to_owned(),
        })
    }

    /// The host's own list of trusted authorities: what its tools were told to use, else the system's.
    pub(crate) fn ca_bundle(&self) -> Option<PathBuf> {
        let system = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
        self.get("SSL_CERT_FILE")
            .map(PathBuf::from)
            .into_iter()
            .chain(system.map(PathBuf::from))
            .find(|path| path.is_file())
    }
}

/// Whether a variable is named as credentials are.
fn is_credential(name: &str) -> bool {
    const ENDINGS: [&str; 6] = ["TOKEN", "_KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS"];
    ENDINGS.iter().any(|ending| name.to_ascii_uppercase().ends_with(ending))
}

/// The values that are long enough to be told from ordinary text, as secrets of one name.
pub(crate) fn maskable(name: &str, values: Vec<String>) -> Vec<(SecretName, Secret<Vec<u8>>)> {
    let long = values.into_iter().filter(|value| value.trim().len() >= SHORTEST);
    long.filter_map(|value| Some((SecretName::parse(name).ok()?, Secret::new(value.into_bytes())))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_kept_where_the_machine_stays() {
        let kept = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Environment(variables.collect()).mirrors()
        };
        let home = [("HOME", "/home/me")];
        assert_eq!(kept(&home).as_deref(), Some(Path::new("/home/me/.cache/claude-bottle/mirrors")));
        assert_eq!(kept(&[home[0], ("RUNNER_ENVIRONMENT", "github-hosted"), ("GITHUB_ACTIONS", "true")]), None);
        let named = [home[0], ("RUNNER_ENVIRONMENT", "github-hosted"), ("BOTTLE_MIRROR_DIR", "/mnt/mirrors")];
        assert_eq!(kept(&named).as_deref(), Some(Path::new("/mnt/mirrors")));
        // A job on a machine that stays: a runner of one's own, without a container.
        let in_container = CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists());
        assert_eq!(kept(&[home[0], ("GITHUB_ACTIONS", "true")]).is_none(), in_container);
        assert_eq!(kept(&[]), None);
    }

    #[test]
    fn the_proxy_is_read_as_curl_reads_it_and_its_password_stays_here() {
        let proxy = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Environment(variables.collect()).proxy()
        };
        assert_eq!(proxy(&[("HTTP_PROXY", "http://a:1"), ("NO_PROXY", "*"), ("HTTPS_PROXY", "")]), None);
        let found =
            proxy(&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "b:2"), ("no_proxy", "x"), ("NO_PROXY", "y")]);
        let found = found.expect("a proxy");
        assert_eq!(
            (found.variable.as_str(), found.url.as_str(), found.no_proxy.as_str()),
            ("https_proxy", "http://b:2", "x")
        );
        let written = [("HTTPS_PROXY", "http://me:p%40ss%2Fw0rd-long@proxy.example:3128/"), ("NO_PROXY", "y")];
        let found = proxy(&written).expect("a proxy");
        assert_eq!((found.user.as_deref(), found.has_password), (Some("me"), true));
        assert_eq!((found.url.as_str(), found.no_proxy.as_str()), ("http://proxy.example:3128/", "y"));
        assert!(!format!("{found:?}").contains("w0rd"));
        let found = proxy(&[("HTTPS_PROXY", "http://me@proxy.example:3128")]).expect("a proxy");
        assert_eq!((found.user.as_deref(), found.has_password), (Some("me"), false));
    }
}
