//! `credentials`: where a value comes from that is no variable of the environment.

use std::collections::BTreeMap;

use bottle_types::address::has_password;
use bottle_types::secret::SecretName;
use bottle_types::units::Seconds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::looks_like_secret_value;
use crate::plan::{CommandSource, OauthSource, OidcSource, SecretSource, TokenExchange, VaultSource};

/// Every credential that is declared, by its name.
pub type Credentials = BTreeMap<SecretName, CredentialEntry>;

/// How long a command may take that does not say so.
const COMMAND_TIME: Seconds = Seconds(10);
/// A run must not wait longer for one value.
const LONGEST_COMMAND: Seconds = Seconds(300);

/// Where a credential's value comes from: one of `env`, `file`, `command`, `oidc`, `oauth` and `vault`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialEntry {
    /// The host's variable that holds the value; it is read once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<SecretName>,
    /// The host's file that holds the value, absolute or below `~/`; it is read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The host's program that prints the value, and its arguments; run in `/` without standard input, and again before the value ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The job's own identity token, exchanged for the value; the job needs the permission `id-token: write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcSource>,
    /// An access token by OAuth 2.0's client credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OauthSource>,
    /// A field of a secret in Vault or OpenBao.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultSource>,
    /// command: variables named as credentials are that it needs; it gets no others of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pass: Vec<SecretName>,
    /// command: how long it may take; 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Seconds>,
    /// command: how long a value is good, where what is printed does not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Seconds>,
}

/// What is wrong with an entry: the key, and why.
pub(super) type EntryError = (&'static str, String);

impl CredentialEntry {
    /// The source that the entry names; `home` is what `~` means.
    pub(crate) fn source(&self, home: Option<&str>) -> Option<SecretSource> {
        if let Some(name) = &self.env {
            return Some(SecretSource::Env(name.to_string()));
        }
        if let Some(file) = &self.file {
            return Some(SecretSource::File(at_home(file, home)));
        }
        if let Some(exchange) = self.exchange() {
            return Some(SecretSource::Exchange(Box::new(exchange)));
        }
        let argv = self.command.clone()?;
        Some(SecretSource::Command(CommandSource {
            argv,
            pass: self.pass.iter().map(ToString::to_string).collect(),
            time: self.time.unwrap_or(COMMAND_TIME),
            lifetime: self.lifetime,
        }))
    }

    /// The exchange that the entry names.
    fn exchange(&self) -> Option<TokenExchange> {
        let oidc = self.oidc.clone().map(TokenExchange::Oidc);
        let oauth = || self.oauth.clone().map(TokenExchange::Oauth);
        oidc.or_else(oauth).or_else(|| self.vault.clone().map(TokenExchange::Vault))
    }

    /// Says what is wrong with the entry of a name.
    pub(super) fn check(&self, name: &SecretName) -> Result<(), EntryError> {
        let wrong = |key, problem: &str| Err((key, problem.to_owned()));
        if name.as_str().starts_with("BOTTLE_") {
            return wrong("", "names that begin with `BOTTLE_` are the program's own");
        }
        let exchanges = [self.oidc.is_some(), self.oauth.is_some(), self.vault.is_some()];
        let given = [self.env.is_some(), self.file.is_some(), self.command.is_some()];
        if given.iter().chain(&exchanges).filter(|given| **given).count() != 1 {
            return wrong("", "expected one of `env`, `file`, `command`, `oidc`, `oauth` and `vault`");
        }
        if let Some(exchange) = self.exchange() {
            exchange.check()?;
        }
        if let Some(file) = &self.file
            && (!(file.starts_with('/') || file.starts_with("~/")) || file.contains('\0'))
        {
            return wrong("file", "expected an absolute path, or one that begins with `~/`: no file of the repository");
        }
        let Some(argv) = &self.command else {
            let of_command = [("pass", !self.pass.is_empty()), ("time", self.time.is_some())];
            let of_command = of_command.into_iter().chain([("lifetime", self.lifetime.is_some())]);
            return match of_command.into_iter().find(|(_, given)| *given) {
                Some((key, _)) => wrong(key, "belongs to `command` alone"),
                None => Ok(()),
            };
        };
        check_command(argv)?;
        if self.time.is_some_and(|time| time.0 == 0 || time > LONGEST_COMMAND) {
            return wrong("time", "expected between a second and five minutes");
        }
        if self.lifetime.is_some_and(|lifetime| lifetime.0 == 0) {
            return wrong("lifetime", "a value that is good for no time is of no use");
        }
        Ok(())
    }
}

fn check_command(argv: &[String]) -> Result<(), EntryError> {
    let wrong = |problem: &str| Err(("command", problem.to_owned()));
    let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
        return wrong("expected a program and its arguments: `[vault, read, …]`");
    };
    // A relative path would be one of the directory that the runner stands in, where a pull request may be checked out.
    if program.contains('/') && !program.starts_with('/') {
        return wrong("expected a program's name, or an absolute path");
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return wrong("an argument can't hold a NUL");
    }
    if argv.iter().any(|word| has_password(word) || looks_like_secret_value(word)) {
        return wrong("an argument looks like a secret, and everybody on the host can read it");
    }
    Ok(())
}

/// A path in which `~/` is the home directory.
pub(crate) fn at_home(path: &str, home: Option<&str>) -> String {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}
