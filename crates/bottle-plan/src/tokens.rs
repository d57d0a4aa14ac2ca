//! Tokens of known formats, found where a text should have none.

use std::sync::LazyLock;

use bottle_scan::dlp::{Rules, Scope, Search};
use bottle_scan::known::KnownSecrets;
use bottle_types::rule::Rule;

/// The token formats that pipelock and the gate look for.
static RULES: LazyLock<Option<Rules>> = LazyLock::new(|| Rules::builtin().ok());

/// Words that talk an agent into something.
static INJECTIONS: LazyLock<Option<(Rules, KnownSecrets)>> =
    LazyLock::new(|| Some((Rules::for_notes().ok()?, KnownSecrets::new(&[]).ok()?)));

/// The rule by which a text has words that talk an agent into something, in any form that the doors read.
pub(crate) fn injection(text: &str) -> Option<Rule> {
    let (rules, known) = INJECTIONS.as_ref()?;
    let found = Search { known, rules: Some((rules, Scope::All)) }.find(text.as_bytes())?;
    Some(found.rule)
}

/// Whether a text has a token of a known format in it.
pub(crate) fn looks_like_secret(text: &str) -> bool {
    RULES.as_ref().is_some_and(|rules| rules.find(text.as_bytes(), Scope::All).is_some())
}
