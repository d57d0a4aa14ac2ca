//! What the doors know of a credential beside its value: when it ends, why it was not renewed, and what it was before.
//!
//! In the secrets' directory, beside each `NAME`: `NAME.1`, `NAME.2` and so on, the values before; `.status.json`, the rest. The
//! supervisor writes them, the doors read them.

use std::collections::BTreeMap;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use bottle_types::secret::{Secret, SecretName};
use serde::{Deserialize, Serialize};

use crate::common::{Dirs, Error};

/// The file of the [`CredentialStatus`].
pub(crate) const STATUS_FILE: &str = ".status.json";
/// So many values of one credential are kept; each makes every scan a little slower.
pub(crate) const MAX_VALUES: usize = 1000;

/// What is known of all credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialStatus {
    /// Grows with each change: a door says by it what it has read.
    pub(crate) generation: u64,
    pub(crate) credentials: BTreeMap<SecretName, CredentialEnd>,
}

/// The end of one credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialEnd {
    /// In milliseconds since 1970; none: it does not end.
    pub(crate) ends_at: Option<u64>,
    /// Why it was not renewed.
    pub(crate) failure: Option<String>,
}

impl CredentialEnd {
    /// Why the credential may not be used any more, if it may not.
    pub(crate) fn why_ended(&self, name: &SecretName) -> Option<String> {
        if self.ends_at.is_none_or(|ends_at| now() < ends_at) {
            return None;
        }
        let failure = self.failure.as_ref();
        let why = failure.map_or("it was not renewed in time".to_owned(), |why| format!("its renewal failed: {why}"));
        Some(format!("the credential {name} has ended, and {why}"))
    }
}

/// Now, in milliseconds since 1970; a clock before that makes everything look ended.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    since.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(u64::MAX)
}

impl CredentialStatus {
    /// Reads it; where there is none, no credential has an end.
    pub(crate) fn read(dirs: &Dirs) -> Result<Self, Error> {
        let path = dirs.secrets.join(STATUS_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| Error::Policy { path, reason: error.to_string() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::Read { path, error }),
        }
    }

    /// The end of one credential.
    pub(crate) fn end(&self, name: &SecretName) -> CredentialEnd {
        self.credentials.get(name).cloned().unwrap_or_default()
    }
}

/// The name of the file with the value before, counted from 1.
pub(crate) fn before_name(name: &SecretName, number: usize) -> String {
    format!("{name}.{number}")
}

/// The values that a credential had before.
pub(crate) fn before(dirs: &Dirs, name: &SecretName) -> Result<Vec<Secret<Vec<u8>>>, Error> {
    let mut values = vec![];
    for number in 1..=MAX_VALUES {
        let path = dirs.secrets.join(before_name(name, number));
        match std::fs::read(&path) {
            Ok(value) => values.push(Secret::new(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(Error::Read { path, error }),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_good_until_its_end_and_then_says_why() {
        let name = SecretName::parse("TOKEN").expect("a name");
        let end = |ends_at, failure: Option<&str>| CredentialEnd { ends_at, failure: failure.map(str::to_owned) };
        assert_eq!(end(None, Some("x")).why_ended(&name), None);
        assert_eq!(end(Some(now() + 60_000), Some("x")).why_ended(&name), None);
        let why = end(Some(now() - 1), Some("`vault` ended with 2")).why_ended(&name).expect("a reason");
        assert_eq!(why, "the credential TOKEN has ended, and its renewal failed: `vault` ended with 2");
        assert!(end(Some(0), None).why_ended(&name).is_some_and(|why| why.contains("not renewed in time")));
    }
}
