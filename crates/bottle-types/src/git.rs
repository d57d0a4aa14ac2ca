//! Object ids and ref names, as git has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Id of a git object: 40 lower-case hex digits (SHA-1) or 64 (SHA-256), as git prints it. All zeros is the null id, which
/// stands for no object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", rename = "Commit")]
pub struct ObjectId(String);

/// A text that is no object's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an object id: 40 or 64 lower-case hex digits")]
pub struct ObjectIdError(String);

impl ObjectId {
    /// Checks an id.
    pub fn parse(text: &str) -> Result<Self, ObjectIdError> {
        let is_id = matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_id { Ok(Self(text.to_owned())) } else { Err(ObjectIdError(shown(text))) }
    }

    /// Checks an id in git's output, which is bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ObjectIdError> {
        Self::parse(&String::from_utf8_lossy(bytes))
    }

    /// The null id of the same length.
    pub fn null_alike(&self) -> Self {
        Self("0".repeat(self.0.len()))
    }

    /// Tells whether it stands for no object: the old id of a new ref, the new id of a deleted one.
    pub fn is_null(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'0')
    }

    /// git's name of its hash: `sha1` or `sha256`.
    pub fn object_format(&self) -> &'static str {
        if self.0.len() == 64 { "sha256" } else { "sha1" }
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

crate::checked_text!(ObjectId, ObjectIdError);

/// Full name of a ref, such as `refs/heads/main`: UTF-8 that keeps the rules of git-check-ref-format(1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct RefName(String);

/// A text that is no ref's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the full name of a ref by the rules of git check-ref-format")]
pub struct RefNameError(String);

impl RefName {
    /// Checks a name: two parts or more; none is empty, begins with a dot or ends with `.lock`; no `..`, no `@{`, no dot at the
    /// end, no control character and none of ` ~^:?*[\`.
    pub fn parse(text: &str) -> Result<Self, RefNameError> {
        let is_taken = |c: char| !c.is_ascii_control() && !" ~^:?*[\\".contains(c);
        let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let is_name = text.contains('/')
            && text.split('/').all(is_part)
            && !text.contains("..")
            && !text.contains("@{")
            && !text.ends_with('.')
            && text.chars().all(is_taken);
        if is_name { Ok(Self(text.to_owned())) } else { Err(RefNameError(shown(text))) }
    }

    /// The ref of a branch, such as `main`.
    pub fn of_branch(branch: &str) -> Result<Self, RefNameError> {
        Self::parse(&format!("refs/heads/{branch}"))
    }

    /// The branch that it is, without `refs/heads/`.
    pub fn branch(&self) -> Option<&str> {
        self.0.strip_prefix("refs/heads/")
    }

    /// The tag that it is, without `refs/tags/`.
    pub fn tag(&self) -> Option<&str> {
        self.0.strip_prefix("refs/tags/")
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

crate::checked_text!(RefName, RefNameError);

/// The beginning of a text that is refused, for its error: without line ends and what a terminal obeys.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(70).flat_map(char::escape_debug).collect();
    if text.chars().nth(70).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_null_short_and_written_as_it_is() {
        let id = ObjectId::parse(&"0a".repeat(20)).expect("an id");
        assert_eq!((id.short(), id.is_null(), id.null_alike().is_null()), ("0a0a0a0a0a0a", false, true));
        assert_eq!(id.null_alike().as_str().len(), 40);
        assert_eq!(serde_json::to_string(&id).expect("JSON"), format!("\"{id}\""));
        assert!(serde_json::from_str::<ObjectId>("\"main\"").is_err());
    }

    #[test]
    fn a_ref_is_a_branch_or_a_tag_or_neither() {
        let parse = |text| RefName::parse(text).expect("a name");
        assert_eq!(RefName::of_branch("a/b"), Ok(parse("refs/heads/a/b")));
        assert_eq!((parse("refs/heads/a/b").branch(), parse("refs/heads/a/b").tag()), (Some("a/b"), None));
        assert_eq!((parse("refs/tags/v1").branch(), parse("refs/tags/v1").tag()), (None, Some("v1")));
        assert_eq!(serde_json::to_string(&parse("refs/pull/1/head")).expect("JSON"), "\"refs/pull/1/head\"");
    }

    #[test]
    fn an_error_does_nothing_to_a_terminal() {
        let error = RefName::parse("refs/heads/\u{1b}[2J\n").expect_err("no name");
        assert!(!error.to_string().contains(|c: char| c.is_control()), "{error}");
        let error = ObjectId::parse(&"x".repeat(5000)).expect_err("no id");
        assert!(error.to_string().chars().count() < 150, "{error}");
    }
}
