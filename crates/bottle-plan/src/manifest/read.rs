//! From text to manifest.

use super::{Manifest, ManifestError};

/// Reads a manifest, YAML or JSON; `file` is what messages call it.
pub fn parse(text: &str, file: &str) -> Result<Manifest, ManifestError> {
    bottle_policy::yaml::from_str(text).map_err(|error| ManifestError {
        file: file.to_owned(),
        at: None,
        problem: error.to_string(),
        hint: None,
    })
}
