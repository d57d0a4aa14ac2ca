//! Checks of the `signing` section: an identity that git writes as it is, and a key that is used for nothing else.

use bottle_types::secret::SecretName;

use super::{At, Checked};
use crate::manifest::{BottleEntry, Manifest};

pub(super) fn check(bottle: &BottleEntry, manifest: &Manifest, at: &At) -> Checked {
    let Some(signing) = &bottle.signing else { return Ok(()) };
    if let Err((key, problem)) = signing.committer().check() {
        return Err(at.key(key).wrong(problem).hint("take the one of the account that has the key"));
    }
    let from = &signing.ssh.from;
    let at = at.key("ssh").key("from");
    if manifest.credentials.get(from).is_some_and(|entry| entry.oidc.is_some() || entry.oauth.is_some()) {
        return Err(at.wrong(&format!("`{from}` is a token, and commits are signed by a private ssh key")));
    }
    if let Some(user) = sender(bottle, from) {
        let problem = format!("{user} sends `{from}` away, and a key that signs never leaves the gate");
        return Err(at.wrong(&problem).hint("make a key of its own: `ssh-keygen -t ed25519 -N '' -f signing-key`"));
    }
    Ok(())
}

/// What of the bottle sends a credential to where it goes.
fn sender(bottle: &BottleEntry, name: &SecretName) -> Option<String> {
    let of_setup = bottle.setup.iter().flat_map(|setup| &setup.egress.routes);
    let mut routes = bottle.egress.routes.iter().chain(of_setup);
    let route = routes.find(|route| {
        let injection = route.auth.as_ref().and_then(|auth| auth.injection().ok());
        injection.is_some_and(|injection| injection.secrets().into_iter().any(|secret| secret == name))
    });
    let git = || bottle.git.iter().find(|entry| entry.token_from.as_ref() == Some(name));
    route
        .map(|route| format!("the route to {}", route.host))
        .or_else(|| git().map(|entry| format!("the upstream `{}`", entry.name)))
}
