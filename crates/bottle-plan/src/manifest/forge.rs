//! `forge`: what the agent may read at a forge, and whose words it reads there.

use std::collections::BTreeSet;

use bottle_policy::forge_read::{ForgeApi, ReadKind, RepositoryName, TrustedAuthor};
use bottle_policy::route::{BaseUrl, Scheme};
use bottle_types::secret::SecretName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The word for the repository that a run is about.
pub(crate) const THIS: &str = "this";

/// What the agent may read at a forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Forge")]
pub struct ForgeEntry {
    /// The repositories, each `owner/name`, or `this`, the one that a run is about.
    #[serde(default = "ForgeEntry::default_repositories")]
    pub repositories: BTreeSet<String>,
    /// What may be read of them.
    pub read: BTreeSet<ReadKind>,
    /// Whose words come as they are: `write`, `member`, `bot`, or `@` and a login. All others' come marked as data.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trust: BTreeSet<TrustedAuthor>,
    /// The token's credential, or the host's variable that holds it; the job's own token where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretName>,
    /// The forge's address, such as `https://github.com`; the job's own forge where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<BaseUrl>,
    /// With `url`: whose API it has; `github` for github.com.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ForgeApi>,
}

impl ForgeEntry {
    /// Variables by which gh is told where to ask, and with what.
    pub(crate) const VARIABLES: [&'static str; 6] =
        ["GH_TOKEN", "GH_ENTERPRISE_TOKEN", "GH_HOST", "GH_REPO", "GH_NO_UPDATE_NOTIFIER", "GH_PROMPT_DISABLED"];

    fn default_repositories() -> BTreeSet<String> {
        BTreeSet::from([THIS.to_owned()])
    }

    /// Says which key is wrong, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.repositories.is_empty() {
            return Err(("repositories", "nothing could be read".to_owned()));
        }
        if self.read.is_empty() {
            return Err(("read", "nothing could be read".to_owned()));
        }
        for name in self.repositories.iter().filter(|name| *name != THIS) {
            RepositoryName::parse(name).map_err(|error| ("repositories", format!("{error}, nor `{THIS}`")))?;
        }
        match (&self.url, self.api) {
            (None, Some(_)) => Err(("api", "has no effect without `url`".to_owned())),
            (Some(url), _) if url.scheme == Scheme::Http => {
                Err(("url", "a token would go over http, readable on the way".to_owned()))
            }
            (Some(url), None) if url.host.as_str() != "github.com" => {
                Err(("api", format!("say whose API {} has: `github` or `gitea`", url.host)))
            }
            _ => Ok(()),
        }
    }
}
