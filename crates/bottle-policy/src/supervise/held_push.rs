//! A push that the gate holds: what a person is told of it, and never what was found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RequestError;
use super::held::cut;
use crate::gate::RepoName;
use crate::gate::hold::{ApprovedPush, RefMove};

/// So many refs, and so many lines of each kind, are told; the last line says how many more there are.
const MOST_REFS: usize = 64;
const MOST_WHY: usize = 10;
const MOST_LINES: usize = 100;
/// The longest line, and the longest name of a ref, in characters.
const LONGEST_LINE: usize = 200;
const LONGEST_REF: usize = 1000;

/// One held push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldPush {
    /// The repository at the gate.
    pub upstream: RepoName,
    /// Its refs, sorted.
    pub refs: Vec<RefMove>,
    /// Why it is held, a line each.
    pub why: Vec<String>,
    /// Each path that it changes, with lines added and removed.
    pub files: Vec<String>,
    /// Each finding that holds it: the rule, and the place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

impl HeldPush {
    /// Normalised: sorted, with lines and lists that are too long cut, and without what does something to a terminal.
    pub fn new(mut held: Self) -> Result<Self, RequestError> {
        let bad = |reason: &str| Err(RequestError::Bad { field: "refs", reason: reason.to_owned() });
        if held.refs.is_empty() || held.why.is_empty() {
            return Err(RequestError::Empty("refs"));
        }
        if held.refs.len() > MOST_REFS {
            return Err(RequestError::TooMuch { field: "refs", most: MOST_REFS });
        }
        let is_id =
            |id: &str| matches!(id.len(), 40 | 64) && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        for one in &held.refs {
            if !is_id(&one.old) || !is_id(&one.new) {
                return bad("there is no id of an object");
            }
            let odd = one.r#ref.chars().any(|c| c.is_control() || c.is_whitespace());
            if odd || !one.r#ref.starts_with("refs/") || one.r#ref.len() > LONGEST_REF {
                return bad("there is no name of a ref");
            }
        }
        held.refs.sort();
        if held.refs.windows(2).any(|two| two[0].r#ref == two[1].r#ref) {
            return bad("one ref is there twice");
        }
        let Self { upstream, refs, why, files, findings } = held;
        let (why, files) = (lines(why, MOST_WHY), lines(files, MOST_LINES));
        Ok(Self { upstream, refs, why, files, findings: lines(findings, MOST_LINES) })
    }

    /// What a yes lets through.
    pub fn approved(&self) -> ApprovedPush {
        ApprovedPush { upstream: self.upstream.clone(), refs: self.refs.clone() }
    }

    /// Its refs, in words.
    pub fn moves(&self) -> String {
        let short = |id: &str| id[..12.min(id.len())].to_owned();
        let one = |one: &RefMove| {
            let new = one.old.bytes().all(|byte| byte == b'0');
            let old = if new { "new".to_owned() } else { short(&one.old) };
            format!("{} ({old} → {})", one.r#ref, short(&one.new))
        };
        self.refs.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

fn lines(lines: Vec<String>, most: usize) -> Vec<String> {
    let more = lines.len().saturating_sub(most);
    let mut lines: Vec<String> = lines.iter().take(most).map(|line| cut(line, LONGEST_LINE)).collect();
    if more > 0 {
        lines.truncate(most - 1);
        lines.push(format!("and {} more", more + 1));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> HeldPush {
        let one = |name: &str| RefMove { r#ref: name.to_owned(), old: "0".repeat(40), new: "a".repeat(40) };
        HeldPush {
            upstream: RepoName::parse("origin").expect("a name"),
            refs: vec![one("refs/heads/b"), one("refs/heads/a")],
            why: vec!["deploy/a is held (deploy/**)".to_owned()],
            files: (0..500).map(|n| format!("deploy/{n} | +1 -0\u{1b}[2J")).collect(),
            findings: vec!["x".repeat(1000)],
        }
    }

    #[test]
    fn it_is_normalised_once() {
        let made = HeldPush::new(held()).expect("a held push");
        assert_eq!(made.refs[0].r#ref, "refs/heads/a");
        assert_eq!((made.files.len(), made.files[99].as_str()), (100, "and 401 more"));
        assert!(!made.files[0].contains('\u{1b}') && made.findings[0].chars().count() <= 201);
        assert_eq!(HeldPush::new(made.clone()), Ok(made));
    }

    #[test]
    fn what_the_gate_does_not_say_is_refused() {
        let of = |change: &dyn Fn(&mut RefMove)| {
            let mut other = held();
            change(&mut other.refs[0]);
            other
        };
        for wrong in [
            of(&|one| one.new = "main".to_owned()),
            of(&|one| one.old = "A".repeat(40)),
            of(&|one| one.r#ref = "refs/heads/a".to_owned()),
            of(&|one| one.r#ref = "HEAD".to_owned()),
            of(&|one| one.r#ref = "refs/heads/a\nb".to_owned()),
            HeldPush { refs: vec![], ..held() },
            HeldPush { why: vec![], ..held() },
        ] {
            assert!(HeldPush::new(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
