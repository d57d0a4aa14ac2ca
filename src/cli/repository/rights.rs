//! What the token may do, and to which server it goes.

use bottle_plan::facts::ForgeKind;
use bottle_plan::prose;
use bottle_policy::gate::Transport;
use bottle_types::secret::Secret;

use super::{Subject, unknown};
use crate::cli::init::Origin;
use crate::exit::Failure;
use crate::forge;
use crate::forge::settings::RepositoryFacts;
use crate::host::Environment;
use crate::survey::Survey;

impl Subject {
    /// What the token may do; the login of its user.
    pub(super) async fn rights(
        &self,
        facts: &RepositoryFacts,
        scopes: Option<&[String]>,
        survey: &mut Survey,
    ) -> Option<String> {
        let login = match self.settings.login().await {
            Ok(login) => login,
            Err(error) => {
                unknown("whose token this is", &error, survey);
                return None;
            }
        };
        let shown = login.as_ref().map(|login| prose::name(login, 100));
        match self.settings.kind {
            ForgeKind::Github => self.rights_at_github(shown, facts, scopes, survey),
            ForgeKind::Gitea => self.rights_at_gitea(shown, facts, survey),
        }
        login
    }

    fn rights_at_github(
        &self,
        login: Option<String>,
        facts: &RepositoryFacts,
        scopes: Option<&[String]>,
        survey: &mut Survey,
    ) {
        let (Some(login), Some(rights)) = (login, facts.permissions) else {
            return survey.unknown("the token is a job's or an App's, and the forge does not tell what that may do");
        };
        let may_write = |scopes: &[String]| scopes.iter().any(|scope| scope == "repo" || scope == "public_repo");
        let shown = scopes.map(|scopes| prose::name(&format!("with the scopes {}", scopes.join(", ")), 200));
        let shown = shown.map(|shown| format!(", {shown}")).unwrap_or_default();
        if rights.push && scopes.is_none_or(may_write) {
            return survey.there(format!("the token is {login}'s, who may push{shown}"));
        }
        survey.missing(format!(
            "the token is {login}'s{shown} and may not push, so that a run which has it as the step's `token` ends without a branch: \
             give it `repo`, or \"Contents\" and \"Pull requests\" with write, at {}/settings/tokens; a job's own token is another one",
            self.server
        ));
    }

    fn rights_at_gitea(&self, login: Option<String>, facts: &RepositoryFacts, survey: &mut Survey) {
        let Some(login) = login else {
            return survey.missing(format!(
                "the token lacks the scope read:user, without which a run can't tell its own comments: make one with read:user, \
                 write:issue and write:repository at {}/user/settings/applications",
                self.server
            ));
        };
        match facts.permissions {
            Some(rights) if rights.admin => survey.there(format!(
                "the token is {login}'s, an administrator of the repository; Gitea does not tell whether it has write:issue and \
                 write:repository"
            )),
            Some(_) => survey.missing(format!(
                "the token is {login}'s, who is no administrator of the repository, and Gitea tells nobody else who may ask for a run: \
                 give {login} the permission Administrator at {}/settings/collaboration",
                self.web
            )),
            None => survey.unknown(format!("the token is {login}'s, and the forge does not tell what that may do")),
        }
    }
}

/// Whether this is the address of the web server whose repository `origin` names by ssh, where the port is another.
pub(super) fn is_web_of(server: &str, origin: &Origin) -> bool {
    let host = server.split_once("://").map(|(_, rest)| rest.split(['/', ':']).next().unwrap_or_default());
    origin.url.transport == Transport::Ssh && host.is_some_and(|host| host == origin.url.host.to_string())
}

/// The token for this server. `origin` may be anybody's, and a token says for no server by itself: it goes to the one that
/// `GITHUB_SERVER_URL` names, else to github.com alone.
pub(super) fn token(
    server: &str,
    named: Option<&str>,
    kind: ForgeKind,
    environment: &Environment,
) -> Result<Secret<String>, Failure> {
    let variable = forge::token_variables(kind)[0];
    let how = match kind {
        ForgeKind::Github => format!("`export {variable}=\"$(gh auth token)\"` sets it"),
        ForgeKind::Gitea => format!("make one at {server}/user/settings/applications"),
    };
    let token =
        forge::token(environment, kind).map_err(|_| Failure::input(format_args!("{variable} is not set")).hint(how))?;
    let its_server = named.unwrap_or("https://github.com");
    if server != its_server {
        return Err(Failure::input(format_args!(
            "the token in {variable} is {its_server}'s, and `origin` is at {server}"
        ))
        .hint(format_args!("if the token is for that server, set GITHUB_SERVER_URL={server}")));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_its_own_server_alone() {
        let mut environment = Environment::default();
        let sent = |server: &str, named: Option<&str>, kind, environment: &Environment| {
            token(server, named, kind, environment).map(|token| token.expose().clone()).map_err(|failure| failure.what)
        };
        let github = "https://github.com";
        let none = sent(github, None, ForgeKind::Github, &environment);
        assert_eq!(none, Err("GITHUB_TOKEN is not set".to_owned()));
        environment.set("GITHUB_TOKEN", "a token".to_owned());
        assert_eq!(sent(github, None, ForgeKind::Github, &environment).as_deref(), Ok("a token"));
        let other = "https://git.bottle.test";
        let refused = sent(other, None, ForgeKind::Github, &environment);
        assert_eq!(
            refused.expect_err("refused"),
            "the token in GITHUB_TOKEN is https://github.com's, and `origin` is at https://git.bottle.test"
        );
        assert!(sent(github, Some(other), ForgeKind::Github, &environment).is_err());
        assert!(sent(other, Some(other), ForgeKind::Gitea, &environment).is_ok());
    }
}
