//! The policies that hold for a manifest: the one that the machine's owner set, and the one that `extends` names.
//!
//! Always: every command reads a manifest through here, so that none goes without its policies. One that can't be read ends the command.

use std::path::Path;

use bottle_plan::facts::ForgeKind;
use bottle_plan::manifest::{Extends, Manifest, ManifestError, ManifestSource, PolicyOrigin, PolicyText, RuleOrigins};
use sha2::{Digest as _, Sha256};

use crate::exit::Failure;
use crate::forge;
use crate::host::{Base, Environment, POLICY, read_policy_file};

/// The server whose token it is, where the environment does not say it.
const GITHUB: &str = "https://github.com";

/// A manifest's text with the policies that hold for it.
pub(super) async fn source(name: &str, text: &str, environment: &Environment) -> Result<ManifestSource, Failure> {
    let source = own_source(name, text, environment)?;
    match source.extends().map_err(|error| failure(&error))? {
        Some(extends) => {
            let policy = fetched(&extends, environment).await?;
            Ok(source.extending(policy))
        }
        None => Ok(source),
    }
}

/// The same of a text that has no `extends`.
#[expect(clippy::disallowed_methods, reason = "the one place that knows the machine's policy")]
pub(super) fn own_source(name: &str, text: &str, environment: &Environment) -> Result<ManifestSource, Failure> {
    Ok(ManifestSource::new(name, text).under(machine_policy(environment)?))
}

/// The manifest, held against its policies.
pub(super) fn manifest(source: &ManifestSource) -> Result<Manifest, Failure> {
    source.parse().map_err(|error| failure(&error))
}

/// Where each rule stands; none: the manifest has no policy.
pub(super) fn origins(source: &ManifestSource) -> Result<Option<RuleOrigins>, Failure> {
    let policies: Vec<PolicyOrigin> = source
        .policies()
        .map(|policy| PolicyOrigin { name: policy.name.clone(), sha256: hex::encode(Sha256::digest(&policy.text)) })
        .collect();
    if policies.is_empty() {
        return Ok(None);
    }
    Ok(Some(RuleOrigins { policies, rules: source.rules().map_err(|error| failure(&error))? }))
}

/// Fails where `--image` names an image that the policy does not have.
pub(super) fn check_image(image: Option<&str>, source: &ManifestSource, manifest: &Manifest) -> Result<(), Failure> {
    let Some(policy) = source.policies().next() else { return Ok(()) };
    let is_allowed = |image: &str| manifest.bottles.values().any(|bottle| bottle.image.as_deref() == Some(image));
    match image.filter(|image| !is_allowed(image)) {
        None => Ok(()),
        Some(image) => Err(Failure::input(format_args!(
            "--image: `{image}` is the image of no bottle of the policy {}",
            policy.name
        ))
        .hint("leave the option out, or have the image added to the policy")),
    }
}

/// What is wrong with a manifest or its policy, as a command's end.
pub(super) fn failure(error: &ManifestError) -> Failure {
    let failure = Failure::input(error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn machine_policy(environment: &Environment) -> Result<Option<PolicyText>, Failure> {
    let Some(path) = environment.policy_file() else { return Ok(None) };
    let text = read_policy_file(Path::new(path)).map_err(|why| {
        Failure::machine(format_args!("the policy of this machine can't be read: {POLICY} is `{path}`: {why}")).hint(
            format_args!(
                "give {POLICY} the absolute path of a file that only its owner (root, or the user of this run) may write, or don't set it"
            ),
        )
    })?;
    Ok(Some(PolicyText { name: path.to_owned(), text }))
}

/// The policy's text, out of the commit that `extends` names.
async fn fetched(extends: &Extends, environment: &Environment) -> Result<PolicyText, Failure> {
    let name = extends.name();
    let unread = |why: &dyn std::fmt::Display| {
        Failure::machine(format_args!("the policy {name}, which `extends` names, can't be read: {why}"))
    };
    let commit = extends.commit().ok_or_else(|| unread(&"it has no commit"))?;
    let server = format!("https://{}", extends.repository.authority());
    let token = token(&server, environment);
    let url = extends.repository.to_string();
    let roots = environment.ca_bundle();
    let token = token.as_ref().map(|token| token.expose().as_str());
    let base = Base::fetch_from_default_branch(&url, token, &commit, &name, roots.as_deref()).await.map_err(|why| {
        unread(&why).hint(
            "look at `repository` and `commit`; of a private repository the job's token must be one that may read it, and GITHUB_SERVER_URL its server",
        )
    })?;
    let hint = "look at `path`: it is the file's path in that commit";
    let bytes = base.file(&extends.path).await.ok_or_else(|| unread(&"the commit has no such file").hint(hint))?;
    let text = String::from_utf8(bytes).map_err(|_| unread(&"it is not UTF-8 text").hint(hint))?;
    Ok(PolicyText { name, text })
}

/// The token for a server. `extends` may name anybody's: a token goes to its own server alone.
fn token(server: &str, environment: &Environment) -> Option<bottle_types::secret::Secret<String>> {
    let its_server = environment.get("GITHUB_SERVER_URL").map_or(GITHUB, |url| url.trim_end_matches('/'));
    if server != its_server {
        return None;
    }
    // Without one a public repository can be read all the same.
    let kind = if server == GITHUB { ForgeKind::Github } else { ForgeKind::Gitea };
    forge::token(environment, kind).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_its_own_server_alone() {
        let mut environment = Environment::default();
        let sent =
            |server: &str, environment: &Environment| token(server, environment).map(|token| token.expose().clone());
        assert_eq!(sent(GITHUB, &environment), None);
        environment.set("GITHUB_TOKEN", "a token".to_owned());
        assert_eq!(sent(GITHUB, &environment).as_deref(), Some("a token"));
        assert_eq!(sent("https://git.bottle.test", &environment), None);
        environment.set("GITHUB_SERVER_URL", "https://git.bottle.test/".to_owned());
        assert_eq!(sent("https://git.bottle.test", &environment).as_deref(), Some("a token"));
        assert_eq!(sent(GITHUB, &environment), None);
        for other in ["https://git.bottle.test:8443", "https://git.bottle.test.evil.example", "https://bottle.test"] {
            assert_eq!(sent(other, &environment), None, "{other}");
        }
    }

    #[test]
    fn an_empty_variable_is_an_error_and_no_absence() {
        let mut environment = Environment::default();
        assert_eq!(machine_policy(&environment).map_err(|failure| failure.what), Ok(None));
        environment.set(POLICY, String::new());
        assert!(machine_policy(&environment).is_err());
    }
}
