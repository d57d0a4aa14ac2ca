//! Secret values that can't print, and their names.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A value that never shows: `Debug` and `Display` give `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that uses it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The name of a secret: that of the host's variable it comes from (`[A-Za-z_][A-Za-z0-9_]*`, at most 128 characters),
/// and of the file that holds it in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct SecretName(String);

/// A text that can't name a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of an environment variable")]
pub struct SecretNameError(String);

impl SecretName {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, SecretNameError> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || text.len() > 128 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(SecretNameError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name of the run's canary.
    pub fn canary() -> Self {
        Self(crate::canary::CANARY.to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

crate::checked_text!(SecretName, SecretNameError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_has_a_name_like_any_secret() {
        assert_eq!(SecretName::parse(crate::canary::CANARY), Ok(SecretName::canary()));
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2-hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }
}
