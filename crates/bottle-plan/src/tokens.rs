//! Tokens of known formats, found where a text should have none.

use std::sync::LazyLock;

use bottle_scan::dlp::{Rules, Scope};

/// The token formats that pipelock and the gate look for.
static RULES: LazyLock<Option<Rules>> = LazyLock::new(|| Rules::builtin().ok());

/// Whether a text has a token of a known format in it.
pub(crate) fn looks_like_secret(text: &str) -> bool {
    RULES.as_ref().is_some_and(|rules| rules.find(text.as_bytes(), Scope::All).is_some())
}
