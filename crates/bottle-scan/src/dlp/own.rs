//! A project's own token formats.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::Extractor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rules;
use super::keywords::SHORTEST;

/// A token format that the program does not know, such as that of a company's own keys. It is looked for like the built-in
/// ones: in every form, in what leaves, in what is pushed and, where answers are looked at, in those.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenPattern {
    /// Names the finding: lower case letters, digits and hyphens.
    pub name: String,
    /// A regular expression over bytes, matched where its beginning stands and over at most 512 bytes from there. It begins
    /// with at least four characters that are fixed, or with one of few such beginnings: `acme_(?:live|test)_[a-z0-9]{32}`.
    /// Group 1, if there is one, is the secret itself.
    pub regex: String,
    /// Whether it is looked for on the model's own route too, which carries whole conversations about code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub model: bool,
}

/// Of a beginning, so many characters tell enough.
const LONGEST_KEYWORD: usize = 16;
const LONGEST_NAME: usize = 64;

impl TokenPattern {
    /// Whether it can be used; if not, the key that is wrong and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || !self.name.bytes().all(plain) {
            return Err(("name", format!("`{}` is not a name of lower case letters, digits and hyphens", self.name)));
        }
        if Rules::has_builtin(&self.name) {
            return Err(("name", format!("there is a DLP rule `{}` already", self.name)));
        }
        self.keywords().map(|_| ()).map_err(|reason| ("regex", reason))
    }

    /// The texts with which a match begins.
    pub(super) fn keywords(&self) -> Result<Vec<Vec<u8>>, String> {
        let parsed = ParserBuilder::new().unicode(false).utf8(false).build().parse(&self.regex);
        let hir = parsed.map_err(|error| format!("not a regular expression: {error}"))?;
        let found = Extractor::new().limit_literal_len(LONGEST_KEYWORD).extract(&hir);
        let keywords: Vec<Vec<u8>> =
            found.literals().unwrap_or_default().iter().map(|literal| literal.as_bytes().to_vec()).collect();
        if keywords.is_empty() || keywords.iter().any(|keyword| keyword.len() < SHORTEST) {
            return Err(format!("it does not begin with at least {SHORTEST} fixed characters, such as `acme_`"));
        }
        Ok(keywords)
    }
}
