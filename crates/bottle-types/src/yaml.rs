//! Policy files as YAML: one function to read, one to write.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::address::without_userinfo;

/// A policy file that can't be read or written; the text has line and column where there are any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// Reads a policy file. `true` and `false` alone are booleans; anchors can't blow it up; unknown keys are errors.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| YamlError(without_userinfo(&error.to_string())))
}

/// Writes a file that a person can read.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, YamlError> {
    serde_saphyr::to_string(value).map_err(|error| YamlError(error.to_string()))
}
