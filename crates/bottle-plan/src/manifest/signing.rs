//! `signing`: the key with which the gate signs the run's commits, and for whom.

use bottle_policy::gate::signing::GitIdentity;
use bottle_types::secret::SecretName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the run's commits are signed. The key stays at the gate, which signs what is a commit of this run and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Signing")]
pub struct SigningEntry {
    /// By an ssh key.
    pub ssh: SshSigning,
    /// The committer's name; a forge calls a signature verified only where name and address are of the account that has the key.
    #[serde(default = "SigningEntry::own_name", skip_serializing_if = "SigningEntry::is_own_name")]
    pub name: String,
    /// The committer's e-mail address.
    #[serde(default = "SigningEntry::own_email", skip_serializing_if = "SigningEntry::is_own_email")]
    pub email: String,
    /// Whether commits by other authors are signed, too, such as those that are cherry-picked or rebased.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_author: bool,
    /// Whether a push is refused that brings a commit of the run without a signature by this key.
    #[serde(default = "SigningEntry::required", skip_serializing_if = "Clone::clone")]
    pub required: bool,
}

/// An ssh key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshSigning {
    /// The name of the private key's credential, or of the host's variable that holds it: ed25519, in OpenSSH's form, without a passphrase.
    pub from: SecretName,
}

impl SigningEntry {
    fn own_name() -> String {
        GitIdentity::of_the_bottle().name
    }

    fn is_own_name(name: &str) -> bool {
        name == Self::own_name()
    }

    fn own_email() -> String {
        GitIdentity::of_the_bottle().email
    }

    fn is_own_email(email: &str) -> bool {
        email == Self::own_email()
    }

    fn required() -> bool {
        true
    }

    /// Who commits.
    pub(crate) fn committer(&self) -> GitIdentity {
        GitIdentity { name: self.name.clone(), email: self.email.clone() }
    }
}
