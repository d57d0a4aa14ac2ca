//! Which servers may be reached without TLS: those that the manifest names, and no other.

use bottle_policy::gate::{Transport, UpstreamUrl};

use super::Manifest;

/// An address without TLS that the manifest does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("http://{0} is plain http: whoever is on the way can read the token and change the code")]
pub struct PlainHttpError(String);

impl PlainHttpError {
    /// What to do.
    pub fn hint(&self) -> String {
        format!(
            "use https; or, in a network that you trust, allow it in claude-bottle.yml: `plain_http: [\"{}\"]`",
            self.0
        )
    }
}

/// A host of `plain_http` as addresses have it; none where it is none.
pub(super) fn open_authority(host: &str) -> Option<String> {
    let url = UpstreamUrl::parse(&format!("http://{host}/x")).ok()?;
    (url.path == "x").then(|| url.authority())
}

impl Manifest {
    /// Checks that an upstream has TLS or ssh, or may do without.
    pub fn may_be_open(&self, url: &UpstreamUrl) -> Result<(), PlainHttpError> {
        let authority = url.authority();
        let allowed = || self.plain_http.iter().any(|host| open_authority(host).as_ref() == Some(&authority));
        if url.transport != Transport::Http || allowed() { Ok(()) } else { Err(PlainHttpError(authority)) }
    }
}

/// What is said where it is allowed.
pub(crate) fn warning(url: &UpstreamUrl) -> String {
    let at = url.authority();
    format!(
        "WARNING: http://{at} IS NOT ENCRYPTED: whoever is on the way can read the token and change the code (`plain_http` allows it)"
    )
}
